"""The order of runs: each once its teachers are there, side by side, until all are done or have failed, or a stop."""

import multiprocessing
import textwrap
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path

from kdlib.data.processes import cores
from kdlib.lab.forecasts import work
from kdlib.lab.measurements import TimingSpec
from kdlib.lab.progress import Look, noted
from kdlib.lab.results import RunResult
from kdlib.lab.specs import Spec
from kdlib.lab.stacks import run_with
from kdlib.lab.stopping import GRACE, Stop, StoppedError, begin_worker
from kdlib.lab.store import Store

Report = Callable[[int, int, RunResult], None]  #: runs done, runs in all, the newest result
Execute = Callable[..., RunResult]  #: of a spec, the profile, and stop=
LOOKED = 0.5  # seconds between two looks at the runs in flight
LITTLE = 1e11  # multiply-accumulates: about as long as it takes to start a process
CHANCES = 2  # how often the process of a run may die before the run counts as failed


class RunsFailedError(RuntimeError):
    """Some runs of a study failed; the others were done all the same.

    failures: key -> what is to be said of it.
    """

    def __init__(self, failures: Mapping[str, str], finished: int, total: int):
        self.failures, alike = dict(failures), {}
        for key, said in failures.items():
            alike.setdefault(said, []).append(key)
        lines = "".join(f"\n  {', '.join(keys)}: {said}" for said, keys in alike.items())
        super().__init__(f"{len(failures)} of {total} runs failed, {finished} finished:{lines}")


class Workers:
    """Where runs are executed: by an executor that was given, or by processes of our own.

    One of ours that dies, as one that the system killed for memory, takes the others of its pool with it; they are
    replaced.
    """

    def __init__(self, todo: Sequence[Spec], executor: Executor | None):
        self.todo, self.own = todo, executor is None
        self.before = set(multiprocessing.active_children())
        self.executor = executor or default_executor(todo)

    def renew(self) -> None:
        """Other processes in place of dead ones."""
        self.executor.shutdown(cancel_futures=True)
        self.executor = default_executor(self.todo)

    def kill(self) -> None:
        """Ends our processes at once."""
        for process in set(multiprocessing.active_children()) - self.before if self.own else ():
            process.kill()

    def close(self) -> None:
        """Waits for our processes."""
        if self.own:
            self.executor.shutdown(cancel_futures=True)


def default_executor(specs: Sequence[Spec]) -> Executor:
    """Processes started afresh (spawn): a forked torch may hang, and each needs its own number of threads.

    For very little work on a CPU it is one thread of this process: starting others would take longer than the runs.
    """
    if specs[0].machine.device == "cpu" and sum(work(spec) for spec in specs) < LITTLE:
        return ThreadPoolExecutor(1)
    threads = min(spec.machine.threads for spec in specs)
    workers = 1 if specs[0].machine.device == "cuda" else max(1, cores() // threads)
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(min(workers, len(specs)), context, begin_worker)


class Schedule:
    """The runs of a study while they run.

    execute(spec, profile, stop=stop) does one of them, in a worker.
    """

    def __init__(self, todo: Sequence[Spec], profile: str, workers: Workers, execute: Execute, stop: Stop):
        self.todo, self.profile, self.workers, self.execute, self.stop = todo, profile, workers, execute, stop
        self.store = Store(profile)
        self.waiting = {spec.key: spec for spec in todo}
        self.needs = {spec.key: {run.key for run in spec.prerequisites} | _leader(spec, self.waiting) for spec in todo}
        self.running: dict[Future, Spec] = {}
        self.finished: list[str] = []
        self.failures: dict[str, str] = {}
        self.deaths: dict[str, int] = {}
        self.ending: float | None = None  # since when nothing new is begun, of time.monotonic
        self.killed = False

    def run(self, report: Report | None, look: Look | None) -> None:
        """Raises StoppedError if it ends early, RunsFailedError if some runs failed."""
        while self.running or self.waiting and self.ending is None:
            self._see_stop()
            for spec in self._ready():
                del self.waiting[spec.key]
                self.running[self._submit(spec)] = spec
            for future in wait(self.running, timeout=LOOKED, return_when=FIRST_COMPLETED).done:
                self._take(future, report)
            if look:
                look(self.finished, self._shares())
        if self.ending is not None and len(self.finished) + len(self.failures) < len(self.todo):
            raise self._stopped()
        if self.failures:
            raise RunsFailedError(self.failures, len(self.finished), len(self.todo))

    def _submit(self, spec: Spec) -> Future:
        try:
            return self.workers.executor.submit(self.execute, spec, self.profile, stop=self.stop)
        except BrokenExecutor:
            if not self.workers.own:
                raise
            self.workers.renew()
            return self.workers.executor.submit(self.execute, spec, self.profile, stop=self.stop)

    def _see_stop(self) -> None:
        """Begins the end; processes that do not come to it in time are ended."""
        if self.ending is None and self.stop.is_due():
            self.ending = time.monotonic()
        if self.ending is not None and not self.killed and time.monotonic() - self.ending > GRACE:
            self.workers.kill()
            self.killed = True

    def _ready(self) -> list[Spec]:
        """Those whose teachers are there; clocks run last, and alone, as does what was in a pool that died."""
        if self.ending is not None or any(spec.key in self.deaths for spec in self.running.values()):
            return []
        lacking = self.waiting.keys() | {spec.key for spec in self.running.values()}
        ready = [spec for spec in self.waiting.values() if lacking.isdisjoint(self.needs[spec.key])]
        if suspects := [spec for spec in ready if spec.key in self.deaths]:
            return [] if self.running else suspects[:1]
        others = [spec for spec in ready if not isinstance(spec, TimingSpec)]
        return others if others or self.running else ready[:1]

    def _take(self, future: Future, report: Report | None) -> None:
        spec = self.running.pop(future)
        try:
            result = future.result()
        except StoppedError:
            self.ending = self.ending or time.monotonic()
        except BrokenExecutor as error:
            self._died(spec, error)
        except Exception as error:  # whatever it is, the other runs go on, and the end says it
            self._failed(spec, in_a_sentence(error))
        else:
            self.finished.append(spec.key)
            if report:
                report(len(self.finished), len(self.todo), result)

    def _died(self, spec: Spec, error: BrokenExecutor) -> None:
        """A worker's death ends the runs of its whole pool. Each has another chance, alone, unless we killed it.

        Raises the error for an executor that was given.
        """
        if not self.workers.own:
            raise error
        if self.killed:
            return
        self.deaths[spec.key] = self.deaths.get(spec.key, 0) + 1
        if self.deaths[spec.key] < CHANCES:
            self.waiting[spec.key] = spec
        else:
            said = f"its process was killed {CHANCES} times: is there enough memory?"
            self.store.note_failure(spec, said)
            self._failed(spec, said)

    def _failed(self, spec: Spec, said: str) -> None:
        """Takes a run, and all that need it, out of what is to be done."""
        self.failures[spec.key] = said
        for other in [s for s in self.waiting.values() if spec.key in self.needs[s.key]]:
            del self.waiting[other.key]
            self._failed(other, f"not begun, since run {spec.key} failed")

    def _shares(self) -> dict[str, float]:
        running = [run for spec in self.running.values() for run in run_with(spec) if run.key in self.needs]
        notes = {spec.key: self.store.note(spec) for spec in running}
        return shares(notes, self.finished)

    def _stopped(self) -> StoppedError:
        begun = sum(map(self.store.is_begun, self.todo))
        failed = f", {len(self.failures)} failed" if self.failures else ""
        said = f"{len(self.finished)} of {len(self.todo)} runs finished, {begun} are at a checkpoint{failed}"
        return self.stop.error(said)


def _leader(spec: Spec, todo: Collection[str]) -> set[str]:
    """The key of the run that trains the stack of another one: the first of it that is to be done."""
    first = [run.key for run in run_with(spec) if run.key in todo][:1]
    return set(first) - {spec.key}


def in_a_sentence(error: BaseException) -> str:
    """What an error says, in one line; one that says nothing is named."""
    return textwrap.shorten(str(error), 400) or type(error).__name__


def shares(notes: Mapping[str, Path], finished: Collection[str]) -> dict[str, float]:
    """Key -> the share that is done, of the runs that have noted one and are not finished: a pool works at those."""
    found = {key: noted(note) for key, note in notes.items() if key not in finished}
    return {key: share for key, share in found.items() if share is not None}
