"""From phase to a table of waves: when, of which pattern, where to, how fast."""
