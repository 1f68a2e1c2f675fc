"""The plain program that the fast path is compared with: PIL and torchvision image by image, float32, eager.

It does what the usual scripts do: a DataLoader with two worker processes makes each pair of views by PIL operations,
one image at a time; both networks run in float32 with contiguous tensors. It is written for the benchmark alone.
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF  # noqa: N812

from kdlib.chapters.benchmark.runs import some_images
from kdlib.data.images import ImageSet, load_data
from kdlib.lab.specs import RunSpec
from kdlib.models import create_model
from kdlib.views.jda import JDA_LISTS
from kdlib.views.ops import FILL, OPS

BICUBIC = InterpolationMode.BICUBIC


def _shear(image: Image.Image, x: float, y: float) -> Image.Image:
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return TF.affine(image, 0, [0, 0], 1, degrees, BICUBIC, fill=FILL, center=[0, 0])


def _move(image: Image.Image, x: float, y: float) -> Image.Image:
    return TF.affine(image, 0, [-round(x * image.width), -round(y * image.height)], 1, [0, 0], fill=FILL)


PIL_OPS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "shearX": lambda image, v: _shear(image, v, 0),
    "shearY": lambda image, v: _shear(image, 0, v),
    "translateX": lambda image, v: _move(image, v, 0),
    "translateY": lambda image, v: _move(image, 0, v),
    "rotate": lambda image, v: TF.rotate(image, v, fill=FILL),
    "color": lambda image, v: TF.adjust_saturation(image, 1 + v),
    "posterize": lambda image, v: TF.posterize(image, round(v)),
    "solarize": lambda image, v: TF.solarize(image, v),
    "contrast": lambda image, v: TF.adjust_contrast(image, 1 + v),
    "sharpness": lambda image, v: TF.adjust_sharpness(image, 1 + v),
    "brightness": lambda image, v: TF.adjust_brightness(image, 1 + v),
    "autocontrast": lambda image, _: TF.autocontrast(image),
    "equalize": lambda image, _: TF.equalize(image),
    "invert": lambda image, _: TF.invert(image),
}


def augment(image: Image.Image, draws: random.Random, ops: str = "cifar100") -> Image.Image:
    """JDA of one image: every op of the list fires with its probability, at its magnitude and a random sign."""
    p, table = JDA_LISTS[ops]
    for name, magnitude in table:
        if draws.random() < p:
            op = OPS[name]
            value = op.magnitudes[magnitude] if op.magnitudes else 0.0
            image = PIL_OPS[name](image, -value if op.signed and draws.random() < 0.5 else value)
    return image


class Pairs(Dataset):
    """(original view, augmented view, label) of each image, made by PIL: float32 [3, H, W], normalised."""

    def __init__(self, images: ImageSet):
        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images.images]
        self.labels = images.labels.tolist()
        size = images.size[0]
        crop = transforms.RandomCrop(size, padding=4)
        flip, normalise = transforms.RandomHorizontalFlip(), transforms.Normalize(images.mean, images.std)
        self.base = transforms.Compose([crop, flip, transforms.ToTensor(), normalise])
        self.draws = random.Random(0)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, int]:
        picture = self.pictures[place]
        return self.base(picture), self.base(augment(picture, self.draws)), self.labels[place]


def batches(pairs: Pairs, size: int, workers: int = 2) -> Iterator[list[Tensor]]:
    """Endless batches of pairs. Workers outlive a pass over the pairs, which is short here and long elsewhere."""
    loader = DataLoader(
        pairs, batch_size=size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def step(
    teacher: nn.Module,
    student: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: list[Tensor],
    temperature: float = 4.0,
) -> Tensor:
    """One step of KD + JDA; the loss."""
    original, augmented, labels = batch
    views, labels = torch.cat([original, augmented]), torch.cat([labels, labels])
    with torch.no_grad():
        target = F.softmax(teacher(views).logits / temperature, dim=1)
    logits = student(views).logits
    kl = F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="batchmean")
    loss = F.cross_entropy(logits, labels) + temperature**2 * kl
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()


@contextmanager
def program(run: RunSpec, images: int, size: int, workers: int = 2) -> Iterator[Callable[[int], Tensor]]:
    """What takes a step of the plain program on so many images, `size` of them at once, with the networks of a run.

    Its workers have made some batches ahead; those are used up before.
    """
    device, classes = run.machine.device, len(load_data(run.data).train.classes)
    teacher = create_model(run.teacher.student, classes).eval().to(device)
    student = create_model(run.student, classes).to(device)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    source = batches(Pairs(some_images(images)), size, workers)

    def take(_: int) -> Tensor:
        return step(teacher, student, optimiser, [part.to(device) for part in next(source)])

    for number in range(2 * workers + 1):  # each is two batches ahead
        take(number)
    try:
        yield take
    finally:
        source.close()
