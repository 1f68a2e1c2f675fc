"""The clock: tasks in turn, warm-up not counted, quartiles."""

import time

import numpy as np
import pytest

from kdlib.lab.clock import in_turn, seconds_of, summary, turns


def test_tasks_take_turns_and_the_first_rounds_are_not_counted():
    calls = []
    tasks = {name: lambda number, name=name: calls.append((name, number)) for name in "ab"}
    seconds = in_turn(tasks, rounds=4, warm_up=2)
    assert calls == [(name, number) for number in range(6) for name in "ab"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4}


def test_what_tasks_give_is_kept_by_round():
    tasks = {"square": lambda number: number**2, "word": str}
    assert turns(tasks, rounds=3, warm_up=2) == {"square": [4, 9, 16], "word": ["2", "3", "4"]}
    assert turns(tasks, rounds=2, warm_up=0) == {"square": [0, 1], "word": ["0", "1"]}


def test_the_task_is_called_once_with_the_number():
    calls = []
    assert 0 <= seconds_of(calls.append, 7) < 1
    assert calls == [7]


def test_seconds_are_those_of_the_task_itself():
    seconds = in_turn({"slow": lambda _: time.sleep(0.03), "quick": lambda _: None}, rounds=3, warm_up=0)
    assert min(seconds["slow"]) >= 0.03
    assert np.median(seconds["quick"]) < 0.03


def test_quartiles():
    values = [4.0, 1.0, 3.0, 2.0, 100.0]
    expected = dict(
        zip(("first_quartile", "median", "third_quartile"), np.percentile(values, (25, 50, 75)), strict=True)
    )
    assert summary(values) == pytest.approx(expected)
