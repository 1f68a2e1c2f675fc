"""Boxes that are turned as their objects are: scenes, views that turn them, and a detector that says an angle."""
