"""Fetches parallel text: Debian's packages of documentation, unpacked in a temporary folder, made into pairs.

`apt-get download` gets a package without installing it; where there is none, $KDLIB_DEBS names a folder of .deb files
that were got elsewhere, see DEBS. Texts: LibreOffice's help is under MPL-2.0, GNOME's manuals are under CC-BY-SA-3.0.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kdlib.data import paths
from kdlib.elsewhere.translation.corpora import help_corpus, key, manual_pairs
from kdlib.elsewhere.translation.parallel import HELP, MANUALS, SIDES, Pair, folder_of, load_text, text_hash
from kdlib.files import made_once

#: Data set -> the Debian packages that it is made of.
DEBS: Mapping[str, tuple[str, ...]] = {
    HELP: ("libreoffice-help-en-us", "libreoffice-help-de"),
    MANUALS: ("gnome-user-docs",),
}
#: (data set, versions of its packages) -> SHA-256 of its pairs, the first 16 digits: those that published runs are of.
KNOWN: Mapping[tuple[str, str], str] = {
    (HELP, "libreoffice-help-en-us 4:7.4.7-1+deb12u14, libreoffice-help-de 4:7.4.7-1+deb12u14"): "b097d27481ad0d46",
    (MANUALS, "gnome-user-docs 43.0-2"): "99d7b82a863057c6",
}
VERSIONS = "versions.txt"  # of the packages, beside the pairs


def fetch(name: str) -> str:
    """Makes a data set in the data folder, unless it is there, and says in one sentence what it holds.

    Raises ValueError, in one sentence, if a package cannot be got or unpacked, or holds no pairs.
    """
    folder = folder_of(name)
    if name == MANUALS:
        load_text(HELP)  # whose training sentences are left out
    made_once(folder, lambda temporary: _make(name, temporary))
    return described(name, folder)


def described(name: str, folder: Path) -> str:
    """How many pairs a fetched data set has, their hash, and whether it is that of the packages' version."""
    text, versions = load_text(name), (folder / VERSIONS).read_text(encoding="utf-8").strip()
    counts = f"{len(text.train):,} training and " if text.train else ""
    mark, known = text_hash([*text.train, *text.test])[:16], KNOWN.get((name, versions))
    said = {mark: "as expected", None: "of other versions than published runs"}.get(
        known, f"where {known} was expected"
    )
    return f"{name}: {counts}{len(text.test):,} test pairs of {versions}; SHA-256 {mark}, {said}; in {folder}"


def _make(name: str, folder: Path) -> None:
    with unpacked(DEBS[name]) as (tree, versions):
        share = tree / "usr" / "share"
        if name == HELP:
            helps = share / "libreoffice" / "help"
            parts = help_corpus(helps / "en-US", helps / "de")._asdict()
        else:
            known = {key(source) for source, _ in load_text(HELP).train}
            parts = {"test": manual_pairs(share / "help" / "C", share / "help" / "de", known)}
    if empty := [part for part, pairs in parts.items() if not pairs]:
        raise ValueError(f"packages {versions} hold no pairs of part {empty[0]}: their pages are laid out otherwise")
    for part, pairs in parts.items():
        write_pairs(folder, part, pairs)
    (folder / VERSIONS).write_text(f"{versions}\n", encoding="utf-8")


def write_pairs(folder: Path, part: str, pairs: list[Pair]) -> None:
    """PART.source and PART.target, one sentence a line."""
    for side, texts in zip(SIDES, zip(*pairs, strict=True), strict=True):
        (folder / f"{part}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


@contextmanager
def unpacked(packages: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """A temporary folder with the files of packages, and their versions in words."""
    if shutil.which("dpkg-deb") is None:
        raise ValueError("dpkg-deb is not on this machine, and packages of Debian cannot be unpacked without it")
    with TemporaryDirectory() as temporary:
        tree = Path(temporary) / "tree"
        archives = [_archive(package, Path(temporary)) for package in packages]
        for archive in archives:
            _call(["dpkg-deb", "-x", str(archive), str(tree)], temporary)
        yield tree, ", ".join(_call(["dpkg-deb", "-W", str(a)], temporary).strip().replace("\t", " ") for a in archives)


def _archive(package: str, temporary: Path) -> Path:
    """The .deb file of a package: of $KDLIB_DEBS if that is set, else downloaded."""
    given = os.environ.get("KDLIB_DEBS")
    folder = paths.expanded(given, "KDLIB_DEBS") if given else temporary
    if not given:
        if shutil.which("apt-get") is None:
            raise ValueError(
                f"apt-get is not on this machine: get Debian's package {package}, and name its folder in KDLIB_DEBS"
            )
        _call(["apt-get", "download", package], str(temporary))
    found = sorted(folder.glob(f"{package}_*.deb"))
    if len(found) != 1:
        raise ValueError(f"{folder} holds {len(found)} files {package}_*.deb; allowed is one")
    return found[0].resolve()


def _call(command: list[str], folder: str) -> str:
    """What a program prints. Raises ValueError, with what it said, if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = re.sub(r"\s+", " ", done.stderr).strip()[-200:] or f"exit status {done.returncode}"
        raise ValueError(f"{' '.join(command[:2])} failed: {said}")
    return done.stdout
