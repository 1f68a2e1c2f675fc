"""The lab as a small book of its own, opened in the Chromium of the system without a network."""

import base64
import json
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml
from nbformat.v4 import new_markdown_cell
from torch import Tensor

from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.show.pictures import photographs

from ..conftest import ROOT, blank, build, chapters

LAB = runpy.run_path(str(ROOT / "book" / "lab.py"))
LINKED = ("02_joint_data_augmentation", "08_cosine_confidence")  # chapters that the page links to, and it stands in
ASKING = "[The lab](../book/lab.md) does it here."

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


@pytest.fixture(scope="session")
def html(make_tree: Callable[..., Path], make_once: Callable[..., Path]) -> Path:
    """A small book: the lab, and chapters for its links that say nothing but that the lab is to stand there."""

    def make() -> Path:
        tree = make_tree(blank(chapters()[0]))
        for name in LINKED:
            asking = blank(name)
            said = f"Not in the middle of a text: [The lab](../book/lab.md).\n\n{ASKING}"
            asking.cells.append(new_markdown_cell(said))
            nbformat.write(asking, tree / "notebooks" / f"{name}.ipynb")
        entries = [{"file": f"notebooks/{name}"} for name in LINKED]
        toc = {"format": "jb-book", "root": "book/lab", "chapters": entries}
        (tree / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
        done = build(tree, "--published")
        assert done.returncode == 0, done.stdout + done.stderr
        return tree / "_build" / "published" / "html"

    return make_once("lab-pages", make) / "book" / "lab.html"


@pytest.fixture(scope="module")
def open_page(browser) -> Callable:
    """open_page(path, **context): a page without a network that has answered, and the list of what went wrong on it."""

    def opened(path: Path, wait: bool = True, **context):
        page, wrong = browser.new_context(offline=True, **context).new_page(), []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if _local(request.url) else wrong.append(request.url))
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
