"""A run that is interrupted between two steps, for tests of what goes on from there."""

from pathlib import Path

import pytest

from kdlib.lab.specs import RunSpec
from kdlib.lab.train import train
from kdlib.models.network import Network


def train_to(step: int, spec: RunSpec, folder: Path, teacher: Network | None) -> None:
    """Trains up to a step, from 1, after which the run is interrupted."""

    def stop(done: int, steps: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, folder, teacher, stop)
