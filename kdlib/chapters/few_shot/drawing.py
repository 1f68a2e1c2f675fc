"""A picture of chapter 06: where a teacher looks, and the views that are made there."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.chapters.few_shot import ATTENDED, CROP, DROP, RANDOM_CROP, RANDOM_DROP
from kdlib.data.images import BUNDLED, ImageSet, load_data
from kdlib.lab.store import Store
from kdlib.lab.survey import maps
from kdlib.models.network import Network
from kdlib.randomness import uniforms
from kdlib.show.figures import tiles
from kdlib.show.pictures import some_ids
from kdlib.study.setting import Setting
from kdlib.views.attention import ATTENTION, PLACE, response

SHOWN = (DROP, RANDOM_DROP, "central drop", CROP, RANDOM_CROP)


def looked_at(count: int = 8) -> Figure:
    """Bundled test images, the map of the demonstrations' teacher on each, and what views are made of, uncropped."""
    images = load_data(BUNDLED).test
    rows = attended(images, torch.tensor(some_ids(images, count)), demonstration_teacher())
    return tiles(list(rows.values()), list(rows), scale=0.62)


def demonstration_teacher() -> Network:
    """The teacher of profile quick, which comes with the project."""
    network = Store("quick").network(Setting.of("quick", device="cpu").teacher(), "float32", False)
    return network.eval()


def attended(images: ImageSet, ids: Tensor, teacher: Network) -> Mapping[str, Tensor]:
    """Rows of images uint8 [n, 3, H, W] by name: those with the given ids, their maps in colour, and second views."""
    plain, known = images.images[ids], maps(teacher, images, ids)[ids].float()
    draws = {ATTENTION: known, PLACE: uniforms(0, PLACE, 0, len(images), 2)[ids]}
    colours = plt.get_cmap("viridis")(response(known, *plain.shape[-2:]).numpy(), bytes=True)[..., :3]
    rows = {"image": plain, "where the teacher looks": torch.from_numpy(colours).permute(0, 3, 1, 2)}
    return rows | {name: ATTENDED[name].create().sources[1](plain, draws, None) for name in SHOWN}
