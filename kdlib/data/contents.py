"""What image files hold, as one hash: names, sizes and times may be those of other pixels."""

import contextlib
import hashlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from kdlib.data import paths
from kdlib.data.listing import Listing, shown
from kdlib.files import replacing

GROUP = 100  # files that one thread reads in a row
SETTLED = 2.0  # seconds: a file that changed so shortly before may change again without another time
DIGITS = re.compile("[0-9a-f]{64}")


def contents_of(listing: Listing) -> str:
    """64 hex digits of SHA-256 over label and content of each file, in order, whatever the files are called.

    Files are read once: the hash is remembered, in the cache folder, under real paths, sizes, inodes and times of all
    of them. Among the times is that of the last change of the inode, which no program can set: a file that was changed
    and then dated back is read again. Raises ValueError if a file cannot be read.
    """
    began = time.time()
    stamp, newest = _stamp(listing)
    memory = paths.cache_root() / f".contents-{stamp[:32]}"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if DIGITS.fullmatch(known := memory.read_text()):
            return known
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # reads and hashes outside the interpreter lock
        groups = [listing.real[i : i + GROUP] for i in range(0, len(listing.real), GROUP)]
        contents = chain.from_iterable(pool.map(lambda group: [_hash(path) for path in group], groups))
        for (_, label), content in zip(listing.samples, contents, strict=True):
            digest.update(f"{label} {content}\n".encode())
    if newest < began - SETTLED:
        with contextlib.suppress(OSError), replacing(memory) as temporary:  # a full cache may be read-only
            temporary.write_text(digest.hexdigest())
    return digest.hexdigest()


def _stamp(listing: Listing) -> tuple[str, float]:
    """A hash of what the file system says of the files, and the time in seconds when the last of them changed."""
    digest, newest = hashlib.sha256(), 0.0
    for path, (_, label) in zip(listing.real, listing.samples, strict=True):
        try:
            stat = Path(path).stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        facts = (label, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        digest.update(os.fsencode(path) + f"|{facts}\n".encode())
        newest = max(newest, stat.st_ctime)
    return digest.hexdigest(), newest


def _hash(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> ValueError:
    return ValueError(f"data file {shown(path)} cannot be read ({error.strerror})")
