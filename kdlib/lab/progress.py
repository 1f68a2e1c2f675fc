"""How far a study is: its runs say so while they run, and the time left follows from the speed of this machine.

A run notes the share of its steps that is done in a small file, so that whoever waits can read it, from another process
or another machine. Shares are weighed by multiply-accumulates: of two runs, the one of a larger network counts more.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NOTED = 0.5  # seconds between two notes of a run
EVIDENCE = 5.0  # seconds of work before the time left is said

Progress = Callable[[int, int], None]  #: steps done, steps in all
Clock = Callable[[], float]
Look = Callable[[Collection[str], Mapping[str, float]], None]  #: keys of finished runs; key -> share of one in flight


@contextmanager
def noting(path: Path) -> Iterator[Progress]:
    """Yields what a run calls after each step; the file holds the share that is done, and is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, last = path.with_suffix(".part"), -NOTED

    def note(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= NOTED:
            last = time.monotonic()
            with suppress(OSError):  # a full disk stops no run before it must write what counts
                part.write_text(f"{done / total:.4f}\n")
                part.replace(path)  # so that nobody reads half a note

    try:
        yield note
    finally:
        path.unlink(missing_ok=True)


def noted(path: Path) -> float | None:
    """The share that a run has noted, 0 to 1; None where there is no note: it has not begun, or is at its end."""
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Reading:
    """How far it is."""

    #: of the work, 0 to 1
    share: float
    #: seconds
    elapsed: float
    #: seconds, or None before there is evidence
    left: float | None
    #: how many
    finished: int
    #: how many
    total: int
    #: name of one in flight -> its share
    running: Mapping[str, float]
    #: what is counted
    unit: str = "runs"

    def __str__(self) -> str:
        left = "time left not known yet" if self.left is None else f"{span(self.left)} left"
        inside = ", ".join(f"{name} {share:.0%}" for name, share in self.running.items())
        return f"{self.finished} of {self.total} {self.unit}, {left}" + (f"; {inside}" if inside else "")


class Meter:
    """Shares and times of a study's runs.

    work: key -> multiply-accumulates of each run that is to be done, above 0; names: key -> what a run is called.
    unit: what they are; clock: seconds. The speed is measured from the first step on: starting processes is not slow
    work.
    """

    def __init__(
        self, work: Mapping[str, float], names: Mapping[str, str], unit: str = "runs", clock: Clock = time.monotonic
    ):
        self.work, self.names, self.unit, self.clock = work, names, unit, clock
        self.total = sum(work.values())
        self.started = clock()
        self.first: tuple[float, float] | None = None  # time and work done when the first step was seen

    def read(self, finished: Collection[str], shares: Mapping[str, float]) -> Reading:
        """From the keys of finished runs, and the share of each run in flight by its key."""
        done = sum(self.work[key] for key in finished) + sum(self.work[key] * share for key, share in shares.items())
        now = self.clock()
        if self.first is None and done > 0:
            self.first = now, done
        running = {self.names.get(key, key): share for key, share in shares.items()}
        share = done / self.total if self.total else 1.0
        left = self._left(now, done)
        return Reading(share, now - self.started, left, len(finished), len(self.work), running, self.unit)

    def _left(self, now: float, done: float) -> float | None:
        if self.first is None or now - self.first[0] < EVIDENCE or done <= self.first[1]:
            return None
        return (self.total - done) * (now - self.first[0]) / (done - self.first[1])


def span(seconds: float) -> str:
    """A duration in words, as exact as a forecast is: "40 s", "7 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{round(seconds, -1):.0f} s" if seconds >= 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
