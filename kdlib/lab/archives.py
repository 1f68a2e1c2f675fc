"""What a machine has run, as one file with which another goes on: results, weights, checkpoints.

The file is a ZIP archive of KEY/FILE as a store has them, and of a manifest with a hash of each. All of it is looked
through before anything is placed, and what the store has stays.
"""

import errno
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from filelock import FileLock

from kdlib.choices import PROFILES
from kdlib.files import check_room, unwritten, writing
from kdlib.lab.checkpoints import newest_checkpoint
from kdlib.lab.results import CHECKPOINT, FINISHED, OLDER, RESULT, WEIGHTS, RunResult
from kdlib.lab.store import Store, read_placed, weights_of
from kdlib.records import Record

MANIFEST = "manifest.json"
UNPACKED = ".unpacked-"  # how folders are called that are not yet placed
ENCRYPTED = 1  # a bit of the flags of a ZIP archive's entry
KEY = re.compile("[0-9a-f]{16}")
NAME = re.compile(rf"{KEY.pattern}/({'|'.join(map(re.escape, (*FINISHED, CHECKPOINT)))})")


class Manifest(Record):
    """What an archive says of itself."""

    #: the layout, with its version
    format: Literal["kdlib runs 1"] = "kdlib runs 1"
    #: of which store
    profile: Literal[PROFILES]
    #: KEY/FILE -> its SHA-256, in hexadecimal digits
    files: dict[str, str]


@dataclass
class Count:
    """How many runs an archive has, or brought."""

    #: whose store it is
    profile: str
    #: runs and measurements with a result
    finished: int = 0
    #: runs at a checkpoint
    unfinished: int = 0
    #: those that the store had, or had further
    there: int = 0
    #: of those, the ones whose results have other bits
    differ: int = 0


def pack(store: Store, target: Path, unfinished: bool = False) -> Count:
    """Writes everything finished that a store's own folder holds to one archive, whole or not at all.

    unfinished: also the checkpoints of runs that are not finished. Raises ValueError if there is nothing to pack, or if
    a result is damaged.
    """
    count, hashes = Count(store.profile), {}
    remedy = "make room, or name a file on another disk"
    with writing(target, remedy) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for folder in sorted(path for path in store.runs.glob("*") if KEY.fullmatch(path.name)):
            files = _contents(folder, unfinished)
            for name, content in files.items():
                hashes[f"{folder.name}/{name}"] = hashlib.sha256(content).hexdigest()
                archive.writestr(f"{folder.name}/{name}", content)
            count.finished += RESULT in files
            count.unfinished += CHECKPOINT in files
        if not hashes:
            raise ValueError(f"{store.runs} holds no finished run: there is nothing to pack")
        archive.writestr(MANIFEST, Manifest(profile=store.profile, files=hashes).model_dump_json(indent=1))
    return count


def _contents(folder: Path, unfinished: bool) -> Mapping[str, bytes]:
    """Name -> content of what is packed of a run's folder: all of a finished one, or the checkpoint, or nothing."""
    if (folder / RESULT).exists():
        read_placed(folder / RESULT)  # refuses a damaged one
        if (folder / WEIGHTS).exists():
            weights_of(folder)  # and damaged weights
        return {name: (folder / name).read_bytes() for name in FINISHED if (folder / name).exists()}
    if not unfinished:
        return {}
    try:
        found = newest_checkpoint(folder, "cpu")  # refuses damaged ones
        return {CHECKPOINT: found[0].read_bytes()} if found else {}
    except FileNotFoundError:  # the run has ended since
        return _contents(folder, False)


def unpack(source: Path) -> Count:
    """Places what an archive holds in the store of its profile; what the store has, or has further, stays as it is.

    A run is placed as a whole or not at all, whatever stops this; the same call then brings the rest.

    Raises ValueError, before anything is placed, if the file is no archive of `pack`, or is damaged; OSError, in one
    sentence, if the disk is full.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = _manifest(archive, source)
            store = Store(manifest.profile)
            with _alone(store):
                check_room(store.runs, sum(entry.file_size for entry in archive.infolist()), f"archive {source}")
                with TemporaryDirectory(dir=store.runs, prefix=UNPACKED) as folder:
                    for name, digest in manifest.files.items():
                        _extract(archive, name, digest, Path(folder) / name)
                    return _place_all(Path(folder), store)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError) as error:  # what zipfile raises for damage
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: an entry that begins before the file
            raise
        raise ValueError(f"file {source} is no whole archive of kdlib pack: {error}") from error


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Waits for others that unpack into a store; what they left that were killed is removed."""
    path = store.runs / ".locks" / "unpack"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            for left in store.runs.glob(f"{UNPACKED}*"):
                shutil.rmtree(left)
            yield
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # it is a sentence, or the archive's fault
            raise
        raise unwritten(store.runs / "KEY", "make room, and unpack again", error) from error


def _manifest(archive: zipfile.ZipFile, source: Path) -> Manifest:
    """The manifest of an archive that has all it names, stored as they are, and nothing else."""
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ENCRYPTED for entry in archive.infolist()):
        raise ValueError(f"file {source} is no archive of kdlib pack: those are neither compressed nor encrypted")
    try:
        manifest = Manifest(**json.loads(archive.read(MANIFEST)))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"file {source} is no archive of kdlib pack: {error}") from error
    odd = set(archive.namelist()) ^ {*manifest.files, MANIFEST} | {n for n in manifest.files if not NAME.fullmatch(n)}
    if odd:
        raise ValueError(
            f"file {source} is no archive of kdlib pack: {min(odd)!r} does not belong there, or is missing"
        )
    return manifest


def _extract(archive: zipfile.ZipFile, name: str, digest: str, target: Path) -> None:
    """Writes one file of an archive to `target` if it has its hash."""
    content = archive.read(name)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"archive {archive.filename} is damaged: {name} is not what was packed")
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)


def _place_all(unpacked: Path, store: Store) -> Count:
    """Moves the folders of an unpacked archive into a store, once each has been found to be sound."""
    count, new = Count(store.profile), []
    for folder, found in _checked(unpacked):
        target = store.runs / folder.name
        finished, is_result = (target / RESULT).exists(), isinstance(found, RunResult)
        if finished or not is_result and _steps(target) >= found:
            count.there += 1
            count.differ += is_result and read_placed(target / RESULT).bits != found.bits
        else:
            new.append((folder, target))
            count.finished += is_result
            count.unfinished += not is_result
    for folder, target in new:  # only now, since what the store has may be damaged too
        _place(folder, target)
    return count


def _checked(unpacked: Path) -> Iterator[tuple[Path, RunResult | int]]:
    """Folder of each run of an unpacked archive, with its result, or with the steps that its checkpoint is after."""
    for folder in sorted(unpacked.iterdir()):
        names = {path.name for path in folder.iterdir()}
        if names == {CHECKPOINT}:
            yield folder, _steps(folder)
        elif RESULT in names and CHECKPOINT not in names:
            yield folder, read_placed(folder / RESULT)
        else:
            raise ValueError(f"the files of run {folder.name} are {', '.join(sorted(names))}: that is no whole run")


def _steps(folder: Path) -> int:
    """How many steps the checkpoint in a run's folder is after; -1 without one. Raises ValueError if it is damaged."""
    found = newest_checkpoint(folder, "cpu")
    if found is None:
        return -1
    path, content = found
    try:
        key, step = content["key"], content["state"]["step"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"checkpoint {path} is corrupt: delete it to start anew") from error
    if key != folder.name:
        raise ValueError(f"checkpoint {path} is that of run {key}: it was moved, delete it")
    return step


def _place(folder: Path, target: Path) -> None:
    """Moves the files of a run into the store, the result last; a checkpoint that it makes needless goes."""
    target.mkdir(exist_ok=True)
    for name in (CHECKPOINT, *FINISHED):
        if (folder / name).exists():
            (folder / name).replace(target / name)
    for name in (CHECKPOINT, OLDER) if (target / RESULT).exists() else ():
        (target / name).unlink(missing_ok=True)
