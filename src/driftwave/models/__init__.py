"""Latent models. One module, one model."""
