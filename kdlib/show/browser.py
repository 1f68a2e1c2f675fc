"""A browser of stored runs: by study, method and seed, with curves, rows, intervals and where each run comes from.

It has two faces, as the explorers have: menus in JupyterLab, and in the page what they show at first.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import ipywidgets as widgets
import pandas as pd
from matplotlib.figure import Figure

from kdlib.lab.results import RunResult
from kdlib.lab.store import Store
from kdlib.show import figures
from kdlib.study.setting import Study
from kdlib.study.stats import mean_interval
from kdlib.study.tables import span

ALL = "all"  # of the methods, or of the seeds
ABOUT = "Runs of the store. In JupyterLab the menus choose a study, a method and a seed."


@dataclass(frozen=True)
class Entry:
    """A finished run as an arm of a study."""

    #: name of its chapter
    study: str
    #: label of its arm
    arm: str
    #: what the store holds
    result: RunResult

    @property
    def method(self) -> str:
        """The name of its method."""
        return self.result.spec.method

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.result.spec.seed


def stored_runs(studies: Iterable[Study], store: Store) -> list[Entry]:
    """The finished runs of studies, in the order of their arms and seeds. A run of two studies is there twice."""
    return [
        Entry(study.name, arm, result)
        for study in studies
        for arm in study.arms
        for spec in study.specs(arm)
        if (result := store.get(spec)) is not None
    ]


class RunBrowser:
    """Some of the runs of studies, chosen by study, method and seed."""

    def __init__(self, studies: Iterable[Study], store: Store):
        self.entries = stored_runs(studies, store)
        self.studies = list(dict.fromkeys(entry.study for entry in self.entries))

    def methods(self, study: str) -> list[str]:
        """The methods of a study's runs, after "all"."""
        return [ALL, *dict.fromkeys(entry.method for entry in self.entries if entry.study == study)]

    def seeds(self, study: str) -> list[str]:
        """The seeds of a study's runs, after "all"."""
        return [ALL, *map(str, sorted({entry.seed for entry in self.entries if entry.study == study}))]

    def chosen(self, study: str, method: str = ALL, seed: str = ALL) -> list[Entry]:
        """The runs of a study, of one method or all, of one seed or all."""
        mine = [entry for entry in self.entries if entry.study == study]
        mine = [entry for entry in mine if method in (ALL, entry.method)]
        return [entry for entry in mine if seed in (ALL, str(entry.seed))]

    def table(self, entries: Sequence[Entry]) -> pd.DataFrame:
        """One row per run: top-1 in percent beside mean and interval of the arm's runs here, and its provenance."""
        top1: dict[str, list[float]] = {}
        for entry in entries:
            top1.setdefault(entry.arm, []).append(entry.result.metrics["top1"])
        means = {arm: mean_interval(values) for arm, values in top1.items()}
        return pd.DataFrame(
            {
                "arm": entry.arm,
                "method": entry.method,
                "seed": entry.seed,
                "top-1 %": f"{entry.result.metrics['top1']:.2f}",
                "mean of the arm": f"{means[entry.arm].mean:.2f}",
                "95 % interval": span(means[entry.arm]),
                **{name: entry.result.provenance.get(name) or "" for name in ("date", "commit", "hardware")},
                "key": entry.result.key,
            }
            for entry in entries
        )

    def figure(self, entries: Sequence[Entry]) -> Figure:
        """Test accuracy of the runs against the views that their students have seen: means over seeds, by arm."""
        rows = [
            {"arm": entry.arm, "views": e["step"] * entry.result.spec.recipe.views_per_step, "top1": e["top1"]}
            for entry in entries
            for e in entry.result.evaluations
        ]
        frame = pd.DataFrame(rows, columns=["arm", "views", "top1"])
        return figures.curves(frame, list(dict.fromkeys(entry.arm for entry in entries)))

    def picture(self, entries: Sequence[Entry]) -> bytes:
        """The figure as PNG."""
        buffer = io.BytesIO()
        self.figure(entries).savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()

    def rows(self, entries: Sequence[Entry]) -> str:
        """The table as HTML."""
        return self.table(entries).to_html(index=False, border=0, classes="table")

    def html(self) -> str:
        """The page's face: the first study, all of it."""
        if not self.studies:
            return "<p><em>No run of these studies is stored.</em></p>"
        entries = self.chosen(self.studies[0])
        image = base64.b64encode(self.picture(entries)).decode()
        said = f"Test accuracy of the {len(entries)} runs of {self.studies[0]} against views, by arm"
        return (
            f'<figure class="kd-browser"><img src="data:image/png;base64,{image}" alt="{escape(said)}">'
            f"<figcaption>{escape(said)}. {escape(ABOUT)}</figcaption></figure>"
            f"<details><summary>The {len(entries)} runs</summary>{self.rows(entries)}</details>"
        )

    def widget(self) -> widgets.Widget:
        """JupyterLab's face: three menus, the curves, the rows."""
        if not self.studies:
            return widgets.HTML(self.html())
        study = widgets.Dropdown(options=self.studies, description="study")
        method, seed = widgets.Dropdown(description="method"), widgets.Dropdown(description="seed")
        image, rows = widgets.Image(format="png"), widgets.HTML()

        def show(_=None) -> None:
            entries = self.chosen(study.value, method.value, seed.value)
            image.value, rows.value = self.picture(entries), self.rows(entries)

        def offer(_=None) -> None:
            for box, names in ((method, self.methods(study.value)), (seed, self.seeds(study.value))):
                box.unobserve_all("value")
                box.options, box.value = names, ALL
                box.observe(show, "value")
            show()

        study.observe(offer, "value")
        offer()
        return widgets.VBox([widgets.HBox([study, method, seed]), image, rows, widgets.HTML(f"<em>{ABOUT}</em>")])

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """Both faces in one output; a page takes text/html, JupyterLab the widget."""
        bundle = self.widget()._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**data, "text/html": self.html(), "text/plain": ABOUT}
