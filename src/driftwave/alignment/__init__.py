"""Population activity of several sessions or animals, aligned and compared with one another."""
