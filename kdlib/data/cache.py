"""Tensors that are slow to make, kept on disk under a name that says what they were made from."""

from collections.abc import Callable

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdlib.data import paths
from kdlib.files import writing


def cached_tensors(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in NAME.safetensors of the cache folder, memory-mapped; made and written on the first call.

    `name` must change whenever the content would. A file that cannot be read is made again. Raises OSError, in one
    sentence, if there is no room for it.
    """
    path = paths.cache_root() / f"{name}.safetensors"
    if path.exists():
        try:
            return load_file(path)
        except SafetensorError:
            path.unlink()
    tensors = make()
    with writing(path, "make room, or point KDLIB_CACHE at a folder on another disk", SafetensorError) as temporary:
        save_file(tensors, temporary)
    return load_file(path)
