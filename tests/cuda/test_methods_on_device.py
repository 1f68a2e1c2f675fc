"""Methods: losses and gradients of a GPU are those of a CPU, in float32 and about so in mixed precision."""

import copy

import torch
from material import DEVICE, ON_GPU, OnDevice, method, network, no_waiting, photographs, step

from kdlib.lab.machine import resolve_precision
from kdlib.methods import METHODS
from kdlib.methods.base import total


def gradients(name: str, device: str, precision: str = "float32") -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of one step, and all gradients as one vector."""
    made = method(name, precision).to(device)
    terms, _ = made(step(name, device))
    loss = total(terms)
    loss.backward()
    parts = [p.grad.flatten().float().cpu() for p in made.parameters() if p.grad is not None]
    return loss.detach().cpu(), torch.cat(parts)


class Methods(OnDevice):
    def test_losses_and_gradients_in_float32(self) -> None:
        for name in METHODS:
            with self.subTest(name):
                (loss, gradient), (expected, exact) = gradients(name, DEVICE), gradients(name, "cpu")
                self.assert_near(loss, expected, 1e-4)
                self.assert_near(gradient, exact, 2e-3)

    def test_mixed_precision_is_near(self) -> None:
        """Networks in half precision, losses in float32: logits are right to a few units of the last place."""
        for precision in ("bfloat16", "float16") if ON_GPU else ("bfloat16",):
            for name in ("kd", "ccd", "dkd", "crld", "tekap", "ls", "dist", "energy_kd", "energy_dkd"):
                with self.subTest(name, precision=precision):
                    loss, gradient = gradients(name, DEVICE, precision)
                    expected, exact = gradients(name, "cpu")
                    self.assertTrue(gradient.isfinite().all())
                    self.assert_near(loss, expected, 0.05)
                    cosine = torch.nn.functional.cosine_similarity(gradient, exact, dim=0).item()
                    self.assertGreater(cosine, 0.95)

    def test_a_folded_teacher_says_the_same(self) -> None:
        precision = resolve_precision(DEVICE)
        teacher = network(1, "resnet14").eval()
        images = photographs()
        with torch.no_grad():
            expected = teacher.logits(images)
            folded = copy.deepcopy(teacher).to(DEVICE).frozen()
            self.assert_near(folded.logits(images.to(DEVICE)), expected, 1e-3)
            mixed = network(1, "resnet14", precision).to(DEVICE).eval().frozen()
            self.assert_near(mixed.logits(images.to(DEVICE)), expected, 0.05)

    def test_no_loss_waits(self) -> None:
        for name in METHODS:
            with self.subTest(name):
                made, input_ = method(name).to(DEVICE), step(name, DEVICE)
                total(made(input_)[0]).backward()  # libraries choose their algorithms
                with no_waiting():
                    total(made(input_)[0]).backward()
