"""What an arm costs: parameters, bytes, multiply-accumulates (MACs), views, optimiser steps.

Networks are built without weights; their MACs are counted in one pass of a single image of zeros. Seconds are not here:
they depend on the machine and come from a benchmark.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from kdlib.lab.machine import threads
from kdlib.methods import find_method, method_options, new_head, new_memory
from kdlib.models import Backbone, create_model
from kdlib.models.hollow import hollow

BYTES = 4  # of a float32


@dataclass(frozen=True)
class Cost:
    """The cost of one arm. Bytes are those of float32 numbers; MACs are counted as `macs` does."""

    #: the network that is deployed
    student_parameters: int
    #: the network that is learnt from; 0 without a teacher
    teacher_parameters: int
    #: heads that exist in training only, trained or frozen, of both sides
    extra_parameters: int
    #: weights of student, teacher and heads; gradients and momentum of what is trained; the memory bank. Activations
    #: are not counted: they depend on the batch size and on the precision.
    training_bytes: int
    #: the student's parameters
    deployed_bytes: int
    #: one view forward, with the heads
    teacher_macs: int
    #: one view forward, with the heads
    student_macs: int
    #: one view forward and backward, with the heads
    student_step_macs: int
    #: all views of one optimiser step
    step_macs: int
    #: all views of the run, with the making of its view bank and what the teacher is asked before the first step
    run_macs: int
    #: views of the whole run
    views: int
    #: optimiser steps of the whole run
    steps: int
    #: the teacher's answers to all views of a view bank; runs that share a bank make it once
    bank_macs: int = 0
    #: what a view bank holds on disk; runs that share a bank make it once
    bank_bytes: int = 0


def parameters(module: nn.Module) -> int:
    """The number of parameters (BatchNorm's running statistics are buffers and not counted)."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, images_shape: Sequence[int]) -> int:
    """Multiply-accumulates of one forward pass over a float32 batch of shape [B, 3, H, W].

    Convolutions and matrix products are counted; normalisation, activations, pooling and biases are not, as
    is usual. The module may be on any device and is not changed: zeros go through it, in place of its weights too. (On
    the `meta` device nothing would be computed, but torch imports its compiler for that, which takes longer.)
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    with torch.no_grad(), threads(1):  # for so little work several would wait for one another
        zeros = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors}
        with _Counter() as counter:
            functional_call(module, zeros, (torch.zeros(*images_shape),))
    return counter.macs


class _Counter(TorchDispatchMode):
    """Counts the MACs of what is computed under it."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler to keep it from compiling this

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple = (), kwargs: Mapping | None = None) -> Any:
        result = op(*args, **kwargs or {})
        if op.overloadpacket in _COUNTED:
            self.macs += _COUNTED[op.overloadpacket](result, *args)
        return result


def _convolution(result: Tensor, images: Tensor, weight: Tensor, bias: Any, *shape: Any) -> int:
    """Each output takes a filter's worth of MACs; transposed, each input does. shape: stride, ..., transposed, ..."""
    return (images if shape[3] else result).numel() * weight[0].numel()


#: Operation of torch -> its MACs, from its result and its arguments.
_COUNTED: Mapping[Any, Callable[..., int]] = {
    torch.ops.aten.convolution: _convolution,
    torch.ops.aten.mm: lambda result, a, b: result.numel() * a.shape[-1],
    torch.ops.aten.bmm: lambda result, a, b: result.numel() * a.shape[-1],
    torch.ops.aten.addmm: lambda result, added, a, b: result.numel() * a.shape[-1],
    torch.ops.aten.baddbmm: lambda result, added, a, b: result.numel() * a.shape[-1],
}


@cache
def _model(name: str, num_classes: int) -> Backbone:
    """A network without weights, made once: nothing here changes it."""
    with hollow():
        return create_model(name, num_classes).eval()


@cache
def model_size(name: str, num_classes: int, image_size: int) -> tuple[int, int]:
    """Parameters of a network by its name, and its forward MACs for a square image of `image_size` pixels."""
    model = _model(name, num_classes)
    return parameters(model), macs(model, (1, 3, image_size, image_size))


class _Headed(nn.Module):
    """A backbone and a head, run together."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


@dataclass(frozen=True)
class Extras:
    """What a method, or a view bank, adds to its networks in training."""

    #: parameters of heads and embeddings that are trained beside the student
    trained: int = 0
    #: parameters of heads and embeddings that are only kept
    frozen: int = 0
    #: bytes of the memory bank
    bank_bytes: int = 0
    #: forward MACs of one view in what is frozen
    teacher_macs: int = 0
    #: forward MACs of one view in what is trained
    student_macs: int = 0
    #: False where the student's backbone itself is frozen (the teacher's head is trained)
    trains_student: bool = True
    #: views that a view bank holds, all in all; steps then need no teacher
    stored_views: int = 0
    #: bytes that a view bank holds, all in all
    stored_bytes: int = 0
    #: views that the teacher is asked about before the first step
    surveyed_views: int = 0
    #: by how much the side of the student's image is smaller than that of the view
    shrinks: int = 1


def method_extras(
    method: str, options: Mapping, student_name: str, teacher_name: str | None, num_classes: int, image_size: int,
    images: int,
) -> Extras:  # fmt: skip
    """What `method` adds to a pair of networks, counted from the modules that it builds. images: of the training set.

    Raises ValueError for an unknown name or option.
    """
    definition = find_method(method)
    shrinks = definition.resolutions_of(method_options(method, options))[0].shrinks
    student = _model(student_name, num_classes)
    teacher = _model(teacher_name, num_classes) if teacher_name else None
    with hollow():
        own = new_head(method, student, options)
        given = new_head(definition.taught_by[0], teacher, {}) if definition.taught_by else None
        memory = new_memory(method, student, teacher, torch.arange(images, device="cpu"), options)
    trained, student_macs = _head_cost(student, own, student_name, num_classes, image_size // shrinks)
    frozen, teacher_macs = _head_cost(teacher, given, teacher_name, num_classes, image_size)
    if memory is not None:
        learnt = sum(p.numel() for p in memory.parameters() if p.requires_grad)
        trained, student_macs = trained + learnt, student_macs + memory.macs
        frozen += parameters(memory) - learnt
    bank = memory.bank_bytes if memory is not None else 0
    return Extras(
        trained, frozen, bank, teacher_macs, student_macs, definition.trains_student, shrinks=shrinks
    )  # fmt: skip


def _head_cost(
    backbone: Backbone | None, head: nn.Module | None, name: str | None, num_classes: int, image_size: int
) -> tuple[int, int]:
    if head is None:
        return 0, 0
    both = macs(_Headed(backbone, head.eval()), (1, 3, image_size, image_size))
    return parameters(head), both - model_size(name, num_classes, image_size)[1]


@cache
def arm_cost(
    student_name: str, teacher_name: str | None, num_classes: int, image_size: int, views_per_step: int, steps: int,
    extras: Extras = Extras(),  # noqa: B008 (frozen)
) -> Cost:  # fmt: skip
    """The cost of one run.

    A forward and backward pass is counted as three forward passes. For these networks the exact factor is
    2.96 to 3.00, because the first convolution needs no gradient of its input. What is frozen goes forward only, over
    every view that the student sees.

    student_name, teacher_name: names that `create_model` takes; None for a student without a teacher. Where a teacher's
    head is trained on its own backbone, that backbone is the student, and there is no teacher. image_size: the side of
    a square view in pixels, of which the student may be given less (see `Extras.shrinks`); steps: optimiser steps of
    the run; extras: what the method adds, see `method_extras`.
    Raises ValueError if a model name is unknown, or a count is below its minimum.
    """
    for field, value, minimum in (
        ("image_size", image_size, 1), ("views_per_step", views_per_step, 1), ("steps", steps, 0),
    ):  # fmt: skip
        if value < minimum:
            raise ValueError(f"{field} is {value}, but it must be at least {minimum}.")
    student, student_macs = model_size(student_name, num_classes, image_size // extras.shrinks)
    teacher, teacher_macs = model_size(teacher_name, num_classes, image_size) if teacher_name else (0, 0)
    learns = 3 if extras.trains_student else 1
    student_step_macs = learns * student_macs + 3 * extras.student_macs
    teacher_macs += extras.teacher_macs
    trained = extras.trained + (student if extras.trains_student else 0)
    weights = student + teacher + extras.trained + extras.frozen
    step_macs = views_per_step * (student_step_macs + (0 if extras.stored_views else teacher_macs))
    bank_macs = extras.stored_views * teacher_macs
    return Cost(
        student_parameters=student,
        teacher_parameters=teacher,
        extra_parameters=extras.trained + extras.frozen,
        training_bytes=BYTES * (weights + 2 * trained) + extras.bank_bytes,
        deployed_bytes=BYTES * student,
        teacher_macs=teacher_macs,
        student_macs=student_macs + extras.student_macs,
        student_step_macs=student_step_macs,
        step_macs=step_macs,
        run_macs=step_macs * steps + bank_macs + extras.surveyed_views * teacher_macs,
        views=views_per_step * steps,
        steps=steps,
        bank_macs=bank_macs,
        bank_bytes=extras.stored_bytes,
    )
