"""How a run is said, made, measured and kept."""
