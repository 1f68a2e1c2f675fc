"""The detector: its size, its boxes as distributions, and what is left after suppression, against torchvision."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, resnet50
from torchvision.ops import nms

from kdlib.elsewhere.boxes.detector import (
    BINS,
    STRIDE,
    Detector,
    Said,
    Strided,
    centres,
    decode,
    distances,
    encode,
    find,
)
from kdlib.elsewhere.detecting import size
from kdlib.lab.cost import macs
from kdlib.randomness import seeded

pytestmark = pytest.mark.usefixtures("isolated")


def test_its_size_is_what_was_planned() -> None:
    assert [round(size(width, 10)[0] / 1e6, 1) for width in (8, 16, 32)] == [17.8, 68.6, 269.3]


def test_it_says_one_thing_of_each_cell_and_first_that_all_is_background() -> None:
    with seeded(0, "test"):
        said = Detector(8, 3)(torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8))
    assert said.classes.shape == (2, 256, 3) and said.sides.shape == (2, 256, 4, BINS)
    assert said.classes.sigmoid().mean().item() == pytest.approx(0.01, abs=0.01)


def test_cells_are_in_the_order_of_the_grid() -> None:
    places = centres(128)
    assert places.shape == (256, 2) and places[1].tolist() == [12, 4] and places[16].tolist() == [4, 12]


def test_boxes_are_encoded_and_decoded_to_themselves() -> None:
    places = centres(128)
    corners = torch.rand(256, 4) * 50 + torch.tensor([0.0, 0, 60, 60])
    assert torch.allclose(decode(places, encode(places, corners)), corners, atol=1e-4)


def test_a_distribution_on_two_bins_is_the_distance_between_them() -> None:
    logits = torch.full((4, BINS), -1e4)
    logits[:, 3], logits[:, 4] = torch.tensor(0.25).log(), torch.tensor(0.75).log()
    assert torch.allclose(distances(logits), torch.full((4,), 3.75 * STRIDE))


def said_of(boxes: list[tuple[int, tuple[int, int, int, int], int, float]], classes: int = 2) -> Said:
    """What says boxes (cell, distances in strides, class, logit) and nothing else."""
    scores, sides = torch.full((1, 256, classes), -20.0), torch.zeros(1, 256, 4, BINS)
    for cell, away, label, logit in boxes:
        scores[0, cell, label] = logit
        for side, strides in enumerate(away):
            sides[0, cell, side] = -1e4
            sides[0, cell, side, strides] = 0
    return Said(scores, sides)


def test_of_boxes_of_one_class_that_overlap_the_best_is_left() -> None:
    both = [(100, (2, 2, 2, 2), 0, 3.0), (101, (3, 2, 2, 2), 0, 2.0)]
    (found,) = find(said_of([*both, (101, (3, 2, 2, 2), 1, 1.0)]), 128)
    assert found.labels.tolist() == [0, 1] and found.scores[0] == pytest.approx(torch.tensor(3.0).sigmoid().item())
    x, y = centres(128)[100].tolist()
    assert found.corners[0].tolist() == pytest.approx([x - 16, y - 16, x + 16, y + 16], abs=1e-3)


def test_suppression_is_that_of_torchvision_class_by_class() -> None:
    random = torch.Generator().manual_seed(0)
    said = Said(torch.randn(1, 256, 2, generator=random), 3 * torch.randn(1, 256, 4, BINS, generator=random))
    (found,) = find(said, 128)
    corners = decode(centres(128), distances(said.sides[0])).clamp(0, 128)
    expected = []
    for label in (0, 1):
        scores = said.classes[0, :, label].sigmoid()
        kept = [i for i in nms(corners, scores, 0.6).tolist() if scores[i] >= 0.05]
        expected += [(scores[i].item(), label, i) for i in kept]
    best = sorted(expected, reverse=True)[:100]
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in best])
    assert found.labels.tolist() == [label for _, label, _ in best] and len(found.scores) == 100


def test_nothing_found_is_empty() -> None:
    (found,) = find(said_of([]), 128)
    assert found.corners.shape == (0, 4) and len(found.scores) == len(found.labels) == 0


@pytest.mark.parametrize("width", [8, 16, 32])
def test_a_strided_block_costs_what_a_dilated_one_does(width: int) -> None:
    dilated, strided = (macs(Detector(width, 10, last), (1, 3, 128, 128)) for last in ("dilated", "strided"))
    assert strided == pytest.approx(dilated, rel=0.01) and strided != dilated
    said = Detector(width, 3, "strided")(torch.zeros(1, 3, 128, 128, dtype=torch.uint8))
    assert said.classes.shape == (1, 256, 3)
    with pytest.raises(ValueError, match="^last = 'wide' is unknown; allowed are dilated, strided$"):
        Detector(width, 3, "wide")


def test_a_strided_block_is_added_to_its_input() -> None:
    with seeded(0, "test"):
        block = Strided(16).eval()
    x = torch.rand(1, 16, 16, 16)
    assert not torch.allclose(block(x), x)
    nn.init.zeros_(block.back[0].weight)
    assert torch.allclose(block(x), x)


class DetNet(nn.Module):
    """DetNet-59 by its description: ResNet-50 to stage 4, then two stages of three bottlenecks of dilation 2 at stride
    16, the first of each with a 1x1 convolution in its shortcut; `width` channels behind them."""

    def __init__(self, width: int):
        super().__init__()
        resnet = resnet50()
        for first in (resnet.layer2[0], resnet.layer3[0]):  # the original ResNet strides where torchvision's does later
            first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
        self.stem = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1, resnet.layer2, resnet.layer3
        )
        blocks = []
        for stage in range(2):
            for k in range(3):
                inputs = 1024 if (stage, k) == (0, 0) else width
                shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))
                block = Bottleneck(inputs, width // 4, downsample=None if k else shortcut, dilation=2)
                block.conv1, block.conv2, block.conv3 = (
                    nn.Conv2d(inputs, 256, 1, bias=False), nn.Conv2d(256, 256, 3, padding=2, dilation=2, bias=False),
                    nn.Conv2d(256, width, 1, bias=False),
                )  # fmt: skip
                block.bn1, block.bn2, block.bn3 = nn.BatchNorm2d(256), nn.BatchNorm2d(256), nn.BatchNorm2d(width)
                blocks.append(block)
        self.stages, self.classify = nn.Sequential(*blocks), nn.Linear(width, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.stages(self.stem(x)).mean((2, 3)))


def test_detnet_59_costs_what_was_counted() -> None:
    """4.85 GMAC at 224 pixels, as the 4.8 G of its abstract ask for; with 256 channels it would be 4.07. Parameters by
    hand: those of ResNet-50 without its last stage and classifier, and of six bottlenecks."""
    networks = {width: DetNet(width) for width in (1024, 256)}
    costs = {width: macs(network, (1, 3, 224, 224)) / 1e9 for width, network in networks.items()}
    assert costs[1024] == pytest.approx(4.85, abs=0.01) and costs[256] == pytest.approx(4.07, abs=0.01)
    stages = sum(p.numel() for p in networks[1024].stages.parameters())
    bottleneck = 1024 * 256 + 9 * 256**2 + 256 * 1024 + 2 * (256 + 256 + 1024)
    assert stages == 6 * bottleneck + 2 * (1024**2 + 2 * 1024)
