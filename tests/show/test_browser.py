"""The browser of runs shows those of the store that its menus choose, and in a page the first study."""

import re

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store
from kdlib.show.browser import ALL, RunBrowser, stored_runs
from kdlib.study.setting import Setting
from kdlib.study.stats import mean_interval

pytestmark = pytest.mark.usefixtures("isolated")
NAMES = ("07_compatibility", "03_blind_teacher")
SEEDS = (0, 1, 2)


@pytest.fixture
def made(invented) -> tuple:
    """Two studies of three seeds, a store with all of their runs but one, and seed, arm -> top-1 as it was put."""
    setting = Setting.of("quick", seeds=list(SEEDS), device="cpu")
    studies, store = [create_study(name, setting) for name in NAMES], Store("quick")
    specs = {(s.name, arm, spec.seed): spec for s in studies for arm in s.arms for spec in s.specs(arm)}
    left_out = next(iter(specs))
    values = {}
    for k, spec in enumerate(specs.values()):
        if spec.key != specs[left_out].key:
            values.setdefault(spec.key, 20.0 + k)
            store.put(invented(spec, "quick", top1=values[spec.key]))
    return studies, store, {place: values[spec.key] for place, spec in specs.items() if spec.key in values}, specs


@pytest.fixture
def browser(made) -> RunBrowser:
    return RunBrowser(made[0], made[1])


def test_it_has_every_finished_run_of_its_studies(made) -> None:
    studies, store, values, _ = made
    found = {(e.study, e.arm, e.seed): e.result.metrics["top1"] for e in stored_runs(studies, store)}
    assert found == values and len(found) > 10


def test_a_choice_keeps_what_fits_and_nothing_else(made, browser: RunBrowser) -> None:
    _, _, values, specs = made
    for study in NAMES:
        for method in browser.methods(study):
            for seed in browser.seeds(study):
                fits = {
                    place for place in values
                    if place[0] == study and (seed == ALL or place[2] == int(seed))
                    and (method == ALL or specs[place].method == method)
                }  # fmt: skip
                chosen = {(e.study, e.arm, e.seed) for e in browser.chosen(study, method, seed)}
                assert chosen == fits, (study, method, seed)
    assert len(browser.methods(NAMES[0])) > 2 and browser.seeds(NAMES[0]) == [ALL, "0", "1", "2"]


def test_rows_have_the_interval_of_their_arm_and_where_they_come_from(made, browser: RunBrowser) -> None:
    _, _, values, specs = made
    table = browser.table(browser.chosen(NAMES[1]))
    for _, row in table.iterrows():
        arm = [value for (study, arm, _), value in values.items() if (study, arm) == (NAMES[1], row.arm)]
        assert row["top-1 %"] == f"{values[NAMES[1], row.arm, row.seed]:.2f}"
        assert row["mean of the arm"] == f"{sum(arm) / len(arm):.2f}"
        interval = mean_interval(arm)
        whole = f"[{interval.low:.2f}, {interval.high:.2f}]"
        assert row["95 % interval"] == {3: whole, 2: "two seeds"}[len(arm)]  # one run was left out, of every study
        assert (row.date, row.commit, row.hardware) == ("2025-01-02", "abc", "a CPU")
        assert row.key == specs[NAMES[1], row.arm, row.seed].key


def test_the_menus_choose(made, browser: RunBrowser) -> None:
    menus, image, rows, _ = browser.widget().children
    study, method, seed = menus.children
    whole = image.value, rows.value
    seed.value = "1"
    assert rows.value != whole[1] and image.value != whole[0]
    assert rows.value.count("<tr") - 1 == len(browser.chosen(NAMES[0], ALL, "1"))
    method.value = method.options[1]
    assert rows.value.count("<tr") - 1 == len(browser.chosen(NAMES[0], method.value, "1"))
    study.value = NAMES[1]
    assert (method.value, seed.value) == (ALL, ALL)
    assert rows.value.count("<tr") - 1 == len(browser.chosen(NAMES[1]))


def test_the_page_shows_the_first_study_and_asks_for_nothing(browser: RunBrowser) -> None:
    bundle = browser._repr_mimebundle_()
    assert {"text/html", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    html = re.sub(r'src="data:image/png;base64,[^"]+"', "PICTURE", bundle["text/html"])
    assert html.count("PICTURE") == 1 and not re.search(r"(https?:)?//", html)
    assert html.count("<tr") - 1 == len(browser.chosen(NAMES[0]))


def test_an_empty_store_is_said_to_be_empty() -> None:
    nothing = RunBrowser([create_study(NAMES[0], Setting.of("quick", device="cpu"))], Store("quick"))
    assert "No run of these studies is stored" in nothing.html()
    assert "No run" in nothing.widget().value
