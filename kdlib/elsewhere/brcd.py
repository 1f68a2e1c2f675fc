"""BRCD from beginning to end: a head of hash codes on a frozen teacher, a student of it, and how well both find images.

Nothing in it reads a label but the search that grades it. The teacher's head learns from plain crops, so that all
students of a seed have one teacher, whatever their views.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.data.images import ImageSet, load_data
from kdlib.data.sampling import Order, stratified
from kdlib.elsewhere.hashing import HashHead, bit_masks, brcd_loss, cibhash_loss, codes, original_shares
from kdlib.elsewhere.retrieval import first_found, search_scores
from kdlib.lab.evaluate import EVALUATION_BATCH, eval_mode
from kdlib.lab.measurements import Hashing, HashingSpec
from kdlib.lab.recipe import Policy
from kdlib.lab.survey import cropped_for
from kdlib.methods.clusters import k_means, nearest
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.randomness import draws_of, seeded

ALPHA = 0.8  # the least weight of the original view, as published
PLAIN = Policy(name="weak2")
EXAMPLES, FOUND = 6, 8  # queries that are kept to be shown, and how many images of what each finds


class Coder(nn.Module):
    """A network whose pooled features become hash codes. views: uint8 [B, 3, H, W] -> probabilities, float32 [B, L].

    All of it is where the network is; views may be elsewhere.
    """

    def __init__(self, network: Network, bits: int, frozen: bool):
        super().__init__()
        self.network, self.frozen = network, frozen
        self.head = HashHead(network.backbone.feature_dim, bits).to(network.scale.device)
        if frozen:
            network.requires_grad_(False)

    def train(self, mode: bool = True) -> "Coder":
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def forward(self, views: Tensor) -> Tensor:
        return self.head(self.network(views.to(self.network.scale.device)).pooled_feature.float())


def codes_on(coder: Coder, images: Tensor) -> Tensor:
    """Codes float32 [n, L], on the CPU, of uint8 images [n, 3, H, W], in eval mode and without gradient."""
    with torch.no_grad(), eval_mode(coder):
        return torch.cat([codes(coder(some)).cpu() for some in images.split(EVALUATION_BATCH)])


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
        network = Network(backbone, images.mean, images.std).to(teacher.network.scale.device)
        network.precision = teacher.network.precision
        coder = Coder(network, setup.bits, frozen=False)
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
        there = [tensor.to(own.device) for tensor in (*answers, *clusters, shares, masks[clusters[0]])]
        taught = brcd_loss(codes(own), (there[0], there[1]), (there[2], there[3]), *there[4:])
        return cibhash_loss(own, augmented) + taught

    fit(coder, loss, setup, steps(setup, setup.policy, images))
    return coder, torch.stack(kept).mean().item()


def measure_hashing(
    setup: Hashing, teacher: Network, train: ImageSet, test: ImageSet, index: ImageSet | None = None
) -> dict[str, Any]:
    """Trains both and grades them: test images are the queries, `index` is searched, by default the training images.

    own_map, own_precision2: the student's codes among its own; old_map, old_precision2: among the teacher's, whose
    index is kept; teacher_map, teacher_precision2: the teacher's among its own; all in percent, see `search_scores`.
    kept: see `student_coder`. examples: of some queries, evenly spaced, their place (query) and those of what they find
    first in the index, own and old, see `first_found`. Raises ValueError for fewer images than a step has.
    """
    if len(train) * setup.epochs < setup.images_per_step:
        raise ValueError(f"images_per_step = {setup.images_per_step} is too large; there are {len(train)} images")
    index = train if index is None else index
    old = teacher_coder(setup, teacher, train)
    student, kept = student_coder(setup, old, train)
    indices = {"own": codes_on(student, index.evaluated), "old": codes_on(old, index.evaluated)}
    queries = {"own": codes_on(student, test.evaluated), "teacher": codes_on(old, test.evaluated)}
    found: dict[str, Any] = {"kept": kept, "examples": _examples(queries["own"], indices)}
    pairs = {"own": ("own", "own"), "old": ("own", "old"), "teacher": ("teacher", "old")}
    for name, (query, searched) in pairs.items():
        scores = search_scores(queries[query], test.labels, indices[searched], index.labels)
        found |= {f"{name}_{key}": value for key, value in scores.items()}
    return found


def _examples(queries: Tensor, indices: dict[str, Tensor]) -> list[dict[str, Any]]:
    """One record per query that is shown, see `measure_hashing`."""
    shown = torch.linspace(0, len(queries) - 1, min(EXAMPLES, len(queries))).long()
    found = {name: first_found(queries[shown], index, FOUND).tolist() for name, index in indices.items()}
    return [{"query": q, **{name: found[name][k] for name in found}} for k, q in enumerate(shown.tolist())]


def measure(spec: HashingSpec, teacher: Network) -> dict[str, Any]:
    """`measure_hashing` on the images that a spec names; places in its examples are those in the whole splits.

    images, index_images, queries: how many there were of each, as draws are rounded class by class.
    """
    data, seed = load_data(spec.data), spec.setup.seed
    learnt = drawn(data.train.labels, spec.images, seed, "images to hash")
    searched = drawn(data.train.labels, spec.index, 0, "searched images")
    asked = drawn(data.test.labels, spec.queries, 0, "queries")
    train, index = part(data.train, learnt), part(data.train, searched)
    found = measure_hashing(spec.setup, teacher, train, part(data.test, asked), index)
    counts = {"images": len(learnt), "index_images": len(searched), "queries": len(asked)}
    places = [
        {"query": int(asked[e["query"]])} | {name: searched[e[name]].tolist() for name in ("own", "old")}
        for e in found["examples"]
    ]
    return counts | found | {"examples": places}


def drawn(labels: Tensor, count: int | None, seed: int, role: str) -> Tensor:
    """Ascending int64 ids of about `count` images, stratified by labels int64 [N]; None, or too many, are all."""
    share = 1.0 if count is None else min(1.0, count / len(labels))
    return stratified(labels, torch.arange(len(labels)), share, seed, role)


def part(images: ImageSet, ids: Tensor) -> ImageSet:
    """Some images of a set, as one; its fingerprint stays that of the whole."""
    return replace(images, images=images.images[ids], labels=images.labels[ids])
