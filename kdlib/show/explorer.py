"""Explorers with two faces: live ipywidgets in JupyterLab, plain HTML and script in the page.

An explorer has controls (each a list of choices) and a `render` function that makes one picture for a choice of each.
JupyterLab shows widgets that call `render`; the page holds all pictures, made once, and a few lines of script.
"""

import base64
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

SCRIPT = """
(function () {
  const root = document.getElementById("%(id)s"), data = %(data)s;
  const inputs = [...root.querySelectorAll("[data-control]")], image = root.querySelector("img");
  const pictures = [image.src, ...data.others.map(p => "data:image/png;base64," + p)];
  function show() {
    const at = inputs.map(i => Number(i.value));
    let index = 0;
    at.forEach((v, k) => { index = index * data.sizes[k] + v; });
    image.src = pictures[index];
    image.alt = data.names.map((n, k) => n + " " + data.choices[k][at[k]]).join(", ");
    root.querySelectorAll("output").forEach((o, k) => { o.value = data.choices[k][at[k]]; });
  }
  inputs.forEach(i => i.addEventListener("input", show));
  show();
})();
"""


class Explorer:
    """controls: name -> choices (shown as text); render(choice of each) -> a Figure or uint8 [H, W, 3] pixels.

    Numbers get a slider, words a menu. All combinations are rendered for the page: keep them few and small. scale: how
    many screen pixels one pixel of the picture gets.
    """

    def __init__(
        self,
        controls: Mapping[str, Sequence],
        render: Callable[..., "Figure | np.ndarray"],
        about: str,
        scale: int = 1,
    ):
        self.controls, self.render, self.about, self.scale = controls, render, about, scale
        self._pictures: dict[tuple, bytes] = {}

    def picture(self, *choice) -> bytes:
        """PNG bytes for one choice of each control, made once: the widget and the page show the same."""
        if choice not in self._pictures:
            self._pictures[choice] = self._rendered(*choice)
        return self._pictures[choice]

    def _rendered(self, *choice) -> bytes:
        made = self.render(*choice)
        buffer = io.BytesIO()
        if isinstance(made, Figure):
            made.savefig(buffer, format="png", dpi=80)
            plt.close(made)
        else:
            Image.fromarray(made).quantize(128).save(buffer, "png", optimize=True)
        return buffer.getvalue()

    def html(self) -> str:
        """The page's face: controls, pictures as data URIs, and a script; nothing is requested from anywhere.

        The first picture is there without the script, which JupyterLab leaves out of notebooks that it did not run.
        """
        first, *others = [
            base64.b64encode(self.picture(*c)).decode() for c in itertools.product(*self.controls.values())
        ]
        data = {
            "names": list(self.controls), "sizes": [len(c) for c in self.controls.values()], "others": others,
            "choices": [[str(v) for v in c] for c in self.controls.values()],
        }  # fmt: skip
        identity = f"kd-{hashlib.sha256(json.dumps([first, data]).encode()).hexdigest()[:10]}"
        inputs = "".join(self._input(name, choices) for name, choices in self.controls.items())
        with Image.open(io.BytesIO(base64.b64decode(first))) as image:
            style = (
                f"width:{image.width * self.scale}px;max-width:100%;image-rendering:pixelated" if self.scale > 1 else ""
            )
        script = SCRIPT % {"id": identity, "data": json.dumps(data).replace("</", "<\\/")}
        return (
            f'<figure id="{identity}" class="kd-explorer"><div>{inputs}</div>'
            f'<img src="data:image/png;base64,{first}" alt="{escape(self.about)}" style="{style}">'
            f"<figcaption>{escape(self.about)}</figcaption><script>{script}</script></figure>"
        )

    @staticmethod
    def _input(name: str, choices: Sequence) -> str:
        label = escape(name)
        if _numeric(choices):
            slider = f'<input type="range" data-control min="0" max="{len(choices) - 1}" value="0">'
            return f"<label>{label} {slider} <output></output></label> "
        options = "".join(f'<option value="{k}">{escape(str(c))}</option>' for k, c in enumerate(choices))
        return f"<label>{label} <select data-control>{options}</select><output hidden></output></label> "

    def widget(self) -> widgets.Widget:
        """JupyterLab's face: the same controls, each change calls `render`."""
        image = widgets.Image(format="png")
        boxes = []
        for name, choices in self.controls.items():
            kind = widgets.SelectionSlider if _numeric(choices) else widgets.Dropdown
            boxes.append(kind(options=[(str(c), c) for c in choices], description=name))

        def update(_=None) -> None:
            image.value = self.picture(*(box.value for box in boxes))
            with Image.open(io.BytesIO(image.value)) as shown:
                image.width = shown.width * self.scale

        for box in boxes:
            box.observe(update, "value")
        update()
        return widgets.VBox([widgets.HBox(boxes), image, widgets.HTML(f"<em>{escape(self.about)}</em>")])

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """Both faces in one output; a page takes text/html, JupyterLab the widget."""
        bundle = self.widget()._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**data, "text/html": self.html(), "text/plain": self.about}


def _numeric(choices: Sequence) -> bool:
    return all(isinstance(c, int | float) for c in choices)


def sheet(*rows: Tensor, gap: int = 2) -> np.ndarray:
    """Rows of images, each uint8 [n, 3, H, W], as one picture uint8 [height, width, 3] on white, `gap` pixels apart."""
    n, _, height, width = rows[0].shape
    page = np.full((len(rows) * (height + gap) - gap, n * (width + gap) - gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            page[top : top + height, left : left + width] = image.permute(1, 2, 0).numpy()
    return page
