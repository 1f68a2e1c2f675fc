"""Tensors that are slow to make, kept on disk under a name that says what they were made from."""

import warnings
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdlib.data import paths
from kdlib.files import writing
from kdlib.models.checkpoints import contents_hash

SUM = "sha256"  # in the metadata of a file


def cached_tensors(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in NAME.safetensors of the cache folder, memory-mapped; made and written on the first call.

    `name` must change whenever the content would. A damaged file is made again, with a warning that names it. Raises
    OSError, in one sentence, if there is no room for it.
    """
    path = paths.cache_root() / f"{name}.safetensors"
    if path.exists():
        if (tensors := _read(path)) is not None:
            return tensors
        warnings.warn(f"cache file {path} is damaged: it is not used, and is made again", stacklevel=2)
    tensors = make()
    with writing(path, "make room, or point KDLIB_CACHE at a folder on another disk", SafetensorError) as temporary:
        save_file(tensors, temporary, {SUM: contents_hash(tensors)})
    return load_file(path)


def _read(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file, if they have the hash that it names."""
    try:
        with safe_open(path, "pt") as file:
            expected = (file.metadata() or {}).get(SUM)
        tensors = load_file(path)
    except (SafetensorError, OSError):  # OSError: an empty file cannot be mapped
        return None
    return tensors if contents_hash(tensors) == expected else None
