"""The explorers of the chapters, each a few lines on top of `kdlib.show.explorer`."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from kdlib.show import figures
from kdlib.show.explorer import Explorer

METRICS = {
    "top-1, %": "top1",
    "negative log-likelihood, nats": "nll",
    "calibration error (ECE)": "ece",
    "agreement with the teacher, %": "agreement",
    "KL to the teacher, nats": "kl_to_teacher",
    "top-1 on training images, %": "train_top1",
    "top-1 after re-estimating BatchNorm, %": "bn_top1",
}


def metrics(frame: pd.DataFrame, order: Sequence[str]) -> Explorer:
    """The arms by another measure."""
    shown = {label: name for label, name in METRICS.items() if not frame[name].isna().all()} or {"top-1, %": "top1"}
    about = "The same runs by another measure. Dots are seeds, the bar is their mean."
    return Explorer({"measure": list(shown)}, lambda label: figures.arms(frame, order, shown[label], label), about)


def measures(names: Mapping[str, str], draw: Callable[[str], figures.Figure]) -> Explorer:
    """A figure of bars by another measure; names: measure -> what it is called; draw: of a measure."""
    words = {text: measure for measure, text in names.items()}
    about = "Means over seeds, with 95 % intervals from three seeds on; dots are seeds."
    return Explorer({"measure": list(words)}, lambda text: draw(words[text]), about)


class Examples:
    """What a teacher said about single test images, from a stored measurement.

    images: uint8 [n, 2, 3, H, W], original and augmented view; logits: float [n, 2, classes]; w: float [n].
    """

    def __init__(self, images: Tensor, logits: Tensor, w: Tensor, labels: Sequence[str], classes: Sequence[str]):
        self.images, self.logits, self.w, self.labels, self.classes = images, logits, w, labels, classes

    def figure(self, temperature: float = 1.0) -> figures.Figure:
        """The original views above the teacher's answer at a temperature."""
        soft = (self.logits[:, 0] / temperature).softmax(1).numpy()
        return figures.answers(self.images[:, 0], self.labels, soft, self.classes)

    def temperatures(self, values: Sequence[float]) -> Explorer:
        """A slider over temperatures."""
        about = "The teacher's answer at several temperatures."
        return Explorer({"temperature": list(values)}, lambda t: self.figure(t), about)

    def explorer(self) -> Explorer:
        """One image at a time: both views, and the teacher's answer to each."""

        def render(number: int) -> figures.Figure:
            soft = self.logits[number].softmax(1).numpy()
            titles = ("original view", f"augmented view, w = {self.w[number]:.2f}")
            return figures.answers(self.images[number], titles, soft, self.classes)

        about = "A test image, its augmented view, and the probabilities that the teacher gives."
        return Explorer({"image": list(range(len(self.images)))}, render, about)


def gather_examples(stored: list[dict], images: Tensor, classes: Sequence[str]) -> Examples:
    """Examples from the records of a measurement and the views [n, 2, 3, H, W] they belong to."""
    logits = torch.tensor([[e["original"], e["augmented"]] for e in stored])
    w = torch.tensor([e["w"] for e in stored])
    return Examples(images, logits, w, [classes[e["label"]] for e in stored], classes)
