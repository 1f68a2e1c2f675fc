"""Progress where a person looks for it: a bar in a terminal, a panel in JupyterLab, a line a minute in a log."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

from kdlib.lab.progress import Meter, Reading

MINUTE = 60.0


class Display:
    """Shows readings as they come, and lines of text between them. This one is quiet, as continuous integration wants
    it."""

    def show(self, reading: Reading) -> None:
        """How far it is."""

    def say(self, text: str) -> None:
        """A line of text."""

    def close(self) -> None:
        """All is done."""


class Bar(Display):
    """A bar at the foot of a terminal; lines go above it."""

    def __init__(self) -> None:
        width = shutil.get_terminal_size().columns  # 80 where the terminal does not say
        self.bar = tqdm(total=1.0, bar_format="{percentage:3.0f} %|{bar:20}| {elapsed}, {desc}", ncols=width)

    def show(self, reading: Reading) -> None:
        self.bar.n = reading.share
        self.bar.set_description_str(str(reading), refresh=True)

    def say(self, text: str) -> None:
        self.bar.write(text)

    def close(self) -> None:
        self.bar.leave = False
        self.bar.close()


class Panel(Display):
    """A bar below the cell of a notebook, which is gone when all is done; lines are left out."""

    def __init__(self) -> None:
        from IPython.display import display
        from ipywidgets import FloatProgress, Label, VBox

        self.bar, self.label = FloatProgress(max=1.0, layout={"width": "100%"}), Label()
        self.box = VBox([self.bar, self.label])
        display(self.box)

    def show(self, reading: Reading) -> None:
        self.bar.value, self.label.value = reading.share, f"{reading.share:.0%}, {reading}"

    def close(self) -> None:
        self.box.close()


class Log(Display):
    """A line a minute, the first after a minute; other lines are left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.said = clock, clock()

    def show(self, reading: Reading) -> None:
        if self.clock() - self.said >= MINUTE:
            self.said = self.clock()
            print(f"{reading.share:.0%} after {reading.elapsed / MINUTE:.0f} min, {reading}", flush=True)


def display_here(environment: Mapping[str, str] = os.environ) -> Display:
    """What fits where this process runs: JupyterLab names its sessions, papermill and nbclient do not."""
    if environment.get("CI"):
        return Display()
    if "JPY_SESSION_NAME" in environment:
        return Panel()
    return Bar() if sys.stderr.isatty() else Log()


class Watch:
    """What `kdlib.lab.runs.run_all` tells of its runs, on a display."""

    def __init__(self, meter: Meter, display: Display):
        self.meter, self.display, self.say = meter, display, display.say

    def look(self, finished: Collection[str], shares: Mapping[str, float]) -> None:
        """Shows how far it is."""
        self.display.show(self.meter.read(finished, shares))


@contextmanager
def watching(work: Mapping[str, float], names: Mapping[str, str], unit: str = "runs") -> Iterator[Watch]:
    """A watch on what is to be done, see `Meter`, with the display that fits here; closed at the end."""
    display = display_here()
    watch = Watch(Meter(work, names, unit), display)
    watch.look((), {})
    try:
        yield watch
    finally:
        display.close()
