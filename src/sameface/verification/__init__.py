"""Two people → the same person or not, by the shape of their faces."""
