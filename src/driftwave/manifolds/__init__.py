"""Geometry of population activity. One module, one analysis."""
