"""A run of two stages, in each of which a fresh optimiser raises its learning rate and lets it fall to zero."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kdlib.elsewhere.rates import rate
from kdlib.lab.learning import Learner

CLIP = 5.0  # the largest norm of a gradient, as in SparK


class TwoStages(Learner):
    """What the runs of masked views have in common. A subclass says what a step of each stage loses."""

    #: steps of each stage
    stages: tuple[int, int]
    #: of each stage, the highest
    rates: tuple[float, float]
    #: what each stage is called where its loss is recorded
    names: tuple[str, str]

    def losses(self, stage: int, number: int) -> Tensor:
        """The loss of step 0, 1, 2, ... of stage 0 or 1, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} does not say its losses")

    def step(self, number: int) -> dict[str, Tensor]:
        stage = int(number >= self.stages[0])
        within = number - self.stages[0] * stage
        if within == 0:
            self.optimiser.state.clear()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rates[stage] * rate(within, self.stages[stage])
        self.module.train()
        loss = self.losses(stage, within)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), CLIP)
        self.optimiser.step()
        # recorded scalars are averaged over the run: so this becomes the mean of the stage
        return {"loss": loss, self.names[stage]: loss * (sum(self.stages) / self.stages[stage])}


def scored(scores: Mapping[str, float]) -> dict[str, float]:
    """Of `kdlib.lab.evaluate.scores` what the book compares."""
    return {name: scores[name] for name in ("top1", "nll", "ece")}
