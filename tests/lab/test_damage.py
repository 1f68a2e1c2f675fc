"""Damaged results and weights: found, named in one sentence, never used, never replaced; stores that move, clocks that
jump, disks that are full or read-only."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from kdlib.lab.results import RunResult, bits, seal
from kdlib.lab.runs import execute, run_all
from kdlib.lab.store import SEALS, Store, read_result
from kdlib.lab.train import train

pytestmark = pytest.mark.usefixtures("isolated")
SHORT = {"views_per_step": 32, "views_per_image": 2, "evaluations": 1}
PUBLISHED = Path(__file__).resolve().parents[2] / "results"


class HaltError(Exception):
    pass


def halt_at(step: int):
    def halt(done: int, total: int) -> None:
        if done == step:
            raise HaltError

    return halt


def flipped(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :]


# --- results


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_no_cut_of_a_result_is_believed(make_spec, invented, tried, share):
    spec, store = make_spec(), Store("smoke")
    store.put(invented(spec, "smoke"))
    path = store.folder(spec) / "result.json"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * (len(raw) - 2))])
    with pytest.raises(ValueError, match=f"^result file {path} is corrupt: delete it"):
        store.get(spec)
    tried("damage", "results", refused=1)


def test_a_flipped_bit_of_any_byte_of_a_result_is_noticed_or_changes_nothing(make_spec, invented, tried):
    """A digit of a score for another one, above all."""
    spec, store = make_spec(), Store("smoke")
    result = invented(spec, "smoke", top1=61.25)
    store.put(result)
    path = store.folder(spec) / "result.json"
    raw, refused = path.read_bytes(), 0
    for place in range(len(raw)):
        path.write_bytes(flipped(raw, place))
        try:
            assert store.get(spec) == result
        except ValueError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 0.7 * len(raw)  # the rest is white space
    tried("damage", "results", refused=refused, without_effect=len(raw) - refused)


@pytest.mark.parametrize("field", ["fingerprint", "bits", "profile", "metrics", "provenance", "evaluations"])
def test_what_disagrees_with_the_seal_is_refused(make_spec, invented, tried, field):
    spec, store = make_spec(), Store("smoke")
    store.put(invented(spec, "smoke"))
    path = store.folder(spec) / "result.json"
    content = json.loads(path.read_text())
    other = {"fingerprint": "f" * 16, "bits": "e" * 16, "profile": "quick", "evaluations": []}
    path.write_text(json.dumps(content | {field: other.get(field, {})}))
    with pytest.raises(ValueError, match=f"^result file {path} is corrupt, it holds other values than were written"):
        store.get(spec)
    with pytest.raises(ValueError, match="is corrupt"):
        store.publish()
    tried("damage", "results", refused=1)


def test_every_published_result_has_a_seal():
    """If this fails, `python -m kdlib publish` adds what lacks."""
    seals = dict(line.split() for line in (PUBLISHED / SEALS).read_text().splitlines())
    files = {path.stem: json.loads(path.read_text()) for path in PUBLISHED.glob("*.json")}
    assert seals.keys() | {key for key, content in files.items() if "sha256" in content} == files.keys()
    assert all(seals[key] == seal(content) for key, content in files.items() if key in seals)


def test_a_published_result_with_another_digit_is_refused(isolated):
    """One of those that were made before there were seals."""
    results = isolated / "results"
    results.mkdir()
    shutil.copyfile(PUBLISHED / SEALS, results / SEALS)
    source = next(path for path in sorted(PUBLISHED.glob("*.json")) if "sha256" not in json.loads(path.read_text()))
    path = results / source.name
    shutil.copyfile(source, path)
    (found,) = Store("reference").published.values()
    text = source.read_text()
    path.write_text(text.replace(f'"top1": {found.metrics["top1"]}', '"top1": 99.0'))
    assert read_result(path) != found, "it looks sound by itself"
    with pytest.raises(ValueError, match=f"^result file {path} is damaged .*: check it out again$"):
        _ = Store("reference").published
    path.write_text(text)
    path.rename(results / f"{'0' * 16}.json")
    with pytest.raises(ValueError, match=f"is that of run {found.key}: it was renamed"):
        _ = Store("reference").published


def test_publishing_seals_older_results_and_keeps_the_seals_that_are_there(make_spec, invented, isolated):
    results = isolated / "results"
    results.mkdir()
    old = invented(make_spec(), "smoke")
    (results / f"{old.key}.json").write_text(old.model_dump_json())
    Store("smoke").put(invented(make_spec(seed=1), "smoke"))
    Store("smoke").publish()
    said = (results / SEALS).read_text()
    assert said == f"{old.key} {seal(json.loads(old.model_dump_json()))}\n"
    (results / f"{old.key}.json").write_text(old.model_dump_json().replace("50.0", "51.0"))
    Store("smoke").publish()
    assert (results / SEALS).read_text() == said
    with pytest.raises(ValueError, match="is damaged"):
        _ = Store("smoke").published


def test_numbers_that_are_not_finite_come_back_as_they_were(make_spec, invented):
    """Else the bits, which cover them, would be those of other numbers."""
    result = invented(make_spec(), "smoke", mean_w=float("nan"), nll=float("inf"))
    Store("smoke").put(result)
    back = Store("smoke").get(result.spec)
    assert bits({}, back.metrics) == bits({}, result.metrics) and isinstance(back, RunResult)


# --- weights


@pytest.fixture
def trained(make_spec):
    """A run with a head, finished."""
    spec = make_spec(recipe=SHORT, method="sskd_teacher", teacher=make_spec(recipe=SHORT))
    execute(spec.teacher, "smoke")
    execute(spec, "smoke")
    return spec


def test_damaged_weights_teach_nobody(trained, generator, tried):
    folder = Store("smoke").folder(trained)
    for name in ("weights.safetensors", "head.safetensors"):
        path = folder / name
        raw = path.read_bytes()
        last = [flipped(raw, int(place)) for place in generator.integers(len(raw) - 1000, len(raw), size=8)]
        for bad in (b"", raw[:100], raw[: len(raw) // 2], raw[:-1], flipped(raw, 3), *last):
            path.write_bytes(bad)
            with pytest.raises(
                ValueError, match=rf"^weights in {folder} are damaged|has weights that are not finite"
            ) as e:
                Store("smoke").network(trained, "float32", head=True)
            assert "\n" not in str(e.value) and path.read_bytes() == bad
            tried("damage", "weights", refused=1)
        path.write_bytes(raw)
    assert Store("smoke").network(trained, "float32", head=True).head is not None


def test_weights_of_another_run_are_not_taken_for_these(trained, make_spec):
    other = make_spec(recipe=SHORT, seed=5)
    execute(other, "smoke")
    source, target = (Store("smoke").folder(spec) / "weights.safetensors" for spec in (other, trained.teacher))
    shutil.copyfile(source, target)
    with pytest.raises(ValueError, match="are not those of the result beside them"):
        Store("smoke").network(trained.teacher, "float32")


def test_weights_without_a_result_are_not_used(trained, make_spec):
    """A run that was killed at its very end left them."""
    store = Store("smoke")
    (store.folder(trained.teacher) / "result.json").unlink()
    assert store.weights(trained.teacher) is None
    with pytest.raises(FileNotFoundError, match="are missing"):
        store.network(trained.teacher, "float32")


# --- clocks, places, disks


def test_a_clock_that_jumps_and_files_of_the_future_change_nothing(make_spec, tmp_path, monkeypatch):
    whole = train(make_spec(), tmp_path / "whole", None)["bits"]
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    jumps = iter([1e9, 5e9, 0.0, 2e9, 1.0] * 1000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    spec, store = make_spec(), Store("smoke")
    for step in (2, 5, 7):
        with pytest.raises(HaltError):
            execute(spec, "smoke", halt_at(step))
        for path in store.folder(spec).iterdir():
            os.utime(path, (4e9, 4e9) if "old" in path.name else (1, 1))
    steps: list[int] = []
    assert execute(spec, "smoke", lambda done, total: steps.append(done)).bits == whole
    assert steps == [8, 9, 10], "the newest is the one that is called so, whatever its time"


def test_a_store_that_moves_goes_on(make_spec, isolated, monkeypatch):
    spec = make_spec(method="kd", policy="weak2", teacher=make_spec(recipe=SHORT), recipe={"evaluations": 4})
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    teacher = execute(spec.teacher, "smoke")
    with pytest.raises(HaltError):
        execute(spec, "smoke", halt_at(6))
    (isolated / "runs").rename(isolated / "another place")
    monkeypatch.setenv("KDLIB_RUNS", str(isolated / "another place"))
    assert Store("smoke").get(spec.teacher) == teacher
    steps: list[int] = []
    moved = execute(spec, "smoke", lambda done, total: steps.append(done))
    assert steps[0] == 7 and not (isolated / "runs").exists()
    monkeypatch.setenv("KDLIB_RUNS", str(isolated / "third"))
    execute(spec.teacher, "smoke")
    assert execute(spec, "smoke").bits == moved.bits


@pytest.fixture
def read_only(isolated):
    """read_only(folder): from here to the end of the test nothing can be written there, even by root."""
    user, changed = os.geteuid(), []

    def lock(folder: Path) -> None:
        above = [p for p in folder.parents if p.stat().st_uid == user and p.stat().st_mode & 0o777 == 0o700]
        for path in (*above, folder, *folder.rglob("*")):
            changed.append((path, path.stat().st_mode))
            path.chmod(0o555 if path.is_dir() else 0o444)
        if user == 0:
            os.seteuid(65534)

    yield lock
    os.seteuid(user)
    for path, mode in changed:
        path.chmod(mode)


def test_a_read_only_store_is_read_and_a_run_there_loses_nothing(make_spec, isolated, read_only, monkeypatch):
    done, open_run = make_spec(recipe=SHORT), make_spec(seed=1)
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    result = execute(done, "smoke")
    with pytest.raises(HaltError):
        execute(open_run, "smoke", halt_at(4))
    folder = Store("smoke").folder(open_run)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    read_only(isolated / "runs")
    assert run_all([done], "smoke") == [result]
    assert Store("smoke").network(done, "float32") is not None
    with pytest.raises(OSError, match="cannot be written") as refusal:
        execute(open_run, "smoke")
    assert "\n" not in str(refusal.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("moment", [0, 2, 5])
def test_a_disk_that_fills_up_between_two_checkpoints_loses_nothing(make_spec, tmp_path, monkeypatch, moment):
    """At whichever write: the last checkpoint stays, and the run goes on from there once there is room."""
    whole = train(make_spec(), tmp_path / "whole", None)["bits"]
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    write, count = Path.open, iter(range(1000))

    def full(path: Path, mode: str = "r", *arguments, **named):
        if mode == "wb" and next(count) >= moment:
            raise OSError(28, "No space left on device")
        return write(path, mode, *arguments, **named)

    spec, folder, steps = make_spec(), tmp_path / "run", []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match=r"checkpoint.pt cannot be written \(no space left on the disk\)"):
            train(spec, folder, None)
    assert len([path for path in folder.iterdir() if path.name.startswith(".")]) == 0
    assert train(spec, folder, None, lambda done, total: steps.append(done))["bits"] == whole
    assert steps[0] == moment + 1
