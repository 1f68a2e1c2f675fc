"""Executing specs: order, what is missing, executors, locks, failures."""

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from PIL import Image

from kdlib.lab import runs, schedule
from kdlib.lab.forecasts import run_cost
from kdlib.lab.measurements import TimingSpec, ViewsSpec
from kdlib.lab.recipe import Policy, Public
from kdlib.lab.runs import execute, missing, needed, run_all
from kdlib.lab.schedule import RunsFailedError
from kdlib.lab.stopping import OutOfTimeError, Stop
from kdlib.lab.store import Store

pytestmark = pytest.mark.usefixtures("isolated")
SHORT = {"views_per_step": 32, "views_per_image": 2, "evaluations": 1}  # 2 steps


@pytest.fixture
def teacher(make_spec):
    return make_spec(recipe=SHORT, seed=9)


@pytest.fixture
def students(make_spec, teacher):
    def student(seed: int, policy: str):
        return make_spec(recipe=SHORT, seed=seed, method="kd", policy=policy, teacher=teacher)

    return [student(0, "weak2"), student(0, "jda"), student(1, "weak2")]


@pytest.fixture
def measurement(teacher):
    return ViewsSpec(data=teacher.data, teacher=teacher, policy=Policy(name="jda"), images=20, seed=0,
                     machine=teacher.machine)  # fmt: skip


@pytest.fixture
def counted(monkeypatch):
    """Keys of the specs that were really trained in this process, in order."""
    keys, train = [], runs.train

    def counting(spec, *arguments):
        keys.append(spec.key)
        return train(spec, *arguments)

    monkeypatch.setattr(runs, "train", counting)
    return keys


def test_teachers_come_first_and_each_once(students, teacher, measurement, make_spec):
    pupil = make_spec(method="kd", policy="weak2", teacher=students[0])  # a student may teach
    ordered = needed([pupil, measurement, *students, students[0], pupil])
    keys = [spec.key for spec in ordered]
    assert sorted(keys) == sorted({s.key for s in (teacher, measurement, pupil, *students)})
    for spec in ordered:
        if spec.teacher is not None:
            assert keys.index(spec.teacher.key) < keys.index(spec.key)


def test_a_public_teacher_is_no_run(make_spec):
    spec = make_spec(method="kd", policy="weak2", teacher=Public(checkpoint="cifar100_resnet56"))
    assert needed([spec]) == [spec]


def test_only_what_is_missing_runs(students, teacher, measurement, immediate, counted):
    specs = [measurement, *students]
    first = run_all(specs[:2], "smoke", immediate)
    assert [s.key for s in immediate.calls] == [s.key for s in (teacher, measurement, students[0])] or [
        s.key for s in immediate.calls
    ] == [s.key for s in (teacher, students[0], measurement)]
    assert counted == [teacher.key, students[0].key]
    counted.clear()
    reports = []
    results = run_all(specs, "smoke", immediate, lambda *report: reports.append(report))
    assert counted == [students[1].key, students[2].key]
    assert [r.key for r in results] == [s.key for s in specs]
    assert results[:2] == first
    assert [(done, total) for done, total, _ in reports] == [(1, 2), (2, 2)]
    assert {result.key for *_, result in reports} == set(counted)
    counted.clear()
    assert run_all(specs, "smoke", immediate) == results
    assert counted == []


def test_processes_threads_and_one_process_give_equal_bits(students, teacher, measurement, isolated, monkeypatch):
    specs = [measurement, teacher, *students]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        by_processes = run_all(specs, "smoke", pool)
    monkeypatch.setenv("KDLIB_RUNS", str(isolated / "threads"))
    with ThreadPoolExecutor(2) as pool:
        by_threads = run_all(specs, "smoke", pool)
    assert [r.key for r in by_processes] == [r.key for r in by_threads] == [s.key for s in specs]
    assert [r.bits for r in by_processes] == [r.bits for r in by_threads]
    assert [r.metrics for r in by_processes] == [r.metrics for r in by_threads]
    assert [r.evaluations for r in by_processes] == [r.evaluations for r in by_threads]


def test_the_default_executor_is_closed(students, teacher, immediate, monkeypatch):
    closed = []
    monkeypatch.setattr(schedule, "default_executor", lambda specs: immediate)
    monkeypatch.setattr(immediate, "shutdown", lambda *a, **k: closed.append(k))
    run_all(students[:1], "smoke")
    assert closed == [{"cancel_futures": True}]
    run_all(students[:1], "smoke")
    assert len(closed) == 1  # nothing was missing: no process was started


def test_the_default_executor_has_no_more_processes_than_cores_or_runs(students, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(schedule, "work", lambda spec: schedule.LITTLE)
    for count, threads, workers in ((3, 1, 3), (1, 1, 1), (3, 2, 2), (3, 8, 1)):
        specs = [s.model_copy(update={"machine": s.machine.model_copy(update={"threads": threads})}) for s in students]
        with schedule.default_executor(specs[:count]) as pool:
            assert pool._max_workers == workers
            assert pool._mp_context.get_start_method() == "spawn"


def test_very_little_work_starts_no_process(students, monkeypatch):
    monkeypatch.setattr(schedule, "work", lambda spec: schedule.LITTLE / 4)
    with schedule.default_executor(students[:3]) as pool:
        assert isinstance(pool, ThreadPoolExecutor) and pool._max_workers == 1
    on_gpu = [s.model_copy(update={"machine": s.machine.model_copy(update={"device": "cuda"})}) for s in students]
    for specs in ([*students, *students], on_gpu[:1]):  # more work, or a device that one process must own
        with schedule.default_executor(specs[:4]) as pool:
            assert not isinstance(pool, ThreadPoolExecutor)


def test_a_run_starts_as_soon_as_its_teacher_is_there(make_spec, monkeypatch):
    """Though another teacher still trains."""
    fast, slow = make_spec(recipe=SHORT, seed=8), make_spec(recipe=SHORT, seed=9)
    pupil = make_spec(recipe=SHORT, method="kd", policy="weak2", teacher=fast)
    taught, execute = threading.Event(), runs.execute

    def watched(spec, profile, stop):
        assert spec != slow or taught.wait(60), "the student waits for a teacher that is not its own"
        result = execute(spec, profile)
        if spec == pupil:
            taught.set()
        return result

    monkeypatch.setattr(runs, "execute", watched)
    with ThreadPoolExecutor(2) as pool:
        run_all([slow, pupil], "smoke", pool)


def test_clocks_run_last_and_alone(students, teacher, measurement, monkeypatch):
    clocks = [TimingSpec(data=teacher.data, runs={"kd": students[0]}, steps=n, machine=teacher.machine) for n in (1, 2)]
    running, company, execute = [], {}, runs.execute

    def watched(spec, profile, stop):
        company[spec.key] = list(running)
        running.append(spec.key)
        result = execute(spec, profile)
        running.remove(spec.key)
        return result

    monkeypatch.setattr(runs, "execute", watched)
    with ThreadPoolExecutor(3) as pool:
        run_all([*clocks, measurement, *students], "smoke", pool)
    assert list(company)[-2:] == [clock.key for clock in clocks]
    assert [company[clock.key] for clock in clocks] == [[], []]
    assert any(company.values())  # the others do run side by side


def test_two_that_ask_for_one_spec_train_it_once(make_spec, counted, monkeypatch):
    spec, train = make_spec(recipe=SHORT), runs.train

    def slow(*arguments):
        time.sleep(0.3)
        return train(*arguments)

    monkeypatch.setattr(runs, "train", slow)
    found, start = [], threading.Barrier(2)

    def ask():
        start.wait()
        found.append(execute(spec, "smoke"))

    both = [threading.Thread(target=ask) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert counted == [spec.key]
    assert found[0].bits == found[1].bits
    assert found[0] == found[1]


def test_a_run_that_fails_ends_no_other_and_the_end_says_so(students, teacher, immediate, monkeypatch):
    train = runs.train

    def failing(spec, *arguments):
        if spec.key == students[1].key:
            raise FloatingPointError("the loss is nan")
        return train(spec, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "train", failing)
        said = rf"^1 of 4 runs failed, 3 finished:\n  {students[1].key}: the loss is nan$"
        with pytest.raises(RunsFailedError, match=said):
            run_all(students, "smoke", immediate)
    store = Store("smoke")
    assert all(store.get(spec) for spec in (teacher, students[0], students[2]))
    assert store.get(students[1]) is None
    assert store.failure(students[1]) == "the loss is nan"
    results = run_all(students, "smoke", immediate)  # and the next call does the rest
    assert [r.key for r in results] == [s.key for s in students]
    assert store.failure(students[1]) is None


def test_an_interrupted_run_is_resumed_by_the_next_call(make_spec, isolated, monkeypatch):
    spec = make_spec(recipe={"evaluations": 10})

    def stop(done, _):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(spec, "smoke", stop)
    folder = Store("smoke").folder(spec)
    assert (folder / "checkpoint.pt").exists()
    assert Store("smoke").get(spec) is None
    steps = []
    result = execute(spec, "smoke", lambda done, _: steps.append(done))
    assert steps[0] == 5
    assert not (folder / "checkpoint.pt").exists()
    monkeypatch.setenv("KDLIB_RUNS", str(isolated / "other"))
    assert execute(spec, "smoke").bits == result.bits


def test_a_published_student_needs_no_teacher(students, teacher, invented, isolated):
    store = Store("smoke")
    store.put(invented(students[0], "smoke"))
    store.publish()
    assert missing([students[0]], Store("smoke")) == []
    assert missing(students[:2], Store("smoke")) == [teacher, students[1]]


def test_a_published_teacher_is_trained_again_where_its_weights_are_missing(students, teacher, immediate, isolated):
    run_all(students[:1], "smoke", immediate)
    Store("smoke").publish()
    for path in sorted((isolated / "runs").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert missing([teacher, students[0]], Store("smoke")) == []
    assert missing(students[:2], Store("smoke")) == [teacher, students[1]]
    immediate.calls.clear()
    results = run_all(students[:2], "smoke", immediate)
    assert immediate.calls == [teacher, students[1]]
    assert all(results)


def test_a_teacher_whose_weights_were_deleted_is_trained_again(students, teacher, immediate):
    run_all([teacher], "smoke", immediate)
    (Store("smoke").folder(teacher) / "weights.safetensors").unlink()
    assert missing(students[:1], Store("smoke")) == [teacher, students[0]]
    assert all(run_all(students[:1], "smoke", immediate))


def test_provenance_says_with_what_and_when(make_spec):
    result = execute(make_spec(recipe=SHORT), "smoke")
    assert set(result.provenance) == {"versions", "hardware", "date", "commit", "seconds"}
    assert {"torch", "torchvision", "numpy", "python"} <= set(result.provenance["versions"])
    assert result.provenance["seconds"] >= 0
    assert len(result.provenance["date"].split("-")) == 3
    assert result.profile == "smoke"


def test_a_chain_of_published_teachers_is_trained_again_from_its_beginning(make_spec, invented, monkeypatch, tmp_path):
    """teacher -> head -> student: the first two are published without weights."""
    teacher = make_spec()
    head = make_spec(method="sskd_teacher", teacher=teacher, student="resnet8")
    student = make_spec(method="sskd", teacher=head)
    results = tmp_path / "published"
    results.mkdir()
    for spec in (teacher, head):
        (results / f"{spec.key}.json").write_text(invented(spec, "smoke").model_dump_json())
    store = Store("smoke", results=results)
    assert missing([student], store) == [teacher, head, student]
    assert missing([teacher, head], store) == []
    folder = store.folder(head)
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").touch()  # they hold the backbone too
    assert missing([student], store) == [teacher, head, student], "without a result nothing says that they are whole"
    store.put(invented(head, "smoke"))
    assert missing([student], store) == [student]


def test_a_run_is_repeated_bit_for_bit_and_stays_as_it_is(students, teacher, immediate, counted, isolated):
    (first,) = run_all(students[:1], "smoke", immediate)
    folder = Store("smoke").folder(students[0])
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    counted.clear()
    assert runs.repeat(students[0], "smoke") == first.bits
    assert counted == [students[0].key]  # it was really trained
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    counted.clear()
    for path in Store("smoke").folder(teacher).iterdir():  # as on a machine that has the published results alone
        path.unlink()
    assert runs.repeat(students[0], "smoke") == first.bits
    assert counted == [teacher.key, students[0].key]


def test_a_repeated_run_of_another_seed_has_other_bits(students, immediate):
    (first,) = run_all(students[:1], "smoke", immediate)
    assert runs.repeat(students[2], "smoke") != first.bits


@pytest.fixture
def oblong(tmp_path):
    """The name of a data set of images that are not square."""
    for split, count in (("train", 8), ("test", 2)):
        for label in ("a", "b"):
            folder = tmp_path / "oblong" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.effect_noise((24, 32), 60).convert("RGB").save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'oblong'}"


def test_views_that_cannot_be_made_are_refused_before_the_teacher_is_trained(make_spec, oblong, counted):
    teacher = make_spec(recipe=SHORT, data=oblong, fraction=1.0)
    pupil = make_spec(recipe=SHORT, data=oblong, fraction=1.0, method="kd", policy="rot4", teacher=teacher)
    with pytest.raises(ValueError, match="cannot be turned by 90 degrees"):
        run_all([pupil], "smoke")
    assert counted == [] and Store("smoke").get(teacher) is None


def test_a_class_that_would_vanish_is_refused_before_anything_is_trained(make_spec, tmp_path, counted):
    """Of other runs too: what comes first of a study would else be trained for nothing. A plan says it as well."""
    for split, counts in (("train", (1, 20)), ("test", (2, 2))):
        for label, count in zip(("rare", "usual"), counts, strict=True):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for number in range(count):
                picture = Image.effect_noise((32, 32), 60 + number).convert("RGB")
                picture.save(tmp_path / "set" / split / label / f"{number}.png")
    good = make_spec(data=f"folder:{tmp_path / 'set'}")
    bad = make_spec(data=good.data, validation=True)
    said = r"^class 'rare' has 1 training image that the validation split takes: none is left to train on"
    with pytest.raises(ValueError, match=said):
        run_all([good, bad], "smoke")
    assert counted == []
    with pytest.raises(ValueError, match=said):
        run_cost(bad)
    assert run_cost(good).views > 0


def test_only_one_launched_job_works_at_a_run(students, teacher, monkeypatch):
    """Waiting would keep the other processes of the job, which do not hold the lock."""
    monkeypatch.setattr(runs.distributed, "launched", lambda: True)
    store = Store("smoke")
    with (
        runs.claimed(teacher, store),
        pytest.raises(BlockingIOError, match=f"run {teacher.key} is worked at"),
        runs.claimed(teacher, store),
    ):
        raise AssertionError("claimed twice")
    with runs.claimed(teacher, store):
        pass
    monkeypatch.setattr(runs.distributed, "rank", lambda: 1)
    with runs.claimed(teacher, store), runs.claimed(teacher, store):
        pass  # the first process decides for the others


def test_nothing_is_begun_when_the_time_is_over(students, immediate):
    with pytest.raises(OutOfTimeError, match=r"^0 of 4 runs finished, 0 are at a checkpoint$"):
        run_all(students, "smoke", immediate, until=time.time())
    assert immediate.calls == []


def test_what_is_in_flight_stops_and_the_same_call_goes_on(students, teacher, immediate, counted, monkeypatch):
    """The time is over in the middle of the second run: the first stays, and the next call goes on."""
    monkeypatch.setattr(Stop, "is_late", lambda self: self.until is not None and len(counted) >= 2)
    with pytest.raises(OutOfTimeError, match=r"^1 of 4 runs finished, 1 are at a checkpoint$"):
        run_all(students, "smoke", immediate, until=time.time() + 600)
    assert counted == [teacher.key, students[0].key]
    monkeypatch.setattr(Stop, "is_late", lambda self: False)
    results = run_all(students, "smoke", immediate)
    assert [r.key for r in results] == [s.key for s in students]


def test_a_spec_is_not_begun_after_its_time(students, teacher, isolated):
    execute(teacher, "smoke")
    with pytest.raises(OutOfTimeError, match=f"^run {students[0].key} was not begun$"):
        execute(students[0], "smoke", stop=Stop(time.time()))
    assert execute(teacher, "smoke", stop=Stop(0.0)).key == teacher.key  # what is there is given
