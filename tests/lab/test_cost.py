"""Costs against hand counts and published numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdlib.lab.cost import Extras, arm_cost, macs, method_extras, model_size, parameters
from kdlib.methods import METHODS, create_method, new_head
from kdlib.models import create_model
from kdlib.models.network import Network


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


class Products(nn.Module):
    """Convolutions both ways, with groups, and products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1, dilation=2), nn.ConvTranspose2d(8, 6, 3, 2, groups=2)
        self.plain = nn.Linear(5, 4, bias=False)

    def forward(self, x):
        rows = self.up(self.down(x)).flatten(2)
        both = rows @ rows.mT + torch.baddbmm(rows @ rows.mT, rows, rows.mT)
        return self.plain(both.flatten(1)[:, :5]) @ both[0, :4]


def test_each_kind_of_product_is_counted_as_torch_counts_it():
    model, images = Products(), torch.randn(2, 3, 17, 17)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    assert macs(model, images.shape) * 2 == counter.get_total_flops()


def test_the_count_is_that_of_a_real_forward():
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


# --- what methods add


PAIRS = {
    "wrn16": ("wrn_40_2", "wrn_16_2", 100), "wrn40": ("wrn_40_2", "wrn_40_1", 100),
    "resnet": ("resnet56", "resnet20", 100), "x4": ("resnet32x4", "resnet8x4", 100),
    "imagenet": ("resnet34_imagenet", "resnet18_imagenet", 1000),
}  # fmt: skip
IMAGES = {100: 50_000, 1000: 1_281_167}
# Parameters of the backbones; parameters that HSAKD, SSKD and CRD add; the same and CRD's bank in MiB, as printed.
PUBLISHED = {
    "wrn16": (2_958_440, 7_697_632, "29.4", 66_048, "0.25", 33_024, "48.8"),
    "wrn40": (2_824_936, 7_253_760, "27.7", 41_344, "0.16", 24_832, "48.8"),
    "resnet": (1_139_944, 2_969_056, "11.3", 16_640, "0.06", 16_640, "48.8"),
    "x4": (8_667_400, 22_464_352, "85.7", 263_168, "1.00", 65_792, "48.8"),
    "imagenet": (33_487_184, 124_029_696, "473.1", 1_050_624, "4.01", 131_328, "1251.1"),
}
RATIOS = {"wrn16": "2.60", "wrn40": "2.57", "resnet": "2.60", "x4": "2.59", "imagenet": "3.70"}
PLAIN = [name for name, d in METHODS.items() if d.head is None and d.memory is None]


def extras(method: str, pair: str, **options) -> Extras:
    teacher, student, classes = PAIRS[pair]
    given = teacher if METHODS[method].needs_teacher else None
    return method_extras(method, options, student, given, classes, 32, IMAGES[classes])


def mib(count: int, digits: int) -> str:
    return f"{count / 2**20:.{digits}f}"


@pytest.mark.parametrize("pair", PAIRS)
def test_published_sizes(pair: str):
    backbones, hsakd, hsakd_mib, sskd, sskd_mib, crd, bank_mib = PUBLISHED[pair]
    teacher, student, classes = PAIRS[pair]
    costs = {
        m: arm_cost(student, teacher, classes, 32, 256, 1, extras(m, pair)) for m in ("kd", "hsakd", "sskd", "crd")
    }
    found = {method: cost.extra_parameters for method, cost in costs.items()}
    assert found == {"kd": 0, "hsakd": hsakd, "sskd": sskd, "crd": crd}
    assert {c.student_parameters + c.teacher_parameters for c in costs.values()} == {backbones}
    assert f"{hsakd / backbones:.2f}" == RATIOS[pair]
    assert mib(4 * found["hsakd"], 1) == hsakd_mib
    assert mib(4 * found["sskd"], 2) == sskd_mib
    assert extras("crd", pair).bank_bytes == 2 * IMAGES[classes] * 128 * 4
    assert mib(extras("crd", pair).bank_bytes, 1) == bank_mib
    assert len({c.deployed_bytes for c in costs.values()}) == 1  # nothing of it is deployed


@pytest.mark.parametrize("method", PLAIN)
def test_methods_without_a_head_add_nothing(method: str):
    assert {"ce", "kd", "ccd"} <= set(PLAIN)
    assert replace(extras(method, "wrn16"), shrinks=1) == Extras()


def test_published_macs_of_kd_ccd_and_hsakd():
    """WRN-40-2 -> WRN-16-2, 256 views, one forward of both: KD and CCD 109.8 G; with HSAKD's branches 258.0 G."""
    each = {m: arm_cost("wrn_16_2", "wrn_40_2", 100, 32, 256, 1, extras(m, "wrn16")) for m in ("kd", "ccd", "hsakd")}
    forward = {method: 256 * (cost.teacher_macs + cost.student_macs) for method, cost in each.items()}
    assert {m: f"{n / 1e9:.1f}" for m, n in forward.items()} == {"kd": "109.8", "ccd": "109.8", "hsakd": "258.0"}
    assert f"{forward['hsakd'] / forward['kd']:.2f}" == "2.35"
    assert f"{each['hsakd'].teacher_macs / 1e6:.2f}" == "768.17"
    assert f"{each['hsakd'].student_macs / 1e6:.2f}" == "239.68"


def test_macs_of_the_small_heads_by_hand():
    """WRN-40-2 and WRN-16-2 both end in 128 channels."""
    sskd, crd = extras("sskd", "wrn16"), extras("crd", "wrn16", negatives=1000)
    assert sskd == Extras(trained=33_024, frozen=33_024, teacher_macs=2 * 128**2, student_macs=2 * 128**2)
    projections, scores = 2 * 128 * 128, 2 * 1001 * 128
    assert (crd.teacher_macs, crd.student_macs) == (0, projections + scores)


def test_the_bank_of_soteacher_is_a_row_of_probabilities_and_a_counter_for_each_image():
    """CIFAR-100: 20 MB in float32, and 0.2 MB."""
    assert extras("soteacher", "wrn16") == Extras(bank_bytes=50_000 * (100 + 1) * 4)
    assert extras("soteacher", "wrn16", consistency_weight=0.0) == Extras()


@pytest.mark.parametrize("method", ["hsakd_teacher", "sskd_teacher"])
def test_a_run_that_trains_a_head_does_not_train_its_backbone(method: str):
    """As `tables.run_cost` asks: the backbone is the student, and there is no teacher."""
    added = method_extras(method, {}, "wrn_40_2", None, 100, 32, 50_000)
    cost = arm_cost("wrn_40_2", None, 100, 32, 256, 10, added)
    backbone, backbone_macs = model_size("wrn_40_2", 100, 32)
    head = 5_769_328 if method == "hsakd_teacher" else 33_024
    assert (cost.student_parameters, cost.teacher_parameters, cost.extra_parameters) == (backbone, 0, head)
    assert cost.training_bytes == 4 * (backbone + 3 * head)
    assert cost.student_step_macs == backbone_macs + 3 * (cost.student_macs - backbone_macs)
    joint = arm_cost("wrn_40_2", None, 100, 32, 256, 10, replace(added, trains_student=True))
    assert joint.training_bytes == 12 * (backbone + head)
    assert joint.run_macs - cost.run_macs == 10 * 256 * 2 * backbone_macs


@pytest.mark.parametrize("method", METHODS)
def test_training_bytes_are_those_of_the_method_that_is_trained(method: str):
    """Weights of everything, a gradient and a momentum for each that requires one, and the bank.

    The teacher counts as it is published: its copy for inference has the BatchNorms folded away.
    """
    definition, labels = METHODS[method], torch.arange(40) % 10
    options = {"negatives": 5} if method == "crd" else {}
    taught = definition.needs_teacher and definition.trains_student

    def network(name: str, head_of: str | None = None) -> Network:
        backbone = create_model(name, 10)
        return Network(backbone, (0.5,) * 3, (0.5,) * 3, head=new_head(head_of, backbone, {}) if head_of else None)

    teacher = network("resnet14", next(iter(definition.taught_by), None)) if taught else None
    made = create_method(method, network("resnet8"), teacher, labels, **options)
    weights = [p for p in made.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for p in weights:
        p.grad = torch.ones_like(p)
    optimiser.step()
    momentum = [state["momentum_buffer"] for state in optimiser.state.values()]
    bank = [b for n, b in made.named_buffers() if n.endswith("_bank")]
    own = [p for n, p in made.named_parameters() if not n.startswith("teacher.")]
    kept = [*own, *(teacher.parameters() if taught else ())]
    stored = [*kept, *(p.grad for p in weights), *momentum, *bank]
    name = "resnet14" if taught else None
    cost = arm_cost("resnet8", name, 10, 32, 16, 1, method_extras(method, options, "resnet8", name, 10, 32, 40))
    assert cost.training_bytes == sum(t.nbytes for t in stored)
    both = parameters(made.student.backbone) + (parameters(teacher.backbone) if taught else 0)
    assert cost.student_parameters + cost.teacher_parameters == both
    assert cost.extra_parameters == sum(p.numel() for p in kept) - both


def test_unknown_methods_and_options_are_refused():
    with pytest.raises(ValueError, match="method = 'x' is unknown"):
        method_extras("x", {}, "resnet8", None, 10, 32, 40)
    with pytest.raises(ValueError, match="negatives = 0 "):
        method_extras("crd", {"negatives": 0}, "resnet8", "resnet8", 10, 32, 40)


def test_sums():
    added = Extras(trained=1000, frozen=50, bank_bytes=77, teacher_macs=3, student_macs=5)
    cost = arm_cost("resnet8", "resnet20", 10, 32, 64, 100, added)
    student, student_macs = model_size("resnet8", 10, 32)
    teacher, teacher_macs = model_size("resnet20", 10, 32)
    sizes = (cost.student_parameters, cost.teacher_parameters, cost.extra_parameters)
    assert sizes == (student, teacher, 1050)
    weights, gradients, momentum = student + teacher + 1050, student + 1000, student + 1000
    assert cost.training_bytes == 4 * (weights + gradients + momentum) + 77
    assert cost.deployed_bytes == 4 * student
    assert (cost.teacher_macs, cost.student_macs) == (teacher_macs + 3, student_macs + 5)
    assert cost.student_step_macs == 3 * (student_macs + 5)
    assert cost.step_macs == 64 * (teacher_macs + 3 + 3 * (student_macs + 5))
    assert (cost.run_macs, cost.views, cost.steps) == (100 * cost.step_macs, 6400, 100)


@pytest.mark.parametrize("method", ["kd", "ccd", "dkd"])
def test_with_a_view_bank_steps_have_no_teacher_and_the_bank_is_paid_once(method: str):
    """Each stored view goes through the teacher once, however often it is seen."""
    own = extras(method, "resnet")
    fresh = arm_cost("resnet20", "resnet56", 100, 32, 64, 1000, own)
    stored = arm_cost("resnet20", "resnet56", 100, 32, 64, 1000, replace(own, stored_views=900, stored_bytes=777))
    assert stored.step_macs == 64 * fresh.student_step_macs == fresh.step_macs - 64 * fresh.teacher_macs
    assert (stored.bank_macs, stored.bank_bytes) == (900 * fresh.teacher_macs, 777)
    assert stored.run_macs == 1000 * stored.step_macs + stored.bank_macs
    assert fresh.run_macs - stored.run_macs == (64_000 - 900) * fresh.teacher_macs
    changed = {"step_macs": fresh.step_macs, "run_macs": fresh.run_macs, "bank_macs": 0, "bank_bytes": 0}
    assert replace(stored, **changed) == fresh


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
    [("image_size", 0), ("views_per_step", 0), ("steps", -1)],
)
def test_counts_are_checked(field, value):
    good = {"num_classes": 10, "image_size": 32, "views_per_step": 8, "steps": 1}
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        arm_cost("resnet8", None, **{**good, field: value})


def test_unknown_model():
    with pytest.raises(ValueError, match="'resnet9' is unknown"):
        arm_cost("resnet9", None, 10, 32, 8, 1)
