"""Dynamic functional connectome: which units act together, and when."""
