"""Kept images are those of the data set, at their places, and all that published measurements name are there."""

from pathlib import Path

import pytest
import torch

from kdlib.chapters.registry import studies_of
from kdlib.data import paths, thumbnails
from kdlib.data.images import Data, ImageSet, available, fingerprint, load_data
from kdlib.lab.measurements import ViewsSpec
from kdlib.lab.store import Store
from kdlib.show.pictures import some_images
from kdlib.study.setting import Setting

RESULTS = Path(__file__).resolve().parents[2] / "results"
here = pytest.mark.skipif(not available("cifar100"), reason="cifar100 is not on this machine")


@pytest.fixture(scope="module")
def cifar() -> Data:
    return thumbnails.kept("cifar100")


def split(generator, count: int) -> ImageSet:
    """Noise with labels of seven classes."""
    images = torch.from_numpy(generator.integers(0, 256, (count, 3, 32, 32), "uint8"))
    labels = torch.from_numpy(generator.integers(0, 7, count))
    names = tuple("abcdefg")
    return ImageSet("cifar10", images, labels, names, (0.5,) * 3, (0.25,) * 3, fingerprint(images, labels))


def test_what_is_kept_comes_back_at_its_place(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "THUMBNAILS", tmp_path / "thumbnails")
    assert thumbnails.kept("cifar10") is None
    whole = Data(split(generator, 90), split(generator, 40))
    ids = {"train": torch.tensor([89, 3, 3, 0]), "test": torch.tensor([7])}
    thumbnails.keep(whole, ids)
    found = thumbnails.kept("cifar10")
    for name, some in ids.items():
        was, now = getattr(whole, name), getattr(found, name)
        known = torch.isin(torch.arange(len(was)), some)
        assert torch.equal(now.images[known], was.images[known]) and torch.equal(now.labels[known], was.labels[known])
        assert not now.images[~known].any() and (now.labels[~known] == thumbnails.UNKNOWN).all()
        assert (now.classes, now.fingerprint, len(now)) == (was.classes, was.fingerprint, len(was))


@here
@pytest.mark.parametrize("name", ["train", "test"])
def test_the_projects_are_those_of_the_data_set(cifar, name):
    kept, whole = getattr(cifar, name), getattr(load_data("cifar100"), name)
    known = kept.labels != thumbnails.UNKNOWN
    assert 40 < known.sum() < 200
    assert torch.equal(kept.images[known], whole.images[known])
    assert torch.equal(kept.labels[known], whole.labels[known])
    assert (kept.classes, kept.fingerprint, len(kept)) == (whole.classes, whole.fingerprint, len(whole))
    assert torch.equal(some_images(kept, 10), some_images(whole, 10))


def test_every_image_that_a_published_measurement_names_is_there(cifar, tmp_path):
    store, named = Store("reference", results=RESULTS, runs=tmp_path), {}
    for study in studies_of(Setting.of("reference", device="cpu")):
        for spec in study.measurements.values():
            stored = store.get(spec) if isinstance(spec, ViewsSpec) and spec.data == "cifar100" else None
            for example in stored.metrics["test_examples"] if stored else ():
                named[example["id"]] = example["label"]
            for end in ("lowest", "highest") if stored else ():
                named |= {i: named.get(i) for i in stored.metrics[f"test_{end}"]}
    labels = cifar.test.labels.tolist()
    assert len(named) > 30
    assert all(labels[i] >= 0 and label in (None, labels[i]) for i, label in named.items())
