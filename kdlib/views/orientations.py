"""Spreading: methods that learn from rotations see each view of a policy in four orientations."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from kdlib.views.crops import quarter_turns, turned_crops
from kdlib.views.policies import POLICIES, create_policy
from kdlib.views.policy import Draws, ViewPolicy

#: Ways to see a view in four orientations, and the number of views that each makes of one.
SPREADS: Mapping[str, int] = {"none": 1, "turns": 4, "turned crops": 4}


def spread(policy: ViewPolicy, kind: str) -> ViewPolicy:
    """The policy with each of its views in four orientations; images must be square.

    The order is that of the policy's views, the four of each in a row, turned by 0, 90, 180 and 270 degrees
    counter-clockwise. kind "none": the policy itself. "turns" (HSAKD, Yang et al., IJCAI 2021): each crop,
    followed by its three quarter turns. "turned crops" (SSKD, Xu et al., ECCV 2020): the source image is flipped and
    turned, and each of its four orientations cropped on its own; the first of them is the policy's own view, bit for
    bit, and the others have a role of their own ("original crop turned", 6 uniforms).

    Raises ValueError for an unknown kind, and for a policy whose views are turned or mixed already.
    """
    if kind not in SPREADS:
        raise ValueError(f"spread = {kind!r} is unknown; allowed are {', '.join(SPREADS)}")
    if kind == "none":
        return policy
    if policy.spread != "none":
        raise ValueError(f"policy {policy.name!r} is already spread by {policy.spread!r}; allowed is to spread it once")
    if not policy.spreadable:
        allowed = ", ".join(name for name in POLICIES if create_policy(name).spreadable)
        raise ValueError(f"policy {policy.name!r} cannot be spread by {kind!r}; allowed are {allowed}")
    changes: dict[str, Any] = {"spread": kind, "views": SPREADS[kind] * policy.views}
    if kind == "turns":
        return replace(policy, after=_turn_all, **changes)
    roles = {_turned(source.crop): 6 for source in policy.sources}
    return replace(policy, crops=_crop_turned, roles={**policy.roles, **roles}, **changes)


def _turned(crop: str) -> str:
    """The role of the crops of a source image's three turned orientations."""
    return f"{crop} turned"


def _turn_all(crops: list[Tensor], draws: Draws) -> list[Tensor]:
    return [turn for crop in crops for turn in quarter_turns(crop)]


def _crop_turned(source: Tensor, crop: str, draws: Draws) -> list[Tensor]:
    return turned_crops(source, draws[crop], draws[_turned(crop)])
