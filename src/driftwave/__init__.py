"""driftwave: from NWB recordings to latent dynamics, decoding, manifolds and travelling waves."""

__version__ = "0.1.0"
