"""Twins across splits, against a search of every pair, and the detail that near twins are told by."""

import numpy as np
import pytest
import torch

from kdlib.data.images import BUNDLED, ImageSet, available, load_data
from kdlib.lab.measures import twins
from kdlib.lab.measures.twins import detail, exact_twins, near_twins, nearest
from kdlib.show.pictures import photographs

pytestmark = pytest.mark.usefixtures("isolated")


def split(images: torch.Tensor) -> ImageSet:
    """A split of these images; labels do not matter here."""
    return ImageSet("x", images, torch.zeros(len(images), dtype=torch.int64), ("a",), (0,) * 3, (1,) * 3, "0" * 16)


@pytest.fixture
def train() -> torch.Tensor:
    """uint8 [308, 3, 32, 32]: garments, and tiles of two photographs."""
    return torch.cat([load_data(BUNDLED).train.images[:300], photographs(8)])


def test_exact_twins_are_those_that_a_search_of_every_pair_finds(train):
    test = load_data(BUNDLED).test.images[:50].clone()
    test[[4, 9, 30]] = train[[300, 17, 17]]
    test[11], test[12] = train[18], train[19]
    test[11, 0, 16, 3] += 1  # one value off: in the middle row of red, and far from it
    test[12, 2, 0, 0] += 1
    every_pair = (test[:, None] == train).flatten(2).all(2).any(1)
    assert every_pair.nonzero().squeeze(1).tolist() == [4, 9, 30]
    assert torch.equal(exact_twins(split(test), split(train)), every_pair)


def test_only_images_that_may_be_twins_are_read_whole(train, monkeypatch):
    read = []
    digest = twins._digest
    monkeypatch.setattr(twins, "_digest", lambda image: read.append(1) or digest(image))
    test = load_data(BUNDLED).test.images[:50].clone()
    test[0] = train[40]
    assert exact_twins(split(test), split(train)).sum() == 1
    assert 2 <= len(read) <= 10  # of 358


def test_a_split_has_itself_as_twin_and_none_in_other_images(train):
    assert exact_twins(split(train), split(train)).all()
    assert near_twins(split(train[300:]), split(train)).all()
    assert not exact_twins(split(255 - train), split(train)).any()


def test_near_twins_are_the_same_picture_in_other_colours_or_contrast(train):
    source = train[300:].double()
    low = (0.8 * source + 20).byte()
    tinted = (source * torch.tensor([0.9, 1.0, 0.8]).view(3, 1, 1)).byte()
    noisy = (source + 4 * torch.randn(source.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255).byte()
    for images in (low, tinted, noisy):
        assert near_twins(split(images), split(train)).all()
        assert not exact_twins(split(images), split(train)).any()
        assert nearest(images, train)[2].tolist() == list(range(300, 308))


def test_other_pictures_are_no_near_twins(train):
    mirrored = train[300:].flip(-1)
    assert not near_twins(split(mirrored), split(train)).any()
    garments = load_data(BUNDLED)
    found = near_twins(garments.test, garments.train)
    alike = nearest(garments.test.images, garments.train.images)[0] >= twins.CORRELATION
    assert alike.double().mean() > 0.2  # trousers and trousers
    assert found.double().mean() < 0.02


def ranked_correlations(test: torch.Tensor, train: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of the detail of every pair in double precision, and the same with the largest of each row first."""

    def reference(images: torch.Tensor) -> np.ndarray:
        x = images.numpy().astype(float)
        fine = x.reshape(len(x), 3, 16, 2, 16, 2).mean((3, 5))
        blocks = fine.reshape(len(x), 3, 4, 4, 4, 4).mean((3, 5))
        places = (np.arange(16) + 0.5) / 4 - 0.5
        weights = np.array([np.interp(places, np.arange(4), row) for row in np.eye(4)])  # [4, 16]
        rest = fine - np.einsum("nchw,hi,wj->ncij", blocks, weights, weights)
        flat = rest.reshape(len(x), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    every = reference(test) @ reference(train).T
    return every, np.sort(every, axis=1)[:, ::-1]


def test_nearest_is_that_of_a_computation_in_double(train):
    test = load_data(BUNDLED).test.images[:20]
    every, ranked = ranked_correlations(test, train)
    correlation, tenth, ids = nearest(test, train)
    assert np.allclose(correlation, ranked[:, 0], atol=1e-5)
    assert np.allclose(tenth, ranked[:, 9], atol=1e-5)
    assert np.allclose(every[np.arange(20), ids], ranked[:, 0], atol=1e-5)


def test_near_twins_are_those_of_the_rule():
    """rho_1 >= 0.95 and 4 (1 - rho_1) < 1 - rho_10, in double precision, on images that meet both, one or none of the
    two: garments, and photographs under more and more noise. Some are close to each bound, none within rounding."""
    garments, photos = load_data(BUNDLED), photographs(8).double()
    noise = torch.randn(5, *photos.shape, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([4, 20, 40, 60, 90]).view(5, 1, 1, 1, 1)
    noisy = (photos + strength * noise).clamp(0, 255).byte().flatten(0, 1)
    test = torch.cat([garments.test.images[:300], noisy])
    train = torch.cat([garments.train.images[:1500], photographs(8)])
    _, ranked = ranked_correlations(test, train)
    first, tenth = ranked[:, 0], ranked[:, 9]
    closer = (1 - tenth) / (1 - first)
    alike, close = first >= 0.95, closer > 4
    assert min((alike & close).sum(), (alike & ~close).sum(), (~alike & close).sum(), (~alike & ~close).sum()) >= 5
    assert ((first > 0.93) & ~alike & close).any() and (alike & (closer > 3.5) & (closer < 5)).any()
    assert min(np.abs(first - 0.95).min(), np.abs(closer - 4).min() / 100) > 1e-5
    assert near_twins(split(test), split(train)).tolist() == (alike & close).tolist()


def test_few_and_empty_pictures(train):
    plain = torch.full((2, 3, 32, 32), 90, dtype=torch.uint8)
    assert detail(plain).abs().max() == 0
    assert not near_twins(split(plain), split(train)).any()
    assert not near_twins(split(train[:5]), split(plain)).any()  # fewer than ten neighbours
    assert detail(train[:3, :, :28, :28]).shape == (3, 768)  # of any size


@pytest.mark.skipif(not available("cifar100"), reason="needs CIFAR-100 below KDLIB_DATA")
def test_cifar100_has_ten_exact_twins_some_under_two_labels(cifar100):
    train, test = cifar100.train, cifar100.test
    found = exact_twins(test, train).nonzero().squeeze(1)
    assert len(found) == 10
    ids = nearest(test.images[found], train.images)[2]
    assert torch.equal(test.images[found], train.images[ids])
    assert 0 < (test.labels[found] == train.labels[ids]).sum() < 10
