"""Claims and their computed verdicts, from invented results."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from kdlib.chapters import CHAPTERS, claims
from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store
from kdlib.methods import METHODS
from kdlib.study import tables
from kdlib.study.profiles import PROFILES
from kdlib.study.setting import Setting
from kdlib.study.stats import PRIMARY_LEVEL, Verdict

pytestmark = pytest.mark.usefixtures("isolated")
NOISE = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])


@pytest.fixture
def judged(invented):
    """judged(a1, a2): the judgements after runs whose JDA beats weak2 and rot4 by these points, seed by seed."""

    def judge(a1, a2, scale: str = "reference", seeds: list[int] | None = None):
        own, planned = Setting.of(scale, device="cpu"), tuple(seeds or range(5))
        setting = replace(own, profile=replace(own.profile, many_seeds=planned), seeds=planned)  # as if fixed before
        study, store = create_study("03_blind_teacher", setting), Store(scale)
        for arm, less in (("JDA", 0 * NOISE), ("weak2", a1), ("rot4", a2), ("no teacher", 30 + NOISE)):
            if less is not None:
                for spec, points in zip(study.specs(arm), less, strict=False):
                    store.put(invented(spec, scale, top1=60 - float(points)))
        return claims.judge(Store(scale), setting), setting

    return judge


def words(judgements):
    return {j.name: str(j.judged.verdict) for j in judgements}


#: Chapters whose primary contrasts decide none of the book's claims.
OWN = (
    "18_budget", "19_rivals", "20_which_images", "21_resolution", "22_retrieval", "23_thresholds", "24_detection",
    "25_translation",
)  # fmt: skip


def test_every_claim_is_decided_by_contrasts_that_exist():
    decided = [c for claim in claims.CLAIMS for c in claim.contrasts]
    assert sorted(decided) == sorted(claims.CONTRASTS)
    assert len(decided) == 9  # the level of each is 1 - .05/9
    assert [c.name for c in claims.CLAIMS] == ["a", "b", "c", "d", "e", "CCD"]
    for name, (_, study_name) in claims.CONTRASTS.items():
        study = create_study(study_name, Setting.of("smoke", device="cpu"))
        (contrast,) = (c for c in study.contrasts if c.name == name)
        assert contrast.primary
        assert contrast.says == ("no better" if name == "b2" else "better")
        assert (contrast.cheaper is not None) == (name == "f")
    primary = [
        c.name
        for s in CHAPTERS
        for c in create_study(s, Setting.of("smoke", device="cpu")).contrasts
        if c.primary
        and c.tier == 1  # later ones decide no claim
        and s not in OWN
    ]
    assert sorted(primary) == sorted(claims.CONTRASTS)


def test_nothing_is_measured_in_an_empty_store(judged):
    found, setting = judged(None, None, seeds=None)
    frame = claims.claims_frame(found, True)
    # JDA alone has runs: no pair is complete
    assert set(words(found).values()) == {"not measured"}
    assert set(frame.verdict) == {"not measured"}
    assert all(j.interval.n == 0 and j.differences == () for j in found)


@pytest.mark.parametrize(
    ("a1", "a2", "expected", "claim"),
    [
        (2 + NOISE, 1.5 + NOISE, ("supported", "supported"), "supported with the public ResNet-56"),  # no control yet
        (2 + NOISE, -1 + NOISE, ("supported", "contradicted"), "contradicted"),
        (2 + NOISE, 5 * NOISE, ("supported", "inconclusive"), "inconclusive"),
        (NOISE / 2, 2 + NOISE, ("contradicted", "supported"), "contradicted"),  # below the margin is no better
        (2 + NOISE, (2 + NOISE)[:4], ("supported", "not measured"), "not measured"),
        (-2 + NOISE, None, ("contradicted", "not measured"), None),
    ],
)
def test_verdicts_follow_the_rule(judged, a1, a2, expected, claim):
    found, _ = judged(a1, a2)
    assert (words(found)["a1"], words(found)["a2"]) == expected
    if claim:
        assert claims.claims_frame(found, True).verdict["a"] == claim
    j = found[0]
    expected = scipy_stats.ttest_1samp(a1, 0).confidence_interval(PRIMARY_LEVEL)
    assert (j.interval.low, j.interval.high) == pytest.approx((expected.low, expected.high))
    assert j.differences == pytest.approx(tuple(a1))


def test_contrasts_without_runs_borrow_no_numbers(judged):
    found, _ = judged(2 + NOISE, 1 + NOISE)
    for j in found:
        if j.name not in ("a1", "a2", "c1"):  # c1 is a1 at the default p: the same runs
            assert j.judged.rule is j.judged.verdict is Verdict.NOT_MEASURED
            assert j.differences == ()
            assert j.interval.n == 0
            assert np.isnan([j.interval.mean, j.interval.low, j.interval.high]).all()
    frame = claims.contrasts_frame(found, True)
    assert (frame.n > 0).sum() == 3
    assert (frame.difference != "").sum() == 3


def test_a_claim_of_fewer_bytes_is_part_of_the_verdict(invented, monkeypatch):
    setting = Setting.of("reference", device="cpu")
    study, store = create_study("09_ccd_versus_hsakd", setting), Store("reference")
    for arm, points in (("CCD", 60), ("HSAKD, frozen teacher", 58), ("no teacher", 40)):
        for spec, noise in zip(study.specs(arm), NOISE, strict=False):
            store.put(invented(spec, "reference", top1=points + float(noise) * (arm == "CCD")))
    assert words(claims.judge(Store("reference"), setting))["f"] == "supported"
    monkeypatch.setattr("kdlib.study.judging.cheaper", lambda *_: False)
    assert words(claims.judge(Store("reference"), setting))["f"] == "contradicted"


def test_b2_is_supported_by_students_that_are_no_better(invented):
    setting = Setting.of("reference", device="cpu")
    study, store = create_study("04_augmented_teacher", setting), Store("reference")
    for arm in study.arms:
        for spec, noise in zip(study.specs(arm), NOISE, strict=False):
            better = {"JDA teacher": 2, "no teacher": -20}.get(arm, -1 if arm.endswith("JDA teacher") else 0)
            store.put(invented(spec, "reference", top1=60 + better + float(noise) * ("JDA teacher" in arm)))
    judged = {j.name: j for j in claims.judge(Store("reference"), setting)}
    assert (judged["b1"].judged.verdict, judged["b2"].judged.verdict) == ("supported", "supported")
    parts = judged["b2"].parts
    assert set(parts) == {(f"{way}, JDA teacher", f"{way}, plain teacher") for way in ("KD + weak2", "KD + JDA")}
    assert np.mean(list(parts.values())) == pytest.approx(judged["b2"].interval.mean)
    assert judged["b1"].parts == judged["e"].parts == {}


def test_too_few_seeds_give_no_verdict(judged):
    found, _ = judged(2 + NOISE, 2 + NOISE, seeds=[0, 1, 2])
    assert words(found)["a1"] == "not enough seeds"
    assert claims.claims_frame(found, True).verdict["a"] == "not enough seeds"


def test_demonstrations_give_no_verdict(judged):
    found, setting = judged(2 + NOISE, 2 + NOISE, "quick")
    assert not setting.profile.verdicts
    shown = claims.contrasts_frame(found, setting.profile.verdicts)
    assert shown.verdict.iloc[0] == shown.verdict.iloc[1] == tables.NO_VERDICT
    frame = claims.claims_frame(found, setting.profile.verdicts)
    assert frame.verdict["a"] == tables.NO_VERDICT
    assert frame.verdict["b"] == "not measured"


def test_the_readme_shows_each_claim_and_its_verdict(judged):
    _, setting = judged(2 + NOISE, 1 + NOISE)
    lines = claims.readme_table(Store("reference"), setting).split("\n")
    assert lines[0] == "| claim | says | found | by the rule | with floor and carry |"
    assert len(lines) == 2 + len(claims.CLAIMS)
    assert lines[2].startswith("| a | ")
    named = "supported with the public ResNet-56"  # no control is measured
    assert lines[2].endswith(f" | supported | {named} (a1: {named}, a2: supported) |")
    assert lines[4].endswith(f" | not measured yet | not measured (c1: {named}, c2: not measured) |")
    assert all(line.endswith(" | not measured yet | not measured yet |") for line in (lines[3], *lines[5:]))
    assert all(line.count("|") == 6 for line in lines)


def test_every_profile_with_verdicts_has_a_column(judged):
    found, setting = judged(2 + NOISE, 1 + NOISE)
    frame = claims.profiles_frame(found, setting)
    assert list(frame.columns) == [name for name, scale in PROFILES.items() if scale.verdicts and not scale.chapters]
    assert list(frame.index) == [claim.name for claim in claims.CLAIMS]
    assert frame.reference["a"].startswith("supported with the public ResNet-56 (a1: ")
    assert set(frame.paper) == {"not measured"}


def test_gaps_count_what_is_missing_and_how_to_get_it(judged):
    _, setting = judged(2 + NOISE, 1 + NOISE)
    frame = claims.gaps_frame(Store("reference"), setting)
    first, last = frame.iloc[0], frame.iloc[-1]
    assert first.tolist() == ["15 of 15", "nothing is missing", "–"]  # JDA, weak2 and no teacher, five seeds each
    assert last.runs == "5 of 16"  # five of each, one head for all of HSAKD, and the floor, which is there
    assert last.command.endswith("09_ccd_versus_hsakd --profile reference")
    assert last["missing ones, on one core"].split()[1] in ("min", "h")


def test_the_printed_line_names_every_choice():
    setting = Setting.of("paper", "vgg13-vgg8", seeds=[7, 8], device="cpu")
    line = claims.gaps_frame(Store("paper"), setting).iloc[0].command
    assert line == "python -m kdlib run 03_blind_teacher --profile paper --pair vgg13-vgg8 --seeds 7 8"


def test_contrasts_with_hsakd_are_those_that_unequal_stages_leave_unmeasured():
    setting = Setting.of("reference", device="cpu")
    paired = {m for m, d in METHODS.items() if d.pairs_stages}
    found = []
    for name, (_, chapter) in claims.CONTRASTS.items():
        study = create_study(chapter, setting)
        found += [name] if paired & {study.arms[a].method for a in study.contrast(name).weights} else []
    assert tuple(found) == claims.WITH_HSAKD
    unequal = Setting.of("reference", "cifar100_resnet56-vgg8", device="cpu")
    assert not unequal.fits("hsakd") and unequal.fits("kd") and setting.fits("hsakd")
    judged = claims.judge(Store("reference"), unequal)
    assert [j.name for j in judged] == list(claims.CONTRASTS)
    assert set(words(judged).values()) == {"not measured"}


def test_chosen_seeds_get_no_verdict(judged):
    judged(1 + NOISE, 1 + NOISE)
    chosen = Setting.of("reference", seeds=[0, 1, 2, 3, 4], device="cpu")
    assert not chosen.verdicts and Setting.of("reference", device="cpu").verdicts
    frame = claims.profiles_frame(claims.judge(Store("reference"), chosen), chosen)
    assert frame.reference["a"] == tables.NO_VERDICT


@pytest.mark.parametrize(
    ("name", "options"), [("03_blind_teacher", {"p": 1.0}), ("07_compatibility", {"methods": ["dkd"]})]
)
def test_a_contrast_that_was_not_fixed_beforehand_decides_nothing(name, options):
    setting = Setting.of("reference", device="cpu")
    assert any(c.primary for c in create_study(name, setting).contrasts)
    assert not any(c.primary for c in create_study(name, setting, **options).contrasts)
