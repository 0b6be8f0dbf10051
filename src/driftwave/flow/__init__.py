"""Optical flow of phase, and the patterns of a flow."""
