"""What teacher and student learn from: images, labels of a few of them, and views that are crops."""

from dataclasses import dataclass

from torch import Tensor

from kdlib.data.images import ImageSet, check_name, facts, load_data
from kdlib.data.sampling import stratified, training_count, training_ids
from kdlib.elsewhere.masked.masks import CELL
from kdlib.randomness import draws_of
from kdlib.views.crops import crop_flip
from kdlib.views.jda import jda

CROP, OPERATIONS = "original crop", "augmented ops"  # roles; those of other chapters, whose crops these are
LIST = "cifar100"  # of JDA's operations


@dataclass(frozen=True)
class Material:
    """The images of a run, on the CPU."""

    #: all training images
    train: ImageSet
    #: the test images, of which all are tested on
    test: ImageSet
    #: ascending int64: those that are learnt from
    ids: Tensor

    @classmethod
    def of(cls, data: str, images: int) -> "Material":
        """images: a fixed draw of so many, the same for every seed. Raises ValueError or FileNotFoundError."""
        there = load_data(data)
        return cls(there.train, there.test, training_ids(there.train.labels, 0, 1.0, images, False))

    @property
    def fingerprint(self) -> str:
        """Of the training images."""
        return self.train.fingerprint

    def labelled(self, share: float, seed: int) -> Tensor:
        """Ascending int64: of each class that share of the images, drawn by the seed."""
        return stratified(self.train.labels, self.ids, share, seed, "subset")

    def crops(self, seed: int, ids: Tensor, epochs: Tensor, role: str = CROP, view: str = "crop") -> Tensor:
        """One view of each image, uint8 [B, 3, H, W]: a crop and flip, of the image or, as "jda", of what JDA makes of
        it. role: of the crop; crops are the same for both views."""
        draws = self.drawn(seed, {role: 3, OPERATIONS: jda(LIST).draws}, ids, epochs)
        images = self.train.images[ids]
        return crop_flip(jda(LIST)(images, draws[OPERATIONS]) if view == "jda" else images, draws[role])

    def drawn(self, seed: int, roles: dict[str, int], ids: Tensor, epochs: Tensor) -> dict[str, Tensor]:
        """Uniforms of each role, float32 [B, n]."""
        return draws_of(seed, roles, epochs, ids, len(self.train))


def side_of(data: str) -> int:
    """Pixels of a side of the images of a set."""
    return facts(data).size


def count_of(data: str, images: int, share: float = 1.0) -> int:
    """How many images there are to learn from, or how many of them have labels. Raises ValueError for too many."""
    return training_count(facts(data).class_sizes, share, images, False)


def check(data: str, images: int) -> None:
    """Raises ValueError, or FileNotFoundError, if a set cannot be learnt from: its images are cropped from a frame, and
    cut into cells."""
    check_name(data)
    there = load_data(data).train
    height, width = there.size
    if there.view_size is not None or height != width or height % CELL:
        raise ValueError(
            f"data = {data!r} has images of {width} x {height} pixels; allowed are square ones whose side is a "
            f"multiple of {CELL}, and no photographs"
        )
    count_of(data, images)


def largest(data: str) -> int:
    """How many images a fixed draw can have: all but the validation split."""
    return training_count(facts(data).class_sizes, 1.0, None, True)
