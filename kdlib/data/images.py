"""Image sets: a whole data set as one uint8 tensor, and the loaders that make it.

A data set is named by a string: `fashion-mnist-8k` (bundled), `cifar10`, `cifar100` (torchvision's files or folders of
images, below the data root), `imagenet` and `tinyimagenet-mini` (folders of photographs, below the data root), or
`folder:PATH` for any folder in ImageFolder layout (train/ and test/ or val/) of small images of one size, and
`photos:PATH` for one of photographs of any size.
"""

import hashlib
import re
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.data import paths, photos, pictures
from kdlib.data.cache import cached_tensors
from kdlib.data.contents import contents_of
from kdlib.data.listing import Listing, list_splits, locate_splits, shown
from kdlib.views.crops import centre

RGB = tuple[float, float, float]

BUNDLED = "fashion-mnist-8k"
BUNDLED_MARKS = ("43afb92348597910", "edceadade1c16ba0")  # fingerprints of its two splits
# name: (folder of torchvision's files, mean, std); CIFAR-100's statistics are those of the public checkpoints
CIFAR: dict[str, tuple[str, RGB, RGB]] = {
    "cifar10": ("cifar-10-batches-py", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ("cifar-100-python", (0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
}
PHOTOS = {"imagenet": 256, "tinyimagenet-mini": 64}  # the side in pixels at which photographs are kept
FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a data set, held in memory (or memory-mapped) as a whole."""

    #: name of the data set
    name: str
    #: uint8 [N, 3, H, W], RGB
    images: Tensor
    #: int64 [N]
    labels: Tensor
    #: name of each label
    classes: tuple[str, ...]
    #: mean of RGB in [0, 1], for networks that we train
    mean: RGB
    #: standard deviation of RGB in [0, 1], for networks that we train
    std: RGB
    #: SHA-256 of images and labels (16 hex digits)
    fingerprint: str
    #: the side of the views in pixels, if they are random resized crops; None: crops of the image's own size from a
    #: padded frame
    view_size: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images.shape[-2:]
        return height, width

    @property
    def evaluated(self) -> Tensor:
        """What a network is tested on: the images, or their centre where views are resized crops."""
        return self.images if self.view_size is None else centre(self.images, self.view_size)


@dataclass(frozen=True, eq=False)
class Data:
    """The training and the test split of one data set."""

    train: ImageSet
    test: ImageSet


def fingerprint(images: Tensor, labels: Tensor) -> str:
    """16 hex digits of SHA-256 over shape, pixels and labels."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    digest.update(images.contiguous().numpy().data)
    digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Facts:
    """What a plan needs to know of a data set."""

    #: training images of each class
    class_sizes: tuple[int, ...]
    #: pixels of a side of a view
    size: int
    #: names of the classes, where the set was read for this
    classes: tuple[str, ...] = ()


FACTS = {
    BUNDLED: Facts((600,) * 10, 32),
    "cifar10": Facts((5_000,) * 10, 32),
    "cifar100": Facts((500,) * 100, 32),
    "imagenet": Facts((1282,) * 167 + (1281,) * 833, 224),  # 1,281,167 in all; classes have 732 to 1,300
    "tinyimagenet-mini": Facts((100,) * 20, 56),
}


def facts(name: str) -> Facts:
    """Facts of a named set; a folder of the reader's own is read."""
    if name in FACTS:
        return FACTS[name]
    data = load_data(name)
    sizes = data.train.labels.bincount(minlength=len(data.train.classes)).tolist()
    return Facts(tuple(sizes), data.train.view_size or data.train.size[0], data.train.classes)


@lru_cache(maxsize=2)
def load_data(name: str) -> Data:
    """The data set called `name`. Raises ValueError (unknown name, unreadable file) or FileNotFoundError (absent)."""
    check_name(name)
    if name == BUNDLED:
        return _load_bundled()
    if name in CIFAR:
        return _load_cifar(name)
    if name in PHOTOS or name.startswith("photos:"):
        return _load_photos(name)
    return _load_folder(name, _own_folder(name), None, None)


def check_name(name: str) -> None:
    """Raises ValueError for a name that no data set can have."""
    known = (BUNDLED, *CIFAR, *PHOTOS)
    kind, colon, _ = name.partition(":")
    own = colon and kind in ("folder", "photos")
    if not own and name not in known:
        raise ValueError(f"data = {name!r} is unknown; allowed are {', '.join(known)}, folder:PATH and photos:PATH")
    if own:
        paths.check_from_root("data", name)


def available(name: str) -> bool:
    """Whether the data set is on this machine. Raises ValueError for an unknown name."""
    check_name(name)
    try:
        if name not in (BUNDLED, *CIFAR):
            locate_splits(name, _own_folder(name))
        else:
            _locate(name)
    except FileNotFoundError:
        return False
    return True


def _own_folder(name: str) -> Path:
    if name in PHOTOS:
        return paths.data_root() / name
    kind, _, path = name.partition(":")
    return paths.expanded(path, kind)


def _file_name(name: str) -> str:
    """What a set is called in names of cache files: the last folder of its path, in plain letters, and not too long."""
    return re.sub(r"[^\w.-]", "_", name.rsplit(":")[-1].strip("/").rsplit("/")[-1], flags=re.ASCII)[:40]


def _locate(name: str) -> Path:
    """The folder (or file) that holds the set; FileNotFoundError says what is missing, where, and how to get it."""
    if name == BUNDLED:
        candidates, hint = [paths.BUNDLED], "it comes with the project: check it out again"
    else:
        base = CIFAR[name][0]
        candidates = [paths.data_root() / base, paths.data_root() / name / "train"]
        hint = f"run `python -m kdlib fetch {name}` with a network, or point KDLIB_DATA at a folder that holds it"
    for candidate in candidates:
        if candidate.exists():
            return candidate
    looked = " and ".join(str(c) for c in candidates)
    raise FileNotFoundError(f"data = {name!r} is missing: looked for {looked}; {hint}")


def _load_bundled() -> Data:
    """Fashion-MNIST images, grey 28x28, framed by two black pixels and repeated to three channels: 3x32x32."""
    path = _locate(BUNDLED)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            splits = [(arrays[f"{s}_images"], arrays[f"{s}_labels"]) for s in ("train", "test")]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"data file {path} is corrupt ({error}): check it out again") from error
    sets = []
    for images, labels in splits:
        framed = np.pad(images, ((0, 0), (2, 2), (2, 2)))
        pixels = torch.from_numpy(framed)[:, None].repeat(1, 3, 1, 1)
        labels = torch.from_numpy(labels.astype(np.int64))
        mark = fingerprint(pixels, labels)
        sets.append(ImageSet(BUNDLED, pixels, labels, FASHION_CLASSES, (0.218,) * 3, (0.331,) * 3, mark))
    if (found := tuple(images.fingerprint for images in sets)) != BUNDLED_MARKS:
        raise ValueError(f"data file {path} is corrupt (fingerprints {found}): check it out again")
    return Data(*sets)


def torchvision_cifar(name: str, train: bool, download: bool = False) -> Any:
    """torchvision's set of that name, one split. Raises RuntimeError if a file is missing or damaged."""
    from torchvision import datasets  # not above, see kdlib.views.functional

    return getattr(datasets, name.upper())(paths.data_root(), train=train, download=download)


def _load_cifar(name: str) -> Data:
    base, mean, std = CIFAR[name]
    if _locate(name).name != base:
        return _load_folder(name, paths.data_root() / name, mean, std)
    try:
        sources = [torchvision_cifar(name, train) for train in (True, False)]
    except RuntimeError as error:
        raise ValueError(
            f"data files in {paths.data_root() / base} are incomplete or corrupt: delete them and run "
            f"`python -m kdlib fetch {name}`"
        ) from error
    sets = []
    for source in sources:
        images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
        labels = torch.tensor(source.targets)
        sets.append(ImageSet(name, images, labels, tuple(source.classes), mean, std, fingerprint(images, labels)))
    return Data(*sets)


def _load_folder(name: str, root: Path, mean: RGB | None, std: RGB | None) -> Data:
    """ImageFolder layout. The first read is cached as one uint8 file, under a hash of what the files hold."""
    train, test = (_read_split(name, listing) for listing in list_splits(name, root))
    if train[0].shape[2:] != test[0].shape[2:]:
        sizes = [f"{width}x{height}" for height, width in (train[0].shape[2:], test[0].shape[2:])]
        raise ValueError(f"images in {root} must have one size; training images are {sizes[0]}, test images {sizes[1]}")
    if mean is None or std is None:
        mean, std = _statistics(train[0], root)
    return Data(*(ImageSet(name, *split[:3], mean, std, split[3]) for split in (train, test)))


def _read_split(name: str, listing: Listing) -> tuple[Tensor, Tensor, tuple[str, ...], str]:
    """(images uint8 [N, 3, H, W]; labels int64 [N]; classes; fingerprint) of one split."""
    content = hashlib.sha256(f"{photos.DECODING} {contents_of(listing)}".encode()).hexdigest()[:16]
    label = f"{_file_name(name)}-{listing.folder.name}-{content}"
    tensors = cached_tensors(label, partial(_decode, listing.samples))
    return tensors["images"], tensors["labels"], listing.classes, bytes(tensors["fingerprint"].tolist()).decode()


def _load_photos(name: str) -> Data:
    root, side, file = _own_folder(name), PHOTOS.get(name, 256), _file_name(name)
    view = side * 7 // 8  # 224 of 256 pixels
    sets = []
    for listing in list_splits(name, root):
        images, labels, mark = photos.load_split(file, listing, side)
        sets.append(ImageSet(name, images, labels, listing.classes, photos.MEAN, photos.STD, mark, view))
    return Data(*sets)


def _decode(samples: tuple[tuple[str, int], ...]) -> dict[str, Tensor]:
    with ThreadPoolExecutor() as pool:  # PIL decodes outside the interpreter lock
        pixels = list(pool.map(lambda sample: np.asarray(pictures.read_rgb(sample[0])), samples))  # uint8 [H, W, 3]
    sizes = {p.shape for p in pixels}
    if len(sizes) != 1:
        found = ", ".join(f"{w}x{h}" for h, w, _ in sorted(sizes)[:3])
        raise ValueError(
            f"images of one set must have one size; {shown(samples[0][0])} and its neighbours have {found}"
        )
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([label for _, label in samples])
    mark = torch.tensor(list(fingerprint(images, labels).encode()), dtype=torch.uint8)
    return {"images": images, "labels": labels, "fingerprint": mark}


def _statistics(images: Tensor, root: Path) -> tuple[RGB, RGB]:
    """Mean and standard deviation of RGB in [0, 1] over up to 5,000 evenly spaced images, rounded to 4 digits.

    Raises ValueError if a channel is constant: a network would divide by zero.
    """
    some = images[:: max(1, len(images) // 5000)].double() / 255
    mean, std = _rounded(some.mean((0, 2, 3))), _rounded(some.std((0, 2, 3)))
    for channel, middle, spread in zip(("red", "green", "blue"), mean, std, strict=True):
        if not spread > 0:
            raise ValueError(
                f"training images in {shown(root)} have a {channel} channel that is {255 * middle:.0f} everywhere, and "
                "networks divide by its standard deviation: save them as grey, or leave them out if they are empty"
            )
    return mean, std


def _rounded(channels: Tensor) -> RGB:
    red, green, blue = (round(v, 4) for v in channels.tolist())
    return red, green, blue
