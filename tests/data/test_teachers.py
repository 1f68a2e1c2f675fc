"""The teachers that come with the project: whole, those that profile quick needs, and found on any machine."""

import importlib.util
from types import ModuleType

import pytest
from safetensors.torch import load_file

from kdlib.data import paths
from kdlib.data.images import BUNDLED, load_data
from kdlib.lab import runs
from kdlib.lab.provenance import provenance
from kdlib.lab.recipe import Machine
from kdlib.lab.results import FINISHED, bits
from kdlib.lab.runs import execute, missing
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store

FOLDERS = sorted(paths.TEACHERS.iterdir())


def maker() -> ModuleType:
    """The module data/make_teachers.py."""
    found = importlib.util.spec_from_file_location("make_teachers", paths.ROOT / "data" / "make_teachers.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wanted() -> list[RunSpec]:
    """The runs that students of profile quick learn from."""
    return maker().teachers()


def test_they_are_those_that_profile_quick_needs(wanted):
    assert set(Store("quick").bundled) == {spec.experiment for spec in wanted}
    assert len(FOLDERS) == len(wanted)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_is_what_its_result_says(folder):
    """The hash covers scores and weights; the pixels that it learnt from are those that come with the project."""
    result = Store("quick").bundled
    (result,) = (r for r in result.values() if r.key == folder.name)
    tensors = load_file(folder / "weights.safetensors")
    if (folder / "head.safetensors").exists():
        tensors |= {f"head.{name}": tensor for name, tensor in load_file(folder / "head.safetensors").items()}
    assert bits(tensors, result.metrics) == result.bits
    assert result.fingerprint == load_data(BUNDLED).train.fingerprint
    assert result.metrics["top1"] > 80
    assert sum(file.stat().st_size for file in folder.iterdir()) < 700_000


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_they_are_found_on_any_machine_and_never_trained_again(wanted, isolated, monkeypatch, precision):
    machine = Machine(device="cpu", precision=precision, threads=2)
    store, here = Store("quick"), []
    for spec in wanted:
        below = {"teacher": spec.teacher.model_copy(update={"machine": machine})} if spec.teacher else {}
        here.append(spec.model_copy(update={"machine": machine} | below))
    monkeypatch.setattr(runs, "train", None)
    assert missing(here, store) == []
    for spec in here:
        assert execute(spec, "quick") == store.bundled[spec.experiment]
        head = (store.weights(spec).parent / "head.safetensors").exists()
        assert (store.network(spec, precision, head=True).head is not None) == head
    assert not list(store.runs.glob("*/weights.safetensors"))


def test_one_that_this_machine_has_trained_comes_first(wanted, isolated, invented):
    spec, store = wanted[0], Store("quick")
    assert store.weights(spec).parent.parent == paths.TEACHERS
    store.put(invented(spec, "quick"))
    (store.folder(spec) / "weights.safetensors").touch()
    assert store.get(spec) == invented(spec, "quick")
    assert store.weights(spec).parent == store.folder(spec)


def test_what_lacks_is_made_and_what_nobody_needs_goes(make_spec, isolated, monkeypatch, capsys):
    """With runs of seconds in place of the teachers; a second call trains nothing."""
    module, folder = maker(), isolated / "teachers"
    monkeypatch.setattr(paths, "TEACHERS", folder)
    short = {"evaluations": 1, "views_per_image": 2}
    teacher, other = make_spec(recipe=short), make_spec(recipe=short, seed=1)
    head = make_spec(recipe=short, method="sskd_teacher", teacher=teacher)
    for specs in ([teacher, other], [teacher, head], [teacher, head]):
        monkeypatch.setattr(module, "teachers", lambda specs=specs: specs)
        module.main()
        assert {made.name for made in folder.iterdir()} == {spec.key for spec in specs}
    assert {file.name for file in (folder / head.key).iterdir()} == set(FINISHED)
    assert {file.name for file in (folder / teacher.key).iterdir()} == {"result.json", "weights.safetensors"}
    assert capsys.readouterr().out.count(" of ") == 3  # runs in all
    assert missing([teacher, head], Store("quick")) == []


@pytest.mark.slow
def test_one_trained_again_is_the_same(wanted, isolated):
    """Bit for bit where processor and packages are those of its making; elsewhere as good, within three points."""
    spec = next(spec for spec in wanted if spec.part == "first half")
    known = Store("quick").bundled[spec.experiment]
    same = spec.model_copy(update={"machine": known.spec.machine})
    facts = provenance(same, None)
    if all(facts[name] == known.provenance[name] for name in ("hardware", "versions")):
        assert runs.repeat(same, "quick") == known.bits
    else:
        again = spec.model_copy(update={"version": spec.version + 1000})  # a key of its own, so that it is trained
        assert execute(again, "quick").metrics["top1"] == pytest.approx(known.metrics["top1"], abs=3)
