"""The optimiser of a run: SGD with its learning rate over the run, and one step of it, whole or in parts."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlib.lab import distributed
from kdlib.lab.recipe import Recipe
from kdlib.lab.specs import RunSpec
from kdlib.lab.task import Task
from kdlib.methods import Step, total


def rate(recipe: Recipe, done: float) -> float:
    """The learning rate when the share `done` in [0, 1) of the steps is behind."""
    if recipe.schedule == "steps":
        return recipe.learning_rate * 0.1 ** sum(done >= m for m in recipe.milestones)
    warm_up = 0.2
    if done < warm_up:
        return recipe.learning_rate * (0.04 + 0.96 * done / warm_up)
    return recipe.learning_rate * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))) / 2


@dataclass(frozen=True)
class Optimisation:
    """SGD as the recipe says, and the scaler of float16."""

    recipe: Recipe
    weights: list[Tensor]
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    @classmethod
    def of(cls, task: Task) -> "Optimisation":
        """For all weights of a task that are trained."""
        return cls.over([p for p in task.method.parameters() if p.requires_grad], task.spec)

    @classmethod
    def over(cls, weights: list[Tensor], spec: RunSpec) -> "Optimisation":
        """For these weights, as a spec says."""
        recipe, machine = spec.recipe, spec.machine
        optimiser = torch.optim.SGD(
            weights, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )  # fmt: skip
        scaler = torch.amp.GradScaler(machine.device, enabled=machine.precision == "float16")
        return cls(recipe, weights, optimiser, scaler)

    def begin(self, done: float) -> None:
        """Sets the learning rate when the share `done` of the run is behind, and forgets the gradients."""
        self.tell(done)
        self.optimiser.zero_grad(set_to_none=True)

    def tell(self, done: float) -> None:
        """Sets the learning rate when the share `done` of the run is behind."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.recipe, done)

    def step(self, module: nn.Module, batch: Step, done: float) -> list[dict[str, Tensor]]:
        """One step when the share `done` of the run is behind; the loss, its terms and the records of each part."""
        self.begin(done)
        scalars = self.gradients(module, batch)
        self.move()
        return scalars

    def gradients(self, module: nn.Module, batch: Step) -> list[dict[str, Tensor]]:
        """Those of a step, clipped if the recipe says so; the loss, its terms and the records of each part."""
        parts, scalars = batch.split(self.recipe.micro_batches), []
        for i, part in enumerate(parts):
            with distributed.gradients_kept(module, i + 1 < len(parts)):
                terms, records = module(part)
                loss = total(terms)
                self.scaler.scale(loss / len(parts)).backward()
            scalars.append({"loss": loss} | {n: t.value for n, t in terms.items()} | records)
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            torch.nn.utils.clip_grad_norm_(self.weights, self.recipe.clip_norm)
        return scalars

    def move(self) -> None:
        """Moves the weights by their gradients."""
        self.scaler.step(self.optimiser)
        self.scaler.update()

    @torch.no_grad()
    def ways(self) -> tuple[list[Tensor], list[Tensor]]:
        """The weights that have a gradient, and the way d that each goes in p - lr d: what `torch.optim.SGD` does
        before that line, by the same operations. It moves the momentum, which the optimiser has made in a step before.
        """
        weights = [weight for weight in self.weights if weight.grad is not None]
        found = [weight.grad for weight in weights]
        if self.recipe.weight_decay:
            found = torch._foreach_add(found, weights, alpha=self.recipe.weight_decay)
        if self.recipe.momentum:
            moving = [self.optimiser.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_mul_(moving, self.recipe.momentum)
            torch._foreach_add_(moving, found)
            found = torch._foreach_add(found, moving, alpha=self.recipe.momentum) if self.recipe.nesterov else moving
        return weights, list(found)

    @torch.no_grad()
    def go(self, weights: list[Tensor], ways: list[Tensor]) -> None:
        """That line, with the learning rate that was told."""
        torch._foreach_add_(weights, ways, alpha=-self.optimiser.param_groups[0]["lr"])
