"""Make an executed notebook fit for version control: the same run gives the same file.

Kept: sources, outputs, tags, figure metadata, displayed widgets.
Removed or renamed: what differs from one execution to the next or from one machine to another.

python book/normalise.py NOTEBOOK...: tidies the files in place; exit status 1 if one of them was not tidy.
"""

import ast
import copy
import hashlib
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MODEL_ID = re.compile(r"IPY_MODEL_(\w+)")
WIDE = "full-width"  # a tag that the theme knows: the cell is also as wide as the page's margin
FOLDED = "hide-input"  # one that the pages know: the code is there when it is asked for
SEEN = re.compile(r"<(?:table|img|svg)\b")  # in an output of HTML
COLUMNS = 6  # of a table that is, that of names among them
HEAD = re.compile(r"<thead>\s*<tr.*?</tr>", re.DOTALL)
HEADING = re.compile(r"<th[ >]")
CELL_METADATA = ("papermill", "execution", "ExecuteTime", "collapsed")


def normalise(notebook: NotebookNode, root: Path) -> NotebookNode:
    """A tidied copy of `notebook` (nbformat 4). Applying it twice gives the same as once.

    - the cell that papermill injected is dropped, so that the parameters cell is the one a reader edits;
    - execution counts run from 1 to n over the cells that were executed;
    - metadata of papermill, timing and editors, and empty `tags`, are dropped;
    - kernelspec and language_info are reduced to what the readers of a notebook need;
    - the state of widgets that no output shows is dropped, the rest get ids in order of appearance;
    - a cell that shows a wide table is tagged, so that the page gives it more room, and one whose only expression
      draws or tabulates, so that the page folds its code;
    - consecutive pieces of one stream are joined (where they are cut depends on timing);
    - paths become relative to `root`, so that no folder or user name of a machine is left;
    - a cell without an id, or with the id of an earlier one, gets one made from its source.
    """
    notebook = copy.deepcopy(notebook)
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in tags(cell)]
    count = 0
    seen: set[str] = set()
    for cell in notebook.cells:
        tidy_metadata(cell)
        set_id(cell, seen)
        if cell.cell_type != "code":
            continue
        cell.outputs = [tidy_output(output, root) for output in join_streams(cell.outputs)]
        mark(cell, WIDE, shows_wide_table(cell))
        mark(cell, FOLDED, FOLDED in tags(cell) or only_shows(cell))
        executed = cell.get("execution_count") is not None
        count += executed
        cell.execution_count = count if executed else None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    notebook.metadata = NotebookNode(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **{key: notebook.metadata[key] for key in ("widgets",) if key in notebook.metadata},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return tidy_widgets(notebook)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def tidy_metadata(cell: NotebookNode) -> None:
    for key in CELL_METADATA:
        cell.metadata.pop(key, None)
    if not tags(cell):
        cell.metadata.pop("tags", None)


def mark(cell: NotebookNode, tag: str, has: bool) -> None:
    """Gives a cell a tag, or takes it away."""
    kept = [other for other in tags(cell) if other != tag] + [tag] * has
    if kept:
        cell.metadata["tags"] = kept
    else:
        cell.metadata.pop("tags", None)


def shows_wide_table(cell: NotebookNode) -> bool:
    """Whether a cell shows a table of `COLUMNS` columns or more."""
    return any(len(HEADING.findall(head)) >= COLUMNS for head in HEAD.findall(shown_html(cell)))


def only_shows(cell: NotebookNode) -> bool:
    """Whether a cell is one expression, and what it gives is a picture, a table or a widget."""
    kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
    seen = any(kind.startswith("image/") for kind in kinds) or WIDGET_VIEW in kinds or SEEN.search(shown_html(cell))
    return bool(seen) and "remove-input" not in tags(cell) and is_expression(cell.source)


def is_expression(source: str) -> bool:
    try:
        ast.parse(source, mode="eval")
    except SyntaxError:  # also a magic of IPython
        return False
    return True


def shown_html(cell: NotebookNode) -> str:
    return "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)


def set_id(cell: NotebookNode, seen: set[str]) -> None:
    """Give `cell` an id that is not in `seen` (which is extended): its own if it can be kept."""
    identity = cell.get("id") or hashlib.sha256(cell.source.encode()).hexdigest()[:8]
    number = 1
    while identity in seen:
        number += 1
        identity = f"{identity.split('_again')[0]}_again{number}"
    cell.id = identity
    seen.add(identity)


def join_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def tidy_output(output: NotebookNode, root: Path) -> NotebookNode:
    if "text" in output:
        output.text = relative_paths(output.text, root)
    for mime, content in output.get("data", {}).items():
        if isinstance(content, str) and (mime.startswith("text/") or mime == "image/svg+xml"):
            output.data[mime] = relative_paths(content, root)
    return output


def relative_paths(text: str, root: Path) -> str:
    """`text` with this machine's folders made relative to `root`, or named by what they are."""
    text = re.sub(r"/[^\s:'\"<>]*/ipykernel_\d+/\d+\.py", "<cell>", text)
    text = re.sub(r"(?<![\w.])/[^\s:'\"<>]*/site-packages/", "site-packages/", text)
    # The last name has no angle brackets: paths in outputs of HTML would be read as tags.
    folders = {root: "", root.parent: "../", Path.home(): "~/", Path(tempfile.gettempdir()): "(temporary)/"}
    for folder, name in folders.items():
        if folder == Path(folder.anchor):
            continue
        path = r"(?<![\w./])(?:file://)?" + re.escape(str(folder))
        text = re.sub(path + "/", name, text)
        text = re.sub(path + r"(?![\w-])", name.rstrip("/") or ".", text)
    return re.sub(r"\(temporary\)/tmp\w{8}\b", "(temporary)", text)  # a folder with a random name


def tidy_widgets(notebook: NotebookNode) -> NotebookNode:
    """Keep the state of shown widgets and of links between them, under ids that do not depend on the run."""
    shown = [
        output.data[WIDGET_VIEW]["model_id"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if WIDGET_VIEW in output.get("data", {})
    ]
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    order = reachable(shown, state)
    if not order:
        notebook.metadata.pop("widgets", None)
        return notebook
    order += links_between(order, state)
    renamed = {old: f"{number:032x}" for number, old in enumerate(order, 1)}
    pattern = re.compile("|".join(map(re.escape, renamed)))

    def rename(value: Any) -> Any:
        return json.loads(pattern.sub(lambda match: renamed[match[0]], json.dumps(value)))

    kept = {renamed[old]: rename(state[old]) for old in order}
    notebook.metadata.widgets = {
        WIDGET_STATE: {"state": kept, "version_major": 2, "version_minor": 0},
    }
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if WIDGET_VIEW in output.get("data", {}):
                output.data[WIDGET_VIEW] = rename(output.data[WIDGET_VIEW])
    return notebook


def references(model: Any) -> list[str]:
    """Ids of the models that a widget's state refers to, in an order that does not depend on the ids."""
    return MODEL_ID.findall(json.dumps(model, sort_keys=True))


def reachable(shown: list[str], state: dict[str, Any]) -> list[str]:
    """Ids of the widgets in `shown` and of all they refer to, in order of appearance."""
    order: list[str] = []
    waiting = list(shown)
    while waiting:
        current = waiting.pop(0)
        if current in state and current not in order:
            order.append(current)
            waiting += references(state[current])
    return order


def links_between(known: list[str], state: dict[str, Any]) -> list[str]:
    """Ids of the jslink models whose ends are both in `known`: nothing that is shown refers to them."""
    links = [
        key
        for key, model in state.items()
        if key not in known
        and model.get("model_name") in ("LinkModel", "DirectionalLinkModel")
        and set(references(model)) <= set(known)
    ]
    return sorted(links, key=lambda key: [known.index(end) for end in references(state[key])])


def tidied(path: Path, root: Path) -> bool:
    """Whether a notebook was not tidy; it is now. Raises ValueError if it is none."""
    try:
        nbformat.validate(json.loads(path.read_text()))  # reading alone believes what is no notebook
        notebook = nbformat.read(path, as_version=4)
    except (json.JSONDecodeError, AttributeError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} is not a notebook: {error}") from None
    tidy = normalise(notebook, root)
    if tidy == notebook:
        return False
    nbformat.write(tidy, path)
    return True


def main(names: list[str]) -> int | str:
    """Exit status: 0 if all were tidy, 1 if some are only now, or a sentence."""
    try:
        changed = [name for name in names if tidied(Path(name), Path(__file__).resolve().parent.parent)]
    except ValueError as error:
        return str(error)
    for name in changed:
        print(f"tidied {name}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
