"""Shared fixtures: an isolated store, a tiny data set of real images, specs of a few steps, invented results."""

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from filelock import FileLock
from matplotlib.figure import Figure
from PIL import Image

from kdlib.data.images import BUNDLED, Data, load_data
from kdlib.lab.recipe import Machine, Policy, Recipe
from kdlib.lab.results import RunResult
from kdlib.lab.specs import RunSpec, Spec
from kdlib.lab.task import Task
from kdlib.models.network import Network
from tests.tried import COLLECTED, Tried

MACHINE = Machine(device="cpu", precision="float32", threads=1)
TRAIN_PER_CLASS, TEST_PER_CLASS = 16, 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, driven by Playwright; without one of the two the test is skipped.

    It lasts for a module: Playwright keeps an event loop running, which other tests could not have beside their own.
    """
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process waits for another at the end."""
    config.stash[COLLECTED] = {item.nodeid for item in items}
    items.sort(key=lambda item: item.get_closest_marker("book") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """A module stays in one process, for its fixtures and caches; a chapter goes wherever there is room."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "/test_notebooks.py::" in nodeid else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the whole session, also across xdist's processes."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def make_once(shared_folder: Path) -> Callable[[str, Callable[[], Path]], Path]:
    """make_once(name, make): the folder that make() gives, which is called once in the whole session."""

    def made(name: str, make: Callable[[], Path]) -> Path:
        folder = shared_folder / name
        with FileLock(shared_folder / f".{name}.lock"):
            if not folder.exists():
                shutil.move(make(), folder)
        return folder

    return made


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where decoded image folders are cached, for all tests of one session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def cifar100() -> Data:
    """The real CIFAR-100, decoded once: a session's fixture is made before `isolated` leaves the machine's cache."""
    return load_data("cifar100")


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache_folder: Path) -> Path:
    """An empty store below the test's own folder, and one thread. Returns that folder."""
    monkeypatch.setenv("KDLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KDLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("KDLIB_CACHE", str(cache_folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for variable in ("KDLIB_MISSING", "KDLIB_ANSWERS", "KDLIB_BANKS", "KDLIB_THREADS", "KDLIB_STACK", "KDLIB_CAPTURE"):
        monkeypatch.delenv(variable, raising=False)
    torch.set_num_threads(1)
    return tmp_path


@pytest.fixture
def elsewhere(monkeypatch, isolated):
    """elsewhere(name): from here on, this is another machine, with a store of its own."""

    def go(name: str) -> Path:
        monkeypatch.setenv("KDLIB_RUNS", str(isolated / name))
        return isolated / name / "smoke"

    return go


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a data set of 160 training and 60 test images, in 10 classes: a folder cut from the bundled set."""
    root = tmp_path_factory.mktemp("tiny")
    data = load_data(BUNDLED)
    for images, split, count in ((data.train, "train", TRAIN_PER_CLASS), (data.test, "test", TEST_PER_CLASS)):
        for label in range(10):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in (images.labels == label).nonzero().squeeze(1)[:count].tolist():
                Image.fromarray(images.images[i].permute(1, 2, 0).numpy()).save(folder / f"{i:05d}.png")
    return f"folder:{root}"


@pytest.fixture(scope="session")
def make_spec(tiny: str) -> Callable[..., RunSpec]:
    """make_spec(**fields): a training run of resnet8 on the tiny set. recipe: a dict of changed recipe fields."""

    def make(recipe: dict | None = None, policy: str = "weak1", **fields) -> RunSpec:
        schedule = {
            "views_per_step": 16, "views_per_image": 4, "learning_rate": 0.05, "weight_decay": 5e-4, "evaluations": 2,
        } | (recipe or {})  # fmt: skip
        given = {
            "data": tiny, "fraction": 0.25, "student": "resnet8", "method": "ce", "policy": Policy(name=policy),
            "recipe": Recipe(**schedule), "seed": 0, "machine": MACHINE,
        } | fields  # fmt: skip
        return RunSpec(**given)

    return make


@pytest.fixture
def teacher(make_spec) -> Network:
    """A small teacher with fixed weights, not trained."""
    return Task.of(make_spec(seed=7), None).method.student.eval()


@pytest.fixture
def asked(teacher) -> list[int]:
    """How many views the teacher, or a copy of it, saw in each of its forward passes so far."""
    seen = []
    teacher.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen


class Immediate(Executor):
    """Runs each call at once, in this process; `calls` holds the specs in the order of their submission."""

    def __init__(self):
        self.calls: list[Spec] = []

    def submit(self, function, /, *args, **kwargs) -> Future:
        self.calls.append(args[0])
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def immediate() -> Immediate:
    """An executor without processes."""
    return Immediate()


@pytest.fixture
def invented() -> Callable[..., RunResult]:
    """invented(spec, profile, **metrics): a result as a run would leave it, with made-up numbers."""

    def make(spec: Spec, profile: str, top1: float = 50.0, **metrics) -> RunResult:
        known = {
            "top1": top1, "top5": 80.0, "nll": 1.5, "ece": 0.05, "best_top1": top1 + 0.5, "train_top1": 60.0,
            "bn_top1": top1, "agreement": 70.0, "kl_to_teacher": 0.4, "images": 100, "steps": 10, "views": 1000,
            "distinct_views": 60,
        } | metrics  # fmt: skip
        half, whole = {"step": 5.0, "loss": 2.0}, {"step": 10.0, "loss": 1.0}
        return RunResult(
            spec=spec, key=spec.key, profile=profile, fingerprint="0" * 16, metrics=known,
            evaluations=[e | {"top1": top1, "top5": 80.0, "nll": 1.5, "ece": 0.05} for e in (half, whole)],
            bits=hashlib.sha256(repr(known).encode()).hexdigest()[:16],
            provenance={"versions": {}, "hardware": "a CPU", "date": "2025-01-02", "commit": "abc", "seconds": 1.0},
        )  # fmt: skip

    return make


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Iterator[Tried]:
    """tried(kind, what, OUTCOME=count): what the test has tried, for the page that says why to trust the book.

    It counts if the test passes, and fails if that is less than the page says.
    """
    failed, slow = request.session.testsfailed, request.node.get_closest_marker("slow") is not None
    found = Tried(request.node.nodeid, slow)
    yield found
    if request.session.testsfailed == failed:
        found.note()


@pytest.fixture
def generator() -> np.random.Generator:
    """Reproducible random numbers for made-up inputs."""
    return np.random.default_rng(20250102)


@pytest.fixture
def strict_figures():
    """Warnings are errors, and no figure stays open."""
    before = plt.get_fignums()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert plt.get_fignums() == before


def drawn(figure: Figure) -> Figure:
    """The figure, after a real drawing."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    return figure


def texts(figure: Figure) -> list[str]:
    """The words in its panels, after a real drawing."""
    return [t.get_text() for axis in drawn(figure).axes for t in axis.texts]
