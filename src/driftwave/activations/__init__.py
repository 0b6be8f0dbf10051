"""Hidden units as populations: activations of fitted models, or those a user brings."""
