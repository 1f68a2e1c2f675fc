"""Which runs are trained together: stacks are of one arm, of at most so many seeds, and leave alone what cannot be."""

import pytest

from kdlib.lab.recipe import Policy
from kdlib.lab.stacks import in_stacks, members, stack_of
from kdlib.study.arms import Arm
from kdlib.study.setting import Setting, Study


def arm(make_spec, seeds=range(5), **fields):
    return [make_spec(seed=seed, **fields) for seed in seeds]


def test_a_stack_names_its_seeds_and_changes_nothing_else(make_spec):
    runs = stack_of(arm(make_spec, (3, 0, 1)))
    assert [run.seed for run in runs] == [0, 1, 3] and {run.machine.stacked for run in runs} == {(0, 1, 3)}
    for run, alone in zip(runs, arm(make_spec, (0, 1, 3)), strict=True):
        assert run.model_copy(update={"machine": alone.machine}) == alone and run.key != alone.key
        assert members(run) == runs
    assert members(make_spec()) == []


@pytest.mark.parametrize(
    ("fields", "name"),
    [({"method": "kd"}, "teacher"), ({"fraction": 0.5}, "fraction"), ({"student": "resnet14"}, "student"),
     ({"policy": "jda"}, "policy"), ({"recipe": {"learning_rate": 0.1}}, "recipe")],
)  # fmt: skip
def test_runs_of_two_arms_are_refused(make_spec, fields, name):
    fields |= {"teacher": make_spec(seed=7)} if "method" in fields else {}
    with pytest.raises(ValueError, match=f"^{name} differs between the runs of seeds 0 and 1: a stack is of") as caught:
        stack_of([make_spec(seed=0), make_spec(seed=1, **fields)])
    assert "\n" not in str(caught.value)


def test_one_seed_twice_is_refused(make_spec):
    with pytest.raises(ValueError, match=r"^stacked = \[0, 0\] must be two or more seeds"):
        stack_of([make_spec(), make_spec()])


def test_stacks_have_at_most_so_many_seeds_and_keep_the_order(make_spec):
    runs = arm(make_spec, (4, 0, 3, 1, 2))
    found = in_stacks(runs, 2)
    assert [run.seed for run in found] == [4, 0, 3, 1, 2]
    assert [run.machine.stacked for run in found] == [(), (0, 1), (2, 3), (0, 1), (2, 3)]
    assert found[0] == runs[0]
    assert [run.machine.stacked for run in in_stacks(runs, 8)] == [(0, 1, 2, 3, 4)] * 5
    assert in_stacks(runs, 1) == runs


def test_what_cannot_be_stacked_stays_alone(make_spec):
    teachers = [make_spec(seed=seed) for seed in (7, 8)]
    others = [make_spec(method="kd", seed=i, teacher=teacher) for i, teacher in enumerate(teachers)]
    heads = [make_spec(method="crd", seed=i, policy="weak2", teacher=teachers[0]) for i in (0, 1)]
    assert in_stacks(others + heads, 4) == others + heads


def test_a_study_stacks_its_students_and_not_the_teachers_that_they_name():
    setting = Setting.of("quick", seeds=[0, 1, 2], device="cpu", stack=2)
    arms = {"KD": Arm("KD", Policy(name="weak2")), "T": Arm("T", Policy(name="weak1"), is_teacher=True),
            "CRD": Arm("CRD", Policy(name="weak2"), method="crd")}  # fmt: skip
    study = Study("a study", setting, arms)
    assert [run.machine.stacked for run in study.specs("KD")] == [(0, 1), (0, 1), ()]
    assert {run.machine.stacked for arm in ("T", "CRD") for run in study.specs(arm)} == {()}
    assert all(run.teacher in study.specs("T") for run in study.specs("KD"))
    assert setting.choices["stack"] == 2 and setting.at("smoke").stack == 2
    assert Setting.of("quick", device="cpu").stack == 1


def test_the_environment_says_how_many(monkeypatch):
    monkeypatch.setenv("KDLIB_STACK", "4")
    assert Setting.of("quick", device="cpu").stack == 4
    assert Setting.of("quick", device="cpu", stack=1).stack == 1
    monkeypatch.setenv("KDLIB_STACK", "0")
    with pytest.raises(ValueError, match="^KDLIB_STACK = '0' is not a number of seeds; allowed are whole numbers"):
        Setting.of("quick", device="cpu")
