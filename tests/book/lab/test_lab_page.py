"""A reader can work the lab: with a keyboard, on a phone, with a picture of their own, on paper."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from .conftest import LAB, answered, assigned, packed

pytestmark = pytest.mark.book


def answers(page) -> tuple[str, str]:
    return tuple(page.inner_text(f"[data-lab='{name} answers']") for name in ("original", "augmented"))


def test_temperature_moves_the_answers_but_not_the_cosine(fresh) -> None:
    before, said = answers(fresh), fresh.inner_text("[data-lab=said]")
    fresh.focus("[data-lab=temperature]")
    for _ in range(6):
        fresh.keyboard.press("ArrowRight")
    assert all(now != was for now, was in zip(answers(fresh), before, strict=True))
    assert fresh.inner_text("[data-lab=said]") == said
    assert fresh.inner_text("output[data-of=temperature]") == "4.0"


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling(html: Path, open_page: Callable, scheme: str) -> None:
    page, wrong = open_page(html, viewport={"width": 375, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    outside = "[...document.querySelectorAll('#kd-lab *')].filter((e) => e.getBoundingClientRect().right > 375).length"
    assert page.evaluate(outside) == 0
    assert wrong == []


def test_every_control_and_picture_has_a_name(page) -> None:
    nameless = """[...document.querySelectorAll("#kd-lab input, #kd-lab select, #kd-lab button, #kd-lab [role=img]")]
      .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels.length)))
      .map((e) => e.outerHTML)"""
    assert page.evaluate(nameless) == []


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


def test_paper_and_browsers_without_scripts_get_a_figure(html: Path, open_page: Callable, page) -> None:
    still, _ = open_page(html, wait=False, java_script_enabled=False)
    assert still.is_visible("#kd-lab-print img") and not still.is_visible("#kd-lab")
    assert not page.is_visible("#kd-lab-print img") and page.is_visible("#kd-lab")
    page.emulate_media(media="print")
    assert page.is_visible("#kd-lab-print img") and not page.is_visible("#kd-lab")
    page.emulate_media(media="screen")
