"""Questions asked of many simulated data sets: one module each, with ``run`` and ``draw``."""
