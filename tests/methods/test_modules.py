"""Losses as modules for a training loop of one's own: the method's terms, in one number, with one-sentence errors."""

import copy
import doctest
import importlib
from dataclasses import replace

import pytest
import torch

from kdlib.methods import METHODS, total
from kdlib.methods.ccd import CCD_WEIGHTS, CCDLoss, ccd_loss, ccd_weights
from kdlib.methods.crd import CRDLoss
from kdlib.methods.crld import CRLD_GATES, CRLDLoss, crld_gates, crld_losses
from kdlib.methods.dist import DISTLoss, inter_loss, intra_loss
from kdlib.methods.dkd import DKDLoss, dkd_losses
from kdlib.methods.energy import (
    ENERGY_RULES,
    EnergyKDLoss,
    energy,
    energy_groups,
    energy_kd_loss,
    energy_limits,
    energy_temperatures,
)
from kdlib.methods.energy_dkd import EnergyDKDLoss, energy_dkd_losses
from kdlib.methods.hsakd import HSAKDLoss
from kdlib.methods.kd import KDLoss, kd_loss
from kdlib.methods.ls import LS_SCALES, LSLoss, ls_loss
from kdlib.methods.spkd import SPKDLoss, spkd_loss
from kdlib.methods.sskd import SSKDLoss
from kdlib.methods.tekap import TeKAPLoss


def new_crd_loss(negatives: int | None = 3) -> CRDLoss:
    """Of features 4 and 7 wide and ten training images, in three classes; None: with as many negatives as published."""
    given = {} if negatives is None else {"negatives": negatives}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CRDLoss(4, 7, torch.arange(10) % 3, **given)


LIMITS = (-12.0, -11.0)  # of the energies of the logits below: each of the three groups has some


def logits(seed: int, rows: int = 6, classes: int = 10) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 3.0, 4.0])
def test_each_is_its_terms_times_the_square_of_the_temperature(temperature):
    s, t, s2, t2, labels = logits(0), logits(1), logits(2), logits(3), torch.arange(6)
    square = temperature**2
    torch.testing.assert_close(KDLoss(temperature)(s, t), square * kd_loss(s, t, temperature))
    centres = logits(7, rows=4)
    for weight in set(CCD_WEIGHTS) - {"shuffled", "cluster_shuffled"}:
        expected = square * ccd_loss((s, s2), (t, t2), ccd_weights(t, t2, weight, None, centres), temperature)
        torch.testing.assert_close(CCDLoss(temperature, weight, centres)((s, s2), (t, t2)), expected)
    target, others = dkd_losses(s, t, labels, temperature)
    torch.testing.assert_close(DKDLoss(temperature, 2.0, 5.0)(s, t, labels), square * (2 * target + 5 * others))
    for gate in set(CRLD_GATES) - {"shuffled"}:
        within, cross = crld_losses((s, s2), (t, t2), crld_gates(t, t2, gate, (0.8, 0.3)), temperature)
        loss = CRLDLoss(temperature, kd_weight=1.5, cross_weight=0.7, tau_weak=0.8, tau_strong=0.3, gate=gate)
        torch.testing.assert_close(loss((s, s2), (t, t2)), square * (1.5 * within + 0.7 * cross))
    for scale in LS_SCALES:
        torch.testing.assert_close(LSLoss(temperature, scale)(s, t), square * ls_loss(s, t, temperature, scale))
    correlations = 3 * inter_loss(s, t, temperature) + 0.5 * intra_loss(s, t, temperature)
    torch.testing.assert_close(DISTLoss(temperature, 3.0, 0.5)(s, t), square * correlations)
    groups = energy_groups(energy(t), LIMITS)
    for rule in set(ENERGY_RULES) - {"shuffled"}:
        expected = energy_kd_loss(s, t, energy_temperatures(groups, (2.5, temperature, 7.0), rule), temperature)
        torch.testing.assert_close(EnergyKDLoss(LIMITS, temperature, 2.5, 7.0, rule=rule)(s, t), square * expected)
        each = energy_temperatures(groups, (2.5, temperature, 7.0), rule)
        target, others = energy_dkd_losses(s, t, labels, each, temperature)
        loss = EnergyDKDLoss(LIMITS, temperature, 2.0, 5.0, 2.5, 7.0, rule=rule)
        torch.testing.assert_close(loss(s, t, labels), square * (2 * target + 5 * others))
    torch.testing.assert_close(TeKAPLoss(temperature, copies=0)(s, t), square * kd_loss(s, t, temperature))
    maps = torch.randn(6, 4, 3, 3), torch.randn(6, 8, 5, 5)
    torch.testing.assert_close(SPKDLoss()(*maps), spkd_loss(*maps))


def besides_labels(terms: dict) -> torch.Tensor:
    return total({name: term for name, term in terms.items() if name != "ce"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 2.0, "similarity_temperature": 0.3, "turned_ratio": 0.4, "similarity_ratio": 0.2},
        {"kd_weight": 0.0, "turned_weight": 1.5, "similarity_weight": 2.5},
    ],
)
def test_sskd_is_the_methods_loss_without_labels(make_batch, loss_of, options):
    batch = make_batch(4, extra=(7,))
    pairs = ((output.logits, output.extra) for output in (batch.student, batch.teacher))
    assert torch.equal(SSKDLoss(**options)(*pairs, batch.labels), besides_labels(loss_of("sskd", batch, **options)[0]))


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"kd_weight": 0.5, "branch_weight": 2.5}])
def test_hsakd_is_the_methods_loss_without_labels(make_batch, loss_of, options):
    batch = make_batch(4, extra=(3, 4 * 5))
    pairs = ((output.logits, output.extra) for output in (batch.student, batch.teacher))
    assert torch.equal(HSAKDLoss(**options)(*pairs), besides_labels(loss_of("hsakd", batch, **options)[0]))


def drawn_seed(seed: int) -> int:
    """What a CRDLoss draws its negatives with after torch.manual_seed(seed)."""
    return int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("views", [1, 2])
def test_crd_is_the_methods_loss_step_by_step(make_batch, loss_of, views):
    loss = new_crd_loss()
    memory = copy.deepcopy(loss.memory)
    for step in range(3):
        index = torch.tensor([5, 4, 9, 0, 1, 2 + step])
        batch = replace(make_batch(views, seed=drawn_seed(step), index=index), memory=memory)
        torch.manual_seed(step)
        value = loss(batch.student.pooled, batch.teacher.pooled, index)
        assert torch.equal(value, loss_of("crd", batch)[0]["crd"].value)
        memory.update()
    assert not torch.equal(loss.memory.student_bank, memory.student_bank)  # of the last step
    loss.update()
    assert all(torch.equal(value, memory.state_dict()[name]) for name, value in loss.memory.state_dict().items())


def test_crd_remembers_in_training_mode_alone_and_its_state_has_the_banks():
    loss, features = new_crd_loss().eval(), (torch.randn(6, 4), torch.randn(6, 7))
    before = copy.deepcopy(loss.state_dict())
    for _ in range(2):
        loss(*features, torch.arange(6))
    assert not loss.memory.pending and {"memory.student_bank", "memory.teacher_bank"} < set(before)
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())
    assert {name for name, _ in loss.named_parameters()} == {
        f"memory.{network}.{part}" for network in ("student", "teacher") for part in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("sskd", SSKDLoss), ("hsakd", HSAKDLoss), ("crd", lambda: new_crd_loss(None)), ("crld", CRLDLoss),
        ("ls", LSLoss), ("dist", DISTLoss),
    ],
)  # fmt: skip
def test_defaults_are_the_methods_own(name, loss):
    assert loss().options == METHODS[name].options()


def test_shuffled_weights_and_gates_come_from_torchs_generator():
    pairs = (logits(0), logits(2)), (logits(1), logits(3))
    torch.manual_seed(0)
    keys = torch.rand(6)
    expected = 16 * ccd_loss(*pairs, ccd_weights(*pairs[1], "shuffled", keys), 4.0)
    within, cross = crld_losses(*pairs, crld_gates(*pairs[1], "shuffled", keys=keys), 4.0)
    torch.manual_seed(0)
    torch.testing.assert_close(CCDLoss(4.0, "shuffled")(*pairs), expected)
    torch.manual_seed(0)
    torch.testing.assert_close(CRLDLoss(gate="shuffled")(*pairs), 16 * (2 * within + 0.5 * cross))


def test_no_gradient_reaches_the_teacher():
    def free(seed: int) -> torch.Tensor:
        return logits(seed).requires_grad_()

    s, t, s2, t2, labels = free(0), free(1), free(2), free(3), torch.arange(6)
    pairs = (s, s2), (t, t2)
    for loss in (
        KDLoss()(s, t), CCDLoss()(*pairs), DKDLoss()(s, t, labels), SPKDLoss()(s, t), CRLDLoss(gate="cosine")(*pairs),
        TeKAPLoss()(s, t), LSLoss()(s, t), DISTLoss()(s, t), EnergyKDLoss(LIMITS)(s, t),
        EnergyDKDLoss(LIMITS)(s, t, labels),
    ):  # fmt: skip
        s.grad = t.grad = None
        loss.backward()
        assert s.grad.abs().sum() > 0 and t.grad is None and t2.grad is None


def test_no_gradient_reaches_the_teachers_features():
    def free(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, requires_grad=True)

    loss = new_crd_loss()
    for call, student, teacher in (
        (lambda s, t: SSKDLoss()(s, t, torch.arange(2)), (free(8, 5), free(8, 3)), (free(8, 5), free(8, 6))),
        (lambda s, t: HSAKDLoss()(s, t), (free(8, 5), free(8, 2, 20)), (free(8, 5), free(8, 2, 20))),
        (lambda s, t: loss(*s, *t, torch.arange(8)), (free(8, 4),), (free(8, 7),)),
    ):
        call(student, teacher).backward()
        assert all(values.grad.abs().sum() > 0 for values in student)
        assert all(values.grad is None for values in teacher)
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_under_autocast_logits_of_half_the_width_are_treated_as_wide_ones(dtype: torch.dtype, size: float):
    """Losses bit for bit; gradients too, but for sums of two that are rounded to half the width one by one. Both stay
    finite at large logits."""
    for loss in (
        CRLDLoss(gate="both"),
        TeKAPLoss(noise=0.0),
        LSLoss(),
        LSLoss(scale="batch"),
        DISTLoss(),
        EnergyKDLoss(LIMITS),
        EnergyDKDLoss(LIMITS),
    ):
        labels = (torch.arange(6),) if isinstance(loss, EnergyDKDLoss) else ()
        results = []
        for wide in (False, True):
            s, s2, t, t2 = ((size / 10 * logits(i)).to(dtype).to(torch.float32 if wide else dtype) for i in range(4))
            s.requires_grad_()
            with torch.autocast("cpu", dtype, enabled=not wide):
                value = loss((s, s2), (t, t2)) if isinstance(loss, CRLDLoss) else loss(s, t, *labels)
            value.backward()
            assert value.dtype == torch.float32 and value.isfinite() and s.grad.isfinite().all()
            results.append((value, s.grad.float()))
        (narrow, rounded), (wide, exact) = results
        assert torch.equal(narrow, wide)
        torch.testing.assert_close(rounded, exact, rtol=0.01, atol=1e-6 + 0.01 * exact.abs().max().item())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: KDLoss()(logits(0), logits(1, classes=9)), r"teacher has the shape \[6, 9\], student has \[6, 10\]"),
        (lambda: KDLoss()(logits(0).long(), logits(1)), r"student is torch.int64 \[6, 10\]; allowed are floating"),
        (lambda: KDLoss()(logits(0)[0], logits(1)), r"student is torch.float32 \[10\]; allowed are"),
        (lambda: KDLoss(0.0), "temperature = 0"),
        (lambda: CCDLoss(weight="sine"), "weight = 'sine'"),
        (lambda: CCDLoss(weight="cluster"), "centres must be given with weight = 'cluster'"),
        (lambda: CCDLoss()(logits(0), (logits(1), logits(2))), "student must be a pair: logits on the original views"),
        (
            lambda: CCDLoss()((logits(0), logits(1, rows=5)), (logits(2), logits(3))),
            r"student_augmented has the shape \[5, 10\], student has \[6, 10\]",
        ),
        (lambda: DKDLoss()(logits(0), logits(1), torch.arange(5)), r"labels are torch.int64 \[5\]; allowed is int64"),
        (lambda: DKDLoss(beta=-1.0), "beta = -1"),
        (lambda: EnergyDKDLoss((0.0,)), r"limits = \(0.0,\) must be a pair of energies"),
        (lambda: EnergyDKDLoss(LIMITS, beta=-1.0), "beta = -1"),
        (
            lambda: EnergyDKDLoss(LIMITS)(logits(0), logits(1), torch.arange(5)),
            r"labels are torch.int64 \[5\]; allowed is int64",
        ),
        (lambda: CRLDLoss(gate="sine"), "gate = 'sine'"),
        (lambda: CRLDLoss(tau_weak=-0.1), "tau_weak = -0.1"),
        (lambda: CRLDLoss()(logits(0), (logits(1), logits(2))), "student must be a pair: logits on the weak views"),
        (
            lambda: CRLDLoss()((logits(0), logits(1)), (logits(2), logits(3, classes=9))),
            r"teacher_strong has the shape \[6, 9\], student has \[6, 10\]",
        ),
        (lambda: TeKAPLoss(copies=-1), "copies = -1"),
        (lambda: TeKAPLoss(copies=1.5), "copies = 1.5"),
        (lambda: TeKAPLoss()(logits(0), logits(1, rows=5)), r"teacher has the shape \[5, 10\], student has \[6, 10\]"),
        (lambda: LSLoss(scale="class"), "scale = 'class'"),
        (lambda: LSLoss()(logits(0).long(), logits(1)), r"student is torch.int64 \[6, 10\]; allowed are floating"),
        (lambda: EnergyKDLoss(LIMITS, rule="code"), "rule = 'code'"),
        (lambda: EnergyKDLoss((1.0, float("nan"))), r"limits = \(1.0, nan\) must be a pair of energies"),
        (lambda: EnergyKDLoss(3.0), "limits = 3.0 must be a pair of energies"),
        (lambda: EnergyKDLoss(LIMITS)(logits(0), logits(1, rows=5)), r"teacher has the shape \[5, 10\], student has"),
        (lambda: energy_limits(torch.zeros(4), 0.6), "share = 0.6 of 4 energies is not allowed"),
        (lambda: energy_limits(torch.zeros(0), 0.2), "share = 0.2 of 0 energies is not allowed"),
        (lambda: energy_limits(torch.zeros(4).long(), 0.2), r"energies are torch.int64 \[4\]; allowed is floating"),
        (lambda: energy_temperatures(torch.zeros(4).long(), (2, 4, 6), "code"), "rule = 'code' is unknown"),
        (lambda: DISTLoss(inter_weight=-1.0), "inter_weight = -1"),
        (lambda: DISTLoss(4.0, 0.0, 0.0), "inter_weight and intra_weight are 0: there is no loss"),
        (lambda: DISTLoss()(logits(0, rows=1), logits(1, rows=1)), "student is a batch of 1: classes are correlated"),
        (lambda: DISTLoss()(logits(0), logits(1, classes=9)), r"teacher has the shape \[6, 9\], student has \[6, 10\]"),
        (lambda: SPKDLoss()(torch.zeros(2, 3), torch.zeros(3, 3)), "student has 2 images, teacher 3"),
    ],
)
def test_bad_input_is_one_sentence(call, said):
    with pytest.raises(ValueError, match=f"^{said}") as error:
        call()
    assert "\n" not in str(error.value)


def sskd(rows=8, its_rows=8, classes=5, its_classes=5, wide=3, labels=2, kind=torch.float32):
    """SSKDLoss of made-up numbers; by default they fit."""
    pairs = (
        (torch.zeros(rows, classes), torch.zeros(rows, wide, dtype=kind)),
        (torch.zeros(its_rows, its_classes), torch.zeros(rows, wide)),
    )
    return SSKDLoss()(*pairs, torch.zeros(labels, dtype=torch.int64))


def hsakd(rows=8, wide=20, its_wide=20, stages=2, its_stages=2, kind=torch.float32):
    """HSAKDLoss of made-up numbers; by default they fit."""
    pairs = (
        (torch.zeros(rows, 5), torch.zeros(rows, stages, wide, dtype=kind)),
        (torch.zeros(rows, 5), torch.zeros(rows, its_stages, its_wide)),
    )
    return HSAKDLoss()(*pairs)


def crd(rows=6, its_rows=6, wide=4, its_wide=7, index=None, kind=torch.float32):
    """CRDLoss of made-up numbers; by default they fit."""
    index = torch.arange(6) if index is None else index
    return new_crd_loss()(torch.ones(rows, wide, dtype=kind), torch.ones(its_rows, its_wide), index)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: SSKDLoss(turned_ratio=1.5), "turned_ratio = 1.5 is not allowed"),
        (
            lambda: SSKDLoss()(logits(0), (logits(1), logits(2)), torch.arange(2)),
            r"student must be a pair: logits \[4 B",
        ),
        (lambda: sskd(its_classes=6), r"teacher_logits has the shape \[8, 6\], student_logits has \[8, 5\]"),
        (lambda: sskd(rows=6, its_rows=6), "student_logits has 6 rows; allowed are multiples of 4"),
        (lambda: sskd(labels=8), r"labels are torch.int64 \[8\]; allowed is int64 \[2\]"),
        (lambda: sskd(kind=torch.int64), r"student_embeddings is torch.int64 \[8, 3\]; allowed is floating \[8, d\]"),
        (lambda: HSAKDLoss(temperature=-1.0), "temperature = -1"),
        (
            lambda: HSAKDLoss()(logits(0), logits(1)),
            r"student must be a pair: logits \[4 B, N\], and those of the branch",
        ),
        (lambda: hsakd(rows=6), "student_logits has 6 rows; allowed are multiples of 4"),
        (lambda: hsakd(wide=5), r"student_branches is torch.float32 \[8, 2, 5\]; allowed is floating \[8, L, 20\]"),
        (lambda: hsakd(kind=torch.int32), r"student_branches is torch.int32 \[8, 2, 20\]; allowed is floating"),
        (
            lambda: hsakd(its_stages=3),
            r"teacher_branches is torch.float32 \[8, 3, 20\]; allowed is floating \[8, 2, 20\]",
        ),
        (lambda: hsakd(its_wide=5), r"teacher_branches is torch.float32 \[8, 2, 5\]; allowed is floating \[8, 2, 20\]"),
        (
            lambda: CRDLoss(4, 7, torch.zeros(10).long()),
            "negatives cannot be drawn: the training images are all of one",
        ),
        (lambda: CRDLoss(4, 7, [0, 1]), r"labels are list; allowed is int64 \[n\]"),
        (lambda: new_crd_loss(negatives=0), "negatives = 0 is not allowed"),
        (lambda: crd(wide=5), r"student is torch.float32 \[6, 5\]; allowed is floating \[B V, 4\]"),
        (lambda: crd(kind=torch.int64), r"student is torch.int64 \[6, 4\]; allowed is floating \[B V, 4\]"),
        (lambda: crd(its_rows=5), r"teacher is torch.float32 \[5, 7\]; allowed is floating \[6, 7\]"),
        (lambda: crd(index=torch.arange(6.0)), r"index is torch.float32 \[6\]; allowed is int64 \[B\]"),
        (lambda: crd(index=torch.arange(4)), "student has 6 rows, index 4; allowed are V rows for each of index"),
        (lambda: crd(index=torch.arange(0)), "student has 6 rows, index 0; allowed are V rows"),
        (lambda: crd(index=torch.arange(6) + 5), "index has places from 5 to 10; allowed are 0 to 9"),
        (lambda: crd(index=torch.arange(6) - 1), "index has places from -1 to 4; allowed are 0 to 9"),
    ],
)
def test_bad_views_and_features_are_one_sentence(call, said):
    for right in (sskd, hsakd, crd):
        assert right().isfinite()
    with pytest.raises(ValueError, match=f"^{said}") as error:
        call()
    assert "\n" not in str(error.value)


WITH_EXAMPLES = (
    "kd",
    "ccd",
    "dkd",
    "crld",
    "tekap",
    "ls",
    "dist",
    "energy",
    "energy_dkd",
    "spkd",
    "crd",
    "sskd",
    "hsakd",
)


@pytest.mark.parametrize("module", [*(f"methods.{name}" for name in WITH_EXAMPLES), "views.transforms"])
def test_examples_in_docstrings_run(module):
    found = doctest.testmod(importlib.import_module(f"kdlib.{module}"))
    assert found.attempted > 0 and found.failed == 0
