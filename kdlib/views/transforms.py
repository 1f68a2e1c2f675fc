"""Views in a training loop of your own: transforms that compose with those of torchvision.transforms.v2.

They take a PIL image in RGB, a uint8 tensor [3, H, W], or a batch [B, 3, H, W] on any device, of which every image is
drawn for itself, and return the same kind. Draws come from torch's default CPU generator: `torch.manual_seed` repeats
them, and each worker of a DataLoader has its own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from kdlib.views import crops, functional
from kdlib.views import jda as jda_ops
from kdlib.views import randaugment as randaugment_ops
from kdlib.views.policies import create_policy
from kdlib.views.policy import ViewPolicy

Picture = Image.Image | Tensor


class _Ops(nn.Module):
    """A list of ops, each image drawn for itself."""

    def __init__(self, transform: jda_ops.JDA | randaugment_ops.RandAugment):
        super().__init__()
        self.transform = transform

    def forward(self, image: Picture) -> Picture:
        """The augmented image, or images."""
        return _of_each(image, lambda batch: self.transform(batch, torch.rand(len(batch), self.transform.draws)))


class JDA(_Ops):
    """Joint Data Augmentation (Li et al., ACCV 2022): each op of a list fires with probability p.

    ops: "cifar100", "cifar10" or "imagenet", or a list of yours in `kdlib.views.jda.JDA_LISTS`; p: 0..1, None takes the
    list's own (0.3, 0.5, 0.2). Raises ValueError for other values, and TypeError or ValueError for other images.

    >>> import torch
    >>> images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    >>> JDA("cifar100", p=0.3)(images).shape
    torch.Size([4, 3, 32, 32])
    """

    transform: jda_ops.JDA

    def __init__(self, ops: str = "cifar100", p: float | None = None):
        super().__init__(jda_ops.jda(ops, p))
        self.ops = ops

    def extra_repr(self) -> str:
        return f"ops={self.ops!r}, p={self.transform.p:g}"


class RandAugment(_Ops):
    """RandAugment (Cubuk et al., NeurIPS 2020) with the ops of `kdlib.views.randaugment`.

    num_ops: drawn for each image; magnitude: of all of them, 0..10. Raises ValueError for other values.
    """

    def __init__(self, num_ops: int = 3, magnitude: int = 5):
        super().__init__(randaugment_ops.randaugment(num_ops, magnitude))


class CropFlip(nn.Module):
    """The weak view: a random crop from a frame of 4 black pixels, and a horizontal flip with probability 1/2."""

    def forward(self, image: Picture) -> Picture:
        """The crop of the image, or of each."""
        return _of_each(image, lambda batch: crops.crop_flip(batch, torch.rand(len(batch), 3)))


class TwoViews(nn.Module):
    """(x, x~) of an image: x is cropped, x~ goes through a transform first and is cropped on its own.

    crop: makes both crops; by default `CropFlip`. For distillation show both to student and teacher.

    >>> import torch
    >>> original, augmented = TwoViews(JDA("cifar100"))(torch.zeros(3, 32, 32, dtype=torch.uint8))
    >>> original.shape, augmented.shape
    (torch.Size([3, 32, 32]), torch.Size([3, 32, 32]))
    """

    def __init__(self, transform: Callable[[Picture], Picture], crop: Callable[[Picture], Picture] | None = None):
        super().__init__()
        self.transform, self.crop = transform, crop or CropFlip()

    def forward(self, image: Picture) -> tuple[Picture, Picture]:
        """The original view and the augmented view."""
        return self.crop(image), self.crop(self.transform(image))


class Views(nn.Module):
    """All views of a policy by name (see `kdlib.views.policies.POLICIES`), such as the four turns of "rot4".

    Raises ValueError for an unknown name or option, and for a policy that mixes an image with others or asks a teacher.

    >>> import torch
    >>> len(Views("rot4")(torch.zeros(3, 32, 32, dtype=torch.uint8)))
    4
    """

    def __init__(self, policy: str, **options: Any):
        super().__init__()
        self.made_of = (policy, options)
        self.policy: ViewPolicy = create_policy(policy, **options)
        if self.policy.mixes:
            raise ValueError(f"policy = {policy!r} mixes an image with others of its set, and is no transform of one")
        if self.policy.attends:
            raise ValueError(f"policy = {policy!r} reads a map of a teacher, and is no transform of an image alone")

    def forward(self, image: Picture) -> tuple[Picture, ...]:
        """The V views, the original one first."""
        batch, restored = _batched(image)
        draws = {role: torch.rand(len(batch), count) for role, count in self.policy.roles.items()}
        return tuple(restored(view) for view in self.policy(batch, draws).unbind(1))

    def __reduce__(self) -> tuple:
        """Policies hold functions, which are not pickled: a worker of a DataLoader makes its own."""
        name, options = self.made_of
        return partial(Views, name, **options), ()


def _of_each(image: Picture, change: Callable[[Tensor], Tensor]) -> Picture:
    batch, restored = _batched(image)
    return restored(change(batch))


def _batched(image: Picture) -> tuple[Tensor, Callable[[Tensor], Picture]]:
    """A batch of what was given, and how to make of such a batch what was given."""
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise ValueError(f"image has the mode {image.mode!r}; allowed is 'RGB', see image.convert")
        return functional.pil_to_tensor(image)[None], lambda batch: functional.to_pil_image(batch[0])
    if not isinstance(image, Tensor):
        raise TypeError(f"image is a {type(image).__name__}; allowed are a PIL image and a uint8 tensor")
    if image.dtype != torch.uint8:
        raise TypeError(f"image has the dtype {image.dtype}; allowed is torch.uint8, before it is normalised")
    if image.ndim not in (3, 4) or image.shape[-3] != 3:
        raise ValueError(f"image has the shape {list(image.shape)}; allowed are [3, H, W] and [B, 3, H, W]")
    return (image, lambda batch: batch) if image.ndim == 4 else (image[None], lambda batch: batch[0])
