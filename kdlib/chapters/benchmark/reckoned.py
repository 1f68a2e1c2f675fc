"""How arithmetic and bytes grow with a run's images, views, batch and width, and with the number of runs: reckoned from
what each run is, without a clock."""

from collections.abc import Sequence

import pandas as pd

from kdlib.lab.forecasts import answers_bytes, run_cost, total_macs
from kdlib.lab.recipe import Policy
from kdlib.lab.specs import RunSpec
from kdlib.study.arms import Arm
from kdlib.study.setting import Setting

TIMES = (1, 2, 4)
JDA = Arm("JDA", Policy(name="jda"))
#: Networks of which each is twice as wide as the one before.
WIDER = ("wrn_16_1", "wrn_16_2", "wrn_16_4")


def growth_frame(setting: Setting) -> pd.DataFrame:
    """One row per thing there is more of, at four times the least: by how much the sums of `sums` grow.

    Runs are KD + JDA as the setting trains them.
    """
    rows = {
        title: {name: _times(first[name], last[name]) for name in first}
        for title, (first, *_, last) in ((title, [sums(specs) for specs in some]) for title, some in grown(setting))
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def sums(specs: Sequence[RunSpec]) -> dict[str, float]:
    """Of some runs together: multiply-accumulates, without and with kept answers, those of a step, bytes in training
    beside activations, where one runs after the other, and bytes of kept answers."""
    costs = [run_cost(spec) for spec in specs]
    return {
        "MACs": total_macs(specs),
        "MACs with kept answers": total_macs(specs, kept=True),
        "MACs of a step": max(cost.step_macs for cost in costs),
        "training bytes": max(cost.training_bytes for cost in costs),
        "bytes of kept answers": answers_bytes(specs),
    }


def grown(setting: Setting) -> list[tuple[str, list[list[RunSpec]]]]:
    """What there is more of -> runs with once, twice and four times as much of it.

    Where there are not enough images, the first has fewer than the setting's; the last has the setting's step.
    """
    run = setting.run(0, JDA)
    most = min(1.0, TIMES[-1] * run.fraction)
    images = [changed(run, fraction=most * times / TIMES[-1]) for times in TIMES]
    views = [_recipe(run, views_per_image=times * run.recipe.views_per_image) for times in TIMES]
    batch = [_recipe(run, views_per_step=run.recipe.views_per_step * times // TIMES[-1]) for times in TIMES]
    wider = [changed(run, student=name, method="ce", options={}, teacher=None) for name in WIDER]
    options = ({}, {"weight": "mean"}, {"weight": "one"})
    alike = [run, *(changed(run, method="ccd", options=some) for some in options)]
    return [
        ("images", [[spec] for spec in images]),
        ("views of an image", [[spec] for spec in views]),
        ("views of a step", [[spec] for spec in batch]),
        ("width of WRN-16, without a teacher", [[spec] for spec in wider]),
        ("runs of other seeds", [[setting.run(seed, JDA) for seed in range(times)] for times in TIMES]),
        ("runs that share views and teacher", [alike[:times] for times in TIMES]),
    ]


def _recipe(run: RunSpec, **fields: int) -> RunSpec:
    return changed(run, recipe=run.recipe.model_copy(update=fields))


def changed(run: RunSpec, **fields) -> RunSpec:
    """The run with other fields, checked anew."""
    return RunSpec(**{name: getattr(run, name) for name in type(run).model_fields} | fields)


def _times(first: float, last: float) -> str:
    return f"{last / first:.3g}" if first else "–"
