"""Transforms of a program of one's own: they make the views of the studies, whatever they are given."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from kdlib.views.crops import crop_flip
from kdlib.views.jda import jda
from kdlib.views.randaugment import randaugment
from kdlib.views.transforms import JDA, CropFlip, RandAugment, TwoViews, Views

TRANSFORMS = {"jda": JDA("cifar100", p=0.8), "randaugment": RandAugment(), "crop": CropFlip()}


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def direct(name: str, batch: torch.Tensor) -> torch.Tensor:
    """The same from the functions of the studies, with torch's next uniforms."""
    known = {"jda": jda("cifar100", 0.8), "randaugment": randaugment()}
    if name == "crop":
        return crop_flip(batch, torch.rand(len(batch), 3))
    return known[name](batch, torch.rand(len(batch), known[name].draws))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_batch_an_image_and_a_picture_are_treated_alike(name):
    batch, transform = images(6), TRANSFORMS[name]
    torch.manual_seed(3)
    expected = direct(name, batch)
    torch.manual_seed(3)
    assert torch.equal(transform(batch), expected)
    for image in batch[:3]:
        torch.manual_seed(4)
        (alone,) = direct(name, image[None])
        torch.manual_seed(4)
        assert torch.equal(transform(image), alone)
        torch.manual_seed(4)
        picture = transform(Image.fromarray(image.permute(1, 2, 0).numpy()))
        assert isinstance(picture, Image.Image)
        assert np.array_equal(np.asarray(picture), alone.permute(1, 2, 0).numpy())


def test_images_of_a_batch_are_drawn_apart_and_the_input_stays_as_it_was():
    same = images(1).expand(64, -1, -1, -1).clone()
    before = same.clone()
    torch.manual_seed(0)
    assert len({made.numpy().tobytes() for made in JDA("cifar100")(same)}) > 50
    assert torch.equal(same, before)


def test_two_views_are_cropped_on_their_own_and_one_is_transformed():
    batch = images(200)
    torch.manual_seed(1)
    original, augmented = TwoViews(JDA("cifar100", p=0))(batch)
    assert original.shape == augmented.shape == batch.shape
    equal = (original == augmented).flatten(1).all(1).float().mean().item()
    assert equal < 0.05  # independent crops agree once in 9 * 9 * 2 = 162
    torch.manual_seed(1)
    assert torch.equal(original, crop_flip(batch, torch.rand(200, 3)))
    inverted = TwoViews(lambda image: 255 - image, crop=lambda image: image)(batch)
    assert torch.equal(inverted[0], batch) and torch.equal(inverted[1], 255 - batch)


@pytest.mark.parametrize(("policy", "views"), [("weak1", 1), ("jda", 2), ("rot4", 4), ("rot2", 2), ("cutout", 2)])
def test_all_views_of_a_policy(policy, views):
    for given in (images(5), images(1)[0]):
        made = Views(policy)(given)
        assert len(made) == views and all(view.shape == given.shape for view in made)
    if policy == "rot4":
        assert torch.equal(made[2], made[0].rot90(2, (1, 2)))


def test_they_compose_with_torchvision():
    chain = v2.Compose([TwoViews(JDA("cifar10")), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    original, augmented = chain(Image.fromarray(images(1)[0].permute(1, 2, 0).numpy()))
    assert original.dtype == augmented.dtype == torch.float32
    assert original.shape == (3, 32, 32) and 0 <= augmented.min() <= augmented.max() <= 1


class Grey(Dataset):
    """One image, over and over, through a transform."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int):
        return self.transform(torch.full((3, 32, 32), 128, dtype=torch.uint8))


def test_workers_draw_apart_and_a_seed_repeats_them():
    def epoch(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat(list(DataLoader(Grey(JDA("cifar100", p=0.9)), batch_size=4, num_workers=2)))

    first = epoch(0)
    assert torch.equal(first, epoch(0)) and not torch.equal(first, epoch(1))
    assert not torch.equal(first[:4], first[4:8])  # those of the two workers


@pytest.mark.parametrize("transform", [*TRANSFORMS.values(), TwoViews(JDA()), Views("rot4")], ids=repr)
def test_they_are_pickled_where_their_parts_are(transform):
    try:
        copy = pickle.loads(pickle.dumps(transform))
    except (pickle.PicklingError, AttributeError):
        pytest.fail("cannot be sent to a worker")
    torch.manual_seed(5)
    made = transform(images(2))
    torch.manual_seed(5)
    again = copy(images(2))
    for one, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (made, again)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (torch.zeros(3, 32, 32), TypeError, "image has the dtype torch.float32; allowed is torch.uint8"),
        (torch.zeros(1, 32, 32, dtype=torch.uint8), ValueError, r"image has the shape \[1, 32, 32\]; allowed are"),
        (torch.zeros(32, 32, dtype=torch.uint8), ValueError, r"image has the shape \[32, 32\]"),
        (Image.new("L", (32, 32)), ValueError, "image has the mode 'L'; allowed is 'RGB'"),
        (np.zeros((32, 32, 3), np.uint8), TypeError, "image is a ndarray; allowed are a PIL image and"),
    ],
)
def test_other_images_are_refused(image, error, said):
    for transform in TRANSFORMS.values():
        with pytest.raises(error, match=f"^{said}"):
            transform(image)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="p = 1.5 is not a probability"):
        JDA(p=1.5)
    with pytest.raises(ValueError, match="ops = 'svhn' is unknown"):
        JDA("svhn")
    with pytest.raises(ValueError, match="^policy = 'attention_drop' reads a map of a teacher, and is no transform"):
        Views("attention_drop")
    with pytest.raises(ValueError, match="policy = 'cutmix' mixes an image with others"):
        Views("cutmix")
