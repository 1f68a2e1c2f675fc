"""Boxes around objects: pictures that have them, views that move them, a small network that finds them."""
