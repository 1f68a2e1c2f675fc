"""Every op of the table against PIL, image by image, on tiles of two photographs and on extreme images."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision_functional

from kdlib.views.ops import MAGNITUDE_STEPS, OPS, Op, apply_op, is_identity

GREY = (128, 128, 128)
UNIT = np.linspace(0, 1, 10)  # a magnitude index as a part of its range
SIGNED = {"shearX", "shearY", "translateX", "translateY", "color", "contrast", "sharpness", "brightness"}
WITHOUT_MAGNITUDE = {"autocontrast", "equalize", "invert"}
GEOMETRIC = ("shearX", "shearY", "translateX", "translateY", "rotate")
TOLERANCE = {"shearX": 1, "shearY": 1, "autocontrast": 1}  # grey levels; 0 for the others


def pil_op(name: str, image: Image.Image, magnitude: int, sign: int) -> Image.Image:
    """The reference: one op of JDA written with PIL alone, from the table of magnitudes in words."""
    (width, height), part = image.size, UNIT[magnitude]
    affine = Image.Transform.AFFINE
    match name:
        case "shearX":
            matrix = (1, sign * 0.3 * part, 0, 0, 1, 0)
            return image.transform(image.size, affine, matrix, Image.Resampling.BICUBIC, fillcolor=GREY)
        case "shearY":
            matrix = (1, 0, 0, sign * 0.3 * part, 1, 0)
            return image.transform(image.size, affine, matrix, Image.Resampling.BICUBIC, fillcolor=GREY)
        case "translateX":
            return image.transform(image.size, affine, (1, 0, sign * part * 150 / 331 * width, 0, 1, 0), fillcolor=GREY)
        case "translateY":
            return image.transform(
                image.size, affine, (1, 0, 0, 0, 1, sign * part * 150 / 331 * height), fillcolor=GREY
            )
        case "rotate":
            rotated = image.convert("RGBA").rotate(30 * part)
            return Image.composite(rotated, Image.new("RGBA", image.size, (*GREY, 255)), rotated).convert("RGB")
        case "posterize":
            return ImageOps.posterize(image, round(8 - 4 * part))
        case "solarize":
            return ImageOps.solarize(image, 256 * (1 - part))
        case "autocontrast" | "equalize" | "invert":
            return getattr(ImageOps, name)(image)
        case _:
            return getattr(ImageEnhance, name.capitalize())(image).enhance(1 + sign * 0.9 * part)


def pil_batch(name: str, images: Tensor, magnitude: int, sign: int) -> Tensor:
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    results = [np.asarray(pil_op(name, Image.fromarray(array), magnitude, sign)) for array in arrays]
    return torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2)


def assert_agrees_with_pil(name: str, images: Tensor) -> None:
    """Compare at every magnitude and sign that mean something for the op."""
    for magnitude in range(1 if name in WITHOUT_MAGNITUDE else 10):
        for sign in (1, -1) if name in SIGNED else (1,):
            ours, reference = apply_op(name, images, magnitude, sign), pil_batch(name, images, magnitude, sign)
            difference = int((ours.to(torch.int16) - reference).abs().max())
            assert difference <= TOLERANCE.get(name, 0), (magnitude, sign)


@lru_cache
def photographs() -> list[np.ndarray]:
    return load_sample_images().images


def tiles(height: int, width: int, count: int) -> Tensor:
    """`count` tiles from random places of each of two photographs, uint8 [2 * count, 3, height, width]."""
    rng = np.random.default_rng(0)
    cut = []
    for photo in photographs():
        ys, xs = (rng.integers(0, room, count) for room in (photo.shape[0] - height, photo.shape[1] - width))
        cut += [photo[y : y + height, x : x + width] for y, x in zip(ys, xs, strict=True)]
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous()


def extremes() -> Tensor:
    """Images that reach the corner cases of the histogram ops and of clipping, uint8 [N, 3, 32, 32]."""
    noise = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    flat = torch.tensor([0, 1, 127, 128, 254, 255])[:, None, None, None].expand(-1, 3, 32, 32)
    one_pixel = torch.full((1, 3, 32, 32), 200)
    one_pixel[0, :, 5, 7] = 10
    flat_channel = noise[:1].clone()
    flat_channel[0, 1] = 90
    ramp = torch.arange(32).mul(8).expand(1, 3, 32, 32)
    groups = [noise, noise[:2] // 128 * 255, noise[:2] // 16 + 100, flat, one_pixel, flat_channel, ramp]
    return torch.cat(groups).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    return images[:, 1:2].expand(-1, 3, -1, -1).contiguous()


@pytest.fixture(scope="module")
def image_sets() -> dict[str, Tensor]:
    small = tiles(32, 32, 60)
    return {"32x32": small, "64x64": tiles(64, 64, 10), "grey": grey(small[::3]), "extreme": extremes()}


@pytest.fixture(scope="module")
def images(image_sets: dict[str, Tensor]) -> Tensor:
    return image_sets["32x32"]


def test_table_has_the_fourteen_ops_with_ten_magnitudes_each():
    assert len(OPS) == 14 and MAGNITUDE_STEPS == 10
    assert {name for name, op in OPS.items() if op.signed} == SIGNED
    assert {name for name, op in OPS.items() if op.magnitudes is None} == WITHOUT_MAGNITUDE
    assert all(len(op.magnitudes) == 10 for op in OPS.values() if op.magnitudes is not None)
    assert all(name == op.name for name, op in OPS.items())


def test_an_op_of_ones_own_is_applied_at_its_magnitude_and_sign(monkeypatch: pytest.MonkeyPatch):
    brighter = Op("brighter", lambda x, by: (x + by).to(torch.uint8), tuple(range(10)), neutral=0, signed=True)
    monkeypatch.setitem(OPS, "brighter", brighter)
    images = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    assert apply_op("brighter", images, 7).unique().tolist() == [107]
    assert apply_op("brighter", images, 7, -1).unique().tolist() == [93]
    assert is_identity("brighter", 0) and not is_identity("brighter", 7)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("kind", ["32x32", "64x64", "grey", "extreme"])
def test_agrees_with_pil(image_sets: dict[str, Tensor], kind: str, name: str):
    assert_agrees_with_pil(name, image_sets[kind])


@pytest.mark.parametrize("name", ["shearX", "shearY"])
def test_shear_truncates_as_pil(images: Tensor, name: str):
    """Rounding instead of truncating stays within one level but changes half of the values; float32 in place
    of PIL's double precision changes less than one in a hundred."""
    for magnitude in range(1, 10):
        ours, reference = apply_op(name, images, magnitude), pil_batch(name, images, magnitude, 1)
        assert (ours != reference).float().mean() < 0.01


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("size", [(32, 48), (48, 32), (33, 31)])
def test_geometric_ops_agree_with_pil_on_other_sizes(name: str, size: tuple[int, int]):
    assert_agrees_with_pil(name, tiles(*size, 8))


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (3, 2)])
def test_tiny_images_agree_with_pil(name: str, size: tuple[int, int]):
    assert_agrees_with_pil(name, tiles(*size, 5))


def test_identities_are_the_neutral_magnitudes():
    neutral = {(name, m) for name in OPS for m in range(10) if is_identity(name, m)}
    index_zero = {(name, 0) for name in OPS if name not in WITHOUT_MAGNITUDE}
    assert neutral == index_zero | {("posterize", 1)}  # 8 - 4/9 bits round to 8


def test_is_identity_agrees_with_what_the_op_does(image_sets: dict[str, Tensor]):
    """Past the short cut of `apply_op`, an op that changes no tile is an identity, and no other op is."""
    for name, op in OPS.items():
        for magnitude in range(10):
            value = op.magnitudes[magnitude] if op.magnitudes else 0.0
            for images in (image_sets["32x32"], image_sets["64x64"], image_sets["grey"]):
                if name == "color" and images is image_sets["grey"]:
                    continue  # grey images have no colour to change
                assert torch.equal(op.apply(images, value), images) == is_identity(name, magnitude), magnitude


@pytest.mark.parametrize("name", OPS)
def test_identity_magnitudes_return_an_equal_copy(images: Tensor, name: str):
    for magnitude in (m for m in range(10) if is_identity(name, m)):
        for sign in (1, -1):
            result = apply_op(name, images, magnitude, sign)
            assert torch.equal(result, images)
            assert result.data_ptr() != images.data_ptr()


def test_invert_twice_is_the_identity(images: Tensor):
    once = apply_op("invert", images, 0)
    assert not torch.equal(once, images)
    assert torch.equal(apply_op("invert", once, 0), images)


def test_color_leaves_grey_images_unchanged():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for magnitude in range(10):
        for sign in (1, -1):
            assert torch.equal(apply_op("color", levels, magnitude, sign), levels)


def test_sharpness_keeps_the_edge_pixels(images: Tensor):
    result = apply_op("sharpness", images, 9)
    edge = torch.ones(32, 32, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    assert torch.equal(result[..., edge], images[..., edge])
    assert not torch.equal(result, images)


def test_sign_matters_exactly_for_the_signed_ops(images: Tensor):
    for name in OPS:
        same = torch.equal(apply_op(name, images, 5, 1), apply_op(name, images, 5, -1))
        assert same != (name in SIGNED), name


@pytest.mark.parametrize("name", sorted(WITHOUT_MAGNITUDE))
def test_magnitude_has_no_effect_where_none_is_taken(images: Tensor, name: str):
    assert torch.equal(apply_op(name, images, 0), apply_op(name, images, 9))


@pytest.mark.parametrize("name", OPS)
def test_keeps_dtype_and_shape_and_leaves_the_input_unchanged(images: Tensor, name: str):
    few = images[:3].clone()
    for magnitude in range(10):
        for sign in (1, -1):
            result = apply_op(name, few, magnitude, sign)
            assert result.dtype == torch.uint8 and result.shape == few.shape
            result.zero_()  # would show in the input if they shared memory
            assert torch.equal(few, images[:3]), (magnitude, sign)


@pytest.mark.parametrize("name", OPS)
def test_batching_and_memory_layout_do_not_matter(images: Tensor, name: str):
    for magnitude in (0, 3, 9):
        batch = apply_op(name, images, magnitude)
        assert torch.equal(batch, torch.cat([apply_op(name, image[None], magnitude) for image in images]))
        channels_last = images.contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch, apply_op(name, channels_last, magnitude))
        strided = images[::2].mT.contiguous().mT
        assert torch.equal(batch[::2], apply_op(name, strided, magnitude))


@pytest.mark.parametrize("name", OPS)
def test_empty_batch(name: str):
    empty = torch.empty(0, 3, 32, 48, dtype=torch.uint8)
    assert apply_op(name, empty, 4).shape == empty.shape


@pytest.mark.parametrize("name", OPS)
def test_traces_on_the_meta_device(name: str):
    images = torch.empty(4, 3, 32, 48, dtype=torch.uint8, device="meta")
    for magnitude in (0, 4):
        result = apply_op(name, images, magnitude, -1)
        assert result.device.type == "meta"
        assert result.dtype == torch.uint8 and result.shape == images.shape


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "mixup"}, ValueError, "name is 'mixup'.*shearX"),
        ({"magnitude": -1}, ValueError, "magnitude is -1.*0 to 9"),
        ({"magnitude": 10}, ValueError, "magnitude is 10.*0 to 9"),
        ({"magnitude": 2.0}, ValueError, "magnitude is 2.0.*int"),
        ({"sign": 0}, ValueError, "sign is 0.*1 or -1"),
        ({"sign": True}, ValueError, "sign is True.*1 or -1"),
        ({"images": torch.zeros(2, 3, 8, 8)}, TypeError, "float32.*uint8"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, TypeError, "ndarray.*uint8"),
        ({"images": torch.zeros(3, 8, 8, dtype=torch.uint8)}, ValueError, r"\[3, 8, 8\].*\[B, 3, H, W\]"),
        ({"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, ValueError, r"\[2, 1, 8, 8\]"),
        ({"images": torch.zeros(2, 3, 0, 8, dtype=torch.uint8)}, ValueError, r"\[2, 3, 0, 8\]"),
    ],
)
def test_bad_input_is_named_in_one_sentence(change: dict, error: type[Exception], words: str):
    good = {"name": "rotate", "images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "magnitude": 3, "sign": 1}
    with pytest.raises(error, match=words) as caught:
        apply_op(**(good | change))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_is_identity_refuses_what_apply_op_refuses():
    with pytest.raises(ValueError, match="name is 'mixup'"):
        is_identity("mixup", 0)
    with pytest.raises(ValueError, match="magnitude is 10"):
        is_identity("rotate", 10)


def test_autocontrast_is_torchvisions_bit_for_bit():
    """Of channels with any lowest and highest level, flat ones among them."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (500, 3, 8, 8), generator=generator)
    ends = torch.randint(0, 256, (2, 500, 3, 1, 1), generator=generator)
    low, high = ends.amin(0), ends.amax(0)
    images = (low + levels * (high - low + 1) // 256).to(torch.uint8)
    images[:20, 0] = torch.arange(20, dtype=torch.uint8)[:, None, None]
    assert torch.equal(apply_op("autocontrast", images, 0), torchvision_functional.autocontrast(images))
