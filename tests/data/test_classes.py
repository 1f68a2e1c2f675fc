"""The classes of known sets, and sets that only have their names."""

import re

import pytest
from torchvision import datasets

from kdlib.data.classes import CIFAR10, CIFAR100, IMAGENET, KNOWN, check_classes, unlike
from kdlib.data.images import FACTS
from kdlib.models.checkpoints import PUBLIC


def thousand() -> list[str]:
    """A thousand ids in order, those that are known at their places."""
    known = [*IMAGENET.items(), (1000, "n99999999")]
    ids = []
    for (first, name), (following, _) in zip(known, known[1:], strict=False):
        ids += [f"n{int(name[1:]) + i:08}" for i in range(following - first)]
    return ids


@pytest.mark.parametrize("name", KNOWN)
def test_classes_are_sorted_distinct_and_as_many_as_the_facts_say(name: str):
    assert list(KNOWN[name]) == sorted(set(KNOWN[name]))
    assert len(KNOWN[name]) == len(FACTS[name].class_sizes)


def test_labels_of_cifar10_are_those_of_its_authors():
    assert CIFAR10 == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert datasets.CIFAR10.meta["key"] == "label_names"
    assert [CIFAR100.index(name) for name in ("apple", "cattle", "worm")] == [0, 19, 99]


def test_imagenet_is_known_by_its_ids():
    check_classes("imagenet", thousand(), "here")
    for change in ({0: "n01440765"}, {500: "tench"}, {999: "n15075142"}):
        other = [change.get(i, name) for i, name in enumerate(thousand())]
        with pytest.raises(ValueError, match=rf"such as '{re.escape(*change.values())}' as class {next(iter(change))}"):
            check_classes("imagenet", other, "here")
    with pytest.raises(ValueError, match="has 999 classes that are not the 1000 of imagenet"):
        check_classes("imagenet", thousand()[:-1], "here")


@pytest.mark.parametrize("name", KNOWN)
def test_other_names_and_other_orders_are_refused(name: str):
    right = list(KNOWN[name])
    check_classes(name, right, "here")
    for wrong in (right[::-1], right[1:], [*right, "zebra"], ["aardvark", *right[1:]], [c.upper() for c in right]):
        with pytest.raises(ValueError, match=rf"^data = '{name}' in here has .*folder:PATH") as caught:
            check_classes(name, wrong, "here")
        assert "\n" not in str(caught.value)
    assert unlike("folder:/x", ["a", "b"]) == ""


def test_every_public_teacher_says_whose_classes_it_knows():
    assert {c.data: c.num_classes for c in PUBLIC.values()} == {"cifar100": 100, "imagenet": 1000}
