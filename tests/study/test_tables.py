"""Tables made of invented results: intervals, gaps, costs."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from kdlib.chapters.registry import create_study
from kdlib.data.images import load_data
from kdlib.data.sampling import training_ids
from kdlib.lab import forecasts
from kdlib.lab.store import Store
from kdlib.lab.train import Task
from kdlib.models import create_model
from kdlib.study import judging, tables
from kdlib.study.arms import Contrast
from kdlib.study.setting import Setting
from kdlib.study.stats import PRIMARY_LEVEL, Interval

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def study():
    own, seeds = Setting.of("reference", device="cpu"), tuple(range(5))
    scale = replace(own.profile, many_seeds=seeds, few_seeds=seeds)  # five seeds for all, fixed before
    return create_study("03_blind_teacher", replace(own, profile=scale, seeds=seeds))


@pytest.fixture
def filled(study, invented):
    """filled({arm: [top1 of each seed]}) stores runs; returns the frame."""

    def fill(values, **metrics):
        store = Store("reference")
        for arm, numbers in values.items():
            for spec, top1 in zip(study.specs(arm), numbers, strict=False):
                store.put(invented(spec, "reference", top1=top1, **metrics))
        return tables.runs_frame(study, Store("reference"))

    return fill


def test_one_row_per_finished_run(study, filled):
    assert len(tables.runs_frame(study, Store("reference"))) == 0
    frame = filled({"JDA": [60, 61, 62], "weak2": [50]})
    assert list(frame.columns) == list(tables.COLUMNS)
    assert sorted(zip(frame.arm, frame.seed, frame.top1, strict=True)) == [
        ("JDA", 0, 60), ("JDA", 1, 61), ("JDA", 2, 62), ("weak2", 0, 50),
    ]  # fmt: skip
    assert frame.hardware.unique().tolist() == ["a CPU"]
    assert tables.by_seed(frame, "JDA") == {0: 60, 1: 61, 2: 62}
    assert tables.by_seed(frame, "rot4") == {}


def test_curves_hold_every_evaluation(study, filled):
    filled({"JDA": [60, 61]})
    curves = tables.curves_frame(study, Store("reference"))
    assert len(curves) == 4
    assert curves.views.tolist() == [5 * 128, 10 * 128] * 2
    assert list(tables.curves_frame(study, Store("quick")).columns) == ["arm", "seed", "views", "top1", "nll"]


def test_intervals_are_students(study, filled, generator):
    jda, weak2 = generator.normal(60, 1, 5), generator.normal(58, 1, 5)
    frame = filled({"JDA": jda, "weak2": weak2})
    found = tables.arm_intervals(study, frame)["JDA"]
    low, high = scipy_stats.t.interval(0.95, 4, jda.mean(), scipy_stats.sem(jda))
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((jda.mean(), low, high, 5))
    (a1,) = (c for c in study.contrasts if c.name == "a1")
    for contrast, level in ((a1, PRIMARY_LEVEL), (Contrast.of("x", "JDA", "weak2"), 0.95)):
        found = tables.contrast_interval(contrast, frame)
        expected = scipy_stats.ttest_rel(jda, weak2).confidence_interval(level)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert found.level == level
    assert pytest.approx(1 - 0.05 / 9) == PRIMARY_LEVEL


def test_contrasts_pair_the_seeds_that_both_arms_have(study, filled):
    frame = filled({"JDA": [60, 61, 62, 63], "weak2": [59, 59]})
    interval = tables.contrast_interval(study.contrasts[0], frame)
    assert (interval.mean, interval.n) == (1.5, 2)


def test_arms_print_their_interval_and_cost(study, filled):
    frame = filled({"JDA": [60, 61, 62, 63, 64]})
    table = tables.arms_table(study, frame)
    assert list(table.index) == ["JDA"]
    row = table.loc["JDA"]
    low, high = scipy_stats.t.interval(0.95, 4, 62, scipy_stats.sem([60, 61, 62, 63, 64]))
    assert row["top-1 %"] == "62.00"
    assert row["95 % interval"] == f"[{low:.2f}, {high:.2f}]"
    assert row["n"] == "5 of 5"
    assert row["best"] == "62.50"
    assert (row["views of an image"], row["views in a step"]) == (60, 128)
    assert float(row["TMACs"]) > 0
    assert float(row["training MB"]) > 0


def test_gaps_say_how_long_they_take(study, filled):
    table = tables.arms_table(study, filled({"JDA": [60]}))
    assert table.loc["JDA", "n"] == "1 of 5"
    assert table.loc["JDA", "95 % interval"] == "one seed"
    assert list(table.index) == ["JDA"]
    line, lacking = tables.not_run(study, tables.runs_frame(study, Store("reference"))), [*study.arms]
    lacking.remove("JDA")
    planned = [arm for arm in lacking if study.tier(arm) <= study.setting.profile.tiers]
    expected = forecasts.hours(forecasts.forecast([spec for arm in planned for spec in study.specs(arm)]))
    counted = "; ".join(planned) if len(planned) <= tables.NAMED else f"{len(planned)} arms"
    assert line.startswith(f"Not run: {counted} (about {expected} of one core).")
    assert all(arm in line for arm in lacking)


def test_arms_that_the_profile_leaves_out_say_so():
    study = create_study("03_blind_teacher", Setting.of("reference", device="cpu"))
    line = tables.not_run(study, tables.runs_frame(study, Store("reference")))
    assert study.tier("CutMix") > study.setting.profile.tiers >= study.tier("JDA")
    assert re.search(r"Not planned at this profile: CutMix \(about .+ of one core\)[.]", line)
    assert re.search(r"; JDA; ", line)


def test_arms_below_the_student_without_a_teacher_did_not_train(study, filled):
    frame = filled({"no teacher": [50, 51, 52], "JDA": [55, 56, 57.3], "rot4": [40, 41, 42.5], "weak2": [49, 51, 53]})
    column = tables.arms_table(study, frame)["minus no teacher"]
    assert column.to_dict() == {
        "no teacher": "", "JDA": "+5.10", "rot4": "-9.83, did not train", "weak2": "+0.00",
    }  # fmt: skip
    interval = tables.above_floor(study, frame, ["rot4"])["rot4"]
    expected = scipy_stats.ttest_rel([40, 41, 42.5], [50, 51, 52]).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert tables.above_floor(study, frame, ["no teacher"]) == {}


def test_runs_of_two_precisions_are_never_mixed(study, filled):
    frame = filled({"JDA": [60, 61, 62, 63], "weak2": [50, 50, 50, 50]})
    gain = Contrast.of("x", "JDA", "weak2")
    slow = {("JDA", 3), ("weak2", 2), ("weak2", 3)}
    used = ["float32" if pair in slow else "bfloat16" for pair in zip(frame.arm, frame.seed, strict=True)]
    fast = frame.assign(precision=used)
    assert tables.contrast_values(gain, fast) == {0: 10, 1: 11}  # seed 2 is mixed, seed 3 another machine's
    asked = fast.assign(precision=fast.precision.where(fast.arm == "JDA", None))  # the other asks for its own
    assert tables.contrast_values(gain, asked) == {0: 10, 1: 11, 2: 12}
    asked = fast.assign(precision=None)
    assert list(tables.contrast_values(gain, asked)) == [0, 1, 2, 3]


def test_a_forecast_is_the_sum_of_its_runs(study):
    specs = study.specs("JDA")
    one = forecasts.forecast(specs[:1])
    assert forecasts.forecast(specs) == pytest.approx(5 * one)
    assert one == pytest.approx(forecasts.run_cost(specs[0]).run_macs / forecasts.CORE_MACS_PER_SECOND / 3600)
    assert 0 < one < 100


def test_kept_answers_count_once():
    """Runs of one seed and policy share them, whatever they make of the logits; those of other methods do not."""
    study = create_study("08_cosine_confidence", Setting.of("reference", seeds=[0, 1], device="cpu"))
    for arms, kept in ((["w = 1 (KD + JDA)", "CCD", "x only"], 2), (["weak2", "CCD"], 0)):
        specs = [spec for arm in arms for spec in study.specs(arm)]
        cost = forecasts.run_cost(specs[0])
        saved = 2 * kept * cost.teacher_macs * cost.views  # of each of two seeds
        both = forecasts.forecast(specs), forecasts.forecast(specs, kept=True)
        assert both[0] - both[1] == pytest.approx(saved / forecasts.CORE_MACS_PER_SECOND / 3600)
    other = create_study("07_compatibility", study.setting)
    specs = [spec for arm in ("KD + JDA", "SPKD + JDA", "HSAKD + JDA") for spec in other.specs(arm)]
    assert forecasts.forecast(specs) == forecasts.forecast(specs, kept=True)


def test_costs_are_counted_from_the_networks(study):
    cost = forecasts.run_cost(study.specs("JDA")[0])
    assert cost.steps == 5000 * 60 // 128
    assert cost.views == cost.steps * 128
    assert cost.teacher_parameters == 861_620  # ResNet-56 with 100 classes
    assert cost.student_parameters == sum(p.numel() for p in create_model("resnet8", 100).parameters())
    taught = [arm for arm in study.arms.values() if arm.teacher is None and arm.method != "ce"]
    costs = {forecasts.run_cost(study.specs(arm.label)[0]) for arm in taught}
    assert len(costs) == 1  # equal work


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"bank": 3},
        {"policy": "rot4"},
        {"pool": 60},
        {"validation": True},
        {"part": "second half"},
        {"fraction": 1.0},
    ],
    ids=str,
)
def test_the_cost_of_a_bank_is_that_of_its_files_and_its_answers(make_spec, tmp_path, fields):
    """It holds the views of every image that some run may draw. Headers of files are not counted."""
    above = make_spec(seed=7)
    teacher, asked = Task.of(above, None).method.student, []
    spec = make_spec(**{"method": "kd", "policy": "jda", "teacher": above, "bank": 2} | fields)
    teacher.backbone.register_forward_hook(lambda module, inputs, output: asked.append(len(inputs[0])))
    bank, cost = Task.of(spec, teacher, tmp_path).bank, forecasts.run_cost(spec)
    files = list(tmp_path.rglob("*.npy"))
    assert cost.bank_bytes == sum(np.load(path, mmap_mode="r").nbytes for path in files)
    assert 0 < sum(path.stat().st_size for path in files) - cost.bank_bytes <= 1024
    assert cost.bank_macs == sum(asked) * cost.teacher_macs == bank.answers[..., 0].numel() * cost.teacher_macs
    assert forecasts.run_extras(spec).stored_views == sum(asked)
    assert cost.run_macs == cost.steps * cost.step_macs + cost.bank_macs
    fresh = forecasts.run_cost(spec.model_copy(update={"bank": None}))
    assert (fresh.bank_macs, fresh.bank_bytes) == (0, 0)
    assert fresh.step_macs - cost.step_macs == spec.recipe.views_per_step * cost.teacher_macs
    assert (fresh.steps, fresh.training_bytes, fresh.extra_parameters) == (
        cost.steps, cost.training_bytes, cost.extra_parameters,
    )  # fmt: skip


def test_without_a_bank_a_run_adds_what_its_method_adds(make_spec):
    plain = forecasts.run_extras(make_spec(method="kd", teacher=make_spec(seed=7)))
    assert (plain.stored_views, plain.stored_bytes, plain.bank_bytes, plain.trained) == (0, 0, 0, 0)
    crd = forecasts.run_extras(make_spec(method="crd", teacher=make_spec(seed=7)))
    assert (crd.stored_views, crd.stored_bytes) == (0, 0) and crd.bank_bytes > 0


def test_a_contrast_is_a_weighted_sum_over_common_seeds(study, filled):
    frame = filled({"JDA": [60, 61, 62], "weak2": [59, 59, 59], "rot2": [50, 51], "rot4": [40, 42, 44]})
    gain = Contrast.mean_of("m", [("JDA", "weak2"), ("rot2", "rot4")], "mean")
    assert tables.contrast_values(gain, frame) == {0: (1 + 10) / 2, 1: (2 + 9) / 2}
    interaction = Contrast.interaction("i", ("JDA", "weak2"), ("rot2", "rot4"), "i")
    assert tables.contrast_values(interaction, frame) == {0: 1 - 10, 1: 2 - 9}


def test_fewer_bytes_are_counted():
    study = create_study("09_ccd_versus_hsakd", Setting.of("reference", seeds=list(range(5)), device="cpu"))
    (f,) = (c for c in study.contrasts if c.primary)
    assert tables.cheaper(study, f)
    assert not tables.cheaper(study, Contrast.of("x", "CCD", "CRD", cheaper=("HSAKD, frozen teacher", "CCD")))
    assert not tables.cheaper(study, Contrast.of("x", "CCD", "KD + JDA", cheaper=("CCD", "KD + JDA")))  # equal bytes
    assert tables.cheaper(study, Contrast.of("x", "CCD", "CRD"))


@pytest.mark.parametrize(
    "fields", [{}, {"fraction": 0.1}, {"fraction": 0.04}, {"pool": 100}, {"validation": True}, {"part": "second half"}]
)
def test_planned_steps_are_the_steps_that_training_makes(make_spec, fields):
    spec = make_spec(recipe={"views_per_step": 8, "views_per_image": 8}, **fields)
    assert forecasts.run_cost(spec).steps == Task.of(spec, None).steps
    labels = load_data(spec.data).train.labels
    assert len(training_ids(labels, 0, spec.fraction, spec.pool, spec.validation, spec.part)) > 0


def test_contrasts_say_what_is_exploratory_and_what_is_missing(study, filled):
    empty = judging.contrasts_table(study, tables.runs_frame(study, Store("reference")))
    assert list(empty.index) == ["a1: JDA - weak2", "a2: JDA - rot4"]
    assert set(empty.difference) == {"not measured"}
    assert (empty.n == 0).all()
    runs = {"JDA": [60.0] * 4 + [60.1], "weak2": [50] * 5, "rot2": [40], "no teacher": [30] * 5}
    table = judging.contrasts_table(study, filled(runs))
    assert (
        table.loc["a1: JDA - weak2", "verdict"] == "supported with the public ResNet-56 (by the rule alone: supported)"
    )
    assert table.loc["a1: JDA - weak2", "level"] == "99.4 %"
    assert table.loc["a1: JDA - weak2", "difference"] == "+10.02"
    assert table.loc["a2: JDA - rot4", "verdict"] == "not measured"
    assert table.loc["JDA - rot2", "verdict"] == "exploratory"
    assert table.loc["JDA - rot2", "interval"] == "one seed"


def test_demonstrations_get_no_verdict(invented):
    study = create_study("03_blind_teacher", Setting.of("quick", device="cpu"))
    store = Store("quick")
    for arm, top1 in (("JDA", 70.0), ("weak2", 50.0)):
        for spec in study.specs(arm):
            store.put(invented(spec, "quick", top1=top1 + spec.seed))
    table = judging.contrasts_table(study, tables.runs_frame(study, store))
    assert table.loc["a1: JDA - weak2", "verdict"] == tables.NO_VERDICT
    assert table.loc["a1: JDA - weak2", "difference"] == "+20.00"


def test_a_study_without_arms_has_empty_tables():
    study = create_study("02_joint_data_augmentation", Setting.of("reference", seeds=list(range(5)), device="cpu"))
    frame = tables.runs_frame(study, Store("reference"))
    assert len(frame) == 0
    assert len(judging.contrasts_table(study, frame)) == 0
    assert len(tables.arms_table(study, frame)) == 0


def test_a_metric_that_an_arm_does_not_have_is_no_number(study, filled):
    frame = filled({"JDA": [60, 61]})  # no mean_w: plain distillation
    assert all(math.isnan(v) for v in tables.by_seed(frame, "JDA", "mean_w").values())
    intervals = tables.arm_intervals(study, frame, "mean_w")
    assert intervals["JDA"].n == 0


def test_spans_and_durations_in_words():
    nan = float("nan")
    assert tables.span(Interval(nan, nan, nan, 0, 0.95)) == ""
    assert tables.span(Interval(1, nan, nan, 1, 0.95)) == "one seed"
    assert tables.span(Interval(1, 0.5, 1.5, 2, 0.95), "+.1f") == "two seeds"
    assert tables.span(Interval(1, 0.5, 1.5, 3, 0.95), "+.1f") == "[+0.5, +1.5]"
    assert tables.in_words(Interval(nan, nan, nan, 0, 0.95)) == "not measured"
    assert tables.in_words(Interval(1, nan, nan, 1, 0.95)) == "+1.00 points (one seed)"
    assert tables.in_words(Interval(1, 0.5, 1.5, 3, 0.95)) == "+1.00 points (95 % interval [+0.50, +1.50], n = 3)"
    assert "(99.4 % interval" in tables.in_words(Interval(1, 0.5, 1.5, 5, PRIMARY_LEVEL))
    assert forecasts.hours(0) == "1 min"
    assert forecasts.hours(1.5) == "90 min"
    assert forecasts.hours(1234.4) == "1,234 h"
    assert forecasts.hours(10 * 365.25 * 24) == "10 years"
    assert [tables.digits(x) for x in (0.012345, 12.345, 1234.5, 4.6712e6)] == ["0.0123", "12.3", "1,234", "4,671,200"]


def test_teachers_say_how_much_they_know_by_heart(invented):
    """Trained ones the mean over their seeds, public ones what is measured of them, each once."""
    setting = Setting.of("reference", device="cpu")
    study, store = create_study("03_blind_teacher", setting), Store("reference")
    for spec in study.specs("our teacher: JDA")[:2]:
        store.put(invented(spec.teacher, "reference", top1=50.0 + spec.seed, train_top1=75.0 + spec.seed))
    scores = setting.scores(setting.teacher())
    known = {"test_top1": 72.63, "train_top1": 99.9}
    store.put(invented(scores, "reference").model_copy(update={"metrics": known}))
    table = tables.teachers_table(study, Store("reference"))
    assert table.loc["our resnet20, weak2"].tolist() == ["50.50", "75.50", "2"]
    assert table.loc["public resnet56"].tolist() == ["72.63", "99.90", "1"]
    assert table.loc["public resnet20"].tolist() == ["not measured", "not measured", "0"]
    assert list(table.index).count("our resnet20, weak1, first half of the images") == 1 and table.index.is_unique


def test_runs_of_other_images_are_warned_of_and_never_compared(study, filled, invented):
    """Under one name: the data set came anew, in another order perhaps."""
    filled({"JDA": [60, 61, 62], "weak2": [59, 59, 59], "rot4": [50, 51, 52]})
    store, spec = Store("reference"), study.specs("rot4")[0]
    store.put(invented(spec, "reference").model_copy(update={"fingerprint": "f" * 16}))
    said = rf"data = '{spec.data}' changed between runs \(fingerprint 0{{16}} and f{{16}}\)"
    with pytest.warns(UserWarning, match=f"^{said}.*: contrasts of them are refused$"):
        frame = tables.runs_frame(study, Store("reference"))
    assert tables.contrast_values(Contrast.of("sound", "JDA", "weak2"), frame) == {0: 1, 1: 2, 2: 3}
    with pytest.raises(ValueError, match=f"^contrast other images: {said}"):
        tables.contrast_values(Contrast.of("other images", "JDA", "rot4"), frame)


def test_a_folder_that_changed_since_its_runs_is_warned_of(tiny, filled, study):
    """One of the reader's own has a name that says nothing of its images."""
    frame = filled({"JDA": [60, 61, 62], "weak2": [59, 59, 59]}).assign(data=tiny)
    assert "has" in tables.other_images(frame)
    now = load_data(tiny).train.fingerprint
    assert tables.other_images(frame.assign(fingerprint=now)) is None
    assert tables.other_images(frame.assign(data="folder:/that/is/gone")) is None
