"""Writes what README.md shows of the results: the table of claims, between its markers, and the figure of views.

python book/readme.py
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from kdlib import pictures, plots
from kdlib.claims import readme_table
from kdlib.data import BUNDLED, load_data
from kdlib.store import Store
from kdlib.studies import Setting
from kdlib.views.policies import create_policy

ROOT = Path(__file__).resolve().parent.parent
MARKERS = ("<!-- claims -->", "<!-- /claims -->")


def with_table(text: str, table: str) -> str:
    """`text` with `table` between the markers. Raises ValueError if they are not there."""
    start, end = MARKERS
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"README.md lacks the markers {start} and {end}")
    return pattern.sub(lambda _: f"{start}\n{table}\n{end}", text)


def claims() -> str:
    """The table as the published results give it now; runs of this machine alone do not count."""
    with TemporaryDirectory() as nothing:
        return readme_table(Store("reference", runs=Path(nothing)), Setting.of("reference"))


def figure(path: Path) -> None:
    """Images, weak views and JDA views: colour tiles and bundled images."""
    test = load_data(BUNDLED).test
    policy = create_policy("jda")
    colour, grey = pictures.photographs(6), pictures.some_images(test, 6)
    views = [pictures.views_of(policy, images, seed=1) for images in (colour, grey)]
    rows = [colour, views[0][:, 0], views[0][:, 1], grey, views[1][:, 0], views[1][:, 1]]
    names = ["image", "original view", "augmented view"] * 2
    plots.tiles(rows, names).savefig(path)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), claims()))
    figure(ROOT / "book" / "_static" / "views.png")
