"""Explorers: both faces show the same pictures, and the page's face needs nothing from anywhere."""

import base64
import io
import itertools
import json
import re
import warnings

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kdlib.chapters.claims import UNMEASURED, Judgement
from kdlib.chapters.joint_data_augmentation.drawing import explore_operations, explore_probability
from kdlib.chapters.verdicts.drawing import explore_levels
from kdlib.show import explorers
from kdlib.show.explorer import Explorer, sheet
from kdlib.study.judging import Judged
from kdlib.study.stats import PRIMARY_LEVEL, Verdict, mean_interval
from kdlib.study.tables import COLUMNS


def plain(level: int, word: str = "a") -> np.ndarray:
    return np.full((4, 5, 3), 10 * level + len(word), np.uint8)


@pytest.fixture
def explorer() -> Explorer:
    return Explorer({"level": [0, 1, 2], "word": ["a", "bb"]}, plain, "All <b>levels</b> & words")


def data_of(html: str) -> dict:
    return json.loads(re.search(r", data = (\{.*\});$", html, re.MULTILINE)[1])


def pixels(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as image:
        image.verify()
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_the_page_holds_one_picture_for_each_combination(explorer):
    html = explorer.html()
    data, first = data_of(html), re.search(r'<img src="data:image/png;base64,([^"]+)"', html)[1]
    assert data["sizes"] == [3, 2]
    assert data["names"] == ["level", "word"]
    choices = list(itertools.product([0, 1, 2], ["a", "bb"]))
    for picture, choice in zip(
        [first, *data["others"]], choices, strict=True
    ):  # in the order that the script counts in
        assert np.array_equal(pixels(base64.b64decode(picture)), plain(*choice))


def test_the_page_asks_for_nothing_and_escapes_text():
    odd = '</script><script>alert("x")</script>'
    html = Explorer({odd: [odd, "<i>"], "n": [0, 1]}, lambda *_: plain(1), odd).html()
    html = re.sub(r'src="data:image/png;base64,[^"]+"', "", html)
    assert not re.search(r"(https?:)?//[a-z]", html.split("<script>")[0])
    assert "http:" not in html
    assert "https:" not in html
    assert html.count("</script>") == 1  # nothing but the end of the script ends it
    assert "&lt;/script&gt;" in html
    assert data_of(html)["names"][0] == odd
    assert "<i>" not in html.split("<script>")[0]
    assert 'type="range"' in html
    assert "<select" in html


def test_two_explorers_have_two_identities(explorer):
    other = Explorer({"level": [0, 1]}, plain, "Others")
    identities = [re.search(r'id="(kd-\w+)"', e.html())[1] for e in (explorer, other)]
    assert len(set(identities)) == 2
    for e, identity in zip((explorer, other), identities, strict=True):
        assert f'getElementById("{identity}")' in e.html()
    assert explorer.html() == explorer.html()  # the same notebook gives the same page


def test_the_widget_follows_its_controls(explorer):
    box = explorer.widget()
    controls, image, _ = box.children
    slider, menu = controls.children
    assert isinstance(slider, widgets.SelectionSlider)
    assert isinstance(menu, widgets.Dropdown)
    assert np.array_equal(pixels(image.value), plain(0, "a"))
    slider.value = 2
    assert np.array_equal(pixels(image.value), plain(2, "a"))
    menu.value = "bb"
    assert np.array_equal(pixels(image.value), plain(2, "bb"))
    assert "<b>levels</b>" not in box.children[2].value


def test_one_output_has_both_faces(explorer):
    bundle = explorer._repr_mimebundle_()
    assert {"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    assert bundle["text/plain"] == explorer.about
    assert bundle["text/html"] == explorer.html()


def test_figures_are_rendered_and_closed():
    def draw(_):
        figure, axis = plt.subplots(figsize=(1, 1))
        axis.plot([0, 1])
        return figure

    before = plt.get_fignums()
    assert pixels(Explorer({"x": [0]}, draw, "A line").picture(0)).shape == (80, 80, 3)
    assert plt.get_fignums() == before


def test_sheets_put_images_side_by_side():
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    page = sheet(images, images.flip(0), gap=1)
    assert page.shape == (9, 9, 3)
    assert np.array_equal(page[:4, :4], images[0].permute(1, 2, 0).numpy())
    assert np.array_equal(page[5:, :4], images[1].permute(1, 2, 0).numpy())
    assert (page[4] == 255).all()
    assert (page[:, 4] == 255).all()


def test_the_explorers_of_the_chapters_render_without_warnings():
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = [{"arm": a, "seed": s, "top1": 50.0 + s, "nll": 1.0, "mean_w": None} for a in "xy" for s in (0, 1)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    nan = mean_interval([], PRIMARY_LEVEL)
    judged = [
        Judgement(
            "a1",
            "x - y",
            "03",
            (1.0, 2.0, 3.0),
            mean_interval([1.0, 2.0, 3.0], PRIMARY_LEVEL),
            Judged(Verdict.SUPPORTED, Verdict.SUPPORTED),
        ),
        Judgement("b1", "u - v", "04", (), nan, UNMEASURED),
    ]
    stored = [{"id": 0, "label": 1, "w": 1.5, "original": [0.0, 2.0], "augmented": [1.0, 0.0]}] * 2
    examples = explorers.gather_examples(stored, images[:, None].repeat(1, 2, 1, 1, 1), ("cat", "dog"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = [
            (explorers.metrics(frame, ["x", "y"]), ("top-1, %",)),
            (explorers.metrics(frame[:0], ["x", "y"]), ("top-1, %",)),
            (explore_levels(judged), (95,)),
            (explore_probability("cifar100", images), (0.5, 0)),
            (explore_operations(images), ("rotate", 5)),
            (examples.temperatures((1, 4)), (4,)),
            (examples.explorer(), (1,)),
        ]
        for explorer, choice in made:
            assert pixels(explorer.picture(*choice)).std() > 0
    assert plt.get_fignums() == []
    assert list(made[0][0].controls["measure"]) == ["top-1, %", "negative log-likelihood, nats"]


def test_a_metric_that_some_arms_lack_can_be_shown():
    rows = [{"arm": a, "seed": s, "top1": 50.0, "agreement": None if a == "x" else 70.0} for a in "xy" for s in (0, 1)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    picture = explorers.metrics(frame, ["x", "y"]).picture("agreement with the teacher, %")
    assert pixels(picture).std() > 0
