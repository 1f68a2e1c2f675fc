"""Public trained networks: where they are, how they are fetched, how they are checked."""

import hashlib
import http.client
import io
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from kdlib.cache import replacing
from kdlib.models import Backbone, create_model

_RELEASES = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/resnet"
_TIMEOUT = 60.0  # seconds without an answer before a download fails


@dataclass(frozen=True)
class Checkpoint:
    """A published set of weights.

    contents: what `contents_hash` gives for it; it identifies the weights wherever they were saved again.
    top1: published accuracy on the 10,000 test images, percent.
    mean, std: the channel statistics its input is normalised with, after RGB / 255.
    """

    name: str
    model: str
    num_classes: int
    file: str
    url: str
    contents: str
    top1: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str


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
    )


#: The public checkpoints by name.
PUBLIC: Mapping[str, Checkpoint] = MappingProxyType(
    {
        checkpoint.name: checkpoint
        for checkpoint in (
            _cifar100_resnet(20, "23dac2f1", 68.83, "fabd66ad23cd65465560a0077e14ee31ceda7fa2fd4b1f8876c391ff5c2e691d"),
            _cifar100_resnet(32, "84213ce6", 70.16, "427c39a17cbc7c64da82a1ebe0a485630d5c72cce311d73154581eba68973af0"),
            _cifar100_resnet(44, "ffe32858", 71.63, "ec9699348b97d9b4008b4055542ea6f1759d65a7f882fa0d823bea2183b25e13"),
            _cifar100_resnet(56, "f2eff4c8", 72.63, "2ca6f9a4e6b74459aa240d7f87b70f0209fb57cc1d6242de8372471d726bbd73"),
        )
    }
)


def contents_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hexadecimal) of the tensors of a state dict, whatever file they came in.

    Per tensor, in the order of the sorted names: name, dtype and shape as text, then the values as
    little-endian bytes in row-major order. Saving the same weights again changes a file's bytes, not this.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous().numpy()
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {values.dtype.name} {list(values.shape)}\n".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def find_checkpoint(name: str) -> Checkpoint:
    """The public checkpoint called `name`; an unknown name raises ValueError."""
    if name not in PUBLIC:
        raise ValueError(f"checkpoint name {name!r} is unknown: allowed are {', '.join(PUBLIC)}.")
    return PUBLIC[name]


def _read_verified(checkpoint: Checkpoint, path: Path) -> dict[str, Tensor]:
    """The state dict in the file `path`, or ValueError if it does not hold exactly the published weights."""
    raw = path.read_bytes()
    try:
        state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        found = contents_hash(state)
    except Exception as error:  # damaged bytes make the unpickler raise almost any exception
        raise ValueError(
            f"checkpoint {checkpoint.name}: {path} cannot be read as a dict of tensors; "
            f"`python -m kdlib fetch {checkpoint.name}` replaces it."
        ) from error
    if found != checkpoint.contents:
        raise ValueError(
            f"checkpoint {checkpoint.name}: {path} does not hold the published weights "
            f"(contents hash {found}, expected {checkpoint.contents}); "
            f"`python -m kdlib fetch {checkpoint.name}` replaces it."
        )
    return state


def load_checkpoint(name: str, folder: Path) -> Backbone:
    """The trained network `name`, read from `folder`, on the CPU, float32, in evaluation mode.

    Raises:
        ValueError: the name is not in `PUBLIC`, or the file is damaged or holds other weights.
        FileNotFoundError: the file is not in the folder.
    """
    checkpoint = find_checkpoint(name)
    path = Path(folder) / checkpoint.file
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint {name} is missing: {path} does not exist; "
            f"`python -m kdlib fetch {name}` downloads it from {checkpoint.url}."
        )
    state = _read_verified(checkpoint, path)
    model = create_model(checkpoint.model, checkpoint.num_classes)
    model.load_state_dict(state, strict=True)
    return model.eval()


def download_checkpoint(name: str, folder: Path, opener: Callable[..., Any] = urllib.request.urlopen) -> Path:
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
