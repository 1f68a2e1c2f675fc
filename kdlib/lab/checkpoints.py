"""Checkpoints: what a run goes on from after it was stopped, however that was.

A file begins with the SHA-256 of the rest, and the one before it stays beside it. Where the newest is damaged the run
goes on from that one, to the same bits. What a file holds is looked at only once its hash is right, and then without
running any of it.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from kdlib.files import writing
from kdlib.lab.results import CHECKPOINT, OLDER, REMEDY

MARK = b"kdlib checkpoint 2\n"
DIGITS = 64  # of a SHA-256 in hexadecimal
UNMARKED = b"PK"  # how a file of torch.save begins, which is what checkpoints once were


def save_checkpoint(content: dict[str, Any], folder: Path) -> None:
    """A run's new checkpoint, moved into place when whole; the last one stays beside it.

    One that is damaged is not kept in place of a good one. Raises OSError, in one sentence, if it cannot be written.
    """
    newest = folder / CHECKPOINT
    with writing(newest, REMEDY) as temporary:
        write(content, temporary)
        if is_whole(newest):
            newest.replace(folder / OLDER)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same, each in memory of its own layout, as files hold them."""
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Weights, whole or not at all. Raises OSError, in one sentence, if they cannot be written."""
    with writing(path, REMEDY, SafetensorError) as temporary:
        save_file(tensors, temporary)


def write(content: dict[str, Any], path: Path) -> None:
    """One file, with its hash."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with path.open("wb") as file:
        file.write(MARK + hashlib.sha256(buffer.getbuffer()).hexdigest().encode() + b"\n")
        file.write(buffer.getbuffer())


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is there and has the hash that it begins with."""
    return path.exists() and _content(path.read_bytes()) is not None


def _content(raw: bytes) -> memoryview | None:
    """What follows the hash of a file, if it has that hash."""
    start = len(MARK) + DIGITS + 1
    rest = memoryview(raw)[start:]
    head = MARK + hashlib.sha256(rest).hexdigest().encode() + b"\n"
    return rest if raw[:start] == head else None


def read_checkpoint(path: Path, device: str) -> dict[str, Any]:
    """What a checkpoint holds, with its tensors on a device. Raises ValueError if it is damaged."""
    raw = path.read_bytes()
    if raw.startswith(UNMARKED):
        raise ValueError(
            f"checkpoint {path} is of an older version of this program, without a hash: go on with that version, or "
            "delete it to start anew"
        )
    rest = _content(raw)
    try:
        if rest is not None:
            return torch.load(io.BytesIO(rest), map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:  # it was made with the right hash
        raise _corrupt(path) from error
    raise _corrupt(path)


def _corrupt(path: Path) -> ValueError:
    return ValueError(f"checkpoint {path} is corrupt: delete it to start anew")


def newest_checkpoint(folder: Path, device: str) -> tuple[Path, dict[str, Any]] | None:
    """The newest good checkpoint of a run, and what it holds; None where there is none at all.

    Warns of a damaged one that the one before it stands in for. Raises ValueError if no good one is left.
    """
    files = [folder / name for name in (CHECKPOINT, OLDER) if (folder / name).exists()]
    if not files:
        return None
    newest, *before = files
    try:
        return newest, read_checkpoint(newest, device)
    except ValueError as error:
        if not before or not is_whole(before[0]):
            raise
        content = read_checkpoint(before[0], device)
        said = str(error).partition(":")[0]
        warnings.warn(f"{said}: the run goes on from the one before it, {before[0]}", stacklevel=2)
        return before[0], content
