"""Which images are augmented: sides that differ in nothing else, at equal views."""

import pytest

from kdlib.chapters import which_images as chapter
from kdlib.chapters.registry import create_study
from kdlib.lab.specs import RunSpec
from kdlib.methods.energy import ENERGY_RULES, EnergyKDOptions
from kdlib.study.setting import Setting


def study_at(scale: str):
    return create_study("20_which_images", Setting.of(scale, device="cpu"))


def without_choice(spec: RunSpec) -> dict:
    fields = spec.model_dump()
    del fields["policy"]["options"]["by"]
    return fields


@pytest.mark.parametrize("scale", ["smoke", "quick", "reference", "paper"])
def test_sides_of_the_primary_contrast_differ_in_who_is_chosen_alone(scale):
    study = study_at(scale)
    (primary,) = (contrast for contrast in study.contrasts if contrast.primary)
    assert primary.weights == {chapter.HIGH: 1, chapter.RANDOM: -1} and primary.level == 0.95
    for one, other in zip(study.specs(chapter.HIGH), study.specs(chapter.RANDOM), strict=True):
        assert without_choice(one) == without_choice(other)
        assert (one.policy.options["by"], other.policy.options["by"]) == ("highest", "random")
        assert one.policy.options["view"] == "jda" and one.policy.options["share"] == 0.5
    assert not study.setting.profile.verdicts or study.planned(primary) == 5


def test_labels_say_what_is_done_to_whom():
    found = {}
    for label, arm in study_at("reference").arms.items():
        if arm.policy.name == "he_da":
            found[label] = arm.policy.options["view"], arm.policy.options["by"]
    assert found == {
        "JDA where energy is high": ("jda", "highest"), "JDA at random": ("jda", "random"),
        "JDA where energy is low": ("jda", "lowest"), "CutMix where energy is high": ("cutmix", "highest"),
        "CutMix at random": ("cutmix", "random"), "CutMix where energy is low": ("cutmix", "lowest"),
    }  # fmt: skip


def test_all_arms_have_equal_views():
    specs = [spec for arm in study_at("reference").arms for spec in study_at("reference").specs(arm)]
    assert {spec.view_policy().views for spec in specs} == {spec.view_policy().distinct for spec in specs} == {2}
    assert len({(spec.recipe.views_per_image, spec.recipe.views_per_step) for spec in specs}) == 1


def test_rules_of_energy_kd_differ_in_the_rule_alone_and_one_temperature_is_kd():
    study, own = study_at("reference"), EnergyKDOptions()
    assert set(chapter.RULES) == set(ENERGY_RULES)
    for rule, label in chapter.RULES.items():
        (arm, spec) = study.arms[label], study.specs(label)[0]
        if rule == "constant":
            assert arm.method == "kd"
            assert spec.options == {"temperature": 4.0, "ce_weight": own.ce_weight, "kd_weight": own.kd_weight}
        else:
            assert spec.options == own.model_dump() | {"rule": rule}
        assert arm.policy.name == "weak2"


def test_demonstrations_have_the_primary_contrast_and_energy_kd():
    assert set(study_at("quick").arms) == {
        "no teacher", "weak2", "JDA", chapter.HIGH, chapter.RANDOM, "T rises with energy", "one T",
    }  # fmt: skip
