"""Resolution as an augmentation: sides that differ in nothing else, at equal views, each above its own floor."""

import pytest

from kdlib.chapters import resolution as chapter
from kdlib.chapters.registry import create_study
from kdlib.lab.forecasts import forecast, run_cost
from kdlib.lab.specs import RunSpec
from kdlib.models.resolution import Resolution
from kdlib.study.setting import Setting

SMALL, UP = Resolution(2), Resolution(2, enlarged=True)


def study_at(scale: str):
    return create_study("21_resolution", Setting.of(scale, device="cpu"))


def without(field: str, spec: RunSpec) -> dict:
    fields = spec.model_dump()
    del fields["options"][field]
    return fields


@pytest.mark.parametrize("scale", ["smoke", "quick", "reference", "paper"])
def test_sides_of_the_primary_contrast_differ_in_what_the_teacher_sees_alone(scale):
    study = study_at(scale)
    (primary,) = (contrast for contrast in study.contrasts if contrast.primary)
    one, other = chapter.label("weak2", "small", "asymmetric"), chapter.label("weak2", "small", "consistent")
    assert primary.weights == {one: 1, other: -1} and primary.level == 0.95 and study.contrasts[0] is primary
    for more, same in zip(study.specs(one), study.specs(other), strict=True):
        assert without("teacher_input", more) == without("teacher_input", same)
        assert more.resolutions == (SMALL, Resolution()) and same.resolutions == (SMALL, UP)
        assert more.policy.name == "weak2" and not any(
            more.options.get(weight) for term in chapter.TERMS.values() for weight in term
        )
    assert not study.setting.profile.verdicts or study.planned(primary) == 5


def test_labels_say_what_is_seen():
    study = study_at("reference")
    for views, policy in chapter.VIEWS.items():
        for student, given in (("small", SMALL), ("up-sampled", UP)):
            for teacher, shown in (("asymmetric", Resolution()), ("consistent", UP)):
                for spec in study.specs(chapter.label(views, student, teacher)):
                    assert spec.policy == policy and spec.resolutions == (given, shown)
    weights = [name for term in chapter.TERMS.values() for name in term]
    for term, own in chapter.TERMS.items():
        (spec, *_) = study.specs(f"weak2, small, asymmetric + {term}")
        assert {name: spec.options[name] for name in weights if spec.options.get(name)} == own
    for label, ops in ((chapter.COARSE, None), (chapter.JDA_COARSE, "cifar100")):
        for spec in study.specs(label):
            assert spec.method == "kd" and spec.resolutions == (Resolution(), Resolution())
            assert spec.policy.name == "coarse" and spec.policy.options == {"scales": (1, 2, 4), "ops": ops}


def test_all_arms_have_equal_views_and_the_floor_of_their_resolution():
    study = study_at("reference")
    specs = [spec for arm in study.arms for spec in study.specs(arm)]
    assert {spec.view_policy().views for spec in specs} == {spec.view_policy().distinct for spec in specs} == {2}
    assert len({(spec.recipe.views_per_image, spec.recipe.views_per_step) for spec in specs}) == 1
    for arm in study.arms.values():
        if arm.floor:
            mine, floor = study.specs(arm.label)[0], study.specs(arm.floor)[0]
            assert floor.teacher is None and floor.policy.name == "weak2"
            assert floor.resolutions[0] == mine.resolutions[0] and floor.student == mine.student


def test_every_interaction_takes_the_gain_of_whole_images_away():
    study = study_at("reference")
    found = [contrast for contrast in study.contrasts if contrast.name.startswith("JDA x resolution")]
    assert len(found) == 4
    for contrast in found:
        signs = {study.arms[arm].policy.name: [] for arm in contrast.weights}
        for arm, weight in contrast.weights.items():
            signs[study.arms[arm].policy.name].append((study.arms[arm].method, weight))
        assert sorted(signs["jda"]) == [("kd", -1), ("resolution", 1)]
        assert sorted(signs["weak2"]) == [("kd", 1), ("resolution", -1)]


def test_a_small_student_takes_a_quarter_of_the_work_and_an_enlarged_one_all_of_it():
    study = study_at("reference")
    whole, small, up = (
        run_cost(study.specs(arm)[0]).student_macs
        for arm in ("weak2", "weak2, small, asymmetric", "weak2, up-sampled, asymmetric")
    )
    assert whole == up and small / whole == pytest.approx(0.25, abs=0.001)


def test_demonstrations_are_small():
    study = study_at("quick")
    own = [arm for arm in study.arms if study.arms[arm].method in ("resolution", "resolution_ce")]
    assert own == [
        "no teacher, small", "weak2, small, asymmetric", "weak2, small, consistent", "JDA, small, asymmetric",
    ]  # fmt: skip
    assert forecast([spec for arm in own for spec in study.specs(arm)]) * 3600 < 20
