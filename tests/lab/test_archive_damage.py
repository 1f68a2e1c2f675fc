"""Archives under kills, cuts, flipped bits, names that lead elsewhere and full disks: nothing is half placed."""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import stat
import warnings
import zipfile
from pathlib import Path

import pytest

from kdlib.lab import archives
from kdlib.lab.archives import MANIFEST, pack, unpack
from kdlib.lab.checkpoints import read_checkpoint, write
from kdlib.lab.results import CHECKPOINT
from kdlib.lab.runs import execute
from kdlib.lab.store import Store

pytestmark = pytest.mark.usefixtures("isolated")
SHORT = {"views_per_step": 32, "views_per_image": 2, "evaluations": 1}


class HaltError(Exception):
    pass


@pytest.fixture
def packed(make_spec, isolated, monkeypatch) -> Path:
    """An archive of a finished run with a head, its teacher, and a run at a checkpoint; the store that it is of."""
    head = make_spec(recipe=SHORT, method="sskd_teacher", teacher=make_spec(recipe=SHORT))
    for spec in (head.teacher, head):
        execute(spec, "smoke")

    def halt(done: int, total: int) -> None:
        raise HaltError

    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(HaltError):
        execute(make_spec(seed=1), "smoke", halt)
    pack(Store("smoke"), isolated / "runs.zip", unfinished=True)
    return isolated / "runs.zip"


def tree(folder: Path) -> dict[str, bytes]:
    """Name -> content of the files of runs, in folders that a store looks at."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    named = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: content for name, content in named.items() if not name.startswith(".")}


def assert_nothing_half(folder: Path, whole: dict[str, bytes]) -> None:
    """What a store finds of a run there is sound: all of it, or its weights alone, which count for nothing."""
    store = Store("smoke")
    for run in (path for path in folder.glob("*") if not path.name.startswith(".")):
        files = {f"{run.name}/{path.name}": path.read_bytes() for path in run.iterdir()}
        assert files.items() <= whole.items()
        if f"{run.name}/result.json" in files:
            assert files.keys() == {name for name in whole if name.startswith(run.name)}
    for result in store.results_of_runs():
        assert store.network(result.spec, "float32", head=True) is not None


# --- kills

MOMENTS = ("open", "replace", "mkdir")  # calls of Path, before each of which a process is killed


def killed(call: str, moment: int, *arguments: str) -> int:
    """Packs or unpacks in a process that is killed before its file operation `moment`; its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kdlib.lab.archives"])
    process = context.Process(target=_killed, args=(call, moment, dict(os.environ), *arguments))
    process.start()
    process.join(120)
    return process.exitcode


def _killed(call: str, moment: int, environment: dict[str, str], file: str) -> None:
    os.environ.update(environment)
    count = iter(range(10_000))

    def dying(operation):
        def do(*arguments, **named):
            if next(count) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **named)

        return do

    for name in MOMENTS:
        setattr(Path, name, dying(getattr(Path, name)))
    zipfile.ZipFile.writestr = dying(zipfile.ZipFile.writestr)
    if call == "pack":
        pack(Store("smoke"), Path(file), unfinished=True)
    else:
        unpack(Path(file))


@pytest.mark.parametrize("moment", [1, 12, 25, 27, 29, pytest.param(None, marks=pytest.mark.slow)])
def test_unpacking_that_is_killed_places_whole_runs_and_goes_on(packed, elsewhere, tried, moment):
    """slow: before every single operation."""
    whole, codes = tree(Store("smoke").runs), []
    whole = {name: content for name, content in whole.items() if not name.endswith(".old.pt")}
    for at in range(100) if moment is None else [moment]:
        folder = elsewhere(f"laptop {at}")
        codes.append(killed("unpack", at, str(packed)))
        assert_nothing_half(folder, whole)
        unpack(packed)
        assert tree(folder) == whole
        assert not list(folder.glob(".unpacked-*"))
        if codes[-1] == 0:
            break
    assert codes[:-1] == [-signal.SIGKILL] * (len(codes) - 1) and codes[-1] in (0, -signal.SIGKILL)
    assert moment is None or codes == [-signal.SIGKILL], "it had ended before"
    tried("kills", "unpacking an archive", whole_when_started_again=sum(code != 0 for code in codes))


@pytest.mark.parametrize("moment", [1, 5, 9, 11, pytest.param(None, marks=pytest.mark.slow)])
def test_packing_that_is_killed_leaves_the_archive_that_was_there(packed, isolated, tried, moment):
    before, store = packed.read_bytes(), tree(Store("smoke").runs)
    for at in range(200) if moment is None else [moment]:
        code = killed("pack", at, str(packed))
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
        assert packed.read_bytes() == before and tree(Store("smoke").runs) == store
        tried("kills", "packing an archive", old_one_stayed=1)
    assert (code == 0) == (moment is None)
    pack(Store("smoke"), packed, unfinished=True)
    assert zipfile.ZipFile(packed).testzip() is None


# --- damage


def refused_or_whole(file: Path, content: bytes, folder: Path, whole: dict[str, bytes]) -> bool:
    """Whether such an archive is refused, without a trace; else it brought all."""
    file.write_bytes(content)
    try:
        unpack(file)
    except ValueError as error:
        assert tree(folder) == {} and not list(folder.glob(".unpacked-*")) and "\n" not in str(error)
        return True
    assert tree(folder) == whole
    shutil.rmtree(folder)
    return False


@pytest.mark.parametrize("places", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_cuts_and_flipped_bits_at_many_places_place_nothing(packed, elsewhere, isolated, generator, tried, places):
    content, whole = packed.read_bytes(), tree(Store("smoke").runs)
    whole = {name: raw for name, raw in whole.items() if not name.endswith(".old.pt")}
    folder, bad = elsewhere("laptop"), isolated / "bad.zip"
    for cut in {0, 1, len(content) - 1, *generator.integers(len(content), size=places).tolist()}:
        assert refused_or_whole(bad, content[:cut], folder, whole), cut
        tried("damage", "archives", refused=1)
    ends = [*range(40), *range(len(content) - 60, len(content), 3)]
    for place in [*ends, *generator.integers(len(content), size=places).tolist()]:
        flipped = content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        refused = refused_or_whole(bad, flipped, folder, whole)
        tried("damage", "archives", refused=refused, without_effect=not refused)


def test_a_damaged_run_of_the_store_stops_unpacking_before_anything_is_placed(packed, elsewhere, make_spec):
    folder = elsewhere("laptop")
    (folder / make_spec(seed=1).key).mkdir(parents=True)
    (folder / make_spec(seed=1).key / CHECKPOINT).write_bytes(b"half")
    before = tree(folder)
    with pytest.raises(ValueError, match="is corrupt: delete it"):
        unpack(packed)
    assert tree(folder) == before


@pytest.mark.parametrize("name", ["weights.safetensors", CHECKPOINT])
def test_a_sound_file_that_is_not_the_one_that_was_packed_is_refused(packed, elsewhere, make_spec, isolated, name):
    """An archive that was made anew, whose own sums fit: only the manifest knows."""
    spec = make_spec(seed=1) if name == CHECKPOINT else make_spec(recipe=SHORT)
    execute(make_spec(seed=2), "smoke")
    other = Store("smoke").folder(make_spec(seed=2)) / name
    if name == CHECKPOINT:
        content = read_checkpoint(Store("smoke").folder(spec) / name, "cpu")
        write(content | {"state": content["state"] | {"step": 2}}, other)
    with zipfile.ZipFile(packed) as before, zipfile.ZipFile(isolated / "again.zip", "w") as after:
        for entry in before.namelist():
            own = entry != f"{spec.key}/{name}"
            after.writestr(entry, before.read(entry) if own else other.read_bytes())
    folder = elsewhere("laptop")
    with pytest.raises(ValueError, match=f"{spec.key}/{name} is not what was packed"):
        unpack(isolated / "again.zip")
    assert tree(folder) == {}


@pytest.mark.parametrize("name", ["result.json", "weights.safetensors", "head.safetensors", CHECKPOINT])
def test_what_is_damaged_is_not_packed(packed, tried, name):
    for path in Store("smoke").runs.glob(f"*/{name}"):
        raw = path.read_bytes()
        path.write_bytes(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
        path.with_name("checkpoint.old.pt").unlink(missing_ok=True)
    before = packed.read_bytes()
    with pytest.raises(ValueError, match="corrupt|damaged"):
        pack(Store("smoke"), packed, unfinished=True)
    assert packed.read_bytes() == before
    tried("damage", "files of runs that are packed", refused=1)


def test_the_checkpoint_before_a_damaged_one_is_packed(packed, elsewhere, make_spec, monkeypatch):
    spec = make_spec(seed=1)

    def halt(done: int, total: int) -> None:
        if done == 3:
            raise HaltError

    with pytest.raises(HaltError):
        execute(spec, "smoke", halt)
    (Store("smoke").folder(spec) / CHECKPOINT).write_bytes(b"half")
    with pytest.warns(UserWarning, match="goes on from the one before it"):
        pack(Store("smoke"), packed, unfinished=True)
    folder = elsewhere("laptop")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unpack(packed)
    assert read_checkpoint(folder / spec.key / CHECKPOINT, "cpu")["state"]["step"] == 2


# --- names

KEY = "0" * 16


@pytest.mark.parametrize(
    "name",
    ["../result.json", f"../{KEY}/result.json", f"{KEY}/../result.json", "/tmp/result.json", f"/{KEY}/result.json",
     f"{KEY}/./result.json", f"{KEY}\\result.json", f"C:\\{KEY}\\result.json", f"{KEY}/result.json/",
     f"./{KEY}/result.json", f"{KEY}/RESULT.JSON", f"{'A' * 16}/result.json", f"{KEY}/Result.json",
     f"{KEY}/result.json\n", f"{KEY}/.result.json", f".locks/{KEY}", f"{KEY}/checkpoint.old.pt",
     f"{KEY}//result.json", "result.json", f"{KEY}/sub/result.json"],
)  # fmt: skip
def test_no_name_leads_elsewhere(name, isolated, elsewhere, tried):
    file, folder = isolated / "lent" / "runs.zip", elsewhere("laptop")
    file.parent.mkdir()
    manifest = {"format": "kdlib runs 1", "profile": "smoke", "files": {name: hashlib.sha256(b"x").hexdigest()}}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
        archive.writestr(MANIFEST, json.dumps(manifest))
    before = sorted(isolated.rglob("*"))
    with pytest.raises(ValueError, match="is no archive of kdlib pack: .* does not belong there") as refusal:
        unpack(file)
    assert "\n" not in str(refusal.value)
    assert sorted(isolated.rglob("*")) == before and not folder.exists()
    tried("attacks", "names in archives that lead elsewhere", refused=1)


def test_a_link_in_an_archive_is_no_link(isolated, elsewhere):
    """What would be its target is the content of a file, and no result."""
    file, folder = isolated / "runs.zip", elsewhere("laptop")
    name, target = f"{KEY}/result.json", str(isolated / "secret").encode()
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    manifest = {"format": "kdlib runs 1", "profile": "smoke", "files": {name: hashlib.sha256(target).hexdigest()}}
    (isolated / "secret").write_text("{}")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(entry, target)
        archive.writestr(MANIFEST, json.dumps(manifest))
    with pytest.raises(ValueError, match="is corrupt"):
        unpack(file)
    assert tree(folder) == {} and not [path for path in folder.rglob("*") if path.is_symlink()]


# --- full disks


@pytest.mark.parametrize("moment", [0, 3, 5])
def test_a_disk_that_fills_up_while_it_is_unpacked_gets_nothing(packed, elsewhere, monkeypatch, moment):
    """Whatever the check before had said."""
    folder, write, count = elsewhere("laptop"), Path.write_bytes, iter(range(100))

    def full(path: Path, content: bytes) -> int:
        if next(count) == moment:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(
            OSError, match=r"cannot be written \(no space left on the disk\): make room, and unpack"
        ) as e:
            unpack(packed)
    assert "\n" not in str(e.value) and tree(folder) == {} and not list(folder.glob(".unpacked-*"))
    assert unpack(packed).finished == 2


def test_a_disk_that_fills_up_while_it_is_packed_leaves_the_old_archive(packed, isolated, monkeypatch):
    before = packed.read_bytes()

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match=r"runs.zip cannot be written \(no space left on the disk\): make room, or name"):
        pack(Store("smoke"), packed)
    assert packed.read_bytes() == before and not list(isolated.glob(".runs.zip.*"))
