"""Processes that share runs as those of torchrun do, forked from a server that has imported torch: there at once."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from kdlib.lab import distributed, loop
from kdlib.lab.runs import execute
from kdlib.lab.specs import RunSpec

WORLD = 2


def start(work: Callable, *arguments) -> list[multiprocessing.Process]:
    """Two processes that join a group and then call work(*arguments); in the order of their ranks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kdlib.lab.runs"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(WORLD)}
    processes = []
    for rank in range(WORLD):
        given = dict(os.environ) | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(context.Process(target=_joined, args=(given, work, *arguments)))
        processes[-1].start()
    return processes


def _joined(environment: dict[str, str], work: Callable, *arguments) -> None:
    os.environ.update(environment)  # the server that forks has that of the test which started it
    with distributed.process_group("cpu"):
        work(*arguments)


def end(processes: Sequence[multiprocessing.Process]) -> list[int]:
    """Waits for processes; their exit codes."""
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def without_statistics() -> None:
    """From now on BatchNorm scales and shifts alone, so that no image sees the others of its batch."""
    nn.BatchNorm2d.forward = affine


def affine(layer: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """What is left of BatchNorm; the factor stands for the division by a deviation."""
    return x * layer.weight[:, None, None] * 0.3 + layer.bias[:, None, None]


def train_all(whole: Sequence[str], plain: Sequence[str]) -> None:
    """Executes specs at profile smoke, and then those that are to be plain without statistics."""
    for text in whole:
        execute(RunSpec.model_validate_json(text), "smoke")
    without_statistics()
    for text in plain:
        execute(RunSpec.model_validate_json(text), "smoke")


def train_slowly(text: str, folder: Path, die: dict[int, int]) -> None:
    """Executes a spec with a checkpoint after each step; each process notes its steps and its id in files.

    die: rank -> the step, from 0, within which that process is killed, between its gradients and its update.
    """
    loop.CHECKPOINT_SECONDS = 0.0
    rank, update = distributed.rank(), torch.optim.SGD.step
    (folder / f"id{rank}").write_text(str(os.getpid()))
    torch.optim.SGD.step = partial(_noting, update, folder / f"steps{rank}", die.get(rank))
    execute(RunSpec.model_validate_json(text), "smoke")


def _noting(update: Callable, steps: Path, moment: int | None, *arguments, **named):
    if moment is not None and taken(steps) == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    with steps.open("a") as file:
        file.write("s")
    return update(*arguments, **named)


def taken(steps: Path) -> int:
    """How many steps such a file notes."""
    return len(steps.read_text()) if steps.exists() else 0


if __name__ == "__main__":  # what torchrun starts: a file with a spec, and a folder for what is noted
    with distributed.process_group("cpu"):
        train_slowly(Path(sys.argv[1]).read_text(), Path(sys.argv[2]), {})
