"""Executors that are named on a command line: those of a file for Parsl, which asks a scheduler for machines."""

import runpy
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

KINDS = ("parsl",)


def parse_executor(text: str) -> Path:
    """The file of "parsl:FILE". Raises ValueError for another kind, or a file that is not there.

    >>> parse_executor("ray:cluster.py")
    Traceback (most recent call last):
        ...
    ValueError: executor = 'ray:cluster.py' is not possible: allowed is parsl:FILE, a Python file with a Parsl `config`
    """
    kind, _, name = text.partition(":")
    if kind not in KINDS or not name:
        raise ValueError(
            f"executor = {text!r} is not possible: allowed is parsl:FILE, a Python file with a Parsl `config`"
        )
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"executor = {text!r} names no file: {path} is not there")
    return path


@contextmanager
def open_executor(text: str) -> Iterator[Executor]:
    """Starts the executor of "parsl:FILE", and ends it afterwards. The file is a program: it is run.

    Raises ValueError for what `parse_executor` refuses, for a file without a `config`, and where Parsl is missing.
    """
    path = parse_executor(text)
    try:
        from parsl.concurrent import ParslPoolExecutor
        from parsl.config import Config
    except ImportError as error:
        raise ValueError(f"executor = {text!r} needs Parsl: pip install 'kdlib[cluster]'") from error
    config = runpy.run_path(str(path)).get("config")
    if not isinstance(config, Config):
        raise ValueError(f"executor = {text!r}: {path} defines no `config` of type parsl.config.Config")
    with ParslPoolExecutor(config) as executor:
        yield executor
