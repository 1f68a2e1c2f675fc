"""The tables that chapters link say what the store says, and every chapter has its two lines."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from docutils import nodes
from docutils.utils import new_document

from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store, only_published
from kdlib.study.setting import Setting
from kdlib.study.tables import METRICS

from .conftest import ROOT, chapters

BOOK = {name: runpy.run_path(str(ROOT / "book" / f"{name}.py")) for name in ("downloads", "ends")}
PROFILES = {"notebooks/03_blind_teacher.ipynb": "reference", "notebooks/18_budget.ipynb": "full"}


def read(site: Path, name: str) -> pd.DataFrame:
    """A table as a reader has it."""
    return pd.read_csv(site / BOOK["downloads"]["FOLDER"] / f"{name}.csv")


def stored(name: str, profile: str) -> list[tuple[str, dict]]:
    """(arm, content of the file) of every published run of a chapter, read from results/ as JSON."""
    study = create_study(name, Setting.of(profile, device="cpu"))
    with only_published(profile) as store:
        found = [(arm, store.get(spec)) for arm in study.arms for spec in study.specs(arm)]
    return [(arm, json.loads((ROOT / "results" / f"{r.key}.json").read_text())) for arm, r in found if r]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of two chapters with runs, and of one without."""
    folder = tmp_path_factory.mktemp("site")
    BOOK["downloads"]["write_published"](folder, PROFILES | {"notebooks/13_your_own.ipynb": "reference"})
    return folder


@pytest.mark.parametrize("notebook", PROFILES)
def test_the_numbers_of_a_table_are_those_of_results(site: Path, notebook: str) -> None:
    name = Path(notebook).stem
    table, files = read(site, name), stored(name, PROFILES[notebook])
    assert len(table) == len(files) > 10
    for (_, row), (arm, content) in zip(table.iterrows(), files, strict=True):
        assert (row.arm, row.seed) == (arm, content["spec"]["seed"])
        for metric in METRICS:
            value = content["metrics"].get(metric)
            assert pd.isna(row[metric]) if value is None else row[metric] == value, metric
        assert row.seconds == content["provenance"]["seconds"] and row.commit == content["provenance"]["commit"]


def test_a_chapter_without_runs_has_no_table(site: Path) -> None:
    assert not (site / BOOK["downloads"]["FOLDER"] / "13_your_own.csv").exists()


def test_an_executed_book_has_the_runs_of_its_own_parameters(isolated: Path, invented) -> None:
    store, setting = Store("quick"), Setting.of("quick", seeds=[3], device="cpu")
    study = create_study("03_blind_teacher", setting)
    (spec,) = study.specs(next(iter(study.arms)))
    store.put(invented(spec, "quick", top1=12.5))
    given = {"profile": "quick", "device": "cpu", "seeds": [3]}
    BOOK["downloads"]["write_stored"](isolated, ["notebooks/03_blind_teacher.ipynb"], "quick", given)
    table = read(isolated, "03_blind_teacher")
    assert table[["seed", "top1"]].to_numpy().tolist() == [[3, 12.5]]


def dressed(site: Path, page: str) -> list[str]:
    """What a page consists of once the lines are put: the texts of its parts."""
    document, section = new_document(page), nodes.section()
    document += section
    section += [nodes.title("", "Title"), nodes.paragraph("", "Text")]
    BOOK["ends"]["put"](SimpleNamespace(srcdir=site), document, page)
    return [part.astext() for part in section.children]


def test_a_chapter_says_how_to_run_it_below_its_title_and_what_to_cite_at_its_end(site: Path) -> None:
    title, top, text, end = dressed(site, "notebooks/03_blind_teacher")
    assert (title, text) == ("Title", "Text")
    assert "<code>make lab</code>" in top and "papermill notebooks/03_blind_teacher.ipynb out.ipynb" in top
    count = len(read(site, "03_blind_teacher"))
    assert f'href="../_static/tables/03_blind_teacher.csv" download>the runs behind it (CSV, {count} runs)' in end
    assert 'href="../_sources/notebooks/03_blind_teacher.ipynb"' in end


def test_without_runs_only_the_notebook_is_linked_and_other_pages_stay(site: Path) -> None:
    *_, end = dressed(site, "notebooks/13_your_own")
    assert "CSV" not in end and "13_your_own.ipynb" in end
    assert dressed(site, "book/methods") == ["Title", "Text"]


def test_the_lines_are_not_pasted_in_the_notebooks() -> None:
    for name in chapters():
        said = "\n".join(cell.source for cell in nbformat.read(ROOT / name, 4).cells)
        assert "To cite a figure" not in said and "_static/tables" not in said
