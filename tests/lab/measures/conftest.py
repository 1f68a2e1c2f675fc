"""A teacher to measure."""

import pytest
import torch

from kdlib.data.images import load_data
from kdlib.lab.task import Task


@pytest.fixture
def teacher(make_spec):
    """Fixed weights, and BatchNorm that has seen some images, so that answers differ between images."""
    network = Task.of(make_spec(seed=7), None).method.student
    with torch.no_grad():
        for _ in range(5):
            network(load_data(make_spec().data).train.images)
    return network.eval()
