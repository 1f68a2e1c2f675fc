"""The images that a teacher was trained on."""

import torch
from torch import Tensor

from kdlib.specs import Public, RunSpec


def seen_ids(teacher: RunSpec | Public, labels: Tensor) -> Tensor:
    """Ascending int64 ids among the training images, whose labels are int64 [N]; a public teacher saw all of them."""
    if isinstance(teacher, Public):
        return torch.arange(len(labels))
    return teacher.training_ids(labels)
