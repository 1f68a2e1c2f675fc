"""Policy he_da: which images are augmented, and that their views are those of the policies that it stands between."""

import pytest
import torch
from torch import Tensor

from kdlib.randomness import uniforms
from kdlib.views.policies import create_policy
from kdlib.views.policy import ViewPolicy

VIEWS = ("jda", "cutmix")


def draws_of(policy: ViewPolicy, count: int, places: Tensor | None = None) -> dict[str, Tensor]:
    draws = {role: uniforms(3, role, 0, count, n) for role, n in policy.roles.items()}
    return draws if places is None else draws | {"pick": places[:, None]}


def made(tiles: Tensor, name: str, places: Tensor | None = None, **options) -> Tensor:
    policy = create_policy(name, **options)
    return policy(tiles, draws_of(policy, len(tiles), places), tiles.roll(7, 0) if policy.mixes else None)


def an_order(count: int) -> Tensor:
    """The place of each image in a random order, as a run gives it."""
    return (uniforms(5, "order", 0, count, 1).squeeze(1).argsort().argsort().double() / count).float()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.9, 1])
def test_exactly_a_share_of_the_images_is_augmented_and_the_first_of_the_order(tiles: Tensor, view: str, share: float):
    places = an_order(len(tiles))
    views = made(tiles, "he_da", places, view=view, share=share)
    plain, augmented = made(tiles, "weak2"), made(tiles, view)
    first = places.argsort()[: round(share * len(tiles))]
    chosen = torch.zeros(len(tiles), dtype=torch.bool)
    chosen[first] = True
    assert int(chosen.sum()) == round(share * len(tiles))
    assert torch.equal(views[chosen], augmented[chosen]) and torch.equal(views[~chosen], plain[~chosen])
    assert torch.equal(views[:, 0], plain[:, 0])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("by", ["highest", "lowest", "random"])
def test_all_is_the_augmentation_and_none_is_weak2_bit_for_bit(tiles: Tensor, view: str, by: str):
    """So "chosen images get a plain crop" needs no arm: whoever is chosen, it is weak2."""
    assert torch.equal(made(tiles, "he_da", view=view, share=1, by=by), made(tiles, view))
    assert torch.equal(made(tiles, "he_da", view=view, share=0, by=by), made(tiles, "weak2"))


def test_shares_of_labels_are_those_of_cutmix_where_it_is_chosen(tiles: Tensor):
    policy, places = create_policy("he_da", share=0.4), an_order(len(tiles))
    draws = draws_of(policy, len(tiles), places)
    mixed = create_policy("cutmix").shares(draws, 32, 32)
    expected = torch.where((places < 0.4)[:, None], mixed, torch.ones(1))
    assert torch.equal(policy.shares(draws, 32, 32), expected) and (expected[:, 1] < 1).any()
    assert create_policy("he_da", view="jda").shares(draws, 32, 32) is None


@pytest.mark.parametrize("view", VIEWS)
def test_it_is_as_diverse_as_the_policies_between_which_it_stands(view: str):
    policy = create_policy("he_da", view=view)
    assert policy.distinct == policy.views == 2
    assert policy.mixes == create_policy(view).mixes and not policy.spreadable and not policy.by_batch
    assert policy.roles == create_policy(view).roles | {"pick": 1}


def test_views_of_an_image_do_not_depend_on_its_batch(tiles: Tensor):
    policy, ids = create_policy("he_da", view="jda"), torch.tensor([31, 2, 17])
    few = {role: values[ids] for role, values in draws_of(policy, len(tiles)).items()}
    assert torch.equal(policy(tiles[ids], few), made(tiles, "he_da", view="jda")[ids])


def test_what_it_picks_by_is_said_for_the_caller():
    for by in ("highest", "lowest", "random"):
        assert create_policy("he_da", by=by).picks == by
    assert create_policy("jda").picks is None
