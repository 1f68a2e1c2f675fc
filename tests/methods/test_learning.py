"""Every method learns under every policy that it goes with: its own loss falls in 30 steps on 16 images."""

import numpy as np
import pytest
import torch

from kdlib.data.images import BUNDLED, load_data
from kdlib.lab.evaluate import with_batch_norm_from
from kdlib.methods import METHODS, Step, check_method, create_method, new_head, policies_of, total
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.randomness import seeded
from kdlib.views.policies import create_policy
from kdlib.views.policy import ViewPolicy

IMAGES, CLASSES, SIZE, STEPS = 16, 4, 11, 30


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes of the bundled set, in a ninth of their pixels."""
    train = load_data(BUNDLED).train
    ids = torch.cat([(train.labels == label).nonzero()[: IMAGES // CLASSES, 0] for label in range(CLASSES)])
    ids = ids.view(CLASSES, -1).T.flatten()  # each batch has all classes
    return train.images[ids][..., ::3, ::3].contiguous(), train.labels[ids]


def network(seed: int, images: torch.Tensor, head_of: str | None = None) -> Network:
    """With BatchNorm statistics of the images, so that the features of an untrained network differ between them."""
    with seeded(seed, "test"):
        backbone = create_model("resnet8", CLASSES)
        head = new_head(head_of, backbone, {}) if head_of else None
    return with_batch_norm_from(Network(backbone, (0.5,) * 3, (0.25,) * 3, head=head), images)


def steps_of(policy: ViewPolicy, images: torch.Tensor, labels: torch.Tensor) -> list[Step]:
    """Fixed views of the images, in batches of at most 32 views."""
    generator = torch.Generator().manual_seed(0)
    draws = {role: torch.rand(IMAGES, n, generator=generator) for role, n in policy.roles.items()}
    mixed = {"limits": (-6.0, -5.5)}
    if policy.mixes:
        partners = torch.arange(IMAGES).roll(1)
        mixed |= {"shares": policy.shares(draws, SIZE, SIZE), "partners": labels[partners]}
    views = policy(images, draws, images[partners] if policy.mixes else None)
    keys = torch.rand(IMAGES, generator=generator)
    return Step(views, labels, keys, torch.arange(IMAGES), **mixed).split(max(2, IMAGES * policy.views // 32))


@pytest.mark.parametrize(("name", "policy"), [(name, policy) for name in METHODS for policy in policies_of(name)])
def test_the_loss_falls(pictures, name: str, policy: str):
    torch.set_num_threads(1)
    definition = METHODS[name]
    views = check_method(name, definition.needs_teacher, create_policy(policy))
    parts = steps_of(views, *pictures)
    taught = definition.needs_teacher and definition.trains_student
    teacher = network(1, pictures[0], next(iter(definition.taught_by), None)) if taught else None
    options = {"negatives": 8} if name == "crd" else {}
    with seeded(0, "head"):
        method = create_method(name, network(0, pictures[0]), teacher, pictures[1], **options).train()
    weights = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=0.02, momentum=0.9, nesterov=True)
    losses = []
    for i in range(STEPS):
        optimiser.zero_grad()
        loss = total(method(parts[i % len(parts)]._replace(seed=i))[0])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        optimiser.step()
        method.after_step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
