"""Costs against hand counts and published numbers."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdlib.cost import arm_cost, macs, model_size, parameters
from kdlib.models import create_model


class Small(nn.Module):
    """A grouped convolution, a BatchNorm and a linear layer, all countable by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, stride=2, padding=2, groups=3)
        self.bn = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean(dim=(2, 3)))


def test_hand_count():
    model = Small()
    assert parameters(model) == (6 * 1 * 25 + 6) + 2 * 6 + (6 * 4 + 4)
    per_image = 8 * 8 * 6 * 1 * 25 + 6 * 4
    assert macs(model, (1, 3, 16, 16)) == per_image
    assert macs(model, (7, 3, 16, 16)) == 7 * per_image


def test_counting_changes_nothing():
    model = Small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    macs(model, (2, 3, 16, 16))
    arm_cost("resnet14", "wrn_22_1", 10, 32, 8, 1)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_meta_count_is_that_of_a_real_forward():
    model, images = create_model("resnet8", 10).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    assert macs(model, images.shape) * 2 == counter.get_total_flops()
    assert model_size("resnet8", 10, 32) == (parameters(model), macs(model, (1, 3, 32, 32)))


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "wrn_16_2", "wrn_40_1"])
def test_backward_costs_about_two_forwards(name):
    """The docstring of `arm_cost` says a factor of 2.96 to 3.00."""
    with torch.device("meta"):
        model, images = create_model(name, 100), torch.empty(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(images).logits.sum().backward()
    factor = counter.get_total_flops() / (2 * macs(model, images.shape))
    assert 2.96 <= factor <= 3.0


@pytest.mark.parametrize(
    ("teacher", "student", "backbones", "extra"),
    [
        ("wrn_40_2", "wrn_16_2", 2_958_440, 7_697_632),
        ("wrn_40_2", "wrn_40_1", 2_824_936, 7_253_760),
        ("resnet56", "resnet20", 1_139_944, 2_969_056),
        ("resnet32x4", "resnet8x4", 8_667_400, 22_464_352),
    ],
)
def test_published_parameters_of_pairs(teacher, student, backbones, extra):
    cost = arm_cost(student, teacher, 100, 32, 256, 1, extra_parameters=extra)
    assert cost.student_parameters + cost.teacher_parameters == backbones
    assert cost.extra_parameters == extra
    plain = arm_cost(student, teacher, 100, 32, 256, 1)
    assert cost.training_bytes - plain.training_bytes == 3 * 4 * extra


def test_published_macs_of_kd_and_hsakd():
    """WRN-40-2 -> WRN-16-2, 256 views, one forward of both: KD 109.8 G; with HSAKD's branches 258.0 G."""
    plain = arm_cost("wrn_16_2", "wrn_40_2", 100, 32, 256, 1)
    assert f"{256 * (plain.teacher_macs + plain.student_macs) / 1e9:.1f}" == "109.8"
    branches = {
        "extra_teacher_macs": 768_170_000 - plain.teacher_macs,
        "extra_student_macs": 239_680_000 - plain.student_macs,
    }
    hsakd = arm_cost("wrn_16_2", "wrn_40_2", 100, 32, 256, 1, **branches)
    assert f"{256 * (hsakd.teacher_macs + hsakd.student_macs) / 1e9:.1f}" == "258.0"


def test_sums():
    cost = arm_cost(
        *("resnet8", "resnet20", 10, 32, 64, 100),
        extra_parameters=1000,
        bank_bytes=77,
        frozen_parameters=50,
        extra_teacher_macs=3,
        extra_student_macs=5,
    )
    student, student_macs = model_size("resnet8", 10, 32)
    teacher, teacher_macs = model_size("resnet20", 10, 32)
    assert (cost.student_parameters, cost.teacher_parameters, cost.extra_parameters) == (
        student,
        teacher,
        1050,
    )
    weights, gradients, momentum = student + teacher + 1050, student + 1000, student + 1000
    assert cost.training_bytes == 4 * (weights + gradients + momentum) + 77
    assert cost.deployed_bytes == 4 * student
    assert (cost.teacher_macs, cost.student_macs) == (teacher_macs + 3, student_macs + 5)
    assert cost.student_step_macs == 3 * (student_macs + 5)
    assert cost.step_macs == 64 * (teacher_macs + 3 + 3 * (student_macs + 5))
    assert (cost.run_macs, cost.views, cost.steps) == (100 * cost.step_macs, 6400, 100)


def test_without_a_teacher():
    cost = arm_cost("resnet8", None, 10, 32, 64, 2)
    assert (cost.teacher_parameters, cost.teacher_macs) == (0, 0)
    assert cost.training_bytes == 12 * cost.student_parameters
    assert cost.step_macs == 64 * cost.student_step_macs


def test_larger_images_cost_more_and_small_ones_work():
    assert model_size("resnet8", 10, 64)[1] == pytest.approx(4 * model_size("resnet8", 10, 32)[1], rel=1e-3)
    assert model_size("resnet8", 10, 4)[0] == model_size("resnet8", 10, 32)[0]


def test_same_question_is_answered_from_memory():
    assert arm_cost("resnet8", None, 10, 32, 8, 1) is arm_cost("resnet8", None, 10, 32, 8, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_size", 0), ("views_per_step", 0), ("steps", -1), ("extra_parameters", -1), ("bank_bytes", -5)],
)
def test_counts_are_checked(field, value):
    good = {"num_classes": 10, "image_size": 32, "views_per_step": 8, "steps": 1}
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        arm_cost("resnet8", None, **{**good, field: value})


def test_unknown_model():
    with pytest.raises(ValueError, match="'resnet9' is unknown"):
        arm_cost("resnet9", None, 10, 32, 8, 1)
