"""A run in a process of its own that is killed at a chosen moment, for tests of what survives."""

import itertools
import multiprocessing
import os
import signal
from pathlib import Path

import torch

from kdlib.lab import checkpoints, loop
from kdlib.lab.results import CHECKPOINT, RESULT
from kdlib.lab.runs import execute
from kdlib.lab.specs import RunSpec

KINDS = ("step", "checkpoint", "weights", "result")  # what a process can be killed in


def start(
    spec: RunSpec, moment: int, share: float, kinds: tuple[str, ...] = KINDS, steps: Path | None = None
) -> multiprocessing.Process:
    """Runs a spec at profile smoke until its event number `moment`, from 0, of one of the kinds, and is killed there.

    A step is killed between its gradients and its update, a write when a share of its bytes is on the disk, and "place"
    before a new checkpoint is moved to its place. A checkpoint is written after each step. Too large a moment never
    comes, and the run ends. steps: a file that gets a letter for each step that any process takes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kdlib.lab.runs"])
    process = context.Process(target=_run, args=(spec.model_dump_json(), dict(os.environ), moment, share, kinds, steps))
    process.start()
    return process


def _run(
    text: str, environment: dict[str, str], moment: int, share: float, kinds: tuple[str, ...], steps: Path | None
) -> None:
    os.environ.update(environment)  # the server that forks has that of the test which started it
    count = itertools.count()
    write, save_file, write_text, replace = checkpoints.write, checkpoints.save_file, Path.write_text, Path.replace
    update = torch.optim.SGD.step

    def event(kind: str, path: Path | None = None, content: bytes = b"") -> None:
        if kind in kinds and next(count) == moment:
            if path is not None:
                path.write_bytes(content[: int(share * len(content))])
            os.kill(os.getpid(), signal.SIGKILL)

    def saving(content, path):
        write(content, path)
        event("checkpoint", path, path.read_bytes())

    def moving(path, target):
        if Path(target).name == CHECKPOINT:
            event("place")
        return replace(path, target)

    def saving_file(content, path):
        save_file(content, path)
        event("weights", path, path.read_bytes())

    def writing(path, content, *arguments, **named):
        if RESULT in path.name:
            event("result", path, content.encode())
        return write_text(path, content, *arguments, **named)

    def updating(*arguments, **named):
        if steps is not None:
            with steps.open("a") as file:
                file.write("s")
        event("step")
        return update(*arguments, **named)

    checkpoints.write, checkpoints.save_file, torch.optim.SGD.step = saving, saving_file, updating
    Path.write_text, Path.replace = writing, moving
    loop.CHECKPOINT_SECONDS = 0.0
    execute(RunSpec.model_validate_json(text), "smoke")
