"""Chapter 23: students of other chapters, contrasts that were fixed before their runs, and nothing trained twice."""

import pytest

from kdlib.chapters import thresholds as chapter
from kdlib.chapters.registry import create_study
from kdlib.chapters.thresholds import drawing, shift_table
from kdlib.data.images import BUNDLED, load_data
from kdlib.lab.measurements import ThresholdsSpec
from kdlib.lab.store import Store
from kdlib.study.judging import contrasts_table, judge
from kdlib.study.setting import Setting
from kdlib.study.stats import Verdict
from kdlib.study.tables import contrast_interval, runs_frame
from kdlib.views.corruptions import KINDS, STRENGTHS

pytestmark = pytest.mark.usefixtures("isolated")
SCALES = ["smoke", "quick", "reference", "paper"]
SETS = ["test", *(f"{kind} {strength}" for kind in KINDS for strength in STRENGTHS)]


def study_at(scale: str, name: str = "23_thresholds", **options):
    return create_study(name, Setting.of(scale, device="cpu"), **options)


@pytest.fixture
def told(invented):
    """told({arm: threshold loss}, top1): a study and a store with invented results, which differ a little by seed."""

    def tell(losses: dict[str, float], scale: str = "reference", **top1):
        study, store = study_at(scale), Store(scale)
        for label in study.arms:
            for spec in study.specs(label):
                noise = 0.01 * ((spec.seed * 7 + 3 * len(label)) % 5)
                store.put(invented(spec, scale, top1=top1.get(label.replace(" ", "_"), 40.0) + noise))
                if label in losses:
                    row = dict.fromkeys((score for score, _, _ in shift_table.COLUMNS.values()), 0.5) | {"images": 9}
                    sets = {one: row | {"threshold_loss": losses[label] / 100} for one in SETS}
                    names = {c.metric for c in study.contrasts}
                    values = {name: losses[label] + noise for name in names} | {"auc": 90 + noise}
                    found = values | {"sets": sets, "threshold_images": 5000}
                    store.put(invented(study.measurements[chapter.name_of(label, spec.seed)], scale, **found))
        return study, Store(scale)

    return tell


@pytest.mark.parametrize("scale", SCALES)
def test_the_primary_contrast_is_fixed(scale):
    study = study_at(scale)
    (primary,) = (contrast for contrast in study.contrasts if contrast.primary)
    assert (primary.name, primary.weights, primary.says) == ("K1", {"JDA": 1, "weak2": -1}, "less")
    assert primary.metric == "threshold_loss" and primary.level == 0.95
    assert not study.setting.profile.verdicts or study.planned(primary) == 5
    assert study.contrasts[0] is primary
    second = study.contrasts[1]
    assert (second.weights, second.metric, second.primary) == ({"CCD": 1, "JDA": -1}, "threshold_loss", False)
    assert len({contrast.name for contrast in study.contrasts}) == len(study.contrasts)


@pytest.mark.parametrize("scale", ["smoke", "quick", "reference"])
def test_runs_are_those_of_other_chapters(scale):
    known = {spec.key for name in ("19_rivals", "20_which_images") for spec in study_at(scale, name).specs_to(4)}
    study = study_at(scale)
    assert {spec.key for label in study.arms for spec in study.specs(label)} <= known


def test_where_all_training_images_are_trained_on_the_students_leave_the_validation_split_out():
    for scale in SCALES:
        specs = [spec for label in chapter.MEASURED for spec in study_at(scale).specs(label)]
        assert {spec.validation for spec in specs} == {scale == "paper"}


@pytest.mark.parametrize("scale", SCALES)
def test_every_student_is_measured_in_float32(scale):
    study = study_at(scale)
    runs = {chapter.name_of(label, spec.seed): spec for label in chapter.MEASURED for spec in study.specs(label)}
    assert {name: spec.student for name, spec in study.measurements.items()} == runs
    for spec in study.measurements.values():
        assert isinstance(spec, ThresholdsSpec) and spec.machine.precision == "float32" and spec.external is None
        assert (spec.images is not None) == study.setting.profile.trains
    assert {arm.floor for label, arm in study.arms.items() if label in chapter.MEASURED} == {"no teacher"}


def test_an_external_set_is_asked_about_too(tiny):
    study = study_at("quick", external="cifar10")
    assert {spec.external for spec in study.measurements.values()} == {"cifar10"}
    assert {c.metric for c in study.contrasts} - {c.metric for c in study_at("quick").contrasts} == {
        "external_threshold_loss"
    }
    for external, words in (("cifar11", "data = 'cifar11' is unknown"), (tiny, "has images of 0 classes")):
        with pytest.raises(ValueError, match=words) as caught:  # tiny: folders class0 to class9
            study_at("quick", external=external)
        assert "\n" not in str(caught.value)


def test_contrasts_compare_what_was_measured_of_the_students(told):
    study, store = told({"weak2": 10, "JDA": 7, "CCD": 6.5})
    frame = runs_frame(study, store)
    found = {c.name: contrast_interval(c, frame) for c in study.contrasts}
    assert found["K1"].mean == pytest.approx(-3, abs=0.05) and found["K1"].n == 5
    assert found[f"{chapter.LOSS}: CCD - JDA"].mean == pytest.approx(-0.5, abs=0.05)
    assert found["AUC: JDA - weak2"].mean == pytest.approx(0, abs=0.05)  # another column


@pytest.mark.parametrize(
    ("jda", "word"), [(7, Verdict.SUPPORTED), (13, Verdict.CONTRADICTED), (10, Verdict.CONTRADICTED)]
)
def test_less_is_what_the_claim_says(told, jda, word):
    study, store = told({"weak2": 10, "JDA": jda, "CCD": 6.5}, no_teacher=30.0)
    frame = runs_frame(study, store)
    assert judge(study, study.contrasts[0], frame).verdict is word
    table = contrasts_table(study, frame)
    assert table.loc[f"K1: {chapter.LOSS}: JDA - weak2", "verdict"] == str(word)


def test_a_student_below_its_floor_takes_the_verdict_away(told):
    study, store = told({"weak2": 10, "JDA": 7, "CCD": 6.5}, no_teacher=45.0)
    judged = judge(study, study.contrasts[0], runs_frame(study, store))
    assert (judged.rule, judged.verdict) == (Verdict.SUPPORTED, Verdict.NOT_TESTED)


def test_runs_without_measurements_are_not_measured(told):
    study, store = told({})
    frame = runs_frame(study, store)
    assert len(frame) == 20 and contrast_interval(study.contrasts[0], frame).n == 0
    assert judge(study, study.contrasts[0], frame).verdict is Verdict.NOT_MEASURED
    students = shift_table.found(study, dict.fromkeys(study.measurements))
    assert shift_table.sets_table(students).empty
    assert shift_table.split_text(students) == shift_table.chance_text(students) == "not measured"


def test_tables_and_figures_show_the_means(told, strict_figures):
    study, store = told({"weak2": 10, "JDA": 7})
    measured = {name: (r.metrics if (r := store.get(spec)) else None) for name, spec in study.measurements.items()}
    students = shift_table.found(study, measured)
    table = shift_table.sets_table(students)
    assert list(table.index) == [(s, a) for s in ("test", "noise 3", "blur 3", "contrast 3") for a in ("weak2", "JDA")]
    assert table.loc[("blur 3", "JDA"), "threshold loss"] == "7.00" and table.loc[("test", "weak2"), "AUC"] == "0.500"
    assert shift_table.split_text(students) == "5,000 images"
    figure = drawing.by_strength(students)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[3].lines}
    assert lines == {"weak2": pytest.approx([10] * 4), "JDA": pytest.approx([7] * 4)}
    assert [axis.get_title() for axis in figure.axes[:3]] == list(KINDS)
    assert len(drawing.by_strength({"weak2": []}).axes[0].texts) == 1
    figure = drawing.corrupted(load_data(BUNDLED).test, 3)
    assert len(figure.axes) == 3 * len(SETS)
    assert drawing.by_measure(students).picture("ECE").startswith(b"\x89PNG")
