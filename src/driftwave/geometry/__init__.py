"""Measures of the geometry of population activity."""
