"""Runs of translation: equal work, terms that can be switched off, and the same bits after a stop."""

import pytest
import torch
from safetensors.torch import load_file

from kdlib.elsewhere.translation import SPEC, learner
from kdlib.elsewhere.translation.batches import Batches
from kdlib.elsewhere.translation.parallel import GRAMMAR, load_text
from kdlib.elsewhere.translation.spec import Terms
from kdlib.elsewhere.translation.spelling import BOS, EOS, PAD, speller_of
from kdlib.elsewhere.translation.training import learning_rate
from kdlib.lab.learning import fit
from kdlib.lab.results import WEIGHTS
from kdlib.lab.runs import execute
from kdlib.lab.stopping import Stop, StoppedError
from kdlib.lab.store import Store

from ...conftest import MACHINE

pytestmark = pytest.mark.usefixtures("isolated")
SMALL = {
    "data": GRAMMAR, "pieces": 400, "pairs": 20, "tested": 4, "width": 16, "layers": 1, "heads": 2, "epochs": 2,
    "pairs_per_step": 6, "warm_up": 4, "seed": 0, "machine": MACHINE,
}  # fmt: skip
TEACHER = SPEC(**SMALL | {"width": 24, "seed": 1})


def spec(teacher: bool = False, terms: dict | None = None, **fields) -> SPEC:
    return SPEC(**SMALL | fields, teacher=TEACHER if teacher else None, terms=Terms(**terms or {}))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What the teacher learnt."""
    folder = tmp_path_factory.mktemp("teacher")
    fit(TEACHER, folder, [None])
    return load_file(folder / WEIGHTS)


ALL = {"words": 1.0, "neighbours": 0.5, "consistency": 1.0, "k": 8, "tau": 10.0}


@pytest.mark.parametrize(
    "fields",
    [
        {"view": "bpe-dropout", "p": 0.3, "teacher": True, "terms": ALL},
        {"view": "replacement", "p": 0.3, "teacher": True, "terms": {"sequences": True}},
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, taught, fields) -> None:
    asked, request, known = spec(**fields), tmp_path / "request", [taught if "teacher" in fields else None]
    whole = fit(asked, tmp_path / "whole", known)

    def progress(step: int, steps: int) -> None:
        if step == 4:  # in the second epoch
            request.write_text("15")

    with pytest.raises(StoppedError, match="stopped at step 4 of 6"):
        fit(asked, tmp_path / "stopped", known, progress, Stop(request=request))
    torch.manual_seed(99)
    resumed = fit(asked, tmp_path / "stopped", known)
    assert resumed["bits"] == whole["bits"] and resumed["evaluations"] == whole["evaluations"]
    assert resumed["metrics"]["steps"] == 6 and resumed["metrics"]["views"] == asked.views == 72


def test_terms_that_weigh_nothing_and_views_of_no_strength_change_no_bit(taught, tmp_path) -> None:
    plain = fit(spec(), tmp_path / "plain", [None])
    for name, fields in {"dropout": {"view": "bpe-dropout"}, "replacement": {"view": "replacement"}}.items():
        assert fit(spec(**fields), tmp_path / name, [None])["bits"] == plain["bits"]
    words = fit(spec(True, {"words": 1.0}), tmp_path / "words", [taught])
    assert words["bits"] != plain["bits"] and words["metrics"]["mean_words"] > 0
    tiny = fit(spec(True, {"words": 1e-30}), tmp_path / "tiny", [taught])  # it moves no weight, and is counted
    assert tiny["metrics"]["bleu"] == plain["metrics"]["bleu"]
    assert tiny["metrics"]["mean_gmacs"] > plain["metrics"]["mean_gmacs"]


def test_a_teacher_that_is_the_student_teaches_nothing(taught) -> None:
    made = learner(spec(True, {"words": 1.0, "consistency": 1.0}, width=24, dropout=0.0), taught)
    made.module.load_state_dict(taught)
    found = made.step(0)
    assert found["words"].item() == pytest.approx(0, abs=1e-5)
    assert found["consistency"].item() == pytest.approx(0, abs=1e-5)


def test_a_first_stage_of_neighbours_holds_each_place_itself(taught) -> None:
    made = learner(spec(True, {"neighbours": 1.0, "k": 5}), taught)
    targets = [piece for target in made.batches.targets for piece in (*target, EOS)]
    assert made.near.pieces[:, 0].tolist() == targets and made.starts[-1] == len(targets)
    assert made.near.distances[:, 0].max() < 1e-2 < made.near.distances[:, 1].max()
    assert made.step(0)["neighbours"] > 0


def test_translations_of_the_teacher_stand_in_place_of_targets(taught) -> None:
    made, plain = learner(spec(True, {"sequences": True}), taught), learner(spec(), None)
    assert made.batches.targets != plain.batches.targets and len(made.batches.targets) == 20
    assert torch.equal(made.batches.order(1), plain.batches.order(1))  # sorted by the targets as they were


def test_arms_see_the_same_targets_step_by_step() -> None:
    pairs = load_text(GRAMMAR).train[:20]
    speller = speller_of(load_text(GRAMMAR).train, 400)
    views = [spec(), spec(view="bpe-dropout", p=0.3), spec(view="replacement", p=0.3)]
    first, *others = (Batches(s, pairs, speller) for s in views)
    for step in (0, 2, 4):
        batch = first.at(step)
        assert batch.target[:, 0].eq(BOS).all() and torch.equal(batch.target[:6], batch.target[6:])
        assert torch.equal(batch.labels[batch.target == PAD], batch.target[batch.target == PAD])
        for other in others:
            changed = other.at(step)
            assert torch.equal(changed.labels, batch.labels) and torch.equal(changed.ids, batch.ids)
            plain = batch.source.shape[1]
            assert torch.equal(changed.source[:6, :plain], batch.source[:6]) and changed.source[:6, plain:].eq(0).all()
            assert not torch.equal(changed.source[6:, :plain], batch.source[6:])
    for epoch in (0, 1):
        seen = first.order(epoch)
        assert len(seen.unique()) == 18 and seen.shape == (3, 6)
        spread = [first.lengths[ids].max() - first.lengths[ids].min() for ids in seen]
        assert sum(spread) < 2 * (first.lengths.max() - first.lengths.min())
    assert not torch.equal(first.order(0), first.order(1))


def test_the_teacher_is_run_first_and_stored() -> None:
    asked = spec(True, {"words": 1.0})
    for run in (TEACHER, asked):
        execute(run, "smoke")
    found = Store("smoke").get(asked)
    assert set(found.metrics) >= {"bleu", "chrf", "token_accuracy", "examples", "mean_gmacs", "views", "macs"}
    assert found.spec == asked and found.evaluations[-1]["bleu"] == found.metrics["bleu"]


def test_an_external_text_is_translated_at_the_end(tmp_path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for file in ("train.source", "train.target", "test.source", "test.target"):
        (folder / file).write_text("the dog\nthe cat\n")
    metrics = fit(spec(external=f"pairs:{folder}"), tmp_path / "run", [None])["metrics"]
    assert 0 <= metrics["external_bleu"] <= 100 and 0 <= metrics["external_chrf"] <= 100


def test_the_rate_rises_and_falls_with_the_root() -> None:
    made = spec(warm_up=10, learning_rate=1.0)
    rates = [learning_rate(made, step) for step in range(40)]
    assert rates[4] == pytest.approx(0.5) and max(rates) == rates[9] == 1 and rates[39] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"p": 0.1}, "p = 0.1 goes with no plain view"),
        ({"view": "echo"}, "view = 'echo' is not allowed"),
        ({"width": 15}, "width = 15 must be a multiple of 2 and of heads = 2"),
        ({"terms": {"words": 1.0}}, "a teacher goes with terms.words"),
        ({"teacher": True}, "a teacher goes with terms.words"),
        ({"teacher": True, "terms": {"words": 1.0}, "pieces": 300}, "teacher reads 'grammar' in 400 pieces; allowed"),
        ({"machine": MACHINE.model_copy(update={"precision": "bfloat16"})}, "'bfloat16' is too coarse"),
        ({"teacher": True, "terms": {"sequences": True, "neighbours": 1.0}}, "allowed is one"),
        ({"data": "cifar100"}, "data = 'cifar100' is unknown"),
    ],
)
def test_impossible_specs_are_refused(fields, said) -> None:
    with pytest.raises(ValueError, match=said):
        spec(**fields)


def test_too_few_pairs_are_refused_before_any_work() -> None:
    for pairs in (5, 10_000):
        with pytest.raises(ValueError, match=f"pairs = {pairs} are not possible; allowed are 6, .* to 2998"):
            spec(pairs=pairs).check()
