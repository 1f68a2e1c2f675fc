"""How far a study is: notes of runs, work done, time left, and what is shown of it where."""

import io
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlib.lab.progress import EVIDENCE, Meter, Reading, noted, noting, span
from kdlib.lab.runs import run_all
from kdlib.lab.schedule import shares
from kdlib.lab.store import Store
from kdlib.show import displays


class Clock:
    """Time as a test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_run_notes_its_share_and_leaves_nothing(tmp_path):
    path = tmp_path / "progress" / "key"
    with noting(path) as note:
        note(1, 4)
        assert noted(path) == 0.25
        note(2, 4)  # at once after the first: not written
        assert noted(path) == 0.25
    assert not path.exists()
    assert noted(path) is None


@given(
    work=st.lists(st.floats(1.0, 10.0), min_size=2, max_size=8),
    start=st.floats(0.0, 30.0),
    speed=st.floats(0.01, 0.05),
    later=st.floats(1.0, 20.0),
)
def test_time_left_is_what_the_speed_since_the_first_step_makes_of_the_rest(work, start, speed, later):
    """One run after another at one speed, on a machine that needs a while to start; a meter that is asked seldom."""
    clock, total = Clock(), sum(work)
    meter = Meter({str(i): w for i, w in enumerate(work)}, {}, clock=clock)
    clock.now += start
    assert meter.read((), {}).left is None
    for seconds in (1.0, 1.0 + later):
        clock.now = 1000.0 + start + seconds
        done = speed * seconds * total
        before = [sum(work[: i + 1]) for i in range(len(work))]
        finished = [i for i, end in enumerate(before) if end <= done]
        now = len(finished)
        inside = {str(now): (done - sum(work[:now])) / work[now]} if now < len(work) else {}
        reading = meter.read([str(i) for i in finished], inside)
        assert reading.share == pytest.approx(min(1.0, done / total))
        assert reading.elapsed == pytest.approx(start + seconds)
    if later < EVIDENCE:
        assert reading.left is None
    elif done < total:
        assert reading.left == pytest.approx((total - done) / (speed * total), rel=1e-6)


def test_larger_networks_weigh_more():
    meter = Meter({"small": 1.0, "large": 9.0}, {"large": "a large one"}, clock=Clock())
    assert meter.read(["small"], {}).share == pytest.approx(0.1)
    reading = meter.read([], {"large": 0.5})
    assert reading.share == pytest.approx(0.45)
    assert str(reading) == "0 of 2 runs, time left not known yet; a large one 50%"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4, "4 s"), (44, "40 s"), (99, "100 s"), (100, "2 min"), (5940, "99 min"), (6000, "1 h 40 min")],
)
def test_durations_in_words(seconds, words):
    assert span(seconds) == words


def test_whoever_waits_sees_the_shares_of_runs_in_flight(make_spec, isolated, monkeypatch):
    """Another thread looks while a run runs; each look is at what the run has noted, and nothing stays behind."""
    monkeypatch.setattr("kdlib.lab.progress.NOTED", 0.0)
    monkeypatch.setattr("kdlib.lab.schedule.LOOKED", 0.001)
    specs = [make_spec(recipe={"views_per_image": 16}, seed=seed) for seed in (0, 1)]
    looks = []
    with ThreadPoolExecutor(1) as pool:
        run_all(specs, "smoke", pool, look=lambda finished, flying: looks.append((list(finished), dict(flying))))
    keys = [spec.key for spec in specs]
    assert looks[-1] == (keys, {})
    assert all(len(flying) <= 1 and set(flying) <= set(keys) - set(finished) for finished, flying in looks)
    inside = [flying[keys[1]] for finished, flying in looks if finished == keys[:1] and keys[1] in flying]
    assert inside == sorted(inside) and inside[0] < inside[-1] <= 1
    assert not list((Store("smoke").runs / ".progress").iterdir())


@pytest.mark.parametrize(
    ("environment", "terminal", "kind"),
    [
        ({"CI": "true"}, True, displays.Display), ({"JPY_SESSION_NAME": "x.ipynb"}, False, displays.Panel),
        ({}, True, displays.Bar), ({}, False, displays.Log),
    ],
)  # fmt: skip
def test_each_place_has_its_display(monkeypatch, environment, terminal, kind):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stream)
    display = displays.display_here(environment)
    display.close()
    assert type(display) is kind


def reading(share: float) -> Reading:
    return Reading(share, 90.0, 30.0, 1, 3, {"03_blind_teacher: JDA, seed 0": 0.5})


def test_a_log_has_one_line_a_minute(capsys):
    clock = Clock()
    log = displays.Log(clock)
    for _ in range(150):
        clock.now += 1.0
        log.show(reading(0.25))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["25% after 2 min, 1 of 3 runs, 30 s left; 03_blind_teacher: JDA, seed 0 50%"] * 2


def test_a_bar_moves_and_leaves_no_trace(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    bar = displays.Bar()
    bar.show(reading(0.25))
    bar.show(reading(0.75))
    bar.close()
    shown = re.findall(r"(\d+) %\|", stream.getvalue())
    assert shown[0] == "0" and {"25", "75"} <= set(shown)
    assert "1 of 3 runs, 30 s left; 03_blind_teacher: JDA, seed 0 50%" in stream.getvalue()


def test_a_panel_is_a_widget_that_is_closed():
    panel = displays.Panel()
    panel.show(reading(0.25))
    assert panel.bar.value == 0.25
    assert panel.label.value == "25%, 1 of 3 runs, 30 s left; 03_blind_teacher: JDA, seed 0 50%"
    panel.close()
    assert panel.box.comm is None


def test_a_note_that_goes_while_it_is_read_counts_as_none(tmp_path):
    """Not as nothing done: a share that has been shown never falls."""
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.write_text("0.5000\n")
    assert shares({"a": there, "b": gone, "c": there}, ["c"]) == {"a": 0.5}
