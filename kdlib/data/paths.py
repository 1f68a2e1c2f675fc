"""Where data, checkpoints, results and runs live. Environment variables override; nothing is created here."""

import os
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2]
#: The project's folder; None where kdlib was installed without it.
CHECKOUT = _SOURCE if (_SOURCE / "pyproject.toml").exists() else None
#: The project's folder, or the current one.
ROOT = CHECKOUT or Path.cwd()
BUNDLED = ROOT / "data" / "fashion_mnist_8k.npz"
TEACHERS = ROOT / "data" / "teachers"  # runs that come with the project: those whose students learn at profile quick

THUMBNAILS = ROOT / "data" / "thumbnails"  # the images of other data sets that published chapters show


def _folder(variable: str, default: Path) -> Path:
    return expanded(os.environ.get(variable) or default, variable).resolve()


def expanded(path: str | Path, what: str) -> Path:
    """A path whose ~ stands for a home folder. Raises ValueError if that is not known; what: what the path is given as.

    >>> expanded("/data/images", "KDLIB_DATA")
    PosixPath('/data/images')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{what} = {str(path)!r} has a home folder that is not known: write it from the root"
        ) from error


def check_from_root(field: str, name: str, what: str = "folder") -> None:
    """Raises ValueError if the place in a name KIND:PATH depends on where somebody stands."""
    kind, _, path = name.partition(":")
    if not expanded(path, kind).is_absolute():
        raise ValueError(
            f"{field} = {name!r} must name its {what} from the root or from ~: it is part of what a run is"
        )


def data_root() -> Path:
    """Data sets: $KDLIB_DATA, else data/ of the project."""
    return _folder("KDLIB_DATA", ROOT / "data")


def checkpoint_root() -> Path:
    """Public teachers: $KDLIB_CHECKPOINTS, else checkpoints/ in the data root of the project."""
    return _folder("KDLIB_CHECKPOINTS", ROOT / "data" / "checkpoints")


def cache_root() -> Path:
    """Decoded image folders: $KDLIB_CACHE, else data/cache of the project (a data root may be read-only)."""
    return _folder("KDLIB_CACHE", ROOT / "data" / "cache")


def bank_root() -> Path:
    """View banks: $KDLIB_BANKS, else banks/ in the cache."""
    return _folder("KDLIB_BANKS", cache_root() / "banks")


def answers_root() -> Path | None:
    """Answers of teachers to fresh views, kept for other runs (see kdlib.lab.answers): $KDLIB_ANSWERS, else nowhere."""
    return _folder("KDLIB_ANSWERS", ROOT) if os.environ.get("KDLIB_ANSWERS") else None


def results_root() -> Path:
    """Published results, one small JSON file per run: $KDLIB_RESULTS, else results/ of the project."""
    return _folder("KDLIB_RESULTS", ROOT / "results")


def runs_root() -> Path:
    """Everything this machine has run: $KDLIB_RUNS, else runs/ of the project."""
    return _folder("KDLIB_RUNS", ROOT / "runs")
