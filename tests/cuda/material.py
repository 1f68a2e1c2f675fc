"""What the checks of a GPU are made of: machines, networks, batches and short runs, from the bundled images.

The checks use unittest and the core's requirements alone, so that they run where nothing else is installed.
KDLIB_CHECKED_DEVICE=cpu runs what of them a CPU can do, which tries the checks themselves.
"""

import os
import unittest
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from kdlib.data.images import BUNDLED, load_data
from kdlib.lab import machine
from kdlib.lab.recipe import Machine, Policy, Recipe
from kdlib.lab.specs import RunSpec
from kdlib.methods import METHODS, Method, Step, create_method, new_head
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.randomness import draws_of, seeded
from kdlib.views.policies import POLICIES, create_policy
from kdlib.views.policy import ViewPolicy

DEVICE = os.environ.get("KDLIB_CHECKED_DEVICE", "cuda")
ON_GPU = DEVICE == "cuda"
HERE = not ON_GPU or torch.cuda.is_available()
IMAGES, CLASSES = 16, 10


@unittest.skipUnless(HERE, "torch sees no GPU here")
class OnDevice(unittest.TestCase):
    """A check on the device, in float32 that is float32, with an empty store."""

    def setUp(self) -> None:
        machine.prepare(1)
        folder = self.enterContext(TemporaryDirectory())
        places = {name: str(Path(folder) / name) for name in ("KDLIB_RUNS", "KDLIB_RESULTS", "KDLIB_BANKS")}
        self.folder = Path(folder)
        self.enterContext(mock.patch.dict(os.environ, places))

    def assert_near(self, found: Tensor, expected: Tensor, tolerance: float) -> None:
        """Within a share of the largest of the expected numbers."""
        self.assertEqual(found.shape, expected.shape)
        distance = (found.detach().cpu().double() - expected.detach().cpu().double()).abs().max().item()
        self.assertLessEqual(distance, tolerance * max(expected.detach().abs().max().item(), 1e-3))


def photographs(count: int = IMAGES) -> Tensor:
    """uint8 [count, 3, 32, 32] in colour: three bundled images are the channels of one."""
    grey = load_data(BUNDLED).train.images[: 3 * count, 0]
    return grey.view(count, 3, *grey.shape[1:])


def draws(policy: ViewPolicy, count: int = IMAGES) -> dict[str, Tensor]:
    """Uniforms by role, on the CPU."""
    ids = torch.arange(count)
    return draws_of(0, policy.roles, torch.zeros_like(ids), ids, count)


def network(seed: int, name: str = "resnet8", precision: str = "float32", head_of: str | None = None) -> Network:
    """Fixed weights, and BatchNorms that have seen the images; on the CPU, and the head of a method if one is named."""
    with seeded(seed, "check"):
        backbone = create_model(name, CLASSES)
        head = new_head(head_of, backbone, {}) if head_of else None
    made = Network(backbone, (0.5,) * 3, (0.25,) * 3, precision, head)
    with torch.no_grad():
        made.train()(photographs())
    return made


def method(name: str, precision: str = "float32") -> Method:
    """A method around small networks, on the CPU, with the teacher and the head that it needs."""
    definition = METHODS[name]
    taught = definition.needs_teacher and definition.trains_student
    head = definition.taught_by[0] if definition.taught_by else None
    teacher = network(1, "resnet14", precision, head) if taught else None
    # CRD draws where its banks are: a GPU draws as a CPU does if it draws all other images.
    options, known = ({"negatives": IMAGES - 1}, torch.arange(IMAGES)) if name == "crd" else ({}, labels())
    with seeded(0, "head of the check"):
        return create_method(name, network(0, precision=precision), teacher, known, **options).train()


def labels() -> Tensor:
    """int64 [IMAGES]"""
    return torch.arange(IMAGES) % CLASSES


def step(name: str, device: str) -> Step:
    """A step of a method with views of the first policy that fits, made on the CPU and moved."""
    from kdlib.methods import policies_of
    from kdlib.methods.method import check_method

    definition = METHODS[name]
    wanted = next(policy for policy in ("jda", *POLICIES) if policy in policies_of(name))
    policy = check_method(name, definition.needs_teacher, create_policy(wanted))
    views = policy(photographs(), draws(policy), photographs().flip(0) if policy.mixes else None)
    keys = torch.rand(IMAGES, generator=torch.Generator().manual_seed(3))
    return Step(
        views.to(device), labels().to(device), keys.to(device), torch.arange(IMAGES), seed=5, limits=(-12.0, -10.0)
    )


def run(student: str = "resnet8", policy: str = "jda", precision: str = "float32", **fields: Any) -> RunSpec:
    """A run of twelve steps on 96 images."""
    views = Policy(name=policy)
    recipe = Recipe(
        views_per_step=16 * views.views, views_per_image=2 * views.views, learning_rate=0.02, weight_decay=5e-4,
        evaluations=2,
    )  # fmt: skip
    own = {"method": "ce", "machine": Machine(device=DEVICE, precision=precision)}
    return RunSpec(data=BUNDLED, pool=96, student=student, policy=views, recipe=recipe, seed=0, **own | fields)


def distilled(method: str = "kd", precision: str = "float32", **fields: Any) -> RunSpec:
    """The same with a teacher that is a run."""
    teacher = run("resnet14", "weak1", precision)
    return run(method=method, precision=precision, teacher=teacher, **fields)


@contextmanager
def no_waiting():
    """Inside, what waits for the GPU raises RuntimeError. Does nothing on a CPU."""
    if not ON_GPU:
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
