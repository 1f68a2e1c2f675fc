"""Chapter 25: students that differ in view and terms alone, with contrasts fixed before any run."""

import numpy as np
import pytest

from kdlib.chapters import taxonomy
from kdlib.chapters.registry import create_study
from kdlib.chapters.translation import (
    ALIKE,
    BESIDE,
    ENCODER,
    FEWER,
    INTERACTION,
    LABELS,
    NEIGHBOURS,
    SCARCE,
    SEQUENCES,
    TEACHING,
    TEXT,
    UNTRANSLATED,
    VIEWS,
    arms_table,
    drawing,
    label,
    planned,
)
from kdlib.elsewhere.translation.parallel import FILES
from kdlib.elsewhere.translation.spec import TranslationSpec
from kdlib.lab.store import Store
from kdlib.notebook import Session
from kdlib.study.judging import judge
from kdlib.study.setting import Setting
from kdlib.study.tables import contrast_interval, not_run, runs_frame

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("isolated")
SCALES = ["smoke", "quick", "reference", "paper"]
SPELT, PLAIN = "BPE-dropout 0.1, KD", "plain, KD"
EXAMPLES = [{"source": "a", "reference": "b", "translation": "c"}]


def study_at(scale: str, **options):
    return create_study("25_translation", Setting.of(scale, device="cpu"), **options)


@pytest.fixture
def told(invented):
    """told({arm: BLEU}): a study and a store with invented results, which differ a little by seed and by arm."""

    def tell(values: dict[str, float], spread: float = 0.2):
        study, store = study_at("reference"), Store("reference")
        for k, (arm, value) in enumerate(values.items()):
            specs = study.measured(arm)
            for spec, noise in zip(specs.values(), np.roll(np.linspace(-1, 1, len(specs)), k), strict=True):
                bleu = value + spread * float(noise)
                metrics = {"bleu": bleu, "chrf": 2 * bleu, "token_accuracy": 50.0, "external_bleu": bleu / 2}
                metrics |= {"examples": EXAMPLES, "pairs": 2500, "mean_gmacs": 2.0, "views": 80_000, "steps": 1248}
                store.put(invented(spec, "reference", **metrics))
        return study, Store("reference")

    return tell


@pytest.mark.parametrize("scale", SCALES)
def test_the_primary_contrast_is_fixed(scale):
    study = study_at(scale)
    (primary,) = (contrast for contrast in study.contrasts if contrast.primary)
    assert study.contrasts[0] is primary and (primary.name, primary.says) == ("M1", "better")
    assert primary.weights == {SPELT: 1, PLAIN: -1}
    assert (primary.metric, primary.margin, primary.level) == ("bleu", 0.5, 0.95)
    assert study.planned(primary) == (5 if study.setting.profile.verdicts else 1)
    second = study.contrast(INTERACTION)
    assert second.weights == {SPELT: 1, PLAIN: -1, "BPE-dropout 0.1, labels": -1, "plain, labels": 1}
    metrics = {c.metric for c in study.contrasts if c.weights == primary.weights}
    external = {"external_bleu"} if study.setting.profile.verdicts else set()
    assert metrics == {"bleu", "chrf", "token_accuracy"} | external


def test_the_floor_is_a_student_of_labels_of_as_many_pairs():
    study = study_at("reference")
    floors = {name: arm.floor for name, arm in study.arms.items()}
    assert floors[label("plain", "KD")] == floors[label("BPE-dropout 0.1", "KD")] == label("plain", LABELS)
    few = {name: floor for name, floor in floors.items() if f"1/{SCARCE} of" in name and floor}
    assert set(few.values()) == {label("plain", LABELS, SCARCE)} and label("plain", "KD", SCARCE) in few
    assert all(floors[name] is None for name in floors if f", {LABELS}" in name or "1/2 of" in name)
    assert {arm.metric for arm in study.arms.values()} == {"bleu"}
    assert {arm.floor for arm in study_at("quick").arms.values()} == {None}


@pytest.mark.parametrize("share", ["0.1", "0.3"])
def test_replacement_is_asked_with_and_without_a_teacher(share):
    view = f"replacement {share}"
    contrast = study_at("reference").contrast(f"{view} x teacher")
    assert contrast.weights == {
        f"{view}, KD": 1, "plain, KD": -1, f"{view}, labels": -1, "plain, labels": 1,
    }  # fmt: skip


def test_the_table_counts_what_is_done_before_the_first_step(told):
    """The steps are as dear in all of these invented runs."""
    names = (label("plain", LABELS), label("plain", NEIGHBOURS), label("plain", SEQUENCES))
    study, store = told(dict.fromkeys(names, 20.0))
    table = arms_table.table(study, store)
    assert list(table.index) == list(names)
    first = [float(value) for value in table["TMACs"]]
    assert first[0] == pytest.approx(1248 * 2e-3, rel=1e-2) and min(first[1:]) > 1.2 * first[0]
    weights = [float(value) for value in table["training MB"]]
    assert weights[1] - weights[2] == pytest.approx(2500 * 23 * 64 * 12 / 1e6, abs=0.02) and weights[2] > weights[0]


@pytest.mark.parametrize("scale", SCALES)
def test_students_differ_in_view_and_terms_alone(scale):
    study = study_at(scale)
    asked = planned(study.setting)
    assert list(study.arms) == [label(*one) for one in asked]
    by_seed: dict[int, list[TranslationSpec]] = {}
    for arm, (view, taught, divisor) in zip(study.arms, asked, strict=True):
        assert study.specs(arm) == [] and study.tier(arm) == 3
        for seed, spec in study.measured(arm).items():
            assert spec.seed == seed and (spec.view, spec.p) == VIEWS[view]
            assert spec.terms == {**TEACHING, **BESIDE}[taught]
            assert (spec.teacher is None) == (taught in (LABELS, ALIKE))
            if divisor == 1:
                by_seed.setdefault(seed, []).append(spec)
    assert len(by_seed) == (1 if study.setting.profile.trains else 5)
    for specs in by_seed.values():
        alike = {repr(spec.model_dump(exclude={"view", "p", "terms", "teacher"})) for spec in specs}
        assert len(alike) == 1 and len({spec.key for spec in specs}) == len(specs)
        assert len({spec.views for spec in specs}) == 1
    teachers = {spec.teacher.key: spec.teacher for specs in by_seed.values() for spec in specs if spec.teacher}
    (teacher,), one = teachers.values(), specs[0]
    assert teacher.view == "plain" and teacher.teacher is None and teacher.width > one.width
    assert (teacher.data, teacher.pieces) == (one.data, one.pieces)


def test_reference_is_what_was_planned():
    study = study_at("reference")
    spec = study.measurements[f"{SPELT}, seed 3"]
    assert (spec.data, spec.external, spec.pairs, spec.epochs) == ("help-texts", "manuals", 2500, 16)
    assert (spec.pieces, spec.width, spec.layers, spec.learning_rate, spec.warm_up) == (4000, 96, 2, 2e-3, 400)
    teacher = spec.teacher
    assert (teacher.width, teacher.layers, teacher.learning_rate, teacher.pairs) == (192, 3, 1e-3, 20_000)
    assert study.data == "help-texts" and study_at("quick").data == "grammar"
    assert len(study.all_specs) == 4 * 5 + 11 * 3 + 4 * 3 + 5 * 3 and study.specs_to(2) == []
    assert not_run(study, runs_frame(study, Store("reference"))).splitlines()[0].endswith(" h of one core).")
    said = Session(study, "gap", "COMMAND").gap("This").data
    assert said == "*This: needs the data set `help-texts` and the runs of this chapter.* `COMMAND`"


@pytest.mark.parametrize("scale", ["reference", "paper"])
def test_students_of_fewer_pairs_are_presented_with_as_many(scale):
    study = study_at(scale)
    for view in ("plain", "BPE-dropout 0.1"):
        whole = study.measurements[f"{label(view, 'KD')}, seed 1"]
        for divisor in FEWER:
            few = study.measurements[f"{label(view, 'KD', divisor)}, seed 1"]
            assert (few.pairs * divisor, few.epochs) == (whole.pairs, whole.epochs * divisor)
            assert abs(few.views - whole.views) < whole.epochs * divisor * 2 * whole.pairs_per_step  # whole steps
            same = {"pairs", "epochs"}
            assert few.model_dump(exclude=same) == whole.model_dump(exclude=same)
        curve = study.series[view]
        assert list(curve.values()) == [whole.pairs // 5, whole.pairs // 2, whole.pairs] and set(curve) <= set(
            study.arms
        )
    assert study_at("quick").series == {}


@pytest.mark.parametrize("scale", ["reference", "paper"])
def test_text_without_translations_is_that_of_the_pairs_that_are_not_there(scale):
    study = study_at(scale)

    def of(view: str, taught: str, seed: int = 1) -> TranslationSpec:
        return study.measurements[f"{label(view, taught, SCARCE)}, seed {seed}"]

    whole, alone = study.measurements["plain, labels, seed 1"], of("plain", LABELS)
    fewer = study.measurements[f"{label('plain', 'KD', SCARCE)}, seed 1"]
    assert (alone.pairs, alone.epochs, alone.untranslated) == (fewer.pairs, fewer.epochs, 0)
    for view in ("plain", "BPE-dropout 0.1"):
        text, term = of(view, TEXT), of(view, ENCODER)
        assert text.teacher == term.teacher == alone  # it has read no other pair
        assert alone.teacher is None and alone.seed == text.seed == 1
        assert (text.pairs, text.pairs + text.untranslated, text.epochs) == (alone.pairs, whole.pairs, whole.epochs)
        assert (text.steps, text.views) == (whole.steps, whole.views) == (term.steps, term.views)
        assert abs(alone.views - text.views) < alone.epochs * 2 * alone.pairs_per_step  # whole steps
        assert text.model_dump(exclude={"terms"}) == term.model_dump(exclude={"terms"})
        assert (text.terms.encoder, term.terms.encoder) == (0, 1) and term.macs > text.macs > alone.macs
    arms = {label(*one, SCARCE) for one in UNTRANSLATED}
    own = [contrast for contrast in study.contrasts if set(contrast.weights) & arms]
    assert max(len(contrast.title) for contrast in own) <= 67  # longer ones leave a forest no room
    assert len(own) == 5 and not any(contrast.primary for contrast in own)
    assert all(study.tier(arm) == 3 for arm in arms)
    assert {arm for contrast in own for arm in contrast.weights} == arms <= set(study.arms)
    assert not arms & set(study_at("quick").arms)


@pytest.mark.usefixtures("strict_figures")
def test_a_line_for_each_spelling_stands_at_the_means(told):
    values = {
        label(view, "KD", d): 4.0 * k + 2 * d for k, view in enumerate(("plain", "BPE-dropout 0.1")) for d in (1, 5)
    }
    study, store = told(values)
    plain, spelt = drawn(drawing.by_pairs(study, runs_frame(study, store))).axes[0].lines
    assert (list(plain.get_xdata()), list(spelt.get_xdata())) == ([500, 2500], [500, 2500])
    np.testing.assert_allclose([*plain.get_ydata(), *spelt.get_ydata()], [10, 2, 14, 6])
    assert texts(drawing.by_pairs(study_at("paper"), runs_frame(study_at("paper"), Store("paper")))) == ["not measured"]


def test_the_taxonomy_says_what_becomes_of_a_sentence():
    arms = study_at("reference").arms
    assert taxonomy._view(arms[SPELT]) == "a sentence and another spelling of it"
    assert taxonomy._view(arms[PLAIN]) == "a sentence, twice" and arms[SPELT].taxonomy.task == "translation"


def test_a_text_of_ones_own_takes_the_place_of_the_profiles(tmp_path):
    for file in FILES:
        (tmp_path / file).write_text("the dog\n" * 70)
    study = study_at("reference", text=f"pairs:{tmp_path}")
    specs = list(study.measurements.values())
    assert {spec.data for spec in [*specs, *(s.teacher for s in specs if s.teacher)]} == {f"pairs:{tmp_path}"}
    assert {spec.pairs for spec in specs} == {70}
    assert {spec.external for spec in specs} == {None} and "external_bleu" not in {c.metric for c in study.contrasts}
    with pytest.raises(ValueError, match="data = 'cifar100' is unknown; allowed are grammar"):
        study_at("quick", text="cifar100")


def test_contrasts_are_judged_with_their_margin(told):
    study, store = told({PLAIN: 12, SPELT: 12.4, "plain, labels": 10, "BPE-dropout 0.1, labels": 11}, spread=0.1)
    frame, primary = runs_frame(study, store), study.contrasts[0]
    assert contrast_interval(primary, frame).mean == pytest.approx(0.4)
    assert judge(study, primary, frame).word == "supported"
    assert contrast_interval(study.contrast(INTERACTION), frame).mean == pytest.approx(-0.6)
    assert contrast_interval(study.contrast("M1, BLEU on the manuals"), frame).mean == pytest.approx(0.2)


def test_tables_hold_means_and_cost(told):
    study, store = told({PLAIN: 12, SPELT: 13})
    table = arms_table.table(study, store)
    assert list(table.index) == [PLAIN, SPELT]
    assert list(table.loc[SPELT, ["BLEU", "chrF", "BLEU on the manuals", "views", "TMACs", "n"]]) == [
        "13.00", "26.00", "6.50", "80,000", "2.5", "5",
    ]  # fmt: skip
    assert arms_table.examples(study, store).to_dict("records") == EXAMPLES
    empty, nothing = study_at("paper"), Store("paper")
    assert arms_table.table(empty, nothing).empty and arms_table.examples(empty, nothing).empty


@pytest.mark.usefixtures("strict_figures")
def test_bars_stand_at_the_means(told):
    study, store = told({PLAIN: 12, "replacement 0.3, labels": 9})
    figure = drawn(drawing.grid(runs_frame(study, store)))
    bars = sorted((round(b.get_x() + b.get_width() / 2, 2), round(b.get_height(), 2)) for b in figure.axes[0].patches)
    assert bars == [(0.2, 12.0), (0.8, 9.0)]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["plain", "replacement 0.3"]
    nothing = study_at("paper")
    assert texts(drawing.grid(runs_frame(nothing, Store("paper")))).count("not measured") == 1


@pytest.mark.usefixtures("strict_figures")
def test_a_sentence_is_shown_in_three_spellings():
    rows = drawing.spellings()
    said = {"".join(pieces) for pieces in rows.values()}
    assert len(said) == 1 and len({tuple(pieces) for pieces in rows.values()}) == 3
    shown = texts(drawing.spelt(rows))
    assert shown == [piece.strip() for pieces in rows.values() for piece in pieces]
