"""Writes what README.md and the front page show of the results, between their markers, and their figures.

python book/readme.py
"""

import re
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt

from kdlib.chapters.claims import judge, readme_table
from kdlib.chapters.findings import taken_home
from kdlib.chapters.verdicts.drawing import forest
from kdlib.data.images import BUNDLED, load_data
from kdlib.lab.store import only_published
from kdlib.show import figures, pictures
from kdlib.study.setting import Setting
from kdlib.views.policies import create_policy

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "book" / "intro.md")

#: What both pages show.
published = partial(only_published, "reference")


def between(text: str, name: str, content: str) -> str:
    """`text` with `content` between the markers of a name. Raises ValueError if they are not there."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the page lacks the markers {start} and {end}")
    return pattern.sub(lambda _: f"{start}\n{content}\n{end}", text)


def written(text: str) -> str:
    """A page with its findings and claims as the published results give them now."""
    with published() as store:
        setting = Setting.of("reference", device="cpu")
        text = between(text, "findings", taken_home(store, setting))
        return between(text, "claims", readme_table(store, setting))


def verdicts(path: Path) -> None:
    """The primary contrasts with their verdicts."""
    with published() as store, plt.rc_context({"svg.hashsalt": "kdlib", "svg.fonttype": "none"}):
        setting = Setting.of("reference", device="cpu")
        figure = forest(judge(store, setting), setting.verdicts)
        figure.savefig(path, metadata={"Date": None})


def views(path: Path) -> None:
    """Images, weak views and JDA views: colour tiles and bundled images."""
    test = load_data(BUNDLED).test
    policy = create_policy("jda")
    colour, grey = pictures.photographs(6), pictures.some_images(test, 6)
    drawn = [pictures.views_of(policy, images, seed=1) for images in (colour, grey)]
    rows = [colour, drawn[0][:, 0], drawn[0][:, 1], grey, drawn[1][:, 0], drawn[1][:, 1]]
    names = ["image", "original view", "augmented view"] * 2
    figures.tiles(rows, names).savefig(path)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written(page.read_text()))
    views(ROOT / "book" / "_static" / "views.png")
    verdicts(ROOT / "book" / "_static" / "verdicts.svg")
