"""The monitor of a run: its curve grows while it trains, stopping leaves a checkpoint, going on gives the same bits."""

import re
import threading
import time
from pathlib import Path

import pytest

from kdlib.lab.checkpoints import read_checkpoint
from kdlib.lab.results import CHECKPOINT
from kdlib.lab.runs import execute
from kdlib.lab.store import Store
from kdlib.show import monitor as module
from kdlib.show.monitor import FINISHED, NOT_BEGUN, Monitor, watch

pytestmark = pytest.mark.usefixtures("isolated")
STEPS = 10  # 40 images, 4 views of each, 16 in a step


@pytest.fixture
def spec(make_spec):
    return make_spec(recipe={"evaluations": 5})


@pytest.fixture
def held(monkeypatch) -> threading.Event:
    """Runs wait after each step until it is set; drawings are as frequent as steps."""
    go = threading.Event()
    monkeypatch.setattr(module, "DRAWN", 0.0)
    noted = Monitor._note

    def note(self, done, total):
        noted(self, done, total)
        assert total == STEPS
        if done >= 5:
            assert go.wait(30)

    monkeypatch.setattr(Monitor, "_note", note)
    return go


def until(condition) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that in half a minute")


def test_the_curve_grows_while_the_run_trains(spec, held) -> None:
    monitor = Monitor(spec, "smoke")
    buttons, image = monitor.widget().children
    start, stop, label = buttons.children
    assert (label.value, start.disabled, stop.disabled) == (NOT_BEGUN, False, True)
    empty = image.value
    start.click()
    until(lambda: label.value == f"running: step 5 of {STEPS}")
    assert (start.disabled, stop.disabled) == (True, False)
    assert [e["step"] for e in monitor.evaluations] == [2, 4] and image.value != empty
    held.set()
    monitor.wait()
    assert label.value == FINISHED and (start.disabled, stop.disabled) == (False, True)
    assert monitor.evaluations == Store("smoke").get(spec).evaluations and len(monitor.evaluations) == 5


def test_a_stopped_run_goes_on_to_the_bits_of_one_that_was_not(spec, held, tmp_path: Path, monkeypatch) -> None:
    monitor = Monitor(spec, "smoke")
    start, stop, label = monitor.widget().children[0].children
    start.click()
    until(lambda: label.value.startswith("running: step 5"))
    stop.click()
    held.set()
    monitor.wait()
    assert label.value.endswith(f"stopped at step 5 of {STEPS}") and not monitor.running
    checkpoint = Store("smoke").folder(spec) / CHECKPOINT
    assert read_checkpoint(checkpoint, "cpu")["state"]["step"] == 5
    assert "stopped at step 5" in monitor.html()
    start.click()
    monitor.wait()
    assert label.value == FINISHED
    bits = Store("smoke").get(spec).bits
    monkeypatch.setenv("KDLIB_RUNS", str(tmp_path / "other"))
    assert execute(spec, "smoke").bits == bits


def test_no_request_is_left_behind(spec) -> None:
    watch(spec, "smoke", {})
    assert list((Store("smoke").runs / ".stop").iterdir()) == []


def test_a_page_waits_for_the_end_and_jupyterlab_does_not(spec, held) -> None:
    live = watch(spec, "smoke", {"JPY_SESSION_NAME": "a notebook"})
    assert live.running
    held.set()
    live.wait()
    ended = watch(spec, "smoke", {})
    assert not ended.running and ended.state == FINISHED
    html = ended.html()
    assert f"finished, top-1 {ended.evaluations[-1]['top1']:.2f} %" in html
    assert not re.search(r"(https?:)?//", re.sub(r'src="data:image/png;base64,[^"]+"', "", html))
    assert {"text/html", "application/vnd.jupyter.widget-view+json"} <= set(ended._repr_mimebundle_())


def test_a_failure_is_said_and_raised(spec, monkeypatch) -> None:
    def fail(*_):
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(module, "execute", fail)
    monitor = Monitor(spec, "smoke")
    monitor.start()
    with pytest.raises(FloatingPointError, match="the loss is not finite"):
        monitor.wait()
    assert monitor.state == "failed: the loss is not finite"
