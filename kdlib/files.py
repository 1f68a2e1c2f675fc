"""Files and folders that are there as a whole or not at all, whatever stops a program."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

LITTLE = 2**20  # bytes: a disk with less is full
SUMS = "sums.json"  # what a folder of `made_once` holds: name -> [size, SHA-256]
WHOLE = 2**34  # bytes: a larger file is compared by its size alone


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


@contextmanager
def writing(path: Path, remedy: str, *failures: type[Exception]) -> Iterator[Path]:
    """`replacing`, around what does nothing but write: whatever stops it becomes OSError, in one sentence.

    remedy: what to do about it; failures: what the library that writes raises instead of OSError.
    """
    expected: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        with replacing(path) as temporary:
            yield temporary
    except expected as error:
        raise unwritten(path, remedy, error) from error


def unwritten(path: Path, remedy: str, error: Exception) -> OSError:
    """What is to be said of a file or folder that could not be written."""
    reason = "no space left on the disk" if is_full(path.parent, error) else getattr(error, "strerror", None)
    reason = reason or textwrap.shorten(str(error), 160) or type(error).__name__
    return OSError(f"{path} cannot be written ({reason}): {remedy}")


def is_full(folder: Path, error: Exception) -> bool:
    """Whether an error in writing to a folder is that of a full disk, whatever a library made of it."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:
        return shutil.disk_usage(folder).free < LITTLE
    except OSError:  # the folder is what could not be made
        return False


def made_once(folder: Path, make: Callable[[Path], None]) -> None:
    """Sees to it that `folder` is there and whole: on the first call, make(temporary folder) fills what is then moved
    in place, with the hash of each file.

    A second process waits for the first. What a killed one left is removed, and nothing stays of a `make` that raises.
    A folder that is not what was made is made again, with a warning that names it. Raises OSError, in one sentence, if
    the disk is full.
    """
    if folder.exists() and damaged(folder) is None:  # without the lock, which a read-only disk has no place for
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.exists():
            if (fault := damaged(folder)) is None:
                return
            warnings.warn(f"{folder} is not used, and is made again: {fault}", stacklevel=2)
        temporary = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            make(temporary)
            (temporary / SUMS).write_text(json.dumps(_sums(temporary), indent=1) + "\n")
        except BaseException as error:
            shutil.rmtree(temporary)
            if isinstance(error, OSError) and error.errno and is_full(folder.parent, error):  # else it is a sentence
                raise unwritten(folder, "make room, or choose a folder on another disk", error) from error
            raise
        shutil.rmtree(folder, ignore_errors=True)  # what is mapped stays as it is
        temporary.replace(folder)


def damaged(folder: Path) -> str | None:
    """What is wrong with a folder of `made_once`, in words; None if it is as it was made.

    Of a file beyond WHOLE bytes only the size is compared: to read it all would take longer than what it is for.
    """
    try:
        expected = json.loads((folder / SUMS).read_text())
        found = _sums(folder)
    except (OSError, ValueError):
        return f"it has no readable {SUMS}, which says what it holds"
    if not isinstance(expected, dict) or expected.keys() != found.keys():
        return f"it has not the files that its {SUMS} names"
    bad = [name for name in found if found[name] != expected[name]]
    return f"{bad[0]} is damaged, it is not what was written" if bad else None


def _sums(folder: Path) -> dict[str, list]:
    """Name -> [size, SHA-256] of each file in a folder but SUMS; None for the hash of a very large one."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return {
        path.name: [path.stat().st_size, file_hash(path) if path.stat().st_size <= WHOLE else None] for path in files
    }


def file_hash(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits; it is not read into memory at once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_room(folder: Path, size: int, what: str) -> None:
    """Raises OSError, in one sentence, if the disk of an existing folder has no room for `size` bytes of `what`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(f"{what} needs {size / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} are free")
