"""HSAKD: its branches, and terms and weights against loops over views."""

import copy

import numpy as np
import pytest
import torch
from scipy import special

from kdlib.methods import METHODS, Batch
from kdlib.methods.hsakd import AuxiliaryBranches, joint_labels
from kdlib.models import Output, create_model, model_names
from kdlib.models.network import Network

from .conftest import CLASSES, count, draw
from .slow import whole
from .turned import BRANCHES, JOINT, label_of_set, readable_step, reading, sets

# --- branches


AUXILIARY = {
    ("wrn_40_2", 100): 5_769_328, ("wrn_16_2", 100): 1_928_304, ("wrn_40_1", 100): 1_484_432,
    ("resnet56", 100): 2_206_064, ("resnet20", 100): 762_992, ("resnet32x4", 100): 18_907_056,
    ("resnet8x4", 100): 3_557_296, ("vgg13", 100): 37_049_664, ("resnet50", 100): 76_976_704,
    ("mobilenetv2", 100): 4_671_496, ("shufflenetv1", 100): 3_118_740, ("shufflenetv2", 100): 4_519_988,
    ("resnet34_imagenet", 1000): 76_474_240, ("resnet18_imagenet", 1000): 47_555_456,
}  # fmt: skip


@pytest.mark.parametrize(("name", "classes"), AUXILIARY, ids=str)
def test_published_parameters_of_the_branches(name: str, classes: int):
    with torch.device("meta"):
        branches = AuxiliaryBranches(create_model(name, classes))
    assert count(branches) == AUXILIARY[name, classes]


@pytest.mark.parametrize("name", model_names())
def test_one_answer_for_each_stage_of_every_family(name: str):
    """Shapes for two image sizes, through a Network; every branch ends in as many channels as the network."""
    with torch.device("meta"):
        backbone = create_model(name, 7).eval()
        branches = AuxiliaryBranches(backbone).eval()
        network = Network(backbone, (0.5,) * 3, (0.25,) * 3, head=branches)
    for size in (32, 64):
        extra = network(torch.empty(2, 3, size, size, dtype=torch.uint8, device="meta")).extra
        assert extra.shape == (2, len(backbone.stages), 4 * 7)
    assert {m.in_features for m in branches.classifiers} == {backbone.feature_dim}


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "mobilenetv2"])
def test_branches_share_nothing_and_leave_the_backbone_alone(name: str):
    backbone = create_model(name, 5)
    before = copy.deepcopy(backbone.state_dict())
    branches = AuxiliaryBranches(backbone)
    own = [p.data_ptr() for p in (*branches.parameters(), *branches.buffers())]
    assert len(set(own)) == len(own)
    assert not set(own) & {p.data_ptr() for p in (*backbone.parameters(), *backbone.buffers())}
    assert all(torch.equal(before[n], v) for n, v in backbone.state_dict().items())
    assert all(p.requires_grad for p in branches.parameters())


def test_branch_l_reads_stage_l_and_only_that():
    backbone = create_model("resnet8", 5).eval()
    branches = AuxiliaryBranches(backbone).eval()
    output = backbone(torch.randn(2, 3, 16, 16, generator=draw()))
    found = branches(output)
    for stage in range(3):
        stages = tuple(s + (i == stage) for i, s in enumerate(output.stages))
        changed = (branches(output._replace(stages=stages)) - found).abs().amax((0, 2)) > 0
        assert changed.tolist() == [i == stage for i in range(3)]


def test_a_branch_that_copies_the_later_stages_is_the_network_itself():
    """Branch l with the weights of stages l+1..L, averaged, is the pooled feature."""
    backbone = create_model("wrn_16_1", 5).eval()
    branches = AuxiliaryBranches(backbone).eval()
    output = backbone(torch.randn(2, 3, 16, 16, generator=draw()))
    for start, body in enumerate(branches.bodies[:-1], 1):
        for own, stage in zip(body[:-1], backbone.stages[start:], strict=True):
            own.load_state_dict(stage.state_dict())
        body[-1].load_state_dict({n.removeprefix("bn."): v for n, v in backbone.bn.state_dict().items()}, strict=False)
        assert sum(p.numel() for p in body[-1].parameters()) == sum(p.numel() for p in backbone.bn.parameters())
        torch.testing.assert_close(body(output.stages[start - 1]).mean(dim=(2, 3)), output.pooled)


# --- terms and weights


def test_joint_labels_hold_the_label_and_the_turn():
    labels = whole(100, 50)
    joint = joint_labels(labels)
    assert joint.dtype == torch.int64 and joint.shape == (200,)
    assert torch.equal(joint // 4, labels.repeat_interleave(4))
    assert torch.equal(joint % 4, torch.arange(4).repeat(50))
    assert len(joint_labels(torch.arange(10)).unique()) == 40


@pytest.mark.parametrize("views", [4, 8])
@pytest.mark.parametrize("name", ["hsakd_teacher", "hsakd_joint_teacher"])
def test_hsakd_teachers_learn_class_and_turn(make_batch, loss_of, name: str, views: int):
    batch = make_batch(views, teacher=False, extra=JOINT)
    terms, records = loss_of(name, batch)
    branches = sets(batch.student.extra)  # [M, 4, L, 4 N]
    joint, right, ce = [], [], []
    for m in range(len(branches)):
        y = label_of_set(batch, m)
        ce.append(-special.log_softmax(batch.student.logits[4 * m].detach().numpy())[y])
        for r in range(4):
            joint.append(sum(-special.log_softmax(branches[m, r, layer])[4 * y + r] for layer in range(BRANCHES)))
            right.append(branches[m, r, BRANCHES - 1].argmax() == 4 * y + r)
    assert terms["joint"].value.item() == pytest.approx(np.mean(joint))
    assert records["pretext"].item() == pytest.approx(np.mean(right))
    assert {t.weight for t in terms.values()} == {1}
    if name == "hsakd_teacher":
        assert list(terms) == ["joint"]
    else:
        assert list(terms) == ["ce", "joint"]
        assert terms["ce"].value.item() == pytest.approx(np.mean(ce))


@pytest.mark.parametrize("views", [4, 8])
def test_hsakd_terms(make_batch, loss_of, divergence, views: int):
    batch = make_batch(views, extra=JOINT)
    terms, records = loss_of("hsakd", batch, ce_weight=0.5, kd_weight=2.0, branch_weight=3.0)
    student, teacher = batch.student, batch.teacher
    ce = [
        -special.log_softmax(student.logits[4 * m].detach().numpy())[label_of_set(batch, m)]
        for m in range(len(student.logits) // 4)
    ]
    branches = sum(
        divergence(student.extra[:, layer], teacher.extra[:, layer], 3.0).mean() for layer in range(BRANCHES)
    )
    assert list(terms) == ["ce", "kl", "branches"]
    assert records == {}
    assert terms["ce"].value.item() == pytest.approx(np.mean(ce))
    assert terms["kl"].value.item() == pytest.approx(divergence(student.logits, teacher.logits, 3.0).mean())
    assert terms["branches"].value.item() == pytest.approx(branches)
    assert [t.weight for t in terms.values()] == [0.5, 2 * 9, 3 * 9]


@pytest.mark.parametrize("policy", ["weak1", "weak2"])
@pytest.mark.parametrize("name", ["hsakd_teacher", "hsakd_joint_teacher"])
def test_a_network_that_reads_class_and_turn_has_no_joint_loss(name: str, policy: str):
    step = readable_step(name, policy)
    classes = reading(step.views, lambda y, r: (y, CLASSES))
    joint = reading(step.views, lambda y, r: (4 * y + r, 4 * CLASSES))[:, None].expand(-1, BRANCHES, -1)
    terms, records = METHODS[name].loss(Batch(step, Output(classes, classes, (), joint)), None)
    assert records["pretext"] == 1
    assert all(t.value < 1e-6 for t in terms.values())
    backwards = reading(step.views, lambda y, r: (4 * y + -r % 4, 4 * CLASSES))[:, None].expand(-1, BRANCHES, -1)
    terms, records = METHODS[name].loss(Batch(step, Output(classes, classes, (), backwards)), None)
    assert records["pretext"] == 0.5  # only quarter turns by 0 and 180 degrees look the same from the other side
