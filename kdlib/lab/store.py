"""Where results are found and kept: results/ (published, committed) first, then runs/PROFILE/ (this machine), then
data/teachers/ (trained teachers that come with the project)."""

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kdlib.data import paths
from kdlib.data.images import load_data
from kdlib.files import replacing, writing
from kdlib.lab.recipe import Public
from kdlib.lab.results import CHECKPOINT, HEAD, OLDER, REMEDY, RESULT, SEAL, WEIGHTS, RunResult, bits, seal, sealed
from kdlib.lab.soundness import check_tensors, check_weights
from kdlib.lab.specs import RunSpec, Spec, backbone_source
from kdlib.lab.tasks import TaskSpec
from kdlib.methods import new_head
from kdlib.models import create_model
from kdlib.models.checkpoints import PUBLIC, load_checkpoint
from kdlib.models.network import Network
from kdlib.records import sentence

SEALS = "seals.txt"  # in results/: the seals of older results


class Store:
    """Results of one profile. It reads results/, runs/PROFILE/ and data/teachers/; it writes to runs/PROFILE/KEY/.

    Of results/ and data/teachers/ it takes what it is asked for, whichever profile it was made for: a spec says all
    that a result depends on, and two profiles may share one.
    """

    def __init__(self, profile: str, results: Path | None = None, runs: Path | None = None):
        self.profile = profile
        self.results = results or paths.results_root()
        self.runs = (runs or paths.runs_root()) / profile
        self.teachers = paths.TEACHERS

    def folder(self, spec: Spec) -> Path:
        """runs/PROFILE/KEY: result.json, weights.safetensors, perhaps head.safetensors; checkpoint.pt while it runs."""
        return self.runs / spec.key

    def is_begun(self, spec: Spec) -> bool:
        """Whether a run is at a checkpoint."""
        return any((self.folder(spec) / name).exists() for name in (CHECKPOINT, OLDER))

    def note(self, spec: Spec) -> Path:
        """The file in which a run notes how far it is, see `kdlib.lab.progress`; there only while it runs."""
        return self.runs / ".progress" / spec.key

    def sweep(self, spec: Spec) -> None:
        """Removes what a process that was killed in a write left of a run: for the one that holds the run's lock."""
        folder = self.folder(spec)
        for path in folder.glob(".*") if folder.exists() else ():
            path.unlink()

    def note_failure(self, spec: Spec, said: str | None) -> None:
        """Keeps what is to be said of a run that failed; None takes it away. A disk that is full keeps nothing."""
        path = self.runs / ".failed" / spec.key
        with suppress(OSError):
            if said is None:
                path.unlink(missing_ok=True)
            else:
                with replacing(path) as temporary:
                    temporary.write_text(said + "\n")

    def failure(self, spec: Spec) -> str | None:
        """Why the last attempt at a run failed, or None."""
        path = self.runs / ".failed" / spec.key
        return path.read_text().strip() if path.exists() else None

    @cached_property
    def published(self) -> dict[str, RunResult]:
        """Published results by experiment (see Spec.experiment)."""
        seals = read_seals(self.results)
        found = [read_published(path, seals) for path in _visible(self.results, "*.json")]
        found.sort(key=lambda result: str(result.spec.machine))  # of two machines the same one wins for all arms
        return {result.spec.experiment: result for result in found}

    @cached_property
    def bundled(self) -> dict[str, RunResult]:
        """Results of the teachers that come with the project, by experiment; their weights lie in teachers/KEY/."""
        found = [read_result(path) for path in _visible(self.teachers, f"*/{RESULT}")]
        return {result.spec.experiment: result for result in found}

    def get(self, spec: Spec) -> RunResult | None:
        """The result of `spec`, or None. One that is published, or comes with the project, counts whatever machine made
        it; its spec says which."""
        if (published := self.published.get(spec.experiment)) is not None:
            return published
        path = self.folder(spec) / RESULT
        return read_placed(path) if path.exists() else self.bundled.get(spec.experiment)

    def weights(self, run: Spec) -> Path | None:
        """The file with the weights that a run left on this machine, or that came with the project; None without.

        Those without a result beside them are what a run left that was killed at its end: nothing says what they are.
        """
        folders = [self.folder(run)]
        if run.experiment in self.bundled:
            folders.append(self.teachers / self.bundled[run.experiment].key)
        files = [folder / WEIGHTS for folder in folders]
        return next((file for file in files if file.exists() and file.with_name(RESULT).exists()), None)

    def results_of_runs(self) -> list[RunResult]:
        """All finished runs, published, of this machine or of the project; no measurements."""
        own = (read_result(path) for path in _visible(self.runs, f"*/{RESULT}"))
        found = {result.key: result for result in (*own, *self.bundled.values(), *self.published.values())}
        return [result for result in found.values() if isinstance(result.spec, RunSpec)]

    def put(self, result: RunResult) -> None:
        """Writes result.json, whole or not at all, and removes the checkpoints that are no longer needed."""
        folder = self.folder(result.spec)
        with writing(folder / RESULT, REMEDY) as temporary:
            temporary.write_text(sealed(result))
        for name in (CHECKPOINT, OLDER):
            (folder / name).unlink(missing_ok=True)

    def publish(self) -> list[Path]:
        """Copies every finished result of the profile to results/ (weights stay); the new files.

        What is published stays, also where this machine repeated the run, for its weights, to other bits.
        """
        new = []
        for source in _visible(self.runs, f"*/{RESULT}"):
            target = self.results / f"{read_result(source).key}.json"
            if not target.exists():
                with replacing(target) as temporary:
                    shutil.copyfile(source, temporary)
                new.append(target)
        write_seals(self.results)
        return new

    def network(self, teacher: RunSpec | Public, precision: str, head: bool = False) -> Network:
        """A trained network: a public checkpoint, or the weights that a run left in the store. In eval mode.

        head: with the head that the run trained. Raises FileNotFoundError if the weights are not on this machine,
        ValueError if they are not finite, or damaged.
        """
        if isinstance(teacher, Public):
            backbone = load_checkpoint(teacher.checkpoint, paths.checkpoint_root())
            check_weights(backbone, f"teacher {teacher.checkpoint}")
            return Network(backbone, *statistics(teacher), precision).eval()
        path = self._weights_there(teacher)
        backbone = create_model(teacher.student, len(load_data(teacher.data).train.classes))
        weights, trained_head = weights_of(path.parent)
        backbone.load_state_dict(weights)
        _warn_of_other_data(teacher, path)
        extra = new_head(teacher.method, backbone, teacher.options) if head else None
        if extra is not None:
            extra.load_state_dict(trained_head)
        return Network(backbone, *statistics(teacher), precision, extra).eval()

    def state(self, run: TaskSpec) -> dict[str, Tensor]:
        """What a run of another task has learnt, on the CPU. Raises as `network` does."""
        return weights_of(self._weights_there(run).parent)[0]

    def _weights_there(self, run: Spec) -> Path:
        path = self.weights(run)
        if path is None:
            file = self.folder(run) / WEIGHTS
            raise FileNotFoundError(f"weights of run {run.key} are missing: looked for {file}; run its study first")
        return path


@contextmanager
def only_published(profile: str) -> Iterator[Store]:
    """A store with the published results of a profile: what this machine alone has run does not count."""
    with TemporaryDirectory() as nothing:
        yield Store(profile, runs=Path(nothing))


def _visible(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder that fit, in order, but none whose name, or whose folder's, begins with a dot: file
    managers and archives leave such beside what they copy."""
    found = (path for path in folder.glob(pattern) if not path.name.startswith("."))
    return sorted(path for path in found if path.parent == folder or not path.parent.name.startswith("."))


def weights_of(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and head that a finished run left. Raises ValueError if they are not those of the result beside them, or
    not finite."""
    result, path = read_result(folder / RESULT), folder / WEIGHTS
    remedy = f"delete the folder {folder}, and the run is made again"
    try:
        weights = load_file(path)
        head = load_file(folder / HEAD) if (folder / HEAD).exists() else {}
    except (SafetensorError, OSError) as error:  # OSError: an empty file cannot be mapped
        raise ValueError(f"weights in {folder} are damaged: {remedy}") from error
    check_tensors(weights, f"teacher {result.key} in {path}")
    if bits(weights | {f"head.{name}": tensor for name, tensor in head.items()}, result.metrics) != result.bits:
        raise ValueError(f"weights in {folder} are damaged, or are not those of the result beside them: {remedy}")
    return weights, head


def _warn_of_other_data(teacher: RunSpec, weights: Path) -> None:
    """Warns if a teacher was trained on other images than those that its data set has now."""
    before, now = read_result(weights.with_name(RESULT)).fingerprint, load_data(teacher.data).train.fingerprint
    if before != now:
        warnings.warn(
            f"data = {teacher.data!r} changed, or came in another order, since teacher {teacher.key} was trained on it "
            f"(fingerprint {before} then, {now} now): delete {weights.parent} to train it anew",
            stacklevel=3,
        )


def statistics(teacher: RunSpec | Public) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std with which a teacher normalises its input: those of its checkpoint, or of the data that trained it.

    A run that trained only a head left the network below as it was, its statistics too.
    """
    source = backbone_source(teacher)
    known = PUBLIC[source.checkpoint] if isinstance(source, Public) else load_data(source.data).train
    return known.mean, known.std


def read_placed(path: Path) -> RunResult:
    """The result in the folder of its run, see `Store.folder`. Raises ValueError also if it is that of another run."""
    result = read_result(path)
    if result.key != path.parent.name:
        raise ValueError(f"result file {path} is that of run {result.key}: it was moved, delete it")
    return result


def read_published(path: Path, seals: Mapping[str, str]) -> RunResult:
    """A published result. Raises ValueError also if its name is not its key, or its seal not that among `seals`."""
    result = read_result(path)
    if result.key != path.stem:
        raise ValueError(f"result file {path} is that of run {result.key}: it was renamed, check it out again")
    if seals.get(path.stem, found := seal(_fields(path)[0])) != found:
        raise ValueError(f"result file {path} is damaged (its seal is not that in {SEALS}): check it out again")
    return result


def read_seals(results: Path) -> dict[str, str]:
    """Key -> seal of the published results that have none in their files, since they are older than seals."""
    path = results / SEALS
    try:
        return dict(line.split() for line in path.read_text().splitlines()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: check it out again") from error


def write_seals(results: Path) -> None:
    """Adds what `read_seals` lacks of the published results; those that it has stay as they are."""
    before = read_seals(results)
    files = {path.stem: _fields(path) for path in _visible(results, "*.json")}
    after = {key: seal(content) for key, (content, written) in files.items() if written is None} | before
    if after != before:
        with replacing(results / SEALS) as temporary:
            temporary.write_text("".join(f"{key} {after[key]}\n" for key in sorted(after)))


def _fields(path: Path) -> tuple[dict[str, Any], str | None]:
    """The fields in a result's file, and the seal beside them, if it has one."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise TypeError("no object")
    return content, content.pop(SEAL, None)


def read_result(path: Path) -> RunResult:
    """A stored result. Raises ValueError if the file is damaged or does not belong to the spec in it."""
    try:
        content, written = _fields(path)
        result = RunResult.model_validate(content)
    except ValidationError as error:
        raise ValueError(
            f"result file {path} does not fit this program ({sentence(error, RunResult)}): register what it was made "
            "with first, or, if it is corrupt, delete it and run its study again"
        ) from error
    except (ValueError, TypeError) as error:  # not JSON, or not text
        raise ValueError(f"result file {path} is corrupt: delete it and run its study again") from error
    if result.key != result.spec.key:
        raise ValueError(f"result file {path} says key {result.key}, its spec has {result.spec.key}: it was edited")
    if written not in (None, seal(content)):
        raise ValueError(
            f"result file {path} is corrupt, it holds other values than were written: delete it and run its study again"
        )
    return result
