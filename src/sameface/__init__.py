"""Photos of a person in, that person's 3D face out."""

__version__ = "0.1.0"
