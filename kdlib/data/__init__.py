"""Images: what is learned from, and where it lies."""
