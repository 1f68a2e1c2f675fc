"""Students of hash codes on a few real images: that they learn, from what, and that equal setups give equal numbers."""

import pytest
import torch

from kdlib.data.images import load_data
from kdlib.elsewhere.brcd import PLAIN, Coder, codes_on, measure_hashing, steps, student_coder, teacher_coder
from kdlib.elsewhere.hashing import CHECKS
from kdlib.elsewhere.retrieval import search_scores
from kdlib.lab.measurements import Hashing
from kdlib.lab.recipe import Policy

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
        ({"images_per_step": 5000}, "images_per_step = 5000 is too large; there are 160 images"),
    ],
)
def test_bad_setups_are_one_sentence(setup, teacher, data, fields, said):
    with pytest.raises(ValueError, match=f"^{said}") as error:
        measure_hashing(setup(**fields), teacher, data.train, data.test)
    assert "\n" not in str(error.value)
