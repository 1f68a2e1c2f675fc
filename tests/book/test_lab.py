"""The lab, in a browser without a network: its views are kdlib's pixel for pixel, its answers kdlib's to the third
decimal, and a reader can work it with a keyboard, on a phone, and with a picture of their own."""

import base64
import io
import json
import re
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from kdlib.data.images import available, load_data
from kdlib.data.paths import checkpoint_root
from kdlib.methods.ccd import ccd_weights
from kdlib.models import create_model
from kdlib.models.checkpoints import find_checkpoint
from kdlib.models.network import Network
from kdlib.show.pictures import photographs
from kdlib.views.crops import crop_flip
from kdlib.views.jda import JDA, JDA_LISTS, jda
from kdlib.views.ops import MAGNITUDE_STEPS, OPS, apply_op

from .conftest import ROOT, blank, build, chapters

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LAB = runpy.run_path(str(ROOT / "book" / "lab.py"))
LINKED = ("02_joint_data_augmentation", "08_cosine_confidence")  # chapters that the page links to
DRAWS = 200
# What the theme says of itself on every page of the book.
OF_THE_THEME = ("Identifier 'THEBE_JS_URL' has already been declared", "Got invalid theme mode: . Resetting to auto.")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
has_cifar100 = pytest.mark.skipif(not available("cifar100"), reason="CIFAR-100 is not on this machine")
has_checkpoint = pytest.mark.skipif(
    not (checkpoint_root() / find_checkpoint(LAB["CHECKPOINT"]).file).is_file(),
    reason="the public ResNet-20 is not on this machine",
)
pytestmark = pytest.mark.book

# Pictures travel as base64 of their levels, channel by channel.
HELPERS = """
window.unpack = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
window.pack = (image) => btoa(String.fromCharCode(...image));
window.seen = (name) => {
  const pixels = document.querySelector(`[data-lab="${name}"]`).getContext("2d").getImageData(0, 0, 32, 32).data;
  return pack([0, 1, 2].flatMap((c) => [...pixels].filter((_, i) => i % 4 === c)));
};
"""


def assigned(path: Path) -> dict:
    """What a script sets: field of the lab -> value."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"\(window\.kdlab = window\.kdlab \|\| \{\}\)\.(\w+) = (.*);", line) for line in lines]
    return {match[1]: json.loads(match[2]) for match in found}


@pytest.fixture(scope="module")
def html(make_tree: Callable[..., Path]) -> Path:
    """A small book: the lab, and blank chapters for its links."""
    tree = make_tree(blank(chapters()[0]))
    entries = [{"file": f"notebooks/{name}"} for name in LINKED]
    toc = {"format": "jb-book", "root": "book/lab", "chapters": entries}
    (tree / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    done = build(tree, "--published")
    assert done.returncode == 0, done.stdout + done.stderr
    return tree / "_build" / "published" / "html" / "book" / "lab.html"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium, of the system."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def open_page(browser) -> Callable:
    """open_page(path, **context): a page without a network that has answered, and the list of what went wrong on it."""

    def opened(path: Path, wait: bool = True, **context):
        page, wrong = browser.new_context(offline=True, **context).new_page(), []

        def note(text: str) -> None:
            if not text.startswith(OF_THE_THEME):
                wrong.append(text)

        page.on("console", lambda message: note(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("request", lambda request: None if _local(request.url) else note(request.url))
        page.add_init_script(HELPERS)
        page.goto(path.as_uri())
        if wait:
            answered(page)
        return page, wrong

    return opened


def _local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


def answered(page) -> None:
    """Wait until the teacher has answered the last question."""
    page.wait_for_function("""() => document.getElementById("kd-lab").getAttribute("aria-busy") === "false" """)


@pytest.fixture(scope="module")
def page(html: Path, open_page: Callable) -> Iterator:
    """The lab, for tests that only ask its functions."""
    opened, wrong = open_page(html)
    yield opened
    assert wrong == []


@pytest.fixture
def fresh(html: Path, open_page: Callable) -> Iterator:
    """The lab as a reader finds it."""
    opened, wrong = open_page(html)
    yield opened
    opened.context.close()
    assert wrong == []


def packed(image: Tensor) -> str:
    return base64.b64encode(image.numpy().tobytes()).decode()


def unpacked(texts: list[str]) -> Tensor:
    levels = [np.frombuffer(base64.b64decode(text), np.uint8).copy() for text in texts]
    return torch.from_numpy(np.stack(levels)).view(-1, 3, 32, 32)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """uint8 [12, 3, 32, 32]: photographs, noise, noise of few levels, ramps, one level, two levels."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(0, 256, (2, 3, 32, 32), generator=generator)
    faint = torch.randint(100, 120, (1, 3, 32, 32), generator=generator)
    ramps = torch.stack([(4 * torch.arange(32) + 3 * c).expand(32, 32) for c in range(3)])[None]
    flat, two = torch.full((1, 3, 32, 32), 77), 255 * (noise[:1] > 250)
    made = torch.cat([noise, faint, ramps, flat, two]).to(torch.uint8)
    return torch.cat([photographs(6), made])


@in_browser
def test_every_op_at_every_magnitude_and_sign_is_kdlib_s(page, images: Tensor) -> None:
    asked = [(name, m, sign) for name in OPS for m in range(MAGNITUDE_STEPS) for sign in (1, -1)]
    given = page.evaluate(
        """([asked, images]) => asked.map(([name, m, sign]) =>
             images.map((image) => pack(kdlab.applyOp(name, unpack(image), m, sign))))""",
        [asked, [packed(image) for image in images]],
    )
    for (name, magnitude, sign), texts in zip(asked, given, strict=True):
        assert torch.equal(unpacked(texts), apply_op(name, images, magnitude, sign)), (name, magnitude, sign)


@in_browser
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


@in_browser
def test_crops_and_flips_are_kdlib_s(page, images: Tensor) -> None:
    uniforms = torch.rand(DRAWS, 3, generator=torch.Generator().manual_seed(5))
    given = page.evaluate(
        "([image, uniforms]) => uniforms.map((u) => pack(kdlab.cropFlip(unpack(image), u)))",
        [packed(images[0]), uniforms.tolist()],
    )
    assert torch.equal(unpacked(given), crop_flip(images[:1].expand(DRAWS, -1, -1, -1), uniforms))


@in_browser
def test_the_generator_is_uniform_and_float32(page) -> None:
    """10,000 numbers: each tenth of [0, 1) holds 1,000, give or take 5 standard deviations (fails once in 200,000)."""
    numbers = page.evaluate("[...Array(100).keys()].flatMap((seed) => kdlab.uniforms(seed, 100))")
    assert len(set(numbers)) > 9_900 and numbers == torch.tensor(numbers).double().tolist()
    counts = torch.histc(torch.tensor(numbers), 10, 0, 1)
    assert (counts - 1_000).abs().max() < 5 * 30


@pytest.fixture(scope="module")
def network() -> Network:
    """kdlib's network with the weights of the page's script."""
    said = assigned(LAB["WEIGHTS"])["teacher"]
    values, start = np.frombuffer(base64.b64decode(said["values"]), "<f4"), 0
    folded = Network(create_model("resnet20", 100).eval(), said["mean"], said["std"]).frozen()
    state = {}
    for name, shape in said["shapes"].items():
        tensor = torch.from_numpy(values[start : start + int(np.prod(shape))].reshape(shape).copy())
        state[name] = tensor.permute(-1, -2, *range(tensor.ndim - 2)) if tensor.ndim > 1 else tensor
        start += tensor.numel()
    assert start == len(values)
    folded.backbone.load_state_dict(state, strict=True)
    return folded


@in_browser
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


@in_browser
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


def answers(page) -> tuple[str, str]:
    return tuple(page.inner_text(f"[data-lab='{name} answers']") for name in ("original", "augmented"))


@in_browser
def test_temperature_moves_the_answers_but_not_the_cosine(fresh) -> None:
    before, said = answers(fresh), fresh.inner_text("[data-lab=said]")
    fresh.focus("[data-lab=temperature]")
    for _ in range(6):
        fresh.keyboard.press("ArrowRight")
    assert all(now != was for now, was in zip(answers(fresh), before, strict=True))
    assert fresh.inner_text("[data-lab=said]") == said
    assert fresh.inner_text("output[data-of=temperature]") == "4.0"


@in_browser
def test_the_keyboard_chooses_pictures_and_draws_again(fresh) -> None:
    first = fresh.evaluate("seen('original')"), fresh.evaluate("seen('augmented')")
    fresh.focus("[name=kd-lab-picture]:checked")
    fresh.keyboard.press("ArrowRight")
    second = fresh.evaluate("seen('original')"), fresh.evaluate("seen('augmented')")
    assert second[0] != first[0] and second[0] == assigned(LAB["PICTURES"])["pictures"][1]["pixels"]
    fresh.fill("[data-lab=p]", "1")
    augmented = fresh.evaluate("seen('augmented')")
    fresh.focus("[data-lab=again]")
    fresh.keyboard.press("Enter")
    assert fresh.input_value("[data-lab=seed]") == "3"
    assert fresh.evaluate("seen('original')") == second[0] and fresh.evaluate("seen('augmented')") != augmented
    answered(fresh)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@in_browser
def test_a_reader_s_picture_is_taken_chosen_or_dropped(fresh, images: Tensor) -> None:
    before = answers(fresh)
    own = png(images[0].permute(1, 2, 0).numpy())
    fresh.set_input_files("[data-lab=file]", {"name": "own.png", "mimeType": "image/png", "buffer": own})
    fresh.wait_for_function("(levels) => seen('original') === levels", arg=packed(images[0]))
    assert "own.png" in fresh.get_attribute("[data-lab=original]", "aria-label")
    answered(fresh)
    assert answers(fresh) != before
    wide = np.zeros((64, 200, 3), np.uint8)
    wide[:, 68:132] = (10, 200, 30)  # the square in the middle
    fresh.evaluate(
        """(text) => {
             const data = new DataTransfer();
             data.items.add(new File([unpack(text)], "wide.png", { type: "image/png" }));
             const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
             document.getElementById("kd-lab").dispatchEvent(drop);
           }""",
        base64.b64encode(png(wide)).decode(),
    )
    green = torch.tensor([10, 200, 30], dtype=torch.uint8)[:, None, None].expand(3, 32, 32).contiguous()
    fresh.wait_for_function("(levels) => seen('original') === levels", arg=packed(green))
    fresh.set_input_files("[data-lab=file]", {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
    fresh.get_by_text("no.png is not a picture that this browser reads.").wait_for()
    assert fresh.evaluate("seen('original')") == packed(green)


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling(html: Path, open_page: Callable, scheme: str) -> None:
    page, wrong = open_page(html, viewport={"width": 375, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    outside = "[...document.querySelectorAll('#kd-lab *')].filter((e) => e.getBoundingClientRect().right > 375).length"
    assert page.evaluate(outside) == 0
    assert wrong == []


@in_browser
def test_every_control_and_picture_has_a_name(page) -> None:
    nameless = """[...document.querySelectorAll("#kd-lab input, #kd-lab select, #kd-lab button, #kd-lab [role=img]")]
      .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels.length)))
      .map((e) => e.outerHTML)"""
    assert page.evaluate(nameless) == []


@in_browser
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("resnet20", "The teacher's weights are not in this copy of the book, so no teacher answers here."),
        ("tf.min", "TensorFlow.js is not in this copy of the book, so no teacher answers here."),
        ("pictures", "The example pictures are not in this copy of the book: choose one of your own."),
    ],
)
def test_the_page_says_what_is_missing(html: Path, open_page: Callable, script: str, sentence: str) -> None:
    without = html.with_name(f"without_{script}.html")
    text, removed = re.subn(rf'<script src="[^"]*{script}\.js"></script>', "", html.read_text(encoding="utf-8"))
    assert removed == 1
    without.write_text(text, encoding="utf-8")
    page, wrong = open_page(without, wait=False)
    assert page.inner_text("[data-lab=said]") == sentence
    page.click("[data-lab=again]")
    assert wrong == []


@in_browser
def test_paper_and_browsers_without_scripts_get_a_figure(html: Path, open_page: Callable, page) -> None:
    still, _ = open_page(html, wait=False, java_script_enabled=False)
    assert still.is_visible("#kd-lab-print img") and not still.is_visible("#kd-lab")
    assert not page.is_visible("#kd-lab-print img") and page.is_visible("#kd-lab")
    page.emulate_media(media="print")
    assert page.is_visible("#kd-lab-print img") and not page.is_visible("#kd-lab")
    page.emulate_media(media="screen")


def test_the_page_is_small_and_its_lists_are_the_code_s(html: Path) -> None:
    assert html.stat().st_size < 1_000_000
    said = assigned(html.parents[1] / "_static" / "lab" / "lists.js")
    assert {name: (row["p"], tuple(map(tuple, row["ops"]))) for name, row in said["lists"].items()} == JDA_LISTS
    assert list(said["ops"]) == list(OPS)
