"""The clock: tasks in turn, warm-up not counted, quartiles."""

import time

import numpy as np
import pytest

from kdlib.lab.clock import in_turn, summary, timed


def test_tasks_take_turns_and_the_first_rounds_are_not_counted():
    calls, told = [], []
    tasks = {name: lambda number, name=name: calls.append((name, number)) or len(calls) for name in "ab"}
    assert in_turn(tasks, rounds=2, warm_up=2, tell=told.append) == {"a": [5, 7], "b": [6, 8]}
    assert calls == [(name, number) for number in range(4) for name in "ab"]
    assert told == [turn / 8 for turn in range(1, 9)]
    assert in_turn({"square": lambda number: number**2}, rounds=3) == {"square": [1, 4, 9]}


def test_the_task_is_called_once_with_the_number():
    calls = []
    assert 0 <= timed(calls.append)(7) < 1
    assert calls == [7]


def test_seconds_are_those_of_the_task_itself():
    tasks = {"slow": timed(lambda _: time.sleep(0.03)), "quick": timed(lambda _: None)}
    seconds = in_turn(tasks, rounds=3, warm_up=0)
    assert min(seconds["slow"]) >= 0.03
    assert np.median(seconds["quick"]) < 0.03


def test_quartiles():
    values = [4.0, 1.0, 3.0, 2.0, 100.0]
    expected = dict(
        zip(("first_quartile", "median", "third_quartile"), np.percentile(values, (25, 50, 75)), strict=True)
    )
    assert summary(values) == pytest.approx(expected)
