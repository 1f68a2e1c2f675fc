"""The store: round trips, published results, damaged files, weights."""

import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from kdlib.data.images import load_data
from kdlib.lab.measurements import ViewsSpec
from kdlib.lab.recipe import Machine, Policy, Public
from kdlib.lab.results import RunResult
from kdlib.lab.runs import execute
from kdlib.lab.store import Store, read_result, statistics
from kdlib.lab.train import Task
from kdlib.methods import METHODS
from kdlib.models.checkpoints import PUBLIC

pytestmark = pytest.mark.usefixtures("isolated")
OTHER = Machine(device="cuda", precision="bfloat16", threads=2)
SHORT = {"views_per_step": 32, "views_per_image": 2, "evaluations": 1}


@pytest.fixture
def student(make_spec):
    return make_spec(method="kd", policy="jda", teacher=make_spec(seed=3))


def on(spec, machine: Machine):
    """The same experiment on another machine, teacher included."""
    changes = {"machine": machine}
    if spec.teacher is not None:
        changes["teacher"] = spec.teacher.model_copy(update={"machine": machine})
    return spec.model_copy(update=changes)


def test_what_is_put_is_got(student, invented, isolated):
    store, result = Store("smoke"), invented(student, "smoke", top1=61.25)
    assert store.get(student) is None
    store.put(result)
    assert Store("smoke").get(student) == result
    assert store.get(student) == result
    assert store.folder(student) == isolated / "runs" / "smoke" / student.key
    assert Store("quick").get(student) is None
    assert not (isolated / "results").exists()


def test_a_result_survives_json_with_every_field(student, invented):
    result = invented(student, "smoke", correct="a0ff", test_w_histogram=[1, 2], mean_w=1.2345678901234567)
    again = RunResult.model_validate(json.loads(result.model_dump_json()))
    assert again == result
    assert again.spec.key == student.key
    views = ViewsSpec(data="cifar100", teacher=Public(checkpoint="cifar100_resnet20"), policy=Policy(name="rot2"),
                      images=5, seed=0, machine=OTHER)  # fmt: skip
    result = invented(views, "smoke")
    again = RunResult.model_validate(json.loads(result.model_dump_json()))
    assert again == result
    assert isinstance(again.spec, ViewsSpec)


def test_published_results_are_found_whatever_machine_made_them(student, invented):
    elsewhere = invented(on(student, OTHER), "smoke", top1=70.0)
    assert elsewhere.key != student.key
    assert elsewhere.spec.experiment == student.experiment
    store = Store("smoke")
    store.put(elsewhere)
    assert store.get(student) is None  # of another machine and not published
    store.publish()
    assert Store("smoke").get(student) == elsewhere


def test_published_results_win(student, invented):
    store = Store("smoke")
    store.put(invented(student, "smoke", top1=70.0))
    store.publish()
    store.put(invented(student, "smoke", top1=10.0))
    assert Store("smoke").get(student).metrics["top1"] == 70.0


def test_of_two_machines_the_same_one_counts_for_all_arms(make_spec, invented):
    students = [make_spec(seed=seed, policy=policy) for seed in range(4) for policy in ("weak1", "weak2")]
    for spec in students:
        for machine in (OTHER, spec.machine):
            Store("smoke").put(invented(on(spec, machine), "smoke"))
    Store("smoke").publish()
    assert len({Store("smoke").get(spec).spec.machine for spec in students}) == 1


def test_a_published_result_counts_at_every_profile_that_has_its_spec(student, invented):
    result = invented(student, "quick")
    Store("quick").put(result)
    assert Store("smoke").get(student) is None
    Store("quick").publish()
    assert Store("smoke").get(student) == Store("quick").get(student) == result


def test_another_experiment_is_not_found(student, invented, make_spec):
    Store("smoke").put(invented(student, "smoke"))
    Store("smoke").publish()
    others = [
        student.model_copy(update={"seed": 1}),
        student.model_copy(update={"teacher": make_spec(seed=4)}),
        student.model_copy(update={"version": student.version + 1}),
        make_spec(method="kd", policy="weak2", teacher=make_spec(seed=3)),
    ]
    assert [Store("smoke").get(spec) for spec in others] == [None] * len(others)


def test_publishing_copies_results_and_leaves_weights(make_spec, isolated):
    spec = make_spec(recipe=SHORT)
    execute(spec, "smoke")
    new = Store("smoke").publish()
    assert new == [isolated / "results" / f"{spec.key}.json"]
    assert [p.name for p in (isolated / "results").iterdir()] == [f"{spec.key}.json"]
    source = isolated / "runs" / "smoke" / spec.key
    assert {p.name for p in source.iterdir()} == {"result.json", "weights.safetensors"}
    assert new[0].read_bytes() == (source / "result.json").read_bytes()
    assert Store("smoke").publish() == []
    assert new[0].stat().st_size < 20_000


def test_what_is_published_stays_where_a_repeated_run_came_out_otherwise(student, invented):
    store = Store("smoke")
    store.put(invented(student, "smoke", top1=60.0))
    (target,) = store.publish()
    before = target.read_bytes()
    store.put(invented(student, "smoke", top1=61.0))
    assert store.publish() == [] and target.read_bytes() == before


def test_publishing_an_empty_store_does_nothing(isolated):
    assert Store("reference").publish() == []
    assert not (isolated / "results").exists()


def test_a_result_that_cannot_be_written_leaves_nothing(student, invented, monkeypatch):
    store = Store("smoke")
    store.put(invented(student, "smoke", top1=70.0))
    before = (store.folder(student) / "result.json").read_bytes()

    def half(path, text, *_, **__):
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="no space"):
            store.put(invented(student, "smoke", top1=10.0))
    assert [p.name for p in store.folder(student).iterdir()] == ["result.json"]
    assert (store.folder(student) / "result.json").read_bytes() == before


def test_a_checkpoint_stays_until_its_result_is_written(student, invented, monkeypatch):
    store = Store("smoke")
    checkpoint = store.folder(student) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"x")

    def fail(*_, **__):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        with pytest.raises(OSError, match="no space"):
            store.put(invented(student, "smoke"))
    assert checkpoint.exists()
    store.put(invented(student, "smoke"))
    assert not checkpoint.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "binary", "list", "edited"])
@pytest.mark.parametrize("published", [False, True])
def test_a_damaged_file_is_named_in_one_sentence(student, invented, isolated, tried, damage, published):
    store = Store("smoke")
    store.put(invented(student, "smoke"))
    if published:
        store.publish()
    path = isolated / "results" / f"{student.key}.json" if published else store.folder(student) / "result.json"
    text = path.read_text()
    content = {
        "truncated": text[: len(text) // 2].encode(), "empty": b"", "binary": b"\xff\xfe\x00", "list": b"[]",
        "edited": text.replace('"seed": 0', '"seed": 1').encode(),
    }[damage]  # fmt: skip
    assert content != text.encode()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="result file") as refusal:
        Store("smoke").get(student)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    tried("damage", "results", refused=1)


def paths_in(value, at=()):
    """The path of every value in nested JSON, the containers included."""
    yield at
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths_in(inner, (*at, key))


@pytest.mark.parametrize("wrong", ["x", None, {}], ids=str)
def test_no_edit_of_a_spec_gives_anything_but_the_result_or_a_sentence(student, invented, tmp_path, wrong):
    whole = json.loads(invented(student, "smoke").model_dump_json())
    path, unlike = tmp_path / "result.json", []
    for at in list(paths_in(whole))[1:]:
        edited = json.loads(json.dumps(whole))
        place = edited
        for key in at[:-1]:
            place = place[key]
        place[at[-1]] = wrong
        path.write_text(json.dumps(edited))
        try:
            read_result(path)
        except ValueError as error:
            if str(path) not in str(error) or "\n" in str(error):
                unlike.append((at, repr(error)))
        except Exception as error:
            unlike.append((at, repr(error)))
    assert unlike == []


def test_a_result_in_the_folder_of_another_spec_is_refused(student, invented, make_spec):
    store, other = Store("smoke"), make_spec(seed=5)
    store.put(invented(other, "smoke"))
    store.folder(student).mkdir()
    (store.folder(other) / "result.json").rename(store.folder(student) / "result.json")
    with pytest.raises(ValueError, match="result"):
        store.get(student)


def test_weights_of_a_teacher_come_back(make_spec):
    spec = make_spec(recipe=SHORT)
    execute(spec, "smoke")
    data = load_data(spec.data)
    network = Store("smoke").network(spec, "float32")
    assert not network.training
    fresh = Task.of(spec, None).method.student
    assert network.state_dict().keys() == fresh.state_dict().keys()
    with torch.no_grad():
        found = (network(data.test.images).logits.argmax(1) == data.test.labels).double().mean().item() * 100
    assert found == pytest.approx(Store("smoke").get(spec).metrics["top1"])


def test_missing_weights_say_where_they_should_be(make_spec, isolated):
    spec = make_spec()
    where = isolated / "runs" / "smoke" / spec.key / "weights.safetensors"
    with pytest.raises(FileNotFoundError) as refusal:
        Store("smoke").network(spec, "float32")
    assert str(refusal.value) == (f"weights of run {spec.key} are missing: looked for {where}; run its study first")


def test_a_missing_public_checkpoint_says_how_to_get_it(isolated, monkeypatch):
    monkeypatch.setenv("KDLIB_CHECKPOINTS", str(isolated))
    with pytest.raises(FileNotFoundError, match=r"cifar100_resnet20 is missing.*python -m kdlib fetch"):
        Store("smoke").network(Public(checkpoint="cifar100_resnet20"), "float32")


@pytest.mark.parametrize("method", ["hsakd_teacher", "sskd_teacher"])
def test_a_head_leaves_the_statistics_of_its_network(make_spec, monkeypatch, method):
    """A public checkpoint with other statistics than the data: they stay its own when a head was trained on it."""
    known = replace(PUBLIC["cifar100_resnet20"], mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    monkeypatch.setitem(PUBLIC, "cifar100_resnet20", known)
    public = Public(checkpoint="cifar100_resnet20")
    head = make_spec(method=method, student="resnet20", teacher=public)
    on_top = make_spec(method=method, student="resnet20", teacher=head)
    train = load_data(head.data).train
    assert statistics(public) == statistics(head) == statistics(on_top) == (known.mean, known.std)
    assert statistics(make_spec()) == (train.mean, train.std) != (known.mean, known.std)


def test_a_network_in_the_store_normalises_as_it_did_in_training(make_spec, monkeypatch):
    spec = make_spec(recipe=SHORT, method="hsakd_teacher", teacher=make_spec(recipe=SHORT))
    execute(spec.teacher, "smoke")
    execute(spec, "smoke")
    before, after = (Store("smoke").network(s, "float32", head=s is spec) for s in (spec.teacher, spec))
    assert torch.equal(before.shift, after.shift) and torch.equal(before.scale, after.scale)


def test_a_result_of_a_method_that_is_not_registered_is_not_called_corrupt_alone(make_spec, invented, monkeypatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["ce"])
    spec = make_spec(method="mine")
    Store("smoke").put(invented(spec, "smoke"))
    path = Store("smoke").folder(spec) / "result.json"
    assert read_result(path).key == spec.key
    monkeypatch.delitem(METHODS, "mine")
    with pytest.raises(
        ValueError, match=r"does not fit this program \(method = 'mine' is unknown.*register"
    ) as refusal:
        read_result(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_what_file_managers_leave_behind_is_not_read(student, invented, isolated):
    """Files of resource forks and folders with a dot, in all places where results are looked for."""
    store = Store("smoke")
    store.put(invented(student, "smoke"))
    store.publish()
    (isolated / "results" / f"._{student.key}.json").write_bytes(b"\0\5\x16\7")
    hidden = store.runs / f"._{student.key}"
    hidden.mkdir()
    (hidden / "result.json").write_bytes(b"\0\5\x16\7")
    store = Store("smoke")
    assert store.get(student).key == student.key and len(store.published) == 1
    assert [result.key for result in store.results_of_runs()].count(student.key) == 1
    assert store.publish() == []


def test_data_that_changed_since_its_teacher_was_trained_are_warned_of(make_spec, tmp_path):
    for split, label, number in itertools.product(("train", "test"), "ab", range(8)):
        (tmp_path / "set" / split / label).mkdir(parents=True, exist_ok=True)
        picture = Image.effect_noise((32, 32), 60).convert("RGB")
        picture.save(tmp_path / "set" / split / label / f"{number}.png")
    teacher = make_spec(data=f"folder:{tmp_path / 'set'}", fraction=1.0)
    result = execute(teacher, "smoke")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Store("smoke").network(teacher, "float32")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "set" / "train" / "a" / "0.png")
    load_data.cache_clear()
    said = (
        rf"^data = '{teacher.data}' changed, .* teacher {teacher.key} .*fingerprint {result.fingerprint} then, \w+ now"
    )
    with pytest.warns(UserWarning, match=said):
        Store("smoke").network(teacher, "float32")
