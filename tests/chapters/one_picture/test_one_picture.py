"""CCD in one picture: runs of other chapters, drawn with what they cost."""

import pytest
from matplotlib.collections import PathCollection

from kdlib.chapters.findings import finding
from kdlib.chapters.one_picture import CCD, DKD, HSAKD, JDA, MEAN, PLAIN, SAID, picture
from kdlib.chapters.registry import create_study
from kdlib.lab.forecasts import run_cost
from kdlib.lab.store import Store
from kdlib.study.cost_tables import head_run
from kdlib.study.setting import Setting
from kdlib.study.shared_arms import NO_TEACHER
from kdlib.study.tables import runs_frame
from tests.conftest import drawn, texts

BELOW = {NO_TEACHER: [50, 51, 52], HSAKD: [40, 41, 42.5]}  # a student that did not train


def study_at(scale: str):
    return create_study("28_one_picture", Setting.of(scale, device="cpu"))


@pytest.fixture
def frame_of(isolated, invented):
    """frame_of(accuracies): the frame of a store in which arms have these at profile reference, for seeds 0, 1, ..."""

    def filled(accuracies):
        study, store = study_at("reference"), Store("reference")
        for arm, values in accuracies.items():
            for spec, top1 in zip(study.specs(arm), values, strict=False):
                store.put(invented(spec, "reference", top1=top1))
        return runs_frame(study, Store("reference"))

    return filled


@pytest.mark.parametrize("scale", ["smoke", "quick", "reference", "paper"])
def test_it_trains_nothing_that_other_chapters_do_not(scale):
    study = study_at(scale)
    others = [create_study(name, study.setting) for name in ("08_cosine_confidence", "09_ccd_versus_hsakd")]
    assert {spec.key for spec in study.all_specs} <= {spec.key for other in others for spec in other.all_specs}
    assert set(study.arms) == {NO_TEACHER, *SAID}
    assert not any(contrast.primary for contrast in study.contrasts)


def test_lines_count_what_training_keeps_and_computes(frame_of):
    study = study_at("reference")
    shown = picture.lines(study, frame_of(BELOW))
    for arm, line in shown.items():
        cost = run_cost(study.specs(arm)[0])
        assert (line.megabytes, line.tmacs) == (cost.training_bytes / 1e6, cost.run_macs / 1e12)
    assert shown[CCD].megabytes == shown[JDA].megabytes == shown[MEAN].megabytes == shown[DKD].megabytes
    assert shown[HSAKD].first == run_cost(head_run(study.specs(HSAKD)[0])).run_macs / 1e12 > 0
    assert {arm for arm, line in shown.items() if line.first} == {HSAKD}
    assert {arm for arm, line in shown.items() if line.below} == {HSAKD}


@pytest.mark.usefixtures("strict_figures")
@pytest.mark.parametrize("accuracies", [{}, {CCD: [60]}, BELOW, BELOW | {CCD: [60, 61, 62.5], PLAIN: [55, 56, 57]}])
def test_the_picture_is_drawn_from_whatever_is_there(frame_of, accuracies):
    study = study_at("reference")
    shown = picture.lines(study, frame_of(accuracies))
    figure = picture.draw(shown, NO_TEACHER)
    assert texts(figure).count("not measured") == len(study.arms) - len(accuracies)
    assert [label.get_text() for label in drawn(figure).axes[0].get_yticklabels()] == list(shown)
    points = [mark for mark in figure.axes[0].collections if isinstance(mark, PathCollection)]
    assert len(points) == len(accuracies)
    assert sum(tuple(mark.get_facecolor()[0]) == (1, 1, 1, 1) for mark in points) == (HSAKD in accuracies)


def test_the_sentence_follows_from_the_runs(frame_of):
    study = study_at("reference")
    pairs = {CCD: [60, 61, 62.5], JDA: [59, 60, 61.4], MEAN: [60, 61.5, 62], DKD: [63, 64, 65.6]}
    text = finding(study, frame_of(BELOW | pairs))
    assert text.startswith("**CCD in one sentence**: it is ahead of KD on its views: +1.03 points [")
    assert "is not told apart from a constant weight of the same total" in text
    assert "is behind DKD on its views: -3.03 points" in text
    assert "HSAKD (not trained enough to compare) 16.66 MB" in text


def test_without_runs_there_is_no_sentence(frame_of):
    assert finding(study_at("reference"), frame_of({})).endswith("is not measured at this profile.")
