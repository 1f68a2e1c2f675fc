"""Tables of data sets, pairs and teachers: they follow from the code, and gaps are visible."""

import pytest
from myst_nb.core.variables import format_plain_text

from kdlib.chapters.data_and_teachers import teacher_tables
from kdlib.data.images import BUNDLED, FACTS, available, load_data
from kdlib.lab.cost import parameters
from kdlib.models import create_model
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.profiles import PROFILES

BINS = {"counts": [6, 0, 4], "confidence": [0.5, None, 1.0], "accuracy": [0.5, None, 0.75]}
METRICS = {
    "test_images": 10_000, "test_top1": 72.53, "test_top5": 91.0, "test_nll": 1.25, "test_ece": 0.1234,
    "unique_images": 9_990, "unique_top1": 72.6, "distinct_images": 9_900, "distinct_top1": 72.4,
    "train_images": 5_000, "train_top1": 99.9, "train_nll": 0.0136,
    "temperatures": [{"temperature": t, "nll": 1.0, "ece": e, **BINS} for t, e in ((1.0, 0.2), (1.5, 0.1), (4.0, 0.4))],
}  # fmt: skip


@pytest.mark.parametrize("name", FACTS)
def test_a_data_set_is_described_as_it_is(name):
    row = teacher_tables.data_sets().loc[name]
    if not available(name):
        pytest.skip(f"{name} is not on this machine")
    data = load_data(name)
    assert row["classes"] == len(data.train.classes)
    assert row["training"] == f"{len(data.train):,}"
    assert row["test"] == f"{len(data.test):,}"
    side = data.train.view_size or data.train.size[0]
    assert row["pixels"] == f"{side}x{side}"
    for column, values in (("mean", data.train.mean), ("std", data.train.std)):
        assert [float(v) for v in row[column].split()] == pytest.approx(values, abs=1e-4)


def test_the_table_of_data_sets_does_not_depend_on_the_machine(tmp_path, monkeypatch):
    before = teacher_tables.data_sets()
    for variable in ("KDLIB_DATA", "KDLIB_CHECKPOINTS", "KDLIB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert teacher_tables.data_sets().equals(before)
    assert teacher_tables.origins().index.tolist() == list(FACTS)
    here = teacher_tables.on_this_machine()
    assert here.loc["cifar100_resnet56", "how to get it"] == "python -m kdlib fetch resnet56"
    assert here.index.tolist() == [*FACTS, *PUBLIC]
    assert here[here["on this machine"] == "yes"].index.tolist() == [BUNDLED]


def test_a_fetched_checkpoint_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_CHECKPOINTS", str(tmp_path))
    (tmp_path / PUBLIC["cifar100_resnet20"].file).touch()
    here = teacher_tables.on_this_machine()["on this machine"]
    assert (here["cifar100_resnet20"], here["cifar100_resnet56"]) == ("yes", "no")


def test_every_pair_of_every_profile_has_its_size():
    table = teacher_tables.pairs()
    assert len(table) == sum(len(scale.pairs) for scale in PROFILES.values())
    assert set(table.index) == set(PROFILES)
    row = table.loc["reference"]
    teacher, student = (parameters(create_model(name, 100)) for name in ("resnet56", "resnet8"))
    sizes = f"{teacher / 1e6:.3f} → {student / 1e6:.4f}"
    assert row["parameters, millions"] == f"{sizes} (1 / {teacher / student:.1f})" == "0.862 → 0.0839 (1 / 10.3)"
    assert row["MACs, millions"].startswith("126 → 12.5 ")  # 125.75 is published for the first
    assert "1,298 → 6.52 (1 / 199.0)" in table["MACs, millions"].tolist()  # ResNet50 and MobileNetV2


def test_teachers_stand_beside_what_is_published():
    table = teacher_tables.teachers({"cifar100_resnet56": METRICS, "cifar100_resnet20": None, "own": METRICS}).T
    row = table.loc["cifar100_resnet56"]
    assert (row["top-1 %"], row["published"], row["measured - published"]) == ("72.53", "72.63", "-0.10")
    assert (row["without exact twins"], row["without near twins"]) == ("72.60", "72.40")
    assert (row["ECE"], row["NLL, nats"], row["top-1 % on training images"]) == ("0.123", "1.250", "99.90")
    gap = table.loc["cifar100_resnet20"]
    assert (gap["top-1 %"], gap["published"]) == ("not measured", "68.83")
    assert not any(gap.drop(["top-1 %", "published"]))
    assert (table.loc["own", "published"], table.loc["own", "measured - published"]) == ("", "")


def test_words_of_the_prose():
    said = teacher_tables.words("cifar100_resnet56", METRICS)
    assert said["published"] == "72.63 %"
    assert (said["top1"], said["distinct-top1"], said["images"]) == ("72.53 %", "72.40 %", "10,000 test images")
    assert (said["exact-twins"], said["near-twins"]) == ("10", "90")
    assert said["confidence"] == "70.0 %"  # six times .5 and four times 1
    assert (said["best-temperature"], said["best-ece"]) == ("1.5", "ECE 0.100")
    assert (said["soft-temperature"], said["soft-ece"]) == ("4", "ECE 0.400")
    assert {key: format_plain_text(text, "s") for key, text in said.items()} == said  # as the page prints them
    gaps = teacher_tables.words("own", None)
    assert set(gaps) == set(said)
    assert gaps.pop("teacher") == "own" and gaps.pop("published") == "nothing"
    assert set(gaps.values()) == {"not measured"}


def test_photographs_have_no_near_twins_in_words():
    without = {name: value for name, value in METRICS.items() if not name.startswith("distinct")}
    said = teacher_tables.words("own", without)
    assert (said["exact-twins"], said["near-twins"], said["distinct-top1"]) == ("10", "not measured", "not measured")
    assert teacher_tables.teachers({"own": without}).loc["without near twins", "own"] == ""
