"""Analyses of the encoding manifold, whose points are units; each module is a plug-in."""
