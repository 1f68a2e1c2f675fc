"""Chapter 27: students that differ in what they are shown and where they are taught; a contrast fixed before runs."""

import numpy as np
import pytest
import torch

from kdlib.chapters import findings, taxonomy
from kdlib.chapters.masked import (
    ALL,
    ALONE,
    ARMS,
    BLIND,
    BOTH,
    FIRST,
    GREY,
    HALF,
    INTERACTION,
    JDA,
    PLAIN,
    RATIOS,
    arms_table,
    drawing,
    masked,
)  # fmt: skip
from kdlib.chapters.registry import create_study
from kdlib.elsewhere.masked.spec import MaskedSpec
from kdlib.lab.store import Store
from kdlib.study.judging import judge
from kdlib.study.setting import Setting
from kdlib.study.tables import contrast_interval, not_run, runs_frame

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("isolated")
SCALES = ["smoke", "quick", "reference", "paper"]


def study_at(scale: str):
    return create_study("27_masked", Setting.of(scale, device="cpu"))


@pytest.fixture
def told(invented):
    """told({arm: top-1}): a study and a store with invented results, which differ a little by seed and by arm."""

    def tell(values: dict[str, float], spread: float = 0.2):
        study, store = study_at("reference"), Store("reference")
        for k, (arm, value) in enumerate(values.items()):
            specs = study.measured(arm)
            for spec, noise in zip(specs.values(), np.roll(np.linspace(-1, 1, len(specs)), k), strict=True):
                metrics = {"top1": value + spread * float(noise), "images": 10_000, "labelled": 1000}
                metrics |= {"views": spec.views, "steps": sum(spec.stages), "macs": spec.macs, "kept": 1 - spec.ratio}
                store.put(invented(spec, "reference", **metrics))
        return study, Store("reference")

    return tell


@pytest.mark.parametrize("scale", SCALES)
def test_the_primary_contrast_is_fixed(scale):
    study = study_at(scale)
    (primary,) = (contrast for contrast in study.contrasts if contrast.primary)
    assert study.contrasts[0] is primary and (primary.name, primary.says) == ("V1", "better")
    assert primary.weights == {"mask 0.5": 1, "no mask": -1}
    assert (primary.metric, primary.margin, primary.level) == ("top1", 0.3, 0.95)
    assert study.planned(primary) == (5 if study.setting.profile.verdicts else 1)
    assert len({contrast.name for contrast in study.contrasts}) == len(study.contrasts)


@pytest.mark.parametrize("scale", SCALES)
def test_students_differ_in_what_their_arm_says_alone(scale):
    study = study_at(scale)
    assert set(study.arms) == set(FIRST if study.setting.profile.trains else ARMS)
    by_seed: dict[int, list[MaskedSpec]] = {}
    for arm in study.arms:
        assert study.specs(arm) == []
        for seed, spec in study.measured(arm).items():
            assert isinstance(spec, MaskedSpec) and spec.seed == seed
            wanted = {"view": "crop", "ratio": 0.0, "fill": "sparse", "tokens": "all", "teacher_sees": "all"}
            wanted |= ARMS[arm] or {}
            assert {name: getattr(spec, name) for name in wanted} == wanted
            assert (spec.teacher is None) == (arm == ALONE) == (spec.stages[0] == 0)
            by_seed.setdefault(seed, []).append(spec)
    changed = {"view", "ratio", "fill", "tokens", "teacher_sees", "teacher", "epochs"}
    for seed, specs in by_seed.items():
        assert len({repr(spec.model_dump(exclude=changed)) for spec in specs}) == 1
        assert len({spec.key for spec in specs}) == len(specs) and len({spec.stages[1] for spec in specs}) == 1
        taught = [spec for spec in specs if spec.teacher]
        assert len({(spec.views, spec.stages, spec.macs) for spec in taught}) <= 1
        teachers = {spec.teacher.key: spec.teacher for spec in taught}
        assert [t.seed for t in teachers.values()] == [seed] and all(
            t.images == specs[0].images for t in teachers.values()
        )


def test_arms_are_what_was_planned():
    assert list(ARMS) == [
        "no mask", "mask 0.25", "mask 0.5", "mask 0.6", "mask 0.75", "mask 0.5, all tokens", "JDA", "JDA, mask 0.5",
        "mask 0.5, grey", "mask 0.5, teacher too", "no distillation",
    ]  # fmt: skip
    study = study_at("reference")
    counts = {arm: len(study.measured(arm)) for arm in study.arms}
    assert counts == {arm: 3 if arm in (JDA, BOTH, GREY, BLIND) else 5 for arm in ARMS}
    assert {arm: study.arms[arm].floor for arm in ARMS} == {arm: None if arm == ALONE else ALONE for arm in ARMS}
    assert study.specs_to(2) == [] and study.planned_above_floor(HALF) == 5
    spec = study.measurements[f"{HALF}, seed 4"]
    assert (spec.data, spec.images, spec.width, spec.epochs, spec.labelled) == ("cifar100", 10_000, 16, 40, 0.1)
    teacher = spec.teacher
    assert (teacher.width, teacher.depth, teacher.ratio, teacher.pretraining, teacher.epochs) == (96, 4, 0.6, 60, 30)
    assert not_run(study, runs_frame(study, Store("reference"))).splitlines()[0].endswith(" h of one core).")


def test_quick_costs_little():
    specs = study_at("quick").all_specs
    teacher = next(spec.teacher for spec in specs if spec.teacher)
    assert len(specs) == 4 and sum(spec.macs for spec in (*specs, teacher)) < 1e12


def test_another_data_set_is_learnt_from_as_far_as_it_goes():
    study = create_study("27_masked", Setting.of("reference", device="cpu", data="fashion-mnist-8k"))
    specs = study.all_specs
    assert {(spec.data, spec.images) for spec in specs} == {("fashion-mnist-8k", 5400)}  # without a validation split
    assert study.data == "fashion-mnist-8k"


def test_contrasts_are_judged_with_their_margin_and_floor(told):
    study, store = told({PLAIN: 40, HALF: 41, ALL: 40.2, JDA: 42, BOTH: 42.5, ALONE: 38})
    frame, primary = runs_frame(study, store), study.contrasts[0]
    assert contrast_interval(primary, frame).mean == pytest.approx(1)
    assert judge(study, primary, frame).word == "supported"
    assert contrast_interval(study.contrast(INTERACTION), frame).mean == pytest.approx(-0.5, abs=0.2)
    below, store = told({PLAIN: 30, HALF: 31, ALONE: 38})
    assert judge(below, below.contrasts[0], runs_frame(below, store)).word.startswith("not tested at this budget")


@pytest.mark.parametrize(("half", "words"), [(41, "helps"), (39, "harms"), (40, "is not shown to help")])
def test_the_finding_says_whether_and_from_where_a_mask_helps(told, half, words):
    study, store = told({PLAIN: 40, HALF: half, ALL: 40.0, ALONE: 38})
    text = findings.finding(study, runs_frame(study, store))
    assert text.startswith(f"**Masking half of the student's view {words} the distillation of features**: ")
    assert "With the same tokens taught as without a mask it is not shown to do anything: " in text
    assert "Distillation itself helps: +2.00 points [" in text


def test_the_table_holds_means_and_cost(told):
    study, store = told({PLAIN: 40, masked(0.6): 41, ALONE: 38})
    frame = runs_frame(study, store)
    table = arms_table.table(study, store, frame)
    assert list(table.index) == [PLAIN, "mask 0.6", ALONE]
    assert list(table["top-1 %"]) == ["40.00", "41.00", "38.00"]
    assert table.loc[PLAIN, "minus no distillation"].startswith("+2.00 [") and table.loc[ALONE].iloc[2] == ""
    assert list(table["kept cells"]) == ["100 %", "40 %", "–"]
    assert list(table["views"]) == ["499,968", "499,968", "99,968"] and set(table.n) == {"5 of 5"}
    assert arms_table.labels(study, store) == "10,000 images, of which 1,000 have labels"
    assert arms_table.teachers(study, store) == "not measured"
    empty, nothing = study_at("paper"), Store("paper")
    assert arms_table.table(empty, nothing, runs_frame(empty, nothing)).empty
    assert arms_table.labels(empty, nothing) == "not measured"


def test_teachers_are_told_with_their_accuracy(told, invented):
    study, store = told({PLAIN: 40})
    for spec, value in zip(list(study.measured(PLAIN).values())[:2], (30.0, 31.0), strict=True):
        store.put(invented(spec.teacher, "reference", top1=value))
    assert arms_table.teachers(study, Store("reference")) == "30.5 %, a mean over 2 teachers"


def test_the_taxonomy_says_that_the_student_is_shown_less():
    study = study_at("reference")
    row = taxonomy._of_chapter(study, {"V1": "not measured"})
    assert (row.task, row.knowledge, row.labels, row.status) == ("classification", "feature", "none", "inspired by")
    assert row.sees == "both, the student less of them" and row.view == "a crop, 50 % of its cells masked"
    assert row.zero == "V1: no mask"


@pytest.mark.usefixtures("strict_figures")
def test_an_image_is_shown_under_masks_of_each_ratio():
    figure = drawn(drawing.under_masks())
    assert {"kept cells", "grey fill", "what is taught"} <= set(figure.axes[k].get_ylabel() for k in (0, 5, 10))
    assert [axis.get_title() for axis in figure.axes[:5]] == [
        "ratio 0\n16 of 16", "ratio 0.25\n12 of 16", "ratio 0.5\n8 of 16", "ratio 0.6\n6 of 16", "ratio 0.75\n4 of 16",
    ]  # fmt: skip


def test_what_is_kept_and_what_is_taught_make_up_the_image():
    image = torch.randint(0, 250, (3, 32, 32), dtype=torch.uint8)
    rows = drawing.masks_of(image, 3)
    for k, ratio in enumerate((0, *RATIOS)):
        kept, taught = (rows[name][k] != 255 for name in ("kept cells", "what is taught"))
        assert kept[0].sum() == 64 * round(16 * (1 - ratio))
        assert torch.equal(rows["grey fill"][k], torch.where(kept, image, 128))
        assert (taught == ~kept).all() if ratio else taught.all() and kept.all()


@pytest.mark.usefixtures("strict_figures")
def test_the_curve_stands_at_the_means(told):
    study, store = told({PLAIN: 40, HALF: 41, masked(0.75): 39, ALONE: 38})
    frame = runs_frame(study, store)
    line, *_ = drawn(drawing.by_ratio(frame)).axes[0].lines
    assert list(line.get_xdata()) == [0, 0.5, 0.75] and list(line.get_ydata()) == pytest.approx([40, 41, 39])
    nothing = study_at("paper")
    assert texts(drawing.by_ratio(runs_frame(nothing, Store("paper")))).count("not measured") == 1
