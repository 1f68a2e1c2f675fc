"""What frozen thresholds cost a student, against slow references; and which images are asked about."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from kdlib.data.classes import CIFAR10, CIFAR100, shared_classes
from kdlib.data.images import BUNDLED, load_data
from kdlib.data.sampling import validation_ids
from kdlib.lab.measurements import ThresholdsSpec, threshold_ids
from kdlib.lab.measures import frozen_thresholds as module
from kdlib.lab.measures import measure
from kdlib.lab.runs import missing, run_all
from kdlib.lab.store import Store
from kdlib.lab.thresholds import best_f1, best_threshold
from kdlib.models.network import Network
from kdlib.views.corruptions import KINDS, STRENGTHS, corrupt

pytestmark = pytest.mark.usefixtures("isolated")
SETS = ["test", *(f"{kind} {strength}" for kind in KINDS for strength in STRENGTHS)]


@pytest.fixture
def make(make_spec):
    """make(**fields): the measurement of a student that left the validation split out."""

    def made(**fields) -> ThresholdsSpec:
        run = make_spec(seed=7, validation=True, fraction=1.0)
        return ThresholdsSpec(**{"student": run, "machine": run.machine} | fields)

    return made


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A synthetic set of another source: three classes, two of them named as those of the tiny set, darker images."""
    root, data = tmp_path_factory.mktemp("elsewhere"), load_data(BUNDLED)
    for split, images, count in (("train", data.train, 1), ("test", data.test, 8)):
        for name, label in (("Class2", 2), ("class 7", 7), ("zebra", 1)):
            folder = root / split / name.replace("class 7", "class7")
            folder.mkdir(parents=True)
            for i in (images.labels == label).nonzero().squeeze(1)[-count:].tolist():
                Image.fromarray((images.images[i] // 2).permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    return f"folder:{root}"


def probabilities(network: Network, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return softmax(network(images).logits.double().numpy(), axis=1)


def ece_by_loop(p: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    total = 0.0
    for k in range(bins):
        mine = [i for i in range(len(p)) if k / bins < p[i].max() <= (k + 1) / bins]
        if mine:
            right = sum(p[i].argmax() == labels[i] for i in mine) / len(mine)
            total += len(mine) / len(p) * abs(right - sum(p[i].max() for i in mine) / len(mine))
    return total


def test_every_set_equals_a_direct_computation(make, teacher):
    spec = make()
    metrics, data = measure(spec, teacher)["metrics"], load_data(spec.data)
    held = validation_ids(data.train.labels)
    p, truth = probabilities(teacher, data.train.images[held]), data.train.labels[held].numpy()
    chosen = np.array([best_threshold(p[:, c], truth == c) for c in range(10)])
    assert metrics["thresholds"] == pytest.approx(chosen, rel=1e-5) and metrics["threshold_images"] == 20
    assert list(metrics["sets"]) == SETS
    labels = data.test.labels.numpy()
    one_hot, frozen = np.eye(10, dtype=bool)[labels], np.array(metrics["thresholds"])
    for name in SETS:
        kind, _, strength = name.partition(" ")
        images = data.test.images
        if strength:
            images = corrupt(images, kind, int(strength), torch.arange(len(images)))
        p, row = probabilities(teacher, images), metrics["sets"][name]
        assert row["images"] == 60 and row["top1"] == pytest.approx(100 * (p.argmax(1) == labels).mean())
        assert row["nll"] == pytest.approx(log_loss(labels, p, labels=range(10)), rel=1e-5)
        assert row["ece"] == pytest.approx(ece_by_loop(p, labels), abs=1e-6)
        assert row["auc"] == pytest.approx(roc_auc_score(one_hot, p, average="macro"), abs=1e-6)
        assert row["f1"] == pytest.approx(f1_score(one_hot, p >= frozen, average="macro", zero_division=0))
        best = np.mean([best_f1(p[:, c], one_hot[:, c]) for c in range(10)])
        assert row["threshold_loss"] == pytest.approx(best - row["f1"], abs=1e-9)
        assert row["overconfidence"] == pytest.approx(p.max(1).mean() - (p.argmax(1) == labels).mean(), abs=1e-6)


def test_what_contrasts_compare_is_the_mean_over_the_strongest_corruptions(make, teacher):
    metrics = measure(make(), teacher)["metrics"]
    sets = metrics["sets"]
    for name in ("auc", "f1", "threshold_loss"):
        strongest = [sets["noise 3"][name], sets["blur 3"][name], sets["contrast 3"][name]]
        assert metrics[name] == pytest.approx(100 * sum(strongest) / 3)
        assert metrics[f"test_{name}"] == pytest.approx(100 * sets["test"][name])
    assert metrics["blur_threshold_loss"] == pytest.approx(100 * sets["blur 3"]["threshold_loss"])
    assert "external_f1" not in metrics


def test_an_increasing_map_of_abroad_changes_no_auc_but_the_frozen_row(make, teacher, monkeypatch):
    """All logits of a set twice as large: probabilities of one class against the rest are no increasing map, so the map
    is made of the probabilities themselves."""
    before, softmaxes = measure(make(), teacher)["metrics"]["sets"], module._softmax
    asked = []

    def squared(logits):
        asked.append(len(logits))
        return softmaxes(logits) if len(asked) == 1 else softmaxes(logits) ** 2  # the first chooses the thresholds

    monkeypatch.setattr(module, "_softmax", squared)
    after = measure(make(), teacher)["metrics"]["sets"]
    assert len(asked) == 1 + len(SETS)
    for name in SETS:
        assert after[name]["auc"] == before[name]["auc"] and after[name]["best_f1"] == before[name]["best_f1"]
        assert after[name]["sensitivity"] < before[name]["sensitivity"]


def test_a_part_of_the_test_images_is_the_same_for_all_sets(make, teacher):
    sets = measure(make(images=20), teacher)["metrics"]["sets"]
    assert {row["images"] for row in sets.values()} == {20}
    test = load_data(make().data).test
    drawn = list(module.internal_sets(test, 20))
    assert all(torch.equal(one.labels, drawn[0].labels) for one in drawn)
    assert drawn[0].labels.bincount().tolist() == [2] * 10
    whole = list(module.internal_sets(test))
    assert torch.equal(whole[1].images, corrupt(test.images, "noise", 1, torch.arange(60)))
    places = [(test.images == image).flatten(1).all(1).nonzero()[0].item() for image in drawn[0].images]
    assert torch.equal(drawn[1].images, whole[1].images[places])  # noise goes by the place in the whole set
    assert len(next(iter(module.internal_sets(test, 1000))).labels) == 60


def test_an_external_set_is_asked_about_the_classes_that_it_shares(make, teacher, elsewhere):
    spec = make(external=elsewhere)
    found, alone = measure(spec, teacher)["metrics"], measure(make(), teacher)["metrics"]
    other = load_data(elsewhere).test
    assert other.classes == ("Class2", "class7", "zebra")
    assert found["external_classes"] == 2 and found["external_fingerprint"] == other.fingerprint
    assert {name: found["sets"][name] for name in SETS} == alone["sets"] and found["thresholds"] == alone["thresholds"]
    kept = other.labels != 2
    p, labels = probabilities(teacher, other.images[kept]), np.array([2, 7])[other.labels[kept].numpy()]
    row = found["sets"]["external"]
    assert row["images"] == 16 and row["top1"] == pytest.approx(100 * (p.argmax(1) == labels).mean())
    assert row["auc"] == pytest.approx(np.mean([roc_auc_score(labels == c, p[:, c]) for c in (2, 7)]), abs=1e-6)
    assert found["external_threshold_loss"] == pytest.approx(100 * row["threshold_loss"])


def test_a_set_that_cannot_be_asked_about_is_named(make, teacher, tmp_path, elsewhere):
    def folder(names: list[str], side: int) -> str:
        root = Path(tmp_path / f"{side}{'-'.join(names)}")
        for split in ("train", "test"):
            for k, name in enumerate(names):
                (root / split / name).mkdir(parents=True)
                pixels = np.arange(side * side * 3, dtype=np.uint8).reshape(side, side, 3) * (k + 1)
                Image.fromarray(pixels).save(root / split / name / "one.png")
        return f"folder:{root}"

    for external, words in (
        (folder(["class1", "owl"], 32), "has images of 1 classes that are named as those of"),
        (folder(["class1", "class2"], 16), "has images of 16x16 pixels; allowed are 32x32"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            measure(make(external=external), teacher)
        assert "\n" not in str(caught.value)


def test_cifar10_and_cifar100_share_no_class_by_name():
    assert shared_classes(CIFAR100, CIFAR10) == {}
    assert shared_classes(CIFAR10, CIFAR10[::-1]) == {k: 9 - k for k in range(10)}
    assert shared_classes(["lawn_mower", "ray"], ["Ray", "x-ray", "lawn mower ", "Lawn-Mower"]) == {0: 1, 2: 0, 3: 0}


# --- on which images thresholds are chosen


def test_thresholds_are_chosen_on_images_that_the_student_never_saw(make_spec):
    labels = torch.arange(50_000) % 100
    held = set(validation_ids(labels).tolist())
    for fields, count in (
        ({"pool": 10_000, "fraction": 0.5}, 5000),  # as at profile reference: none of the split is trained on
        ({"fraction": 1.0, "validation": True}, 5000),
        ({"fraction": 0.2}, None),  # as at profile quick: what was trained on is left out of the split
    ):
        for seed in (0, 3):
            run = make_spec(seed=seed, **fields)
            ids, trained = set(threshold_ids(run, labels).tolist()), set(run.training_ids(labels).tolist())
            assert ids == held - trained and len(ids) == (count or len(held) - len(held & trained))
            assert (len(held & trained) > 500) == (count is None)


def test_a_student_of_all_training_images_is_refused(make_spec, make):
    whole = make_spec(fraction=1.0)
    with pytest.raises(ValueError, match="student trains on all training images") as caught:
        make(student=whole)
    assert "\n" not in str(caught.value)
    for fields in ({"validation": True}, {"pool": 100}, {"fraction": 0.9}, {"part": "first half"}):
        assert make(student=make_spec(**{"fraction": 1.0} | fields)).teacher.method == "ce"


def test_a_class_without_an_image_to_choose_on_is_named(make, make_spec, teacher):
    run = make_spec(fraction=0.9)  # of two images of a class in the split it was trained on nearly all
    with pytest.raises(ValueError, match="has no image to choose a threshold on"):
        measure(make(student=run), teacher)


# --- as a stored measurement


def test_it_is_stored_found_again_and_trains_its_student_first(make, isolated):
    spec = make(images=20)
    (run,) = spec.prerequisites
    assert run == spec.student and missing([spec], Store("quick")) == [run, spec]
    (result,) = run_all([spec], "quick")
    again = Store("quick").get(spec)
    assert again == result and again.spec == spec and type(again.spec) is ThresholdsSpec
    assert result.fingerprint == load_data(spec.data).train.fingerprint and missing([spec], Store("quick")) == []
    student = Store("quick").network(run, "float32")
    assert measure(spec, student)["bits"] == result.bits  # to the last bit


def test_without_weights_a_published_student_is_trained_again(make, isolated):
    spec = make(images=20)
    run_all([spec.student], "quick")
    Store("quick").publish()
    digest = hashlib.sha256(Store("quick").weights(spec.student).read_bytes()).hexdigest()
    for file in Store("quick").folder(spec.student).iterdir():
        file.unlink()
    assert Store("quick").get(spec.student) is not None
    assert missing([spec], Store("quick")) == [spec.student, spec]
    run_all([spec], "quick")
    assert hashlib.sha256(Store("quick").weights(spec.student).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("fields", [{"external": "cifar10"}, {"images": 7}])
def test_every_field_changes_the_key(make, make_spec, fields):
    assert make(**fields).key != make().key
    other = make(student=make_spec(seed=8, validation=True, fraction=1.0))
    assert other.key != make().key and other.experiment != make().experiment
    machine = make().machine.model_copy(update={"threads": 2})
    assert make(machine=machine).key != make().key and make(machine=machine).experiment == make().experiment
    back = ThresholdsSpec.model_validate_json(make(**fields).model_dump_json())
    assert back == make(**fields)
