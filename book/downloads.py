"""The runs behind the figures of a chapter, as a table for its page to link: _static/tables/NAME.csv."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdlib.chapters.registry import create_study, own_options
from kdlib.lab.store import Store, only_published
from kdlib.study.setting import Setting, Study
from kdlib.study.tables import runs_frame

FOLDER = Path("book", "_static", "tables")  # not "runs", which _config.yml excludes
CHOICES = ("pair", "seeds", "data")  # parameters of a notebook that make another setting


def write_published(site: Path, profiles: Mapping[str, str]) -> None:
    """A table for each committed notebook that has runs in results/; profiles: notebook -> its profile."""
    with only_published("reference") as store:  # results/ holds those of all profiles
        for name, profile in profiles.items():
            _write(site, create_study(Path(name).stem, Setting.of(profile, device="cpu")), store)


def write_stored(site: Path, notebooks: Iterable[str], profile: str, given: Mapping[str, Any]) -> None:
    """A table for each executed notebook that has runs in the store of a profile; given: its other parameters."""
    store = Store(profile)
    choices = {name: given[name] for name in CHOICES if name in given}
    setting = Setting.of(profile, device=given["device"], **choices)
    for name in (Path(notebook).stem for notebook in notebooks):
        options = {option: given[option] for option in own_options(name) if option in given}
        _write(site, create_study(name, setting, **options), store)


def _write(site: Path, study: Study, store: Store) -> None:
    frame = runs_frame(study, store)
    if len(frame):
        (site / FOLDER).mkdir(parents=True, exist_ok=True)
        frame.to_csv(site / FOLDER / f"{study.name}.csv", index=False)
