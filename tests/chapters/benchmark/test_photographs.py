"""Photographs of the benchmark: both ways begin with the same files, and end with pairs of views of one kind."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.chapters.benchmark import photographs
from kdlib.chapters.benchmark.runs import steps_of
from kdlib.data import paths
from kdlib.data.squares import square

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(photographs, "FILES", 4)
    monkeypatch.setattr(photographs, "IMAGES", 2)
    monkeypatch.setattr(photographs, "TEACHER", photographs.STUDENT)


def test_files_are_as_large_as_those_of_imagenet(tmp_path):
    files = photographs.draw(tmp_path)
    assert len(files) == 4 and all(Image.open(file).size == (500, 375) for file in files)
    assert 90e3 < np.mean([file.stat().st_size for file in files]) < 130e3
    assert len({file.read_bytes() for file in files}) == 4


def test_the_cache_holds_the_same_photographs_once(tmp_path):
    for number in range(2):
        folder = tmp_path / str(number) / "photographs"
        files = photographs.draw(folder)
        task = steps_of(photographs.run_of(folder)).task
        own = {str(file): label for file, label in zip(files, (0, 1, 0, 1), strict=True)}
        expected = {(label, square(file, 256).tobytes()) for file, label in own.items()}
        found = zip(task.targets.tolist(), task.pixels, strict=True)
        assert {(label, pixels.numpy().tobytes()) for label, pixels in found} == expected
    assert len([path for path in paths.cache_root().iterdir() if path.is_dir()]) == 2  # of train and test


def test_both_ways_make_pairs_of_views(tmp_path):
    files = photographs.draw(tmp_path / "photographs")
    pairs = photographs.by_pil(files, random.Random(0))
    assert len(pairs) == 4 and all(
        view.shape == (3, 224, 224) and view.dtype == torch.uint8 for p in pairs for view in p
    )
    run = photographs.run_of(tmp_path / "photographs")
    assert steps_of(run).task.batch(0).views.shape == (2, 2, 3, 224, 224)
    assert run.policy.options["ops"] == "imagenet" and run.teacher.student == run.student == "resnet18_imagenet"


def test_all_rates_are_measured():
    told = []
    found = photographs.photograph_rates(1, told.append)
    assert set(found) == {"cache", "files", "kdlib", "PIL", "step", "fixed tensors"} and told[-1] == 1.0
    assert all(len(rates) == 1 and rates[0] > 0 for rates in found.values())
