"""What a run asks its teacher before the first step: answers to one plain crop of each training image, and its maps.

A method makes limits of the answers that hold for the whole run, and a policy that augments some images takes their
order by energy. A policy that augments where a network looks takes its maps of the plain images. The crops are a
function of the seed, so a run that goes on later knows the same.
"""

import torch
from torch import Tensor

from kdlib.data.images import ImageSet
from kdlib.lab.evaluate import EVALUATION_BATCH, logits_on
from kdlib.lab.specs import RunSpec
from kdlib.methods import Method, survey_of
from kdlib.methods.energy import energy
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.randomness import draws_of, seeded, uniforms
from kdlib.views.attention import ATTENTION, GRID, grid_of
from kdlib.views.policies import create_policy
from kdlib.views.policy import PICK, ViewPolicy, resized

BEFORE = -1  # an epoch that training never reaches


def surveyed(
    spec: RunSpec, method: Method, policy: ViewPolicy, images: ImageSet, ids: Tensor
) -> tuple[tuple[float, ...] | None, dict[str, Tensor]]:
    """(limits of the method, what the policy is given instead of uniforms); None, and nothing, where there is neither.

    ids: ascending int64 [n], the images that the run trains on. The second has, by role, one row for each image of the
    set, by its id: their `places` [N, 1], their `maps`, and the uniforms of `ViewPolicy.fixed` roles.
    """
    answers = ask(method.teacher, images, ids, spec.seed) if spec.surveys else None
    judge = survey_of(spec.method, method.options)
    limits = judge(answers) if judge else None
    known = {role: uniforms(spec.seed, role, BEFORE, len(images), policy.roles[role]) for role in policy.fixed}
    if policy.picks:
        known[PICK] = places(policy, answers, images, ids, spec.seed)[:, None]
    if policy.attends:
        network = method.teacher if policy.attends == "teacher" else untrained(spec, method.teacher, images)
        known[ATTENTION] = maps(network, images, ids)
    return limits, known


def untrained(spec: RunSpec, teacher: Network, images: ImageSet) -> Network:
    """A network like the teacher, with random weights: another for each seed. It computes in float32, since nothing
    keeps its features small."""
    with seeded(spec.seed, "untrained teacher"):
        backbone = create_model(spec.teacher_model, len(images.classes))
    network = Network(backbone, images.mean, images.std).frozen().to(spec.machine.device)
    network.resolution = teacher.resolution
    return network


@torch.no_grad()
def maps(network: Network, images: ImageSet, ids: Tensor) -> Tensor:
    """float16 [N, 64] in [0, 1], on the CPU: what the network's last stage makes of the plain images `ids` int64 [n],
    see `grid_of`; 0 for other images. Raises FloatingPointError if a response is nan or infinite."""
    found = torch.zeros(len(images), GRID * GRID, dtype=torch.float16)
    for some in ids.split(EVALUATION_BATCH):
        pixels = images.images[some].to(network.scale.device)
        with network.autocast(pixels):
            features = network.backbone(network.normalised(pixels)).stages[-1]
        found[some] = grid_of(features).half().cpu()
    if not found.isfinite().all():
        raise FloatingPointError("the features of the teacher's last stage are not finite: choose another one")
    return found


def ask(teacher: Network, images: ImageSet, ids: Tensor, seed: int) -> Tensor:
    """float32 [n, classes], on the CPU: the teacher's logits on one plain crop of the images `ids` int64 [n]."""
    plain = cropped_for(images, create_policy("weak1"))
    found = []
    for some in ids.split(EVALUATION_BATCH):
        draws = draws_of(seed, plain.roles, torch.full_like(some, BEFORE), some, len(images))
        found.append(logits_on(teacher, plain(images.images[some], draws)[:, 0]))
    return torch.cat(found)


def places(policy: ViewPolicy, answers: Tensor | None, images: ImageSet, ids: Tensor, seed: int) -> Tensor:
    """See `surveyed`. The random order is the seed's, one for the whole run, as the teacher's is."""
    if policy.picks == "random":
        keys = uniforms(seed, "order of picks", 0, len(images), 1)[ids, 0]
    else:
        keys = energy(answers) if policy.picks == "lowest" else -energy(answers)
    found = torch.zeros(len(images))
    found[ids[keys.argsort(stable=True)]] = (torch.arange(len(ids), dtype=torch.float64) / len(ids)).float()
    return found


def cropped_for(images: ImageSet, policy: ViewPolicy) -> ViewPolicy:
    """The policy with the crops that a data set asks for: padded, or random resized ones."""
    return policy if images.view_size is None else resized(policy, images.view_size)
