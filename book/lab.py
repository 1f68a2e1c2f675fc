"""Writes what the page "The lab" is made from: the lists of ops, the teacher's weights, the example pictures.

    python book/lab.py    the weights, the pictures and the figure for print, from the public checkpoint and CIFAR-100

The build writes the lists itself, so that the page has those of the code. The rest is committed: the page then works
for everybody, and this program is run again only to change it.
"""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlib.views.jda import JDA_LISTS
from kdlib.views.ops import OPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from kdlib.models.network import Network

STATIC = Path(__file__).resolve().parent / "_static"
CHECKPOINT = "cifar100_resnet20"
WEIGHTS, PICTURES, FIGURE = (
    STATIC / name for name in ("vendor/teacher/resnet20.js", "lab/pictures.js", "lab/without_script.png")
)
#: The classes whose first test image is offered.
OFFERED = ("castle", "leopard", "sunflower", "bicycle", "dolphin", "pickup_truck", "mushroom", "clock")
DRAWN = 3  # of the pictures are in the figure


def script(name: str, value: Any) -> str:
    """A script that sets one field of the lab, for a page that cannot fetch data: it may be opened from a disk."""
    return f"(window.kdlab = window.kdlab || {{}}).{name} = {json.dumps(value)};\n"


def lists() -> str:
    """The lists of JDA and the table of ops, as a script."""
    ops = {name: {"magnitudes": op.magnitudes, "neutral": op.neutral, "signed": op.signed} for name, op in OPS.items()}
    jda_lists = {name: {"p": p, "ops": table} for name, (p, table) in JDA_LISTS.items()}
    return script("lists", jda_lists) + script("ops", ops)


def teacher() -> "Network":
    """The public teacher with folded BatchNorms. Raises FileNotFoundError if its checkpoint is not on this machine."""
    from kdlib.data.paths import checkpoint_root
    from kdlib.models.checkpoints import find_checkpoint, load_checkpoint
    from kdlib.models.network import Network

    public = find_checkpoint(CHECKPOINT)
    return Network(load_checkpoint(CHECKPOINT, checkpoint_root()), public.mean, public.std).frozen()


def weights(network: "Network", classes: tuple[str, ...]) -> str:
    """The teacher as a script: its weights in float32, one after another, laid out as TensorFlow.js reads them."""
    from kdlib.models.checkpoints import find_checkpoint

    public = find_checkpoint(CHECKPOINT)
    laid = {name: _laid(values) for name, values in network.backbone.state_dict().items()}
    raw = b"".join(values.numpy().astype("<f4").tobytes() for values in laid.values())
    said = {"name": public.name, "source": public.url, "licence": public.licence, "contents": public.contents}
    said |= {"mean": public.mean, "std": public.std, "classes": classes}
    shapes = {name: list(values.shape) for name, values in laid.items()}
    return script("teacher", said | {"shapes": shapes, "values": base64.b64encode(raw).decode()})


def _laid(values: "Tensor") -> "Tensor":
    """[out, in, h, w] to [h, w, in, out], and [out, in] to [in, out]."""
    return values.permute(*range(2, values.ndim), 1, 0).contiguous() if values.ndim > 1 else values


def offered() -> dict[str, "Tensor"]:
    """Class -> its first test image, uint8 [3, 32, 32]. Raises FileNotFoundError if CIFAR-100 is not on the machine."""
    from kdlib.data.images import load_data

    test = load_data("cifar100").test
    return {name: test.images[int((test.labels == test.classes.index(name)).nonzero()[0])] for name in OFFERED}


def pictures(images: dict[str, "Tensor"]) -> str:
    """The example pictures as a script: levels channel by channel."""
    rows = [
        {"label": name, "pixels": base64.b64encode(image.numpy().tobytes()).decode()} for name, image in images.items()
    ]
    return script("pictures", rows)


def figure(network: "Network", images: dict[str, "Tensor"], classes: tuple[str, ...]) -> "Figure":
    """For print, and for a browser without scripts: pictures, a JDA view of each, and the five largest answers."""
    import matplotlib.pyplot as plt
    import torch

    from kdlib.methods.ccd import ccd_weights
    from kdlib.randomness import uniforms
    from kdlib.show.figures import BLUE, LARGEST, ORANGE
    from kdlib.views.jda import jda

    x, transform = torch.stack(list(images.values()))[:DRAWN], jda()
    views = x, transform(x, uniforms(2, "augmented ops", 0, DRAWN, transform.draws))
    with torch.no_grad():
        logits = [network.logits(view) for view in views]
    drawing, axes = plt.subplots(DRAWN, 4, figsize=(9, 1.7 * DRAWN), layout="constrained", width_ratios=(1, 2, 1, 2))
    for k, w in enumerate(ccd_weights(*logits).tolist()):
        for side, (view, scores, colour) in enumerate(zip(views, logits, (BLUE, ORANGE), strict=True)):
            shown, bars = axes[k, 2 * side : 2 * side + 2]
            shown.imshow(view[k].permute(1, 2, 0).numpy(), interpolation="nearest")
            shown.set_axis_off()
            shares, labels = scores[k].softmax(0).topk(LARGEST)
            bars.barh([classes[label].replace("_", " ") for label in labels], shares.tolist(), color=colour)
            bars.set(xlim=(0, 1), xticks=[])
            bars.invert_yaxis()
            bars.spines[["top", "right", "bottom"]].set_visible(False)
            bars.set_title("original view" if side == 0 else f"augmented view, w = {w:.2f}", fontsize=9)
    plt.close(drawing)
    return drawing


def main() -> None:
    """Write the committed files. Raises FileNotFoundError if the checkpoint or CIFAR-100 is not on this machine."""
    from PIL import Image

    from kdlib.data.images import load_data

    network, images, classes = teacher(), offered(), load_data("cifar100").test.classes
    WEIGHTS.write_text(weights(network, classes), encoding="utf-8")
    PICTURES.write_text(pictures(images), encoding="utf-8")
    drawn = BytesIO()
    figure(network, images, classes).savefig(drawn, dpi=100)
    Image.open(drawn).quantize(64).save(FIGURE, optimize=True)


if __name__ == "__main__":
    main()
