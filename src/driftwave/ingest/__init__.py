"""From NWB files to recordings."""
