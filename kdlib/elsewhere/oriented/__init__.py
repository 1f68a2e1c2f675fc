"""Boxes that are turned as their objects are: scenes, views that turn them, and a detector that says an angle.

Files: geometry, boxes, scenes and annotations (pictures, by name: load), views, detector, angles and losses, precision,
training.
"""

from kdlib.elsewhere.oriented import training

#: What the lab asks of a task, see `kdlib.lab.tasks`.
SPEC, learner = training.OrientedSpec, training.Oriented
