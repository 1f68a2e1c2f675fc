"""With CIFAR-100 and the public ResNet-56: its accuracy, and distillation from it."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import hypergeom

from kdlib.data import images as sets
from kdlib.data import paths
from kdlib.data.images import Data, ImageSet, available
from kdlib.data.sampling import stratified
from kdlib.lab import measures, store, task
from kdlib.lab.evaluate import logits_on
from kdlib.lab.measurements import ViewsSpec
from kdlib.lab.measures import views
from kdlib.lab.recipe import Machine, Policy, Public, Recipe
from kdlib.lab.runs import execute
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.models.checkpoints import PUBLIC

TEACHER = Public(checkpoint="cifar100_resnet56")
HERE = available("cifar100") and (paths.checkpoint_root() / PUBLIC[TEACHER.checkpoint].file).exists()
WHY = "needs CIFAR-100 below KDLIB_DATA and the public ResNet-56 in KDLIB_CHECKPOINTS"
pytestmark = [pytest.mark.usefixtures("isolated"), pytest.mark.skipif(not HERE, reason=WHY)]
MACHINE = Machine(device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="module")
def fewer_tests(cifar100: Data) -> Data:
    """CIFAR-100 with 200 of its test images, so that evaluation does not dominate."""
    test = cifar100.test
    ids = stratified(test.labels, torch.arange(len(test)), 0.02, 0, "some test images")
    return Data(cifar100.train, replace(test, images=test.images[ids], labels=test.labels[ids]))


@pytest.fixture
def small(fewer_tests, monkeypatch):
    """The same, wherever the modules load data."""
    for module in (sets, task, store, measures, views):
        monkeypatch.setattr(module, "load_data", lambda name: {"cifar100": fewer_tests}[name])


def student(method: str, policy: str, **options) -> RunSpec:
    recipe = Recipe(views_per_step=32, views_per_image=2, learning_rate=0.05, weight_decay=5e-4, evaluations=2)
    return RunSpec(data="cifar100", pool=10_000, fraction=0.01, student="resnet8", teacher=TEACHER, method=method,
                   options=options, policy=Policy(name=policy), recipe=recipe, seed=0, machine=MACHINE)  # fmt: skip


def right(images: ImageSet) -> int:
    """How many of these images it tells."""
    teacher = Store("reference").network(TEACHER, "float32")
    return int((logits_on(teacher, images.images).argmax(1) == images.labels).sum())


@pytest.mark.slow
def test_its_published_accuracy(cifar100):
    assert len(cifar100.test) == 10_000
    assert right(cifar100.test) / 100 == pytest.approx(72.63, abs=0.02)
    assert PUBLIC[TEACHER.checkpoint].top1 == 72.63


def test_its_accuracy_on_some_images_is_in_line_with_the_published_one(fewer_tests):
    """Fails for 1 % of the draws of 200 test images, of which this is one that is fixed."""
    low, high = hypergeom(10_000, 7263, len(fewer_tests.test)).ppf([0.005, 0.995])
    assert low <= right(fewer_tests.test) <= high


@pytest.mark.parametrize(("method", "policy"), [("kd", "weak2"), ("kd", "jda"), ("ccd", "jda")])
def test_students_learn_from_it(small, method, policy):
    spec = student(method, policy)
    result = execute(spec, "reference")
    assert Store("reference").get(spec) == result
    assert result.metrics["steps"] == 100 * 2 // 32 == 6
    assert result.spec.teacher.sha256 == PUBLIC[TEACHER.checkpoint].contents
    assert 0 <= result.metrics["agreement"] <= 100
    if method == "ccd":
        assert 1 < result.metrics["mean_w"] < 2  # the cosine is positive on average


def test_interrupted_and_resumed_gives_the_same_bits(small, isolated, monkeypatch):
    spec = student("ccd", "jda", weight="shuffled")
    whole = execute(spec, "reference")
    monkeypatch.setenv("KDLIB_RUNS", str(isolated / "again"))

    def stop(done, _):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(spec, "reference", stop)
    steps = []
    again = execute(spec, "reference", lambda done, _: steps.append(done))
    assert steps == [4, 5, 6]
    assert again.bits == whole.bits
    assert again.metrics == whole.metrics


def test_it_is_surer_on_plain_crops_than_on_augmented_views(small):
    spec = ViewsSpec(data="cifar100", teacher=TEACHER, policy=Policy(name="jda"), images=200, seed=0, machine=MACHINE)
    metrics = execute(spec, "reference").metrics
    for split in ("train", "test"):
        assert metrics[f"{split}_w_mean"] < metrics[f"{split}_floor_mean"]
        assert metrics[f"{split}_augmented_top1"] < metrics[f"{split}_original_top1"]
    assert metrics["train_original_top1"] > 95  # it was trained on these
    assert metrics["test_original_top1"] < 90
