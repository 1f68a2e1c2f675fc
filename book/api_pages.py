"""The pages of the API reference, one for each room of kdlib, each module of it by its docstrings."""

import pkgutil
from collections.abc import Mapping

import kdlib

#: Room -> title of its page. What lies at the top of kdlib, outside all rooms, stands under "top".
ROOMS: Mapping[str, str] = {
    "views": "Views",
    "models": "Networks",
    "data": "Images",
    "methods": "Methods",
    "lab": "Runs, measurements and the store",
    "elsewhere": "Other tasks: hash codes for image search, detection, turned boxes, translation, and masked views",
    "study": "Comparisons and verdicts",
    "show": "Figures and explorers",
    "chapters": "The chapters",
    "top": "Records, random numbers, the session and the command line",
}
#: Modules whose constants are shown with their values.
WITH_VALUES = ("kdlib.study.stats", "kdlib.study.equivalence")


def room_of(module: str) -> str:
    """The room of a module by its full name."""
    _, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    return room if room in ROOMS else "top"


def modules() -> list[str]:
    """All public modules of kdlib but itself, by their full names."""
    found = (module.name for module in pkgutil.walk_packages(kdlib.__path__, "kdlib."))
    return [name for name in found if "._" not in name]


def api_pages() -> dict[str, str]:
    """File name -> the page as MyST Markdown."""
    return {f"api_{room}.md": _page(room, title) for room, title in ROOMS.items()}


def _page(room: str, title: str) -> str:
    return "\n".join([f"# {title}\n", *(_section(name) for name in modules() if room_of(name) == room)])


def _section(module: str) -> str:
    options = "   :no-no-value:\n" if module in WITH_VALUES else ""
    return f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n{options}```\n"
