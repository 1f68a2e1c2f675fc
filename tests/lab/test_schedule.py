"""What a schedule does with runs that fail and with processes that die."""

from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from kdlib.lab import schedule
from kdlib.lab.runs import execute, run_all
from kdlib.lab.schedule import RunsFailedError, in_a_sentence
from kdlib.lab.store import Store

SHORT = {"views_per_step": 32, "views_per_image": 2, "evaluations": 1}


class Mortal(Executor):
    """Runs at once what it is given; for some seeds it dies, as often as is said, and then takes nothing more."""

    def __init__(self, deaths):
        self.deaths, self.dead, self.begun = deaths, False, []

    def submit(self, function, spec, *arguments, **named):
        if self.dead:
            raise BrokenProcessPool("dead")
        future = Future()
        self.begun.append(spec.seed)
        if self.deaths.get(spec.seed):
            self.deaths[spec.seed] -= 1
            self.dead = True
            future.set_exception(BrokenProcessPool("dead"))
        else:
            future.set_result(function(spec, *arguments, **named))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.dead = True


@pytest.fixture
def pools(monkeypatch):
    """pools(deaths): from now on studies get such executors; returns the list of those that they got."""

    def use(deaths):
        made = []
        monkeypatch.setattr(schedule, "default_executor", lambda *_: made.append(Mortal(deaths)) or made[-1])
        return made

    return use


def test_a_run_whose_process_died_once_is_done_in_another(make_spec, isolated, pools):
    specs = [make_spec(recipe=SHORT, seed=seed) for seed in range(3)]
    made = pools({1: 1})
    results = run_all(specs, "smoke")
    assert [r.key for r in results] == [s.key for s in specs]
    assert len(made) == 2 and all(Store("smoke").failure(spec) is None for spec in specs)


def test_a_run_whose_process_dies_again_and_again_fails_alone(make_spec, isolated, pools):
    specs = [make_spec(recipe=SHORT, seed=seed) for seed in range(3)]
    pools({1: 9})
    said = rf"^1 of 3 runs failed, 2 finished:\n  {specs[1].key}: its process was killed 2 times"
    with pytest.raises(RunsFailedError, match=said):
        run_all(specs, "smoke")
    store = Store("smoke")
    assert store.get(specs[0]) and store.get(specs[2]) and "killed 2 times" in store.failure(specs[1])


def test_what_was_in_a_pool_that_died_has_its_second_chance_alone(make_spec, isolated, pools):
    """So that one that takes too much memory takes no other with it twice."""
    specs = [make_spec(recipe=SHORT, seed=seed) for seed in range(4)]
    made = pools({2: 2})
    with pytest.raises(RunsFailedError, match=r"^1 of 4 runs failed, 3 finished"):
        run_all(specs, "smoke")
    second = made[1].begun
    assert second[0] == 2 or second.index(2) == len(second) - 1


def test_the_death_of_a_process_of_somebody_else_is_raised(make_spec, isolated):
    with pytest.raises(BrokenProcessPool):
        run_all([make_spec(recipe=SHORT)], "smoke", Mortal({0: 1}))


def test_students_of_a_teacher_that_failed_are_not_begun(make_spec, isolated, immediate, monkeypatch):
    teacher = make_spec(recipe=SHORT, seed=9)
    pupil = make_spec(recipe=SHORT, method="kd", policy="weak2", teacher=teacher)
    other = make_spec(recipe=SHORT, seed=5)

    def failing(spec, profile, **named):
        if spec == teacher:
            raise ValueError("too bad")
        return execute(spec, profile, **named)

    monkeypatch.setattr("kdlib.lab.runs.execute", failing)
    with pytest.raises(RunsFailedError) as caught:
        run_all([pupil, other], "smoke", immediate)
    assert caught.value.failures == {
        teacher.key: "too bad", pupil.key: f"not begun, since run {teacher.key} failed"
    }  # fmt: skip
    assert Store("smoke").get(other) and pupil not in immediate.calls


def test_runs_that_fail_alike_share_a_line():
    error = RunsFailedError({"a": "no", "b": "never", "c": "no"}, 4, 7)
    assert str(error) == "3 of 7 runs failed, 4 finished:\n  a, c: no\n  b: never"


def test_an_error_without_words_is_named():
    assert in_a_sentence(RuntimeError()) == "RuntimeError"
    assert in_a_sentence(ValueError("one\n two")) == "one two"
