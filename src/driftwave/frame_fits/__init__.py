"""Patterns fitted to single frames of phase."""
