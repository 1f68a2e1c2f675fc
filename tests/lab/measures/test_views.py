"""Teacher-only measurements against a direct computation."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from kdlib.data.images import load_data
from kdlib.lab.measurements import ViewsSpec, seen_ids
from kdlib.lab.measures import measure
from kdlib.lab.measures.views import BINS, draw_views, measured_ids, weight_summary
from kdlib.lab.recipe import Policy
from kdlib.randomness import uniforms
from kdlib.views.crops import crop_flip
from kdlib.views.policies import create_policy

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def spec(make_spec, tiny):
    def make(policy: str = "jda", images: int = 40, seed: int = 0, **options) -> ViewsSpec:
        run = make_spec(seed=7)
        return ViewsSpec(data=tiny, teacher=run, policy=Policy(name=policy, options=options), images=images, seed=seed,
                         machine=run.machine)  # fmt: skip

    return make


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cosine_plus_one(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1) + 1


@pytest.mark.parametrize("policy", ["jda", "rot2", "weak2"])
def test_every_number_equals_a_direct_computation(spec, teacher, policy):
    spec = spec(policy)
    outcome = measure(spec, teacher)
    metrics, data = outcome["metrics"], load_data(spec.data)
    assert outcome["fingerprint"] == data.train.fingerprint
    made = create_policy(policy)
    for split, images in (("train", data.train), ("test", data.test)):
        ids = measured_ids(spec, images, split)
        assert metrics[f"{split}_images"] == len(ids) == 40
        draws = {r: uniforms(0, r, 0, len(images), n)[ids] for r, n in made.roles.items()}
        other = uniforms(0, "augmented crop", 0, len(images), 3)[ids]
        views = made(images.images[ids], draws)
        with torch.no_grad():
            x, augmented, plain = (
                teacher(v).logits.double().numpy()
                for v in (views[:, 0], views[:, 1], crop_flip(images.images[ids], other))
            )
        labels = images.labels[ids].numpy()
        for view, logits in (("original", x), ("augmented", augmented)):
            p = softmax(logits)
            assert metrics[f"{split}_{view}_top1"] == pytest.approx(100 * (logits.argmax(1) == labels).mean())
            nll = -np.log(p[np.arange(len(p)), labels]).mean()
            assert metrics[f"{split}_{view}_nll"] == pytest.approx(nll, rel=1e-5)
            assert metrics[f"{split}_{view}_entropy"] == pytest.approx(scipy_entropy(p, axis=1).mean(), rel=1e-5)
            assert 0 <= metrics[f"{split}_{view}_ece"] <= 1
        agreement = 100 * (x.argmax(1) == augmented.argmax(1)).mean()
        assert metrics[f"{split}_agreement"] == pytest.approx(agreement)
        for name, pair in (("w", augmented), ("floor", plain)):
            w = cosine_plus_one(x, pair)
            assert metrics[f"{split}_{name}_mean"] == pytest.approx(w.mean(), rel=1e-5)
            assert metrics[f"{split}_{name}_std"] == pytest.approx(w.std(ddof=1), rel=1e-3)
            histogram = np.array(metrics[f"{split}_{name}_histogram"])
            assert len(histogram) == BINS
            assert histogram.sum() == len(ids)
            cumulated = np.array([(w < edge).sum() for edge in np.linspace(0, 2, BINS + 1)[1:-1]])
            assert np.abs(histogram.cumsum()[:-1] - cumulated).max() <= 1  # one may lie on an edge
        w = dict(zip(ids.tolist(), cosine_plus_one(x, augmented), strict=True))
        lowest, highest = metrics[f"{split}_lowest"], metrics[f"{split}_highest"]
        assert np.allclose([w[i] for i in lowest], sorted(w.values())[:8], atol=1e-5)
        assert np.allclose([w[i] for i in highest], sorted(w.values())[::-1][:8], atol=1e-5)


def test_two_plain_crops_are_their_own_floor(spec, teacher):
    metrics = measure(spec("weak2"), teacher)["metrics"]
    for split in ("train", "test"):
        assert metrics[f"{split}_w_histogram"] == metrics[f"{split}_floor_histogram"]
        assert metrics[f"{split}_w_mean"] == metrics[f"{split}_floor_mean"]


def test_the_floor_is_the_same_under_every_policy(spec, teacher):
    floors = [measure(spec(policy), teacher)["metrics"]["test_floor_mean"] for policy in ("weak2", "jda", "rot2")]
    assert floors[0] == floors[1] == floors[2]


def test_single_images_are_kept_for_the_figures(spec, teacher, tiny):
    spec = spec()
    metrics = measure(spec, teacher)["metrics"]
    examples, test = metrics["test_examples"], load_data(tiny).test
    assert 1 <= len(examples) <= 8
    assert len({e["label"] for e in examples}) == len(examples)
    ids = torch.tensor([e["id"] for e in examples])
    views, _ = draw_views(spec, test, ids)
    for e, label, pair in zip(examples, test.labels[ids].tolist(), views, strict=True):
        assert e["label"] == label
        with torch.no_grad():
            original, augmented = teacher(pair).logits.double().numpy()
        assert np.allclose(e["original"], original, atol=1e-3)
        assert np.allclose(e["augmented"], augmented, atol=1e-3)
        assert e["w"] == pytest.approx(cosine_plus_one(original[None], augmented[None])[0], abs=1e-5)


def test_what_is_measured_is_stratified_drawn_by_the_seed_and_at_most_all(spec, tiny):
    test = load_data(tiny).test
    some = measured_ids(spec(images=20), test, "test")
    assert torch.bincount(test.labels[some]).tolist() == [2] * 10
    assert len(set(some.tolist())) == 20
    assert some.tolist() != measured_ids(spec(images=20, seed=1), test, "test").tolist()
    assert measured_ids(spec(images=10_000), test, "test").tolist() == list(range(len(test)))


def test_training_images_are_those_of_the_teacher(spec, tiny, make_spec):
    train = load_data(tiny).train
    spec = spec(images=20).model_copy(update={"teacher": make_spec(seed=7, fraction=0.5)})
    theirs = set(seen_ids(spec.teacher, train.labels).tolist())
    assert len(theirs) < len(train)
    some = measured_ids(spec, train, "train")
    assert len(some) == 20 and set(some.tolist()) <= theirs


def test_views_of_an_image_do_not_depend_on_which_others_are_looked_at(spec, tiny):
    spec, test = spec(), load_data(tiny).test
    views, floor = draw_views(spec, test, torch.arange(60))
    some = torch.tensor([59, 3, 17])
    assert torch.equal(draw_views(spec, test, some)[0], views[some])
    assert torch.equal(draw_views(spec, test, some)[1], floor[some])


def test_measuring_twice_gives_equal_bits(spec, teacher):
    one, other, elsewhere = (measure(spec(seed=s), teacher) for s in (0, 0, 1))
    assert one["bits"] == other["bits"] != elsewhere["bits"]


@pytest.mark.parametrize("value", [0.0, 1.0, 2.0])
def test_histograms_hold_the_ends(value):
    summary = weight_summary("w", torch.full((7,), value))
    assert sum(summary["w_histogram"]) == 7
    assert summary["w_mean"] == value
    assert summary["w_std"] == 0


def test_policies_without_a_pair_of_views_are_refused(spec):
    with pytest.raises(ValueError, match=r"policy 'rot4' makes 4 views; this measurement needs 2"):
        spec("rot4")
    with pytest.raises(ValueError, match=r"^images = 0 is not allowed"):
        spec(images=0)
