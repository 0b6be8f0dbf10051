"""Non-negative tensor factorisation, with and without circular shifts of an axis."""
