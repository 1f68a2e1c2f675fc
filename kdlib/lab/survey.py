"""What a run asks its teacher before the first step: its answers to one plain crop of each training image.

A method makes limits of them that hold for the whole run, and a policy that augments some images takes their order by
energy. The crops are a function of the seed, so a run that goes on later knows the same.
"""

import torch
from torch import Tensor

from kdlib.data.images import ImageSet
from kdlib.lab.evaluate import EVALUATION_BATCH, logits_on
from kdlib.lab.specs import RunSpec
from kdlib.methods import Method, survey_of
from kdlib.methods.energy import energy
from kdlib.models.network import Network
from kdlib.randomness import draws_of, uniforms
from kdlib.views.policies import create_policy
from kdlib.views.policy import ViewPolicy, resized

BEFORE = -1  # an epoch that training never reaches


def surveyed(
    spec: RunSpec, method: Method, policy: ViewPolicy, images: ImageSet, ids: Tensor
) -> tuple[tuple[float, ...] | None, Tensor | None]:
    """(limits of the method, places of the images), each None where the method or the policy has none.

    ids: ascending int64 [n], the images that the run trains on. The places are float32 [N] by image id, k / n for the
    k-th of the n images in the order of the policy, from 0; see `ViewPolicy.picks`.
    """
    answers = ask(method.teacher, images, ids, spec.seed) if spec.surveys else None
    judge = survey_of(spec.method, method.options)
    limits = judge(answers) if judge else None
    return limits, places(policy, answers, images, ids, spec.seed) if policy.picks else None


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
