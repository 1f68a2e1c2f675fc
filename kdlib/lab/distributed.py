"""One run over several processes, when torchrun started them; otherwise everything here says "one process"."""

import os
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def launched() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


@contextmanager
def process_group(device: str):
    """Joins the processes that torchrun launched (NCCL on GPUs, Gloo on CPUs); without torchrun it does nothing."""
    if not launched() or dist.is_initialized():
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """0 in the process that evaluates and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def parallel(module: nn.Module) -> nn.Module:
    """The module with its gradients averaged over processes."""
    return nn.parallel.DistributedDataParallel(module) if world() > 1 else module


def gradients_kept(module: nn.Module, keep: bool):
    """Inside, backward adds up gradients without averaging them over processes, if `keep`."""
    return module.no_sync() if keep and world() > 1 else nullcontext()


def averaged(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars of a step that each process has by the same names, averaged over processes, without gradient: with one
    message for all of them."""
    if world() == 1:
        return scalars
    values = torch.stack([value.detach().double() for value in scalars.values()])
    dist.all_reduce(values)
    return dict(zip(scalars, (values / world()).unbind(), strict=True))


def agreed(value: Any) -> Any:
    """The value that the process of rank 0 has, in all of them: what must not be decided by each alone."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def barrier() -> None:
    """Waits for all processes."""
    if world() > 1:
        dist.barrier()
