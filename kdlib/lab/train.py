"""The training loop: one for teachers and students, every method and every view policy.

A run is a function of its spec. Every draw comes from (seed, role, epoch, image id), so a resumed run continues with
the same bits; a checkpoint holds the student, the optimiser and what has been measured, nothing else.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from kdlib.data import paths
from kdlib.lab import distributed
from kdlib.lab.answers import evaluated_answers, remembering
from kdlib.lab.captured import captured_run, wanted
from kdlib.lab.checkpoints import save_checkpoint, whole, write_tensors
from kdlib.lab.evaluate import agreement, correctness_bits, logits_on, scores, with_batch_norm_from
from kdlib.lab.loop import State, checkpoint_of, go_through, stops_of
from kdlib.lab.optimisation import Optimisation
from kdlib.lab.progress import Progress
from kdlib.lab.results import HEAD, WEIGHTS, bits
from kdlib.lab.soundness import Watch, check, failure
from kdlib.lab.specs import RunSpec
from kdlib.lab.stopping import NEVER, Stop
from kdlib.lab.task import Task
from kdlib.models.network import Network


@dataclass
class Training:
    """A run in the loop, see `kdlib.lab.loop`."""

    task: Task
    optimisation: Optimisation
    state: State
    folder: Path

    def __post_init__(self) -> None:
        self.key, self.steps = self.task.spec.key, self.task.steps
        self.stops = stops_of(self.steps, self.task.spec.recipe.evaluations)
        self.module, self.watch = distributed.parallel(self.task.method).train(), Watch()
        self.captured = captured_run(self.task, self.optimisation) if wanted(self.task) else None

    def advance(self) -> list[dict[str, Tensor]]:
        done = self.state.step
        if self.captured is None:
            parts = self.optimisation.step(self.module, self.task.batch(done), done / self.steps)
        else:
            parts = self.captured.step(done, done / self.steps)
        self.task.method.after_step()
        return [distributed.averaged(own) for own in parts]  # so that all processes find a fault at the same step

    def check(self) -> None:
        check(self.watch, self.task)

    def evaluate(self) -> None:
        self.state.evaluations.append(evaluation(self.task, self.state))

    def save(self) -> None:
        save(self.task, self.optimisation, self.state, self.folder)


def train(
    spec: RunSpec, folder: Path, teacher: Network | None, progress: Progress | None = None, stop: Stop = NEVER
) -> dict | None:
    """Runs `spec` to its end, or on from the checkpoint in `folder`, and writes weights.safetensors there.

    stop: once it is due no further step is begun: a checkpoint is written, and StoppedError raised.

    Returns {"metrics", "evaluations", "bits", "fingerprint", "seconds"}, see `finish` for the metrics; None in the
    other processes of torchrun. Raises ValueError if the checkpoint belongs to other data or another spec, or if the
    teacher is not finite; FloatingPointError if the student is not, see `kdlib.lab.soundness`.
    """
    task = remembering(Task.of(spec, teacher), paths.answers_root())
    optimisation = Optimisation.of(task)
    run = Training(task, optimisation, resume(task, optimisation, folder), folder)
    go_through(run, progress, stop)
    return finish(task, run.state, folder) if distributed.rank() == 0 else None


def evaluation(task: Task, state: State) -> dict[str, float]:
    """Scores on the test set, with the step and the mean loss so far."""
    logits = logits_on(task.method.student, task.images)
    loss = (state.sums["loss"] / state.step).item()
    if not (math.isfinite(loss) and logits.isfinite().all()):
        raise failure(task, state.step, loss, [])
    return {"step": state.step, "loss": loss, **scores(logits, task.labels)}


def save(task: Task, optimisation: Optimisation, state: State, folder: Path) -> None:
    """A complete checkpoint, see `kdlib.lab.checkpoints`; OSError, in one sentence, if it cannot be written."""
    content = {
        **belongs_to(task), "method": task.method.own_state(),
        "optimiser": optimisation.optimiser.state_dict(), "scaler": optimisation.scaler.state_dict(),
        "state": vars(state),
    }  # fmt: skip
    save_checkpoint(content, folder)


def belongs_to(task: Task) -> dict:
    """What a checkpoint must share with the run that goes on from it."""
    return {"key": task.spec.key, "fingerprint": task.train.fingerprint, "processes": distributed.world()}


def resume(task: Task, optimisation: Optimisation, folder: Path) -> State:
    """The state to go on from: that of the newest good checkpoint, if there is one. Refuses that of another spec, data
    or processes, and damaged ones."""
    content = checkpoint_of(folder, task.spec.machine.device, belongs_to(task))
    if content is None:
        return State(0, 0.0, {}, [])
    task.method.load_own_state(content["method"])
    optimisation.optimiser.load_state_dict(content["optimiser"])
    optimisation.scaler.load_state_dict(content["scaler"])
    return State(**content["state"])


def finish(task: Task, state: State, folder: Path) -> dict:
    """Last-epoch measurements, and the weights.

    metrics: top1, top5, nll, ece on the test set; best_top1 over the evaluations; agreement and kl_to_teacher;
    train_top1 on weak views; bn_top1 after re-estimating BatchNorm on weak views; correct (one bit per test image);
    images, steps, epochs, views, distinct_views; mean_NAME of every recorded scalar (mean_w for CCD).
    """
    student, spec = task.method.student, task.spec
    logits = logits_on(student, task.images)
    views, labels = task.weak_views()
    metrics = {
        **scores(logits, task.labels),
        "best_top1": max(e["top1"] for e in state.evaluations),
        "train_top1": scores(logits_on(student, views), labels)["top1"],
        "bn_top1": scores(logits_on(with_batch_norm_from(student, views), task.images), task.labels)["top1"],
        "images": len(task.ids), "steps": task.steps, "epochs": task.epochs,
        "views": task.steps * spec.recipe.views_per_step, "distinct_views": task.distinct_views,
        "correct": correctness_bits(logits, task.labels),
        **{f"mean_{name}": (value / task.steps).item() for name, value in state.sums.items()},
    }  # fmt: skip
    if task.method.teacher is not None:
        metrics |= agreement(logits, evaluated_answers(task, paths.answers_root()))
    tensors = whole(student.backbone.state_dict())
    head = whole(student.head.state_dict()) if student.head else {}
    for name, content in ((HEAD, head), (WEIGHTS, tensors)):
        if content:
            write_tensors(content, folder / name)
    trained = tensors | {f"head.{name}": tensor for name, tensor in head.items()}
    return {
        "metrics": metrics, "evaluations": state.evaluations, "bits": bits(trained, metrics),
        "fingerprint": task.train.fingerprint, "seconds": state.seconds,
    }  # fmt: skip
