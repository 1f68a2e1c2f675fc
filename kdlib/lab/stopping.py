"""When a study ends before it is through: its time is over, somebody asked it to, or its parent has died.

The request is a file, which every process sees, whoever started it and however. A run looks after each step, writes a
checkpoint, and ends; see `kdlib.lab.train`.
"""

import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from kdlib.data.processes import end_with_parent

GRACE = 6.0  # seconds that runs in flight have to reach a checkpoint, before their processes are ended
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedError(Exception):
    """A study, or a run, ended before it was through. What was begun lies in a checkpoint, and goes on from there."""


class OutOfTimeError(StoppedError):
    """Because the time that was given is over."""


class InterruptedStudyError(StoppedError):
    """Because a signal asked for it."""

    def __init__(self, message: str, number: int):
        super().__init__(message, number)  # both, since a worker's error is pickled with its arguments
        self.message, self.number = message, number  #: what is to be said, and the signal

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Stop:
    """What a run looks at after each step."""

    #: of `time.time`; no step is begun after it
    until: float | None = None
    #: no step is begun once this file is there
    request: Path | None = None

    def is_due(self) -> bool:
        """Whether to end now."""
        return self.is_late() or self.requested() is not None or not _has_parent()

    def is_late(self) -> bool:
        """Whether the time is over."""
        return self.until is not None and time.time() >= self.until

    def error(self, said: str) -> StoppedError:
        """What to raise once it is due, with what is to be said."""
        number = self.requested()
        if number is not None:
            return InterruptedStudyError(said, number)
        return OutOfTimeError(said) if self.is_late() else StoppedError(said)

    def ask(self, number: int) -> None:
        """Makes the request, in the name of a signal; once it is made nothing happens."""
        if self.request is not None:
            with suppress(FileExistsError), self.request.open("x") as file:
                file.write(str(int(number)))

    def requested(self) -> int | None:
        """The number of the signal that asked, or None."""
        if self.request is None or not self.request.exists():
            return None
        return int(self.request.read_text() or signal.SIGTERM)  # empty between its creation and its first byte


NEVER = Stop()


def _has_parent() -> bool:
    """False in a worker whose parent has died, whatever killed it; a process that has none is its own."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


@contextmanager
def listening(stop: Stop) -> Iterator[None]:
    """While it lasts a first SIGINT or SIGTERM makes the request; a second one interrupts, as Python does anyway.

    Elsewhere than in the main thread, where Python hears no signals, it changes nothing.
    """
    if stop.request is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def hear(number: int, frame: FrameType | None) -> None:
        if stop.requested() is not None:
            raise KeyboardInterrupt
        stop.ask(number)

    for number in SIGNALS:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def request_in(folder: Path, until: float | None) -> Iterator[Stop]:
    """A stop that signals to this process ask for, by a file of its own in a folder; the file is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    stop = Stop(until, folder / f"{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with listening(stop):
            yield stop
    finally:
        stop.request.unlink(missing_ok=True)


def begin_worker() -> None:
    """What a process of ours begins with: Ctrl-C is its parent's business, and it does not outlive its parent.

    SIGTERM ends it at once: that is how a pool is ended in which another one died.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(GRACE)  # for the checkpoint of its run
