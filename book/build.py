"""Execute the notebooks of the book and build its pages.

    python book/build.py --profile quick              what `make book` runs: _build/html/index.html
    python book/build.py --published                  what `make html` runs: _build/published/html/index.html
    python book/build.py --in-place --missing error   what `make notebooks` runs: rewrites notebooks/

Nothing is written next to the sources except by --in-place, and a page is replaced only when all went well.
"""

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from api_pages import api_pages
from downloads import write_published, write_stored
from lab import lists
from method_list import methods_page
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from normalise import normalise
from papermill.exceptions import PapermillExecutionError
from taxonomy import taxonomy_page
from trust import FIGURE, trust_page, write_figure

from kdlib.study.profiles import PROFILES

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"

BANNERS = {name: f"Profile {scale.summary}" for name, scale in PROFILES.items()}
OWN = {name: scale.chapters for name, scale in PROFILES.items() if scale.chapters}  # which other pages do not have

TYPES = {"str": str, "bool": bool, "int": int, "float": (int, float), "list": list, "dict": dict}

# The runs are done before, so a notebook mostly waits for imports and figures.
AT_ONCE = 2

# ipykernel 7 warns once per kernel that it talks over local TCP in plain text; errors are still shown.
KERNEL_ARGUMENTS = ["--log-level=ERROR"]


class BuildError(Exception):
    """What went wrong, in a sentence for the person who ran the build."""


def toc_notebooks(root: Path) -> list[str]:
    """Names of the notebooks in `_toc.yml`, in reading order, relative to `root`.

    Raises BuildError if an entry of the folder notebooks/ has no file.
    """

    def files(node: Any) -> Iterator[str]:
        if isinstance(node, list):
            for item in node:
                yield from files(item)
        elif isinstance(node, dict):
            if "file" in node:
                yield node["file"]
            for key in ("parts", "chapters", "sections"):
                yield from files(node.get(key))

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    names = [f"{Path(name).with_suffix('')}.ipynb" for name in files(toc) if name.startswith("notebooks/")]
    for name in names:
        if not (root / name).is_file():
            raise BuildError(f"_toc.yml names {name}, which does not exist.")
    return names


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Refuse a parameter the notebook does not have, or one of another type.

    papermill itself only logs an unknown name and runs with the defaults.
    Raises BuildError.
    """
    known = papermill.inspect_notebook(str(notebook))
    for name, value in parameters.items():
        if name not in known:
            allowed = ", ".join(known) or "none: it has no cell tagged `parameters`"
            raise BuildError(f"{notebook.name} has no parameter {name!r}; its parameters: {allowed}.")
        declared = known[name]["inferred_type_name"].split("[")[0]
        expected = TYPES.get(declared)
        wrong_bool = isinstance(value, bool) and declared != "bool"
        if expected and (wrong_bool or not isinstance(value, expected)):
            raise BuildError(
                f"{notebook.name}: parameter {name} must be of type {declared}, got {value!r} ({type(value).__name__})."
            )


def default_profile(notebook: Path) -> str:
    """The profile that stands in the parameters cell of a notebook."""
    return str(yaml.safe_load(papermill.inspect_notebook(str(notebook)).get("profile", {}).get("default", "null")))


def own_profile(notebook: Path) -> str | None:
    """The default profile of a committed notebook where it is one that other chapters do not have, or None."""
    default = default_profile(notebook)
    return default if is_own(notebook, default) else None


def is_own(notebook: Path, profile: str) -> bool:
    """Whether a profile is one that this notebook has and other chapters do not."""
    return notebook.stem in OWN.get(profile, ())


def published_banners(notebooks: list[Path]) -> tuple[str, dict[str, str]]:
    """The banner of the committed notebooks, and page -> banner for those with a profile of their own: the profile is
    the default in their parameters cell.

    Raises BuildError if the others do not share one.
    """
    defaults = {path: default_profile(path) for path in notebooks}
    own = {f"{path.parent.name}/{path.stem}": BANNERS[p] for path, p in defaults.items() if is_own(path, p)}
    shared = {profile for path, profile in defaults.items() if not is_own(path, profile)}
    if len(shared) != 1 or shared - set(BANNERS):
        raise BuildError(f"The committed notebooks must share one profile, found {sorted(shared)}.")
    return BANNERS[shared.pop()], own


def stage(site: Path, banner: str, banners: dict[str, str]) -> None:
    """Copy what the pages are made from to `site` (emptied first), with the pages and the lists of the lab that are
    computed, and put the banner in its configuration, and those of single pages."""
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    for folder in ("book", "notebooks"):
        shutil.copytree(
            ROOT / folder,
            site / folder,
            ignore=shutil.ignore_patterns("*.py", "__pycache__", ".ipynb_checkpoints"),
        )
    shutil.copy(ROOT / "_toc.yml", site)
    pages = {"method_list.md": methods_page(), "taxonomy.md": taxonomy_page(), "trust.md": trust_page(), **api_pages()}
    for name, page in pages.items():
        (site / "book" / name).write_text(page, encoding="utf-8")
    write_figure(site / "book" / "_static" / FIGURE)
    (site / "book" / "_static" / "lab" / "lists.js").write_text(lists(), encoding="utf-8")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config.setdefault("html", {})["announcement"] = banner
    config["sphinx"]["config"]["banners"] = banners
    (site / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def plain(text: str) -> str:
    """`text` without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def execute(notebook: Path, parameters: dict[str, Any], tidy: bool) -> float:
    """Run one notebook in its own folder and replace it by the result, only if every cell passed.

    With `tidy` the result is normalised for version control. Returns seconds.
    Raises BuildError with the notebook's name, the cell and its error.
    """
    started = time.perf_counter()
    temporary = BUILD / "executing" / notebook.name
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(temporary),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(notebook.parent),
            progress_bar=False,
            extra_arguments=KERNEL_ARGUMENTS,
            shutdown_kernel="immediate",  # it has nothing to save; asked politely, it is interrupted, and says so
        )
        if tidy:
            nbformat.write(normalise(nbformat.read(temporary, as_version=4), ROOT), temporary)
        temporary.replace(notebook)
    except PapermillExecutionError as error:
        trace = plain("\n".join(error.traceback))
        raise BuildError(
            f"{trace}\n{notebook.name} failed in cell {error.cell_index}: {plain(error.ename)}: {plain(error.evalue)}"
        ) from error
    except (CellTimeoutError, DeadKernelError) as error:
        raise BuildError(f"{notebook.name} failed: {type(error).__name__}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return time.perf_counter() - started


def execute_all(notebooks: dict[Path, dict[str, Any]], tidy: bool) -> None:
    """Check the parameters of every notebook, then run them, two kernels at a time, with a line each."""
    for path, parameters in notebooks.items():
        check_parameters(path, parameters)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {pool.submit(execute, path, parameters, tidy): path for path, parameters in notebooks.items()}
        try:
            for i, future in enumerate(as_completed(futures), 1):
                print(f"[{i}/{len(notebooks)}] {futures[future].name}: {future.result():.1f} s", flush=True)
        except BaseException:  # also Ctrl-C: what has not begun does not begin
            pool.shutdown(cancel_futures=True)
            raise


def build_pages(site: Path, html: Path) -> None:
    """Build `site` strictly (a warning is an error) and put the pages in `html`.

    Raises BuildError, after printing the log, if anything is wrong; `html` is then as it was.
    """
    output = site.with_name("site-out")
    shutil.rmtree(output, ignore_errors=True)
    program = shutil.which("jupyter-book", path=str(Path(sys.executable).parent))
    if program is None:
        raise BuildError(f"jupyter-book is not installed beside {sys.executable}: install with `make`.")
    command = [program, "build", str(site), "--path-output", str(output), "-W", "-n", "--keep-going"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "book")}  # for the extensions there, see _config.yml
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    pages = output / "_build" / "html"
    if done.returncode or not (pages / "index.html").is_file():
        print(done.stdout)
        problems = [line for line in plain(done.stdout).splitlines() if "WARNING" in line or "ERROR" in line]
        raise BuildError("\n".join(["The strict build failed.", *problems]))
    shutil.rmtree(html, ignore_errors=True)
    shutil.move(pages, html)


def parse_value(pair: list[str]) -> tuple[str, Any]:
    """A parameter from the command line: (name, value read as YAML)."""
    name, value = pair
    return name, yaml.safe_load(value)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Execute the notebooks and build the pages of the book.")
    scales = [name for name in BANNERS if name not in OWN]  # the chapter of such a profile shows it at others too
    parser.add_argument("--profile", choices=scales, default="quick", help="scale at which to execute")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        dest="extra",
        help="another parameter for every notebook; VALUE is YAML, for example -p seeds '[0, 1]'",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--published", action="store_true", help="build the committed notebooks, unexecuted")
    mode.add_argument(
        "--in-place", action="store_true", help="execute notebooks/ at their published profile, normalise, no pages"
    )
    parser.add_argument(
        "--missing", choices=["error", "gap", "train"], default="error", help="for --in-place: missing runs"
    )
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    """Do what the command line asked for. Raises BuildError."""
    started = time.perf_counter()
    names = toc_notebooks(ROOT)
    extra = dict(parse_value(pair) for pair in options.extra)
    if options.in_place:
        parameters = {"device": options.device, "missing": options.missing, **extra}
        given = {ROOT / name: {"profile": own_profile(ROOT / name) or "reference", **parameters} for name in names}
        execute_all(given, tidy=True)
        return
    if options.published:
        site, html = BUILD / "published" / "site", BUILD / "published" / "html"
        stage(site, *published_banners([ROOT / name for name in names]))
        write_published(site, {name: default_profile(ROOT / name) for name in names})
    else:
        site, html = BUILD / "site", BUILD / "html"
        stage(site, BANNERS[options.profile], {})
        parameters = {"profile": options.profile, "device": options.device, **extra}
        execute_all({site / name: parameters for name in names}, tidy=False)
        write_stored(site, names, options.profile, parameters)
    executed = time.perf_counter()
    build_pages(site, html)
    finished = time.perf_counter()
    print(f"Notebooks: {executed - started:.1f} s. Pages: {finished - executed:.1f} s.")
    print(f"The book is at {(html / 'index.html').as_uri()}")


def main(argv: list[str] | None = None) -> int:
    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        run(parse_arguments(argv))
    except BuildError as error:
        print(f"{error}\nNo page was written.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
