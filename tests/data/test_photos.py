"""Photographs of any size: decoded once, by threads or processes, to squares that training reads without PIL."""

import importlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from kdlib.data import paths, photos, squares
from kdlib.data.images import load_data
from kdlib.data.listing import list_images
from kdlib.lab.recipe import Policy
from kdlib.lab.train import train

pytestmark = pytest.mark.usefixtures("isolated")

KINDS = ("RGB", "L", "P", "CMYK", "RGBA")
SIDE = 32


@pytest.fixture(autouse=True)
def _fresh(isolated: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty cache for every test; nothing remembered from the one before."""
    monkeypatch.setenv("KDLIB_CACHE", str(isolated / "cache"))
    load_data.cache_clear()
    yield
    load_data.cache_clear()


def write_photos(root: Path, each: int) -> Path:
    """root/{train,val}/{a,b}: photographs of many sizes, modes and formats."""
    rng = np.random.default_rng(0)
    for split, count in (("train", each), ("val", 2)):
        for name in "ab":
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                height, width = rng.integers(20, 90, 2)
                coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
                kind = KINDS[i % len(KINDS)]
                suffix = "png" if kind in ("P", "RGBA") or i % 2 else "jpg"
                suffix = "tif" if kind == "CMYK" else suffix
                coarse.resize((width, height)).convert(kind).save(root / split / name / f"{i}.{suffix}")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "set", 12)


def reference(path: str, side: int) -> np.ndarray:
    """The square by torchvision's transforms, of what PIL reads."""
    with Image.open(path) as image:
        if image.mode == "RGBA":
            rgb = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        else:
            rgb = image.convert("RGB")
    resized = functional.resize(rgb, side, antialias=True)
    return np.asarray(functional.center_crop(resized, [side, side])).transpose(2, 0, 1)


#: What may stand in for `_fill` in processes that are started afresh.
INSTEAD = """
import errno, os, signal, time
from pathlib import Path
from kdlib.data import squares
fill = squares._fill

def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def slowly(*arguments):
    fill(*arguments)
    Path(os.environ["SEEN"], str(os.getpid())).touch()
    time.sleep(0.2)
"""


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The module of `INSTEAD`, which such processes find as well."""
    (tmp_path / "instead_of_fill.py").write_text(INSTEAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    yield importlib.import_module("instead_of_fill")
    del sys.modules["instead_of_fill"]


def processes(count: int, workers: int = 1) -> ProcessPoolExecutor:
    """What decodes where there are many photographs."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=squares.end_with_parent)


def threads(count: int, workers: int = 1) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers)


@pytest.mark.parametrize("pool", [threads, partial(threads, workers=3), partial(processes, workers=2)])
def test_squares_are_those_of_torchvision_in_the_order_of_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pool
):
    monkeypatch.setattr(squares, "_workers", pool)
    monkeypatch.setattr(squares, "GROUP", 5)
    listing = list_images(folder / "train")
    images, labels, _ = photos.load_split("some", listing, SIDE)
    assert (
        images.dtype == torch.uint8 and images.shape == (24, 3, SIDE, SIDE) and labels.tolist() == [0] * 12 + [1] * 12
    )
    for image, (path, _) in zip(images.numpy(), listing.samples, strict=True):
        assert np.array_equal(image, reference(path, SIDE)), path


def test_many_photographs_are_decoded_by_processes_and_few_by_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(squares, "_is_script", lambda: False)
    with squares._workers(squares.FEW) as many, squares._workers(squares.FEW - 1) as few:
        assert isinstance(many, ProcessPoolExecutor) and isinstance(few, ThreadPoolExecutor)
    monkeypatch.setattr(squares, "_is_script", lambda: True)
    with squares._workers(squares.FEW) as pool:
        assert isinstance(pool, ThreadPoolExecutor)


LOADING = """
import sys
from pathlib import Path
from kdlib.data import photos, squares
from kdlib.data.listing import list_images
squares.FEW = 1
print("begun")
images, labels, mark = photos.load_split("some", list_images(Path(sys.argv[1])), 32)
print(len(images), mark, squares._is_script())
"""


@pytest.mark.parametrize("script", [True, False])
def test_a_script_without_a_guard_is_not_run_again(folder: Path, tmp_path: Path, script: bool):
    """In a script, processes would run it again, and wait for a lock that it holds."""
    (tmp_path / "script.py").write_text(LOADING)
    program = [str(tmp_path / "script.py")] if script else ["-c", LOADING]
    call = [sys.executable, *program, str(folder / "train")]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=True)
    begun, found = done.stdout.splitlines()
    assert begun == "begun" and found.split() == ["24", load(folder)[2], str(script)]


def load(folder: Path, side: int = SIDE) -> tuple:
    return photos.load_split("some", list_images(folder / "train"), side)


def test_a_second_start_decodes_nothing_and_a_changed_file_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch):
    first, _, mark = load(folder)
    with monkeypatch.context() as patch:
        patch.setattr(squares.pictures, "read_rgb", refuse)
        again, _, same = load(folder)
        assert same == mark and torch.equal(first, again)
        with pytest.raises(AssertionError, match="decoded"):
            load(folder, SIDE + 1)
        path = Path(list_images(folder / "train").samples[3][0])
        Image.new("RGB", (50, 50), "red").save(path)
        with pytest.raises(AssertionError, match="decoded"):
            load(folder)
    changed, _, other = load(folder)
    assert other != mark
    differ = (changed != first).flatten(1).any(1)
    assert differ.nonzero().flatten().tolist() == [3]


def refuse(*_) -> None:
    raise AssertionError("a picture was decoded")


@pytest.mark.parametrize("pool", [threads, processes])
def test_an_unreadable_photograph_is_named_and_nothing_stays(folder: Path, monkeypatch: pytest.MonkeyPatch, pool):
    monkeypatch.setattr(squares, "_workers", pool)
    path = Path(list_images(folder / "train").samples[-1][0])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=rf"data file {path} is not a readable image"):
        load(folder)
    assert stores() == []


def stores() -> list[str]:
    """What the cache holds but locks and hashes of contents."""
    return [p.name for p in paths.cache_root().iterdir() if not p.name.endswith(".lock") and "contents" not in p.name]


@pytest.mark.parametrize("pool", [threads, processes])
def test_a_disk_that_fills_up_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch, pool, instead):
    """What is free is asked before the work; another program may take it in between."""
    monkeypatch.setattr(squares, "_workers", pool)
    monkeypatch.setattr(squares, "_fill", instead.full_disk)
    with pytest.raises(OSError, match=r"some-train-.* cannot be written \(no space left on the disk\): make room"):
        load(folder)
    assert stores() == []


def test_what_cannot_be_written_does_not_kill_the_process(tmp_path: Path):
    """Through a memory map a full disk ends in SIGBUS, or silently in pixels that are lost."""
    path = tmp_path / "one.png"
    Image.new("RGB", (SIDE, SIDE), "red").save(path)
    (target := tmp_path / "pixels").touch()
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError):
            squares._fill(target, 0, SIDE, 0, str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_room_is_asked_for_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(squares, "square", refuse)
    monkeypatch.setattr("kdlib.files.shutil.disk_usage", lambda _: type("Usage", (), {"free": 24 * 3 * SIDE**2 - 1}))
    with pytest.raises(OSError, match=r"decoding 24 photographs needs 0\.0 GB in .*, where 0\.0 are free"):
        load(folder)
    assert stores() == []


def test_a_killed_process_of_the_pool_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch, instead, tried):
    monkeypatch.setattr(squares, "_workers", processes)
    monkeypatch.setattr(squares, "_fill", instead.killed)
    with pytest.raises(BrokenProcessPool, match="decoded photographs into .*cache.* was killed, perhaps"):
        load(folder)
    assert stores() == []
    tried("kills", "decoding photographs", nothing_half_made=1)


SLOW = """
import sys
from pathlib import Path
from kdlib.data import photos, squares
from kdlib.data.listing import list_images
from instead_of_fill import slowly
squares._fill, squares.FEW, squares.GROUP = slowly, 1, 1
photos.load_split("some", list_images(Path(sys.argv[1])), 32)
"""


def test_what_is_killed_in_the_middle_is_not_believed(folder: Path, tmp_path: Path, monkeypatch, instead, tried):
    """Neither it nor its processes go on, and the next start makes all of it."""
    (seen := tmp_path / "seen").mkdir()
    monkeypatch.setenv("SEEN", str(seen))
    program = subprocess.Popen([sys.executable, "-c", SLOW, str(folder / "train")])
    try:
        wait_for(lambda: list(seen.iterdir()), 60)
    finally:
        program.kill()
        program.wait()
    workers = [int(path.name) for path in seen.iterdir()]
    assert workers and program.pid not in workers
    (part,) = stores()
    assert part.startswith(".some-train-") and part.endswith(".part")
    wait_for(lambda: not any(map(alive, workers)), 20)
    images = load(folder)[0]
    for image, (path, _) in zip(images.numpy(), list_images(folder / "train").samples, strict=True):
        assert np.array_equal(image, reference(path, SIDE))
    assert len(stores()) == 1 and not stores()[0].startswith(".")
    tried("kills", "decoding photographs", nothing_half_made=1)


def wait_for(condition, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_training_on_squares_opens_no_file(make_spec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Crops, flips and JDA are made of rows of the memory map."""
    root = write_photos(tmp_path / "set", 4)
    spec = make_spec(data=f"photos:{root}", fraction=1.0, recipe={"views_per_step": 8, "evaluations": 1}).model_copy(
        update={"policy": Policy(name="jda", options={"ops": "imagenet"})}
    )
    data = load_data(spec.data).train
    assert data.size == (256, 256) and data.view_size == 224
    monkeypatch.setattr(Image, "open", refuse)
    metrics = train(spec, tmp_path / "run", None)["metrics"]
    assert metrics["steps"] == 4 and 0 <= metrics["top1"] <= 100
