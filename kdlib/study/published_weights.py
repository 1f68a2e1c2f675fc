"""Weights of methods that were published for single pairs of networks."""

from typing import Any

from kdlib.study.setting import Setting

# The weight of DKD's non-target part by pair of networks, as published; other pairs take the method's default, as the
# paper's other pairs do. Of the smaller student of profile reference the nearest published pair is ResNet-56 -> 20.
DKD_BETA = {
    ("wrn_40_2", "wrn_16_2"): 6.0, ("wrn_40_2", "wrn_40_1"): 6.0, ("vgg13", "vgg8"): 6.0, ("vgg13", "mobilenetv2"): 6.0,
    ("resnet56", "resnet20"): 2.0, ("cifar100_resnet56", "resnet8"): 2.0,
}  # fmt: skip


def dkd_options(setting: Setting) -> dict[str, Any]:
    """The options of DKD for the pair of a setting."""
    beta = DKD_BETA.get(setting.networks)
    return {"beta": beta} if beta else {}
