"""The identity of a set: its labels and the bytes of its files, read once."""

import os
import time
from pathlib import Path

import pytest

from kdlib.data import contents, paths
from kdlib.data.contents import contents_of
from kdlib.data.listing import list_images

CONTENT = {"a/0.png": b"zero", "a/1.png": b"one!", "b/2.png": b"two!"}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KDLIB_CACHE", str(tmp_path / "cache"))


def write(root: Path, content: dict[str, bytes]) -> Path:
    for name, value in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(value)
    return root


def mark(root: Path) -> str:
    return contents_of(list_images(root))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read. Time goes by so fast that files settle at once."""
    read, original = [], contents._hash
    monkeypatch.setattr(contents, "_hash", lambda path: read.append(path) or original(path))
    monkeypatch.setattr(contents, "SETTLED", -60.0)
    return read


def test_equal_contents_are_equal_whatever_they_are_called(tmp_path: Path):
    one, two = write(tmp_path / "one", CONTENT), write(tmp_path / "two", CONTENT)
    for i, name in enumerate(CONTENT):
        os.utime(two / name, ns=(0, i))
    (two / "a").rename(two / "aa")
    assert mark(one) == mark(two)


@pytest.mark.parametrize(
    "other",
    [
        CONTENT | {"a/1.png": b"One!"},
        {"a/0.png": b"one!", "a/1.png": b"zero", "b/2.png": b"two!"},
        {"a/0.png": b"zero", "b/1.png": b"one!", "b/2.png": b"two!"},
        CONTENT | {"b/3.png": b""},
        {"a/0.png": b"zeroone!", "b/2.png": b"two!"},
        {"b/0.png": b"zero", "b/1.png": b"one!", "a/2.png": b"two!"},
    ],
    ids=["a byte", "order", "a label", "one more", "joined", "labels exchanged"],
)
def test_other_contents_are_other(tmp_path: Path, other: dict[str, bytes]):
    assert mark(write(tmp_path / "one", CONTENT)) != mark(write(tmp_path / "two", other))


def test_files_are_read_once(tmp_path: Path, counted: list[str]):
    root = write(tmp_path / "set", CONTENT)
    assert mark(root) == mark(root) and len(counted) == 3


def test_a_file_that_was_dated_back_is_read_again(tmp_path: Path, counted: list[str]):
    root = write(tmp_path / "set", CONTENT)
    file, before = root / "a/1.png", mark(root)
    times = file.stat()
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    file.write_bytes(b"eno!")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (times.st_size, times.st_mtime_ns, times.st_ino)
    assert mark(root) != before and len(counted) == 6


def test_what_has_just_changed_is_not_remembered(tmp_path: Path):
    """Within one tick of the clock a file can change again and keep all of its times."""
    mark(write(tmp_path / "set", CONTENT))
    assert not paths.cache_root().exists()


@pytest.mark.parametrize("damage", [b"", b"0" * 63, b"g" * 64, b"\xff" * 64])
def test_a_damaged_memory_is_not_believed(tmp_path: Path, counted: list[str], damage: bytes):
    root = write(tmp_path / "set", CONTENT)
    expected = mark(root)
    (memory,) = paths.cache_root().iterdir()
    memory.write_bytes(damage)
    assert mark(root) == expected and len(counted) == 6


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, counted: list[str]):
    root = write(tmp_path / "set", CONTENT)
    paths.cache_root().write_text("a file where the folder should be")
    assert mark(root) == mark(root) and len(counted) == 6


def test_many_files_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = write(tmp_path / "set", {f"{'ab'[i % 2]}/{i}.png": str(i).encode() for i in range(250)})
    whole = mark(root)
    monkeypatch.setattr(contents, "GROUP", 1)
    assert mark(root) == whole


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    root = write(tmp_path / "set", CONTENT)
    listing = list_images(root)
    (root / "b/2.png").unlink()
    with pytest.raises(ValueError, match=r"data file .*b/2.png cannot be read \(No such file or directory\)"):
        contents_of(listing)
