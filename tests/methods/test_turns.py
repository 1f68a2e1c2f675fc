"""What the methods that turn views have in common: which views have a label, and what counts as one image."""

import pytest
import torch

from kdlib.methods import METHODS, Batch
from kdlib.models import Output

from .conftest import CLASSES, IMAGES
from .turned import JOINT, readable_step, reading


@pytest.mark.parametrize("name", ["sskd_teacher", "sskd", "hsakd_teacher", "hsakd_joint_teacher", "hsakd"])
def test_the_sets_of_x_and_of_its_augmented_view_count_as_two_images(make_batch, loss_of, name: str):
    """8 views of 6 images (V = 2 views, each in four orientations) are 4 views of 12 images."""
    batch = make_batch(8, teacher=METHODS[name].trains_student, extra=(16,) if name.startswith("sskd") else JOINT)
    step = batch.step
    apart = step._replace(
        views=step.views.reshape(2 * IMAGES, 4, *step.views.shape[2:]), labels=step.labels.repeat_interleave(2)
    )
    (one, records), (other, others) = loss_of(name, batch), loss_of(name, Batch(apart, batch.student, batch.teacher))
    torch.testing.assert_close({n: t.value for n, t in one.items()}, {n: t.value for n, t in other.items()})
    torch.testing.assert_close(records, others)


@pytest.mark.parametrize("name", ["sskd", "hsakd"])
def test_only_upright_views_have_a_label(make_batch, loss_of, name: str):
    """A network that is right on upright views and wrong on all turned ones has no cross-entropy."""
    step = readable_step(name, "weak2")
    logits = reading(step.views, lambda y, r: (y if r == 0 else (y + 1) % CLASSES, CLASSES))
    other = make_batch(8, extra=(16,) if name == "sskd" else JOINT)
    extra = other.teacher.extra[: len(logits)].float()
    batch = Batch(step, Output(logits, logits, (), extra), Output(logits, logits, (), extra))
    terms, _ = loss_of(name, batch)
    assert terms["ce"].value < 1e-6
    wrong = Batch(step, Output(-logits, logits, (), extra), batch.teacher)
    assert loss_of(name, wrong)[0]["ce"].value > 10
