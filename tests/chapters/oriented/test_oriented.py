"""Chapter 26: a grid of detectors that differ in the second view alone, with a contrast fixed before any run."""

import numpy as np
import pytest
import torch

from kdlib.chapters import findings
from kdlib.chapters.oriented import (
    ALONE,
    BETAS,
    BOTH,
    HELPS,
    INTERACTION,
    KD,
    LABELS,
    SIGHTED,
    TERMS,
    VIEWS,
    arms_table,
    drawing,
    label,
)
from kdlib.chapters.registry import command_line, create_study
from kdlib.elsewhere.oriented.angles import BINS
from kdlib.elsewhere.oriented.scenes import SEEN, UNSEEN
from kdlib.elsewhere.oriented.training import OrientedSpec
from kdlib.lab.store import Store
from kdlib.show import figures
from kdlib.study.judging import judge
from kdlib.study.setting import Setting
from kdlib.study.tables import contrast_interval, not_run, runs_frame

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("isolated")
SCALES = ["smoke", "quick", "reference", "paper"]
SCORES = {"views": 30_080, "steps": 940, "macs": 5e12, "boxes": {"all angles": 1700, SEEN: 1710, UNSEEN: 1690}}
TURNED, PLAIN = label("any-angle", BOTH), label("weak2", BOTH)


def study_at(scale: str, **choices):
    return create_study("26_oriented", Setting.of(scale, device="cpu"), **choices)


@pytest.fixture
def told(invented):
    """told({arm: AP50}): a study and a store with invented results, which differ a little by seed and arm."""

    def tell(values: dict[str, float], scale: str = "reference"):
        study, store = study_at(scale), Store(scale)
        for k, (arm, ap50) in enumerate(values.items()):
            specs = study.measured(arm)
            for seed, noise in zip(specs, np.roll(np.linspace(-0.2, 0.2, len(specs)), k), strict=True):
                scores = {"ap50": ap50 + noise, "ap75": ap50 / 2, "ap": ap50 / 3, "clear_angle_error": 10 + noise}
                ranges = {f"{SEEN}: ap50": ap50 + 20 + noise, f"{UNSEEN}: ap50": ap50 - 10 + noise}
                store.put(invented(study.measurements[f"{arm}, seed {seed}"], scale, **SCORES, **scores, **ranges))
        return study, Store(scale)

    return tell


@pytest.mark.parametrize("scale", SCALES)
def test_the_primary_contrast_is_fixed(scale):
    study = study_at(scale)
    first, *others = study.contrasts
    assert (first.name, first.metric, first.weights) == ("O1", "ap50", {TURNED: 1, PLAIN: -1})
    assert (first.primary, first.says, first.margin, first.level) == (True, "better", 1.0, 0.95)
    assert TURNED == "any angle, labels + KD" and PLAIN == "weak2, labels + KD"
    assert study.planned(first) == (5 if study.setting.profile.verdicts else 1)
    assert not any(contrast.primary for contrast in others) and all(c.margin == 1.0 for c in others)
    assert len({c.name for c in study.contrasts}) == len(study.contrasts)


@pytest.mark.parametrize("scale", SCALES)
def test_detectors_differ_in_what_their_arm_says_alone(scale):
    study = study_at(scale)
    by_seed: dict[int, list[OrientedSpec]] = {}
    for arm in study.arms:
        assert study.specs(arm) == []
        for seed, spec in study.measured(arm).items():
            terms = next((t for t, on in TERMS.items() if on == (spec.labels, spec.kd) and spec.teacher), ALONE)
            assert arm.startswith(label(spec.second, terms)) and spec.seed == seed
            assert (SIGHTED in arm) == (spec.teacher is not None and spec.teacher.second != "weak2")
            assert (f"beta {spec.beta:g}" in arm) == (spec.beta in BETAS)
            by_seed.setdefault(seed, []).append(spec)
    assert len(by_seed) == (1 if study.setting.profile.trains else 5)
    for seed, specs in by_seed.items():
        changed = {"second", "labels", "kd", "teacher", "beta"}
        assert len({repr(spec.model_dump(exclude=changed)) for spec in specs}) == 1
        assert len({spec.key for spec in specs}) == len(specs)
        teachers = {spec.teacher.key: spec.teacher for spec in specs if spec.teacher}.values()
        assert {t.second for t in teachers} <= {"weak2", "any-angle"} and len(teachers) <= 2
        for teacher in teachers:
            assert (teacher.teacher, teacher.seed, teacher.views) == (None, seed, 2 * specs[0].views)
            assert teacher.width > specs[0].width


def test_demonstrations_have_the_arms_of_the_interaction_and_others_the_whole_grid():
    assert list(study_at("quick").arms) == [PLAIN, label("weak2", LABELS), TURNED, label("any-angle", LABELS)]
    arms = study_at("reference").arms
    assert {label(view, terms) for view in VIEWS for terms in TERMS} <= set(arms) and len(arms) == 12 + 1 + 2 + 2
    assert arms[TURNED].floor == arms[PLAIN].floor == "weak2, no teacher" and arms["weak2, no teacher"].floor is None


def test_reference_is_what_was_planned():
    study = study_at("reference")
    spec = study.measurements[f"{TURNED}, seed 3"]
    assert (spec.data, spec.width, spec.teacher.width, spec.views) == ("turned-scenes", 16, 32, 30_080)
    assert (spec.beta, spec.akd_weight, BINS) == (4.0, 0.25, 45)
    assert study.specs_to(2) == [] and study.data == "turned-scenes"
    assert "of one core" in not_run(study, runs_frame(study, Store("reference")))


def test_other_pictures_are_asked_for_by_name(tmp_path):
    line = command_line("26_oriented", {"profile": "reference", "turned": f"dota:{tmp_path}"})
    assert "turned=" in line
    study = study_at("quick", turned=f"dota:{tmp_path}")
    assert study.data == f"dota:{tmp_path}" and not any(SEEN in c.metric for c in study.contrasts)
    with pytest.raises(ValueError, match="turned = 'trees' is unknown; allowed are turned-scenes and dota:FOLDER"):
        study_at("quick", turned="trees")


VALUES = {
    PLAIN: 40, TURNED: 47, label("weak2", LABELS): 39, label("any-angle", LABELS): 49, "weak2, no teacher": 38,
}  # fmt: skip


def test_the_finding_tells_turned_labels_from_the_teacher(told):
    study, store = told(VALUES)
    frame = runs_frame(study, store)
    found = {c.name: contrast_interval(c, frame) for c in study.contrasts}
    assert found["O1"].mean == pytest.approx(7) and found[HELPS].mean == pytest.approx(-2)
    assert found[INTERACTION].mean == pytest.approx(-3) and found["O1"].n == 5
    assert judge(study, study.contrasts[0], frame).word == "supported"
    text = findings.finding(study, frame)
    said = "With a teacher that never saw turned objects, a student of any angle is better than one of two plain crops"
    assert text.startswith(f"**{said}**: +7.00 points [")
    assert "On turned views the blind teacher harms beside the labels: -2.00 points [" in text
    assert "less than on plain ones (-3.00 points [" in text


@pytest.mark.parametrize(("alone", "word"), [(60, "not tested at this budget"), (38, "supported")])
def test_students_below_the_floor_decide_nothing(told, alone, word):
    """The floor is compared in AP50, not in an accuracy that detectors do not have."""
    study, store = told(VALUES | {"weak2, no teacher": alone})
    frame = runs_frame(study, store)
    assert judge(study, study.contrasts[0], frame).word == word
    assert ("is not tested" in findings.finding(study, frame)) == (alone == 60)


def test_without_its_floor_nothing_is_decided(told):
    study, store = told({arm: value for arm, value in VALUES.items() if arm != "weak2, no teacher"})
    assert judge(study, study.contrasts[0], runs_frame(study, store)).word == "not decided, its floor is not measured"


def test_tables_hold_means_over_seeds_and_both_ranges(told, invented):
    study, store = told({TURNED: 47, label("weak2", KD): 30})
    teacher = study.measurements[f"{TURNED}, seed 0"].teacher
    store.put(invented(teacher, "reference", **SCORES, ap50=44.0, ap75=20.0, ap=10.0))
    table = arms_table.table(study, Store("reference"))
    assert set(table.index) == {"blind teacher", TURNED, "weak2, KD"} and table.index[0] == "blind teacher"
    row = table.loc[TURNED]
    assert list(row[["AP50", "AP50, turned to 30°", "AP50, turned further", "n", "views"]]) == [
        "47.00", "67.00", "37.00", "5", "30,080",
    ]  # fmt: skip
    assert row["angle error, degrees"] == "10.00" and table.loc["blind teacher", "angle error, degrees"] == ""
    assert arms_table.boxes_text(study, store) == (
        "1700 boxes all angles, 1710 boxes turned to 30°, 1690 boxes turned further"
    )


@pytest.mark.usefixtures("strict_figures")
def test_bars_stand_at_the_means(told):
    study, store = told({TURNED: 47, label("weak2", LABELS): 39})
    frame = runs_frame(study, store)
    bars = sorted(b.get_height() for b in drawn(drawing.grid(frame)).axes[0].patches)
    assert bars == [pytest.approx(39), pytest.approx(47)]
    explorer = drawing.by_metric(frame)
    assert len({explorer.picture(words) for words in explorer.controls["measure"]}) == 4
    drawn(figures.forest({c.title: contrast_interval(c, frame) for c in study.contrasts}, 1.0))


def test_nothing_measured_is_said(told):
    study, store = told({})
    assert arms_table.table(study, store).empty and arms_table.boxes_text(study, store) == "not measured"
    assert texts(drawing.grid(runs_frame(study, store))).count("not measured") == 1


@pytest.mark.usefixtures("strict_figures")
def test_the_picture_shows_the_boxes_of_four_views():
    """Boxes have the same sides in all views but JDA's, which shears."""
    figure = drawn(drawing.four_views())
    assert [axis.get_title() for axis in figure.axes] == list(VIEWS.values())
    sides = []
    for axis in figure.axes:
        points = [torch.tensor(patch.get_xy()[:4]) for patch in axis.patches]
        assert points
        lengths = [(p - p.roll(1, 0)).norm(dim=1).sort().values[[0, 2]].round(decimals=1) for p in points]
        sides.append({tuple(pair.tolist()) for pair in lengths})
    assert sides[1] & sides[0] and sides[2] & sides[0]
    drawn(drawing.angle_labels())
