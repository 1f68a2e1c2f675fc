"""Corruptions: functions of kind, strength and image alone, that do more at each strength."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import stats
from torch import Tensor

from kdlib.data.images import BUNDLED, load_data
from kdlib.views import corruptions
from kdlib.views.corruptions import KINDS, STRENGTHS, corrupt
from kdlib.views.jda import JDA_LISTS

RATE = 1e-6  # of false alarms over seeds, of each statistical test as a whole
EVERY = [(kind, strength) for kind in KINDS for strength in STRENGTHS]


@pytest.fixture(scope="module")
def images() -> Tensor:
    """uint8 [40, 3, 32, 32]: bundled images, the second half of them tinted."""
    some = load_data(BUNDLED).test.images[::50].clone()
    some[20:, 1] //= 2
    return some


@pytest.mark.parametrize(("kind", "strength"), EVERY)
def test_an_image_depends_on_its_id_and_on_nothing_else(images, kind, strength):
    ids, before = torch.arange(len(images)) * 7 + 3, images.clone()
    whole = corrupt(images, kind, strength, ids)
    torch.manual_seed(5)
    order = torch.randperm(len(images))
    assert torch.equal(corrupt(images[order], kind, strength, ids[order]), whole[order])
    assert torch.equal(
        torch.cat([corrupt(images[i : i + 1], kind, strength, ids[i : i + 1]) for i in range(9)]), whole[:9]
    )
    assert torch.equal(images, before) and whole.dtype == torch.uint8 and whole.shape == images.shape
    other = corrupt(images, kind, strength, ids + 1)
    assert torch.equal(other, whole) == (kind != "noise")  # blur and contrast draw nothing


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_is_further_away_at_each_strength(images, kind):
    ids = torch.arange(len(images))
    away = [(corrupt(images, kind, s, ids).float() - images).square().mean((1, 2, 3)) for s in STRENGTHS]
    assert (away[0] > 0).all() and (away[1] > away[0]).all() and (away[2] > away[1]).all()


def test_noise_grows_pixel_by_pixel(images):
    away = [(corrupt(images, "noise", s, torch.arange(len(images))).int() - images.int()) for s in STRENGTHS]
    for weak, strong in zip(away, away[1:], strict=False):
        assert (strong.abs() >= weak.abs()).all() and (strong * weak >= 0).all()


@pytest.mark.parametrize("strength", STRENGTHS)
def test_noise_is_normal_with_its_standard_deviation(strength):
    grey = torch.full((60, 3, 32, 32), 128, dtype=torch.uint8)  # 3.5 standard deviations from the clip at the most
    noise = (corrupt(grey, "noise", strength, torch.arange(60)).double() - 128).flatten().numpy()
    n, sigma = noise.size, corruptions.NOISE[strength - 1]
    assert abs(noise.mean()) < stats.norm.isf(RATE / 4) * sigma / np.sqrt(n)
    variance = sigma**2 + 1 / 12  # of the rounding
    low, high = (stats.chi2.ppf(q, n) / n for q in (RATE / 4, 1 - RATE / 4))
    assert low * 0.999 < noise.var() / variance < high  # the clip takes less than a thousandth
    channels = noise.reshape(60, 3, -1)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        pairs = channels[:, a].ravel(), channels[:, b].ravel()
        assert stats.pearsonr(*pairs).pvalue > RATE / 3


@pytest.mark.parametrize("strength", STRENGTHS)
def test_contrast_and_blur_are_pils(images, strength):
    for kind in ("contrast", "blur"):
        found = corrupt(images, kind, strength, torch.arange(len(images)))
        for image, got in zip(images, found, strict=True):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            if kind == "contrast":
                picture = ImageEnhance.Contrast(picture).enhance((0.7, 0.5, 0.3)[strength - 1])
            else:
                for _ in range(2 ** (strength - 1)):
                    picture = ImageEnhance.Sharpness(picture).enhance(0.1)
            assert torch.equal(got, torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def test_jda_has_the_ops_of_blur_and_contrast_and_no_noise():
    for _, ops in (JDA_LISTS["cifar100"], JDA_LISTS["cifar10"]):
        assert {"contrast", "sharpness"} <= {name for name, _ in ops} and "noise" not in dict(ops)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "fog"}, "kind is 'fog'; it must be one of noise, blur, contrast"),
        ({"strength": 4}, "strength is 4; it must be 1, 2 or 3"),
        ({"ids": torch.arange(2)}, "ids has 2 entries; it must have one for each of the 40 images"),
    ],
)
def test_what_does_not_exist_is_named(images, change, words):
    given = {"images": images, "kind": "blur", "strength": 1, "ids": torch.arange(len(images))} | change
    with pytest.raises(ValueError, match=words):
        corrupt(**given)


def test_no_images_stay_none():
    none = torch.empty(0, 3, 8, 8, dtype=torch.uint8)
    for kind, strength in EVERY:
        assert corrupt(none, kind, strength, torch.empty(0, dtype=torch.int64)).shape == none.shape
