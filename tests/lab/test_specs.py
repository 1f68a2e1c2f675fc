"""Specs: what the key depends on, what a stored spec keeps, and what bad fields are told."""

import dataclasses
import json
from typing import Any

import pytest

from kdlib.lab.machine import resolve_precision
from kdlib.lab.measurements import ScoresSpec, SpreadSpec, ViewsSpec
from kdlib.lab.recipe import Machine, Policy, Public, Recipe
from kdlib.lab.results import RunResult
from kdlib.lab.specs import RECIPE_VERSION, RunSpec
from kdlib.methods import METHODS
from kdlib.models.checkpoints import PUBLIC

RECIPE = {"views_per_step": 256, "views_per_image": 480, "learning_rate": 0.1, "weight_decay": 1e-4}
MACHINE = {"device": "cpu", "precision": "float32"}
PUBLIC_TEACHER = {"checkpoint": "cifar100_resnet56"}
STUDENT = {
    "data": "cifar100", "student": "resnet20", "teacher": PUBLIC_TEACHER, "method": "ccd",
    "policy": {"name": "jda"}, "recipe": RECIPE, "seed": 0, "machine": MACHINE,
}  # fmt: skip
TEACHER = STUDENT | {"student": "resnet56", "teacher": None, "method": "ce", "policy": {"name": "weak1"}}
VIEWS = {
    "data": "cifar100", "teacher": PUBLIC_TEACHER, "policy": {"name": "jda"}, "images": 100, "seed": 0,
    "machine": MACHINE,
}  # fmt: skip
SPREAD = VIEWS | {"pool": 1000, "passes": 3}


def changed(base: dict, path: str, value: Any) -> dict:
    """`base` with the field at a dotted path set to `value`."""
    name, _, rest = path.partition(".")
    return base | {name: changed(base.get(name) or {}, rest, value) if rest else value}


def with_run_teacher() -> dict:
    return STUDENT | {"teacher": TEACHER}


# --- keys


def test_key_does_not_depend_on_the_order_of_fields():
    backwards = {name: STUDENT[name] for name in reversed(STUDENT)}
    backwards["recipe"] = dict(reversed(RECIPE.items()))
    backwards["options"] = {"weight": "cosine", "kd_weight": 1.0, "temperature": 4.0}
    assert RunSpec(**backwards).key == RunSpec(**STUDENT).key
    assert len(RunSpec(**STUDENT).key) == 16 and int(RunSpec(**STUDENT).key, 16) >= 0


def test_defaults_are_written_out_and_do_not_change_the_key():
    spec = RunSpec(**STUDENT)
    assert spec.options == {"temperature": 4.0, "ce_weight": 1.0, "kd_weight": 1.0, "weight": "cosine"}
    assert spec.policy.options == {"ops": "cifar100", "p": 0.3}
    assert spec.teacher.sha256 == PUBLIC["cifar100_resnet56"].contents
    assert spec.version == RECIPE_VERSION
    text = json.loads(spec.model_dump_json())
    assert set(text) == set(RunSpec.model_fields) and set(text["recipe"]) == set(Recipe.model_fields)
    explicit = STUDENT | {"options": spec.options, "fraction": 1, "pool": None, "validation": False}
    explicit |= {"bank": None, "exact": False}
    for policy in ({"ops": "cifar100"}, {"p": None}, {"p": 0.3, "ops": "cifar100"}):
        assert RunSpec(**(explicit | {"policy": {"name": "jda", "options": policy}})).key == spec.key


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(RunSpec, STUDENT), (RunSpec, TEACHER), (RunSpec, with_run_teacher()), (ViewsSpec, VIEWS),
     (ViewsSpec, VIEWS | {"teacher": TEACHER}), (SpreadSpec, SPREAD),
     (RunSpec, changed(STUDENT, "recipe.milestones", (0.5, 0.75))), (RunSpec, STUDENT | {"bank": 3, "exact": True})],
)  # fmt: skip
def test_round_trip_through_json(kind: type, fields: dict):
    spec = kind(**fields)
    back = kind.model_validate_json(spec.model_dump_json())
    assert back == spec and (back.key, back.experiment) == (spec.key, spec.experiment)
    assert type(back.teacher) is type(spec.teacher)
    assert kind(**json.loads(spec.model_dump_json())) == spec


@pytest.mark.parametrize(("kind", "fields"), [(RunSpec, with_run_teacher()), (ViewsSpec, VIEWS), (SpreadSpec, SPREAD)])
def test_a_result_keeps_its_spec(kind: type, fields: dict):
    spec = kind(**fields)
    result = RunResult(
        spec=spec, key=spec.key, profile="quick", fingerprint="0", metrics={"top1": 1.0}, bits="0", provenance={}
    )
    back = RunResult.model_validate_json(result.model_dump_json())
    assert back == result and type(back.spec) is kind and back.spec.key == spec.key


def test_the_revision_of_a_method_is_part_of_the_version(monkeypatch: pytest.MonkeyPatch):
    old = RunSpec(**STUDENT)
    monkeypatch.setitem(METHODS, "ccd", dataclasses.replace(METHODS["ccd"], revision=METHODS["ccd"].revision + 1))
    new, stored = RunSpec(**STUDENT), RunSpec.model_validate_json(old.model_dump_json())
    assert new.version == old.version + 1 and new.key != old.key
    assert stored == old  # what was stored keeps its own version
    assert RunSpec(**TEACHER).version == RECIPE_VERSION + METHODS["ce"].revision


RUN_CHANGES = [
    ("version", RECIPE_VERSION + 1), ("data", "cifar10"),
    ("part", "second half"), ("pool", 1000), ("fraction", 0.5), ("validation", True),
    ("student", "resnet32"), ("teacher.checkpoint", "cifar100_resnet44"), ("teacher.sha256", "0" * 64),
    ("teacher", TEACHER), ("method", "kd"), ("options.temperature", 3.0), ("options.ce_weight", 0.1),
    ("options.kd_weight", 0.9), ("options.weight", "one"), ("policy.name", "weak2"), ("policy.options.p", 0.4),
    ("policy.options.ops", "cifar10"), ("recipe.views_per_step", 128), ("recipe.views_per_image", 240),
    ("recipe.learning_rate", 0.05), ("recipe.weight_decay", 5e-4), ("recipe.momentum", 0.8),
    ("recipe.nesterov", False), ("recipe.schedule", "steps"), ("recipe.milestones", (0.5,)),
    ("recipe.evaluations", 5), ("recipe.clip_norm", 20.0), ("recipe.micro_batches", 2),
    ("seed", 1), ("machine.device", "cuda"), ("machine.precision", "bfloat16"),
    ("machine.threads", 2), ("machine.stacked", (0, 1)), ("bank", 4), ("exact", True),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), RUN_CHANGES)
def test_every_field_changes_the_key(path: str, value: Any):
    old, new = RunSpec(**STUDENT), RunSpec(**changed(STUDENT, path, value))
    assert new.key != old.key
    assert (new.experiment == old.experiment) == (path.startswith("machine") and path != "machine.stacked")


def test_a_run_alone_has_the_key_that_it_had_before_there_were_stacks():
    spec = RunSpec(**STUDENT)
    assert (
        "stacked" not in spec.model_dump_json() and spec.key == RunSpec(**changed(STUDENT, "machine.stacked", ())).key
    )
    assert spec.key == "02c24e5ecbd6a830"
    stacked = RunSpec(**changed(STUDENT, "machine.stacked", [0, 3]))
    assert RunSpec.model_validate_json(stacked.model_dump_json()) == stacked
    assert stacked.experiment != RunSpec(**changed(STUDENT, "machine.stacked", [0, 1])).experiment


def test_no_field_is_forgotten():
    reached = {path.split(".")[0] for path, _ in RUN_CHANGES}
    assert reached | {"kind"} == set(RunSpec.model_fields)
    for name, kind in (("recipe", Recipe), ("machine", Machine), ("policy", Policy), ("teacher", Public)):
        assert {path.split(".")[1] for path, _ in RUN_CHANGES if path.startswith(f"{name}.")} == set(kind.model_fields)


@pytest.mark.parametrize(
    ("path", "value"),
    [("data", "cifar10"), ("teacher.checkpoint", "cifar100_resnet20"), ("policy.options.p", 0.5), ("images", 99),
     ("seed", 1), ("machine.threads", 2), ("version", 9)],
)  # fmt: skip
def test_every_field_of_a_views_spec_changes_the_key(path: str, value: Any):
    old, new = ViewsSpec(**VIEWS), ViewsSpec(**changed(VIEWS, path, value))
    assert new.key != old.key and (new.experiment == old.experiment) == path.startswith("machine")


@pytest.mark.parametrize(
    ("path", "value"),
    [("data", "cifar10"), ("teacher.checkpoint", "cifar100_resnet20"), ("policy.name", "weak2"), ("pool", None),
     ("images", 99), ("passes", 4), ("seed", 1), ("machine.threads", 2), ("version", 9)],
)  # fmt: skip
def test_every_field_of_a_spread_spec_changes_the_key(path: str, value: Any):
    old, new = SpreadSpec(**SPREAD), SpreadSpec(**changed(SPREAD, path, value))
    assert new.key != old.key and (new.experiment == old.experiment) == path.startswith("machine")


@pytest.mark.parametrize("field", ["pool", "images", "passes"])
def test_bad_spread_specs_are_named_in_one_sentence(field: str):
    for value in (0, 1.5):
        with pytest.raises(ValueError, match=f"^{field} = {value} is not allowed") as caught:
            SpreadSpec(**SPREAD | {field: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("path", "value"), [("seed", 1), ("recipe.momentum", 0.5), ("machine.threads", 2)])
def test_the_teachers_run_is_part_of_the_key(path: str, value: Any):
    old = RunSpec(**with_run_teacher())
    new = RunSpec(**changed(with_run_teacher(), f"teacher.{path}", value))
    assert new.key != old.key and new.teacher.key != old.teacher.key
    assert (new.experiment == old.experiment) == path.startswith("machine")


def test_machine_of_this_machine():
    machine = Machine.of("cpu", threads=2)
    assert machine == Machine(device="cpu", precision=resolve_precision("cpu"), threads=2)


@pytest.mark.parametrize(("policy", "images"), [("weak2", 128), ("jda", 128), ("rot2", 128)])
def test_images_per_step(policy: str, images: int):
    assert RunSpec(**changed(STUDENT, "policy", {"name": policy})).images_per_step == images
    assert RunSpec(**TEACHER).images_per_step == 256
    assert RunSpec(**changed(TEACHER, "policy", {"name": "rot4"})).images_per_step == 64


def test_specs_are_frozen():
    spec = RunSpec(**STUDENT)
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 1


# --- errors: field, value of the field, words of the sentence

BAD = [
    ("data", 3, "data = 3 .*string"),
    ("pool", 0, "pool = 0 .*greater than or equal to 1"),
    ("pool", 1.5, "pool = 1.5 .*integer"),
    ("fraction", 0, "fraction = 0 .*greater than 0"),
    ("fraction", 1.01, "fraction = 1.01 .*less than or equal to 1"),
    ("fraction", float("nan"), "fraction = nan .*finite"),
    ("validation", "perhaps", "validation = 'perhaps' .*bool"),
    ("student", "resnet21", "student: .*'resnet21' is unknown.*resnet20"),
    ("student", "wrn_17_2", "student: wrn_17_2 .*6n.4"),
    ("student", None, "student = None .*string"),
    ("teacher", None, "teacher of method 'ccd' must be given"),
    ("teacher", "cifar100_resnet56", "teacher.* = 'cifar100_resnet56' .*"),
    ("teacher", {"checkpoint": "resnet56"}, "checkpoint = 'resnet56' is unknown.*cifar100_resnet56"),
    ("teacher", TEACHER | {"seed": -1}, "seed = -1 .*greater than or equal to 0"),
    ("teacher.extra", 1, "extra is not a field of Public; allowed are checkpoint"),
    ("method", "fitnet", "method = 'fitnet' is unknown; allowed are ce, kd, ccd"),
    ("method", "ce", "teacher of method 'ce' must be absent"),
    ("method", None, "method = None .*string"),
    ("options", None, "options = None .*"),
    ("options", 3, "options = 3 .*"),
    ("options.temperature", 0, "temperature = 0 .*greater than 0"),
    ("options.tau", 1, "tau is not a field of CCDOptions; allowed are temperature"),
    ("options.weight", "x", "weight = 'x' .*'cosine'"),
    ("policy", "jda", "policy = 'jda' .*"),
    ("policy", {}, "name is missing: Policy needs it"),
    ("policy", {"name": "weak1"}, "method 'ccd' needs a policy with 2 views"),
    ("policy.name", "mixup", "policy = 'mixup' is unknown; allowed are weak1"),
    ("policy.options", None, "options = None .*"),
    ("policy.options.p", 2, "p = 2 .*0 to 1"),
    ("policy.options.p", True, "p = True .*0 to 1"),
    ("policy.options.ops", "stl10", "ops = 'stl10' is unknown.*imagenet"),
    ("policy.options.ops", ["invert"], r"ops = \['invert'\] .*imagenet"),
    ("policy.options.q", 0.1, "no option 'q'; allowed are ops, p"),
    ("policy.views", 2, "views is not a field of Policy; allowed are name, options"),
    ("recipe.views_per_step", 255, "views_per_step = 255 must be a multiple of the 2 views"),
    ("recipe.views_per_step", 0, "views_per_step = 0 .*greater than or equal to 1"),
    ("recipe.views_per_image", 0, "views_per_image = 0 .*greater than or equal to 1"),
    ("recipe.learning_rate", 0, "learning_rate = 0 .*greater than 0"),
    ("recipe.learning_rate", float("inf"), "learning_rate = inf .*finite"),
    ("recipe.weight_decay", -1e-4, "weight_decay = -0.0001 .*greater than or equal to 0"),
    ("recipe.momentum", 1, "momentum = 1 .*less than 1"),
    ("recipe.momentum", 0, "nesterov.*momentum|momentum.*nesterov"),
    ("recipe.schedule", "cosine", "schedule = 'cosine' .*'steps' or 'one-cycle'"),
    ("recipe.milestones", (0.5, 1.0), "milestones.1 = 1.0 .*less than 1"),
    ("recipe.evaluations", 11, "evaluations = 11 .*less than or equal to 10"),
    ("recipe.epochs", 240, "epochs is not a field of Recipe; allowed are views_per_step"),
    ("bank", 0, "bank = 0 .*greater than or equal to 1"),
    ("bank", 1.5, "bank = 1.5 .*integer"),
    ("bank", True, "bank = True .*integer"),
    ("exact", "perhaps", "exact = 'perhaps' .*bool"),
    ("exact", None, "exact = None .*bool"),
    ("seed", -1, "seed = -1 .*greater than or equal to 0"),
    ("seed", 0.5, "seed = 0.5 .*integer"),
    ("seed", "3", "seed = '3' .*integer"),
    ("seed", True, "seed = True .*integer"),
    ("machine.device", "auto", "device = 'auto' .*'cpu' or 'cuda'"),
    ("machine.precision", "float64", "precision = 'float64' .*'float32', 'bfloat16' or 'float16'"),
    ("machine.stacked", (0,), r"stacked = \[0\] must be two or more seeds"),
    ("machine.stacked", (1, 0), r"stacked = \[1, 0\] must be .* that rise"),
    ("machine.stacked", (-1, 0), "stacked.0 = -1 .*greater than or equal to 0"),
    ("machine.stacked", (1, 2), r"machine.stacked = \[1, 2\] must hold the run's own seed, 0$"),
    ("machine.threads", 0, "threads = 0 .*greater than or equal to 1"),
    ("kind", "views", "kind = 'views' .*'run'"),
    ("epochs", 240, "epochs is not a field of RunSpec; allowed are version"),
]


@pytest.mark.parametrize(("path", "value", "words"), BAD, ids=[f"{path}={value!r:.30}" for path, value, _ in BAD])
def test_bad_fields_are_named_in_one_sentence(tried, path: str, value: Any, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        RunSpec(**changed(STUDENT, path, value))
    assert "\n" not in str(caught.value) and "pydantic" not in str(caught.value)
    tried("inputs", "fields of a run", refused=1)


BANKED = STUDENT | {"bank": 4}
ABLE = "allowed are kd, ccd, four_term, dkd, crld, tekap, ls, dist, energy_kd, energy_dkd$"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "spkd"}, f"bank = 4 .*method 'spkd' reads more of its teacher; {ABLE}"),
        ({"method": "crd"}, f"bank = 4 .*method 'crd' reads more of its teacher; {ABLE}"),
        ({"method": "sskd"}, f"bank = 4 .*method 'sskd' reads more of its teacher; {ABLE}"),
        ({"method": "hsakd"}, f"bank = 4 .*method 'hsakd' reads more of its teacher; {ABLE}"),
        ({"method": "ce", "teacher": None}, f"bank = 4 .*method 'ce' has no teacher; {ABLE}"),
        ({"policy": {"name": "share"}}, "bank = 4 .*views of one image each; .*'share' depend on other images"),
        ({"policy": {"name": "cutmix"}}, "bank = 4 .*views of one image each; .*'cutmix' depend on other images"),
        ({"policy": {"name": "he_da", "options": {"view": "jda"}}}, "bank = 4 .*; those of policy 'he_da' depend on"),
        ({"policy": {"name": "attention_crop"}}, "bank = 4 .*'attention_crop' depend on the teacher or the run too"),
    ],
    ids=str,
)
def test_what_goes_with_no_bank_is_named_in_one_sentence(tried, fields: dict, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        RunSpec(**(BANKED | fields))
    assert "\n" not in str(caught.value) and "pydantic" not in str(caught.value)
    tried("inputs", "fields of a run", refused=1)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_an_exact_run_is_in_float32(precision: str):
    coarse = changed(STUDENT, "machine.precision", precision)
    with pytest.raises(ValueError, match=f"machine.precision = '{precision}' of an exact run must be 'float32'$"):
        RunSpec(**coarse, exact=True)
    assert RunSpec(**STUDENT, exact=True).exact and not RunSpec(**coarse).exact


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"method": "crd"},
            "method 'crd' has more than a student and logits; allowed are ce, kd, ccd, .*dist, resolution_ce$",
        ),
        ({"method": "spkd"}, "method 'spkd' has more than"),
        ({"method": "energy_kd"}, "method 'energy_kd' has more than"),
        ({"method": "hsakd_teacher", "student": "resnet56", "policy": {"name": "weak1"}}, "method 'hsakd_teacher'"),
        ({"bank": 4}, "bank = 4 gives the run its views; allowed is null$"),
        ({"recipe": RECIPE | {"micro_batches": 2}}, "micro_batches = 2 cut a step; allowed is 1$"),
        ({"machine": MACHINE | {"precision": "float16"}}, "precision = 'float16' skips steps"),
    ],
    ids=str,
)
def test_what_cannot_be_stacked_is_named_in_one_sentence(tried, fields: dict, words: str):
    alone = STUDENT | fields
    RunSpec(**alone)
    with pytest.raises(ValueError, match=rf"^machine.stacked = \[0, 1\] is not possible: .*{words}") as caught:
        RunSpec(**alone | {"machine": alone["machine"] | {"stacked": (0, 1)}})
    assert "\n" not in str(caught.value)
    tried("inputs", "fields of a run", refused=1)


@pytest.mark.parametrize("field", ["data", "student", "method", "policy", "recipe", "seed", "machine"])
def test_missing_fields_are_named(tried, field: str):
    with pytest.raises(ValueError, match=f"^{field} is missing: RunSpec needs it$"):
        RunSpec(**{name: value for name, value in STUDENT.items() if name != field})
    tried("inputs", "fields of a run", refused=1)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("policy", {"name": "rot4"}, "policy 'rot4' makes 4 views; this measurement needs 2"),
        ("policy", {"name": "cutmix"}, "policy 'cutmix' mixes two images; this measurement needs views of one"),
        ("policy", {"name": "he_da", "options": {"view": "jda"}}, "policy 'he_da' chooses among the images of a run"),
        ("policy", {"name": "attention_drop"}, "policy 'attention_drop' makes views of what a run says of its images"),
        ("images", 0, "images = 0 .*greater than or equal to 1"),
        ("teacher", None, "teacher.* = None .*"),
        ("student", "resnet8", "student is not a field of ViewsSpec"),
    ],
)
def test_bad_views_specs_are_named_in_one_sentence(path: str, value: Any, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        ViewsSpec(**changed(VIEWS, path, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("teacher", None, "teacher.* = None .*"),
        ("machine", "cpu", "machine = 'cpu' .*"),
        ("policy", {"name": "jda"}, "policy is not a field of ScoresSpec; allowed are version, data, teacher, machine"),
    ],
)
def test_bad_scores_specs_are_named_in_one_sentence(path: str, value: Any, words: str):
    fields = {"data": "cifar100", "teacher": PUBLIC_TEACHER, "machine": MACHINE}
    assert ScoresSpec(**fields).experiment == ScoresSpec(**changed(fields, "machine.precision", "bfloat16")).experiment
    with pytest.raises(ValueError, match=words) as caught:
        ScoresSpec(**changed(fields, path, value))
    assert "\n" not in str(caught.value)


def test_a_public_teacher_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="checkpoint = 'vgg13' is unknown; allowed are cifar100_resnet20"):
        Public(checkpoint="vgg13")
    with pytest.raises(ValueError, match=r"checkpoint = \['a'\] "):
        Public(checkpoint=["a"])


def test_methods_that_pair_stages_refuse_networks_of_other_stages():
    teacher = TEACHER | {"student": "vgg13", "method": "hsakd_joint_teacher"}
    fields = STUDENT | {"teacher": teacher, "policy": {"name": "weak1"}, "options": {}}
    assert RunSpec(**(fields | {"method": "hsakd", "student": "vgg8"})).teacher.student == "vgg13"
    with pytest.raises(
        ValueError, match=r"student = 'resnet20' has 3 stages and its teacher 'vgg13' \d: method 'hsakd'"
    ):
        RunSpec(**(fields | {"method": "hsakd"}))
    RunSpec(**(fields | {"method": "kd"}))
