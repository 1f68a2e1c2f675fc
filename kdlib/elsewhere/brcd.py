"""BRCD from beginning to end: a head of hash codes on a frozen teacher, a student of it, and how well both find images.

Nothing in it reads a label but the search that grades it. The teacher's head learns from plain crops, so that all
students of a seed have one teacher, whatever their views.
"""

from collections.abc import Callable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from kdlib.data.images import ImageSet
from kdlib.data.sampling import Order
from kdlib.elsewhere.hashing import Check, HashHead, bit_masks, brcd_loss, cibhash_loss, codes, original_shares
from kdlib.elsewhere.retrieval import search_scores
from kdlib.lab.evaluate import EVALUATION_BATCH, eval_mode
from kdlib.lab.recipe import Policy
from kdlib.lab.survey import cropped_for
from kdlib.methods.clusters import k_means, nearest
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.randomness import draws_of, seeded
from kdlib.records import Number, Record, Whole

ALPHA = 0.8  # the least weight of the original view, as published
PLAIN = Policy(name="weak2")


class Hashing(Record):
    """One student of hash codes: all that decides it, beside teacher and images."""

    #: name of the network that learns, see kdlib.models.MODELS
    student: str
    #: makes the student's two views of an image
    policy: Policy
    #: what decides whether an augmented view counts, see `kdlib.elsewhere.hashing.original_shares`
    check: Check = "cluster"
    #: of a code
    bits: Whole = Field(16, ge=1)
    #: of the teacher's codes
    clusters: Whole = Field(10, ge=1)
    #: how often each image is seen, by the head of the teacher and by the student
    epochs: Whole = Field(ge=1)
    #: images of a step
    images_per_step: Whole = Field(64, ge=2)
    #: of Adam
    learning_rate: Number = Field(1e-3, gt=0)
    #: of every draw
    seed: Whole = Field(ge=0)


class Coder(nn.Module):
    """A network whose pooled features become hash codes. views: uint8 [B, 3, H, W] -> probabilities, float [B, L]."""

    def __init__(self, network: Network, bits: int, frozen: bool):
        super().__init__()
        self.network, self.frozen = network, frozen
        self.head = HashHead(network.backbone.feature_dim, bits)
        if frozen:
            network.requires_grad_(False)

    def train(self, mode: bool = True) -> "Coder":
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def forward(self, views: Tensor) -> Tensor:
        return self.head(self.network(views).pooled_feature)


def codes_on(coder: Coder, images: Tensor) -> Tensor:
    """Codes float32 [n, L] of uint8 images [n, 3, H, W], in eval mode and without gradient."""
    with torch.no_grad(), eval_mode(coder):
        return torch.cat([codes(coder(some)) for some in images.split(EVALUATION_BATCH)])


def steps(setup: Hashing, policy: Policy, images: ImageSet) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(x, x~, keys) of each step: uint8 [B, 3, H, W] twice, and one uniform number for each image, float32 [B]."""
    made = cropped_for(images, policy.create())
    order = Order(tuple(range(len(images))), len(images), setup.images_per_step, setup.seed)
    for step in range(setup.epochs * len(images) // setup.images_per_step):
        ids, epochs = order.at(step)
        draws = draws_of(setup.seed, {**made.roles, "check": 1}, epochs, ids, len(images))
        views = made(images.images[ids], draws)
        yield views[:, 0], views[:, 1], draws["check"][:, 0]


def fit(coder: Coder, loss: Callable[[Tensor, Tensor, Tensor], Tensor], setup: Hashing, batches: Iterator) -> None:
    """Trains what of a coder is not frozen with Adam; loss: of (x, x~, keys)."""
    coder.train()
    optimiser = torch.optim.Adam([p for p in coder.parameters() if p.requires_grad], lr=setup.learning_rate)
    for batch in batches:
        optimiser.zero_grad(set_to_none=True)
        loss(*batch).backward()
        optimiser.step()
    coder.eval()


def teacher_coder(setup: Hashing, teacher: Network, images: ImageSet) -> Coder:
    """A head of codes on the frozen features of a teacher, trained by CIBHash on two plain crops."""
    with seeded(setup.seed, "hash head of the teacher"):
        coder = Coder(teacher, setup.bits, frozen=True)
    fit(coder, lambda x, other, _: cibhash_loss(coder(x), coder(other)), setup, steps(setup, PLAIN, images))
    return coder


def student_coder(setup: Hashing, teacher: Coder, images: ImageSet) -> tuple[Coder, float]:
    """A student trained by CIBHash and BRCD, and the mean share of the augmented views in its positives, from 0 to 1.

    At a share of 1 every one counts as much as the loss allows.
    """
    with seeded(setup.seed, "student init"):
        backbone = create_model(setup.student, len(images.classes))
        coder = Coder(Network(backbone, images.mean, images.std), setup.bits, frozen=False)
    known = codes_on(teacher, images.evaluated)
    centres = k_means(known, setup.clusters)
    masks = bit_masks(known, nearest(known, centres), len(centres))
    kept: list[Tensor] = []

    def loss(x: Tensor, other: Tensor, keys: Tensor) -> Tensor:
        answers = codes_on(teacher, x), codes_on(teacher, other)
        clusters = nearest(answers[0], centres), nearest(answers[1], centres)
        shares = original_shares(answers, clusters, setup.check, ALPHA, keys)
        kept.append((1 - shares).mean() / (1 - ALPHA))
        own, augmented = coder(torch.cat([x, other])).chunk(2)
        taught = brcd_loss(codes(own), answers, clusters, shares, masks[clusters[0]])
        return cibhash_loss(own, augmented) + taught

    fit(coder, loss, setup, steps(setup, setup.policy, images))
    return coder, torch.stack(kept).mean().item()


def measure_hashing(setup: Hashing, teacher: Network, train: ImageSet, test: ImageSet) -> dict[str, float]:
    """Trains both and grades them; test images are the queries, training images what is searched.

    own_map, own_precision2: the student's codes among its own; old_map, old_precision2: among the teacher's, whose
    index is kept; teacher_map, teacher_precision2: the teacher's among its own; all in percent, see `search_scores`.
    kept: see `student_coder`. Raises ValueError for a policy that does not make two views of one image each, and for
    fewer images than a step has.
    """
    policy = setup.policy.create()
    if policy.views != 2 or policy.mixes or policy.picks:
        raise ValueError(f"policy {policy.name!r} is not possible; allowed are those of two views of one image, alike")
    if len(train) * setup.epochs < setup.images_per_step:
        raise ValueError(f"images_per_step = {setup.images_per_step} is too large; there are {len(train)} images")
    old = teacher_coder(setup, teacher, train)
    student, kept = student_coder(setup, old, train)
    indices = {"own": codes_on(student, train.evaluated), "old": codes_on(old, train.evaluated)}
    queries = {"own": codes_on(student, test.evaluated), "teacher": codes_on(old, test.evaluated)}
    pairs = {"own": ("own", "own"), "old": ("own", "old"), "teacher": ("teacher", "old")}
    found = {"kept": kept}
    for name, (query, index) in pairs.items():
        scores = search_scores(queries[query], test.labels, indices[index], train.labels)
        found |= {f"{name}_{key}": value for key, value in scores.items()}
    return found
