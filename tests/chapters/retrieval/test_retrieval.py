"""Chapter 22: a grid of measured students that differ in views and check alone, with contrasts fixed before any run."""

import math

import numpy as np
import pytest
import torch

from kdlib.chapters.power_plan import measured_spread, required, typical_spread
from kdlib.chapters.registry import create_study
from kdlib.chapters.retrieval import CHECKS, INTERACTION, VIEWS, drawing, grid_table, label
from kdlib.data.images import BUNDLED, load_data
from kdlib.lab.measurements import HashingSpec
from kdlib.lab.store import Store
from kdlib.show import figures
from kdlib.study.judging import contrasts_table, judge
from kdlib.study.listing import lines, records
from kdlib.study.setting import Setting
from kdlib.study.stats import Verdict
from kdlib.study.tables import contrast_interval, contrast_values, not_run, runs_frame

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("isolated")
SCALES = ["smoke", "quick", "reference", "paper"]
JDA = [label("JDA", check) for check in CHECKS]
PLAIN = [label("weak2", check) for check in CHECKS]
EXAMPLES = [{"query": q, "own": [5, 17, 40], "old": [6, 17, 99]} for q in (0, 7)]


def study_at(scale: str, **choices):
    return create_study("22_retrieval", Setting.of(scale, device="cpu", **choices))


@pytest.fixture
def told(invented):
    """told({arm: mAP}): a study and a store with invented results, which differ a little by seed and by arm."""

    def tell(values: dict[str, float], scale: str = "reference", spread: float = 0.2):
        study, store = study_at(scale), Store(scale)
        for k, (arm, value) in enumerate(values.items()):
            specs = study.measured(arm)
            for seed, noise in zip(specs, np.roll(np.linspace(-1, 1, len(specs)), k), strict=True):
                scores = {f"{name}_map": value + spread * float(noise) for name in ("own", "old")}
                scores |= {f"{name}_precision2": value / 2 + float(noise) for name in ("own", "old")}
                scores |= {"teacher_map": 70.0, "teacher_precision2": 75.0, "kept": 0.25, "examples": EXAMPLES}
                found = scores | {"images": 5000, "queries": 1000, "index_images": 20_000}
                store.put(invented(study.measurements[f"{arm}, seed {seed}"], scale, **found))
        return study, Store(scale)

    return tell


@pytest.mark.parametrize("scale", SCALES)
def test_the_primary_contrast_is_fixed(scale):
    study = study_at(scale)
    (primary,) = (contrast for contrast in study.contrasts if contrast.primary)
    assert study.contrasts[0] is primary and (primary.name, primary.says) == ("H1", "better")
    assert primary.weights == {"JDA, cluster check": 1, "JDA, no check": -1}
    assert (primary.metric, primary.margin, primary.level) == ("own_map", 1.0, 0.95)
    assert study.planned(primary) == (5 if study.setting.profile.verdicts else 1)
    second = study.contrast(INTERACTION)
    assert second.metric == "own_map" and not second.primary
    assert second.weights == {
        "JDA, cluster check": 1, "JDA, no check": -1, "weak2, cluster check": -1, "weak2, no check": 1,
    }  # fmt: skip
    secondary = {c.metric for c in study.contrasts if c.weights == primary.weights}
    assert secondary == {"own_map", "old_map", "own_precision2", "old_precision2"}


@pytest.mark.parametrize("scale", SCALES)
def test_students_differ_in_views_and_check_alone(scale):
    study = study_at(scale)
    checks = ["none", "cluster"] if study.setting.profile.trains else list(CHECKS)
    assert list(study.arms) == [label(views, check) for views in VIEWS for check in checks]
    by_seed: dict[int, list[HashingSpec]] = {}
    for arm in study.arms:
        assert study.specs(arm) == []
        for seed, spec in study.measured(arm).items():
            assert isinstance(spec, HashingSpec) and spec.setup.seed == seed
            assert label(spec.setup.policy.name.replace("jda", "JDA"), spec.setup.check) == arm
            by_seed.setdefault(seed, []).append(spec)
    assert len(by_seed) == (1 if study.setting.profile.trains else 5)
    for specs in by_seed.values():
        alike = {repr(spec.model_dump(exclude={"setup": {"policy", "check"}})) for spec in specs}
        assert len(alike) == 1 and len({spec.key for spec in specs}) == len(study.arms)


def test_reference_is_what_was_planned():
    study = study_at("reference")
    spec = study.measurements["JDA, cluster check, seed 3"]
    assert (spec.images, spec.setup.epochs, spec.setup.bits, spec.setup.student) == (5000, 20, 32, "resnet8")
    assert (spec.index, spec.queries) == (20_000, 1000) and spec.teacher.checkpoint == "cifar100_resnet56"
    assert len(study.all_specs) == 40 and study.specs_to(2) == []
    assert not_run(study, runs_frame(study, Store("reference"))).splitlines()[0].endswith("(about 5 h of one core).")


def test_float16_becomes_float32():
    setting = Setting.of("paper", device="cpu")
    coarse = setting.machine.model_copy(update={"precision": "float16"})
    object.__setattr__(setting, "machine", coarse)
    study = create_study("22_retrieval", setting)
    assert {spec.machine.precision for spec in study.all_specs} == {"float32"}


def test_contrasts_are_those_of_the_measured_map_and_judged_with_their_margin(told):
    study, store = told({"JDA, no check": 30, "JDA, cluster check": 30.4, "weak2, no check": 29}, spread=0.1)
    frame, primary = runs_frame(study, store), study.contrasts[0]
    assert len(frame) == 15 and contrast_interval(primary, frame).n == 5
    assert contrast_interval(primary, frame).mean == pytest.approx(0.4)
    assert contrast_interval(study.contrast(f"{JDA[0]} - {PLAIN[0]}"), frame).mean == pytest.approx(1)
    assert contrast_interval(study.contrast("H1, precision at radius 2"), frame).mean == pytest.approx(0.2)
    assert contrast_interval(study.contrast(INTERACTION), frame).n == 0
    assert judge(study, primary, frame).word == "supported"
    table = contrasts_table(study, frame)
    assert table.loc["H1: JDA, cluster check - JDA, no check", "verdict"] == "supported"


def test_less_than_a_point_of_map_is_a_contradiction(told):
    """Of top-1 it would be inconclusive, whose margin is 0.3 points."""
    study, store = told({"JDA, no check": 30, "JDA, cluster check": 30.0}, spread=0.3)
    interval = contrast_interval(study.contrasts[0], runs_frame(study, store))
    assert interval.low < 0 and 0.3 < interval.high < 1
    assert judge(study, study.contrasts[0], runs_frame(study, store)).verdict is Verdict.CONTRADICTED


def test_rows_say_precision_and_those_of_two_machines_are_not_mixed(told):
    study, store = told({"JDA, no check": 30, "JDA, cluster check": 31})
    frame = runs_frame(study, store)
    assert set(frame.precision) == {study.setting.machine.precision}
    other = frame.copy()
    other.loc[(other.arm == "JDA, no check") & (other.seed == 2), "precision"] = "another"
    assert set(contrast_values(study.contrasts[0], other)) == {0, 1, 3, 4}


def test_the_plan_knows_spread_and_margin_of_map_alone(told):
    study, store = told({"JDA, no check": 30, "JDA, cluster check": 31})
    spread, n = measured_spread(study, store, study.contrasts[0])
    values = list(contrast_values(study.contrasts[0], runs_frame(study, store)).values())
    assert (spread, n) == (pytest.approx(np.std(values, ddof=1)), 5)
    (need,) = required(study, store, typical=9.0)
    assert need.margin == 1.0 and "for 1.0 points at level 95.00 %" in str(need)
    (need,) = required(study_at("paper"), Store("paper"), typical=9.0)  # that of accuracies
    assert need.source == "no spread is known yet" and math.isnan(need.spread)
    assert math.isnan(typical_spread(study.setting, store))


def test_measured_arms_are_listed_by_seed():
    study, store = study_at("reference"), Store("reference")
    found = records([study], {3: study.specs_to(3)}, store)
    assert {(record["arm"], record["seed"]) for record in found} == {(arm, s) for arm in study.arms for s in range(5)}
    assert "  JDA, cluster check (hashing), 0 of 5 there" in lines(found)


# --- tables and figures


def measured(study, store) -> dict:
    return {name: r.metrics if (r := store.get(spec)) else None for name, spec in study.measurements.items()}


def test_the_table_holds_means_over_seeds_and_the_teacher(told):
    study, store = told({"JDA, cluster check": 31, "JDA, no check": 30})
    metrics = measured(study, store)
    table = grid_table.table(study, metrics)
    assert list(table.index) == ["JDA, no check", "JDA, cluster check", "teacher"]
    assert list(table.loc["JDA, cluster check", ["mAP", "precision at radius 2", "views kept, %", "n"]]) == [
        "31.00", "15.50", "25", "5",
    ]  # fmt: skip
    assert table.loc["teacher", "mAP"] == "70.00" and table.loc["teacher", "views kept, %"] == ""
    assert grid_table.kept_text(study, metrics) == "JDA, cluster check 25 %"
    assert grid_table.counts_text(study, metrics) == "5,000 images, 1,000 queries against 20,000 images"
    assert grid_table.examples(study, metrics) == EXAMPLES


def test_nothing_measured_is_said(told):
    study, store = told({})
    metrics = measured(study, store)
    assert grid_table.table(study, metrics).empty and grid_table.examples(study, metrics) == []
    assert grid_table.kept_text(study, metrics) == grid_table.counts_text(study, metrics) == "not measured"
    assert drawing.found_images(load_data(BUNDLED), []) is None
    assert texts(drawing.grid(runs_frame(study, store))).count("not measured") == 1


@pytest.mark.usefixtures("strict_figures")
def test_bars_stand_at_the_means(told):
    study, store = told({"JDA, cluster check": 31, "weak2, cosine as weight": 20})
    figure = drawn(drawing.grid(runs_frame(study, store)))
    bars = sorted((round(b.get_x() + b.get_width() / 2, 2), b.get_height()) for b in figure.axes[0].patches)
    assert bars == [(0.2, pytest.approx(31)), (0.8, pytest.approx(20))]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["cluster check", "cosine as weight"]
    explorer = drawing.by_metric(runs_frame(study, store))
    assert len({explorer.picture(words) for words in explorer.controls["measure"]}) == 4
    drawn(figures.forest({c.title: contrast_interval(c, runs_frame(study, store)) for c in study.contrasts}, 1.0))


@pytest.mark.usefixtures("strict_figures")
def test_found_images_of_the_class_of_the_query_are_framed():
    data = load_data(BUNDLED)
    figure = drawn(drawing.found_images(data, EXAMPLES))
    tiles = np.array(figure.axes).reshape(4, 4)
    for k, example in enumerate(EXAMPLES):
        for row, name in zip(tiles[2 * k :], ("own", "old"), strict=False):
            shown = [axis.images[0].get_array() for axis in row]
            assert np.array_equal(shown[0], data.test.images[example["query"]].permute(1, 2, 0))
            assert np.array_equal(shown[3], data.train.images[example[name][2]].permute(1, 2, 0))
            framed = [axis.spines["left"].get_visible() for axis in row[1:]]
            alike = data.train.labels[torch.tensor(example[name])] == data.test.labels[example["query"]]
            assert framed == alike.tolist()
            assert not row[0].spines["left"].get_visible()


def test_images_that_are_not_here_are_not_shown():
    data = load_data(BUNDLED)
    labels = data.train.labels.clone()
    labels[17] = -1
    gone = type(data)(type(data.train)(**(vars(data.train) | {"labels": labels})), data.test)
    assert drawing.found_images(gone, EXAMPLES) is None
