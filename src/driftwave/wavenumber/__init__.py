"""Power over wavenumber and frequency, and waves that travel or stand in it."""
