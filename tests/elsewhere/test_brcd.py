"""Students of hash codes on a few real images: that they learn, from what, and that equal setups give equal numbers."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kdlib.data.images import load_data
from kdlib.data.sampling import stratified
from kdlib.elsewhere import brcd
from kdlib.elsewhere.brcd import PLAIN, Coder, codes_on, measure_hashing, steps, student_coder, teacher_coder
from kdlib.elsewhere.hashing import CHECKS
from kdlib.elsewhere.retrieval import hamming, search_scores
from kdlib.lab.cost import model_size
from kdlib.lab.forecasts import BESIDE, work
from kdlib.lab.measurements import Hashing, HashingSpec
from kdlib.lab.measures import measure
from kdlib.lab.recipe import Policy
from kdlib.lab.runs import missing, run_all
from kdlib.lab.store import Store

pytestmark = pytest.mark.usefixtures("isolated")
JDA = Policy(name="jda")


@pytest.fixture
def setup():
    """setup(**fields): a student of two epochs."""
    given = {"student": "resnet8_tiny", "policy": JDA, "epochs": 2, "images_per_step": 32, "seed": 0}
    return lambda **fields: Hashing(**given | fields)


@pytest.fixture
def data(tiny):
    return load_data(tiny)


def test_only_the_head_of_the_teacher_is_trained(setup, teacher, data):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    coder = teacher_coder(setup(), teacher, data.train)
    assert all(torch.equal(before[name], value) for name, value in coder.network.state_dict().items())
    with torch.random.fork_rng():
        fresh = Coder(teacher, 16, frozen=True)
    assert coder.head.linear.weight.shape == fresh.head.linear.weight.shape == (16, teacher.backbone.feature_dim)
    one, more = (teacher_coder(setup(epochs=n), teacher, data.train).head.linear.weight for n in (2, 4))
    assert not torch.equal(one, more)


def test_without_a_check_the_augmented_view_has_a_fifth_of_the_positive(setup, teacher, data, monkeypatch):
    """As published: alpha is 0.8."""
    shares, given = [], brcd.brcd_loss

    def spied(student, answers, clusters, share, *rest):
        shares.append(share)
        return given(student, answers, clusters, share, *rest)

    monkeypatch.setattr(brcd, "brcd_loss", spied)
    measure_hashing(setup(check="none", epochs=1), teacher, data.train, data.test)
    assert shares and set(torch.cat(shares).tolist()) == {torch.tensor(0.8).item()}


def test_equal_setups_have_equal_numbers_and_seeds_other_ones(setup, teacher, data):
    first, again, other = (measure_hashing(setup(seed=s), teacher, *(data.train, data.test)) for s in (0, 0, 1))
    assert first == again != other
    assert set(first) == {"kept", "examples"} | {
        f"{name}_{score}" for name in ("own", "old", "teacher") for score in ("map", "precision2")
    }


def test_arms_of_a_seed_share_their_teacher_and_what_is_kept_is_that_of_the_check(setup, teacher, data):
    found = {check: measure_hashing(setup(check=check), teacher, data.train, data.test) for check in CHECKS}
    assert len({result["teacher_map"] for result in found.values()}) == 1
    assert found["none"]["kept"] == pytest.approx(1)
    assert found["cluster"]["kept"] == pytest.approx(found["shuffled"]["kept"])
    assert 0.05 < found["cluster"]["kept"] < 1 and 0.5 < found["cosine"]["kept"] < 1
    assert len({result["own_map"] for result in found.values()}) == len(CHECKS)


def test_two_crops_stay_in_their_cluster_more_often_than_jda(setup, teacher, data):
    kept = [measure_hashing(setup(policy=policy), teacher, data.train, data.test)["kept"] for policy in (PLAIN, JDA)]
    assert kept[0] > kept[1]


def test_each_image_comes_once_an_epoch_with_views_of_its_own(setup, data):
    made = list(steps(setup(), JDA, data.train))
    assert len(made) == 2 * len(data.train) // 32
    x, other, keys = made[0]
    assert x.shape == other.shape == (32, 3, 32, 32) and x.dtype == torch.uint8 and keys.shape == (32,)
    assert not torch.equal(x, other)


def test_a_student_finds_more_than_chance(setup, teacher, data):
    """Ten classes of equal size: chance is a little above 10 %."""
    given = setup(epochs=12, check="none", policy=PLAIN)
    student, _ = student_coder(given, teacher_coder(given, teacher, data.train), data.train)
    index, queries = codes_on(student, data.train.evaluated), codes_on(student, data.test.evaluated)
    assert search_scores(queries, data.test.labels, index, data.train.labels)["map"] > 20


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"policy": Policy(name="weak1")}, "policy 'weak1' is not possible; allowed are those of two views"),
        ({"policy": Policy(name="cutmix")}, "policy 'cutmix' is not possible"),
        ({"policy": Policy(name="he_da")}, "policy 'he_da' is not possible"),
        ({"policy": Policy(name="attention_crop")}, "policy 'attention_crop' is not possible"),
        ({"images_per_step": 5000}, "images_per_step = 5000 is too large; there are 160 images"),
    ],
)
def test_bad_setups_are_one_sentence(setup, teacher, data, fields, said):
    with pytest.raises(ValueError, match=f"^{said}") as error:
        measure_hashing(setup(**fields), teacher, data.train, data.test)
    assert "\n" not in str(error.value)


# --- as a stored measurement


@pytest.fixture
def make(setup, make_spec, tiny):
    """make(**fields): the measurement of that student, of a teacher that is trained for it."""

    def made(hashing: dict | None = None, **fields) -> HashingSpec:
        run = make_spec(seed=7)
        given = {"data": tiny, "teacher": run, "machine": run.machine, "setup": setup(**hashing or {}), "images": 160}
        return HashingSpec(**given | fields)

    return made


def test_a_measurement_is_that_of_the_images_it_names(make, teacher, data):
    """By hand: draws of ids, sets made of them, and the same training."""
    spec = make({"epochs": 1}, images=80, index=100, queries=30)
    found = measure(spec, teacher)
    metrics = found["metrics"]
    assert found["fingerprint"] == data.train.fingerprint and found["evaluations"] == []
    assert (metrics["images"], metrics["index_images"], metrics["queries"]) == (80, 100, 30)
    ids = [
        stratified(part.labels, torch.arange(len(part)), share, 0, role)
        for part, share, role in (
            (data.train, 80 / 160, "images to hash"), (data.train, 100 / 160, "searched images"),
            (data.test, 30 / 60, "queries"),
        )
    ]  # fmt: skip
    train, index, test = (brcd.part(s, i) for s, i in zip((data.train, data.train, data.test), ids, strict=True))
    assert torch.equal(train.images, data.train.images[ids[0]]) and torch.equal(test.labels, data.test.labels[ids[2]])
    again = measure_hashing(spec.setup, teacher, train, test, index)
    assert all(metrics[name] == value for name, value in again.items() if name != "examples")
    for ours, theirs in zip(metrics["examples"], again["examples"], strict=True):
        assert ours["query"] == ids[2][theirs["query"]]
        assert ours["own"] == ids[1][theirs["own"]].tolist() and ours["old"] == ids[1][theirs["old"]].tolist()


def test_examples_are_the_nearest_images_and_of_equal_ones_the_first(setup, teacher, data):
    given = setup(epochs=1)
    examples = measure_hashing(given, teacher, data.train, data.test)["examples"]
    old = teacher_coder(given, teacher, data.train)
    student, _ = student_coder(given, old, data.train)
    queries, places = codes_on(student, data.test.evaluated), [e["query"] for e in examples]
    assert places == sorted(set(places)) and (places[0], places[-1], len(places)) == (0, len(data.test) - 1, 6)
    for name, coder in (("own", student), ("old", old)):
        distances = hamming(queries, codes_on(coder, data.train.evaluated)).tolist()
        for example in examples:
            ranked = sorted((distance, place) for place, distance in enumerate(distances[example["query"]]))
            assert example[name] == [place for _, place in ranked[:8]]


def test_a_measurement_is_run_stored_and_repeated(make):
    spec = make({"epochs": 1}, queries=20)
    assert [s.kind for s in missing([spec], Store("smoke"))] == ["run", "hashing"]
    (result,) = run_all([spec], "smoke")
    assert missing([spec], Store("smoke")) == [] and Store("smoke").get(spec) == result
    assert isinstance(result.spec, HashingSpec) and result.spec.key == spec.key
    teacher = Store("smoke").network(spec.teacher, "float32")
    assert measure(spec, teacher)["bits"] == result.bits
    assert measure(make({"epochs": 1, "seed": 1}, queries=20), teacher)["bits"] != result.bits


def test_the_student_has_the_precision_of_its_teacher(setup, teacher, data):
    teacher.precision = torch.bfloat16
    given = setup(epochs=1)
    student, _ = student_coder(given, teacher_coder(given, teacher, data.train), data.train)
    assert student.network.precision == torch.bfloat16
    assert student(data.test.images[:4]).dtype == torch.float32


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"images": 10}, "images = 10 make no step; 32 images of a step are needed in 2 epochs"),
        ({"images": 1}, "images = 1 is not allowed"),
        ({"queries": 0}, "queries = 0 is not allowed"),
        ({"hashing": {"check": "soft"}}, "check = 'soft' is not allowed"),
    ],
)
def test_bad_measurements_are_one_sentence(make, fields, said):
    with pytest.raises(ValueError, match=said) as error:
        make(**fields)
    assert "\n" not in str(error.value)


def test_half_precision_is_refused(make):
    coarse = make().machine.model_copy(update={"device": "cuda", "precision": "float16"})
    with pytest.raises(ValueError, match="float16.* is too coarse; allowed are 'float32' and 'bfloat16'"):
        make(machine=coarse)


@pytest.mark.parametrize(
    "changes", [{"images": 80}, {"index": 50}, {"queries": 9}, {"hashing": {"check": "none"}}, {"hashing": {"bits": 8}}]
)
def test_what_is_asked_is_part_of_the_key(make, changes):
    assert make().key != make(**changes).key


def test_measurements_of_other_kinds_need_no_other_task():
    """The room of other tasks is imported when such a measurement is asked for, not before."""
    program = "import sys, kdlib.lab.runs; print(sorted(m for m in sys.modules if m.startswith('kdlib.elsewhere')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_forecast_counts_what_is_computed(make, monkeypatch):
    """The views that the teacher and the student of a measurement are shown, each with the operations of a pass."""
    spec = make({"epochs": 2}, images=160, index=100, queries=30)
    seen = {"teacher": 0, "learning": 0, "graded": 0}

    def counted(coder: Coder, images: torch.Tensor) -> torch.Tensor:
        kind = "teacher" if coder.frozen else "learning" if coder.training else "graded"
        seen[kind] += len(images)
        return forward(coder, images)

    forward = Coder.forward
    monkeypatch.setattr(Coder, "forward", counted)
    run_all([spec], "smoke", immediate := ThreadPoolExecutor(1))
    immediate.shutdown()
    macs = model_size("resnet8", 10, 32)[1], model_size("resnet8_tiny", 10, 32)[1]
    counted_macs = macs[0] * seen["teacher"] + macs[1] * (3 * seen["learning"] + seen["graded"])
    views = 2 * 2 * 160
    assert seen["learning"] == views
    assert work(spec) - 2 * views * BESIDE == pytest.approx(counted_macs, rel=0.12)  # but for the masks of the teacher
