"""Simulated recordings with known truth, written as real NWB files. One module, one simulator."""
