"""Figures, explorers and pictures that chapters share."""
