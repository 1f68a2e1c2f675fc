"""Make data/thumbnails/: the images of CIFAR-100 that the published chapters show, for machines without the data set.

    python data/make_thumbnails.py

Needs CIFAR-100, and the published results of profile reference, whose measurements name images.
"""

from collections.abc import Iterator

import torch

from kdlib.chapters.data_and_teachers.drawing import closest_ids
from kdlib.chapters.good_views.drawing import spread_ids
from kdlib.chapters.registry import studies_of
from kdlib.data import thumbnails
from kdlib.data.images import ImageSet, load_data
from kdlib.lab.measurements import SpreadSpec, ViewsSpec
from kdlib.lab.store import only_published
from kdlib.lab.task import cropped_for
from kdlib.randomness import draws_of
from kdlib.show.pictures import some_ids
from kdlib.study.setting import Setting
from kdlib.views.policy import partner_ids

PROFILE = "reference"
ROWS = 10  # images in a row of a picture
PAIRS = 20  # of a test image and its nearest training image


def measured(test: ImageSet) -> Iterator[int]:
    """The test images that a published measurement names."""
    with only_published(PROFILE) as store:
        for spec in _measurements(ViewsSpec):
            stored = store.get(spec)
            if stored is not None and spec.data == test.name:
                yield from (example["id"] for example in stored.metrics["test_examples"])
                yield from (*stored.metrics["test_lowest"], *stored.metrics["test_highest"])


def spread_out(train: ImageSet) -> Iterator[int]:
    """The training images on which policies are shown, and their partners where a policy mixes two."""
    pool, some = torch.arange(len(train)), spread_ids(train, ROWS)
    yield from some.tolist()
    for spec in _measurements(SpreadSpec):
        policy = cropped_for(train, spec.policy.create())
        if policy.mixes:
            drawn = draws_of(spec.seed, policy.roles, torch.zeros_like(some), some, len(train))
            yield from partner_ids(drawn, pool).tolist()


def _measurements(kind: type) -> list:
    studies = studies_of(Setting.of(PROFILE, device="cpu"))
    return [spec for study in studies for spec in study.measurements.values() if isinstance(spec, kind)]


def main() -> None:
    data = load_data("cifar100")
    test, train = closest_ids(data, PAIRS)
    ids = {
        "test": [*some_ids(data.test, ROWS), *measured(data.test), *test.tolist()],
        "train": [*some_ids(data.train, ROWS), *spread_out(data.train), *train.tolist()],
    }
    path = thumbnails.keep(data, {split: torch.tensor(some) for split, some in ids.items()})
    counts = ", ".join(f"{len(set(some))} {split} images" for split, some in ids.items())
    print(f"{path.name}: {counts}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
