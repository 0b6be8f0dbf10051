"""Travelling waves in recordings and in latents. One module with ``analyse``, one analysis."""
