"""Studies by the names of their chapters: the runs that answer one question, fixed before any result."""

import inspect
import json
import shlex
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from kdlib.chapters import CHAPTERS
from kdlib.records import check_values
from kdlib.study.profiles import PROFILES, Profile
from kdlib.study.setting import Setting, Study


def _creator(name: str) -> Callable[..., Study]:
    """The function that builds a chapter's study from a setting and the chapter's own options.

    Raises ValueError for an unknown chapter.
    """
    if name not in CHAPTERS:
        raise ValueError(f"study = {name!r} is unknown; allowed are {', '.join(CHAPTERS)}")
    return import_module(f"kdlib.chapters.{name[3:]}").create


def own_options(name: str) -> dict[str, tuple[Any, Any]]:
    """The options that only this study has: name -> (type, default)."""
    parameters = list(inspect.signature(_creator(name)).parameters.values())
    return {p.name: (p.annotation, p.default) for p in parameters[1:]}


def create_study(name: str, setting: Setting, **options: Any) -> Study:
    """The study called `name`. Raises ValueError for an unknown study, or an option of a wrong name, type or value."""
    allowed = own_options(name)
    for option in options:
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}; allowed are {', '.join(allowed) or 'none'}")
    _check_profile(name, setting.profile)
    return _creator(name)(setting, **check_values("option", allowed, options))


def _check_profile(name: str, scale: Profile) -> None:
    """Raises ValueError for a profile that belongs to other chapters."""
    if scale.chapters and name not in scale.chapters:
        allowed = [other.name for other in PROFILES.values() if not other.chapters or name in other.chapters]
        raise ValueError(
            f"profile = {scale.name!r} belongs to chapter {', '.join(scale.chapters)}; {name} has {', '.join(allowed)}"
        )


def studies_of(setting: Setting) -> list[Study]:
    """Every study of a setting's profile, and none that belongs to another one."""
    studies = [create_study(name, setting) for name in setting.profile.chapters or CHAPTERS]
    return studies if setting.profile.trains else [s for s in studies if s.setting.profile is setting.profile]


def command_line(name: str, given: Mapping[str, Any]) -> str:
    """The shell command that trains what a study needs at these choices; defaults ("auto", none) may be left out."""
    words = ["python", "-m", "kdlib", "run", name, "--profile", given["profile"]]
    for field in ("pair", "device", "data"):
        if given.get(field, "auto") != "auto":
            words += [f"--{field}", given[field]]
    if given.get("stack"):
        words += ["--stack", str(given["stack"])]
    if given.get("seeds"):
        words += ["--seeds", *map(str, given["seeds"])]
    for option, (_, default) in own_options(name).items():
        if given.get(option) not in (None, [], default):
            words += ["--option", f"{option}={json.dumps(given[option])}"]
    return shlex.join(words)
