"""Decoding behaviour and stimuli from activity. One module, one analysis."""
