"""Photographs of 224 pixels, as of ImageNet: their way from files to views and steps, on one core.

The photographs are invented, of the size in pixels and about the bytes that those of ImageNet have.
"""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision import transforms

from kdlib.chapters.benchmark import plain
from kdlib.chapters.benchmark.rates import Rates, rate
from kdlib.chapters.benchmark.runs import alone, bare, steps_of
from kdlib.data.images import PHOTOS
from kdlib.data.squares import square
from kdlib.lab.clock import Tell, in_turn, nobody
from kdlib.lab.recipe import Policy
from kdlib.lab.specs import RunSpec

TEACHER, STUDENT = "resnet34_imagenet", "resnet18_imagenet"
FILES = 32
CLASSES = ("one", "two")
SIZE = (500, 375)  # pixels, of a usual photograph of ImageNet
BLOBS, GRAIN, QUALITY = (12, 16), 24.0, 90  # which make files of about 110 kB
SIDE = PHOTOS["imagenet"]  # of a stored square
IMAGES = 4  # of a step, each as a pair of views
OPS = "imagenet"  # of JDA


def photograph_rates(rounds: int, tell: Tell = nobody) -> Rates:
    """Photographs per second that are read from the cache and that are decoded from files; views per second that kdlib
    makes of the cache and PIL of files; image pairs per second of a step, and of one on fixed tensors."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photographs-of-the-benchmark"  # the name that their squares have in the cache
        files = draw(folder)
        steps = steps_of(run_of(folder))
        arms = {
            "cache": rate(FILES, lambda _: steps.task.pixels[steps.task.ids]),
            "files": rate(FILES, lambda _: [square(str(file), SIDE) for file in files]),
            "kdlib": rate(2 * IMAGES, steps.task.batch, FILES // IMAGES),
            "PIL": rate(2 * FILES, lambda number: by_pil(files, random.Random(number))),
            "step": rate(IMAGES, steps.take),
            "fixed tensors": rate(IMAGES, bare(steps)),
        }
        return in_turn(arms, rounds, tell=tell)


def draw(folder: Path) -> list[Path]:
    """Photographs of two classes in train/ and test/ of a folder; returns the files of train/."""
    files = [folder / "train" / CLASSES[number % 2] / f"{number}.jpg" for number in range(FILES)]
    for number, path in enumerate([*files, *(folder / "test" / name / "0.jpg" for name in CLASSES)]):
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(number).save(path, quality=QUALITY)
    return files


def photograph(number: int) -> Image.Image:
    """Soft blobs of colour under a grain, the same for a number each time."""
    random = np.random.default_rng(number)
    blobs = Image.fromarray(random.integers(0, 256, (*BLOBS, 3), dtype=np.uint8))
    soft = np.asarray(blobs.resize(SIZE, Image.Resampling.BICUBIC))
    grain = GRAIN * random.standard_normal((*soft.shape[:2], 1))
    return Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8))


def run_of(folder: Path) -> RunSpec:
    """KD + JDA from ResNet-34 to ResNet-18 on the photographs of a folder."""
    data, views = f"photos:{folder}", Policy(name="jda", options={"ops": OPS})
    return alone(STUDENT, views, IMAGES, method="kd", data=data, teacher=alone(TEACHER, "weak1", IMAGES, data=data))


def by_pil(files: list[Path], draws: random.Random) -> list[tuple[Tensor, Tensor]]:
    """(view, augmented view) of each file, uint8 [3, 224, 224], as usual scripts make them: by PIL, one at a time."""
    size = SIDE * 7 // 8
    steps = (transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.PILToTensor())
    crop = transforms.Compose(steps)
    views = []
    for file in files:
        with Image.open(file) as image:
            picture = image.convert("RGB")
        views.append((crop(picture), crop(plain.augment(picture, draws, OPS))))
    return views
