"""Public trained networks: where they are, how they are fetched, how they are checked.

The ResNets for CIFAR-100 are those of github.com/chenyaofo/pytorch-cifar-models, the ResNets for ImageNet those of
torchvision. The first source has trained networks of three further families of `kdlib.models` too, but their weights
do not fit, because none is built as the network here. For 100 classes and 32x32 pixels (theirs as in their README):

===================  ================  =================  ================
here                 parameters, MACs  closest there      parameters, MACs
===================  ================  =================  ================
vgg13                9.46 M, 284.94 M  vgg13_bn           9.99 M, 228.84 M
mobilenetv2_stride1  0.81 M, 25.71 M   mobilenetv2_x0_5   0.82 M, 28.08 M
shufflenetv2         1.36 M, 44.50 M   shufflenetv2_x1_0  1.36 M, 45.09 M
===================  ================  =================  ================

VGG: the same convolutions, but there is a max-pool after each of the five groups (here after the first three), and
there are three linear layers (here one). They have no network as shallow as vgg8.
MobileNetV2: their second group of blocks is 16 wide (here 12), their first block has no 1x1 convolution before its
depthwise one, and their activation is ReLU6 (here ReLU). `mobilenetv2` differs in the stride of its stem as well.
ShuffleNetV2: their stem is a 3x3 convolution (here 1x1); all else is equal.
"""

import hashlib
import http.client
import io
import math
import re
import shutil
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlib.files import replacing
from kdlib.models import Backbone, create_model
from kdlib.models.https import open_secure
from kdlib.models.network import check_statistics

_RELEASES = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/resnet"
_TIMEOUT = 60.0  # seconds without an answer before a download fails


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A published set of weights, identified by either `contents` or `file_hash`.

    contents: what `contents_hash` gives for it; it identifies the weights wherever they were saved again.
    file_hash: the first digits, 8 or more, of the SHA-256 of the published file (hexadecimal), as `torch.hub`
        reads them from file names. Eight digits tell a damaged or another file from the published one; they
        do not protect from a file that was forged to have them.
    model, num_classes: the arguments of `create_model`.
    file: its name in the folder of checkpoints, or an absolute path.
    top1: published accuracy, percent, on CIFAR-100's 10,000 test images or ImageNet's 50,000 validation
        images; nan if there is none.
    mean, std: the channel statistics its input is normalised with, after RGB / 255.
    data: name of the data set whose classes its outputs stand for, in their order; empty if nobody says.

    Raises:
        ValueError: both identifications are given, or none, or `file_hash` is not 8 to 64 hexadecimal digits, or the
            statistics are no three numbers each to normalise with.
    """

    name: str
    model: str
    num_classes: int
    file: str
    url: str
    contents: str = ""
    file_hash: str = ""
    top1: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    data: str = ""

    def __post_init__(self) -> None:
        if bool(self.contents) == bool(self.file_hash):
            raise ValueError(
                f"checkpoint {self.name}: contents = {self.contents!r} and file_hash = {self.file_hash!r}, "
                f"but exactly one of the two must be given."
            )
        if self.file_hash and not re.fullmatch("[0-9a-f]{8,64}", self.file_hash):
            raise ValueError(
                f"checkpoint {self.name}: file_hash = {self.file_hash!r} must be 8 to 64 lower-case hexadecimal digits."
            )
        check_statistics(self.mean, self.std, f"checkpoint {self.name}: ")

    @property
    def identity(self) -> str:
        """What stands for the weights in the key of a run: `contents`, or "file:" and `file_hash`."""
        return self.contents or f"file:{self.file_hash}"


def _cifar100_resnet(depth: int, release: str, top1: float, contents: str) -> Checkpoint:
    """A network of github.com/chenyaofo/pytorch-cifar-models; `release` is the hash in its file name."""
    name = f"cifar100_resnet{depth}"
    return Checkpoint(
        name=name,
        model=f"resnet{depth}",
        num_classes=100,
        file=f"{name}.pth",
        url=f"{_RELEASES}/{name}-{release}.pt",
        contents=contents,
        top1=top1,
        mean=(0.5070, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2761),
        licence="BSD-3-Clause",
        data="cifar100",
    )


def _imagenet_resnet(depth: int, release: str, top1: float) -> Checkpoint:
    """A network of torchvision, with what its own entry says; `release` is the hash in its file name."""
    name = f"imagenet_resnet{depth}"
    return Checkpoint(
        name=name,
        model=f"resnet{depth}_imagenet",
        num_classes=1000,
        file=f"{name}.pth",
        url=f"https://download.pytorch.org/models/resnet{depth}-{release}.pth",
        file_hash=release,
        top1=top1,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        licence="BSD-3-Clause; ImageNet's terms of use may apply",
        data="imagenet",
    )


#: Checkpoints by name: the public ones, and any that you add with `own_checkpoint`.
PUBLIC: dict[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        _cifar100_resnet(20, "23dac2f1", 68.83, "fabd66ad23cd65465560a0077e14ee31ceda7fa2fd4b1f8876c391ff5c2e691d"),
        _cifar100_resnet(32, "84213ce6", 70.16, "427c39a17cbc7c64da82a1ebe0a485630d5c72cce311d73154581eba68973af0"),
        _cifar100_resnet(44, "ffe32858", 71.63, "ec9699348b97d9b4008b4055542ea6f1759d65a7f882fa0d823bea2183b25e13"),
        _cifar100_resnet(56, "f2eff4c8", 72.63, "2ca6f9a4e6b74459aa240d7f87b70f0209fb57cc1d6242de8372471d726bbd73"),
        _imagenet_resnet(34, "b627a593", 73.314),
        _imagenet_resnet(18, "f37072fd", 69.758),
    )
}


def contents_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hexadecimal) of the tensors of a state dict, whatever file they came in.

    Per tensor, in the order of the sorted names: name, dtype and shape as text, then the values as
    little-endian bytes in row-major order. Saving the same weights again changes a file's bytes, not this.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        kind = str(tensor.dtype).removeprefix("torch.")
        # NumPy has no bfloat16: of two bytes, as an integer of two
        values = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {kind} {list(values.shape)}\n".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def own_checkpoint(
    name: str,
    path: Path,
    model: str,
    num_classes: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Checkpoint:
    """A checkpoint of your own, to be entered as `PUBLIC[name]`; it is identified by what the file holds now.

    path: a state dict of the network `model`, saved by `torch.save`; mean, std: of RGB in [0, 1], what its input was
    normalised with. Raises FileNotFoundError if there is no such file, ValueError if it holds something else.
    """
    raw = Path(path).read_bytes()
    try:
        contents = contents_hash(torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True))
    except Exception as error:  # as in `_read_verified`
        raise ValueError(
            f"path = {str(path)!r} must be a file that torch.save made of a state dict alone: names and tensors"
        ) from error
    return Checkpoint(
        name=name, model=model, num_classes=num_classes, file=str(Path(path).resolve()), url="",
        contents=contents, top1=math.nan, mean=(*mean,), std=(*std,), licence="your own",
    )  # fmt: skip


def find_checkpoint(name: str) -> Checkpoint:
    """The public checkpoint called `name`; an unknown name raises ValueError."""
    if name not in PUBLIC:
        raise ValueError(f"checkpoint name {name!r} is unknown: allowed are {', '.join(PUBLIC)}.")
    return PUBLIC[name]


def _read_verified(checkpoint: Checkpoint, path: Path) -> dict[str, Tensor]:
    """The state dict in the file `path`, or ValueError if it does not hold exactly the published weights."""
    raw = path.read_bytes()
    if checkpoint.file_hash:
        _require(checkpoint, path, "SHA-256 of the file", hashlib.sha256(raw).hexdigest(), checkpoint.file_hash)
    try:
        state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        contents = contents_hash(state)  # fails for anything but a dict of tensors
    except Exception as error:  # damaged bytes make the unpickler raise almost any exception
        raise ValueError(
            f"checkpoint {checkpoint.name}: {path} cannot be read as a dict of tensors{_remedy(checkpoint)}."
        ) from error
    if checkpoint.contents:
        _require(checkpoint, path, "contents hash", contents, checkpoint.contents)
    return state


def _require(checkpoint: Checkpoint, path: Path, kind: str, found: str, expected: str) -> None:
    if not found.startswith(expected):
        raise ValueError(
            f"checkpoint {checkpoint.name}: {path} does not hold the published weights "
            f"({kind} {found}, expected {expected}{'...' if len(expected) < len(found) else ''}){_remedy(checkpoint)}."
        )


def _remedy(checkpoint: Checkpoint) -> str:
    """How to get the file, where it can be had."""
    return f"; `python -m kdlib fetch {checkpoint.name}` downloads it from {checkpoint.url}" if checkpoint.url else ""


def load_checkpoint(name: str, folder: Path) -> Backbone:
    """The trained network `name`, read from `folder`, on the CPU, float32, in evaluation mode.

    Raises:
        ValueError: the name is not in `PUBLIC`, the file is damaged or holds other weights, or its names or
            shapes are not those of the model.
        FileNotFoundError: the file is not in the folder.
    """
    checkpoint = find_checkpoint(name)
    path = Path(folder) / checkpoint.file
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {name} is missing: {path} does not exist{_remedy(checkpoint)}.")
    state = _read_verified(checkpoint, path)
    model = create_model(checkpoint.model, checkpoint.num_classes)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"checkpoint {name}: {path} does not fit {checkpoint.model} "
            f"({_wrapped(state) or textwrap.shorten(str(error), 300)})."
        ) from error
    return model.eval()


def _wrapped(state: Mapping[str, Tensor]) -> str:
    """What to do about names that a wrapper put its own before, as DataParallel and torch.compile do; empty if none."""
    for prefix, wrapper in (("module.", "model.module"), ("_orig_mod.", "model._orig_mod")):
        if state and all(name.startswith(prefix) for name in state):
            return f"all names begin with {prefix!r}: save {wrapper}.state_dict(), or take that off the names"
    return ""


def download_checkpoint(name: str, folder: Path, opener: Callable[..., Any] = open_secure) -> Path:
    """Download the checkpoint `name` into `folder` (made if needed) and return its path.

    A file that is there and verifies is kept, without a connection. The download goes to a temporary file
    beside its destination and is moved into place only after its contents are verified, so an interrupted
    download leaves nothing behind.

    Raises:
        ValueError: the name is not in `PUBLIC`, or what came down is not the published file.
        ConnectionError: the server cannot be reached, or the connection broke.
    """
    checkpoint = find_checkpoint(name)
    folder = Path(folder)
    path = folder / checkpoint.file
    if path.is_file() and _is_verified(checkpoint, path):
        return path
    with replacing(path) as part:
        _download(checkpoint, part, opener)
        _read_verified(checkpoint, part)
    return path


def _is_verified(checkpoint: Checkpoint, path: Path) -> bool:
    try:
        _read_verified(checkpoint, path)
    except ValueError:
        return False
    return True


def _download(checkpoint: Checkpoint, part: Path, opener: Callable[..., Any]) -> None:
    with part.open("wb") as file:
        try:
            with opener(checkpoint.url, timeout=_TIMEOUT) as answer:
                shutil.copyfileobj(answer, file)
        except (ConnectionError, TimeoutError, urllib.error.URLError, http.client.HTTPException) as error:
            raise ConnectionError(
                f"checkpoint {checkpoint.name}: the download from {checkpoint.url} failed ({error})."
            ) from error
