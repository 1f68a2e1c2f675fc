"""Every method and every chapter that decides something has a row without gaps, and it says what the results give."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kdlib.chapters import CHAPTERS, claims, taxonomy
from kdlib.chapters.registry import create_study
from kdlib.lab.recipe import Policy
from kdlib.lab.store import Store
from kdlib.methods import METHODS
from kdlib.study.arms import Arm, Contrast, OwnTeacher
from kdlib.study.profiles import PROFILES
from kdlib.study.setting import Setting
from kdlib.study.tables import signed, span
from kdlib.views import orientations
from kdlib.views.policies import POLICIES

SHARED = [name for name, scale in PROFILES.items() if not scale.chapters]


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting.of("reference", device="cpu")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The published results alone."""
    return Store("reference", runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def found(published, setting) -> dict[str, taxonomy.Row]:
    return {row.system: row for row in taxonomy.rows(published, setting)}


def test_all_methods_and_all_chapters_that_decide_have_a_row_in_order(found, setting):
    deciding = [name for name in CHAPTERS if any(c.primary for c in create_study(name, setting).contrasts)]
    assert {chapter for _, chapter in claims.CONTRASTS.values()} | {"18_budget", "19_rivals"} <= set(deciding)
    assert list(found) == [*METHODS, *(name for name in deciding if name != "12_verdicts")]


def test_no_row_has_a_gap(found):
    for row in found.values():
        assert all(asdict(row).values()), row
        assert "\n\n" not in "".join(asdict(row).values())
    firsts = [name for name, row in found.items() if row.verdict == taxonomy.NOTHING]
    assert firsts == [name for name in METHODS if name.endswith("_teacher")]


def test_a_chapter_gives_each_primary_contrast_with_the_verdict_of_the_claims(found, published, setting):
    for judged in claims.judge(published, setting):
        lines = dict(line.split(": ", 1) for line in found[judged.study].verdict.split("\n"))
        interval = judged.interval
        assert lines[judged.name].startswith(f"{signed(interval)} {span(interval, '+.2f')}, {judged.judged.word}")
        assert str(judged.judged.rule) in lines[judged.name]
        assert judged.name in dict(line.split(": ", 1) for line in found[judged.study].zero.split("\n"))
    assert found["18_budget"].verdict == "not measured" or found["18_budget"].verdict.startswith("A1: ")


@pytest.mark.parametrize("name", taxonomy.ASKED)
def test_what_is_asked_of_a_method_is_a_contrast_with_its_arms(name: str, setting):
    chapter, contrast = taxonomy.ASKED[name]
    study = create_study(chapter, setting)
    arms = [study.arms[arm] for arm in study.contrast(contrast).weights]
    teachers = [arm.teacher for arm in arms if isinstance(arm.teacher, OwnTeacher)]
    assert name in {made.method for made in (*arms, *teachers)}


@pytest.mark.parametrize("scale", SHARED)
def test_every_profile_gives_all_methods_a_row(scale: str, tmp_path: Path, isolated):
    found = taxonomy.rows(Store(scale, runs=tmp_path), Setting.of(scale, device="cpu"))
    assert [row.system for row in found][: len(METHODS)] == list(METHODS)
    assert all(all(asdict(row).values()) for row in found)


def test_a_method_that_is_registered_without_its_facts_is_refused(monkeypatch, published, setting):
    monkeypatch.setitem(METHODS, "mine", replace(METHODS["kd"], taxonomy=None))
    with pytest.raises(ValueError, match="^taxonomy of method 'mine' is None"):
        taxonomy.rows(published, setting)
    monkeypatch.setitem(METHODS, "mine", METHODS["kd"])
    with pytest.raises(ValueError, match="^method 'mine' is not in ASKED"):
        taxonomy.rows(published, setting)


def test_every_policy_and_every_spread_has_its_words():
    assert set(taxonomy.VIEWS) == set(POLICIES)
    assert set(taxonomy.SPREADS) == set(orientations.SPREADS)


@pytest.mark.parametrize(
    ("contrast", "zero"),
    [
        (Contrast.of("", "a", "b"), "b"),
        (Contrast("", {"b": -1.0, "a": 1.0}), "b"),
        (Contrast.mean_of("", [("a", "b"), ("c", "d")], "mean"), "b; d"),
        (Contrast.interaction("", ("a", "b"), ("c", "d"), "gain here - gain there"), "gain there"),
    ],
)
def test_the_zero_point_is_what_is_taken_away(contrast: Contrast, zero: str):
    assert taxonomy.zero_point(contrast) == zero


def test_rows_say_who_saw_what(found):
    after = "both the same, after a teacher of jda"
    assert found["04_augmented_teacher"].sees.split("\n") == ["teacher alone", after, f"{after} by soteacher"]
    assert found["09_ccd_versus_hsakd"].chosen_by == "cosine"
    assert found["07_compatibility"].knowledge.split("\n") == ["answer", "relation"]
    assert found["07_compatibility"].view.split("\n")[-1] == "a crop and a JDA crop, in four turns"
    assert (found["05_proportion"].status, found["03_blind_teacher"].status) == ("inspired by", "verified")
    assert found["06_few_shot"].status.split("\n") == ["d: verified", "P1: inspired by"]
    assert found["06_few_shot"].chosen_by.split("\n") == ["none", "attention"]
    assert found["20_which_images"].chosen_by == "energy"


@pytest.mark.parametrize(
    ("views", "words"), [("weak1", "both the same"), ("jda", "both the same, after a teacher of jda")]
)
def test_a_teacher_of_plain_crops_is_not_mentioned(views: str, words: str):
    arm = Arm("", Policy(name="weak2"), teacher=OwnTeacher(Policy(name=views)))
    assert taxonomy._sees(arm) == words
