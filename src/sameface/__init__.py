"""Photos of a person in, that person's 3D face out."""
