"""Scores of a teacher against NumPy, SciPy and scikit-learn in double precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, top_k_accuracy_score

from kdlib.data.images import Data, load_data
from kdlib.data.sampling import training_ids
from kdlib.lab.measurements import ScoresSpec
from kdlib.lab.measures import measure
from kdlib.lab.measures import scores as module
from kdlib.lab.measures.scores import BINS, TEMPERATURES, calibration, evenly

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def spec(make_spec, tiny) -> ScoresSpec:
    run = make_spec(seed=7)
    return ScoresSpec(data=tiny, teacher=run, machine=run.machine)


@pytest.fixture
def doctored(tiny, monkeypatch):
    """doctored(change): the tiny set as `change(train, test images)` leaves its test images, wherever it is loaded."""

    def make(change, **fields) -> Data:
        whole = load_data(tiny)
        images = change(whole.train.images, whole.test.images.clone())
        data = Data(replace(whole.train, **fields), replace(whole.test, images=images, **fields))
        monkeypatch.setattr(module, "load_data", lambda name: data)
        return data

    return make


def logits_of(teacher, images) -> np.ndarray:
    with torch.no_grad():
        return teacher(images).logits.double().numpy()


def check(metrics: dict, part: str, logits: np.ndarray, labels: np.ndarray) -> None:
    """Every score of a part of the images."""
    p, classes = softmax(logits, axis=1), np.arange(10)
    assert metrics[f"{part}_images"] == len(labels)
    for k in (1, 5):
        expected = 100 * top_k_accuracy_score(labels, logits, k=k, labels=classes)
        assert metrics[f"{part}_top{k}"] == pytest.approx(expected)
    assert metrics[f"{part}_nll"] == pytest.approx(log_loss(labels, p, labels=classes), rel=1e-5)
    assert metrics[f"{part}_entropy"] == pytest.approx(entropy(p, axis=1).mean(), rel=1e-5)
    assert 0 <= metrics[f"{part}_ece"] <= 1


def test_every_part_equals_a_direct_computation(spec, teacher, doctored):
    def change(train, test):
        test[[3, 40]] = train[[100, 7]]  # exact twins
        test[5] = (0.8 * train[30].double() + 9).byte()  # a near one
        return test

    data = doctored(change)
    metrics = measure(spec, teacher)["metrics"]
    logits, labels = logits_of(teacher, data.test.images), data.test.labels.numpy()
    kept = np.ones(60, dtype=bool)
    check(metrics, "test", logits, labels)
    kept[[3, 40]] = False
    check(metrics, "unique", logits[kept], labels[kept])
    near = module.near_twins(data.test, data.train).numpy()
    assert near[5]
    kept &= ~near
    check(metrics, "distinct", logits[kept], labels[kept])
    ids = training_ids(data.train.labels, 7, 0.25, None, False)  # what the run of the teacher trains on
    assert metrics["train_images"] == len(ids) == 40
    check(metrics, "train", logits_of(teacher, data.train.images[ids]), data.train.labels[ids].numpy())
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(metrics["test_correct"]), np.uint8))[:60]
    assert np.array_equal(bits, logits.argmax(1) == labels)


def test_measuring_twice_gives_equal_bits(spec, teacher):
    one, other = measure(spec, teacher), measure(spec, teacher)
    assert one == other
    assert one["fingerprint"] == load_data(spec.data).train.fingerprint


def test_reliability_is_that_of_scikit_learn(generator):
    logits, labels = 3 * generator.normal(size=(700, 10)), generator.integers(0, 10, 700)
    for temperature in TEMPERATURES:
        found = calibration(torch.tensor(logits), torch.tensor(labels), temperature)
        p = softmax(logits / temperature, axis=1)
        confidence, right = p.max(1), p.argmax(1) == labels
        assert found["temperature"] == temperature
        assert found["nll"] == pytest.approx(log_loss(labels, p, labels=np.arange(10)))
        accuracy, mean = calibration_curve(right, confidence, n_bins=BINS)
        some = [n > 0 for n in found["counts"]]
        assert [v for v in found["accuracy"] if v is not None] == pytest.approx(accuracy.tolist())
        assert [v for v in found["confidence"] if v is not None] == pytest.approx(mean.tolist())
        assert [v is not None for v in found["accuracy"]] == [v is not None for v in found["confidence"]] == some
        shares = np.array(found["counts"])[some] / 700
        assert found["ece"] == pytest.approx((shares * np.abs(accuracy - mean)).sum())
        assert sum(found["counts"]) == 700


def test_temperature_one_is_the_teacher_itself(spec, teacher):
    metrics = measure(spec, teacher)["metrics"]
    assert [found["temperature"] for found in metrics["temperatures"]] == list(TEMPERATURES)
    (plain,) = (found for found in metrics["temperatures"] if found["temperature"] == 1)
    assert (plain["nll"], plain["ece"]) == pytest.approx((metrics["test_nll"], metrics["test_ece"]))
    assert all(len(found[name]) == BINS for found in metrics["temperatures"] for name in ("counts", "accuracy"))


def test_a_bin_holds_its_upper_edge():
    """Two equal logits: confidence 1/2 exactly, at 15 bins inside bin 8; certainty belongs to the last bin."""
    logits, labels = torch.tensor([[0.0, 0.0], [2000.0, 0.0]]), torch.tensor([0, 1])
    found = calibration(logits, labels, 1.0)
    assert (found["counts"][7], found["counts"][14]) == (1, 1)
    assert (found["accuracy"][7], found["accuracy"][14]) == (1, 0)
    assert found["accuracy"][0] is None


def test_few_images_are_drawn_evenly():
    for count in (1, 4999, 5000, 5001, 12_345):
        ids = evenly(torch.arange(count))
        assert 1 <= len(ids) <= 5000 and len(ids) > 2500 * (count > 5000)
        assert len(set(ids.diff().tolist())) <= 1


def test_a_part_without_images_is_left_out(spec, teacher, doctored):
    doctored(lambda train, test: train[:60])
    metrics = measure(spec, teacher)["metrics"]
    assert {"test_top1", "train_top1"} <= set(metrics)
    assert not [name for name in metrics if name.startswith(("unique", "distinct"))]


def test_photographs_are_looked_at_in_the_centre_and_not_searched_for_near_twins(spec, teacher, doctored, monkeypatch):
    data = doctored(lambda train, test: test, view_size=28)
    monkeypatch.setattr(module, "near_twins", lambda *_: pytest.fail("the search reads the whole set"))
    metrics = measure(spec, teacher)["metrics"]
    assert "unique_top1" in metrics and "distinct_top1" not in metrics
    check(metrics, "test", logits_of(teacher, data.test.images[..., 2:30, 2:30]), data.test.labels.numpy())


def test_a_teacher_of_other_classes_is_refused(spec, make_spec):
    class Other:
        num_classes = 100

        def to(self, device):
            return self

    with pytest.raises(ValueError, match=r"^teacher has 100 classes, data 'folder:.*' has 10$"):
        measure(spec, Other())
