"""The one object a chapter talks to: `study = kdlib.start("03_blind_teacher", globals(), In)`."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pandas as pd
import torch
from IPython.display import HTML, Markdown, display
from torch import Tensor

from kdlib.chapters import claims, findings
from kdlib.chapters.parameters import MISSING, check_parameters
from kdlib.chapters.registry import command_line, create_study, own_options
from kdlib.data.images import BUNDLED, Data, available, load_data
from kdlib.data.thumbnails import UNKNOWN, kept
from kdlib.lab.forecasts import work
from kdlib.lab.measures.views import draw_views
from kdlib.lab.runs import missing, needed, run_all
from kdlib.lab.specs import RunSpec, Spec
from kdlib.lab.store import Store
from kdlib.show import figures
from kdlib.show.displays import watching
from kdlib.show.explorers import Examples, gather_examples
from kdlib.show.status import status_box
from kdlib.study import cost_tables, judging, tables
from kdlib.study.arms import Contrast
from kdlib.study.series import Suitable, gains, points, suitable
from kdlib.study.setting import Setting, Study
from kdlib.study.stats import Interval, mean_interval
from kdlib.study.tiers import names_of


class Session:
    """A study at a setting, with its results: what a chapter's cells call."""

    def __init__(self, study: Study, mode: str, command: str):
        self.study, self.setting, self.mode = study, study.setting, mode
        self.command = command  # the line that trains what this chapter lacks
        self.profile = study.setting.profile
        self.store = Store(self.profile.name)
        self.specs = needed(study.all_specs)  # each once, with the teachers and heads that they need

    def run(self) -> "Session":
        """Brings the results: trains what is missing, leaves gaps, or raises FileNotFoundError, as `missing` says."""
        specs = self.specs
        todo = missing(specs, self.store)
        if todo and self.mode == "error":
            raise FileNotFoundError(
                f"{len(todo)} runs of {self.study.name} are missing at profile {self.profile.name!r}: {self.command}"
            )
        if todo and self.mode == "train":
            run_watched(self.study, todo)
            self.store = Store(self.profile.name)
        elif todo:
            display(Markdown(f"*{len(todo)} of {len(specs)} runs are not there yet. To train them:* `{self.command}`"))
        return self

    @property
    def frame(self) -> pd.DataFrame:
        """One row per finished run, see `tables.runs_frame`."""
        return tables.runs_frame(self.study, self.store)

    def finding(self) -> Markdown:
        """What the chapter found, in one or two computed sentences."""
        return Markdown(findings.finding(self.study, self.frame))

    @property
    def curves(self) -> pd.DataFrame:
        """One row per evaluation of every finished run."""
        return tables.curves_frame(self.study, self.store)

    @property
    def arms(self) -> pd.DataFrame:
        """One row per arm that has runs: accuracy, interval, n, cost."""
        return tables.arms_table(self.study, self.frame)

    @property
    def not_run(self) -> Markdown:
        """The arms without runs, in one line."""
        return Markdown(tables.not_run(self.study, self.frame))

    @property
    def teachers(self) -> pd.DataFrame:
        """One row per teacher: how many test and training images it names right."""
        return tables.teachers_table(self.study, self.store)

    @property
    def contrasts(self) -> pd.DataFrame:
        """One row per contrast, with the computed verdict."""
        return judging.contrasts_table(self.study, self.frame)

    @property
    def order(self) -> list[str]:
        """The labels of the arms, in the order in which tables and figures show them."""
        return list(self.study.arms)

    @property
    def series(self) -> Mapping[str, Mapping[str, float]]:
        """Name of a curve -> its arms, each with its x."""
        return self.study.series

    def runs(self, arm: str) -> list[RunSpec]:
        """The runs of one arm, one per seed."""
        return self.study.specs(arm)

    def interval(self, arm: str) -> Interval:
        """The 95 % interval of top-1 of an arm over seeds."""
        return mean_interval(list(tables.by_seed(self.frame, arm).values()))

    def paired(self, arm: str, than: str) -> Interval:
        """The paired 95 % interval of one arm minus another."""
        return tables.contrast_interval(Contrast.of("", arm, than), self.frame)

    def points(self, series: str) -> dict[float, Interval]:
        """x -> interval of top-1, for the arms of a curve."""
        return points(self.study, self.frame, series)

    def gains(self, series: str, than: str) -> dict[float, Interval]:
        """x -> paired interval of one curve minus another."""
        return gains(self.study, self.frame, series, than)

    def suitable(self, series: str) -> Suitable | None:
        """The x of a curve that cannot be told from the best; None where too little is there."""
        return suitable(self.study, self.frame, series)

    @property
    def costs(self) -> pd.DataFrame:
        """By arm: accuracy, bytes, MACs and seconds, as `cost_tables.cost_points` gives them."""
        return cost_tables.cost_points(self.study, self.frame, self.metrics("timing"))

    @property
    def training_parts(self) -> pd.DataFrame:
        """One row per arm: what training keeps beside the two networks."""
        return cost_tables.parts_table(self.study)

    def metrics(self, name: str) -> dict[str, Any] | None:
        """The metrics of a teacher-only measurement, or None where it is missing."""
        result = self.store.get(self.study.measurements[name])
        return result.metrics if result else None

    @property
    def measured(self) -> dict[str, dict[str, Any] | None]:
        """Name -> metrics of each teacher-only measurement, or None where it is missing."""
        return {name: self.metrics(name) for name in self.study.measurements}

    def intervals(self) -> dict[str, Interval]:
        """The paired interval of each contrast that is measured or primary."""
        return {contrast.title: interval for contrast, interval in tables.shown_contrasts(self.study, self.frame)}

    def judge(self) -> list[claims.Judgement]:
        """All primary contrasts at this setting."""
        return claims.judge(self.store, self.setting)

    def claim(self, name: str) -> str:
        """The computed verdict of a claim at this setting, as a word.

        There is none where the chapter's own parameters make of a contrast that decides it another one.
        """
        claim = next(claim for claim in claims.CLAIMS if claim.name == name)
        here = [found for c in claim.contrasts if (found := self.study.contrast(c))]
        if not all(contrast.primary for contrast in here):
            return claims.UNDECIDED
        judgements = claims.judge(self.store, self.setting, claim.contrasts)
        return claims.part_words(claim, judgements, self.setting.verdicts)

    @property
    def pictures(self) -> Data:
        """Images to look at: the study's data set; where it is not on this machine those of it that are kept (the
        others are black, with the label -1), or else the bundled one."""
        return self._data or load_data(BUNDLED)

    @property
    def _data(self) -> Data | None:
        name = self.setting.data
        return load_data(name) if available(name) else kept(name)

    def examples(self, name: str, count: int = 8) -> Examples | None:
        """What the teacher said about single test images in a measurement; None if it, or an image, is missing."""
        stored = self.metrics(name)
        chosen = stored["test_examples"][:count] if stored else []
        views = self._views(name, [e["id"] for e in chosen])
        return None if views is None else gather_examples(chosen, views, self.pictures.test.classes)

    def extremes(self, name: str, count: int = 8) -> figures.Figure | None:
        """Test images with the lowest and the highest w, both views; None if they are missing."""
        stored = self.metrics(name) or {}
        low, high = (self._views(name, stored.get(f"test_{end}", [])[:count]) for end in ("lowest", "highest"))
        if low is None or high is None:
            return None
        rows = [low[:, 0], low[:, 1], high[:, 0], high[:, 1]]
        return figures.tiles(rows, ["lowest w", "augmented", "highest w", "augmented"])

    def _views(self, name: str, ids: list[int]) -> Tensor | None:
        """The measured views [n, 2, 3, H, W] of test images; None without images, or if one of them is not here."""
        data, some = self._data, torch.tensor(ids, dtype=torch.int64)
        if not ids or data is None or (data.test.labels[some] == UNKNOWN).any():
            return None
        return draw_views(self.study.measurements[name], data.test, some)[0]

    def gap(self, what: str) -> Markdown:
        """A line in place of something that needs data or runs which are not here."""
        return Markdown(
            f"*{what}: needs the data set `{self.study.data}` and the runs of this chapter.* `{self.command}`"
        )

    def shown(self, thing: Any) -> Any:
        """`thing`, or the line of `gap` where it is None."""
        return self.gap("This picture") if thing is None else thing

    def difference(self, arm: str, than: str) -> str:
        """A paired difference with its 95 % interval in words, or "not measured"."""
        return tables.in_words(self.paired(arm, than))

    def contrast(self, name: str) -> str:
        """A contrast in words, at its own level: primary ones have that of the verdict rule.

        A study that lacks it, as one of other methods than the profile's may, has not measured it.
        """
        found = self.study.contrast(name)
        return tables.in_words(tables.contrast_interval(found, self.frame)) if found else "not measured"

    def value(self, arm: str, metric: str, spec: str = ".3f") -> str:
        """The mean of a metric over the finished seeds of an arm, or "not measured"."""
        values = tables.by_seed(self.frame, arm, metric).values()
        return f"{sum(values) / len(values):{spec}}" if values else "not measured"

    def training_gap(self, arm: str) -> str:
        """How far an arm's accuracy on training images is above its headline, in words."""
        gap = tables.training_gap(self.frame, arm)
        return f"{gap} points" if gap else "not measured"

    def status(self) -> HTML:
        """The status box of the chapter."""
        return status_box(self.study, self.specs, self.store)


def open_study(study: Study) -> Session:
    """A session on a study of your own making. What the store lacks is trained here, in this process: others would not
    know the methods, networks and operations that a notebook has registered."""
    todo = missing(study.all_specs, Store(study.setting.profile.name))
    with ThreadPoolExecutor(1) as executor:
        run_watched(study, todo, executor)
    return Session(study, "gap", "")


def run_watched(study: Study, todo: Sequence[Spec], executor: Executor | None = None) -> None:
    """Runs what a study lacks, with progress where there is something to do. executor: see `kdlib.lab.runs.run_all`."""
    if todo:
        with watching({spec.key: work(spec) for spec in todo}, names_of([study])) as watch:
            run_all(todo, study.setting.profile.name, executor, look=watch.look)


def start(name: str, namespace: Mapping[str, Any], cells: Sequence[str] = ()) -> Session:
    """Checks a notebook's parameters and returns its session. Call it as `kdlib.start(NAME, globals(), In)`.

    name: the notebook's file name without .ipynb. Raises ValueError, in one sentence, for an unknown parameter,
    profile, pair, data set, device, a wrong type or a value out of range. The environment variable KDLIB_MISSING
    overrides the parameter `missing`.
    """
    given = check_parameters(name, namespace, cells)
    pd.set_option("display.max_colwidth", None)  # a chapter's tables show whole sentences
    figures.as_vectors()
    setting = Setting.of(given["profile"], given["pair"], given["seeds"], given["device"], given["data"])
    study = create_study(name, setting, **{key: given[key] for key in own_options(name)})
    mode = os.environ.get("KDLIB_MISSING") or given["missing"]
    if mode not in MISSING:
        raise ValueError(f"KDLIB_MISSING = {mode!r} is unknown; allowed are {', '.join(MISSING)}")
    if mode == "auto":
        mode = "train" if setting.profile.trains and available(study.setting.data) else "gap"
    return Session(study, mode, command_line(name, given | {"profile": study.setting.profile.name}))
