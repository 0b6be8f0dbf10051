"""Figures. One module with ``draw``, one figure."""
