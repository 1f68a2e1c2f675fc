"""Runs: a step does not wait, a run stops and goes on to the same bits, banks and kept answers serve, NCCL works."""

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import torch
from material import DEVICE, ON_GPU, OnDevice, distilled, no_waiting, run

from kdlib.lab import train as training
from kdlib.lab.measures.timing import Steps
from kdlib.lab.results import RunResult
from kdlib.lab.runs import execute, load_teacher
from kdlib.lab.specs import RunSpec
from kdlib.lab.stacked import Stack, tasks_of, train_stack
from kdlib.lab.stacks import stack_of
from kdlib.lab.stopping import OutOfTimeError, Stop
from kdlib.lab.store import Store
from kdlib.lab.task import Task, resident

PROFILE = "smoke"
DISTRIBUTED = """
import sys
from kdlib.lab.runs import execute
from kdlib.lab.specs import RunSpec
print(execute(RunSpec.model_validate_json(sys.stdin.read()), "smoke").metrics["top1"])
"""


def trained_teachers(spec: RunSpec) -> None:
    """Sees to it that the store has the teachers of a run."""
    for needed in spec.prerequisites:
        execute(needed, PROFILE)


def finished(spec: RunSpec) -> RunResult:
    """The result of a run, after those of its teachers."""
    trained_teachers(spec)
    return execute(spec, PROFILE)


class Runs(OnDevice):
    def steps(self, spec: RunSpec) -> Steps:
        """The run, ready to take steps."""
        trained_teachers(spec)
        teacher = load_teacher(spec, Store(PROFILE))
        return Steps(spec, teacher.to(DEVICE) if teacher is not None else None)

    def test_no_step_waits(self) -> None:
        """float16 does: its scaler asks whether a gradient is infinite."""
        for precision in ("float32", "bfloat16"):
            for name in ("kd", "ccd", "dkd", "crld", "tekap", "ls", "dist", "energy_kd", "energy_dkd", "crd"):
                options = {"negatives": 4} if name == "crd" else {}
                with self.subTest(name, precision=precision):
                    steps = self.steps(distilled(name, precision, options=options))
                    for number in (0, 1):
                        steps.take(number)
                    with no_waiting():
                        steps.take(2)

    def test_draws_are_moved_and_not_made_on_the_device(self) -> None:
        before = torch.cuda.get_rng_state() if ON_GPU else None
        self.steps(distilled()).take(0)
        if before is not None:
            self.assertTrue(torch.equal(before, torch.cuda.get_rng_state()))

    def test_a_run_that_stopped_goes_on_to_the_same_bits(self) -> None:
        """cuDNN is asked for algorithms that give the same sum each time."""
        for precision in ("float32", "bfloat16") if ON_GPU else ("float32",):
            with self.subTest(precision):
                spec = distilled(precision=precision)
                trained_teachers(spec)
                whole = training.train(spec, self.folder / f"whole {precision}", load_teacher(spec, Store(PROFILE)))
                parts = self.folder / f"parts {precision}"

                def stop(done: int, steps: int) -> None:
                    if done == 7:
                        raise KeyboardInterrupt

                with mock.patch.object(training, "CHECKPOINT_SECONDS", 0.0), self.assertRaises(KeyboardInterrupt):
                    training.train(spec, parts, load_teacher(spec, Store(PROFILE)), stop)
                resumed = training.train(spec, parts, load_teacher(spec, Store(PROFILE)))
                self.assertEqual(resumed["bits"], whole["bits"])

    def stack(self, precision: str, seeds: tuple[int, ...] = (0, 1, 2)) -> tuple[list[RunSpec], list[Task]]:
        """Runs of several seeds as one stack, and their tasks."""
        runs = stack_of([distilled(precision=precision).model_copy(update={"seed": seed}) for seed in seeds])
        trained_teachers(runs[0])
        return runs, tasks_of(runs, load_teacher(runs[0], Store(PROFILE)))

    def test_a_stack_takes_the_steps_of_its_runs(self) -> None:
        for precision, tolerance in (("float32", 2e-3), ("bfloat16", 0.05)):
            with self.subTest(precision):
                runs, tasks = self.stack(precision)
                stack = Stack.of(tasks)
                singles = [self.steps(run) for run in runs]
                for number in range(3):
                    found = stack.step(number, 0.0)["loss"]
                    alone = [
                        one.optimisation.step(one.module, one.task.batch(number), 0.0)[0]["loss"] for one in singles
                    ]
                    self.assert_near(found, torch.stack(alone), tolerance)
                for task, one in zip(tasks, singles, strict=True):
                    own, other = (t.method.student.backbone.state_dict() for t in (task, one.task))
                    for name in (name for name in other if "running" in name):
                        self.assert_near(own[name], other[name], 10 * tolerance)

    def test_no_step_of_a_stack_waits(self) -> None:
        for precision in ("float32", "bfloat16"):
            with self.subTest(precision):
                stack = Stack.of(self.stack(precision)[1])
                for number in (0, 1):
                    stack.step(number, 0.0)
                with no_waiting():
                    stack.step(2, 0.0)

    def test_a_stack_that_stopped_goes_on_to_the_same_bits(self) -> None:
        run = self.stack("float32")[0][0]
        teacher = load_teacher(run, Store(PROFILE))
        whole, parts = ([self.folder / name / str(i) for i in range(3)] for name in ("whole", "parts"))
        expected = train_stack(run, whole, teacher)
        with self.assertRaises(OutOfTimeError):
            train_stack(run, parts, teacher, stop=Stop(0.0))
        self.assertEqual([r["bits"] for r in train_stack(run, parts, teacher)], [r["bits"] for r in expected])

    def test_float16_trains_with_its_scaler(self) -> None:
        if not ON_GPU:
            self.skipTest("a CPU without float16 arithmetic")
        result = execute(run(precision="float16"), PROFILE)
        self.assertTrue(all(torch.isfinite(torch.tensor(e["loss"])) for e in result.evaluations))

    def test_a_view_bank_serves_a_run(self) -> None:
        result = finished(distilled(bank=2))
        self.assertEqual(result.spec.bank, 2)

    def test_kept_answers_change_no_bit(self) -> None:
        spec = distilled()
        plain = finished(spec)
        answers = str(self.folder / "answers")
        with mock.patch.dict(os.environ, KDLIB_RUNS=str(self.folder / "others"), KDLIB_ANSWERS=answers):
            asked = finished(spec)
        self.assertTrue(list(Path(answers).iterdir()))
        self.assertEqual(asked.bits, plain.bits)

    def test_images_are_held_on_the_device_where_they_fit(self) -> None:
        images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        self.assertEqual(resident(images, DEVICE).device.type, DEVICE)

    def test_memory_is_given_back(self) -> None:
        if not ON_GPU:
            self.skipTest("of a GPU")
        execute(run(), PROFILE)
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        for seed in (1, 2):
            execute(run().model_copy(update={"seed": seed}), PROFILE)
        self.assertLessEqual(torch.cuda.memory_allocated(), before + 2**20)

    def test_torchrun_with_one_process(self) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
        program = self.folder / "program.py"
        program.write_text(DISTRIBUTED.replace("sys.stdin.read()", "open(sys.argv[1]).read()"))
        spec = self.folder / "spec.json"
        spec.write_text(run().model_dump_json())
        path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [*command, str(program), str(spec)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path},
            timeout=300,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(float(done.stdout), Store(PROFILE).get(run()).metrics["top1"])
