"""Accuracy against what the student computes for an image."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from kdlib.chapters.resolution import TERMS
from kdlib.lab.forecasts import run_cost, run_extras
from kdlib.show.figures import BLUE, CYCLE, GREY, ORANGE, empty, legend_once, styled
from kdlib.study.setting import Study
from kdlib.study.tables import arm_intervals

#: Word of a label -> its colour: who teaches; labels without any of them are of whole images.
COLOURS: Mapping[str, str] = {"asymmetric": BLUE, "consistent": ORANGE, "no teacher": GREY}
WHOLE = "whole images"


def points(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """By arm: mean top-1, its 95 % interval (nan below three seeds), and MACs of one image, in millions.

    Of the network that is deployed: what training adds is left out, and so are the arms of further terms, which deploy
    the same one. Arms without runs are left out.
    """
    rows = {}
    for arm, found in arm_intervals(study, frame).items():
        if not found.n or any(arm.endswith(term) for term in TERMS):
            continue
        spec = study.specs(arm)[0]
        low, high = (found.low, found.high) if found.shown else (float("nan"),) * 2
        macs = (run_cost(spec).student_macs - run_extras(spec).student_macs) / 1e6
        rows[arm] = {"top1": found.mean, "low": low, "high": high, "macs": macs}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["top1", "low", "high", "macs"])


@styled
def accuracy_against_macs(found: pd.DataFrame) -> Figure:
    """A point for each arm of `points`. Full ones are of plain crops, hollow ones of JDA; squares are up-sampled."""
    figure, axis = plt.subplots(figsize=(7.6, 3.8))
    for arm, row in found.iterrows():
        who = next((words for words in COLOURS if words in str(arm)), WHOLE)
        colour = COLOURS.get(who, CYCLE[2])
        face = "white" if str(arm).startswith("JDA") else colour
        axis.vlines(row.macs, row.low, row.high, color=colour, lw=1.4, alpha=0.7)
        mark = "s" if "up-sampled" in str(arm) else "o"
        axis.plot(row.macs, row.top1, mark, mec=colour, mfc=face, ms=7, ls="", label=arm)
    if len(found):
        axis.set_xlim(left=0)
        legend_once(figure, [axis], loc="outside right upper")
    else:
        empty(axis)
    axis.set(xlabel="multiply-accumulates of the student for one image, millions", ylabel="top-1 accuracy, %")
    return figure
