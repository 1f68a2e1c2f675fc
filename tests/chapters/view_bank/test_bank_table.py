"""Tables of view banks: numbers of bytes by hand, differences paired by seed, gaps, and what cannot be stored."""

import numpy as np
import pytest
import torch

from kdlib.chapters.registry import create_study
from kdlib.chapters.view_bank import FRESH, bank_table
from kdlib.lab import forecasts
from kdlib.lab.recipe import Machine
from kdlib.lab.store import Store
from kdlib.methods import METHODS
from kdlib.study import tables
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")
TIMING = {"fresh views_seconds": 0.3, "fresh views_quartiles": [0.2, 0.4], "V = 16_seconds": 0.1,
          "V = 16_quartiles": [0.09, 0.12]}  # fmt: skip


@pytest.fixture
def study():
    return create_study("14_view_bank", Setting.of("reference", device="cpu"))


@pytest.fixture
def filled(study, invented):
    def fill(values: dict):
        store = Store("reference")
        for arm, numbers in values.items():
            for spec, top1 in zip(study.specs(arm), numbers, strict=False):
                store.put(invented(spec, "reference", top1=top1))
        return tables.runs_frame(study, Store("reference"))

    return fill


def test_bytes_are_those_of_the_arrays_that_are_stored(study):
    """Two views of 32 x 32 pixels in a set, 100 classes."""
    view = np.zeros((3, 32, 32), np.uint8).nbytes + np.zeros(100, np.float16).nbytes
    spec = study.specs(FRESH)[0]
    for sets in (1, 8):
        assert bank_table.bank_bytes(spec, sets) == sets * 2 * view
    kept = bank_table.storage(spec, 8)
    assert kept["bytes per image"].tolist() == [f"{n:,}" for n in (16 * view, 16 * 208, 16 * 28, 60 * 400)]
    images = [10_000] * 3 + [forecasts.training_images(spec)]
    assert kept["images"].tolist() == [f"{n:,}" for n in images]
    each = np.array([16 * view, 16 * 208, 16 * 28, 60 * 400])
    assert [float(mb.replace(",", "")) for mb in kept.MB] == pytest.approx(each * images / 1e6, rel=0.01)
    assert kept["views of an image"].tolist() == [16, 16, 16, 60]


def test_one_row_of_fresh_views_and_one_of_each_bank(study, filled):
    frame = filled({FRESH: [50, 51, 53], "V = 1": [47, 49, 50], "V = 16": [51]})
    table = bank_table.banks(study, frame, TIMING)
    assert list(table.index) == [FRESH, *study.series["V"]]
    assert table["top-1 %"].tolist() == ["51.33", "48.67", "not run", "not run", "not run", "51.00"]
    assert table["different views"].tolist() == [60, 2, 4, 8, 16, 32]
    assert table["seconds of a step"].tolist() == ["0.3 (0.2 to 0.4)", "", "", "", "", "0.1 (0.09 to 0.12)"]
    cost = forecasts.run_cost(study.specs(FRESH)[0])
    assert table["teacher's TMACs"]["V = 1"] == f"{10_000 * 2 * cost.teacher_macs / 1e12:.3g} once"
    assert table["teacher's TMACs"][FRESH] == f"{cost.views * cost.teacher_macs / 1e12:.3g} in each run"
    assert table["bank MB"]["V = 1"] == "65.4"


def test_without_any_result_the_counted_columns_are_there(study, filled):
    table = bank_table.banks(study, filled({}), None)
    assert set(table["top-1 %"]) == {"not run"} and set(table["seconds of a step"]) == {""}
    assert table["bytes per image"].tolist()[:2] == ["", "6,544"]


def test_a_bank_that_a_run_cannot_use_up_has_no_more_different_views(filled):
    study = create_study("14_view_bank", Setting.of("smoke", device="cpu"), sets=[1, 100])
    table = bank_table.banks(study, tables.runs_frame(study, Store("smoke")), None)
    assert table["different views"].tolist() == [4, 2, 4]


def test_words(study, filled):
    assert bank_table.speed(study, TIMING) == "3.00 times"
    assert bank_table.speed(study, None) == bank_table.speed(study, {"fresh views_seconds": 1}) == "not measured"
    fresh = study.specs(FRESH)[0]
    assert bank_table.worth(fresh, 16) == f"{16 * 2 * 10_000 / forecasts.run_cost(fresh).views:.3g} runs"


@pytest.mark.parametrize(("precision", "words"), [("bfloat16", "bfloat16"), ("float32", "must be zero")])
def test_the_precision_is_that_of_the_stored_runs(study, invented, precision, words):
    assert bank_table.precision(study, Store("reference")) == "no run is there to say so"
    machine = Machine(device="cpu", precision=precision)
    spec = study.specs(FRESH)[0].model_copy(update={"machine": machine})
    Store("reference").put(invented(spec, "reference"))
    Store("reference").publish()  # of another machine
    assert words in bank_table.precision(study, Store("reference"))


def test_methods_that_can_are_those_whose_specs_say_so(make_spec):
    """Every reason is checked against a spec that is refused, or is not."""
    table = bank_table.methods()["with a view bank"]
    assert list(table.index) == list(METHODS)
    for name in ("kd", "ccd", "spkd"):
        teacher = make_spec(seed=7)
        try:
            make_spec(method=name, policy="weak2", teacher=teacher, bank=2)
            assert table[name] == "yes"
        except ValueError as error:
            assert table[name] == "no: it reads more of its teacher than logits" and "reads more" in str(error)
    with pytest.raises(ValueError, match="has no teacher"):
        make_spec(bank=2)
    assert table["ce"] == "no: it has no teacher"


def test_torch_agrees_on_the_size_of_a_float16():
    assert torch.zeros(1, dtype=torch.float16).element_size() == bank_table.HALF
