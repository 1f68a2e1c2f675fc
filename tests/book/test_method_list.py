"""The page of methods lists what the code has, and its counts are those of the networks themselves."""

import re
import runpy

import pytest
import torch

from kdlib.lab.cost import parameters
from kdlib.methods import METHODS, policies_of
from kdlib.methods.hsakd import AuxiliaryBranches
from kdlib.models import create_model

from .conftest import ROOT

methods_page, PAIR = (runpy.run_path(str(ROOT / "book" / "method_list.py"))[n] for n in ("methods_page", "PAIR"))
PAGE = methods_page()


def section(name: str) -> str:
    """The part of the page between a method's target and the next."""
    return re.search(rf"^\(method-{name}\)=\n(.*?)(?=^\(method-|\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_formula_source_views_and_defaults(name: str):
    definition, text = METHODS[name], section(name)
    assert f"$$\n{definition.formula}\n$$" in text
    assert definition.source[1:] in text
    views = text[text.index("View policies") :].splitlines()[0]
    assert dict(re.findall(r"`(\w+)` \((\d+)\)", views)) == {p: str(n) for p, n in policies_of(name).items()}
    fields = definition.options.model_fields
    assert [option for option, _ in re.findall(r"^\| `(\w+)` \| .* \| (.+) \|$", text, re.MULTILINE)] == list(fields)
    assert all(f"`{first}`" in text for first in definition.taught_by)


@pytest.mark.parametrize("name", METHODS)
def test_every_greek_letter_of_a_formula_is_one_option(name: str):
    letters = set(re.findall(r"\\(?:alpha|beta|gamma|delta|tau)", METHODS[name].formula))
    symbols = re.findall(r"^\| `\w+` \| \$(.+)\$ \| ", section(name), re.MULTILINE)
    assert len(symbols) == len(set(symbols))
    assert letters <= set(symbols)


def test_the_summary_counts_the_branches_of_both_networks():
    row = next(line for line in PAGE.splitlines() if line.startswith("| [`hsakd`]"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    with torch.device("meta"):
        teacher, student = (parameters(AuxiliaryBranches(create_model(n, 100))) for n in PAIR)
    assert cells[2] == f"{teacher + student:,}"
    assert cells[3] == f"{4 * (3 * student + teacher) / 1e6:.2f}"  # gradients and momentum of the student's alone
    assert cells[4] == "0.0"


def test_the_bank_of_crd_has_two_rows_of_128_for_each_image():
    row = next(line for line in PAGE.splitlines() if line.startswith("| [`crd`]"))
    assert row.split("|")[5].strip() == f"{2 * 50_000 * 128 * 4 / 1e6:.1f}"


@pytest.mark.parametrize(
    ("name", "trains"),
    [
        ("ce", "the student"),
        ("kd", "the student"),
        ("hsakd_teacher", "the teacher's head"),
        ("hsakd_joint_teacher", "the teacher and its head"),
        ("soteacher", "the teacher"),
    ],
)
def test_the_summary_says_what_is_trained(name: str, trains: str):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| [`{name}`]"))
    assert row.split("|")[2].strip() == trains


def test_a_method_that_is_registered_is_listed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["kd"])
    assert "(method-mine)=" in methods_page()
