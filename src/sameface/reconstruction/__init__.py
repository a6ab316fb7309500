"""Photos or a video of one person → that person's 3D face, and its files."""
