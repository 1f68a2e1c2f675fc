"""What book/build.py refuses, and that a failure leaves the pages as they were."""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell

from .conftest import ROOT, blank, build, chapters, load, standin

pytestmark = pytest.mark.book


def pages_marker(tree: Path) -> Path:
    """A page of an earlier build."""
    index = tree / "_build" / "html" / "index.html"
    index.parent.mkdir(parents=True)
    index.write_text("earlier", encoding="utf-8")
    return index


def test_failing_notebook_is_named_and_pages_stay(make_tree: Callable[..., Path]) -> None:
    notebook = blank(chapters()[0])
    notebook.cells.append(new_code_cell('raise ArithmeticError("seven is odd")'))
    tree = make_tree(notebook, alone=True)
    index = pages_marker(tree)
    done = build(tree)
    assert done.returncode == 1
    assert f"{Path(chapters()[0]).name} failed in cell" in done.stderr
    assert "ArithmeticError: seven is odd" in done.stderr
    assert index.read_text(encoding="utf-8") == "earlier"
    assert [path.name for path in index.parent.iterdir()] == ["index.html"]
    assert not list((tree / "_build").rglob("executing/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "seedz", "[0]"], "has no parameter 'seedz'; its parameters: profile, device, missing, seeds"),
        (["-p", "seeds", "3"], "parameter seeds must be of type list, got 3 (int)"),
    ],
)
def test_wrong_parameter_is_refused_before_running(
    make_tree: Callable[..., Path], capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert load(make_tree(standin(), alone=True)).main(arguments) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert "running" not in printed.out


def test_broken_reference_fails_the_build(make_tree: Callable[..., Path]) -> None:
    tree = make_tree(blank(chapters()[0]), alone=True)
    (tree / "book" / "intro.md").write_text("# Stand-in\n\nSee {doc}`nowhere`.\n", encoding="utf-8")
    index = pages_marker(tree)
    done = build(tree, "--published")
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert done.stderr.count("WARNING") == 1, done.stderr  # it fails for nothing else
    assert not (tree / "_build" / "published" / "html").exists()
    assert index.read_text(encoding="utf-8") == "earlier"


def test_missing_chapter_is_named(make_tree: Callable[..., Path], capsys: pytest.CaptureFixture) -> None:
    tree = make_tree(standin(), alone=True)
    (tree / chapters()[0]).unlink()
    assert load(tree).main([]) == 1
    assert f"_toc.yml names {chapters()[0]}, which does not exist" in capsys.readouterr().err


def test_published_notebooks_must_share_a_profile(
    make_tree: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    notebook = standin()
    notebook.cells[1].source = notebook.cells[1].source.replace("reference", "quick")
    assert load(make_tree(notebook)).main(["--published"]) == 1
    assert "must share one profile, found ['quick', 'reference']" in capsys.readouterr().err


def test_in_place_executes_at_reference_and_normalises(make_tree: Callable[..., Path]) -> None:
    tree = make_tree(standin(), alone=True)
    done = build(tree, "--in-place", "--device", "cpu", "--missing", "gap")
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = nbformat.read(tree / chapters()[0], as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].metadata.tags == ["parameters"]
    assert code[1].outputs[0].text == "profile reference [0, 1]\n"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not (tree / "_build" / "html").exists()


def test_a_chapter_with_a_profile_of_its_own_keeps_it_and_has_its_banner(
    make_tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = blank(chapters()[0])
    notebook.cells[1].source = notebook.cells[1].source.replace("reference", "full")
    module = load(make_tree(notebook))
    first, second, *_ = (module.ROOT / name for name in chapters())
    monkeypatch.setattr(module, "OWN", {"full": (first.stem,)})
    banner = module.BANNERS["full"]
    shared, own = module.published_banners([first, second])
    assert shared == module.BANNERS["reference"]
    assert own == {f"notebooks/{first.stem}": banner}
    site = module.BUILD / "site"
    module.stage(site, "the book's", own)
    config = yaml.safe_load((site / "_config.yml").read_text(encoding="utf-8"))
    assert config["html"]["announcement"] == "the book's"
    assert config["sphinx"]["config"]["banners"] == {f"notebooks/{first.stem}": banner}
    executed = []
    monkeypatch.setattr(module, "execute_all", lambda notebooks, tidy: executed.append(notebooks))
    assert module.main(["--in-place"]) == 0
    assert {path: given["profile"] for path, given in executed[0].items()} == {
        module.ROOT / name: "full" if module.ROOT / name == first else "reference" for name in chapters()
    }


def test_a_page_shows_its_own_banner_and_others_the_book_s() -> None:
    put = runpy.run_path(str(ROOT / "book" / "banners.py"))["put"]
    app = SimpleNamespace(config=SimpleNamespace(banners={"notebooks/own": "its own"}))
    for page, shown in (("notebooks/own", "its own"), ("notebooks/other", "the book's")):
        context = {"theme_announcement": "the book's"}
        put(app, page, "page.html", context, None)
        assert context == {"theme_announcement": shown}


def test_toc_pages_exist() -> None:
    assert all((ROOT / name).is_file() for name in chapters())
