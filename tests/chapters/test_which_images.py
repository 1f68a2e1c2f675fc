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
        "CutMix where energy is high, no second label": ("cutmix", "highest"),
        "CutMix at random, no second label": ("cutmix", "random"),
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


def test_energy_dkd_stands_beside_the_dkd_of_chapter_07_and_differs_in_its_temperatures_alone():
    study = study_at("reference")
    energy, zero = study.specs(chapter.DKD_RISING), study.specs(chapter.DKD_ONE)
    other = create_study("07_compatibility", Setting.of("reference", device="cpu")).specs("DKD + weak2")
    assert [spec.key for spec in zero] == [spec.key for spec in other][: len(zero)]
    for one, two in zip(energy, zero, strict=True):
        shared = {name: value for name, value in one.options.items() if name in two.options}
        assert shared == two.options and one.options["rule"] == "rising" and one.options["share"] == 0.1
        fields = [spec.model_dump(exclude={"method", "options"}) for spec in (one, two)]
        assert fields[0] == fields[1]


def test_arms_without_a_second_label_differ_in_their_views_alone():
    study, found = study_at("reference"), {}
    for label in (chapter.picked("cutmix", by, labelled=False) for by in ("highest", "random")):
        found[label] = study.specs(label)
    found[chapter.UNMIXED] = study.specs(chapter.UNMIXED)
    for same_seed in zip(*found.values(), strict=True):
        first, *others = (spec.model_dump(exclude={"policy"}) for spec in same_seed)
        assert all(other == first for other in others)
        assert first["options"]["weights"] == (0.2, 0.0, 1.8, 1.8)
        assert {spec.policy.name for spec in same_seed} == {"he_da", "weak2"}


def test_demonstrations_have_the_primary_contrast_and_energy_kd():
    assert set(study_at("quick").arms) == {
        "no teacher", "weak2", "JDA", chapter.HIGH, chapter.RANDOM, "T rises with energy", "one T",
    }  # fmt: skip
