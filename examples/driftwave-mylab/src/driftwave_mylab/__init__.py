"""Plug-ins of a lab: a model, an analysis and a layout."""
