"""A copy of the book with one small stand-in chapter, so that these tests need no training and no results."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]

PARAMETERS = """\
profile: str = "reference"  # scale
device: str = "auto"  # where to compute
missing: str = "auto"  # what to do about missing runs
seeds: list = [0, 1]  # one run for each"""

FIGURE = """\
import matplotlib.pyplot as plt
plt.plot([0, 1], [0, 1]);"""

WIDGETS = """\
import ipywidgets
unseen = ipywidgets.FloatSlider()
slider = ipywidgets.IntSlider(value=1, max=2, description="step")
stack = ipywidgets.Stack([ipywidgets.HTML(f"panel {i}") for i in range(3)], selected_index=1)
ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
ipywidgets.VBox([slider, stack])"""

TWO_FACES = """\
class TwoFaces:
    def _repr_mimebundle_(self, include=None, exclude=None):
        live = ipywidgets.Text("needs Python")._repr_mimebundle_()
        return live | {"text/html": "<b>works in a page</b>"}

TwoFaces()"""

SAID = """\
from IPython.display import Markdown
Markdown(f"A number {1.2345:.2f}, as [the blind teacher](03_blind_teacher.ipynb) has it.")"""

PROSE = r"""# Stand-in

A formula $a^2$, see [the rule](../book/how_to_read.md#verdict-rule), a work
[(Hinton et al., 2015)](../book/bibliography.md#hinton2015distilling), and {numref}`fig-line`.

$$
x = \boldsymbol{w}
$$"""


def standin() -> NotebookNode:
    """A notebook with all that a chapter has: parameters, formula, figure, widgets, a computed sentence."""
    mystnb = {"figure": {"caption": "A line.", "name": "fig-line"}, "image": {"alt": "a rising line"}}
    cells = [
        new_markdown_cell(PROSE),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell('print("profile", profile, seeds)', metadata={"tags": []}),
        new_code_cell(FIGURE, metadata={"mystnb": mystnb}),
        new_code_cell(WIDGETS),
        new_code_cell(TWO_FACES),
        new_code_cell(SAID, metadata={"tags": ["remove-input"]}),
    ]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


@pytest.fixture(scope="session")
def make_tree(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_tree(notebook) copies the book to a new folder, with `notebook` as the first chapter.

    The other chapters are blank, since pages link to them; with alone=True there are none (and the book's own pages
    cannot be built).
    """

    def make(notebook: NotebookNode, alone: bool = False) -> Path:
        tree = tmp_path_factory.mktemp("tree")
        shutil.copytree(ROOT / "book", tree / "book", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "_config.yml", tree)
        shutil.copy(ROOT / "_toc.yml", tree)
        (tree / "notebooks").mkdir()
        first, *others = chapters()
        nbformat.write(notebook, tree / first)
        if alone:
            toc = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": str(Path(first).with_suffix(""))}]}
            (tree / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
        else:
            for name in others:
                nbformat.write(blank(name), tree / name)
        return tree

    return make


def chapters() -> list[str]:
    """The notebooks of `_toc.yml`, in order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [f"{name}.ipynb" for name in files if name.startswith("notebooks/")]


def blank(name: str) -> NotebookNode:
    """The least that a chapter may be: the pages of the book link to it."""
    notebook = standin()
    notebook.cells = [new_markdown_cell(f"# {Path(name).stem}"), notebook.cells[1]]
    return notebook


def build(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run book/build.py of `tree` in a process of its own."""
    command = [sys.executable, str(tree / "book" / "build.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def load(tree: Path) -> ModuleType:
    """The module book/build.py of `tree`, for calls in this process."""
    spec = importlib.util.spec_from_file_location("book_build", tree / "book" / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(tree / "book"))  # as when it is run as a program
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(tree / "book"))
    return module
