"""Steps that are captured as a graph: they are those of a run that is not, they do not wait, and leave no memory."""

import gc
import os
import warnings
from pathlib import Path
from unittest import mock

import torch
from material import DEVICE, ON_GPU, OnDevice, distilled, no_waiting, run
from test_runs_on_device import PROFILE, trained_teachers

from kdlib.lab import train as training
from kdlib.lab.captured import WARM_UP, Captured, captured_run
from kdlib.lab.measures.timing import Steps
from kdlib.lab.runs import load_teacher
from kdlib.lab.specs import RunSpec
from kdlib.lab.stacked import Stack, captured_stack, tasks_of
from kdlib.lab.stacks import stack_of
from kdlib.lab.store import Store
from kdlib.methods import METHODS

STEPS = WARM_UP + 5
TO_THE_BIT = ("ce", "kd", "ccd", "dkd")  # losses in whose gradients nothing is added up in an order that changes
ALONE = [name for name, d in METHODS.items() if d.numbers and d.trains_student and not d.taught_by]


def spec_of(name: str, precision: str, **fields) -> RunSpec:
    """A run of a method, with the policy that it needs."""
    policy = "crld" if name == "crld" else "jda"
    make = distilled if METHODS[name].needs_teacher else run
    return make(method=name, precision=precision, policy=policy, **fields)


class Graphs(OnDevice):
    def steps(self, spec: RunSpec) -> Steps:
        """The run, ready to take steps."""
        trained_teachers(spec)
        teacher = load_teacher(spec, Store(PROFILE))
        return Steps(spec, teacher.to(DEVICE) if teacher is not None else None)

    def captured(self, spec: RunSpec) -> tuple[Steps, Captured]:
        """The same, and its captured steps."""
        steps = self.steps(spec)
        return steps, captured_run(steps.task, steps.optimisation)

    def test_steps_are_those_that_are_not_captured(self) -> None:
        for precision, tolerance in (("float32", 1e-3), ("bfloat16", 0.05)):
            for name in ALONE if precision == "float32" else TO_THE_BIT:
                with self.subTest(name, precision=precision):
                    spec = spec_of(name, precision)
                    ever, (other, graph) = self.steps(spec), self.captured(spec)
                    for number in range(STEPS):
                        expected = ever.optimisation.step(ever.module, ever.task.batch(number), number / STEPS)[0]
                        found = graph.step(number, number / STEPS)[0]
                        self.assertEqual(found.keys(), expected.keys())
                        self.assert_near(found["loss"], expected["loss"], tolerance)
                    self.assertEqual(graph.graph is not None, ON_GPU)
                    own, theirs = (one.method.own_state() for one in (other, ever))
                    for key, value in theirs.items():
                        if name in TO_THE_BIT:
                            self.assertTrue(torch.equal(own[key], value), key)
                        elif "running" in key:
                            self.assert_near(own[key], value, 10 * tolerance)

    def test_a_stack_is_captured(self) -> None:
        runs = stack_of([distilled().model_copy(update={"seed": seed}) for seed in (0, 1, 2)])
        trained_teachers(runs[0])
        ever, other = (Stack.of(tasks_of(runs, load_teacher(runs[0], Store(PROFILE)))) for _ in range(2))
        graph = captured_stack(other)
        for number in range(STEPS):
            expected = ever.step(number, number / STEPS)["loss"]
            self.assert_near(graph.step(number, number / STEPS)[0]["loss"], expected, 1e-3)
        for name, weight in ever.weights.items():
            self.assertTrue(torch.equal(other.weights[name], weight), name)

    def test_no_replay_waits(self) -> None:
        for policy in ("jda", "weak2", "rot4", "cutout"):
            with self.subTest(policy):
                _, graph = self.captured(distilled(policy=policy))
                for number in range(WARM_UP + 1):
                    graph.step(number, 0.0)
                with no_waiting():
                    graph.step(WARM_UP + 1, 0.0)

    def test_a_run_has_the_same_bits_also_where_it_stops(self) -> None:
        for precision in ("float32", "bfloat16") if ON_GPU else ("float32",):
            with self.subTest(precision):
                spec = distilled(precision=precision)
                trained_teachers(spec)
                expected = self.bits(spec, "0", self.folder / f"ever {precision}")
                self.assertEqual(self.bits(spec, "1", self.folder / f"captured {precision}"), expected)

                def stop(done: int, steps: int) -> None:
                    if done == 7:
                        raise KeyboardInterrupt

                parts = self.folder / f"parts {precision}"
                with mock.patch("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0), self.assertRaises(KeyboardInterrupt):
                    self.bits(spec, "1", parts, stop)
                self.assertEqual(self.bits(spec, "1", parts), expected)

    def bits(self, spec: RunSpec, capture: str, folder: Path, *progress) -> str:
        """Those of a run whose steps are captured, or not."""
        with mock.patch.dict(os.environ, KDLIB_CAPTURE=capture), warnings.catch_warnings():
            warnings.simplefilter("ignore" if not ON_GPU else "error", UserWarning)  # a CPU has no graphs
            return training.train(spec, folder, load_teacher(spec, Store(PROFILE)), *progress)["bits"]

    def test_a_method_that_cannot_be_captured_says_so_and_trains(self) -> None:
        spec = distilled("crd", options={"negatives": 4})
        trained_teachers(spec)
        with mock.patch.dict(os.environ, KDLIB_CAPTURE="1"), self.assertWarnsRegex(UserWarning, "are not captured: "):
            training.train(spec, self.folder / "crd", load_teacher(spec, Store(PROFILE)))

    def test_memory_is_given_back(self) -> None:
        if not ON_GPU:
            self.skipTest("of a GPU")
        spec, held = distilled(), []
        trained_teachers(spec)
        for number in range(3):
            self.bits(spec, "1", self.folder / str(number))
            gc.collect()
            torch.cuda.empty_cache()
            held.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
        for before, after in zip(held[0], held[-1], strict=True):
            self.assertLessEqual(after, before + 2**22)
