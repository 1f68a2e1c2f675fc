"""Files and folders that are there as a whole or not at all, whatever stops a program."""

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


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


def made_once(folder: Path, make: Callable[[Path], None]) -> None:
    """Sees to it that `folder` is there: on the first call, make(temporary folder) fills what is then moved in place.

    A second process waits for the first. What a killed one left is removed, and nothing stays of a `make` that raises.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.exists():
            return
        temporary = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            make(temporary)
        except BaseException:
            shutil.rmtree(temporary)
            raise
        temporary.replace(folder)


def check_room(folder: Path, size: int, what: str) -> None:
    """Raises OSError, in one sentence, if the disk of an existing folder has no room for `size` bytes of `what`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{what} needs {size / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} are free")
