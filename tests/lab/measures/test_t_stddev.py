"""T.stddev against a slow computation with the same random numbers, exact laws, and refusals. Each statistical test
states the probability, over seeds, that a correct program fails it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom
from torch import Tensor, nn

from kdlib.data.images import Data, ImageSet, load_data
from kdlib.data.sampling import training_ids
from kdlib.lab.measurements import SpreadSpec
from kdlib.lab.measures import measure, t_stddev
from kdlib.lab.measures.t_stddev import drawn_views, label_spread, mean_stddev, measure_spread
from kdlib.lab.measures.t_stddev import draws as drawn
from kdlib.lab.recipe import Policy
from kdlib.randomness import uniforms

pytestmark = pytest.mark.usefixtures("isolated")
TWO_VIEWS = ("twin", "weak2", "cutout", "rot2", "jda", "randaugment", "cutmix")
SIMULATIONS = 19_999


@pytest.fixture
def spec(make_spec, tiny):
    def make(policy: str = "jda", images: int = 30, passes: int = 2, seed: int = 0, pool: int | None = None, **options):
        run = make_spec(seed=7)
        return SpreadSpec(data=tiny, teacher=run, policy=Policy(name=policy, options=options), pool=pool, images=images,
                          passes=passes, seed=seed, machine=run.machine)  # fmt: skip

    return make


class Oracle(nn.Module):
    """A teacher of two classes that answers by a rule: uint8 [B, 3, H, W] -> bool [B], and is certain."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule
        self.register_buffer("scale", torch.zeros(1))

    def logits(self, images: Tensor) -> Tensor:
        says = self.rule(images.float()).float()
        return torch.stack([200 * says, 200 * (1 - says)], 1)


@pytest.fixture
def training_set(monkeypatch):
    """training_set(images): makes them the training images that are measured, half of each of two classes."""

    def use(images: Tensor) -> ImageSet:
        labels = torch.arange(len(images)) % 2
        made = ImageSet("made up", images, labels, ("a", "b"), (0.5,) * 3, (0.5,) * 3, "0" * 16)
        monkeypatch.setattr(t_stddev, "load_data", lambda name: Data(made, made))
        return made

    return use


def test_every_number_equals_a_slow_reference(spec, teacher, tiny):
    """Image by image, softmax and standard deviation in double precision by NumPy, with the same random numbers."""
    images = load_data(tiny).train
    for policy, pool in [("jda", None), *((name, 70) for name in TWO_VIEWS)]:
        made, ids = Policy(name=policy).create(), training_ids(images.labels, 0, 1.0, pool, False)
        means = []
        for number in (0, 1):
            tables = {role: uniforms(3, role, number, len(images), n) for role, n in made.roles.items()}
            keys = uniforms(3, "order of draws", number, len(images), 1).numpy()[ids, 0]
            order = ids.numpy()[np.argsort(keys, kind="stable")]
            for start in range(0, len(order) - 29, 30):
                total = np.zeros(10)
                for i in order[start : start + 30]:
                    row, other = {role: table[i : i + 1] for role, table in tables.items()}, None
                    if made.mixes:
                        other = images.images[ids[int(row["partner"] * len(ids))]][None]
                    with torch.no_grad():
                        views = teacher(made(images.images[i : i + 1], row, other)[0]).logits.double().numpy()
                    for z in views:
                        total += np.exp(z - z.max()) / np.exp(z - z.max()).sum()
                means.append(total / 60)
        found = measure(spec(policy, pool=pool, seed=3), teacher)["metrics"]
        assert found["draws"] == len(means) == 2 * (len(ids) // 30)
        assert (found["images_per_draw"], found["pool"]) == (30, len(ids))
        assert found["t_stddev"] == pytest.approx(np.std(means, axis=0, ddof=1).mean(), rel=1e-4)
        without = [np.std(np.delete(means, r, 0), axis=0, ddof=1).mean() for r in range(len(means))]
        error = np.sqrt((len(means) - 1) * np.var(without))
        assert found["t_stddev_se"] == pytest.approx(error, rel=1e-3)


# --- what is drawn


def test_a_pass_deals_the_pool_into_complete_draws(spec, tiny):
    images = load_data(tiny).train
    for pool, size in ((None, 50), (100, 30), (100, 100)):
        ids = training_ids(images.labels, 0, 1.0, pool, False)
        dealt = list(drawn(spec(images=size, passes=3, pool=pool), images, ids))
        assert [number for number, _ in dealt] == sorted([0, 1, 2] * (len(ids) // size))
        for number in range(3):
            seen = torch.cat([some for k, some in dealt if k == number])
            assert len(seen) == len(set(seen.tolist())) == len(ids) // size * size
            assert set(seen.tolist()) <= set(ids.tolist())
        orders = {tuple(some.tolist()) for _, some in dealt}
        assert len(orders) == len(dealt)


def test_policies_share_draws_and_clean_views(spec, tiny):
    """And more passes only add draws."""
    images, ids = load_data(tiny).train, torch.arange(160)
    number, some = list(drawn(spec("weak2"), images, ids))[-1]
    plain = drawn_views(spec("weak2"), images, ids, number, some)
    for policy in TWO_VIEWS:
        few, many = (list(drawn(spec(policy, passes=n), images, ids)) for n in (2, 3))
        assert all(k == j and torch.equal(a, b) for (k, a), (j, b) in zip(few, many[: len(few)], strict=True))
        assert torch.equal(few[-1][1], some)
        views = drawn_views(spec(policy), images, ids, number, some)
        assert views.shape == (60, 3, 32, 32) and views.dtype == torch.uint8
        assert torch.equal(views[::2], plain[::2])
        assert torch.equal(views[1::2], plain[1::2]) == (policy == "weak2")
        assert torch.equal(views[1::2], views[::2]) == (policy == "twin")
    assert not torch.equal(drawn_views(spec("weak2"), images, ids, 0, some), plain)


def test_partners_come_from_the_pool(spec, training_set):
    """Images that are all of one value, their id; black is the padding."""
    values = torch.arange(1, 201, dtype=torch.uint8)
    images = training_set(values[:, None, None, None].expand(-1, 3, 32, 32).contiguous())
    pool = torch.arange(40, 80)
    views = drawn_views(spec("cutmix"), images, pool, 0, pool)
    assert set(views.unique().tolist()) - {0} <= set((pool + 1).tolist())
    mixed = (views[1::2].flatten(1) > 0) & (views[1::2].flatten(1) != (pool + 1)[:, None])
    assert mixed.any(1).sum() > 20


def test_views_of_photographs_are_resized_crops_and_only_the_draw_is_read(spec, teacher, training_set):
    class OnDisk:
        """Rows of a memory-mapped set; more than a draw at once are refused."""

        def __getitem__(self, ids: Tensor) -> Tensor:
            assert len(ids) <= 30
            return torch.zeros(len(ids), 3, 32, 32, dtype=torch.uint8)

    images = training_set(torch.zeros(160, 3, 32, 32, dtype=torch.uint8))
    for policy in TWO_VIEWS:
        small = replace(images, view_size=28, images=OnDisk())
        assert drawn_views(spec(policy), small, torch.arange(160), 0, torch.arange(30)).shape == (60, 3, 28, 28)


# --- what is computed


def test_a_teacher_that_always_says_the_same_has_no_spread(spec, teacher):
    with torch.no_grad():
        teacher.backbone.fc.weight.zero_()
    found = measure_spread(spec(), teacher)
    assert found["t_stddev"] < 1e-12 and found["t_stddev_se"] < 1e-12


def test_the_order_of_the_classes_does_not_matter(spec, teacher):
    before = measure_spread(spec(), teacher)
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    with torch.no_grad():
        for parameter in (teacher.backbone.fc.weight, teacher.backbone.fc.bias):
            parameter.copy_(parameter[order].clone())
    after = measure_spread(spec(), teacher)
    assert after["t_stddev"] == pytest.approx(before["t_stddev"], rel=1e-5)
    assert after["t_stddev_se"] == pytest.approx(before["t_stddev_se"], rel=1e-4)


def test_measuring_leaves_the_teacher_as_it_was(spec, teacher):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()
    one, other = (measure(spec(seed=1), teacher) for _ in range(2))
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert one["bits"] == other["bits"] != measure(spec(seed=2), teacher)["bits"]
    assert one["fingerprint"] == load_data(spec().data).train.fingerprint


@pytest.mark.parametrize("count", [3, 4, 50])
def test_the_standard_error_is_the_jackknifes(generator, count):
    answers = generator.dirichlet(np.ones(7), count)
    value, error = mean_stddev(answers)
    assert value == pytest.approx(answers.std(0, ddof=1).mean())
    without = np.array([np.delete(answers, r, 0).std(0, ddof=1).mean() for r in range(count)])
    assert error == pytest.approx(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
    assert mean_stddev(answers[:2])[1] is None


def test_the_standard_error_is_that_of_a_normal_standard_deviation(generator):
    """sigma / sqrt(2 (n - 1)) for one class. Its own relative error is about 1.3 % at n = 20,000; allowed are 10 %, so
    the error rate is below 1e-9."""
    value, error = mean_stddev(generator.normal(0, 3, (20_000, 1)))
    assert error == pytest.approx(value / np.sqrt(2 * 19_999), rel=0.1)


def stddevs(counts: np.ndarray, of: int) -> np.ndarray:
    """T.stddev of two classes from simulated counts [simulations, draws] of the first among `of` certain answers."""
    return (counts / of).std(axis=1, ddof=1)


def test_the_spread_of_labels_follows_the_hypergeometric_law(spec, training_set, generator):
    """White and black images, and a teacher that tells them apart: the count of white ones in the draws of a pass is
    multivariate hypergeometric. Fails if the value lies outside of 19,999 simulated ones: error rate 1e-4."""
    images = torch.zeros(230, 3, 32, 32, dtype=torch.uint8)
    images[::2] = 255
    training_set(images)
    found = measure_spread(spec("weak2", images=20, passes=30), Oracle(lambda x: x.mean((1, 2, 3)) > 100))
    assert found["draws"] == 330
    passes = [generator.multivariate_hypergeometric([20] * 11 + [10], 115, SIMULATIONS)[:, :11] for _ in range(30)]
    law = stddevs(np.concatenate(passes, 1), 20)
    assert law.min() <= found["t_stddev"] <= law.max()
    assert found["label_spread"] == pytest.approx(hypergeom(230, 115, 20).std() / 20)
    assert np.sqrt((law**2).mean()) == pytest.approx(found["label_spread"], rel=0.02)  # that is what it stands for


@pytest.mark.parametrize(("policy", "answers"), [("twin", 1), ("weak2", 2)])
def test_the_same_crop_twice_counts_once(spec, training_set, generator, policy, answers):
    """A teacher that only sees whether an image was flipped: twin has one fair coin for each image, weak2 two. So the
    spread of twin is sqrt(2) times as large. Fails outside of 19,999 simulated values, or if the value times or over
    sqrt(2) lies inside, which would not tell the two apart: error rate 2e-4 each."""
    images = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    images[:, :, :, :16] = 255
    training_set(images)
    left = Oracle(lambda x: x[:, :, :, :16].mean((1, 2, 3)) > x[:, :, :, 16:].mean((1, 2, 3)))
    value = measure_spread(spec(policy, images=20, passes=30), left)["t_stddev"]
    law = stddevs(generator.binomial(20 * answers, 0.5, (SIMULATIONS, 300)), 20 * answers)
    assert law.min() <= value <= law.max()
    assert not law.min() <= value * 2 ** (answers - 1.5) <= law.max()  # what the other policy would give


def test_the_spread_of_labels_of_unequal_classes():
    labels = torch.tensor([0] * 5 + [1] * 20 + [2] * 75)
    expected = np.mean([hypergeom(100, count, 30).std() / 30 for count in (5, 20, 75)])
    assert label_spread(labels, 30) == pytest.approx(expected)
    assert label_spread(labels, 100) == 0


# --- refusals


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"policy": "rot4"}, "policy 'rot4' does not make a clean view and one other"),
        ({"policy": "weak1"}, "policy 'weak1' does not make a clean view and one other"),
        ({"policy": "share"}, "policy 'share' does not make a clean view and one other"),
        ({"images": 161}, "images = 161 and passes = 2 make 0 draws of 160 images; allowed are numbers .* at least 2"),
        ({"images": 81, "passes": 1}, "images = 81 and passes = 1 make 1 draws of 160 images"),
        ({"pool": 1000}, "pool = 1000 is larger than the 140 images"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(spec, fields, words):
    with pytest.raises(ValueError, match=words) as caught:
        measure_spread(spec(**fields), None)
    assert "\n" not in str(caught.value)
