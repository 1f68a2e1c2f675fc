"""The rivals of CCD: each beside the weight that it brings, at equal views."""

import numpy as np
import pytest
from scipy.special import softmax

from kdlib.chapters import rivals
from kdlib.chapters.registry import create_study
from kdlib.lab.store import only_published
from kdlib.methods import METHODS
from kdlib.methods.tekap import TeKAPOptions
from kdlib.study.setting import Setting
from kdlib.study.shared_arms import CRLD_WEIGHTS


def study_at(scale: str):
    return create_study("19_rivals", Setting.of(scale, device="cpu"))


def test_ccd_hands_on_as_much_of_the_teacher_as_crld():
    """From the mean w of its published runs, and the gates that stand beside the number."""
    with only_published("reference") as store:  # whatever machine made them
        found = [store.get(spec) for spec in study_at("reference").specs(rivals.CCD)]
    w = [result.metrics["mean_w"] for result in found if result]
    assert len(w) == 10
    ours = rivals.CCD_WEIGHT * (1 + sum(w) / len(w)) / 2
    theirs = 2 * (CRLD_WEIGHTS["kd_weight"] * 0.951 + CRLD_WEIGHTS["cross_weight"] * 0.983)
    assert ours == pytest.approx(theirs, rel=0.005)
    published = METHODS["crld"].options()
    assert {name: 2 * weight for name, weight in CRLD_WEIGHTS.items()} == {
        name: getattr(published, name) for name in CRLD_WEIGHTS
    }


def test_kd_has_the_weights_of_tekap_and_of_its_copies():
    arms, tekap = study_at("reference").arms, TeKAPOptions()
    alone, tripled = (arms[label].options for label in ("KD, TeKAP's weights", rivals.TRIPLE))
    assert alone == {"ce_weight": tekap.ce_weight, "kd_weight": tekap.kd_weight}
    assert tripled["kd_weight"] == pytest.approx(tekap.kd_weight * (1 + tekap.copies * tekap.copies_weight))
    softer, z = arms[rivals.SOFTER].options, np.random.default_rng(0).normal(0, 4, (8, 100))
    assert softer == tripled | {"temperature": pytest.approx(4.44, abs=0.005)}
    copy = softmax(tekap.keep * z / tekap.temperature, 1)
    assert np.allclose(copy, softmax(z / softer["temperature"], 1), rtol=1e-12)


def test_dist_stands_beside_itself_with_half_the_weight_under_both_views():
    """And in nothing else: of KD no weight is equal to that of its terms."""
    study = study_at("reference")
    for views in ("weak2", "JDA"):
        one, other = f"DIST + {views}", f"DIST, weights 1 + {views}"
        contrast = study.contrast(f"{one} - {other}")
        assert contrast.weights == {one: 1, other: -1} and not contrast.primary
        assert study.tier(one) == study.tier(other) == 3
        for whole, half in zip(study.specs(one), study.specs(other), strict=True):
            weights = ("inter_weight", "intra_weight", "kd_weight")
            assert [[spec.options[name] for name in weights] for spec in (whole, half)] == [[2, 2, 0], [1, 1, 0]]
            assert half.model_copy(update={"options": whole.options}) == whole


def test_crlds_own_view_has_the_zeros_that_jda_has():
    study = study_at("reference")
    for without, changed in (("no gate", {"gate": "none"}), ("own view alone", {"cross_weight": 0.0})):
        for views in ("CRLD", "CRLD + its view"):
            label = f"{views}, {without}"
            assert study.contrast(f"{views} - {label}").weights == {views: 1, label: -1}
            for spec, whole in zip(study.specs(label), study.specs(views), strict=False):
                assert spec == whole.model_copy(update={"options": {**whole.options, **changed}})
            assert {spec.policy.name for spec in study.specs(label)} == {"jda" if views == "CRLD" else "crld"}


@pytest.mark.parametrize("scale", ["smoke", "quick", "reference", "paper"])
def test_sides_of_a_primary_contrast_differ_in_one_thing(scale):
    study = study_at(scale)
    first, second = (contrast for contrast in study.contrasts if contrast.primary)
    assert (first.among, second.among) == (2, 2) and first.level == 1 - 0.05 / 2
    for one, other in zip(study.specs(rivals.CRLD), study.specs(rivals.WEIGHED), strict=True):
        assert one.model_copy(update={"method": "", "options": {}}) == other.model_copy(
            update={"method": "", "options": {}}
        )
        assert other.options["weight"] == "cosine"
    for noisy, quiet in zip(study.specs(rivals.TEKAP), study.specs(rivals.QUIET), strict=True):
        assert noisy.model_copy(update={"options": {**noisy.options, "noise": 0.0}}) == quiet
    assert not study.setting.profile.verdicts or study.planned(first) == study.planned(second) == 5


def test_every_rival_of_the_chapter_stores_no_more_than_kd():
    study = study_at("reference")
    methods = {arm.method for arm in study.arms.values()} - {"ce"}
    assert methods == {"kd", "ccd", "crld", "tekap", "ls", "dist"}
    assert all(METHODS[name].logits_only and not METHODS[name].head for name in methods)


def test_demonstrations_have_each_rival_once():
    labels = set(study_at("quick").arms)
    assert {rivals.CRLD, rivals.TEKAP, "standardised + JDA", "DIST + JDA"} <= labels
    assert not [label for label in labels if label.startswith(f"{rivals.CRLD},")]
