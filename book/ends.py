"""What every chapter's page says at its top and at its end: an extension of Sphinx, named in _config.yml.

At the top how to open and run the chapter, at the end what to cite of it. The notebooks hold neither.
"""

from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes

TOP = """<p class="kd-line">In JupyterLab: <code>make lab</code>, then <code>{name}</code>. In a shell:
<code>papermill notebooks/{name}.ipynb out.ipynb --cwd notebooks -p profile quick</code></p>"""
END = """<p class="kd-line">To cite a figure of this page: {sources}. The book: <code>CITATION.cff</code> of the
project.</p>"""
RUNS = '<a href="../_static/tables/{name}.csv" download>the runs behind it (CSV, {count})</a>'
NOTEBOOK = '<a href="../_sources/notebooks/{name}.ipynb" download>its notebook</a>'


def setup(app: Any) -> dict[str, bool]:
    """Connects the function below to the event after the links of a page are known."""
    app.connect("doctree-resolved", put)
    return {"parallel_read_safe": True}


def put(app: Any, doctree: nodes.document, page: str) -> None:
    """Adds both lines to a chapter's page."""
    folder, _, name = page.rpartition("/")
    title = next(iter(doctree.findall(nodes.title)), None)
    if folder != "notebooks" or title is None:
        return
    runs = Path(app.srcdir, "book", "_static", "tables", f"{name}.csv")
    title.parent.insert(1, _html(TOP.format(name=escape(name))))
    title.parent.append(_html(END.format(sources=sources(escape(name), runs))))


def sources(name: str, runs: Path) -> str:
    """Links to the table of a chapter's runs, if it has one, and to its notebook."""
    if not runs.exists():
        return NOTEBOOK.format(name=name)
    count = len(runs.read_text(encoding="utf-8").splitlines()) - 1
    said = f"{count} runs" if count > 1 else "one run"
    return f"{RUNS.format(name=name, count=said)} and {NOTEBOOK.format(name=name)}"


def _html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")
