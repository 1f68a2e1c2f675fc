"""Which images a teacher was trained on."""

import torch

from kdlib.data.sampling import training_ids
from kdlib.lab.measurements import seen_ids
from kdlib.lab.recipe import Public

LABELS = torch.arange(50_000) % 100


def test_a_public_teacher_saw_all():
    assert seen_ids(Public(checkpoint="cifar100_resnet56"), LABELS).tolist() == list(range(50_000))


def test_a_teacher_of_ours_saw_what_it_was_trained_on(make_spec):
    assert len(seen_ids(make_spec(fraction=1.0), LABELS)) == 50_000
    half = seen_ids(make_spec(fraction=1.0, part="first half"), LABELS)
    assert half.tolist() == training_ids(LABELS, 0, 1.0, None, False, "first half").tolist()
    few = seen_ids(make_spec(fraction=0.5, pool=10_000, seed=3), LABELS)
    assert len(few) == 5000
    assert few.tolist() == training_ids(LABELS, 3, 0.5, 10_000, False).tolist()
