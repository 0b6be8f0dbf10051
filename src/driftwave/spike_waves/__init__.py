"""Spikes against the phase of waves."""
