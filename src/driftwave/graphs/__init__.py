"""Graphs of points: neighbours, components, diffusion maps, dimension, continuity."""
