"""What studies are made of: a setting, arms, contrasts. A study is data; everything else follows from its specs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kdlib.choices import check_seeds
from kdlib.data.images import check_name
from kdlib.lab.machine import resolve_stack
from kdlib.lab.measurements import ScoresSpec, SpreadSpec, ThresholdsSpec, TimingSpec, ViewsSpec
from kdlib.lab.recipe import Machine, Policy, Public, Recipe
from kdlib.lab.specs import RunSpec, Spec, stages_of, teacher_model
from kdlib.lab.stacks import in_stacks
from kdlib.lab.tasks import TaskSpec
from kdlib.methods import find_method
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.arms import Arm, Contrast, MeasuredArm, OwnTeacher
from kdlib.study.profiles import Profile, check_pair, profile


@dataclass(frozen=True)
class Setting:
    """A profile with its choices made."""

    #: the scale
    profile: Profile
    #: "TEACHER-STUDENT", see `check_pair`
    pair: str
    #: those that were chosen, or the profile's own, see `Setting.seeds_of`
    seeds: tuple[int, ...]
    #: on which everything runs
    machine: Machine
    #: name of a data set
    data: str
    #: whether the seeds are not the profile's
    chosen: bool = False
    #: up to how many seeds of an arm are trained together, see `kdlib.lab.stacked`; 1: each alone
    stack: int = 1

    @classmethod
    def of(
        cls, name: str, pair: str = "auto", seeds: list[int] | None = None, device: str = "auto", data: str = "auto",
        stack: int | None = None,
    ):  # fmt: skip
        """The setting of a profile; "auto" and None stand for the profile's own; stack: by default that of
        `kdlib.lab.machine.resolve_stack`. Raises ValueError on a bad field."""
        scale = profile(name)
        pair = next(iter(scale.pairs)) if pair == "auto" else pair
        check_pair(pair, scale)
        planned = tuple(seeds or scale.seeds)
        check_seeds(list(planned))
        data = scale.data if data == "auto" else data
        check_name(data)
        return cls(scale, pair, planned, Machine.of(device), data, bool(seeds), stack or resolve_stack())

    def at(self, name: str) -> "Setting":
        """The setting of another profile, on the same machine and with the seeds that were chosen, if they were."""
        seeds = list(self.seeds) if self.chosen else None
        return Setting.of(name, seeds=seeds, device=self.machine.device, stack=self.stack)

    @property
    def choices(self) -> dict[str, Any]:
        """What differs from the profile's own, as `kdlib.chapters.registry.command_line` takes it."""
        own = Setting.of(self.profile.name, device=self.machine.device)
        fields = [f for f in ("pair", "data", "stack") if getattr(self, f) != getattr(own, f)]
        fields += ["seeds"] if self.chosen else []
        return {"profile": self.profile.name} | {f: getattr(self, f) for f in fields}

    @property
    def verdicts(self) -> bool:
        """Whether claims are judged: not at a demonstration, nor with other seeds than were fixed before the runs."""
        return self.profile.verdicts and not self.chosen

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """The seeds of an arm: those that were chosen, or as many as the profile plans for arms of its kind."""
        if self.chosen:
            return self.seeds
        numbers = {"many": self.profile.many_seeds, "few": self.profile.few_seeds, "one": self.seeds[:1]}
        return numbers.get(arm.seeds) or self.seeds

    @property
    def networks(self) -> tuple[str, str]:
        """Names of the teacher and of the student.

        A teacher that the profile's own pairs name is the same one in every pair, be it a public checkpoint.
        """
        if self.pair in self.profile.pairs:
            return self.profile.pairs[self.pair]
        teacher, student = self.pair.split("-")
        named = {pair.split("-")[0]: networks[0] for pair, networks in self.profile.pairs.items()}
        return named.get(teacher, teacher), student

    def fits(self, method: str) -> bool:
        """Whether the two networks go with a method: some pair the stages of both one by one."""
        stages = [stages_of(name) for name in (teacher_model(self.teacher()), self.networks[1])]
        return not find_method(method).pairs_stages or stages[0] == stages[1]

    def teacher(self, seed: int = 0) -> RunSpec | Public:
        """The teacher of student seed `seed`: a public checkpoint, or a run that never saw an augmented view.

        Where the paper's teachers are trained, student seed s learns from teacher seed s. At smoke and quick one
        teacher, seed 0, is shared by all: its training would otherwise be most of the time.
        """
        name, _ = self.networks
        if name in PUBLIC:
            return Public(checkpoint=name)
        return self.own_teacher(self.shared_seed(seed), OwnTeacher(Policy(name="weak1")))

    def own_teacher(self, seed: int, own: OwnTeacher, method: str | None = None) -> RunSpec:
        """The run that trains a teacher of our own: the pair's network, or one in place of a public checkpoint.

        method: one that trains a head with it, in place of its own.
        """
        scale, name = self.profile, self.networks[0]
        options = dict(own.options) if method is None else {}
        method = method or own.method
        network = (scale.teacher_network or PUBLIC[name].model) if name in PUBLIC else name
        joint = find_method(method).head is not None
        return RunSpec(
            data=self.data, part=own.part, pool=scale.teacher_pool, fraction=scale.teacher_fraction,
            student=network, method=method, options=options, policy=own.policy,
            recipe=scale.joint_recipe or scale.teacher_recipe if joint else scale.teacher_recipe, seed=seed,
            machine=self.machine,
        )  # fmt: skip

    def shared_seed(self, seed: int) -> int:
        """The seed of the teacher, or of its head, of a student seed: 0 at smoke and quick, where one serves all."""
        return 0 if self.profile.trains else seed

    def teacher_of(self, seed: int, arm: Arm) -> RunSpec | Public | None:
        """What a student of an arm learns from: nothing, a teacher, or a teacher with the head that it needs.

        A public checkpoint is one teacher for all seeds, and so is its head.
        """
        definition = find_method(arm.method)
        if not definition.needs_teacher:
            return None
        own = arm.teacher if isinstance(arm.teacher, OwnTeacher) else None
        base = self.own_teacher(seed, own) if own else arm.teacher or self.teacher(seed)
        if not definition.taught_by:
            return base
        method = arm.head or definition.taught_by[0]
        if not find_method(method).needs_teacher:  # backbone and head are trained together
            return self.own_teacher(self.shared_seed(seed), own or OwnTeacher(Policy(name="weak1")), method)
        return RunSpec(
            data=self.data, part=own.part if own else "all", pool=self.profile.pool,
            fraction=self.profile.teacher_fraction,
            student=teacher_model(base), teacher=base, method=method, policy=Policy(name="weak1"),
            recipe=self.profile.heads_recipe, seed=0 if isinstance(base, Public) else self.shared_seed(seed),
            machine=self.machine,
        )  # fmt: skip

    def run(self, seed: int, arm: Arm) -> RunSpec:
        """The run of one arm and one seed."""
        if arm.is_teacher:
            return self.own_teacher(seed, arm.teacher or OwnTeacher(arm.policy))
        recipe = Recipe(**self.profile.recipe.model_dump() | dict(arm.recipe))
        machine = self.machine.model_copy(update={"precision": "float32"}) if arm.exact else self.machine
        return RunSpec(
            data=self.data, part=arm.part, pool=self.profile.pool,
            fraction=self.profile.fraction if arm.fraction is None else arm.fraction,
            student=arm.student or self.networks[1], validation=arm.validation,
            teacher=self.teacher_of(seed, arm), method=arm.method, options=dict(arm.options),
            policy=arm.policy, recipe=recipe, seed=seed, bank=arm.bank, exact=arm.exact, machine=machine,
        )  # fmt: skip

    def views(self, policy: Policy, teacher: RunSpec | Public | None = None) -> ViewsSpec:
        """What a teacher, by default the setting's own, says on the views of a policy."""
        return ViewsSpec(
            data=self.data, teacher=teacher or self.teacher(), policy=policy, seed=0,
            images=self.profile.measured_images, machine=self.machine,
        )  # fmt: skip

    def scores(self, teacher: RunSpec | Public) -> ScoresSpec:
        """How good a teacher is on the test images, in float32: bfloat16 moves top-1 by more than a published digit."""
        exact = self.machine.model_copy(update={"precision": "float32"})
        return ScoresSpec(data=self.data, teacher=teacher, machine=exact)

    def thresholds(self, student: RunSpec, external: str | None = None) -> ThresholdsSpec:
        """What frozen thresholds cost a student, in float32; external: another data set that it is asked about too.

        Demonstrations look at a part of the test images.
        """
        exact = self.machine.model_copy(update={"precision": "float32"})
        images = self.profile.measured_images if self.profile.trains else None
        return ThresholdsSpec(student=student, external=external, images=images, machine=exact)

    def timing(self, arms: Iterable[Arm]) -> TimingSpec:
        """How long a step of each arm takes here."""
        runs = {arm.label: self.run(self.seeds[0], arm) for arm in arms}
        return TimingSpec(data=self.data, runs=runs, steps=self.profile.timed_steps, machine=self.machine)

    def spread(self, policy: Policy) -> SpreadSpec:
        """T.stddev of the teacher under a policy."""
        return SpreadSpec(
            data=self.data, teacher=self.teacher(), policy=policy, pool=self.profile.spread_pool,
            passes=self.profile.spread_passes, seed=0, machine=self.machine,
        )  # fmt: skip


@dataclass(frozen=True)
class Study:
    """The runs that answer one question."""

    #: name of its chapter
    name: str
    #: makes runs of its arms
    setting: Setting
    #: the arms by label
    arms: Mapping[str, Arm]
    #: what is compared
    contrasts: tuple[Contrast, ...] = ()
    #: specs of teachers, or of the students of its arms, by name
    measurements: Mapping[str, Spec] = field(default_factory=dict)
    #: name -> {arm: x}, arms that are points of a curve
    series: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    #: name of a measurement -> its tier, where that is later than the second: its teacher is trained then
    later: Mapping[str, int] = field(default_factory=dict)

    def specs(self, arm: str) -> list[RunSpec]:
        """The runs of one arm, one per seed; in stacks where the setting says so and the arm can be, but teachers are
        trained alone, since their students name them so. None of an arm that is measured."""
        if isinstance(self.arms[arm], MeasuredArm):
            return []
        if arm not in self._specs:
            seeds = self.setting.seeds_of(self.arms[arm])
            alone = [self.setting.run(seed, self.arms[arm]) for seed in seeds]
            self._specs[arm] = alone if self.arms[arm].is_teacher else in_stacks(alone, self.setting.stack)
        return list(self._specs[arm])

    def measured(self, arm: str) -> dict[int, Spec]:
        """Seed -> the measurement that trains and grades a student of an arm; empty of one that has runs."""
        own = self.arms[arm]
        seeds = self.setting.seeds_of(own) if isinstance(own, MeasuredArm) else ()
        return {seed: self.measurements[own.measurement(seed)] for seed in seeds}

    @cached_property
    def _specs(self) -> dict[str, list[RunSpec]]:
        """By arm: a study never changes, and tables ask for its runs again and again."""
        return {}

    @property
    def all_specs(self) -> list[Spec]:
        """Every run and measurement that the profile plans."""
        return self.specs_to(self.setting.profile.tiers)

    def specs_to(self, tier: int) -> list[Spec]:
        """The runs of the arms up to a tier (see `tier`), and, with the second, the measurements, see `later`."""
        runs = [spec for arm in self.arms if self.tier(arm) <= tier for spec in self.specs(arm)]
        return [*(spec for name, spec in self.measurements.items() if self.later.get(name, 2) <= tier), *runs]

    def tier(self, arm: str) -> int:
        """What comes first: 1 for the arms that decide and for those of many seeds, else the arm's own.

        A primary contrast that decides no claim may let its arms come later, see `Contrast.tier`.

        The second holds the curves and controls around the claims, the third what is only explored, and the fourth what
        is left to profiles that can afford it (see `Profile.tiers`).
        """
        own = self.arms[arm].tier
        return 1 if self.arms[arm].seeds == "many" else min(own, self.deciding.get(arm, own))

    @cached_property
    def deciding(self) -> dict[str, int]:
        """The arms of primary contrasts, and their floors: each with its earliest tier."""
        found: dict[str, int] = {}
        for contrast in (c for c in self.contrasts if c.primary):
            floors = {floor: None for arm in contrast.weights if (floor := self.arms[arm].floor)}
            for arm in (*contrast.weights, *floors):
                found[arm] = min(contrast.tier, found.get(arm, contrast.tier))
        return found

    @cached_property
    def data(self) -> str:
        """The name of what it learns from: the setting's data set, or that of its other task."""
        named = {spec.data for spec in self.measurements.values() if isinstance(spec, TaskSpec)}
        return ", ".join(sorted(named)) or self.setting.data

    def contrast(self, name: str) -> Contrast | None:
        """The contrast of a name, or None: a study of chosen or fewer arms lacks some."""
        return next((contrast for contrast in self.contrasts if contrast.name == name), None)

    def planned(self, contrast: Contrast) -> int:
        """How many seeds all arms of a contrast are to have in common."""
        return self._in_common(contrast.weights)

    def planned_above_floor(self, arm: str) -> int:
        """How many seeds an arm and its floor are to have in common."""
        return self._in_common((arm, self.arms[arm].floor))

    def _in_common(self, arms: Iterable[str]) -> int:
        return len(set.intersection(*(set(self.setting.seeds_of(self.arms[arm])) for arm in arms)))
