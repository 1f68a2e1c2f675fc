"""Parallel text: pairs of sentences that mean the same in two languages, by the name of their data set.

`grammar` is made here, see `kdlib.elsewhere.translation.grammar`; `help-texts` and `manuals` are fetched, see
`kdlib.elsewhere.translation.packages`; `pairs:FOLDER` is any folder of the files that are named in FILES.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kdlib.data import paths
from kdlib.elsewhere.translation import grammar
from kdlib.files import damaged, file_hash

Pair = tuple[str, str]
GRAMMAR, HELP, MANUALS = "grammar", "help-texts", "manuals"
FETCHED = (HELP, MANUALS)
SIDES = ("source", "target")
#: The files of a folder of parallel text, one sentence a line, UTF-8.
FILES = tuple(f"{part}.{side}" for part in ("train", "test") for side in SIDES)


@dataclass(frozen=True, eq=False)
class Parallel:
    """A data set of parallel text."""

    #: of the data set
    name: str
    #: (source, target), in the fixed order in which fewer of them are taken
    train: tuple[Pair, ...]
    #: (source, target); no source of these is one of the training pairs
    test: tuple[Pair, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all pairs (16 hex digits)."""
        return text_hash([*self.train, ("", ""), *self.test])[:16]


def text_hash(pairs: Sequence[Pair]) -> str:
    """SHA-256 of pairs in their order, in hexadecimal digits.

    >>> text_hash([("a b", "c")])[:8]
    'eb66c285'
    """
    return hashlib.sha256("".join(f"{source}\t{target}\n" for source, target in pairs).encode()).hexdigest()


def read_pairs(source: Path, target: Path) -> list[Pair]:
    """Pairs of two files of one sentence a line, UTF-8; each stretch of white space becomes one blank.

    Raises FileNotFoundError, or ValueError in one sentence: for text that is not UTF-8, a file without a sentence, an
    empty line, and files of unequal numbers of lines.
    """
    first, second = (_sentences(path) for path in (source, target))
    if len(first) != len(second):
        raise ValueError(
            f"{source} has {len(first)} lines and {target} {len(second)}; allowed are files of equally many, a "
            "sentence in each line"
        )
    return list(zip(first, second, strict=True))


def _sentences(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    lines = [" ".join(line.split()) for line in (lines[:-1] if lines[-1] == "" else lines)]
    if not any(lines):
        raise ValueError(f"{path} holds no sentence; allowed is a sentence in each line")
    if "" in lines:
        raise ValueError(f"{path} has an empty line, number {lines.index('') + 1}; allowed is a sentence in each line")
    return lines


def check_name(name: str) -> None:
    """Raises ValueError for a name that no parallel text can have."""
    kind, colon, _ = name.partition(":")
    own = kind == "pairs" and colon
    if not own and name not in (GRAMMAR, *FETCHED):
        raise ValueError(f"data = {name!r} is unknown; allowed are {', '.join((GRAMMAR, *FETCHED))} and pairs:FOLDER")
    if own:
        paths.check_from_root("data", name)


def folder_of(name: str) -> Path:
    """Where the files of a name lie, or would lie."""
    kind, colon, folder = name.partition(":")
    return paths.expanded(folder, kind) if colon else paths.data_root() / name


def locate(name: str) -> Path:
    """The folder of a name that is on this machine. FileNotFoundError says what is missing, and how to get it."""
    folder = folder_of(name)
    files = FILES[2:] if name == MANUALS else FILES
    missing = [file for file in files if not (folder / file).is_file()]
    if not missing:
        return folder
    names = f"{HELP} {MANUALS}" if name == MANUALS else name
    hint = f"run `python -m kdlib fetch {names}`" if name in FETCHED else f"allowed is a folder with {', '.join(FILES)}"
    raise FileNotFoundError(f"data = {name!r} is missing: {folder} has no {missing[0]}; {hint}")


def load_text(name: str) -> Parallel:
    """The parallel text of a name; manuals have test pairs alone.

    Raises ValueError (unknown name, unreadable or damaged file) or FileNotFoundError (absent).
    """
    check_name(name)
    if name == GRAMMAR:
        return _grammar()
    folder = locate(name)
    return _read(name, tuple((part, file_hash(folder / part)) for part in FILES if (folder / part).is_file()))


@lru_cache(maxsize=1)
def _grammar() -> Parallel:
    return Parallel(GRAMMAR, *(tuple(grammar.sentences(part)) for part in ("train", "test")))


@lru_cache(maxsize=4)
def _read(name: str, files: tuple[tuple[str, str], ...]) -> Parallel:
    """files: (name, SHA-256) of each, so that a changed one is read again."""
    folder = locate(name)
    if name in FETCHED and (fault := damaged(folder)):
        raise ValueError(f"{folder} is not what was fetched: {fault}; delete it, and fetch {name} again")
    splits = {
        part: tuple(read_pairs(*(folder / f"{part}.{side}" for side in SIDES)))
        for part in dict.fromkeys(file.partition(".")[0] for file, _ in files)
    }
    return Parallel(name, splits.get("train", ()), splits["test"])
