"""Waves in what models find: loadings, decoded fields, lattices, rings."""
