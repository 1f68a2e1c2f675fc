"""Pairs of documentation, from small invented trees of HTML and Mallard; and their packages."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kdlib.__main__ import main
from kdlib.elsewhere.translation import corpora, packages
from kdlib.elsewhere.translation.parallel import load_text

TOPICS = ("a table", "the small page", "some new text", "an old line", "the last word", "a wide column")


def html(rows: list[tuple[str, str, str]]) -> str:
    body = "".join(f'<{tag} id="{mark}" class="x">{text}</{tag}>\n' for tag, mark, text in rows)
    return f'<!DOCTYPE html><html><body><div id="par_no">outside</div><p>no id at all here</p>{body}</body></html>'


def pages(word: str, number: int) -> list[tuple[str, str, str]]:
    topic, common = TOPICS[number % 6], "The same words on each page."
    if word == "en":
        head, text = f"About {topic}, number {number}", f"Choose <em>{topic}</em> and <a>page {'x' * number} now</a>."
    else:
        head, text = f"Über {topic}, Nummer {number}", f"Wähle <em>{topic}</em> und <a>Seite {'x' * number}  jetzt</a>."
        common = "Dieselben Wörter auf jeder Seite."
    return [("h1", "hd_1", head), ("p", "par_1", text), ("td", "par_2", common), ("p", "par_3", "Left as it is here"),
            ("p", "par_4", "Two words"), ("p", "bm_5", "Not a mark of text"), ("p", f"par_{word}", "Only on this side"),
            ("p", "par_1", "A second one of the same id")]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """usr/share of both packages: 60 pages of help, and two of a manual."""
    share = tmp_path_factory.mktemp("tree") / "usr" / "share"
    for folder, word in (("en-US", "en"), ("de", "de")):
        text = share / "libreoffice" / "help" / folder / "text" / "shared"
        text.mkdir(parents=True)
        for number in range(60):
            (text / f"page{number:02}.html").write_text(html(pages(word, number)), encoding="utf-8")
    (share / "libreoffice/help/en-US/text/shared/alone.html").write_text(html([("p", "par_1", "On one side alone.")]))
    manuals = {
        "C": ("Read the whole screen", "The screen is read aloud.", "Write to me"),
        "de": ("Den ganzen Schirm lesen", "Der Schirm wird vorgelesen.", "Schreib mir"),
    }
    for folder, said in manuals.items():
        manual = share / "help" / folder / "gnome-help"
        manual.mkdir(parents=True)
        title, line, other = said
        names = "<credit><name>A</name></credit>" if folder == "C" else ""
        text = (
            f'<page xmlns="http://projectmallard.org/1.0/"><info>{names}<desc>{line}</desc></info><title>{title}</title>'
            f"<comment><p>{other} in a comment</p></comment><p>{line} <em>{line}</em></p></page>"
        )
        (manual / "one.page").write_text(text, encoding="utf-8")
        more = "<p>Eins zwei drei vier.</p>" if folder == "de" else ""
        (manual / "two.page").write_text(text.replace("<comment>", f"{more}<comment>"), encoding="utf-8")
    return share


def test_help_is_paired_by_ids_and_split_by_pages(tree: Path) -> None:
    help_folder = tree / "libreoffice" / "help"
    corpus = corpora.help_corpus(help_folder / "en-US", help_folder / "de")
    common = ("The same words on each page.", "Dieselben Wörter auf jeder Seite.")
    assert common in corpus.train and common not in (*corpus.dev, *corpus.test)  # its key is trained on
    assert corpus.dev and corpus.test and len(corpus.train) > 50
    keys = [{corpora.key(source) for source, _ in part} for part in corpus]
    assert not keys[0] & keys[1] and not keys[0] & keys[2]
    assert all(len(part) == len(found) for part, found in zip(corpus, keys, strict=True))
    everything = {source for part in corpus for source, _ in part}
    text = "Choose the small page and page x now."
    assert (text, "Wähle the small page und Seite x jetzt.") in [pair for part in corpus for pair in part]
    assert not {"Left as it is here", "Two words", "Only on this side", "A second one of the same id"} & everything
    for number in range(60):  # all of a page that is no copy is in one part
        part = corpora.part_of(f"shared/page{number:02}.html")
        mine = {corpora.key(corpora.squeezed(f"Choose {TOPICS[number % 6]} and page {'x' * number} now."))}
        assert mine <= keys[part] or mine <= keys[0]


def test_few_are_a_prefix_in_an_order_of_keys(tree: Path) -> None:
    help_folder = tree / "libreoffice" / "help"
    train = corpora.help_corpus(help_folder / "en-US", help_folder / "de").train
    assert train == sorted(train, key=corpora._order) and len({corpora._order(pair) for pair in train}) == len(train)


def test_manuals_are_paired_element_by_element(tree: Path) -> None:
    folders = tree / "help" / "C", tree / "help" / "de"
    found = corpora.manual_pairs(*folders, known=())
    line = ("The screen is read aloud.", "Der Schirm wird vorgelesen.")
    assert found == [line, ("Read the whole screen", "Den ganzen Schirm lesen"), tuple(f"{t} {t}" for t in line)]
    assert line not in corpora.manual_pairs(*folders, known={corpora.key(line[0])})


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ("one two three", "eins zwei drei", True),
        ("one two", "eins zwei drei", False),
        ("w " * 30, "v " * 30, True),
        ("w " * 31, "v " * 30, False),
        ("the same text here", "the same text here", False),
        ("a b c", "sehr viel längere Wörter", False),
        ("a 1 2 = 3 4 b", "a 1 2 = 3 4 c", False),
    ],
)
def test_what_counts_as_a_sentence(source, target, kept) -> None:
    assert corpora.is_sentence(source, target) == kept


# --- packages


@pytest.fixture
def debs(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of the tree, in a folder that KDLIB_DEBS names."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    parts = {
        "libreoffice-help-en-us": "libreoffice/help/en-US", "libreoffice-help-de": "libreoffice/help/de",
        "gnome-user-docs": "help",
    }  # fmt: skip
    folder = tmp_path / "debs"
    folder.mkdir()
    for name, part in parts.items():
        root = tmp_path / name
        shutil.copytree(tree / part, root / "usr" / "share" / part)
        (root / "DEBIAN").mkdir()
        fields = {
            "Package": name,
            "Version": "1:2.3",
            "Architecture": "all",
            "Maintainer": "A <a@b>",
            "Description": "x",
        }
        (root / "DEBIAN" / "control").write_text("".join(f"{k}: {v}\n" for k, v in fields.items()))
        subprocess.run(["dpkg-deb", "--build", "-Znone", str(root), str(folder / f"{name}_1.deb")], check=True)
    monkeypatch.setenv("KDLIB_DEBS", str(folder))
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "data"))
    return folder


def test_texts_are_fetched_once(debs: Path, capsys) -> None:
    capsys.readouterr()
    assert main(["fetch", "help-texts", "manuals"]) == 0
    first = capsys.readouterr().out
    assert "training and" in first and "libreoffice-help-de 1:2.3" in first and "manuals: 3 test pairs" in first
    assert "of other versions than published runs" in first
    text = load_text("help-texts")
    assert len(text.train) > 50 and load_text("manuals").train == ()
    for deb in debs.iterdir():
        deb.unlink()
    assert main(["fetch", "help-texts", "manuals"]) == 0 and capsys.readouterr().out == first


def test_a_fetched_text_that_was_changed_is_refused(debs: Path, tmp_path: Path) -> None:
    packages.fetch("help-texts")
    with (tmp_path / "data" / "help-texts" / "test.source").open("a") as file:
        file.write("more\n")
    with pytest.raises(ValueError, match=r"is not what was fetched: test.source is damaged.*fetch help-texts again"):
        load_text("help-texts")


def test_what_cannot_be_fetched_leaves_nothing_and_says_why(debs: Path, capsys, tmp_path: Path, monkeypatch) -> None:
    assert main(["fetch", "manuals"]) == 2
    assert "data = 'help-texts' is missing" in capsys.readouterr().err
    (debs / "libreoffice-help-de_1.deb").write_bytes(b"no package")
    assert main(["fetch", "help-texts"]) == 2
    assert "kdlib fetch: dpkg-deb -x failed: " in capsys.readouterr().err
    (debs / "libreoffice-help-de_1.deb").unlink()
    assert main(["fetch", "help-texts"]) == 2
    assert "holds 0 files libreoffice-help-de_*.deb; allowed is one" in capsys.readouterr().err
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    assert main(["fetch", "help-texts"]) == 2 and "dpkg-deb is not on this machine" in capsys.readouterr().err
    assert not (tmp_path / "data" / "help-texts").exists()
