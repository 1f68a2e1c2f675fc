"""Every operation has one kind, and the shares of a step add up."""

import pytest

from kdlib.chapters.benchmark import breakdown, runs
from kdlib.chapters.benchmark.breakdown import KINDS, OPTIMISER, REST, VIEWS, kind_of


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::conv2d", "convolutions, forward"),
        ("aten::mkldnn_convolution", "convolutions, forward"),
        ("aten::convolution_backward", "convolutions, backward"),
        ("autograd::engine::evaluate_function: ConvolutionBackward0", "convolutions, backward"),
        ("aten::native_batch_norm", "batch norm"),
        ("NativeBatchNormBackward0", "batch norm"),
        ("aten::relu_", "activations"),
        ("aten::clamp_min_", "activations"),
        ("aten::threshold_backward", "activations"),
        ("aten::add", "sums"),
        ("aten::add_", "sums"),
        ("aten::copy_", "copies"),
        ("aten::_to_copy", "copies"),
        ("aten::addmm", REST),
        ("aten::_log_softmax", REST),
        ("Optimizer.step#SGD.step", REST),
    ],
)
def test_the_kind_of_an_operation(operation, kind):
    assert kind_of(operation) == kind


@pytest.mark.usefixtures("isolated")
def test_shares_of_a_step_add_up_and_convolutions_lead(monkeypatch, capfd):
    monkeypatch.setattr(runs, "data_name", lambda: runs.BUNDLED)
    monkeypatch.setattr(breakdown, "run_of", lambda pair: runs.run_of("resnet", images=8))
    shares = breakdown.breakdown(steps=1)
    assert list(shares) == [*KINDS, VIEWS, OPTIMISER, REST]
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())
    assert shares["convolutions, forward"] + shares["convolutions, backward"] == pytest.approx(
        sum(v for k, v in shares.items() if "conv" in k)
    )
