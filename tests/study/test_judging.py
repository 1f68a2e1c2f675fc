"""The floor and the carry: they take verdicts away, and never give one."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from kdlib.chapters import CHAPTERS
from kdlib.chapters.claims import CONTRASTS
from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store
from kdlib.study import judging, tables
from kdlib.study.judging import Judged
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import OURS
from kdlib.study.stats import Verdict

pytestmark = pytest.mark.usefixtures("isolated")
NOISE = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
FLOOR = 30 + np.array([0.0, 1.0, -1.0, 0.5, -0.5])


@pytest.fixture
def study() -> Study:
    own, planned = Setting.of("reference", device="cpu"), tuple(range(5))
    return create_study("03_blind_teacher", replace(own, profile=replace(own.profile, many_seeds=planned)))


@pytest.fixture
def judged(study, invented):
    """judged(name, {arm: top1 of each seed}): the verdict on a contrast after these runs."""

    def judge(name: str, values: dict[str, np.ndarray]) -> Judged:
        store = Store("reference")
        for arm, top1 in values.items():
            for spec, value in zip(study.specs(arm), top1, strict=False):
                store.put(invented(spec, "reference", top1=float(value)))
        return judging.judge(study, study.contrast(name), tables.runs_frame(study, Store("reference")))

    return judge


def arms(jda: np.ndarray, weak2: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
    return {"JDA": jda, "weak2": weak2, "no teacher": FLOOR} | {k.replace("_", " "): v for k, v in others.items()}


def test_above_the_floor_the_rule_stands(judged):
    ours = {f"{OURS}: weak2": FLOOR + 12, f"{OURS}: JDA": FLOOR + 14 + NOISE}
    found = judged("a1", arms(FLOOR + 10, FLOOR + 8 + NOISE) | ours)
    assert found == Judged(Verdict.SUPPORTED, Verdict.SUPPORTED)
    assert found.word == "supported" and judging.verdict_in_words(found) == "supported"


@pytest.mark.parametrize("gain", [9, -3, 0.1])
@pytest.mark.parametrize("below", ["JDA", "weak2"])
def test_a_contrast_that_rests_on_an_untrained_arm_is_not_tested_whatever_its_sign(judged, below, gain):
    lower = FLOOR - 5 + NOISE
    other = lower + (gain if below == "weak2" else -gain) + NOISE / 2
    values = {below: lower, "weak2" if below == "JDA" else "JDA": other, "no teacher": FLOOR}
    found = judged("a1", values)
    assert found.verdict is Verdict.NOT_TESTED and below in found.below
    assert found.rule in (Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.INCONCLUSIVE)
    assert judging.verdict_in_words(found) == f"not tested at this budget (by the rule alone: {found.rule})"
    expected = scipy_stats.ttest_rel(values[below], FLOOR).confidence_interval(0.95)
    assert (found.below[below].low, found.below[below].high) == pytest.approx((expected.low, expected.high))


def test_an_arm_that_cannot_be_told_from_the_floor_did_train(judged):
    """The whole 95 % interval must lie below zero, not its mean."""
    wide = FLOOR - 0.2 + np.array([1.0, -1.0, 0.5, -0.5, 0.0])
    assert judged("a1", arms(wide + 3 + NOISE, wide)).verdict is Verdict.SUPPORTED


def test_without_its_floor_a_contrast_is_not_decided(judged):
    values = arms(FLOOR + 10, FLOOR + 8 + NOISE)
    for known in (0, 4):  # of the five planned seeds
        found = judged("a1", values | {"no teacher": FLOOR[:known]})
        assert (found.rule, found.verdict) == (Verdict.SUPPORTED, Verdict.NOT_MEASURED)
        assert found.word == "not decided, its floor is not measured"
    assert judged("a1", values).verdict is Verdict.SUPPORTED


@pytest.mark.parametrize(
    ("gain", "word"),
    [
        (2 + NOISE, "supported"),
        (NOISE, "supported with the public ResNet-56"),
        (-2 + NOISE, "supported with the public ResNet-56"),
        ((2 + NOISE)[:1], "supported with the public ResNet-56"),  # one seed is no interval
        (NOISE[:0], "supported with the public ResNet-56"),
    ],
)
def test_a_verdict_names_its_teacher_where_it_does_not_carry(judged, gain, word):
    ours = {f"{OURS}: weak2": FLOOR + 12, f"{OURS}: JDA": FLOOR[: len(gain)] + 12 + gain}
    found = judged("a1", arms(FLOOR + 10, FLOOR + 8 + NOISE) | ours)
    assert found.word == word and found.verdict is Verdict.SUPPORTED


def test_only_supported_contrasts_name_a_teacher(judged):
    ours = {f"{OURS}: weak2": FLOOR + 12, f"{OURS}: JDA": FLOOR + 12 + NOISE}
    assert judged("a1", arms(FLOOR + 8, FLOOR + 10 + NOISE) | ours) == Judged(
        Verdict.CONTRADICTED, Verdict.CONTRADICTED
    )


def test_the_amendment_never_gives_a_verdict(judged):
    few = judged("a1", arms((FLOOR - 10)[:3], (FLOOR - 12)[:3]))
    assert few == Judged(Verdict.NOT_MEASURED, Verdict.NOT_MEASURED)


def test_exploratory_contrasts_say_when_they_rest_on_an_untrained_arm(study, judged):
    judged("a1", arms(FLOOR + 10, FLOOR + 8, rot2=FLOOR - 9 + NOISE))
    table = judging.contrasts_table(study, tables.runs_frame(study, Store("reference")))
    assert table.loc["JDA - rot2", "verdict"] == "exploratory; not tested at this budget"


@pytest.mark.parametrize("scale", ["reference", "paper"])
def test_every_contrast_of_students_knows_its_floor(scale: str):
    """The same student, images and views, two plain crops, labels alone, at the profile's own learning rate."""
    setting = Setting.of(scale, device="cpu")
    for chapter in {chapter for _, chapter in CONTRASTS.values()}:
        study = create_study(chapter, setting)
        for contrast in study.contrasts:
            for arm in (study.arms[label] for label in contrast.weights if contrast.primary):
                if arm.is_teacher:
                    assert arm.floor is None
                    continue
                floor = study.specs(arm.floor)
                for one, other in zip(study.specs(arm.label), floor, strict=False):
                    assert (other.method, other.policy.name, other.teacher) == ("ce", "weak2", None)
                    assert other.model_dump(include=SHARED) == one.model_dump(include=SHARED)
                    assert other.recipe.learning_rate == setting.profile.recipe.learning_rate
                assert study.tier(arm.floor) <= contrast.tier


SHARED = {"data", "part", "pool", "fraction", "student", "seed", "validation", "machine"}


def test_a_control_asks_the_same_of_another_teacher():
    """Of the arms of a contrast its control changes the teacher; at profile full also the budget, for its cost."""
    setting, seen = Setting.of("reference", device="cpu"), set()
    for chapter in CHAPTERS:
        study = create_study(chapter, setting)
        for contrast in study.contrasts:
            if contrast.control:
                seen.add(contrast.name)
                control = study.contrast(contrast.control)
                for one, other in zip(contrast.weights, control.weights, strict=True):
                    assert contrast.weights[one] == control.weights[other]
                    here, there = study.specs(one)[0], study.specs(other)[0]
                    assert here.teacher != there.teacher
                    if contrast.name == "A1":
                        assert there.recipe.views_per_image < here.recipe.views_per_image
                        here = here.model_copy(update={"recipe": there.recipe})
                    assert here.model_copy(update={"teacher": there.teacher}) == there
    assert seen == {"a1", "c1", "d", "A1"}
