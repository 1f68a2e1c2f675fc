"""How Sphinx turns the docstrings of kdlib into the API pages of the book: an extension, named in _config.yml.

Docstrings are written for a terminal: names in backticks, `Args:` blocks here and there. Here names of kdlib
become links, so that one which does not exist fails the strict build, and records lose the noise of their libraries.
"""

import inspect
import pydoc
import re
import sys
from enum import Enum
from typing import Any, get_type_hints

from numpy.typing import ArrayLike
from pydantic import BaseModel
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.inspect import stringify_signature
from sphinx.util.typing import stringify_annotation

CODE = re.compile(r"`([^`]+)`|(?<![\w/])(kdlib(?:\.\w+)+)")
ITEM = re.compile(r"\w+(, \w+)*: ")
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
BLOCKS = Config(napoleon_use_ivar=True)
PLAIN = {  # what autodoc writes: what stands on the page
    r"<function (\w+)>": r"\1",
    r"<factory>": "...",
    re.escape(stringify_annotation(ArrayLike, "smart")): "~numpy.typing.ArrayLike",
}


def setup(app: Any) -> dict[str, bool]:
    """Connects the functions below to autodoc's events, whose arguments they take."""
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring)
    return {"parallel_read_safe": True}


def skip(app: Any, what: str, name: str, member: Any, skipped: bool, options: Any) -> bool | None:
    """Leaves out what pydantic gives every record, and fields that the signature has; keeps the members of an Enum."""
    if isinstance(member, Enum):
        return False
    inherited = name.startswith("model_") and hasattr(BaseModel, name)
    field = (getattr(member, "__doc__", "") or "").startswith("Alias for field number")
    default = what == "class" and inspect.isfunction(member) and "." not in member.__qualname__
    return True if inherited or field or default else None


def signature(app: Any, what: str, name: str, member: Any, options: Any, text: str, returns: str) -> tuple:
    """What a reader would write: the fields of a record with their plain types, and short names for long values."""
    if inspect.isclass(member) and issubclass(member, Enum):
        return "", ""
    if is_record(member):
        parameters = inspect.signature(member).parameters
        kept = type("Kept", (), {"__annotations__": {key: p.annotation for key, p in parameters.items()}})
        plain = [p.replace(annotation=get_type_hints(kept)[key]) for key, p in parameters.items()]
        return stringify_signature(inspect.Signature(plain), unqualified_typehints=True), ""
    for pattern, short in PLAIN.items():
        text = text and re.sub(pattern, short, text)
    return text, returns


def docstring(app: Any, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """Blocks, links and the ranges of records as reStructuredText."""
    text = "\n".join(lines)
    if what not in ("attribute", "data", "property"):  # there, a first line with a colon would be read as a type
        text = str(GoogleDocstring(text, BLOCKS, what=what))
    text = "\n\n".join(itemised(paragraph) for paragraph in text.split("\n\n"))
    lines[:] = CODE.sub(lambda found: marked(found[1] or found[2], name), text).splitlines()
    if is_record(member):
        lines += ["", *ranges(member)]


def itemised(paragraph: str) -> str:
    """A paragraph with a `name: meaning` in every line, perhaps continued in an indented one, as a list."""
    lines = paragraph.splitlines()
    if len(lines) > 1 and ITEM.match(lines[0]) and all(ITEM.match(line) or line.startswith("    ") for line in lines):
        return "\n".join(f"  {line.strip()}" if line.startswith("    ") else f"- {line}" for line in lines)
    return paragraph


def is_record(member: Any) -> bool:
    return inspect.isclass(member) and issubclass(member, BaseModel)


def marked(code: str, home: str) -> str:
    """Code as a link, if it is the name of a module, class or function of this package, else as it stands.

    home: the full name of the object whose docstring it is in. A name kdlib.... that does not exist becomes a link to
    nowhere, at which the strict build fails.
    """
    name = code.removesuffix("()")
    if re.fullmatch(r"kdlib(\.\w+)+", name):
        found = pydoc.locate(name)
        if found is None or inspect.ismodule(found):
            return f":py:obj:`{code} <{name}>`"
    elif re.fullmatch(r"\w+(\.\w+)*", name):
        found = pydoc.locate(f"{module_of(home)}.{name}") or ("." in name and pydoc.locate(f"kdlib.{name}"))
    else:
        found = None
    if inspect.isclass(found) or inspect.isfunction(found):
        full = f"{found.__module__}.{found.__qualname__}"
        if full.startswith("kdlib.") and "._" not in full:
            return f":py:obj:`{code} <{full}>`"
    return f"``{code}``"


def module_of(name: str) -> str:
    """The name of the module that holds an object, by the object's full name."""
    while name not in sys.modules:
        name = name.rpartition(".")[0]
    return name


def ranges(record: type[BaseModel]) -> list[str]:
    """The ranges of a record's numbers, if it has any, as a line."""
    said = []
    for name, field in record.model_fields.items():
        bounds = [f"{BOUNDS[b]} {getattr(m, b)}" for m in field.metadata for b in BOUNDS if hasattr(m, b)]
        if bounds:
            said.append(f"{name} {' and '.join(bounds)}")
    return [f"Ranges: {', '.join(said)}."] if said else []
