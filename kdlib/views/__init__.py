"""Views: what a network is shown of an image."""
