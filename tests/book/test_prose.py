"""What the prose prints agrees with the code and with the results."""

import re
import runpy
from pathlib import Path

import pytest

from kdlib.claims import CLAIMS, CONTRASTS
from kdlib.losses import CCD_WEIGHTS
from kdlib.profiles import PROFILES
from kdlib.stats import MARGIN, PRIMARY_LEVEL
from kdlib.views.policies import JDA_LISTS, POLICIES

ROOT = Path(__file__).resolve().parents[2]
METHODS, HOW_TO_READ, README = (
    (ROOT / name).read_text() for name in ("book/methods.md", "book/how_to_read.md", "README.md")
)


@pytest.mark.parametrize(
    ("title", "name"), [("CIFAR-100", "cifar100"), ("CIFAR-10", "cifar10"), ("ImageNet", "imagenet")]
)
def test_op_lists(title: str, name: str) -> None:
    """The printed list, its p and its order are those of the code."""
    p, printed = re.search(rf"^\| {title} \| ([\d.]+) \| (.+) \|$", METHODS, re.MULTILINE).groups()
    ops = tuple((op, int(index)) for op, index in (entry.split() for entry in printed.split(", ")))
    assert (float(p), ops) == JDA_LISTS[name]


def test_every_policy_and_every_weight_is_described() -> None:
    for name in (*POLICIES, *CCD_WEIGHTS):
        assert f"| `{name}` |" in METHODS


def test_the_verdict_rule_is_the_one_that_is_computed() -> None:
    assert f"The margin is {MARGIN} points" in HOW_TO_READ
    assert "1 - 0.05/9" in HOW_TO_READ and pytest.approx(1 - 0.05 / 9) == PRIMARY_LEVEL
    rows = dict(re.findall(r"^\| ([a-f]\d?) \| .+ \| (\w+) \|$", HOW_TO_READ, re.MULTILINE))
    assert rows == {contrast: claim.name for claim in CLAIMS for contrast in claim.contrasts}
    assert list(rows) == list(CONTRASTS)


def test_profiles_are_described() -> None:
    assert re.findall(r"^\| (\w+) \| .+ \| .+ \| .+ \|$", HOW_TO_READ, re.MULTILINE)[1 : 1 + len(PROFILES)] == list(
        PROFILES
    )


def test_readme_table_is_what_the_results_give() -> None:
    book = runpy.run_path(str(ROOT / "book" / "readme.py"))
    assert book["with_table"](README, book["claims"]()) == README
    with pytest.raises(ValueError, match="markers"):
        book["with_table"]("no markers", "")
