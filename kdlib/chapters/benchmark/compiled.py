"""What torch.compile makes of a student's step, where there is a C++ compiler."""

import shutil

from kdlib.chapters.benchmark.rates import Rates, in_turn, rate
from kdlib.chapters.benchmark.runs import IMAGES, alone, steps_of
from kdlib.lab.clock import Tell, nobody

COMPILERS = ("c++", "g++", "clang++", "cl")


def compiled_steps(rounds: int, tell: Tell = nobody, student: str = "wrn_16_2", steps: int = 4) -> Rates:
    """Image pairs per second of a student without a teacher on fixed tensors, compiled and not; empty where it cannot
    be compiled. Compiling takes a quarter of a minute or more, and is not counted."""
    if not any(map(shutil.which, COMPILERS)):
        return {}
    arms = {}
    for name in ("compiled", "not compiled"):
        run = steps_of(alone(student))
        if name == "compiled":
            run.method.student.compile()
        fixed = run.task.batch(0)
        arms[name] = lambda _, run=run, fixed=fixed: rate(
            IMAGES, lambda _: run.optimisation.step(run.method, fixed, 0.0), steps
        )
    try:
        return in_turn(arms, rounds, tell)
    except RuntimeError:  # what torch raises where its compiler, or the one of C++, fails
        return {}
