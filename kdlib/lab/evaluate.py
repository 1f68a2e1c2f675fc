"""Measuring a network on an image set."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from kdlib.lab import metrics
from kdlib.models.network import Network

EVALUATION_BATCH = 250


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Puts `network` in eval mode, and each of its modules back in its own mode after.

    Its own, not the network's: where only a head is trained, the backbone is in eval mode and must stay so, or its
    BatchNorm statistics would follow the training images.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def logits_on(network: Network, images: Tensor) -> Tensor:
    """float32 [N, classes] on the CPU for uint8 images [N, 3, H, W]; in eval mode, see `eval_mode`."""
    device = network.scale.device
    with eval_mode(network):
        parts = [
            network.logits(images[i : i + EVALUATION_BATCH].to(device)).cpu()
            for i in range(0, len(images), EVALUATION_BATCH)
        ]
    return torch.cat(parts)


def finite_answers(logits: Tensor) -> Tensor:
    """The logits of a teacher that are to be kept. Raises FloatingPointError if one is nan or infinite."""
    if not logits.isfinite().all():
        raise FloatingPointError("the teacher's logits are not finite: it cannot teach, choose another one")
    return logits


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """top1 and top5 in percent, nll in nats, ece a fraction (15 equal-width bins)."""
    values, truth = logits.double().numpy(), labels.numpy()
    return {
        "top1": metrics.top_k_accuracy(values, truth, 1),
        "top5": metrics.top_k_accuracy(values, truth, min(5, values.shape[1])),
        "nll": metrics.nll(values, truth),
        "ece": metrics.ece(values, truth),
    }


def agreement(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Share of images with the same predicted class (percent), and mean KL(t||s) at temperature 1 (nats)."""
    same = (student.argmax(1) == teacher.argmax(1)).double().mean().item() * 100
    log_p, log_q = teacher.double().log_softmax(1), student.double().log_softmax(1)
    return {"agreement": same, "kl_to_teacher": (log_p.exp() * (log_p - log_q)).sum(1).mean().item()}


def correctness_bits(logits: Tensor, labels: Tensor) -> str:
    """One bit per image in order (1: the predicted class is right), packed most significant first, as hex digits."""
    right = (logits.argmax(1) == labels).numpy()
    return np.packbits(right).tobytes().hex()


@torch.no_grad()
def with_batch_norm_from(network: Network, images: Tensor) -> Network:
    """A copy whose BatchNorm statistics are the plain averages over `images` (uint8 [N, 3, H, W], e.g. weak views)."""
    network = copy.deepcopy(network)
    norms = [module for module in network.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
    network.train()
    seen = 0
    for batch in _batches(images):
        seen += len(batch)
        for norm in norms:
            norm.momentum = len(batch) / seen  # the running average over all images so far
        network.logits(batch.to(network.scale.device))
    return network


def _batches(images: Tensor) -> list[Tensor]:
    """Images in batches; one that would be left over goes with those before, since it may have no variance alone."""
    parts = list(images.split(EVALUATION_BATCH))
    return [*parts[:-2], torch.cat(parts[-2:])] if len(parts) > 1 and len(parts[-1]) == 1 else parts
