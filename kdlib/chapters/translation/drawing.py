"""Figures of chapter 25: a sentence in three spellings, BLEU by view and by what is taught, and by number of pairs."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from kdlib.chapters.translation import METRICS, SIZES, TEACHING, VIEWS, label
from kdlib.elsewhere.translation.parallel import GRAMMAR, load_text
from kdlib.elsewhere.translation.spelling import speller_of, spelt_anew
from kdlib.show.figures import CYCLE, empty, grouped_bars, legend_once, styled
from kdlib.show.series import interval_line
from kdlib.study.setting import Study
from kdlib.study.stats import mean_interval
from kdlib.study.tables import by_seed

WIDTH, GAP = 1.0, 0.35  # of a character and of the space between pieces
STRENGTH = 0.1  # of the spellings that are shown


def spellings(number: int = 0) -> dict[str, list[str]]:
    """The pieces of a test sentence of the grammar: its plain spelling, and two of BPE-dropout that differ from it."""
    text, size = load_text(GRAMMAR), SIZES["quick"].both["pieces"]
    speller, sentence = speller_of(text.train, size), text.test[number][0]
    plain, others = speller.plain(sentence), []
    for epoch in range(50):
        (other,) = spelt_anew(speller, [sentence], STRENGTH, seed=0, epoch=epoch)
        if other not in (plain, *others):
            others.append(other)
    shown = {"plain": plain, "one spelling": others[0], "another": others[1]}
    return {name: speller.shown(ids) for name, ids in shown.items()}


@styled
def spelt(rows: dict[str, list[str]]) -> Figure:
    """Pieces in boxes, a row for each spelling; a blank belongs to the piece behind it."""
    figure, axis = plt.subplots(figsize=(7.4, 0.5 * len(rows) + 0.2))
    ends = []
    for row, pieces in enumerate(rows.values()):
        at = 0.0
        for piece in pieces:
            width = WIDTH * len(piece.strip()) + 0.6
            at += GAP * (2.2 if piece.startswith(" ") else 1)
            box = plt.Rectangle((at, -row - 0.36), width, 0.72, color=CYCLE[0], alpha=0.18, lw=0)
            axis.add_patch(box)
            axis.text(at + width / 2, -row, piece.strip(), ha="center", va="center", fontsize=7.5, family="monospace")
            at += width
        ends.append(at)
    axis.set(xlim=(0, max(ends) + 0.5), ylim=(-len(rows) + 0.4, 0.6), xticks=[])
    axis.set_yticks([-row for row in range(len(rows))], list(rows))
    axis.tick_params(length=0)
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)
    return figure


def grid(frame: pd.DataFrame, metric: str = "bleu") -> Figure:
    """Bars of the arms that are measured, by view, side by side for what is taught."""
    cells = {(v, t): list(by_seed(frame, label(v, t), metric).values()) for v in VIEWS for t in TEACHING}
    colours = {t: colour for t, colour in zip(TEACHING, CYCLE, strict=False) if any(cells[v, t] for v in VIEWS)}
    return grouped_bars(cells, {view: view for view in VIEWS}, colours, METRICS[metric])


@styled
def by_pairs(study: Study, frame: pd.DataFrame) -> Figure:
    """BLEU of students with KD against how many pairs they have, a line for each spelling."""
    figure, axis = plt.subplots(figsize=(5.6, 3.2))
    for (view, curve), colour in zip(study.series.items(), CYCLE, strict=False):
        found = {pairs: mean_interval(list(by_seed(frame, arm, "bleu").values())) for arm, pairs in curve.items()}
        interval_line(axis, {pairs: one for pairs, one in found.items() if one.n}, colour, view)
    axis.set(xscale="log", xlabel="pairs of sentences", ylabel=METRICS["bleu"])
    pairs = sorted({pairs for curve in study.series.values() for pairs in curve.values()})
    axis.set_xticks(pairs, [f"{count:,}" for count in pairs], minor=False)
    axis.minorticks_off()
    legend_once(figure, [axis])
    if not any(len(line.get_xdata()) for line in axis.lines):
        empty(axis, "not measured")
    return figure
