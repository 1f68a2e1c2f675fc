"""Damaged checkpoints: found, named, never used; the run goes on from the one before it, to the same bits."""

import warnings
from pathlib import Path

import pytest
import torch

from kdlib.lab.checkpoints import newest_checkpoint, read_checkpoint
from kdlib.lab.train import train

pytestmark = pytest.mark.usefixtures("isolated")


class StoppedError(Exception):
    pass


@pytest.fixture
def stopped(make_spec, tmp_path, monkeypatch) -> Path:
    """The folder of a run that was stopped after its sixth step of ten, with a checkpoint after each."""
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(make_spec(), tmp_path / "run", None, stop)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint.pt", "checkpoint.old.pt"}
    return tmp_path / "run"


def flipped(raw: bytes, position: int, bit: int) -> bytes:
    return raw[:position] + bytes([raw[position] ^ 1 << bit]) + raw[position + 1 :]


DAMAGE = {
    "empty": lambda raw: b"",
    "cut in its head": lambda raw: raw[:50],
    "cut": lambda raw: raw[: len(raw) // 2],
    "without its last byte": lambda raw: raw[:-1],
    "one bit of its weights": lambda raw: flipped(raw, len(raw) // 2, 0),
    "one bit of its hash": lambda raw: flipped(raw, 40, 1),
    "longer": lambda raw: raw + b"\0",
    "zeros": lambda raw: bytes(len(raw)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(make_spec, stopped, tmp_path, tried, damage):
    newest, steps = stopped / "checkpoint.pt", []
    newest.write_bytes(DAMAGE[damage](newest.read_bytes()))
    said = f"^checkpoint {newest} is corrupt: the run goes on from the one before it, {stopped / 'checkpoint.old.pt'}$"
    with pytest.warns(UserWarning, match=said):
        resumed = train(make_spec(), stopped, None, lambda done, total: steps.append(done))
    assert steps == [6, 7, 8, 9, 10]
    whole = train(make_spec(), tmp_path / "whole", None)
    for name in ("bits", "metrics", "evaluations"):
        assert resumed[name] == whole[name]
    tried("damage", "checkpoints with one before them", same_bits=1)


def test_a_good_checkpoint_never_makes_room_for_a_damaged_one(make_spec, stopped, monkeypatch):
    """After the first save of the run that went on, either file is a good one."""
    newest, before = stopped / "checkpoint.pt", (stopped / "checkpoint.old.pt").read_bytes()
    newest.write_bytes(newest.read_bytes()[:1000])

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise StoppedError

    with pytest.raises(StoppedError), pytest.warns(UserWarning, match="is corrupt"):
        train(make_spec(), stopped, None, stop)
    assert (stopped / "checkpoint.old.pt").read_bytes() == before
    assert read_checkpoint(newest, "cpu")["state"]["step"] == 6


@pytest.mark.parametrize("older", [None, b"", b"half"])
def test_without_a_good_one_the_damage_is_an_error_and_nothing_is_replaced(make_spec, stopped, tried, older):
    newest, before = stopped / "checkpoint.pt", stopped / "checkpoint.old.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    before.unlink() if older is None else before.write_bytes(older)
    files = {path: path.read_bytes() for path in stopped.iterdir()}
    with pytest.raises(ValueError, match=f"^checkpoint {newest} is corrupt: delete it to start anew$"):
        train(make_spec(), stopped, None)
    assert {path: path.read_bytes() for path in stopped.iterdir()} == files
    tried("damage", "checkpoints", refused=1)


def test_no_cut_and_no_flipped_bit_is_believed(stopped, generator, tried):
    """At 300 places each, the small ones among them."""
    path = stopped / "checkpoint.pt"
    raw = path.read_bytes()
    places = [*range(100), *generator.integers(len(raw), size=200)]
    for place in places:
        for bad in (raw[:place], flipped(raw, place, int(place) % 8)):
            path.write_bytes(bad)
            with pytest.raises(ValueError, match=r"^checkpoint .* is (corrupt|of an older version)") as refusal:
                read_checkpoint(path, "cpu")
            assert "\n" not in str(refusal.value)
            tried("damage", "checkpoints", refused=1)


def test_one_that_a_damaged_head_makes_look_like_another_file_is_not_opened(stopped, monkeypatch):
    monkeypatch.setattr(torch, "load", None)
    path = stopped / "checkpoint.pt"
    path.write_bytes(flipped(path.read_bytes(), 5000, 3))
    with pytest.raises(ValueError, match="is corrupt"):
        read_checkpoint(path, "cpu")


def test_one_of_an_older_version_says_so_and_stays(make_spec, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    torch.save({"key": make_spec().key}, folder / "checkpoint.pt")
    raw = (folder / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="is of an older version of this program, without a hash: go on with that"):
        train(make_spec(), folder, None)
    assert (folder / "checkpoint.pt").read_bytes() == raw


def test_a_folder_without_any_begins_anew_and_a_good_one_says_nothing(stopped, tmp_path):
    assert newest_checkpoint(tmp_path, "cpu") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path, content = newest_checkpoint(stopped, "cpu")
    assert path.name == "checkpoint.pt" and content["state"]["step"] == 6
