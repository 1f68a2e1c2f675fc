"""A training run to look at while it runs, to stop, and to go on with.

It has two faces, as the explorers have: buttons and curves in JupyterLab, and in the page the last state.
"""

import base64
import io
import os
import signal
import threading
import time
from collections.abc import Mapping
from html import escape

import ipywidgets as widgets
from matplotlib.figure import Figure

from kdlib.lab.checkpoints import read_checkpoint
from kdlib.lab.results import CHECKPOINT
from kdlib.lab.runs import execute, missing
from kdlib.lab.schedule import in_a_sentence
from kdlib.lab.specs import RunSpec
from kdlib.lab.stopping import Stop, StoppedError
from kdlib.lab.store import Store
from kdlib.show.figures import BLUE, ORANGE

DRAWN = 0.5  # seconds between two drawings
NOT_BEGUN, FINISHED = "not begun", "finished"


class Monitor:
    """One run of a profile's store, trained in a thread of this process.

    Points are the evaluations that the run writes into its checkpoints; a recipe has up to 10. Stopping makes the
    request of `kdlib.lab.stopping`: the run ends at a checkpoint, and started again goes on from it to the same bits.
    """

    def __init__(self, spec: RunSpec, profile: str):
        self.spec, self.profile, self.store = spec, profile, Store(profile)
        self.state, self.error = NOT_BEGUN, None  #: what is to be said, and why the run failed
        self.evaluations: list[dict[str, float]] = []
        self.stop_request = Stop(request=self.store.runs / ".stop" / f"{os.getpid()}.{spec.key}")
        self._thread: threading.Thread | None = None
        self._faces: list[tuple[widgets.Image, widgets.Label, widgets.Button, widgets.Button]] = []
        self._drawn, self._read = 0.0, 0.0

    @property
    def running(self) -> bool:
        """Whether the run is being trained here."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begins the run, or goes on with it; nothing happens while it runs."""
        if self.running:
            return
        self.error = None
        self.stop_request.request.parent.mkdir(parents=True, exist_ok=True)
        self.stop_request.request.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks the run to end at a checkpoint."""
        if self.running:
            self.stop_request.ask(signal.SIGINT)

    def wait(self) -> None:
        """Until the run has ended. Raises what it failed of."""
        if self._thread is not None:
            self._thread.join()
        if self.error is not None:
            raise self.error

    def _train(self) -> None:
        self.state = "running"
        try:
            for spec in missing([self.spec], self.store):  # its teachers first
                execute(spec, self.profile, self._note if spec == self.spec else None, self.stop_request)
            self.state = FINISHED
        except StoppedError as stopped:
            self.state = str(stopped)
        except Exception as error:  # wait() raises it
            self.state, self.error = f"failed: {in_a_sentence(error)}", error
        finally:
            self.stop_request.request.unlink(missing_ok=True)
            self._look()
            self._show(running=False)

    def _note(self, done: int, total: int) -> None:
        """After each step: half a second after the last time it looks and draws again."""
        self.state = f"running: step {done} of {total}"
        if time.monotonic() - self._drawn >= DRAWN:
            self._look()
            self._show(running=True)
            self._drawn = time.monotonic()

    def _look(self) -> None:
        """Takes the evaluations of the result, or those of the newest checkpoint."""
        result, path = self.store.get(self.spec), self.store.folder(self.spec) / CHECKPOINT
        if result is not None:
            self.evaluations = result.evaluations
        elif path.exists() and path.stat().st_mtime != self._read:
            self._read = path.stat().st_mtime
            self.evaluations = list(read_checkpoint(path, "cpu")["state"]["evaluations"])

    def figure(self) -> Figure:
        """Loss and accuracy at the evaluations so far. Drawn without pyplot, which is not for threads."""
        figure = Figure(figsize=(7.6, 2.8), layout="constrained")
        panels = (("loss", "mean training loss so far", BLUE), ("top1", "test top-1, %", ORANGE))
        for axis, (name, label, colour) in zip(figure.subplots(1, 2), panels, strict=True):
            axis.plot([e["step"] for e in self.evaluations], [e[name] for e in self.evaluations], "o-", color=colour)
            axis.set(xlabel="step", ylabel=label)
            axis.grid(alpha=0.25)
        return figure

    def picture(self) -> bytes:
        """The figure as PNG."""
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()

    def html(self) -> str:
        """The page's face: the last state."""
        last = f", top-1 {self.evaluations[-1]['top1']:.2f} %" if self.evaluations else ""
        said = f"A run of {self.spec.method}, seed {self.spec.seed}: {self.state}{last}"
        image = base64.b64encode(self.picture()).decode()
        return (
            f'<figure class="kd-monitor"><img src="data:image/png;base64,{image}" alt="{escape(said)}">'
            f"<figcaption>{escape(said)}. In JupyterLab two buttons start and stop it.</figcaption></figure>"
        )

    def widget(self) -> widgets.Widget:
        """JupyterLab's face: two buttons, the state, the curves."""
        start, stop = widgets.Button(description="Start or go on"), widgets.Button(description="Stop")
        start.on_click(lambda _: self.start())
        stop.on_click(lambda _: self.stop())
        label, image = widgets.Label(), widgets.Image(format="png")
        self._faces.append((image, label, start, stop))
        self._show(self.running)
        return widgets.VBox([widgets.HBox([start, stop, label]), image])

    def _show(self, running: bool) -> None:
        """Brings every widget up to date."""
        for image, label, start, stop in self._faces:
            image.value, label.value = self.picture(), self.state
            start.disabled, stop.disabled = running, not running

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """Both faces in one output; a page takes text/html, JupyterLab the widget."""
        bundle = self.widget()._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**data, "text/html": self.html(), "text/plain": f"A training run: {self.state}"}


def watch(spec: RunSpec, profile: str, environment: Mapping[str, str] = os.environ) -> Monitor:
    """Starts a run and returns its monitor: at once in JupyterLab, whose reader may stop it, else at its end."""
    monitor = Monitor(spec, profile)
    monitor.start()
    if "JPY_SESSION_NAME" not in environment:  # JupyterLab names its sessions, papermill and nbclient do not
        monitor.wait()
    return monitor
