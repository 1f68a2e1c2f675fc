"""Executing specs: one after another, in parallel, on a cluster. The unit of parallelism is one run."""

import multiprocessing
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from kdlib.lab import distributed, machine
from kdlib.lab.forecasts import work
from kdlib.lab.measurements import TimingSpec
from kdlib.lab.measures import measure
from kdlib.lab.progress import Look, Progress, noted, noting
from kdlib.lab.provenance import provenance
from kdlib.lab.results import CHECKPOINT, RESULT, RunResult
from kdlib.lab.specs import RunSpec, Spec
from kdlib.lab.stacked import train_stack
from kdlib.lab.stacks import members
from kdlib.lab.store import Store
from kdlib.lab.task import check_views
from kdlib.lab.train import OutOfTimeError, is_past, train
from kdlib.methods import find_method
from kdlib.models.network import Network

Report = Callable[[int, int, RunResult], None]  #: runs done, runs in all, the newest result
LOOKED = 0.5  # seconds between two looks at the runs in flight
LITTLE = 1e11  # multiply-accumulates: about as long as it takes to start a process


def needed(specs: Iterable[Spec]) -> list[Spec]:
    """The specs and the runs of their teachers, each once, teachers before students."""
    ordered: dict[str, Spec] = {}
    for spec in specs:
        ordered |= {s.key: s for s in needed(spec.prerequisites)}
        ordered[spec.key] = spec
    return list(ordered.values())


def missing(specs: Iterable[Spec], store: Store) -> list[Spec]:
    """What must run before every spec has a result, teachers first.

    A published teacher whose weights a run needs is trained again, since results/ holds no weights; what has all that
    is needed of it asks for nothing below it.
    """
    todo: dict[str, Spec] = {}

    def visit(spec: Spec, weights: bool) -> None:
        there = store.get(spec) is not None
        if spec.key in todo or there and not (weights and store.weights(spec) is None):
            return
        for run in spec.prerequisites:
            visit(run, weights=True)
        todo[spec.key] = spec

    for spec in specs:
        visit(spec, weights=False)
    return list(todo.values())


def execute(spec: Spec, profile: str, progress: Progress | None = None, until: float | None = None) -> RunResult:
    """Runs one spec to its end in this process, or on from its checkpoint, and stores the result.

    until: a time of `time.time`, after which OutOfTimeError is raised instead, see `train`; a measurement that was
    begun is ended.

    A second process asked for the same spec waits and then reads what the first one stored. Under torchrun the first
    process decides for all; it raises BlockingIOError instead of waiting, since the others would wait with it.
    """
    store = Store(profile)
    with distributed.process_group(spec.machine.device), claimed(spec, store):
        if distributed.agreed(complete(spec, store)):
            return store.get(spec)
        if distributed.agreed(is_past(until)):
            raise OutOfTimeError(f"run {spec.key} was not begun")
        machine.prepare(spec.machine.threads)
        teachers = [load_teacher(taught, store) for taught in spec.taught]
        if together := members(spec):
            _execute_stack(together, store, *teachers, progress, until)
            return store.get(spec)
        if isinstance(spec, RunSpec):
            with _noted_by_the_first(spec, store) as note:
                outcome = train(spec, store.folder(spec), *teachers, progress or note, until)
        else:
            outcome = measure(spec, *teachers)
        if distributed.rank() == 0:
            facts = provenance(spec, outcome.pop("seconds", None))
            store.put(RunResult(spec=spec, key=spec.key, profile=profile, provenance=facts, **outcome))
        distributed.barrier()
    return store.get(spec)


def _execute_stack(
    runs: list[RunSpec], store: Store, teacher: Network | None, progress: Progress | None, until: float | None
) -> None:
    """Trains a stack and stores what is not there; the first comes last, since its checkpoint is that of all."""
    with ExitStack() as noted:
        notes = [noted.enter_context(noting(store.note(run))) for run in runs]

        def note(done: int, total: int) -> None:
            for one in notes:
                one(done, total)

        outcomes = train_stack(runs[0], [store.folder(run) for run in runs], teacher, progress or note, until)
    for run, outcome in reversed(list(zip(runs, outcomes, strict=True))):
        if not complete(run, store):
            facts = provenance(run, outcome.pop("seconds"))
            store.put(RunResult(spec=run, key=run.key, profile=store.profile, provenance=facts, **outcome))


def _noted_by_the_first(spec: Spec, store: Store) -> AbstractContextManager[Progress | None]:
    """How far a run is, noted by one of the processes that share it: two would take the note from each other."""
    return noting(store.note(spec)) if distributed.rank() == 0 else nullcontext()


@contextmanager
def claimed(spec: Spec, store: Store) -> Iterator[None]:
    """Holds the lock of a spec, or of its whole stack, in the first of the processes that torchrun launched."""
    if distributed.rank() > 0:
        yield
        return
    path = store.runs / ".locks" / (members(spec) or [spec])[0].key
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0 if distributed.launched() else -1)
    except Timeout:
        raise BlockingIOError(
            f"run {spec.key} is worked at by another process: wait for it, then start again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def repeat(spec: RunSpec, profile: str) -> str:
    """The bits of a run that is trained once more in this process; what the store holds of it stays as it is.

    Its teachers are trained first if their weights are not on this machine.
    """
    store = Store(profile)
    for run in needed(spec.prerequisites):
        execute(run, profile)
    machine.prepare(spec.machine.threads)
    with TemporaryDirectory() as folder:
        if together := members(spec):
            folders = [Path(folder) / run.key for run in together]
            return train_stack(spec, folders, load_teacher(spec, store))[together.index(spec)]["bits"]
        return train(spec, Path(folder), load_teacher(spec, store))["bits"]


def load_teacher(spec: Spec, store: Store) -> Network | None:
    """The trained teacher of a spec, with its head if the spec's method needs it."""
    if spec.teacher is None:
        return None
    head = isinstance(spec, RunSpec) and bool(find_method(spec.method).taught_by)
    return store.network(spec.teacher, spec.machine.precision, head)


def complete(spec: Spec, store: Store) -> bool:
    """Whether this machine holds the result of a spec and, for a run, its weights beside it."""
    weights = store.weights(spec) if isinstance(spec, RunSpec) else None
    folder = weights.parent if weights else store.folder(spec)
    return (folder / RESULT).exists() and (weights is not None or not isinstance(spec, RunSpec))


def run_all(
    specs: Iterable[Spec],
    profile: str,
    executor: Executor | None = None,
    report: Report | None = None,
    look: Look | None = None,
    until: float | None = None,
) -> list[RunResult]:
    """Results of all specs, in order; what the store lacks is run, teachers first.

    executor: any concurrent.futures.Executor; by default a pool with one process per `threads` cores (one process on a
    GPU), or for very little work a thread of this one. Under torchrun all processes work on one run after another.
    report(done, total, result) is called after each run, look(finished, shares) twice a second (under torchrun after
    each step). The first failure is raised; finished runs stay stored. until: a time of `time.time`, after which no run
    is begun, and those in flight stop at a checkpoint; OutOfTimeError then says how far it went. Raises ValueError
    before any work if the views of a run cannot be made.
    """
    specs = list(specs)
    if specs and distributed.launched():
        _run_together(specs, profile, report, look, until)
    elif todo := missing(specs, Store(profile)):
        if executor is None:  # the runs of another one may be made where the data are, and not here
            check(todo)
        pool = executor or default_executor(todo)
        try:
            _run(todo, profile, pool, report, look, until)
        finally:
            if executor is None:
                pool.shutdown(cancel_futures=True)
    store = Store(profile)
    return [store.get(spec) for spec in specs]


def _run_together(
    specs: list[Spec], profile: str, report: Report | None, look: Look | None, until: float | None
) -> None:
    """All processes of torchrun work on one spec after another; the first of them says on which."""
    with distributed.process_group(specs[0].machine.device):
        todo = distributed.agreed(missing(specs, Store(profile)))
        check(todo)
        first, finished = distributed.rank() == 0, []
        for spec in todo:
            seen = (lambda step, steps, key=spec.key: look(finished, {key: step / steps})) if look and first else None
            result = execute(spec, profile, seen, until)
            finished.append(spec.key)
            if report and first:
                report(len(finished), len(todo), result)


def check(specs: Iterable[Spec]) -> None:
    """Raises ValueError if a run cannot be made of its images, see `check_views`: before any of them, or a teacher."""
    for spec in specs:
        if isinstance(spec, RunSpec):
            check_views(spec)


def default_executor(specs: list[Spec]) -> Executor:
    """Processes started afresh (spawn): a forked torch may hang, and each needs its own number of threads.

    For very little work on a CPU it is one thread of this process: starting others would take longer than the runs.
    """
    if specs[0].machine.device == "cpu" and sum(work(spec) for spec in specs) < LITTLE:
        return ThreadPoolExecutor(1)
    threads = min(spec.machine.threads for spec in specs)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = 1 if specs[0].machine.device == "cuda" else max(1, cores // threads)
    return ProcessPoolExecutor(min(workers, len(specs)), mp_context=multiprocessing.get_context("spawn"))


def _run(
    todo: list[Spec], profile: str, pool: Executor, report: Report | None, look: Look | None, until: float | None = None
) -> None:
    """Hands each spec to the pool once its teachers are there; none after the time `until`."""
    waiting, running, finished = {spec.key: spec for spec in todo}, {}, []
    needs = {spec.key: {run.key for run in spec.prerequisites} | _leader(spec, waiting) for spec in todo}
    store, notes = Store(profile), {}
    over = False
    while running or waiting and not over:
        lacking = waiting.keys() | running.values()
        over = over or is_past(until)
        ready = [spec for key, spec in waiting.items() if lacking.isdisjoint(needs[key])] if not over else []
        others = [s for s in ready if not isinstance(s, TimingSpec)]
        for spec in others if others or running else ready[:1]:  # clocks run last, and alone
            key = spec.key
            notes |= {run.key: store.note(run) for run in members(spec) or [spec] if run.key in needs}
            running[pool.submit(execute, waiting.pop(key), profile, until=until)] = key
        for future in wait(running, timeout=LOOKED if look else None, return_when=FIRST_COMPLETED).done:
            key = running.pop(future)
            try:
                result = future.result()
            except OutOfTimeError:
                over = True
                continue
            finished.append(key)
            if report:
                report(len(finished), len(todo), result)
        if look:
            look(finished, shares(notes, finished))
    if len(finished) < len(todo):
        begun = sum((store.folder(spec) / CHECKPOINT).exists() for spec in todo)
        raise OutOfTimeError(f"{len(finished)} of {len(todo)} runs finished, {begun} are at a checkpoint")


def _leader(spec: Spec, todo: Collection[str]) -> set[str]:
    """The key of the run that trains the stack of another one: the first of it that is to be done."""
    first = [run.key for run in members(spec) if run.key in todo][:1]
    return set(first) - {spec.key}


def shares(notes: Mapping[str, Path], finished: Collection[str]) -> dict[str, float]:
    """Key -> the share that is done, of the runs that have noted one and are not finished: a pool works at those."""
    found = {key: noted(note) for key, note in notes.items() if key not in finished}
    return {key: share for key, share in found.items() if share is not None}
