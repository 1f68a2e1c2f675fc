"""What the prose prints agrees with the code and with the results."""

import re
import runpy
from pathlib import Path

import pytest

from kdlib.chapters.claims import CLAIMS, CONTRASTS, judge
from kdlib.chapters.findings import TAKEN_HOME, taken_home
from kdlib.methods.ccd import CCD_WEIGHTS
from kdlib.study.profiles import PROFILES
from kdlib.study.setting import Setting
from kdlib.study.stats import MARGIN, PRIMARY_LEVEL
from kdlib.views.jda import JDA_LISTS
from kdlib.views.policies import POLICIES

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


@pytest.fixture(scope="module")
def readme() -> dict:
    """book/readme.py."""
    return runpy.run_path(str(ROOT / "book" / "readme.py"))


def test_pages_say_what_the_results_give(readme) -> None:
    assert [page.name for page in readme["PAGES"]] == ["README.md", "intro.md"]
    for page in readme["PAGES"]:
        assert readme["written"](page.read_text()) == page.read_text()
    with pytest.raises(ValueError, match="markers"):
        readme["between"]("no markers", "claims", "")


def test_readme_front_page_and_chapters_give_the_same_sentences(readme) -> None:
    with readme["published"]() as store:
        sentences = taken_home(store, Setting.of("reference", device="cpu")).split("\n")
    chapters = {name: (ROOT / "notebooks" / f"{name}.ipynb").read_text() for name in (*TAKEN_HOME, "12_verdicts")}
    for sentence, name in zip(sentences, TAKEN_HOME, strict=True):
        for page in (README, (ROOT / "book" / "intro.md").read_text()):
            assert sentence in page
        assert sentence[3:] in chapters[name] and sentence in chapters["12_verdicts"]


def test_the_figure_of_verdicts_says_what_the_results_give(readme) -> None:
    drawn = (ROOT / "book" / "_static" / "verdicts.svg").read_text()
    with readme["published"]() as store:
        judgements = judge(store, Setting.of("reference", device="cpu"))
    shown = [text for text in re.findall(r"<text[^>]*>([^<]+)</text>", drawn)]
    assert [text for text in shown if text in {j.title for j in judgements}] == [j.title for j in judgements]
    words = [j.judged.word for j in judgements]
    assert [text for text in shown if text in words] == words
