"""Text without translations: its base writes the targets, and a moving average of the student says what it reads."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdlib.elsewhere.translation import SPEC, learner, training
from kdlib.elsewhere.translation.batches import Batches
from kdlib.elsewhere.translation.decoding import longest
from kdlib.elsewhere.translation.network import Translator, pair_macs
from kdlib.elsewhere.translation.parallel import GRAMMAR, Parallel, load_text
from kdlib.elsewhere.translation.spec import BEAM, LENGTHS, Terms
from kdlib.elsewhere.translation.spelling import BOS, EOS, PAD, speller_of
from kdlib.lab.learning import fit
from kdlib.lab.results import WEIGHTS
from kdlib.lab.runs import run_all
from kdlib.lab.stopping import Stop, StoppedError
from kdlib.lab.store import Store

from ...conftest import MACHINE

pytestmark = pytest.mark.usefixtures("isolated")
SMALL = {
    "data": GRAMMAR, "pieces": 400, "tested": 4, "width": 16, "layers": 2, "heads": 2, "pairs_per_step": 6,
    "warm_up": 4, "seed": 0, "machine": MACHINE,
}  # fmt: skip
BASE = SPEC(**SMALL, pairs=8, epochs=40)
SPELT = {"view": "bpe-dropout", "p": 0.3}


def spec(encoder: float = 1.0, terms: dict | None = None, **fields) -> SPEC:
    given = {"pairs": 8, "untranslated": 12, "epochs": 2, "teacher": BASE}
    return SPEC(**SMALL | given | fields, terms=Terms(encoder=encoder, **terms or {}))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What the base learnt."""
    folder = tmp_path_factory.mktemp("base")
    fit(BASE, folder, [None])
    return load_file(folder / WEIGHTS)


def written_slowly(network: Translator, source: list[int]) -> list[int]:
    """Greedy decoding of one sentence that reads all of its beginning anew for each piece."""
    pieces: list[int] = []
    while len(pieces) < longest(len(source)):
        piece = network(torch.tensor([source]), torch.tensor([[BOS, *pieces]]))[0, -1].argmax().item()
        if piece == EOS:
            break
        pieces.append(piece)
    return pieces


def test_its_targets_are_greedy_translations_of_the_base(base) -> None:
    made = learner(spec(), base)
    network = Translator(BASE.shape(len(made.speller)), 0.0).eval()
    network.load_state_dict(base)
    text = load_text(GRAMMAR).train[:20]
    assert made.batches.texts == [source for source, _ in text]
    assert made.batches.targets[:8] == [made.speller.plain(target) for _, target in text[:8]]
    with torch.no_grad():
        assert made.batches.targets[8:] == [written_slowly(network, ids) for ids in made.batches.sources[8:]]
    assert len({tuple(ids) for ids in made.batches.targets[8:]}) > 1
    several = learner(spec(0.0, {"sequences": True}), base)
    assert several.batches.targets[8:] == made.batches.targets[8:]
    assert several.batches.targets[:8] != made.batches.targets[:8]


def with_other_targets(numbers: range) -> Parallel:
    """The grammar with other targets for the training pairs of some numbers."""
    text = load_text(GRAMMAR)
    train = [(source, "Nein." if i in numbers else target) for i, (source, target) in enumerate(text.train)]
    return Parallel(GRAMMAR, tuple(train), text.test)


def test_translations_that_it_is_without_are_not_read(base, tmp_path, monkeypatch) -> None:
    """But by the vocabulary, which all runs of a text share: here it is held."""
    asked, text = spec(**SPELT), load_text(GRAMMAR)
    expected = fit(asked, tmp_path / "as it is", [base])["bits"]
    speller = speller_of(text.train, 400)
    monkeypatch.setattr(training, "speller_of", lambda pairs, size: speller)
    for name, numbers, same in (("others", range(8, 20), True), ("own", range(8), False)):
        changed = with_other_targets(numbers)
        monkeypatch.setattr(training, "load_text", lambda name, changed=changed: changed)
        assert (fit(asked, tmp_path / name, [base])["bits"] == expected) is same


def test_the_term_is_zero_where_both_passes_are_one(base) -> None:
    alike = learner(spec(dropout=0.0, terms={"average": 0.0}), base)
    found = [alike.step(number)["encoder"].item() for number in range(3)]
    assert found == pytest.approx([0, 0, 0], abs=1e-9)
    late = learner(spec(dropout=0.0), base)  # the average is left behind
    assert late.step(0)["encoder"].item() == pytest.approx(0, abs=1e-9) and late.step(1)["encoder"] > 1e-5
    for other in (spec(terms={"average": 0.0}), spec(dropout=0.0, terms={"average": 0.0}, **SPELT)):
        assert learner(other, base).step(0)["encoder"] > 1e-5  # other dropout, another spelling


def test_the_term_is_of_sentences_without_translations_alone(base) -> None:
    made = learner(spec(pairs=18, untranslated=2, dropout=0.0, encoder=0.7), base)
    seen = []
    for number in range(3):
        batch, student, average = made.batches.at(number), *(copy.deepcopy(n).eval() for n in made.module)
        rows = (batch.ids >= 18).repeat(2)
        with torch.no_grad():
            h, mean = (_units(network, batch.source) for network in (student, average))
        expected = 0.7 * np.square(h - mean)[rows.numpy()].sum(1).mean() if rows.any() else 0.0
        assert made.step(number)["encoder"].item() == pytest.approx(expected, rel=1e-3, abs=1e-9)
        seen.append(rows.sum().item())
    assert sum(seen) <= 4 and 0 in seen and max(seen) > 0


def _units(network: Translator, source: torch.Tensor) -> np.ndarray:
    """The states of each sentence, read alone and without padding: their mean, of unit length, in double precision."""
    means = [network.double().encode(ids[ids != PAD][None])[0].mean(0).numpy() for ids in source]
    return np.stack([mean / np.linalg.norm(mean) for mean in means])


def test_the_average_follows_its_closed_form_and_is_not_trained(base) -> None:
    made = learner(spec(terms={"average": 0.9}), base)
    weights = [[w.detach().double() for w in made.student.parameters()]]
    for number in range(5):
        made.step(number)
        weights.append([w.detach().double().clone() for w in made.student.parameters()])
    shares = [0.9**5, *(0.1 * 0.9 ** (5 - n) for n in range(1, 6))]
    assert sum(shares) == pytest.approx(1)
    for k, mean in enumerate(made.average.parameters()):
        expected = sum(share * some[k] for share, some in zip(shares, weights, strict=True))
        torch.testing.assert_close(mean.double(), expected, rtol=1e-4, atol=1e-6)
        assert mean.grad is None and not mean.requires_grad
    trained = {id(w) for group in made.optimiser.param_groups for w in group["params"]}
    assert trained == {id(w) for w in made.student.parameters()}


def test_the_average_reads_the_same_sentences_by_draws_of_its_own() -> None:
    pairs = load_text(GRAMMAR).train
    speller = speller_of(pairs, 400)
    further = [(source, speller.plain(target)) for source, target in pairs[8:20]]
    for fields in ({}, SPELT, {"view": "replacement", "p": 0.3}):
        batches, differs = Batches(spec(**fields), pairs[:8], speller, further), False
        for step in (0, 2, 3):
            batch, again = batches.at(step), batches.again(step)
            rows = (batch.ids >= 8).repeat(2)
            first, second = (
                [[i for i in ids if i != PAD] for ids in some.tolist()] for some in (batch.source[rows], again)
            )
            count = len(first) // 2
            assert len(second) == 2 * count > 0 and first[:count] == second[:count]
            if fields != {"view": "replacement", "p": 0.3}:
                assert [speller.text(ids) for ids in first] == [speller.text(ids) for ids in second]
            differs |= first[count:] != second[count:]
            assert torch.equal(again, batches.again(step))
        assert differs is bool(fields)


@pytest.mark.parametrize("fields", [SPELT, {"view": "replacement", "p": 0.3, "terms": {"words": 1.0}}])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, base, fields) -> None:
    asked, request = spec(**fields), tmp_path / "request"
    whole = fit(asked, tmp_path / "whole", [base])

    def progress(step: int, steps: int) -> None:
        if step == 4:  # in the second epoch
            request.write_text("15")

    with pytest.raises(StoppedError, match="stopped at step 4 of 6"):
        fit(asked, tmp_path / "stopped", [base], progress, Stop(request=request))
    torch.manual_seed(99)
    resumed = fit(asked, tmp_path / "stopped", [base])
    assert resumed["bits"] == whole["bits"] and resumed["evaluations"] == whole["evaluations"]
    assert resumed["metrics"]["mean_encoder"] > 0
    assert (resumed["metrics"]["pairs"], resumed["metrics"]["untranslated"]) == (8, 12)
    assert set(load_file(tmp_path / "whole" / WEIGHTS)) == set(base)  # the student alone is kept


def test_the_average_is_needed_for_those_bits(tmp_path, base, monkeypatch) -> None:
    """Without the term other bits; and where the average stood still, too."""
    expected = fit(spec(), tmp_path / "whole", [base])["bits"]
    assert fit(spec(0.0), tmp_path / "zero", [base])["bits"] != expected
    monkeypatch.setattr(training, "move", lambda average, network, kept: None)
    assert fit(spec(), tmp_path / "still", [base])["bits"] != expected


def test_a_run_without_the_term_is_that_of_its_pairs_and_of_what_was_written(base) -> None:
    zero, term = learner(spec(0.0), base), learner(spec(), base)
    assert zero.module is zero.student and "encoder" not in zero.step(0)
    for number in range(3):
        ours, others = zero.batches.at(number), term.batches.at(number)
        assert all(torch.equal(a, b) for a, b in zip(ours, others, strict=True))


def encoder_by_hand(spec: SPEC, length: int) -> int:
    """Of one sentence: four linear layers, two of the block, scores and sums of attention; in each layer."""
    d = spec.width
    return spec.layers * (length * (4 * d * d + d * 4 * d + 4 * d * d) + length * length * d + length * length * d)


def test_cost_is_the_sum_by_hand(base) -> None:
    asked, zero = spec(**SPELT), spec(0.0, **SPELT)
    source, target = LENGTHS[GRAMMAR]
    shape = asked.shape(400)
    assert (zero.steps, zero.views) == (6, 72)
    decoding = 12 * pair_macs(BASE.shape(400), source, target)
    assert zero.macs == 3 * 72 * pair_macs(shape, source, target) + decoding
    assert asked.macs - zero.macs == 72 * 12 // 20 * encoder_by_hand(asked, source)
    both = spec(0.0, {"sequences": True})
    assert both.macs - zero.macs == BEAM * 8 * pair_macs(BASE.shape(400), source, target)
    made, plain = learner(asked, base), learner(zero, base)
    own, sentences = made.student.shape, 0
    for number in range(3):
        batch, second = made.batches.at(number), 0
        student = len(batch.source) * 3 * pair_macs(own, batch.source.shape[1], batch.target.shape[1])
        if count := (batch.ids >= 8).sum().item():
            again = made.batches.again(number)
            second, sentences = 2 * count * encoder_by_hand(asked, again.shape[1]), sentences + count
            assert len(again) == 2 * count
        assert made.step(number)["gmacs"].item() == pytest.approx((student + second) / 1e9, rel=1e-5)
        assert plain.step(number)["gmacs"].item() == pytest.approx(student / 1e9, rel=1e-5)
    assert sentences >= 10  # of 12: two of 20 fill no step


def test_the_base_is_run_first_and_once() -> None:
    asked = [spec(), spec(0.0), BASE]
    results = run_all(asked, "smoke")
    assert [found.spec for found in results] == asked
    assert {path.name for path in Store("smoke").runs.glob("[!.]*")} == {one.key for one in asked}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"teacher": None}, "a teacher goes with .* or untranslated, and those with one"),
        ({"untranslated": 0, "terms": {"words": 1.0}}, "terms.encoder = 1.0 is of text without translations; allowed"),
        ({"terms": {"neighbours": 1.0}}, "untranslated = 12 has no right pieces .* allowed is one of both"),
        ({"untranslated": -1}, "untranslated = -1 is not allowed"),
        ({"terms": {"average": 1.0}}, "average = 1.0 is not allowed"),
        ({"encoder": -1.0}, "encoder = -1.0 is not allowed"),
    ],
)
def test_impossible_specs_are_refused_in_one_sentence(fields, said) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        spec(**fields)
    assert "\n" not in str(caught.value)


def test_more_text_than_there_is_is_refused_before_any_work() -> None:
    with pytest.raises(
        ValueError, match="untranslated = 2991 sources are not there beside pairs = 8; grammar has 2998"
    ):
        spec(untranslated=2991).check()
    spec(untranslated=2990).check()


# Keys that specs had before there was text without translations.
@pytest.mark.parametrize(
    ("fields", "key"),
    [
        (
            SPELT | {"terms": {"words": 1.0, "neighbours": 0.5, "consistency": 1.0, "k": 8, "tau": 10.0}},
            "27921fafa0d1ef07",
        ),
        ({"view": "replacement", "p": 0.3, "terms": {"sequences": True}}, "7ea65233f6d72462"),
        ({"terms": {"words": 1.0}}, "d06a1f042d674d58"),
    ],
)
def test_keys_are_what_they_were(fields, key) -> None:
    small = SMALL | {"layers": 1, "pairs": 20, "epochs": 2}
    asked = SPEC(
        **small | fields | {"terms": Terms(**fields["terms"]), "teacher": SPEC(**small | {"width": 24, "seed": 1})}
    )
    assert asked.key == key and "untranslated" not in asked.model_dump()
    assert set(asked.model_dump()["terms"]) == {"words", "neighbours", "consistency", "sequences", "k", "tau"}


def test_fields_that_are_used_are_hashed_and_read_again() -> None:
    asked = [
        spec(),
        spec(0.0),
        spec(0.5),
        spec(terms={"average": 0.9}),
        spec(0.0, {"average": 0.9}),
        spec(untranslated=11),
    ]
    assert len({one.key for one in asked}) == len(asked)
    assert [SPEC.model_validate(one.model_dump(mode="json")) for one in asked] == asked
