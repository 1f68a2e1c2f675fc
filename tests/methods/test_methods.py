"""Methods as modules: what they hand over, train and leave alone, for every method and policy; and refusals."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.methods import (
    METHODS,
    Term,
    check_method,
    create_method,
    find_method,
    method_options,
    new_head,
    policies_of,
    total,
)
from kdlib.methods.ccd import CCD_WEIGHTS, CLUSTERED, ccd_loss, ccd_weights
from kdlib.methods.crld import CRLD_GATES
from kdlib.methods.energy import ENERGY_RULES
from kdlib.methods.kd import kl_divergence
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.views.policies import POLICIES, create_policy

IMAGES, CLASSES = 6, 5
HEADS_ONLY = [name for name, d in METHODS.items() if not d.trains_student]
TAUGHT = [name for name, d in METHODS.items() if d.needs_teacher and d.trains_student]
TURNING = [name for name, d in METHODS.items() if d.spread != "none"]


def views_of(name: str) -> int:
    """How many views go under a method, the fewest it takes."""
    definition = METHODS[name]
    return 4 if definition.spread != "none" else (definition.views or (2,))[0]


ACCEPTED = [(name, policy) for name in METHODS for policy in policies_of(name)]


def test_every_method_goes_with_some_policy_and_every_policy_with_some_method():
    assert {name for name, _ in ACCEPTED} == set(METHODS)
    assert {policy for _, policy in ACCEPTED} == set(POLICIES)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(before: dict[str, Tensor], module: nn.Module) -> bool:
    return all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_total_is_the_weighted_sum():
    terms = {"a": Term(torch.tensor(2.0), 0.5), "b": Term(torch.tensor(3.0), 10.0), "c": Term(torch.tensor(7.0), 0)}
    assert total(terms).item() == 31


# --- what forward does


@pytest.mark.parametrize(("name", "views"), [("kd", 1), ("kd", 2), ("kd", 4), ("ccd", 2)])
def test_forward_hands_the_views_over_in_order(make_network, make_step, name: str, views: int):
    student, teacher = make_network(0).eval(), make_network(1)
    method = create_method(name, student, teacher)
    step = make_step(views)
    method.eval()  # no batch statistics: each view can be run alone
    terms, _ = method(step)
    alone = [[net(step.views[:, v]).logits for v in range(views)] for net in (student, teacher.eval())]
    ce = torch.stack([F.cross_entropy(logits, step.labels) for logits in alone[0]]).mean()
    kl = [kl_divergence(s, t, 4).mean() for s, t in zip(*alone, strict=True)]
    torch.testing.assert_close(terms["ce"].value, ce)
    if name == "kd":
        torch.testing.assert_close(terms["kl"].value, torch.stack(kl).mean())
    else:
        w = ccd_weights(*alone[1])
        torch.testing.assert_close(terms["ccd"].value, ccd_loss(*map(tuple, alone), w, 4))


@pytest.mark.parametrize("name", [name for name, d in METHODS.items() if d.trains_student])
def test_the_student_sees_all_views_in_one_pass(make_method, make_step, name: str):
    """BatchNorm statistics are those of all B * V views together."""
    method = make_method(name).train()
    method(make_step(views_of(name)))
    norms = [m for m in method.student.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.num_batches_tracked == 1 for m in norms)


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_images_does_not_matter(make_method, make_step, name: str):
    """In float32. Where rows are selected by rank (SSKD), a tie could; CRD draws negatives by place."""
    method, order = make_method(name).eval(), torch.tensor([4, 0, 5, 2, 1, 3])
    step = make_step(views_of(name))
    other = step._replace(**{n: getattr(step, n)[order] for n in ("views", "labels", "keys", "index")})
    if name == "crd":  # all images of other classes are drawn, so every draw is the same
        method.memory.labels, method.memory.negatives = torch.arange(IMAGES), IMAGES - 1
        method.memory.fewest = IMAGES - 1
        method.memory.scales.fill_(2.0)
    if name == "sskd":
        method.options = method_options("sskd", {"similarity_ratio": 1.0})
    (one, _), (two, _) = method(step), method(other)
    torch.testing.assert_close({n: t.value for n, t in one.items()}, {n: t.value for n, t in two.items()})


@pytest.mark.parametrize(
    "name", ["ce", "kd", "ccd", "four_term", "dkd", "crld", "ls", "dist", "energy_kd", "energy_dkd"]
)
def test_the_names_of_classes_do_not_matter(make_batch, loss_of, name: str):
    order = torch.tensor([3, 0, 4, 1, 2])
    batch = make_batch(2, teacher=name != "ce")
    permuted = make_batch(2, teacher=name != "ce", labels=order.argsort()[batch.labels])
    for output in (permuted.student, permuted.teacher):
        if output is not None:
            output.logits.data = output.logits.data[:, order]
    one, two = loss_of(name, batch)[0], loss_of(name, permuted)[0]
    torch.testing.assert_close({n: t.value for n, t in one.items()}, {n: t.value for n, t in two.items()})


def test_only_shuffled_depends_on_the_keys(make_network, make_step):
    step = make_step(2, limits=(0.0, 0.1, 0.0, 0.0, 0.0) * 2)
    for weight in CCD_WEIGHTS:
        method = create_method("ccd", make_network(0), make_network(1), weight=weight).eval()
        values = [total(method(step._replace(keys=k))[0]) for k in (step.keys, 1 - step.keys)]
        assert torch.equal(*values) == (weight != "shuffled")


def on_meta(name: str, head_of: str | None = None) -> Network:
    with torch.device("meta"):
        backbone = create_model(name, CLASSES)
        head = new_head(head_of, backbone, {}) if head_of else None
        return Network(backbone, (0.5,) * 3, (0.25,) * 3, head=head)


STEPS = [(name, {"negatives": 3} if name == "crd" else {}, policy) for name, policy in ACCEPTED]
STEPS += [("ccd", {"weight": weight}, "jda") for weight in CCD_WEIGHTS[1:]]
STEPS += [("crld", {"gate": gate}, "jda") for gate in CRLD_GATES[1:]]
STEPS += [(name, {"rule": rule}, "jda") for name in ("energy_kd", "energy_dkd") for rule in ENERGY_RULES[1:]]
STEPS += [("ls", {"scale": "batch"}, "weak1"), ("ls", {"scale": "none"}, "weak1"), ("tekap", {"copies": 0}, "weak1")]
STEPS += [("resolution", {"attention_weight": 1.0, "teacher_input": low}, "jda") for low in ("high", "low")]
STEPS += [("resolution", {"discriminator_weight": 0.1}, "jda"), ("four_term", {}, "he_da")]


@pytest.mark.parametrize(("name", "options", "policy"), STEPS)
def test_a_step_makes_no_tensor_on_the_wrong_device(make_step, name: str, options: dict, policy: str):
    """The device is `meta`, where mixing with the CPU raises; uniforms are drawn on the CPU, as in training."""
    definition = METHODS[name]
    views = check_method(name, definition.needs_teacher, create_policy(policy))
    draws = {role: torch.rand(IMAGES, n) for role, n in views.roles.items()}
    raw = torch.empty(IMAGES, 3, 32, 32, dtype=torch.uint8, device="meta")
    shares = views.shares(draws, 32, 32)
    limits = (1.0,) * 2 * CLASSES if options.get("weight") in CLUSTERED else (-8.0, -6.0)
    step = make_step(1, limits=limits)._replace(
        views=views(raw, draws, raw if views.mixes else None),
        labels=torch.zeros(IMAGES, dtype=torch.int64, device="meta"),
        keys=torch.rand(IMAGES, device="meta"),
        shares=None if shares is None else shares.to("meta"),
        partners=torch.zeros(IMAGES, dtype=torch.int64, device="meta") if views.mixes else None,
    )
    teacher = on_meta("resnet14", next(iter(definition.taught_by), None)) if name in TAUGHT else None
    with torch.device("meta"):
        labels = torch.arange(IMAGES, device="cpu") % CLASSES
        method = create_method(name, on_meta("resnet8"), teacher, labels, **options).train()
    terms, records = method(step)
    total(terms).backward()
    assert all(value.device.type == "meta" for value in [t.value for t in terms.values()] + list(records.values()))
    assert all(p.grad.device.type == "meta" for p in method.parameters() if p.requires_grad)


# --- what is trained, and what is left alone


@pytest.mark.parametrize("name", TAUGHT)
def test_the_teacher_stays_frozen_and_in_eval_mode(make_method, make_step, name: str):
    method = make_method(name)
    teacher, before = method.teacher, state_of(method.teacher)
    for seed in range(2):
        assert method.train() is method
        assert method.student.training
        assert not any(module.training for module in teacher.modules())
        total(method(make_step(views_of(name), seed=seed))[0]).backward()
        method.after_step()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert same(before, teacher)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.student.parameters())
    trained = {id(p) for p in method.parameters() if p.requires_grad}
    added = dict(method.memory.named_parameters()) if method.memory is not None else {}
    own = [*method.student.parameters(), *(p for n, p in added.items() if not n.startswith("fixed."))]
    assert trained == {id(p) for p in own}
    method.eval()
    assert not method.student.training
    assert not teacher.training


@pytest.mark.parametrize("name", HEADS_ONLY)
def test_a_method_that_trains_a_head_leaves_the_backbone_as_it_is(make_method, make_step, name: str):
    method = make_method(name)
    assert method.teacher is None
    before, head = state_of(method.student.backbone), state_of(method.student.head)
    weights = [p for p in method.parameters() if p.requires_grad]
    assert {id(p) for p in weights} == {id(p) for p in method.student.head.parameters()}
    optimiser = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.1)
    for seed in range(3):
        method.train()
        assert method.student.head.training
        assert not any(module.training for module in method.student.backbone.modules())
        optimiser.zero_grad()
        total(method(make_step(4, seed=seed))[0]).backward()
        optimiser.step()
        method.after_step()
    assert same(before, method.student.backbone)
    assert all(not torch.equal(head[n], p) for n, p in method.student.head.named_parameters() if p.grad.any())
    assert any(p.grad.any() for p in weights)


@pytest.mark.parametrize(
    ("name", "part", "flows"),
    [("hsakd", "branches", True), ("hsakd_joint_teacher", "joint", True), ("hsakd_teacher", "joint", False),
     ("sskd", "similarity", True), ("sskd_teacher", "contrast", False)],
)  # fmt: skip
def test_gradients_of_a_head_reach_the_backbone_of_a_student_only(make_method, make_step, name, part, flows):
    method = make_method(name).train()
    method(make_step(4))[0][part].value.backward()
    stages = method.student.backbone.stages
    reached = [any(p.grad is not None and p.grad.any() for p in stage.parameters()) for stage in stages]
    assert reached == [flows] * len(stages)
    assert all(p.grad is not None for p in method.student.head.parameters())


def test_every_branch_of_hsakd_reaches_the_stages_before_it(make_method, make_step):
    for branch in range(3):
        method = make_method("hsakd_joint_teacher").train()
        output = method.student(make_step(4).views.flatten(0, 1))
        output.extra[:, branch].square().sum().backward()
        stages = method.student.backbone.stages
        reached = [any(p.grad is not None and p.grad.any() for p in stage.parameters()) for stage in stages]
        assert reached == [stage <= branch for stage in range(3)]


@pytest.mark.parametrize("name", METHODS)
def test_own_state_holds_everything_but_the_teacher(make_method, make_step, name: str):
    method = make_method(name).train()
    total(method(make_step(views_of(name)))[0]).backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.requires_grad:
                p -= 0.01 * p.grad
    method.after_step()
    own = copy.deepcopy(method.own_state())
    teacher = {id(t) for t in method.teacher.state_dict().values()} if method.teacher is not None else set()
    assert len(own) == len(method.state_dict()) - len(teacher)
    again = make_method(name, seed=0 if name in HEADS_ONLY else 1)  # a head's own backbone is part of the state
    foreign = state_of(again.teacher) if again.teacher is not None else {}
    again.load_own_state(own)
    assert all(torch.equal(own[n], again.state_dict()[n]) for n in own)
    assert all(torch.equal(foreign[n], v) for n, v in (again.teacher.state_dict().items() if foreign else ()))
    with pytest.raises(RuntimeError, match="Missing key|size mismatch"):
        again.load_own_state({n: v for n, v in list(own.items())[1:]})


def test_a_head_is_drawn_from_the_global_generator(make_network):
    heads = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        heads.append(create_method("hsakd_joint_teacher", make_network(0)).student.head.state_dict())
    names = [n for n in heads[0] if n.endswith("weight") and heads[0][n].dim() > 1]
    assert all(torch.equal(heads[0][n], heads[1][n]) and not torch.equal(heads[0][n], heads[2][n]) for n in names)


# --- refusals


def test_defaults():
    kd = {"temperature": 4.0, "ce_weight": 1.0, "kd_weight": 1.0}
    assert method_options("kd", {}).model_dump() == kd
    assert method_options("ccd", {}).model_dump() == kd | {"weight": "cosine"}
    assert method_options("ce", {}).model_dump() == {}
    assert method_options("four_term", {}).model_dump() == {"temperature": 4.0, "weights": (1.0, 1.0, 1.0, 1.0)}
    assert method_options("dkd", {}).beta == 8
    assert method_options("dkd", {}).warm_up == pytest.approx(20 / 240)
    crld = {"kd_weight": 2.0, "cross_weight": 0.5, "tau_weak": 0.9, "tau_strong": 0.2, "gate": "confidence"}
    assert method_options("crld", {}).model_dump() == kd | crld
    tekap = {"ce_weight": 0.1, "kd_weight": 0.9, "copies": 3, "copies_weight": 0.8, "keep": 0.9, "noise": 0.1}
    assert method_options("tekap", {}).model_dump() == kd | tekap
    ls = {"temperature": 2.0, "ce_weight": 0.1, "kd_weight": 9.0, "scale": "sample"}
    assert method_options("ls", {}).model_dump() == ls
    assert method_options("dist", {}).model_dump() == kd | {"kd_weight": 0.0, "inter_weight": 2.0, "intra_weight": 2.0}
    energy_kd = {"ce_weight": 0.1, "kd_weight": 0.9, "low_temperature": 2.0, "high_temperature": 6.0, "share": 0.2}
    energy_kd |= {"energy_temperature": 4.0, "rule": "rising"}
    assert method_options("energy_kd", {}).model_dump() == kd | energy_kd
    energies = {name: energy_kd[name] for name in ("low_temperature", "high_temperature", "energy_temperature", "rule")}
    energy_dkd = method_options("dkd", {}).model_dump() | energies | {"share": 0.1}
    assert method_options("energy_dkd", {}).model_dump() == energy_dkd
    seen = {"scale": 2, "student_input": "small"}
    weights = {"gram_weight": 1.0, "mmd_weight": 1.0, "attention_weight": 0.0}
    assert method_options("resolution_ce", {}).model_dump() == seen
    assert method_options("resolution", {}).model_dump() == kd | seen | {"teacher_input": "high"} | weights
    assert method_options("resolution", {"discriminator_weight": 0.1}).model_dump()["discriminator_weight"] == 0.1
    assert method_options("spkd", {}).model_dump() == kd | {"kd_weight": 0.0, "weight": 3000.0}
    assert method_options("crd", {}).model_dump() == kd | {"kd_weight": 0.0, "weight": 0.8, "negatives": 16384}
    assert method_options("hsakd", {}).temperature == 3
    soteacher = {"lipschitz_weight": 1e-5, "consistency_weight": 1.0, "counter": "released"}
    assert method_options("soteacher", {}).model_dump() == soteacher
    sskd = method_options("sskd", {})
    assert (sskd.temperature, sskd.similarity_temperature) == (4, 0.5)
    assert (sskd.turned_ratio, sskd.similarity_ratio) == (1, 0.75)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("kl", {}, "method = 'kl' is unknown; allowed are ce, kd, ccd"),
        ("ce", {"temperature": 4}, "temperature is not a field"),
        ("kd", {"weight": "one"}, "weight is not a field.*temperature, ce_weight, kd_weight"),
        ("kd", {"temperature": 0}, "temperature = 0 .*greater than 0"),
        ("kd", {"temperature": -1.0}, "temperature = -1.0 .*greater than 0"),
        ("kd", {"temperature": float("inf")}, "temperature = inf .*finite"),
        ("kd", {"temperature": "warm"}, "temperature = 'warm' .*number"),
        ("kd", {"temperature": True}, "temperature = True .*number"),
        ("kd", {"ce_weight": -0.1}, "ce_weight = -0.1 .*greater than or equal to 0"),
        ("ccd", {"kd_weight": float("nan")}, "kd_weight = nan .*finite"),
        ("ccd", {"weight": "entropy"}, "weight = 'entropy' .*'cosine', 'one'"),
        ("four_term", {"weights": (1.0, 1.0, -1.0, 0.0)}, "weights.2 = -1.0 .*greater than or equal to 0"),
        ("four_term", {"weights": (1.0, 1.0, 1.0)}, "weights"),
        ("dkd", {"warm_up": 1.5}, "warm_up = 1.5 .*less than or equal to 1"),
        ("dkd", {"beta": -1.0}, "beta = -1.0 .*greater than or equal to 0"),
        ("crld", {"gate": "entropy"}, "gate = 'entropy' .*'confidence', 'none'"),
        ("crld", {"tau_strong": -0.5}, "tau_strong = -0.5 .*greater than or equal to 0"),
        ("tekap", {"copies": 2.5}, "copies = 2.5 .*integer"),
        ("tekap", {"noise": -0.1}, "noise = -0.1 .*greater than or equal to 0"),
        ("ls", {"scale": "class"}, "scale = 'class' .*'sample', 'batch'"),
        ("dist", {"intra_weight": -1.0}, "intra_weight = -1.0 .*greater than or equal to 0"),
        ("energy_kd", {"share": 0.6}, "share = 0.6 .*less than or equal to 0.5"),
        ("energy_kd", {"rule": "code"}, "rule = 'code' .*'rising', 'falling'"),
        ("energy_dkd", {"share": 0.6}, "share = 0.6 .*less than or equal to 0.5"),
        ("energy_dkd", {"beta": -1.0}, "beta = -1.0 .*greater than or equal to 0"),
        ("energy_kd", {"low_temperature": 0.0}, "low_temperature = 0.0 .*greater than 0"),
        ("resolution", {"scale": 3}, "scale = 3 .*1, 2 or 4"),
        ("resolution", {"teacher_input": "blurred"}, "teacher_input = 'blurred' .*'high' or 'low'"),
        ("resolution", {"discriminator_weight": -0.1}, "discriminator_weight = -0.1 .*greater than or equal to 0"),
        ("resolution", {"mmd_weight": -1.0}, "mmd_weight = -1.0 .*greater than or equal to 0"),
        ("spkd", {"weight": -1.0}, "weight = -1.0 .*greater than or equal to 0"),
        ("crd", {"negatives": 0}, "negatives = 0 .*greater than or equal to 1"),
        ("crd", {"negatives": 2.5}, "negatives = 2.5 .*integer"),
        ("sskd", {"similarity_ratio": 1.1}, "similarity_ratio = 1.1 .*less than or equal to 1"),
        ("sskd", {"similarity_temperature": 0.0}, "similarity_temperature = 0.0 .*greater than 0"),
        ("hsakd", {"branch_weight": -1.0}, "branch_weight = -1.0 .*greater than or equal to 0"),
        ("hsakd_teacher", {"temperature": 3.0}, "temperature is not a field"),
    ],
)
def test_bad_options_are_named_in_one_sentence(name: str, options: dict, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        method_options(name, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [3, "warm", None])
def test_options_that_are_no_mapping_are_named(options):
    with pytest.raises(ValueError, match=r"^options = .* of method 'kd' must be a mapping"):
        method_options("kd", options)


@pytest.mark.parametrize(
    ("name", "has_teacher", "policy", "words"),
    [
        ("kd", False, "weak1", "teacher of method 'kd' must be given"),
        ("ccd", False, "jda", "teacher of method 'ccd' must be given"),
        ("ce", True, "weak1", "teacher of method 'ce' must be absent"),
        ("hsakd_joint_teacher", True, "weak1", "teacher of method 'hsakd_joint_teacher' must be absent"),
        ("hsakd_teacher", False, "weak1", "teacher of method 'hsakd_teacher' must be given"),
        ("ccd", True, "weak1", "method 'ccd' needs a policy with 2 views per image; policy 'weak1' makes 1"),
        ("crld", True, "weak1", "method 'crld' needs a policy with 2 views per image; policy 'weak1' makes 1"),
        ("crld", True, "cutmix", "method 'crld' needs views of one image each; policy 'cutmix' mixes two"),
        ("four_term", True, "rot4", "method 'four_term' needs a policy with 2 views per image; policy 'rot4' makes 4"),
        ("crd", True, "cutmix", "method 'crd' needs views of one image each; policy 'cutmix' mixes two.*ce, kd, ccd"),
        ("energy_dkd", True, "cutmix", "method 'energy_dkd' needs views of one image each; policy 'cutmix' mixes two"),
        ("dkd", True, "cutmix", "method 'dkd' needs views of one image each; policy 'cutmix' mixes two"),
        ("sskd", True, "rot2", "method 'sskd' turns every view itself: policy 'rot2' cannot be spread.*allowed are"),
        ("hsakd", True, "rot4", "method 'hsakd' turns every view itself: policy 'rot4' cannot be spread"),
        ("ce", False, "he_da", "policy 'he_da' by 'highest' asks the teacher of a student.*method 'ce' has none"),
        ("ce", False, "attention_drop", "policy 'attention_drop' needs maps of the teacher.*'ce' has none"),
        ("kl", True, "weak1", "method = 'kl' is unknown"),
    ],
)
def test_mismatches_are_named_before_any_work(name: str, has_teacher: bool, policy: str, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        check_method(name, has_teacher, create_policy(policy))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TURNING)
@pytest.mark.parametrize("policy", [policy for policy in POLICIES if not create_policy(policy).spreadable])
def test_what_is_turned_or_mixed_is_not_turned_again(name: str, policy: str):
    with pytest.raises(ValueError) as caught:
        check_method(name, METHODS[name].needs_teacher, create_policy(policy))
    assert "\n" not in str(caught.value)
    assert repr(policy) in str(caught.value)
    assert repr(name) in str(caught.value)


def test_the_views_that_the_student_sees():
    assert check_method("kd", True, create_policy("jda")).views == 2
    assert check_method("hsakd", True, create_policy("jda")).views == 8
    assert check_method("sskd", True, create_policy("weak1")).views == 4


def test_networks_that_do_not_fit_are_refused(make_network):
    for name in TAUGHT:
        with pytest.raises(ValueError, match=rf"^teacher of method '{name}' must be given$"):
            create_method(name, make_network(0))
    for name in set(METHODS) - set(TAUGHT):
        with pytest.raises(ValueError, match=rf"^teacher of method '{name}' must be absent$"):
            create_method(name, make_network(0), make_network(1))
    with pytest.raises(ValueError, match=r"^teacher of method 'sskd' has no head; sskd_teacher trains one$"):
        create_method("sskd", make_network(0), make_network(1))
    words = r"^teacher of method 'hsakd' has no head; hsakd_teacher or hsakd_joint_teacher trains one$"
    with pytest.raises(ValueError, match=words):
        create_method("hsakd", make_network(0), make_network(1))
    with pytest.raises(ValueError, match=r"^labels of the training images must be given: method 'crd'"):
        create_method("crd", make_network(0), make_network(1))
    with pytest.raises(ValueError, match="temperature = 0 "):
        create_method("kd", make_network(0), make_network(1), temperature=0)
    with pytest.raises(ValueError, match="method = 'x' is unknown"):
        create_method("x", make_network(0))


@pytest.mark.parametrize("name", METHODS)
def test_definitions_name_a_source_and_a_formula(name: str):
    definition = find_method(name)
    assert definition.source
    assert definition.formula
    assert all(other in METHODS and METHODS[other].head is not None for other in definition.taught_by)
    if definition.taught_by:
        assert all(METHODS[other].spread == definition.spread for other in definition.taught_by)
