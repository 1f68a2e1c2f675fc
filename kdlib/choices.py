"""What the command line offers by name, and how its words are checked: without importing what they name.

torch alone takes seconds to import, so these names stand here as well as in the registries; a test compares the two.
"""

import json
from typing import Any

#: The keys of `kdlib.study.profiles.PROFILES`.
PROFILES = ("smoke", "quick", "reference", "full", "paper", "imagenet")
#: Data sets that can be downloaded: the keys of `kdlib.data.images.CIFAR`.
CIFAR = ("cifar10", "cifar100")
#: Public checkpoints: the keys of `kdlib.models.checkpoints.PUBLIC`.
PUBLIC = (
    "cifar100_resnet20", "cifar100_resnet32", "cifar100_resnet44", "cifar100_resnet56", "imagenet_resnet34",
    "imagenet_resnet18",
)  # fmt: skip
#: Parallel texts that can be fetched: `kdlib.elsewhere.translation.parallel.FETCHED`.
TEXTS = ("help-texts", "manuals")
#: Pictures with boxes that can be downloaded: `kdlib.elsewhere.boxes.trees.NAME`.
TREES = "trees"
DEVICES = ("auto", "cpu", "cuda")


def fetchable() -> dict[str, str | None]:
    """What can be downloaded: names of data sets and texts, and of public checkpoints -> the full name of the
    checkpoint."""
    short = {name.removeprefix("cifar100_"): name for name in PUBLIC}
    return dict.fromkeys((*CIFAR, TREES, *TEXTS)) | short | {name: name for name in PUBLIC}


def check_fetchable(names: list[str]) -> None:
    """Raises ValueError for a name that cannot be downloaded."""
    for name in names:
        if name not in fetchable():
            raise ValueError(f"{name!r} cannot be fetched; allowed are {', '.join(fetchable())}")


def check_device(device: str) -> None:
    """Raises ValueError for another word than those in DEVICES."""
    if device not in DEVICES:
        raise ValueError(f"device = {device!r} is unknown; allowed are {', '.join(DEVICES)}")


def check_seeds(seeds: list[int]) -> None:
    """Raises ValueError for anything but different whole numbers from 0 up."""
    wrong = any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in seeds)
    if wrong or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds = {seeds!r} must be a list of different whole numbers from 0 up")


def parse_option(text: str) -> tuple[str, Any]:
    """ "p=0.5" -> ("p", 0.5): the value is read as JSON, or as a word if it is none."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"option = {text!r} must be NAME=VALUE, such as p=0.5")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def parse_duration(text: str) -> float:
    """ "90s", "9m", "1.5h" -> seconds. Raises ValueError for anything else, and for no time at all."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"for = {text!r} must be a time such as 90s, 9m or 2h")
    return seconds


def parse_shard(text: str) -> tuple[int, int]:
    """ "1/4" -> (1, 4). Raises ValueError for anything but i/n with i from 1 to n."""
    try:
        i, n = (int(x) for x in text.split("/"))
    except ValueError:
        i = n = 0
    if not 1 <= i <= n:
        raise ValueError(f"shard = {text!r} must be i/n with i from 1 to n, such as 1/4")
    return i, n
