"""What a chapter talks to: parameters, missing runs, and the notebooks' parameter cells."""

import ast
import json
import os
from pathlib import Path

import pytest
import torch

import kdlib
from kdlib import notebook
from kdlib.chapters import CHAPTERS
from kdlib.chapters.parameters import COMMON, assigned_names, check_parameters
from kdlib.chapters.registry import create_study, own_options
from kdlib.data import paths
from kdlib.data.images import BUNDLED, available
from kdlib.lab import schedule
from kdlib.notebook import Session
from kdlib.show.pictures import some_images
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")
ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
CELL = '# Parameters\nprofile = "smoke"\nseeds = [0]\n'


def given(**changes) -> dict:
    return {
        "profile": "smoke",
        "pair": "auto",
        "seeds": [],
        "device": "cpu",
        "data": "auto",
        "missing": "gap",
    } | changes


def test_a_chapter_opens_with_its_parameters():
    session = kdlib.start("03_blind_teacher", given(seeds=[4, 2], p=0.2, ops="cifar10", unrelated=object()), [CELL])
    assert session.setting.seeds == (4, 2)
    assert session.study.specs("JDA")[0].policy.options == {"ops": "cifar10", "p": 0.2}
    assert kdlib.start("03_blind_teacher", {"profile": "smoke"}).mode == "train"
    assert kdlib.start("03_blind_teacher", {"profile": "reference", "device": "cpu"}).mode == "gap"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": 3}, "parameter seeds = 3 is not allowed"),
        ({"seeds": [0, "1"]}, "parameter seeds.1 = '1' is not allowed"),
        ({"seeds": [1.5]}, "parameter seeds.0 = 1.5 is not allowed"),
        ({"seeds": [0, 0]}, "seeds = [0, 0] must be a list of different"),
        ({"p": "x"}, "parameter p = 'x' is not allowed"),
        ({"p": 1.5}, "p = 1.5 is not a probability"),
        ({"p": float("nan")}, "p = nan is not a probability"),
        ({"ops": 5}, "parameter ops = 5 is not allowed"),
        ({"ops": "x"}, "ops = 'x' is unknown"),
        ({"profile": 5}, "parameter profile = 5 is not allowed"),
        ({"profile": "huge"}, "profile = 'huge' is unknown; allowed are smoke"),
        ({"pair": "x"}, "pair = 'x' is unknown"),
        ({"device": "tpu"}, "device = 'tpu' is unknown"),
        ({"missing": "perhaps"}, "parameter missing = 'perhaps' is unknown; allowed are auto, train, gap, error"),
        ({"data": "nope"}, "data = 'nope' is unknown"),
    ],
)
def test_a_bad_parameter_is_refused_in_one_sentence(tried, changes, sentence):
    with pytest.raises(ValueError, match=".") as refusal:
        kdlib.start("03_blind_teacher", given(**changes))
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)
    tried("inputs", "parameters of a chapter", refused=1)


def test_a_missing_profile_and_an_unknown_chapter_are_refused():
    with pytest.raises(ValueError, match="profile is missing"):
        kdlib.start("03_blind_teacher", {})
    with pytest.raises(ValueError, match="99_none"):
        kdlib.start("99_none", given())


def test_the_environment_overrides_missing(monkeypatch):
    monkeypatch.setenv("KDLIB_MISSING", "error")
    assert kdlib.start("03_blind_teacher", given(missing="train")).mode == "error"
    monkeypatch.setenv("KDLIB_MISSING", "x")
    with pytest.raises(ValueError, match=r"^KDLIB_MISSING = 'x' is unknown; allowed are auto, train, gap, error$"):
        kdlib.start("03_blind_teacher", given())


def test_only_the_last_parameters_cell_counts():
    typo, good = '# Parameters\nprofil = "smoke"', CELL
    elsewhere = "x = 1\n# Parameters\nprofil = 3"
    with pytest.raises(
        ValueError, match=r"^parameter 'profil' is unknown in 03_blind_teacher; allowed are profile, pair"
    ):
        check_parameters("03_blind_teacher", given(), [good, typo])
    assert check_parameters("03_blind_teacher", given(), [typo, good])["profile"] == "smoke"
    assert check_parameters("03_blind_teacher", given(), [typo, good, elsewhere])["profile"] == "smoke"
    assert check_parameters("03_blind_teacher", given(), ["", elsewhere])["profile"] == "smoke"


def test_a_parameter_of_another_chapter_is_unknown():
    with pytest.raises(ValueError, match="parameter 'weights' is unknown in 03_blind_teacher"):
        check_parameters("03_blind_teacher", given(weights=[]), ["# Parameters\nweights = []"])
    check_parameters("08_cosine_confidence", given(weights=[]), ["# Parameters\nweights = []"])


def test_names_are_read_from_all_forms_of_assignment():
    source = '# Parameters\na = 1\nb: int = 2\nc = d = 3\n"""text"""\nif True:\n    e = 1\n'
    assert assigned_names(source) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_each_notebook_declares_exactly_its_parameters(path):
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    source = "".join(cells[0]["source"])
    assert "parameters" in cells[0]["metadata"].get("tags", [])
    assert not any("parameters" in c["metadata"].get("tags", []) for c in cells[1:])
    body = ast.parse(source).body
    assert all(isinstance(node, ast.AnnAssign) for node in body)  # typed: papermill shows the types
    declared = {n.target.id: (ast.unparse(n.annotation), ast.literal_eval(n.value)) for n in body}
    fields = COMMON | own_options(path.stem)
    assert list(declared) == list(fields)
    for name, (kind, default) in declared.items():
        types, expected = fields[name]
        if name != "profile":
            assert (default or None) == (expected or None)
        words = {
            word.split("[")[0] for word in (str(types) if not isinstance(types, type) else types.__name__).split(" | ")
        }
        assert kind in words
    assert declared["profile"][1] == ("full" if path.stem == "18_budget" else "reference")
    assert all("#" in line for line in source.splitlines())  # each says what it is for
    assert f'kdlib.start("{path.stem}", globals(), In)' in "".join("".join(c["source"]) for c in cells)
    values = {name: value for name, (_, value) in declared.items()}
    check_parameters(path.stem, values | {"device": "cpu"}, [source])


def test_every_study_has_its_notebook():
    assert {p.stem for p in NOTEBOOKS.glob("*.ipynb")} == set(CHAPTERS)


def test_missing_runs_raise_leave_a_gap_or_are_trained(tiny, monkeypatch):
    shown = []
    monkeypatch.setattr(notebook, "display", shown.append)
    monkeypatch.setattr(schedule, "default_executor", lambda *_: pytest.fail("nothing may be trained"))
    session = kdlib.start("00_tour", given(data=tiny, missing="error"))
    with pytest.raises(
        FileNotFoundError, match=r"runs of 00_tour are missing at profile 'smoke': python -m kdlib run 00_tour"
    ):
        session.run()
    assert kdlib.start("00_tour", given(data=tiny)).run().frame.empty
    assert len(shown) == 1
    assert "python -m kdlib run 00_tour --profile smoke" in shown[0].data


def test_the_command_names_what_was_chosen(tiny):
    session = kdlib.start("00_tour", given(data=tiny, seeds=[7]))
    assert "--seeds 7" in session.command
    assert f"--data {tiny}" in session.command


@pytest.mark.parametrize("p", [0, 0.5, 1])
def test_the_command_names_the_options_of_the_chapter(tiny, p):
    session = kdlib.start("03_blind_teacher", given(data=tiny, p=p))
    assert session.command.endswith(f"--option p={float(p)}")
    assert "--option" not in kdlib.start("03_blind_teacher", given(data=tiny, p=None, ops="cifar100")).command


@pytest.mark.parametrize(
    ("name", "fields", "claim", "word"),
    [
        ("03_blind_teacher", {"p": 0.5}, "a", "not decided with these parameters"),
        ("07_compatibility", {"methods": ["dkd"]}, "e", "not decided with these parameters"),
        ("03_blind_teacher", {}, "a", "not measured"),
        ("08_cosine_confidence", {"weights": ["mean"]}, "CCD", "not measured"),  # chapter 09 decides it
        ("08_cosine_confidence", {"pair": "vgg8-resnet8"}, "CCD", "not measured"),  # HSAKD has no such pair
        ("03_blind_teacher", {"pair": "vgg8-resnet8"}, "a", "not measured"),
    ],
)
def test_parameters_that_change_what_was_fixed_decide_no_claim(name, fields, claim, word):
    assert kdlib.start(name, given(missing="gap", **fields)).claim(claim) == word


def test_a_smoke_chapter_trains_and_answers(tiny, monkeypatch, immediate):
    monkeypatch.setattr(schedule, "default_executor", lambda *_: immediate)
    monkeypatch.setattr(immediate, "shutdown", lambda **_: None)
    session = kdlib.start("00_tour", given(data=tiny, missing="auto")).run()
    assert len(immediate.calls) == 5  # a teacher, a measurement, three arms
    assert len(session.frame) == 3
    assert len(session.arms) == 3
    assert len(session.contrasts) == 2
    assert len(session.curves) == 3
    assert session.difference("distilled", "no teacher").endswith(" points (one seed)")
    assert session.difference("distilled", "x") == "not measured"
    assert session.contrast("distillation") == session.difference("distilled", "no teacher")
    assert session.contrast("x") == "not measured"
    assert session.value("distilled", "top1", ".0f").isdigit()
    assert session.value("x", "top1") == "not measured"
    assert session.claim("a").startswith("not measured (a1: no verdict")
    status = session.status().data
    assert "5 of 5" in status  # the teacher is one of them
    assert "resnet8_tiny → resnet8_tiny" in status
    assert session.metrics("JDA")["test_images"] > 0
    assert session.measured == {"JDA": session.metrics("JDA")} and session.series == {}
    assert session.order == ["no teacher", "distilled", "distilled, augmented"] == session.frame.arm.tolist()
    assert [run.method for arm in session.order for run in session.runs(arm)] == ["ce", "kd", "kd"]
    assert session.examples("JDA", count=3).images.shape[:2] == (3, 2)
    assert session.extremes("JDA") is not None
    immediate.calls.clear()
    assert (
        kdlib.start("00_tour", given(data=tiny, missing="error")).run().frame.top1.tolist()
        == session.frame.top1.tolist()
    )
    assert immediate.calls == []


def test_a_gap_says_what_it_needs(tiny):
    session = kdlib.start("00_tour", given(data="cifar10"))
    assert session.metrics("JDA") is None and session.measured == {"JDA": None}
    assert session.examples("JDA") is None
    assert session.extremes("JDA") is None
    assert "`cifar10`" in session.gap("This figure").data
    assert "nothing run yet" in session.status().data
    assert len(session.pictures.test) > 0


@pytest.mark.parametrize("name", ["00_tour", "08_cosine_confidence"])
def test_a_machine_without_the_data_set_shows_the_same_pictures(monkeypatch, tmp_path, name):
    monkeypatch.setenv("KDLIB_RESULTS", str(ROOT / "results"))
    opened = Session(create_study(name, Setting.of("reference", device="cpu")), "gap", "")
    shown = []
    for root in (os.environ.get("KDLIB_DATA", ""), str(tmp_path)):
        monkeypatch.setenv("KDLIB_DATA", root)
        examples = opened.examples("JDA")
        shown.append((examples.images, examples.logits, examples.labels, some_images(opened.pictures.test, 9)))
        assert opened.extremes("JDA") is not None
    with_data, without = shown
    assert available("cifar100") is False and len(without[0]) == 8 and without[0].any()
    assert without[2] == with_data[2] and all(torch.equal(with_data[i], without[i]) for i in (0, 1, 3))


def test_an_image_that_is_not_kept_leaves_a_gap(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLIB_RESULTS", str(ROOT / "results"))
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    monkeypatch.setattr(paths, "THUMBNAILS", tmp_path)
    opened = Session(create_study("00_tour", Setting.of("reference", device="cpu")), "gap", "")
    assert opened.examples("JDA") is None and opened.extremes("JDA") is None
    assert opened.pictures.test.name == BUNDLED
