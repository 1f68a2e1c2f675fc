"""Executing specs: one after another, in parallel, on a cluster. The unit of parallelism is one run."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout
from torch import Tensor

from kdlib.files import unwritten
from kdlib.lab import distributed, machine
from kdlib.lab.learning import fit
from kdlib.lab.measures import measure
from kdlib.lab.progress import Look, Progress, noting
from kdlib.lab.provenance import provenance
from kdlib.lab.results import REMEDY, RESULT, RunResult
from kdlib.lab.schedule import Report, Schedule, Workers, in_a_sentence
from kdlib.lab.specs import RunSpec, Spec
from kdlib.lab.stacked import train_stack
from kdlib.lab.stacks import members, run_with
from kdlib.lab.stopping import NEVER, Stop, StoppedError, request_in
from kdlib.lab.store import Store
from kdlib.lab.task import check_views
from kdlib.lab.tasks import TaskSpec
from kdlib.lab.train import train
from kdlib.methods import find_method
from kdlib.models.network import Network


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


def execute(spec: Spec, profile: str, progress: Progress | None = None, stop: Stop = NEVER) -> RunResult:
    """Runs one spec to its end in this process, or on from its checkpoint, and stores the result.

    stop: once it is due StoppedError is raised instead, see `train`; a measurement that was begun is ended. Whatever
    else stops the run is also noted in the store.

    A second process asked for the same spec waits and then reads what the first one stored. Under torchrun the first
    process decides for all; it raises BlockingIOError instead of waiting, since the others would wait with it.
    """
    store = Store(profile)
    with distributed.process_group(spec.machine.device), claimed(spec, store):
        if distributed.agreed(complete(spec, store)):
            return store.get(spec)
        if distributed.agreed(stop.is_due()):
            raise stop.error(f"run {spec.key} was not begun")
        together = run_with(spec)
        if distributed.rank() == 0:
            for run in together:
                store.sweep(run)
        with failures_noted(spec, store):
            outcomes = _outcomes(together, store, progress, stop)
        if distributed.rank() == 0:
            _keep(together, outcomes, store)
        distributed.barrier()
    return store.get(spec)


def _outcomes(together: list[Spec], store: Store, progress: Progress | None, stop: Stop) -> list[dict | None]:
    """Of one spec, or of the runs of a stack."""
    spec = together[0]
    machine.prepare(spec.machine.threads)
    teachers = [load_teacher(taught, store) for taught in spec.taught]
    if not spec.trains:
        return [measure(spec, *teachers)]
    with _noted_by_the_first(together, store) as note:
        progress = progress or note
        if len(together) > 1:
            return train_stack(spec, [store.folder(run) for run in together], *teachers, progress, stop)
        if isinstance(spec, TaskSpec):
            return [fit(spec, store.folder(spec), teachers, progress, stop)]
        return [train(spec, store.folder(spec), *teachers, progress, stop)]


def _keep(together: Sequence[Spec], outcomes: Sequence[dict], store: Store) -> None:
    """Stores what is not there; the first of a stack comes last, since its checkpoint is that of all."""
    for spec, outcome in reversed(list(zip(together, outcomes, strict=True))):
        if len(together) == 1 or not complete(spec, store):
            facts = provenance(spec, outcome.pop("seconds", None))
            store.put(RunResult(spec=spec, key=spec.key, profile=store.profile, provenance=facts, **outcome))


@contextmanager
def failures_noted(spec: Spec, store: Store) -> Iterator[None]:
    """Notes in the store why a run failed, for `status`; one that succeeds takes the note away."""
    try:
        yield
    except StoppedError:
        raise
    except Exception as error:
        store.note_failure(spec, in_a_sentence(error))
        raise
    store.note_failure(spec, None)


@contextmanager
def _noted_by_the_first(together: Sequence[Spec], store: Store) -> Iterator[Progress | None]:
    """How far runs are, noted by one of the processes that share them: two would take the note from each other."""
    with ExitStack() as noted:
        first = distributed.rank() == 0
        notes = [noted.enter_context(noting(store.note(spec))) for spec in together if first]

        def note(done: int, total: int) -> None:
            for one in notes:
                one(done, total)

        yield note if first else None


@contextmanager
def claimed(spec: Spec, store: Store) -> Iterator[None]:
    """Holds the lock of a spec, or of its whole stack, in the first of the processes that torchrun launched."""
    if distributed.rank() > 0:
        yield
        return
    path = store.runs / ".locks" / run_with(spec)[0].key
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0 if distributed.launched() else -1)
    except Timeout:
        raise BlockingIOError(
            f"run {spec.key} is worked at by another process: wait for it, then start again"
        ) from None
    except OSError as error:  # a disk that is read-only
        raise unwritten(path, REMEDY, error) from error
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


def load_teacher(spec: Spec, store: Store) -> Network | dict[str, Tensor] | None:
    """The trained teacher of a spec, with its head if the spec's method needs it; of another task its weights."""
    if spec.teacher is None:
        return None
    if isinstance(spec.teacher, TaskSpec):
        return store.state(spec.teacher)
    head = isinstance(spec, RunSpec) and bool(find_method(spec.method).taught_by)
    return store.network(spec.teacher, spec.machine.precision, head)


def complete(spec: Spec, store: Store) -> bool:
    """Whether this machine holds the result of a spec and, for a run, its weights beside it."""
    weights = store.weights(spec) if spec.trains else None
    folder = weights.parent if weights else store.folder(spec)
    return (folder / RESULT).exists() and (weights is not None or not spec.trains)


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
    each step). until: a time of `time.time`, after which no run is begun, and those in flight stop at a checkpoint.

    Raises ValueError before any work if the views of a run cannot be made. A run that fails ends no other; at the end
    RunsFailedError says what failed. OutOfTimeError, and InterruptedStudyError after SIGINT or SIGTERM, say how far it
    went; the same call then goes on from there.
    """
    specs, store = list(specs), Store(profile)
    todo = [] if distributed.launched() else missing(specs, store)
    if todo and executor is None:  # the runs of another one may be made where the data are, and not here
        check(todo)
    if todo or specs and distributed.launched():
        with request_in(store.runs / ".stop", until) as stop:
            if todo:
                _run_side_by_side(todo, profile, executor, stop, report, look)
            else:
                _run_together(specs, profile, stop, report, look)
    store = Store(profile)
    return [store.get(spec) for spec in specs]


def _run_side_by_side(
    todo: list[Spec], profile: str, executor: Executor | None, stop: Stop, report: Report | None, look: Look | None
) -> None:
    workers = Workers(todo, executor)
    try:
        Schedule(todo, profile, workers, execute, stop).run(report, look)
    except KeyboardInterrupt:  # the second one: somebody does not want to wait
        workers.kill()
        raise
    finally:
        workers.close()


def _run_together(specs: list[Spec], profile: str, stop: Stop, report: Report | None, look: Look | None) -> None:
    """All processes of torchrun work on one spec after another; the first of them says on which."""
    with distributed.process_group(specs[0].machine.device):
        todo = distributed.agreed(missing(specs, Store(profile)))
        check(todo)
        first, finished = distributed.rank() == 0, []
        for spec in todo:
            seen = (lambda step, steps, key=spec.key: look(finished, {key: step / steps})) if look and first else None
            result = execute(spec, profile, seen, stop)
            finished.append(spec.key)
            if report and first:
                report(len(finished), len(todo), result)


def check(specs: Iterable[Spec]) -> None:
    """Raises ValueError if a run cannot be made of its images, see `check_views`: before any of them, or a teacher."""
    for spec in specs:
        if isinstance(spec, RunSpec):
            check_views(spec)
        elif isinstance(spec, TaskSpec):
            spec.check()
