"""Chapter 16: candidates differ in what is asked, both arms of one in their views alone, and no test image counts."""

import pytest
import torch

from kdlib.chapters.registry import create_study
from kdlib.chapters.sizing import CANDIDATES, QUESTIONS, VIEWS, label_of
from kdlib.data.sampling import training_ids, validation_ids
from kdlib.lab.forecasts import training_images
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")
ASKED = {
    "images x views of each": {"images", "views"}, "learning rate": {"rate"}, "views in a step": {"rate", "step"},
    "student": {"student"}, "views of an image": {"views"},
}  # fmt: skip


@pytest.fixture(scope="module")
def study():
    return create_study("16_sizing", Setting.of("reference", device="cpu"))


def fields(study, candidate: str) -> dict:
    spec = study.specs(label_of(candidate, "weak2"))[0]
    recipe = spec.recipe
    return {
        "images": training_images(spec), "views": recipe.views_per_image, "rate": recipe.learning_rate,
        "student": spec.student, "step": recipe.views_per_step,
    }  # fmt: skip


@pytest.mark.parametrize("scale", ["smoke", "quick", "reference", "paper"])
def test_both_arms_of_a_candidate_differ_in_their_views_alone(scale):
    study = create_study("16_sizing", Setting.of(scale, device="cpu"))
    names = dict.fromkeys(label.rsplit(": ", 1)[0] for label in study.arms)
    assert list(study.arms) == [label_of(name, view) for name in names for view in VIEWS]
    for name in names:
        plain, jda = (study.specs(label_of(name, view)) for view in VIEWS)
        assert [spec.model_copy(update={"policy": VIEWS["JDA"]}) for spec in plain] == jda
        assert all(spec.method == "kd" and spec.validation for spec in plain)


def test_candidates_are_what_they_are_said_to_be(study):
    assert {name: tuple(fields(study, name).values()) for name in CANDIDATES} == CANDIDATES


def test_candidates_of_a_question_differ_from_the_centre_in_what_is_asked(study):
    assert set(ASKED) == set(QUESTIONS)
    centre = fields(study, "centre")
    for question, names in QUESTIONS.items():
        assert "centre" in names and len(set(names)) == len(names)
        for name in names:
            own = fields(study, name)
            assert {field for field in own if own[field] != centre[field]} <= ASKED[question]
    amounts = {fields(study, n)["images"] * fields(study, n)["views"] for n in QUESTIONS["images x views of each"]}
    assert len(amounts) == 1


def test_no_image_that_is_measured_on_is_trained_on(study):
    labels = torch.arange(50_000) % 100
    held = validation_ids(labels)
    assert len(held) == 5_000
    for arm in study.arms:
        spec = study.specs(arm)[0]
        ids = training_ids(labels, spec.seed, spec.fraction, spec.pool, spec.validation, spec.part)
        assert not torch.isin(ids, held).any()


def test_every_profile_shows_it_and_only_small_ones_train_their_own():
    seen = {}
    for scale in ("smoke", "quick", "reference", "paper"):
        study = create_study("16_sizing", Setting.of(scale, seeds=[3], device="cpu"))
        seen[scale] = {arm: study.specs(arm) for arm in study.arms}
        assert all(spec.seed == 3 for specs in seen[scale].values() for spec in specs)
    assert seen["paper"] == seen["reference"]
    for scale in ("smoke", "quick"):
        rates = [spec[0].recipe.learning_rate for spec in seen[scale].values()]
        assert len(rates) == 4 and rates[0] == 2 * rates[2]
