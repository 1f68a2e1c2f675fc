"""The parameters of a notebook: those that all chapters have, and a chapter's own, checked."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from kdlib.chapters.registry import own_options
from kdlib.records import check_values

COMMON = {
    "profile": (str, ...), "pair": (str, "auto"), "seeds": (list[int], []), "device": (str, "auto"),
    "data": (str, "auto"), "missing": (str, "auto"),
}  # fmt: skip
#: What is done about runs that are not there.
MISSING = ("auto", "train", "gap", "error")


def check_parameters(name: str, values: Mapping[str, Any], cells: Sequence[str] = ()) -> dict[str, Any]:
    """The chapter's parameters out of a notebook's names, checked.

    cells: the sources run so far (`In`). papermill puts what it was given in a cell that begins with
    "# Parameters", and only logs a name that no parameter has; here the last such cell is parsed and an unknown name
    raises ValueError, as does a value of a wrong type.
    """
    fields = COMMON | own_options(name)
    injected = [cell for cell in cells if cell.lstrip().startswith("# Parameters")]
    for target in assigned_names(injected[-1]) if injected else ():
        if target not in fields:
            raise ValueError(f"parameter {target!r} is unknown in {name}; allowed are {', '.join(fields)}")
    checked = check_values("parameter", fields, {field: values[field] for field in fields if field in values})
    if checked["missing"] not in MISSING:
        raise ValueError(f"parameter missing = {checked['missing']!r} is unknown; allowed are {', '.join(MISSING)}")
    return checked


def assigned_names(source: str) -> list[str]:
    """The names that a cell assigns, in order."""
    names = []
    for node in ast.parse(source).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names += [t.id for t in targets if isinstance(t, ast.Name)]
    return names
