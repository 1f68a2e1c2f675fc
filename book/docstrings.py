"""How Sphinx turns the docstrings of kdlib into the API pages of the book: an extension, named in _config.yml.

Docstrings are written for a terminal: names in backticks, `Args:` blocks here and there. Here names of kdlib
become links, so that one which does not exist fails the strict build, and records lose the noise of their libraries.
The comments `#: meaning` above the fields of a record, dataclass or named tuple become a list below its docstring.
"""

import dataclasses
import inspect
import pydoc
import re
import sys
from enum import Enum
from typing import Any, get_type_hints

from numpy.typing import ArrayLike
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
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
    """Leaves out what pydantic gives every record, and fields, which are listed; keeps the members of an Enum."""
    if isinstance(member, Enum):
        return False
    inherited = name.startswith("model_") and hasattr(BaseModel, name)
    field = what == "class" and name in fields(pydoc.locate(owner(app)))
    return True if inherited or field else None


def owner(app: Any) -> str:
    """The full name of the class whose members autodoc is at: its events do not say it."""
    return ".".join(app.env.temp_data[f"autodoc:{part}"] for part in ("module", "class"))


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
    """Blocks, links, fields and the ranges of records as reStructuredText."""
    text = "\n".join(lines)
    if what not in ("attribute", "data", "property"):  # there, a first line with a colon would be read as a type
        text = str(GoogleDocstring(text, BLOCKS, what=what))
    text = "\n\n".join([*map(itemised, text.split("\n\n")), "\n".join(field_items(member))])
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


def fields(member: Any) -> list[str]:
    """The names of the fields of a record, dataclass or named tuple, in order; of anything else none."""
    if is_record(member):
        return list(member.model_fields)
    if not inspect.isclass(member):
        return []
    if dataclasses.is_dataclass(member):
        return [field.name for field in dataclasses.fields(member)]
    return list(getattr(member, "_fields", ())) if issubclass(member, tuple) else []


def meanings(member: Any) -> dict[str, str]:
    """Field -> the comment `#: meaning` above it, in the class itself or in the one that it comes from."""
    said = {}
    for kind in reversed([kind for kind in getattr(member, "__mro__", ()) if fields(kind)]):
        comments = ModuleAnalyzer.for_module(kind.__module__).find_attr_docs()
        said |= {field: lines for (place, field), lines in comments.items() if place == kind.__qualname__}
    return {field: " ".join(said[field]).strip() for field in fields(member) if field in said}


def field_items(member: Any) -> list[str]:
    """The fields that have a meaning, each with the range of its numbers, as a list."""
    items = []
    for name, meaning in meanings(member).items():
        bounds = range_of(member.model_fields[name]) if is_record(member) else ""
        items.append(f"- {name} ({bounds}): {meaning}" if bounds else f"- {name}: {meaning}")
    return items


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


def range_of(field: FieldInfo) -> str:
    """The range of the numbers of a record's field; empty if it has none."""
    return " and ".join(f"{BOUNDS[b]} {getattr(m, b)}" for m in field.metadata for b in BOUNDS if hasattr(m, b))


def ranges(record: type[BaseModel]) -> list[str]:
    """The ranges of a record's numbers that no list of its fields says, if there are any, as a line."""
    listed = meanings(record)
    bounds = {name: range_of(field) for name, field in record.model_fields.items() if name not in listed}
    said = [f"{name} {bound}" for name, bound in bounds.items() if bound]
    return [f"Ranges: {', '.join(said)}."] if said else []
