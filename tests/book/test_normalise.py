"""Normalisation: what differs between machines and executions goes, what a reader needs stays."""

import copy
import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType

import nbformat
import pandas as pd
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from .conftest import ROOT

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("normalise", ROOT / "book" / "normalise.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def model(name: str, **state: object) -> dict:
    return {
        "model_name": name,
        "model_module": "@jupyter-widgets/controls",
        "model_module_version": "2.0.0",
        "state": state,
    }


def executed(ids: dict[str, str], root: Path) -> NotebookNode:
    """A notebook as papermill leaves it; `ids` are the random widget ids of this execution."""
    shown = new_output(
        "execute_result",
        execution_count=9,
        data={"text/plain": "Box()", VIEW: {"model_id": ids["box"], "version_major": 2}},
    )
    printed = [
        new_output("stream", name="stdout", text=f"read {root}/results/a.json\n"),
        new_output("stream", name="stdout", text=f"from {root.parent}/shared, {Path.home()}/x, {root}\n"),
        new_output("stream", name="stderr", text="/tmp/ipykernel_77/123.py:1: UserWarning: a\n"),
    ]
    cells = [
        new_code_cell("p: int = 1", execution_count=4, metadata={"tags": ["parameters"], "papermill": {"duration": 1}}),
        new_code_cell("# Parameters\np = 2", execution_count=5, metadata={"tags": ["injected-parameters"]}),
        new_code_cell("print(p)", execution_count=7, metadata={"tags": []}, outputs=printed),
        new_code_cell("box", execution_count=9, outputs=[shown], metadata={"mystnb": {"figure": {"caption": "A box"}}}),
        new_code_cell("# not executed"),
    ]
    state = {
        ids["link"]: model(
            "LinkModel",
            source=[f"IPY_MODEL_{ids['slider']}", "value"],
            target=[f"IPY_MODEL_{ids['text']}", "value"],
        ),
        ids["unseen"]: model("FloatSliderModel", value=3),
        ids["text"]: model("FloatTextModel", value=1),
        ids["slider"]: model("FloatSliderModel", value=1),
        ids["box"]: model("BoxModel", children=[f"IPY_MODEL_{ids['slider']}", f"IPY_MODEL_{ids['text']}"]),
    }
    metadata = {
        "papermill": {"input_path": str(root)},
        "widgets": {STATE: {"state": state, "version_major": 2, "version_minor": 0}},
        "language_info": {"name": "python", "version": "3.11.99"},
    }
    return new_notebook(cells=cells, metadata=metadata)


NAMES = ("link", "unseen", "text", "slider", "box")
FIRST = {name: f"{number:x}" * 32 for number, name in enumerate(NAMES, 10)}
SECOND = {name: f"{number:x}" * 32 for number, name in enumerate(reversed(NAMES), 10)}


@pytest.fixture
def notebook(tmp_path: Path) -> NotebookNode:
    return executed(FIRST, tmp_path / "project")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "project"


def test_idempotent_valid_and_pure(module: ModuleType, notebook: NotebookNode, root: Path) -> None:
    before = copy.deepcopy(notebook)
    once = module.normalise(notebook, root)
    assert notebook == before
    nbformat.validate(once)
    assert module.normalise(once, root) == once


def test_counts_tags_and_metadata(module: ModuleType, notebook: NotebookNode, root: Path) -> None:
    tidy = module.normalise(notebook, root)
    assert [cell.source for cell in tidy.cells] == ["p: int = 1", "print(p)", "box", "# not executed"]
    assert [cell.execution_count for cell in tidy.cells] == [1, 2, 3, None]
    assert tidy.cells[2].outputs[0].execution_count == 3
    assert tidy.cells[0].metadata == {"tags": ["parameters"]}
    assert tidy.cells[1].metadata == {}
    assert tidy.cells[2].metadata == {"mystnb": {"figure": {"caption": "A box"}}, "tags": ["hide-input"]}
    assert set(tidy.metadata) == {"kernelspec", "language_info", "widgets"}
    assert tidy.metadata.language_info == {"name": "python"}


def test_paths_become_relative(module: ModuleType, notebook: NotebookNode, root: Path) -> None:
    stdout, stderr = module.normalise(notebook, root).cells[1].outputs
    assert stdout.text == "read results/a.json\nfrom ../shared, ~/x, .\n"
    assert stderr.text == "<cell>:1: UserWarning: a\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b/.venv/lib/python3.11/site-packages/torch/x.py:3", "site-packages/torch/x.py:3"),
        ("see https://example.org/a/site-packages.html", "see https://example.org/a/site-packages.html"),
        ("3/4 of the images, 0.1/0.9", "3/4 of the images, 0.1/0.9"),
    ],
)
def test_paths_of_libraries_and_other_slashes(module: ModuleType, root: Path, text: str, expected: str) -> None:
    assert module.relative_paths(text, root) == expected


def test_a_temporary_folder_has_no_random_name(module: ModuleType, root: Path) -> None:
    found = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            found.append(module.relative_paths(f"<dd>folder:{folder}/digits</dd>", root))
    assert found == ["<dd>folder:(temporary)/digits</dd>"] * 2


def test_widgets_do_not_depend_on_the_execution(module: ModuleType, root: Path) -> None:
    tidy = [module.normalise(executed(ids, root), root) for ids in (FIRST, SECOND)]
    for one in tidy:
        for number, cell in enumerate(one.cells):
            cell.id = str(number)  # new_code_cell draws cell ids; a file keeps its own
    assert tidy[0] == tidy[1]
    state = tidy[0].metadata.widgets[STATE].state
    assert sorted(model["model_name"] for model in state.values()) == [
        "BoxModel",
        "FloatSliderModel",
        "FloatTextModel",
        "LinkModel",
    ]
    assert tidy[0].cells[2].outputs[0].data[VIEW].model_id in state


def test_widget_state_goes_when_nothing_is_shown(module: ModuleType, notebook: NotebookNode, root: Path) -> None:
    notebook.cells[3].outputs = []
    assert "widgets" not in module.normalise(notebook, root).metadata


def test_cell_ids_are_kept_made_and_unique(module: ModuleType, notebook: NotebookNode, root: Path) -> None:
    notebook.cells[0].id = notebook.cells[2].id = "same"
    del notebook.cells[3]["id"]
    ids = [cell.id for cell in module.normalise(notebook, root).cells]
    assert ids[:2] == ["same", "same_again2"]
    assert len(set(ids)) == len(ids)
    nbformat.validate(module.normalise(notebook, root))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_committed_notebooks_are_normalised(module: ModuleType, path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    same = module.normalise(notebook, ROOT) == notebook
    assert same, f"{path.name} is not normalised: run `make notebooks`"


def test_files_are_tidied_in_place_once(module, tmp_path):
    path = tmp_path / "chapter.ipynb"
    notebook = new_notebook(cells=[new_code_cell("1", execution_count=7, metadata={"papermill": {"duration": 1}})])
    nbformat.write(notebook, path)
    assert module.tidied(path, tmp_path) and not module.tidied(path, tmp_path)
    (cell,) = nbformat.read(path, as_version=4).cells
    assert cell.execution_count == 1 and "papermill" not in cell.metadata


@pytest.mark.parametrize("content", ["", "{}", "[1]", "no JSON", '{"cells": 3}'])
def test_what_is_no_notebook_is_named_and_left_alone(module, tmp_path, content):
    path = tmp_path / "chapter.ipynb"
    path.write_text(content)
    with pytest.raises(ValueError, match="chapter.ipynb is not a notebook"):
        module.tidied(path, tmp_path)
    assert path.read_text() == content


@pytest.mark.parametrize(("columns", "wide"), [(5, False), (6, True)])
def test_a_cell_with_a_wide_table_is_tagged(module: ModuleType, columns: int, wide: bool):
    """Whatever else it shows, and only as long as it does."""
    table = pd.DataFrame([range(columns - 1)], index=["JDA"])._repr_html_()  # the index is a column too
    shown = [new_output("display_data", {"text/html": html}) for html in ("<p>text</p>", table)]
    cell = new_code_cell(
        "rows = table\nrows", outputs=shown, execution_count=1, metadata={"tags": ["nbval-check-output"]}
    )
    tidy = module.normalise(new_notebook(cells=[cell]), ROOT)
    assert tidy.cells[0].metadata.tags == ["nbval-check-output"] + ["full-width"] * wide
    assert module.normalise(tidy, ROOT) == tidy
    tidy.cells[0].outputs, tidy.cells[0].metadata.tags = [], ["full-width"]
    assert "tags" not in module.normalise(tidy, ROOT).cells[0].metadata


@pytest.mark.parametrize(
    ("source", "shown", "folded"),
    [
        ("study.contrasts", {"text/html": "<table></table>"}, True),
        ("figures.arms(study.frame)", {"image/svg+xml": "<svg/>"}, True),
        ("study.finding()", {"text/markdown": "JDA helps."}, False),
        ("shown = study.arms\nshown", {"text/html": "<table></table>"}, False),  # what it computes may be to be read
        ("%timeit jda(images)", {"image/png": ""}, False),
    ],
)
def test_a_cell_that_only_shows_something_is_folded(module: ModuleType, source: str, shown: dict, folded: bool):
    cell = new_code_cell(source, outputs=[new_output("display_data", shown)], execution_count=1)
    tidy = module.normalise(new_notebook(cells=[cell]), ROOT)
    assert tidy.cells[0].metadata.get("tags", []) == ["hide-input"] * folded
    assert module.normalise(tidy, ROOT) == tidy


def test_what_an_author_folds_stays_folded(module: ModuleType):
    cell = new_code_cell("rows = study.frame\nlen(rows)", execution_count=1, metadata={"tags": ["hide-input"]})
    assert module.normalise(new_notebook(cells=[cell]), ROOT).cells[0].metadata.tags == ["hide-input"]
