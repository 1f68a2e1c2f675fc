"""Tensors that are slow to make, kept on disk under a name that says what they were made from."""

import os
import secrets
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdlib import paths


@contextmanager
def replacing(path: Path):
    """Yields a temporary path in the folder of `path`; on success it is moved over `path`, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def cached_tensors(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in NAME.safetensors of the cache folder, memory-mapped; made and written on the first call.

    `name` must change whenever the content would. A file that cannot be read is made again.
    """
    path = paths.cache_root() / f"{name}.safetensors"
    if path.exists():
        try:
            return load_file(path)
        except SafetensorError:
            path.unlink()
    tensors = make()
    with replacing(path) as temporary:
        save_file(tensors, temporary)
    return load_file(path)
