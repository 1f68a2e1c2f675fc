"""Chapter 24: a grid of detectors that differ in the second view alone, with contrasts fixed before any run."""

import numpy as np
import pytest
import torch

from kdlib.chapters import findings
from kdlib.chapters.detection import (
    ADDED,
    ALONE,
    BOTH,
    EXTRA,
    KD,
    LABELS,
    REPAIR,
    TERMS,
    VIEWS,
    arms_table,
    drawing,
    label,
)
from kdlib.chapters.registry import command_line, create_study
from kdlib.data.images import FASHION_CLASSES
from kdlib.elsewhere.boxes.pictures import FRAME
from kdlib.elsewhere.boxes.scenes import SEED, scene
from kdlib.elsewhere.detection import DetectionSpec
from kdlib.lab.store import Store
from kdlib.show import figures
from kdlib.show.status import status_box
from kdlib.study.judging import judge
from kdlib.study.setting import Setting
from kdlib.study.tables import contrast_interval, not_run, runs_frame

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("isolated")
SCALES = ["smoke", "quick", "reference", "paper"]
SCORES = {"views": 30_080, "steps": 940, "macs": 5e12, "boxes": {"Yellowstone": 234, "Florida": 61, "California": 36}}


def study_at(scale: str, **choices):
    return create_study("24_detection", Setting.of(scale, device="cpu"), **choices)


@pytest.fixture
def told(invented):
    """told({arm: (AP50, AP75)}): a study and a store with invented results, which differ a little by seed and arm."""

    def tell(values: dict[str, tuple[float, float]], scale: str = "reference", spread: float = 0.2):
        study, store = study_at(scale), Store(scale)
        for k, (arm, (ap50, ap75)) in enumerate(values.items()):
            specs = study.measured(arm)
            for seed, noise in zip(specs, np.roll(np.linspace(-1, 1, len(specs)), k), strict=True):
                noise = spread * float(noise)
                scores = {"ap50": ap50 + noise, "ap75": ap75 + noise, "ap": ap50 / 2 + noise}
                elsewhere = {
                    f"{place}{score}": value
                    for place in ("", "Florida: ", "California: ")
                    for score, value in {"precision": 70, "recall": 60, "f1": 64 + noise, "overconfidence": -5}.items()
                }
                for place, lost in (("Florida", 20), ("California", 10 + noise)):
                    elsewhere |= {f"{place}: ap50": ap50 / 2, f"{place}: best_f1": 80, f"{place}: threshold_loss": lost}
                elsewhere["threshold_loss"] = 15 + noise / 2 - ap50 / 10
                store.put(invented(study.measurements[f"{arm}, seed {seed}"], scale, **SCORES, **scores, **elsewhere))
        return study, Store(scale)

    return tell


def measured(study, store) -> dict:
    return {name: r.metrics if (r := store.get(spec)) else None for name, spec in study.measurements.items()}


@pytest.mark.parametrize("scale", SCALES)
def test_the_primary_contrasts_are_fixed(scale):
    study = study_at(scale)
    first, second, *others = study.contrasts
    third = others.pop(0) if scale in ("reference", "paper") else None  # of other places, which scenes do not have
    assert (first.name, first.metric, first.weights) == (
        "D1",
        "ap50",
        {"JDA, labels + KD": 1, "weak2, labels + KD": -1},
    )
    assert (second.name, second.metric) == ("D2", "ap75")
    assert second.weights == {"geometric, labels + KD": 1, "geometric, labels": -1}
    for contrast in (first, second):
        assert (contrast.primary, contrast.says, contrast.margin, contrast.level) == (True, "better", 1.0, 1 - 0.05 / 3)
        assert study.planned(contrast) == (5 if study.setting.profile.verdicts else 1)
    if third:
        assert (third.name, third.metric, third.weights) == ("K2", "threshold_loss", first.weights)
        assert (third.primary, third.says, third.margin, third.level) == (True, "less", 1.0, 1 - 0.05 / 3)
    assert not any(contrast.primary for contrast in others) and all(c.margin == 1.0 for c in others)


@pytest.mark.parametrize("scale", SCALES)
def test_detectors_differ_in_the_second_view_alone(scale):
    study = study_at(scale)
    by_seed: dict[int, list[DetectionSpec]] = {}
    for arm in study.arms:
        assert study.specs(arm) == []
        for seed, spec in study.measured(arm).items():
            assert isinstance(spec, DetectionSpec) and spec.seed == seed
            terms = next((t for t, on in TERMS.items() if on == (spec.labels, spec.kd) and spec.teacher), ALONE)
            assert label(spec.second, terms) == arm or arm.startswith(f"{label(spec.second, BOTH)}, ")
            by_seed.setdefault(seed, []).append(spec)
    assert len(by_seed) == (1 if study.setting.profile.trains else 5)
    for seed, specs in by_seed.items():
        changed = {"second", "labels", "kd", "teacher", "relation_weight", "gate", "last"}
        assert len({repr(spec.model_dump(exclude=changed)) for spec in specs}) == 1
        assert len({spec.key for spec in specs}) == len(specs)
        (teacher,) = {spec.teacher.key: spec.teacher for spec in specs if spec.teacher}.values()
        assert (teacher.second, teacher.teacher, teacher.seed) == ("weak2", None, seed)
        assert (teacher.views, teacher.width > specs[0].width) == (2 * specs[0].views, True)


def test_demonstrations_have_the_arms_of_both_contrasts_and_others_the_whole_grid():
    assert list(study_at("quick").arms) == [
        "weak2, labels + KD", "JDA, labels + KD", "geometric, labels + KD", "geometric, labels",
    ]  # fmt: skip
    whole = [label(view, terms) for view in VIEWS for terms in TERMS] + [label("weak2", ALONE)]
    extra = [f"{label(view, BOTH)}, {added}" for view, added in EXTRA]
    assert list(study_at("reference").arms) == whole + extra and len(extra) == 7


def test_what_is_added_to_an_arm_is_all_that_differs():
    study = study_at("reference")
    for view, added in EXTRA:
        arm, base = f"{label(view, BOTH)}, {added}, seed 1", f"{label(view, BOTH)}, seed 1"
        one, other = (dict(study.measurements[name]) for name in (arm, base))
        assert {name for name in one if one[name] != other[name]} == set(ADDED[added])
        (contrast,) = [
            c for c in study.contrasts if list(c.weights) == [arm.removesuffix(", seed 1"), label(view, BOTH)]
        ]
        assert contrast.weights == {arm.removesuffix(", seed 1"): 1, label(view, BOTH): -1}


def test_reference_is_what_was_planned():
    study = study_at("reference")
    spec = study.measurements["JDA, labels + KD, seed 3"]
    assert (spec.data, spec.width, spec.teacher.width, spec.views) == ("trees", 16, 32, 30_080)
    assert (spec.kd_weight, spec.ld_weight, spec.form) == (1.0, 0.25, "bernoulli")
    assert len(study.all_specs) == 86 and study.specs_to(2) == [] and study.data == "trees"
    assert not_run(study, runs_frame(study, Store("reference"))).splitlines()[0].endswith("(about 3 h of one core).")


def test_other_pictures_are_asked_for_by_name():
    assert study_at("reference", boxes="scenes").data == study_at("quick").data == "scenes"
    line = command_line("24_detection", {"profile": "reference", "boxes": "scenes"})
    assert line.endswith("""--option 'boxes="scenes"'""")
    with pytest.raises(ValueError, match="boxes = 'cifar10' is unknown; allowed are scenes, trees"):
        study_at("quick", boxes="cifar10")


def test_the_status_box_names_detectors_and_pictures():
    study = study_at("reference")
    said = status_box(study, study.all_specs, Store("reference")).data
    assert "Profile reference on trees: 0 of 86 runs" in said
    assert "<dd>detector of width 32 → detector of width 16</dd>" in said


def test_contrasts_are_those_of_the_measured_precision(told):
    values = {
        label("weak2", BOTH): (60, 30), label("jda", BOTH): (63, 31), label("geometric", BOTH): (61, 30),
        label("geometric", LABELS): (61, 25), label("weak2", LABELS): (59, 29), label("weak2", ALONE): (50, 20),
    }  # fmt: skip
    study, store = told(values)
    frame = runs_frame(study, store)
    found = {c.name: contrast_interval(c, frame) for c in study.contrasts}
    assert found["D1"].mean == pytest.approx(3) and found["D2"].mean == pytest.approx(5)
    assert found[REPAIR].mean == pytest.approx(4) and found["D1"].n == 5
    assert [judge(study, c, frame).word for c in study.contrasts[:2]] == ["supported", "supported"]
    text = findings.finding(study, frame)
    assert text.startswith("**On plain crops KD helps a detector**, against none: +10.00 points [")
    assert "**Under KD a detector of JDA is better than one of two plain crops**: +3.00 points [" in text
    assert "**On geometric views a detector of labels and KD is better than one of labels alone**: +5.00 points" in text
    assert "The teacher adds more there than on plain views: +4.00 points [" in text


def test_a_contrast_is_not_tested_below_the_student_without_a_teacher(told):
    """The floor is one of AP50, whatever the metric of the contrast."""
    values = {label("jda", BOTH): (63, 10), label("weak2", BOTH): (50, 40)}
    study, store = told(values)
    assert judge(study, study.contrast("D1"), runs_frame(study, store)).word.endswith("its floor is not measured")
    study, store = told({label("weak2", ALONE): (60, 30)})
    frame = runs_frame(study, store)
    d1, _, k2 = (judge(study, contrast, frame) for contrast in study.contrasts[:3])
    assert d1.word.startswith("not tested") and k2.word == d1.word and d1.rule == "supported"
    assert list(d1.below) == list(k2.below) == [label("weak2", BOTH)]
    text = findings.finding(study, frame)
    assert (
        text.startswith("**On plain crops KD harms a detector**, against none: -10.00 points [")
        and "did not train" in text
    )


def test_every_taught_arm_of_a_study_has_the_floor():
    study = study_at("reference")
    floors = {arm.floor for name, arm in study.arms.items() if name != label("weak2", ALONE)}
    assert floors == {label("weak2", ALONE)} and study.arms[label("weak2", ALONE)].floor is None
    assert study.planned_above_floor(label("jda", BOTH)) == 5
    assert {arm.floor for arm in study_at("quick").arms.values()} == {None}


@pytest.mark.parametrize(("ap75", "words"), [(20, "is worse than"), (25, "is not told apart from")])
def test_the_finding_says_what_is_not_repaired(told, ap75, words):
    study, store = told({label("geometric", BOTH): (60, ap75), label("geometric", LABELS): (60, 25)})
    text = findings.finding(study, runs_frame(study, store))
    assert text.startswith(f"**On geometric views a detector of labels and KD {words} one of labels alone**")
    assert "The teacher adds" not in text


def test_teachers_are_graded_too(told, invented):
    study, store = told({label("weak2", BOTH): (20, 1)})
    assert arms_table.teachers_text(study, store) == ""
    for seed, ap50 in ((0, 8.0), (1, 10.0)):
        store.put(invented(study.measured(label("weak2", BOTH))[seed].teacher, "reference", ap50=ap50))
    assert arms_table.teachers_text(study, store) == "The AP50 of the teachers themselves is 9.00 %, n = 2."


@pytest.mark.parametrize(("ap75", "said"), [(0.9, "AP75 above 0.90 %, so D2"), (6.0, ""), (None, "")])
def test_little_room_is_said(told, ap75, said):
    study, store = told({} if ap75 is None else {label("jda", BOTH): (20, ap75), label("weak2", BOTH): (20, 0.2)})
    text = arms_table.room_text(study, measured(study, store))
    assert said in text and bool(text) == bool(said)


def test_tables_hold_means_over_seeds_and_other_places(told):
    study, store = told({label("jda", BOTH): (60, 30), label("weak2", KD): (50, 20)})
    metrics = measured(study, store)
    table = arms_table.table(study, metrics)
    assert list(table.index) == ["weak2, KD", "JDA, labels + KD"]
    row = table.loc["JDA, labels + KD"]
    assert list(row[["AP50", "AP75", "AP50-95", "n", "views", "TMACs"]]) == [
        "60.00",
        "30.00",
        "30.00",
        "5",
        "30,080",
        "5",
    ]
    places = arms_table.places_table(study, metrics)
    assert list(places.columns) == ["Florida", "California"] and places.loc["weak2, KD", "Florida"] == "25.00"
    assert (
        arms_table.boxes_text(study, metrics) == "234 boxes in Yellowstone, 61 boxes in Florida, 36 boxes in California"
    )


def test_frozen_thresholds_have_a_row_for_each_place_and_a_sentence(told):
    study, store = told({label("jda", BOTH): (80, 30), label("weak2", BOTH): (50, 20)})
    table = arms_table.thresholds_table(study, measured(study, store))
    assert list(table.index) == [
        (arm, place)
        for arm in (label("weak2", BOTH), label("jda", BOTH))
        for place in ("Yellowstone", "Florida", "California")
    ]
    assert list(table.loc[(label("jda", BOTH), "Florida")]) == ["70.00", "60.00", "64.00", "80.00", "20.00", "-5.0"]
    home = table.loc[(label("jda", BOTH), "Yellowstone")]
    assert home["F1 %"] == home["F1 %, re-chosen"] and home["threshold loss"] == "0.00"
    assert "other places, of F1, is smaller after JDA**: -3.00 points [" in findings.finding(
        study, runs_frame(study, store)
    )


@pytest.mark.usefixtures("strict_figures")
def test_bars_stand_at_the_means(told):
    study, store = told({label("jda", BOTH): (60, 30), label("weak2", LABELS): (50, 20)})
    figure = drawn(drawing.grid(runs_frame(study, store)))
    bars = sorted((round(b.get_x() + b.get_width() / 2, 2), b.get_height()) for b in figure.axes[0].patches)
    assert bars == [(0.0, pytest.approx(20)), (0.73, pytest.approx(30))]
    explorer = drawing.by_metric(runs_frame(study, store))
    assert len({explorer.picture(words) for words in explorer.controls["measure"]}) == 3
    drawn(figures.forest({c.title: contrast_interval(c, runs_frame(study, store)) for c in study.contrasts}, 1.0))


def test_nothing_measured_is_said(told):
    study, store = told({})
    metrics = measured(study, store)
    assert arms_table.table(study, metrics).empty and arms_table.places_table(study, metrics).empty
    assert arms_table.thresholds_table(study, metrics).empty
    assert arms_table.boxes_text(study, metrics) == "not measured"
    assert texts(drawing.grid(runs_frame(study, store))).count("not measured") == 1


@pytest.mark.usefixtures("strict_figures")
def test_labels_that_are_drawn_hold_what_is_dashed_and_touch_it():
    figure = drawn(drawing.before_and_after())
    for axis in figure.axes:
        pairs = np.array(axis.patches, dtype=object).reshape(-1, 2)
        assert len(pairs)
        for outer, inner in pairs:
            points = [torch.tensor(patch.get_xy()) for patch in (outer, inner)]
            for side in ("amin", "amax"):
                values = [getattr(p, side)(0) for p in points]
                assert torch.allclose(*values, atol=1e-3)
    drawn(drawing.loose_boxes())


@pytest.mark.usefixtures("strict_figures")
def test_scenes_are_drawn_with_their_boxes_and_classes():
    figure = drawn(drawing.scenes(5))
    for index, axis in enumerate(figure.axes):
        _, corners, labels = scene(SEED, "train", index, FRAME)
        boxes = np.stack([patch.get_xy()[:4] for patch in axis.patches])
        np.testing.assert_allclose(boxes[:, [0, 2]].reshape(-1, 4), corners.numpy(), atol=1e-4)
        assert [text.get_text() for text in axis.texts] == [FASHION_CLASSES[label] for label in labels.tolist()]
    assert len(figure.axes) == 5
