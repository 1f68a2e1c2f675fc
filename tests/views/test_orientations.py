"""Spreading: four orientations of each view, against NumPy's rot90 and slow crops; what can be spread and what not."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdlib.randomness import uniforms
from kdlib.views.jda import jda
from kdlib.views.orientations import SPREADS, spread
from kdlib.views.policies import POLICIES, create_policy
from kdlib.views.policy import ViewPolicy
from kdlib.views.randaugment import randaugment

SPREADABLE: dict[str, dict[str, Any]] = {
    "weak1": {}, "weak2": {}, "twin": {}, "jda": {"p": 0.7}, "randaugment": {"magnitude": 9},
    "share": {"p": 0.7, "share": 0.3}, "attention_crop": {"by": "fresh"}, "attention_drop": {"by": "fresh"},
}  # fmt: skip


def draws_of(policy: ViewPolicy, count: int) -> dict[str, Tensor]:
    return {role: uniforms(3, role, 0, count, n) for role, n in policy.roles.items()}


def slow_turned_crops(image: np.ndarray, crop: np.ndarray, others: np.ndarray) -> np.ndarray:
    """SSKD's four crops of one image: flip, turn, pad each, and crop each on its own."""
    results, (row, column, flip) = [], crop
    if flip < 0.5:
        image = image[:, :, ::-1]
    first = int(row * 9), 8 - int(column * 9) if flip < 0.5 else int(column * 9)  # of a frame that is flipped too
    places = [first] + [(int(row * 9), int(column * 9)) for row, column in others.reshape(3, 2)]
    for turns, (y, x) in enumerate(places):
        padded = np.pad(np.rot90(image, turns, (1, 2)), ((0, 0), (4, 4), (4, 4)))
        results.append(padded[:, y : y + 32, x : x + 32])
    return np.stack(results)


def test_none_is_the_policy_itself():
    for name in POLICIES:
        policy = create_policy(name)
        assert spread(policy, "none") is policy


@pytest.mark.parametrize("kind", ["turns", "turned crops"])
@pytest.mark.parametrize("name", SPREADABLE)
def test_the_first_of_each_four_is_the_policys_own_view(tiles: Tensor, name: str, kind: str):
    policy, before = create_policy(name, **SPREADABLE[name]), tiles.clone()
    wide = spread(policy, kind)
    views = wide(tiles, draws_of(wide, 40))
    assert (wide.name, wide.spread, wide.views) == (name, kind, SPREADS[kind] * policy.views)
    assert views.shape == (40, wide.views, 3, 32, 32) and views.dtype == torch.uint8
    assert torch.equal(views[:, ::4], policy(tiles, draws_of(policy, 40)))
    assert torch.equal(tiles, before)
    assert policy.spread == "none"
    assert all(wide.roles[role] == n for role, n in policy.roles.items())


@pytest.mark.parametrize("name", SPREADABLE)
def test_turns_are_numpys_rot90_of_each_crop(tiles: Tensor, name: str):
    policy = create_policy(name, **SPREADABLE[name])
    wide = spread(policy, "turns")
    assert wide.roles == policy.roles
    draws = draws_of(wide, 40)
    crops, views = policy(tiles, draws).numpy(), wide(tiles, draws).numpy()
    for view in range(policy.views):
        for turns in range(4):
            assert np.array_equal(views[:, 4 * view + turns], np.rot90(crops[:, view], turns, (2, 3)))


@pytest.mark.parametrize("name", ["weak1", "weak2", "jda", "randaugment"])
def test_turned_crops_equal_the_slow_reference(tiles: Tensor, name: str):
    policy = create_policy(name, **SPREADABLE[name])
    wide = spread(policy, "turned crops")
    draws = draws_of(wide, 40)
    transform = {"jda": jda(p=0.7), "randaugment": randaugment(magnitude=9)}.get(name)
    sources = {"original crop": tiles}
    if policy.views == 2:
        sources["augmented crop"] = tiles if transform is None else transform(tiles, draws["augmented ops"])
    assert wide.roles == policy.roles | {f"{crop} turned": 6 for crop in sources}
    views = wide(tiles, draws)
    for k in range(40):
        expected = [
            slow_turned_crops(image[k].numpy(), draws[crop][k].numpy(), draws[f"{crop} turned"][k].numpy())
            for crop, image in sources.items()
        ]
        assert np.array_equal(views[k].numpy(), np.concatenate(expected))


def test_the_first_crop_at_every_place_and_flip(tiles: Tensor):
    """All 9 x 9 x 2 crops, none left to chance."""
    wide = spread(create_policy("weak1"), "turned crops")
    places = [(row, column, flip) for row in range(9) for column in range(9) for flip in (0.25, 0.75)]
    crop = torch.tensor([[(row + 0.5) / 9, (column + 0.5) / 9, flip] for row, column, flip in places])
    draws = {"original crop": crop, "original crop turned": uniforms(0, "original crop turned", 0, len(crop), 6)}
    images = tiles[torch.arange(len(crop)) % 40]
    for image, views, one, others in zip(images, wide(images, draws), *draws.values(), strict=True):
        assert np.array_equal(views.numpy(), slow_turned_crops(image.numpy(), one.numpy(), others.numpy()))


@pytest.mark.parametrize("kind", ["turns", "turned crops"])
@pytest.mark.parametrize("name", SPREADABLE)
def test_spread_policies_run_on_the_meta_device(name: str, kind: str):
    policy = spread(create_policy(name), kind)
    views = policy(torch.empty(8, 3, 32, 32, dtype=torch.uint8, device="meta"), draws_of(policy, 8))
    assert views.device.type == "meta" and views.shape == (8, policy.views, 3, 32, 32)


@pytest.mark.parametrize("kind", ["turns", "turned crops"])
def test_what_cannot_be_spread_is_named_with_what_can(tiles: Tensor, kind: str):
    for name in POLICIES:
        policy = create_policy(name)
        assert policy.spreadable == (name in SPREADABLE)
        if policy.spreadable:
            with pytest.raises(ValueError, match=f"^policy '{name}' is already spread by '{kind}'"):
                spread(spread(policy, kind), "turns")
        else:
            with pytest.raises(ValueError, match=f"^policy '{name}' cannot be spread by '{kind}'; .*weak1.*jda") as one:
                spread(policy, kind)
            assert "\n" not in str(one.value) and "rot4" not in str(one.value).split(";")[1]
    with pytest.raises(ValueError, match="^images of 24 x 32 pixels cannot be turned by 90 degrees"):
        policy = spread(create_policy("weak1"), kind)
        policy(tiles[:, :, :24], draws_of(policy, 40))


def test_unknown_kinds_are_refused():
    for kind in ("turn", "", None):
        with pytest.raises(ValueError, match=f"^spread = {kind!r} is unknown; allowed are none, turns, turned crops$"):
            spread(create_policy("weak1"), kind)
