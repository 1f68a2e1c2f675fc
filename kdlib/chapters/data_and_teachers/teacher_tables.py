"""Tables of what a study starts from: data sets, pairs of networks, and the teachers as they were measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan

import pandas as pd

from kdlib.data import paths, photos
from kdlib.data.images import BUNDLED, CIFAR, FACTS, available, load_data
from kdlib.lab.cost import model_size
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.profiles import PROFILES

GAP, ECE = "not measured", "ECE {:.3f}"


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from. test_images: how many; fetch: what to type, or to do, to have it."""

    test_images: int
    source: str
    licence: str
    fetch: str


ORIGINS: Mapping[str, Origin] = {
    BUNDLED: Origin(2_000, "github.com/zalandoresearch/fashion-mnist", "MIT", "comes with the book"),
    "cifar10": Origin(10_000, "www.cs.toronto.edu/~kriz/cifar.html", "none stated", "python -m kdlib fetch cifar10"),
    "cifar100": Origin(10_000, "www.cs.toronto.edu/~kriz/cifar.html", "none stated", "python -m kdlib fetch cifar100"),
    "imagenet": Origin(50_000, "image-net.org", "ImageNet's terms of access", "a folder of your own: imagenet/"),
    "tinyimagenet-mini": Origin(
        500, "20 classes of Tiny-ImageNet", "ImageNet's terms of access", "a folder of your own: tinyimagenet-mini/"
    ),
}


def data_sets() -> pd.DataFrame:
    """One row per data set that has a name, from what the code knows, wherever the data are: classes, images of both
    splits, size of a view, and what inputs are normalised with: mean and std of red, green and blue in [0, 1]."""
    rows = {}
    for name, facts in FACTS.items():
        mean, std = statistics(name)
        rows[name] = {
            "classes": len(facts.class_sizes),
            "training": f"{sum(facts.class_sizes):,}",
            "test": f"{ORIGINS[name].test_images:,}",
            "pixels": f"{facts.size}x{facts.size}",
            "mean": " ".join(f"{v:.4g}" for v in mean),
            "std": " ".join(f"{v:.4g}" for v in std),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def origins() -> pd.DataFrame:
    """One row per data set: source and licence."""
    rows = {name: {"source": origin.source, "licence": origin.licence} for name, origin in ORIGINS.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels of a named set, as its loader has them."""
    if name == BUNDLED:
        train = load_data(BUNDLED).train
        return train.mean, train.std
    return CIFAR[name][1:] if name in CIFAR else (photos.MEAN, photos.STD)


def on_this_machine() -> pd.DataFrame:
    """One row per data set and public checkpoint: whether it is here, and how it is had."""
    here = {name: available(name) for name in FACTS} | {
        name: (paths.checkpoint_root() / known.file).is_file() for name, known in PUBLIC.items()
    }
    how = {name: f"python -m kdlib fetch {name.removeprefix('cifar100_')}" for name in PUBLIC}
    how |= {name: origin.fetch for name, origin in ORIGINS.items()}
    rows = {
        name: {"on this machine": "yes" if found else "no", "how to get it": how[name]} for name, found in here.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def pairs() -> pd.DataFrame:
    """One row per pair of each profile: the size of the teacher, that of the student, and how many times smaller this
    is; in millions of parameters, and of multiply-accumulates (MACs) for one image forward."""
    rows = []
    for scale in PROFILES.values():
        facts = FACTS[scale.data]
        for teacher, student in scale.pairs.values():
            model = PUBLIC[teacher].model if teacher in PUBLIC else teacher
            large, small = (model_size(name, len(facts.class_sizes), facts.size) for name in (model, student))
            row = {"profile": scale.name}
            row |= {"teacher": model.removesuffix("_imagenet"), "student": student.removesuffix("_imagenet")}
            for unit, t, s in zip(("parameters", "MACs"), large, small, strict=True):
                row[f"{unit}, millions"] = f"{millions(t)} → {millions(s)} (1 / {t / s:.1f})"
            rows.append(row)
    return pd.DataFrame(rows).set_index("profile").rename_axis(None)


def millions(count: int) -> str:
    """A count in millions with three digits."""
    return f"{count / 1e6:,.0f}" if count >= 1e8 else f"{count / 1e6:.3g}"


def published(name: str) -> float:
    """The published top-1 accuracy of a checkpoint in percent; nan if there is none."""
    return PUBLIC[name].top1 if name in PUBLIC else nan


def teachers(measured: Mapping[str, Mapping | None]) -> pd.DataFrame:
    """One column per teacher, from the metrics of kdlib.lab.measures.scores, or None where they are missing."""
    rows = {}
    for name, metrics in measured.items():
        found, top1 = metrics or {}, published(name)
        known = not isnan(top1)
        rows[name] = {
            "top-1 %": text(found, "test_top1", ".2f") or GAP,
            "published": f"{top1:.2f}" if known else "",
            "measured - published": f"{found['test_top1'] - top1:+.2f}" if known and found else "",
            "without exact twins": text(found, "unique_top1", ".2f"),
            "without near twins": text(found, "distinct_top1", ".2f"),
            "top-5 %": text(found, "test_top5", ".2f"),
            "NLL, nats": text(found, "test_nll", ".3f"),
            "ECE": text(found, "test_ece", ".3f"),
            "top-1 % on training images": text(found, "train_top1", ".2f"),
            "NLL on training images": text(found, "train_nll", ".3f"),
        }
    return pd.DataFrame.from_dict(rows, orient="index").T


def words(name: str, metrics: Mapping | None) -> dict[str, str]:
    """What the prose of the chapter says of one teacher, by the name of each number, which has its unit."""
    top1 = published(name)
    said = {"teacher": name, "published": f"{top1:.2f} %" if not isnan(top1) else "nothing"}
    for key, metric, sentence in (
        ("top1", "test_top1", "{:.2f} %"), ("unique-top1", "unique_top1", "{:.2f} %"),
        ("distinct-top1", "distinct_top1", "{:.2f} %"), ("train-top1", "train_top1", "{:.2f} %"),
        ("images", "test_images", "{:,} test images"), ("train-images", "train_images", "{:,} training images"),
        ("nll", "test_nll", "{:.3f} nats"), ("train-nll", "train_nll", "{:.3f} nats"), ("ece", "test_ece", ECE),
    ):  # fmt: skip
        said[key] = sentence.format(metrics[metric]) if metrics and metric in metrics else GAP
    found = metrics or {}
    counted = [found.get(f"{part}_images") for part in ("test", "unique", "distinct")]
    for key, (whole, part) in zip(("exact-twins", "near-twins"), pairwise(counted), strict=True):
        said[key] = GAP if whole is None or part is None else f"{whole - part}"
    return said | _temperature_words(found.get("temperatures"))


def _temperature_words(stored: list[Mapping] | None) -> dict[str, str]:
    if stored is None:
        return dict.fromkeys(("confidence", "best-temperature", "best-ece", "soft-temperature", "soft-ece"), GAP)
    (plain,) = (found for found in stored if found["temperature"] == 1)
    best, soft = min(stored, key=lambda found: found["ece"]), stored[-1]
    total = sum(n * mean for n, mean in zip(plain["counts"], plain["confidence"], strict=True) if n)
    return {
        "confidence": f"{100 * total / sum(plain['counts']):.1f} %",
        "best-temperature": f"{best['temperature']:g}",
        "best-ece": ECE.format(best["ece"]),
        "soft-temperature": f"{soft['temperature']:g}",
        "soft-ece": ECE.format(soft["ece"]),
    }


def text(metrics: Mapping | None, name: str, spec: str) -> str:
    """A metric in words, or nothing where it is missing."""
    return f"{metrics[name]:{spec}}" if metrics and name in metrics else ""
