"""The lab computes what kdlib computes: its views pixel for pixel, its answers to the third decimal."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdlib.data.images import available, load_data
from kdlib.data.paths import checkpoint_root
from kdlib.methods.ccd import ccd_weights
from kdlib.models.checkpoints import find_checkpoint
from kdlib.models.network import Network
from kdlib.views.crops import crop_flip
from kdlib.views.jda import JDA, JDA_LISTS, jda
from kdlib.views.ops import MAGNITUDE_STEPS, OPS, apply_op

from .conftest import LAB, answered, assigned, packed, unpacked

DRAWS = 200
has_cifar100 = pytest.mark.skipif(not available("cifar100"), reason="CIFAR-100 is not on this machine")
has_checkpoint = pytest.mark.skipif(
    not (checkpoint_root() / find_checkpoint(LAB["CHECKPOINT"]).file).is_file(),
    reason="the public ResNet-20 is not on this machine",
)
pytestmark = pytest.mark.book


def test_every_op_at_every_magnitude_and_sign_is_kdlib_s(page, images: Tensor) -> None:
    asked = [(name, m, sign) for name in OPS for m in range(MAGNITUDE_STEPS) for sign in (1, -1)]
    given = page.evaluate(
        """([asked, images]) => asked.map(([name, m, sign]) =>
             images.map((image) => pack(kdlab.applyOp(name, unpack(image), m, sign))))""",
        [asked, [packed(image) for image in images]],
    )
    for (name, magnitude, sign), texts in zip(asked, given, strict=True):
        assert torch.equal(unpacked(texts), apply_op(name, images, magnitude, sign)), (name, magnitude, sign)


@pytest.mark.parametrize("ops", JDA_LISTS)
def test_views_are_kdlib_s_pixel_for_pixel(page, images: Tensor, ops: str) -> None:
    """Given the same uniforms; every op of the list fires among the draws, in its order."""
    generator = torch.Generator().manual_seed(len(ops))
    table = JDA_LISTS[ops][1]
    uniforms = torch.rand(DRAWS, 2 * len(table), generator=generator)
    chances = torch.rand(DRAWS, generator=generator).double().tolist()
    chances[:3] = [0.0, 1.0, uniforms[2, 0].item()]  # a uniform that equals p does not fire
    given = page.evaluate(
        """([ops, images, chances, uniforms]) => uniforms.map((u, k) => {
             const { ops: list } = kdlab.lists[ops], image = unpack(images[k % images.length]);
             return { view: pack(kdlab.jda(image, list, chances[k], u)), fired: kdlab.fired(list, chances[k], u) };
           })""",
        [ops, [packed(image) for image in images], chances, uniforms.tolist()],
    )
    fired = torch.zeros(len(table), dtype=torch.bool)
    for k, (answer, p) in enumerate(zip(given, chances, strict=True)):
        rule, image = JDA(table, p), images[k % len(images)][None]
        assert torch.equal(unpacked([answer["view"]]), rule(image, uniforms[k : k + 1])), (k, p)
        expected = rule.fired(uniforms[k : k + 1])[0]
        assert [(op["name"], op["magnitude"]) for op in answer["fired"]] == [
            op for op, fires in zip(table, expected, strict=True) if fires
        ]
        fired |= expected
    assert fired.all()


def test_crops_and_flips_are_kdlib_s(page, images: Tensor) -> None:
    uniforms = torch.rand(DRAWS, 3, generator=torch.Generator().manual_seed(5))
    given = page.evaluate(
        "([image, uniforms]) => uniforms.map((u) => pack(kdlab.cropFlip(unpack(image), u)))",
        [packed(images[0]), uniforms.tolist()],
    )
    assert torch.equal(unpacked(given), crop_flip(images[:1].expand(DRAWS, -1, -1, -1), uniforms))


def test_the_generator_is_uniform_and_float32(page) -> None:
    """10,000 numbers: each tenth of [0, 1) holds 1,000, give or take 5 standard deviations (fails once in 200,000)."""
    numbers = page.evaluate("[...Array(100).keys()].flatMap((seed) => kdlab.uniforms(seed, 100))")
    assert len(set(numbers)) > 9_900 and numbers == torch.tensor(numbers).double().tolist()
    counts = torch.histc(torch.tensor(numbers), 10, 0, 1)
    assert (counts - 1_000).abs().max() < 5 * 30


def test_answers_cosine_and_w_are_kdlib_s(page, network: Network, images: Tensor) -> None:
    pictures = torch.cat([unpacked([row["pixels"] for row in assigned(LAB["PICTURES"])["pictures"]]), images])
    with torch.no_grad():
        expected = network.logits(pictures)
    answers = page.evaluate(
        """async (images) => {
             const logits = await kdlab.logits(images.map(unpack));
             const cosines = logits.map((z) => kdlab.cosine(logits[0], z));
             return [logits.map((z) => [...z]), cosines, kdlab.softmax(logits[0], 4)];
           }""",
        [packed(image) for image in pictures],
    )
    logits, cosines, softened = (torch.tensor(answer) for answer in answers)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(cosines + 1, ccd_weights(expected[:1].expand_as(expected), expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(softened, (expected[0] / 4).softmax(0), rtol=0, atol=1e-4)


@has_checkpoint
def test_the_weights_are_those_of_the_public_checkpoint(network: Network) -> None:
    for name, values in LAB["teacher"]().backbone.state_dict().items():
        torch.testing.assert_close(network.backbone.state_dict()[name], values, rtol=1e-5, atol=1e-6)
    said, public = assigned(LAB["WEIGHTS"])["teacher"], find_checkpoint(LAB["CHECKPOINT"])
    assert (said["name"], said["contents"], said["licence"]) == (public.name, public.contents, public.licence)


@has_cifar100
def test_pictures_and_class_names_are_cifar100_s() -> None:
    test = load_data("cifar100").test
    assert tuple(assigned(LAB["WEIGHTS"])["teacher"]["classes"]) == test.classes
    for row in assigned(LAB["PICTURES"])["pictures"]:
        same = test.images[test.labels == test.classes.index(row["label"])] == unpacked([row["pixels"]])
        assert same.flatten(1).all(1).any(), row["label"]  # any: the order within a class depends on the files


def test_the_page_shows_what_its_functions_give(fresh, network: Network) -> None:
    """The list, p and the seed decide the views; the sentence has the cosine and w of what is shown."""
    fresh.select_option("[data-lab=list]", "cifar10")
    assert fresh.input_value("[data-lab=p]") == "0.5"
    fresh.fill("[data-lab=seed]", "7")
    answered(fresh)
    u = torch.tensor(fresh.evaluate("kdlab.uniforms(7, 2 * kdlab.lists.cifar10.ops.length + 6)"))
    picture = unpacked([assigned(LAB["PICTURES"])["pictures"][0]["pixels"]])
    views = [picture, jda("cifar10")(picture, u[None, 6:])]
    for crop in (False, True):
        if crop:
            fresh.check("[data-lab=crop]")
            views = [crop_flip(view, u[None, 3 * k : 3 * k + 3]) for k, view in enumerate(views)]
            answered(fresh)
        shown = unpacked([fresh.evaluate(f"seen('{name}')") for name in ("original", "augmented")])
        assert torch.equal(shown, torch.cat(views))
        with torch.no_grad():
            w = ccd_weights(*network.logits(shown)[:, None])
        found = re.findall(r"-?\d\.\d{3}", fresh.inner_text("[data-lab=said]"))
        assert [float(number) for number in found] == pytest.approx([w.item() - 1, w.item()], abs=1.1e-3)


def test_the_page_is_small_and_its_lists_are_the_code_s(html: Path) -> None:
    assert html.stat().st_size < 1_000_000
    said = assigned(html.parents[1] / "_static" / "lab" / "lists.js")
    assert {name: (row["p"], tuple(map(tuple, row["ops"]))) for name, row in said["lists"].items()} == JDA_LISTS
    assert list(said["ops"]) == list(OPS)
