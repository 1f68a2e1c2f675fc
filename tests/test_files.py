"""Files and folders that are moved into place when whole."""

import errno
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from kdlib import files
from kdlib.files import check_room, made_once, replacing, writing

# Begins to make a folder, says so, and waits to be killed.
CHILD = """
import sys, time
from pathlib import Path
from kdlib.files import made_once
def make(temporary):
    (temporary / "half.txt").write_text("half")
    print("making", flush=True)
    time.sleep(120)
made_once(Path(sys.argv[1]), make)
"""


def test_replacing_moves_a_whole_file_into_place(tmp_path: Path):
    path = tmp_path / "deep" / "er" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("first")
        assert temporary.parent == path.parent and not path.exists()
    assert path.read_text() == "first"
    with replacing(path) as temporary:
        temporary.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second" and list(path.parent.iterdir()) == [path]


def test_replacing_keeps_the_old_file_and_cleans_up_after_an_error(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path):
    path = tmp_path / "file.txt"
    with replacing(path) as one, replacing(path) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


# --- folders that are made once


class Filler:
    """Fills a folder with one file and counts how often."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls, self.error = 0, error

    def __call__(self, temporary: Path) -> None:
        self.calls += 1
        assert temporary.is_dir() and not list(temporary.iterdir())
        (temporary / "file.txt").write_text("whole")
        if self.error:
            raise self.error


def assert_filled(folder: Path) -> None:
    """It is whole, and nothing but the file of its lock is beside it."""
    assert sorted(path.name for path in folder.iterdir()) == ["file.txt", "sums.json"]
    assert (folder / "file.txt").read_text() == "whole"
    assert [path for path in folder.parent.iterdir() if path.suffix != ".lock"] == [folder]


def test_a_folder_is_made_once(tmp_path: Path):
    folder, filler = tmp_path / "deep" / "er" / "key", Filler()

    def make(temporary: Path) -> None:
        filler(temporary)
        assert temporary.parent == folder.parent and not folder.exists()

    for _ in range(3):
        made_once(folder, make)
        assert_filled(folder)
    assert filler.calls == 1
    made_once(folder.with_name("other"), filler)
    assert filler.calls == 2


@pytest.mark.parametrize("error", [ValueError("no picture"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_nothing_is_left_of_a_folder_when_making_fails(tmp_path: Path, error: BaseException):
    folder = tmp_path / "key"
    with pytest.raises(type(error)):
        made_once(folder, Filler(error))
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    made_once(folder, Filler())
    assert_filled(folder)


def test_what_a_killed_process_left_is_removed(tmp_path: Path):
    folder, filler = tmp_path / "key", Filler()
    with subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "making\n"
        child.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.rglob("half.txt")] and not folder.exists()
    made_once(folder, filler)
    assert filler.calls == 1
    assert_filled(folder)


def test_a_second_caller_waits_for_the_first(tmp_path: Path):
    folder, filler = tmp_path / "key", Filler()
    begun, goes_on = Event(), Event()

    def slow(temporary: Path) -> None:
        begun.set()
        assert goes_on.wait(10)
        filler(temporary)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(made_once, folder, slow)
        assert begun.wait(10)
        second = pool.submit(made_once, folder, filler)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        goes_on.set()
        first.result(10), second.result(10)
    assert filler.calls == 1
    assert_filled(folder)


def test_room_is_checked_to_the_byte_and_said_in_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr("shutil.disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=2_500_000_000))
    check_room(tmp_path, 2_500_000_000, "a bank")
    with pytest.raises(OSError, match=f"^a bank needs 2.5 GB in {tmp_path}, where 2.5 are free$"):
        check_room(tmp_path, 2_500_000_001, "a bank")
    with pytest.raises(OSError, match="needs 1234.0 GB in"):
        check_room(tmp_path, 1_234_000_000_000, "a bank")
    assert asked == [tmp_path] * 3


def test_room_is_that_of_the_disk(tmp_path: Path):
    check_room(tmp_path, 1, "one byte")
    with pytest.raises(OSError, match="an exabyte needs"):
        check_room(tmp_path, 10**18, "an exabyte")


@pytest.mark.parametrize(
    "content", [b"", b"whol", b"whole!", b"vhole", None], ids=["empty", "cut", "longer", "one bit", "gone"]
)
@pytest.mark.parametrize("name", ["file.txt", "sums.json"])
def test_a_damaged_folder_is_named_and_made_again(tmp_path: Path, name: str, content: bytes | None):
    folder, filler = tmp_path / "key", Filler()
    made_once(folder, filler)
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.warns(UserWarning, match=rf"^{folder} is not used, and is made again: it has|^{folder} .*damaged"):
        made_once(folder, filler)
    assert filler.calls == 2
    assert_filled(folder)
    (folder / "more.txt").touch()
    with pytest.warns(UserWarning, match="has not the files that its sums.json names"):
        made_once(folder, filler)
    assert_filled(folder)


def test_a_good_folder_is_read_where_nothing_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on a disk that is read-only."""
    made_once(tmp_path / "key", Filler())
    monkeypatch.setattr(files, "FileLock", None)
    made_once(tmp_path / "key", Filler())


def test_of_a_very_large_file_the_size_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "WHOLE", 4)
    monkeypatch.setattr(files, "file_hash", None)
    folder, filler = tmp_path / "key", Filler()
    made_once(folder, filler)
    (folder / "file.txt").write_text("vhole")
    assert files.damaged(folder) is None
    (folder / "file.txt").write_text("whol!!")
    assert "file.txt is damaged" in files.damaged(folder)


# --- disks that are full


def rationed(limit: int, write) -> None:
    """Calls write() while no file may grow beyond `limit` bytes: a real failure, which libraries name as they like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 1000, 40_000, 99_000])
@pytest.mark.parametrize(
    ("save", "failure"),
    [
        (lambda path: torch.save({"x": torch.zeros(25_000)}, path), RuntimeError),
        (lambda path: save_file({"x": torch.zeros(25_000)}, path), SafetensorError),
        (lambda path: path.write_bytes(bytes(100_000)), OSError),
    ],
    ids=["torch", "safetensors", "bytes"],
)
def test_what_cannot_be_written_is_one_sentence_and_leaves_what_was_there(tmp_path: Path, save, failure, limit: int):
    path = tmp_path / "file.bin"
    path.write_text("old")

    def write():
        with writing(path, "make room", failure) as temporary:
            save(temporary)

    with pytest.raises(OSError, match=rf"^{path} cannot be written \(.+\): make room$") as caught:
        rationed(limit, write)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250 + len(str(path))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write()
    assert path.stat().st_size >= 100_000


def test_other_errors_stay_as_they_are(tmp_path: Path):
    with pytest.raises(KeyError), writing(tmp_path / "file", "make room", RuntimeError):
        raise KeyError("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_so(tmp_path: Path, code: int):
    with (
        pytest.raises(OSError, match=r"\(no space left on the disk\): make room$"),
        writing(tmp_path / "x", "make room"),
    ):
        raise OSError(code, "whatever")
    with pytest.raises(OSError, match=rf"^{tmp_path / 'key'} cannot be written \(no space left on the disk\): "):
        made_once(tmp_path / "key", Filler(OSError(code, "whatever")))
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_full_disk_is_known_by_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """torch's error says nothing of space."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(OSError, match="no space left on the disk"), writing(tmp_path / "x", "make room", RuntimeError):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 94720 vs 94616")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    said = r"file/x cannot be written \((File exists|Not a directory)\): make room"
    with pytest.raises(OSError, match=said), writing(tmp_path / "file" / "x", "make room"):
        raise AssertionError
