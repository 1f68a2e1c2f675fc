"""The cache of tensors: made once, read again, and made anew where a file is damaged."""

import resource
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kdlib.data.cache import cached_tensors


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Makes the same tensors each time and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"images": torch.arange(2400, dtype=torch.uint8).view(2, 3, 20, 20), "labels": torch.tensor([3, -1])}


def assert_whole(tensors: dict[str, Tensor]) -> None:
    expected = Maker()()
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype and torch.equal(tensors[name], value)


def test_made_once_then_read(folder: Path):
    maker = Maker()
    for _ in range(3):
        assert_whole(cached_tensors("set", maker))
    assert maker.calls == 1
    assert [path.name for path in folder.iterdir()] == ["set.safetensors"]


def test_another_name_is_another_file(folder: Path):
    maker = Maker()
    cached_tensors("a", maker)
    cached_tensors("b", maker)
    assert maker.calls == 2 and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 60, 500, 2400])
def test_a_file_cut_short_is_made_again(folder: Path, keep: int):
    maker = Maker()
    cached_tensors("set", maker)
    path = folder / "set.safetensors"
    whole = path.read_bytes()
    assert keep < len(whole)
    path.write_bytes(whole[:keep])
    with pytest.warns(UserWarning, match=f"^cache file {path} is damaged: it is not used, and is made again$"):
        assert_whole(cached_tensors("set", maker))
    assert maker.calls == 2 and path.read_bytes() == whole


@pytest.mark.parametrize(
    "content", [b"not a tensor file at all, but long enough", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}x"]
)
def test_a_file_of_something_else_is_made_again(folder: Path, content: bytes):
    folder.mkdir()
    (folder / "set.safetensors").write_bytes(content)
    maker = Maker()
    with pytest.warns(UserWarning, match="is damaged"):
        assert_whole(cached_tensors("set", maker))
    assert maker.calls == 1


def test_a_flipped_bit_of_any_byte_is_noticed_or_changes_nothing(folder: Path, tried):
    maker = Maker()
    cached_tensors("set", maker)
    path = folder / "set.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.unlink()  # what is mapped stays as it is
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        before = maker.calls
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert_whole(cached_tensors("set", maker))
        assert maker.calls - before == len(caught)
        tried("damage", "cached images", made_again=len(caught), without_effect=not caught)
        if place > len(whole) - 2400:  # a pixel
            assert len(caught) == 1


def test_a_file_without_a_hash_is_made_again(folder: Path):
    folder.mkdir()
    save_file(Maker()(), folder / "set.safetensors")
    with pytest.warns(UserWarning, match="is damaged"):
        cached_tensors("set", Maker())


def test_nothing_is_left_when_making_fails(folder: Path):
    def fail() -> dict[str, Tensor]:
        raise ValueError("no picture")

    with pytest.raises(ValueError, match="no picture"):
        cached_tensors("set", fail)
    assert not folder.exists() or not list(folder.iterdir())
    assert_whole(cached_tensors("set", Maker()))


def test_no_room_is_one_sentence_and_leaves_nothing(folder: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"cache/set.safetensors cannot be written \(.*\): .*KDLIB_CACHE.*$"
        ) as caught:
            cached_tensors("set", Maker())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value) and list(folder.iterdir()) == []
    assert_whole(cached_tensors("set", Maker()))
