"""What is saved: counted over runs, read from a benchmark, or said not to be known."""

import pytest

from kdlib.chapters.benchmark.price import verdict_runs
from kdlib.chapters.benchmark.savings import MEASURED, UNMEASURED, savings_frame
from kdlib.lab.answers import question
from kdlib.lab.forecasts import answers_bytes, run_cost, total_macs
from kdlib.lab.runs import needed
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def setting() -> Setting:
    return Setting.of("reference", device="cpu")


def test_measured_savings_are_ratios_of_the_benchmark(found, setting):
    table = savings_frame(found, setting)
    assert table.loc["view bank, ResNet-56 to ResNet-8", "saves"].startswith("2.10 (2.05 to 2.15) times")
    # 50 / 24, 55 / 33 and 50 / 25 of the three rounds, not 50 / 10 over 25 / 10
    assert table.loc["view bank, WRN-40-2 to WRN-16-2", "saves"].startswith("2.00 (1.83 to 2.04) times")
    assert table.loc["folded BatchNorms, ResNet-56", "saves"].startswith("1.20 (1.20 to 1.35) times")
    assert table.loc["two runs side by side", "saves"].startswith("1.10 times")


@pytest.mark.parametrize("title", MEASURED)
def test_what_a_benchmark_lacks_is_not_known(found, setting, title):
    for some in (found.model_copy(update={"comparisons": []}), None):
        assert savings_frame(some, setting).loc[title].tolist() == ["not known", UNMEASURED]


def test_kept_answers_save_each_question_but_the_first(setting):
    """By hand: runs in groups of one question; all but one of a group are without their teacher's part."""
    runs = needed(spec for specs in verdict_runs(setting).values() for spec in specs)
    groups: dict = {}
    for spec in runs:
        groups.setdefault(question(spec) or spec.key, []).append(run_cost(spec))
    saved = sum(cost.teacher_macs * cost.views for group in groups.values() for cost in group[1:])
    assert 0 < saved == total_macs(runs) - total_macs(runs, kept=True)
    asked = [spec for spec in runs if question(spec)]
    views = {question(spec): run_cost(spec).views for spec in asked}
    assert answers_bytes(runs) == 4 * 100 * sum(views.values())
    said = savings_frame(None, setting).loc["kept answers of teachers", "saves"]
    whole = total_macs(runs)
    assert said == (
        f"{saved / 1e12:.0f} of {whole / 1e12:,.0f} TMACs ({100 * saved / whole:.0f} %), for "
        f"{answers_bytes(runs) / 1e9:.3g} GB of answers"
    )
