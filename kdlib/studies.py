"""Studies: the runs that answer one question, and the contrasts that were fixed before any result.

A study is data: arms (what is compared), measurements of the teacher, and primary contrasts. `create_study` builds it
for a profile; everything else follows from its specs.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdlib.data import check_name
from kdlib.losses import CCD_WEIGHTS
from kdlib.profiles import Profile, profile
from kdlib.specs import Machine, Policy, Public, RunSpec, Spec, ViewsSpec

WEIGHT_NAMES = {
    "cosine": "CCD", "one": "w = 1 (KD + JDA)", "mean": "w = mean(w)", "shuffled": "w shuffled",
    "normalised": "w / mean(w)", "centred": "centred cosine", "softmax": "cosine of softmax",
    "confidence": "confidence of teacher",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A profile with its choices made: pair, seeds, machine, data."""

    profile: Profile
    pair: str
    seeds: tuple[int, ...]
    machine: Machine
    data: str

    @classmethod
    def of(
        cls,
        name: str,
        pair: str = "auto",
        seeds: list[int] | None = None,
        device: str = "auto",
        data: str = "auto",
    ):
        """The setting of a profile; "auto" and None stand for the profile's own. Raises ValueError on a bad field."""
        scale = profile(name)
        pair = next(iter(scale.pairs)) if pair == "auto" else pair
        if pair not in scale.pairs:
            raise ValueError(
                f"pair = {pair!r} is unknown at profile {name!r}; allowed are auto, {', '.join(scale.pairs)}"
            )
        seeds = scale.seeds if not seeds else tuple(seeds)
        if any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in seeds) or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds = {list(seeds)!r} must be a list of different whole numbers from 0 up")
        data = scale.data if data == "auto" else data
        check_name(data)
        return cls(scale, pair, seeds, Machine.of(device), data)

    @property
    def networks(self) -> tuple[str, str]:
        """Names of the teacher and of the student."""
        return self.profile.pairs[self.pair]

    def teacher(self, seed: int = 0) -> RunSpec | Public:
        """The teacher of student seed `seed`: a public checkpoint, or a run that never saw an augmented view.

        Where the paper's teachers are trained, student seed s learns from teacher seed s. At smoke and quick one
        teacher, seed 0, is shared by all: its training would otherwise be most of the time.
        """
        name, _ = self.networks
        scale = self.profile
        if scale.teacher_recipe is None:
            return Public(checkpoint=name)
        return RunSpec(
            data=self.data, fraction=scale.teacher_fraction, student=name, method="ce", policy=Policy(name="weak1"),
            recipe=scale.teacher_recipe, seed=0 if scale.trains else seed,
            machine=self.machine,
        )  # fmt: skip

    def student(self, seed: int, arm: "Arm") -> RunSpec:
        """The run of one arm and one seed."""
        return RunSpec(
            data=self.data, pool=self.profile.pool, fraction=self.profile.fraction, student=self.networks[1],
            teacher=self.teacher(seed) if arm.method != "ce" else None, method=arm.method, options=dict(arm.options),
            policy=arm.policy, recipe=self.profile.recipe, seed=seed, machine=self.machine,
        )  # fmt: skip

    def views(self, policy: Policy) -> ViewsSpec:
        """What the teacher says on the views of a policy."""
        return ViewsSpec(
            data=self.data, teacher=self.teacher(), policy=policy, images=self.profile.measured_images, seed=0,
            machine=self.machine,
        )  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One line of a comparison."""

    label: str
    policy: Policy
    method: str = "kd"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contrast:
    """A paired difference of two arms. primary: one of the contrasts that decide a claim (else exploratory).

    says: "better" (the claim is that `arm` beats `than`) or "no better".
    """

    name: str
    arm: str
    than: str
    says: str = "better"
    primary: bool = False


@dataclass(frozen=True)
class Study:
    """The runs that answer one question. arms: by label; measurements: teacher-only specs by name."""

    name: str
    setting: Setting
    arms: Mapping[str, Arm]
    contrasts: tuple[Contrast, ...] = ()
    measurements: Mapping[str, ViewsSpec] = field(default_factory=dict)

    def specs(self, arm: str) -> list[RunSpec]:
        """The runs of one arm, one per seed."""
        return [self.setting.student(seed, self.arms[arm]) for seed in self.setting.seeds]

    @property
    def all_specs(self) -> list[Spec]:
        """Every run and measurement of the study."""
        return [*self.measurements.values(), *(spec for arm in self.arms for spec in self.specs(arm))]


def _arms(*arms: Arm) -> dict[str, Arm]:
    return {arm.label: arm for arm in arms}


def _tour(setting: Setting) -> Study:
    arms = _arms(
        Arm("no teacher", Policy(name="weak2"), "ce"),
        Arm("distilled", Policy(name="weak2")),
        Arm("distilled, augmented", Policy(name="jda")),
    )
    contrasts = (
        Contrast("distillation", "distilled", "no teacher"),
        Contrast("augmentation", "distilled, augmented", "distilled"),
    )
    return Study("00_tour", setting, arms, contrasts, {"JDA": setting.views(Policy(name="jda"))})


def _joint_data_augmentation(setting: Setting, ops: str = "cifar100", p: float | None = None) -> Study:
    policy = Policy(name="jda", options={"ops": ops, "p": p})
    return Study("02_joint_data_augmentation", setting, {}, (), {"views": setting.views(policy)})


def _blind_teacher(setting: Setting, ops: str = "cifar100", p: float | None = None) -> Study:
    jda = Policy(name="jda", options={"ops": ops, "p": p})
    arms = _arms(
        Arm("one view", Policy(name="weak1")),
        Arm("weak2", Policy(name="weak2")),
        Arm("rot2", Policy(name="rot2")),
        Arm("rot4", Policy(name="rot4")),
        Arm("JDA", jda),
    )
    contrasts = (
        Contrast("a1", "JDA", "weak2", primary=True),
        Contrast("a2", "JDA", "rot4", primary=True),
        Contrast("weak2 - one view", "weak2", "one view"),
        Contrast("JDA - rot2", "JDA", "rot2"),
    )
    return Study(
        "03_blind_teacher",
        setting,
        arms,
        contrasts,
        {"JDA": setting.views(jda), "rot2": setting.views(Policy(name="rot2"))},
    )


def _cosine_confidence(setting: Setting, weights: list | None = None) -> Study:
    weights = list(
        weights or (CCD_WEIGHTS if not setting.profile.trains else ("cosine", "one", "mean", "shuffled", "normalised"))
    )
    unknown = [w for w in weights if w not in CCD_WEIGHTS]
    if unknown or len(set(weights)) < len(weights):
        raise ValueError(
            f"weights = {weights!r} is not possible; allowed are different words among {', '.join(CCD_WEIGHTS)}"
        )
    jda = Policy(name="jda")
    arms = _arms(
        Arm("weak2", Policy(name="weak2")),
        *(
            Arm(WEIGHT_NAMES[w], jda) if w == "one" else Arm(WEIGHT_NAMES[w], jda, "ccd", {"weight": w})
            for w in weights
        ),
    )
    ccd = WEIGHT_NAMES["cosine"]
    others = [WEIGHT_NAMES[w] for w in weights if w != "cosine"]
    contrasts = tuple(Contrast(f"CCD - {o}", ccd, o) for o in others) if ccd in arms else ()
    return Study("08_cosine_confidence", setting, arms, contrasts, {"JDA": setting.views(jda)})


def _verdicts(setting: Setting) -> Study:
    """Exactly the arms of the primary contrasts of the other studies."""
    studies = [create_study(name, setting) for name in STUDIES if name != "12_verdicts"]
    named = {(s.name, arm) for s in studies for c in s.contrasts if c.primary for arm in (c.arm, c.than)}
    arms = {f"{s.name}: {arm}": s.arms[arm] for s in studies for arm in s.arms if (s.name, arm) in named}
    return Study("12_verdicts", setting, arms)


STUDIES: Mapping[str, Callable[..., Study]] = {
    "00_tour": _tour,
    "02_joint_data_augmentation": _joint_data_augmentation,
    "03_blind_teacher": _blind_teacher,
    "08_cosine_confidence": _cosine_confidence,
    "12_verdicts": _verdicts,
}


def own_options(name: str) -> dict[str, tuple[Any, Any]]:
    """The options that only this study has: name -> (type, default)."""
    parameters = list(inspect.signature(STUDIES[name]).parameters.values())
    return {p.name: (p.annotation, p.default) for p in parameters[1:]}


def create_study(name: str, setting: Setting, **options: Any) -> Study:
    """The study called `name`. Raises ValueError for an unknown study or a bad option."""
    if name not in STUDIES:
        raise ValueError(f"study = {name!r} is unknown; allowed are {', '.join(STUDIES)}")
    allowed = own_options(name)
    for option in options:
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}; allowed are {', '.join(allowed) or 'none'}")
    return STUDIES[name](setting, **options)
