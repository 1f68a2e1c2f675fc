"""nbval on every chapter, in two lanes: does each cell run, and do the published tables follow from the results."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import Executor
from pathlib import Path

import nbformat
import pytest
from papermill.cli import papermill as papermill_line

import kdlib
from kdlib.chapters import CHAPTERS
from kdlib.chapters.registry import create_study
from kdlib.lab.runs import run_all
from kdlib.notebook import Session
from kdlib.study.setting import Setting

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NBVAL = ["-p", "nbval.plugin", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "300"]
QUIETLY = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider"}
TRAINS_ITSELF = "00_tour"  # in an empty store: its kernel starts the processes that train, as a reader's does


@pytest.fixture(scope="session")
def smoke_runs(shared_folder: Path) -> Path:
    """A store for the whole session: chapters share teachers, and runs have locks."""
    return shared_folder / "smoke-runs"


def nbval(paths: list[Path], **environment: str) -> None:
    """nbval in a process of its own, since a kernel inherits the environment; fails with what it printed."""
    call = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(paths[0].parent), *NBVAL]
    variables = os.environ | QUIETLY | environment
    done = subprocess.run([*call, *map(str, paths)], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def bare(path: Path) -> Path:
    """The notebook with outputs cleared and without tags that compare them."""
    content = nbformat.read(path, 4)
    for cell in content.cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if tag != "nbval-check-output"]
        cell.metadata["tags"] = tags
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(content, path)
    return path


def line(path: Path) -> list[str]:
    """The words of the papermill line that a chapter gives its readers."""
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    (found,) = re.findall(r"^papermill (notebooks/\S+ (?:.*\\\n)*.*)$", text, re.MULTILINE)
    return shlex.split(found.replace("\\\n", " "))


def started(path: Path) -> Session:
    """The session that a chapter with these parameters opens."""
    given, cells = {}, []
    for cell in nbformat.read(path, 4).cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            cells.append(cell.source)
            exec(cell.source, given)
    return kdlib.start(path.stem.removesuffix("_line"), given, cells)  # nbval's kernels keep no history of cells


EACH = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
#: A chapter that trains itself, one of runs, one of measurements; the others take minutes.
SHORT = (TRAINS_ITSELF, "03_blind_teacher", "22_retrieval")
SMOKE = pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, id=path.stem, marks=() if path.stem in SHORT else pytest.mark.slow) for path in NOTEBOOKS],
)


def variants(notebook: Path, folder: Path) -> list[Path]:
    """A chapter at profile smoke, with its default parameters, and, where the line that the page gives has others, with
    those."""
    source, target, *words = line(notebook)
    assert (ROOT / source, target) == (notebook, "out.ipynb")
    given = {notebook.name: ["--cwd", "notebooks"]}
    if words != ["--cwd", "notebooks", "-p", "profile", "quick"]:
        given[f"{notebook.stem}_line.ipynb"] = words
    folder.mkdir()
    for name, parameters in given.items():
        smoke = ["-p", "profile", "smoke", "--prepare-only", "--no-progress-bar"]
        papermill_line.main([source, str(folder / name), *parameters, *smoke], standalone_mode=False)
    return [folder / name for name in given]


@EACH
def test_the_line_of_a_chapter_gives_a_study(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters are known, and what they ask for can be planned; nothing is trained."""
    monkeypatch.chdir(ROOT)
    for path in variants(notebook, tmp_path / "notebooks"):
        assert started(path).study.name == notebook.stem


@pytest.mark.book
@SMOKE
def test_smoke_lane_every_cell_of_the_chapter_runs(
    notebook: Path, tmp_path: Path, smoke_runs: Path, immediate: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the default parameters, and with those of the page's line; `make book` runs all chapters at quick."""
    runs = tmp_path / "runs"
    runs.mkdir()
    shutil.copy(ROOT / "results" / "benchmark" / "benchmark.json", runs)  # what `make bench` would have left
    monkeypatch.setenv("KDLIB_RUNS", str(runs if notebook.stem == TRAINS_ITSELF else smoke_runs))
    monkeypatch.setenv("KDLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(ROOT)
    paths = variants(notebook, tmp_path / "notebooks")
    for path in paths if notebook.stem != TRAINS_ITSELF else ():
        run_all(started(path).specs, "smoke", immediate)  # a pool in every kernel would import torch thrice
    nbval([bare(path) for path in paths])


@pytest.mark.book
@EACH
def test_published_lane_the_tables_follow_from_the_results(notebook: Path, tmp_path: Path) -> None:
    """In place, without data sets, checkpoints or runs of this machine: tables come from results/ alone.

    Runs that were never made are gaps, here and in the committed output; a published one that is gone changes a table.
    """
    places = {name: str(tmp_path / name) for name in ("KDLIB_DATA", "KDLIB_CHECKPOINTS", "KDLIB_RUNS", "KDLIB_CACHE")}
    nbval([notebook], KDLIB_MISSING="gap", **places)


def test_published_lane_notices_a_changed_number(tmp_path: Path) -> None:
    """A tagged cell whose stored output differs from what the code gives fails."""
    content = nbformat.v4.new_notebook(metadata=nbformat.read(NOTEBOOKS[0], 4).metadata)
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=1, metadata={"tags": ["nbval-check-output"]})
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "3"}, execution_count=1)]
    content.cells = [cell]
    nbformat.write(content, tmp_path / "changed.ipynb")
    with pytest.raises(AssertionError, match="1 failed"):
        nbval([tmp_path / "changed.ipynb"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_as_make_notebooks_leaves_it(path: Path) -> None:
    """Executed at reference, in order, without errors, paths or names of users; small; figures have alt texts."""
    content = nbformat.read(path, 4)
    text = path.read_text()
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    said = [o.data["text/markdown"] for cell in code for o in cell.outputs if "text/markdown" in o.get("data", {})]
    assert all(text.strip() for text in said)  # a page would show the type of an empty one
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text
    assert path.stat().st_size < 1_500_000
    assert content.metadata.kernelspec.name == "python3" and content.metadata.language_info.name == "python"
    assert "parameters" in code[0].metadata.get("tags", [])
    for cell in content.cells:
        assert cell.metadata.get("tags") != []
        figure = cell.metadata.get("mystnb", {})
        assert "figure" not in figure or (figure["figure"]["caption"] and figure["image"]["alt"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prose_names_contrasts_that_are_there(path: Path) -> None:
    """A name that a study lacks would be printed as not measured."""
    if path.stem in CHAPTERS:
        code = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        study = create_study(path.stem, Setting.of("reference", device="cpu"))
        for name in re.findall(r"study\.contrast\(\"(.*?)\"\)", code):
            assert study.contrast(name), name
