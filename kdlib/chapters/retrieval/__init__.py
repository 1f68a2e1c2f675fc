"""Hash codes for image search: does it pay to drop augmented views that leave their cluster (BRCD, WWW 2024)?

Nothing here reads a label but the search that grades the codes. Students are trained inside of measurements, since they
classify nothing.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kdlib.lab.measurements import Hashing, HashingSpec
from kdlib.lab.recipe import Policy
from kdlib.methods.taxonomy import Taxonomy
from kdlib.study.arms import Arm, Contrast, MeasuredArm, by_label
from kdlib.study.setting import Setting, Study

PLAIN, JDA = "weak2", "JDA"
#: What makes the student's two views, from weak to strong.
VIEWS: Mapping[str, Policy] = {PLAIN: Policy(name="weak2"), JDA: Policy(name="jda")}
#: `Hashing.check` -> what arms call it.
CHECKS: Mapping[str, str] = {
    "none": "no check",
    "cluster": "cluster check",
    "shuffled": "check shuffled",
    "cosine": "cosine as weight",
}
FIRST = ("none", "cluster")  # those of demonstrations, and of the contrasts with view strength
#: Metric of `kdlib.elsewhere.brcd.measure_hashing` -> what it is called.
METRICS: Mapping[str, str] = {
    "own_map": "mAP",
    "old_map": "mAP in the old index",
    "own_precision2": "precision at radius 2",
    "old_precision2": "precision at radius 2 in the old index",
}
MARGIN = 1.0  # points of mAP
PRIMARY = 1  # contrasts of this chapter that share an error rate
LATER = 3  # the tier of all arms
INTERACTION = "check x view strength"
TAXONOMY: Mapping[str, Taxonomy] = {
    check: Taxonomy(
        knowledge=("relation",), sees="both the same", chosen_by=chooser, labels="none", status="verified",
        task="retrieval",
    )
    for check, chooser in {"none": "none", "cluster": "cluster", "shuffled": "cluster", "cosine": "cosine"}.items()
}  # fmt: skip


class Size(NamedTuple):
    """How much is trained and searched, see `HashingSpec`."""

    images: int
    epochs: int
    bits: int
    index: int | None
    queries: int | None


SIZES: Mapping[str, Size] = {
    "smoke": Size(100, 1, 8, 200, 50),
    "quick": Size(400, 6, 16, 2000, 200),
    "reference": Size(5000, 20, 32, 20_000, 1000),
    "paper": Size(5000, 400, 64, None, None),
}


def create(setting: Setting) -> Study:
    """The study of chapter 22_retrieval: view strength by check.

    One contrast is primary, and decides none of the book's claims: the cluster check minus no check under JDA, in mAP
    of the student's own codes. Demonstrations have the four arms of its interaction with view strength, at one seed.
    """
    arms = by_label(*_arms(setting))
    study = Study("22_retrieval", setting, arms, tuple(_contrasts(arms)))
    measured, later = {}, {}
    for arm, (views, check) in zip(arms.values(), _asked(setting), strict=True):
        for seed in setting.seeds_of(arm):
            measured[arm.measurement(seed)] = _spec(setting, views, check, seed)
            later[arm.measurement(seed)] = study.tier(arm.label)
    return Study(study.name, setting, arms, study.contrasts, measured, later=later)


def label(views: str, check: str) -> str:
    """What an arm is called, of names of VIEWS and CHECKS."""
    return f"{views}, {CHECKS[check]}"


def _asked(setting: Setting) -> list[tuple[str, str]]:
    checks = FIRST if setting.profile.trains else CHECKS
    return [(views, check) for views in VIEWS for check in checks]


def _arms(setting: Setting) -> Iterable[MeasuredArm]:
    seeds = "one" if setting.profile.trains else "usual"
    for views, check in _asked(setting):
        yield MeasuredArm(
            label(views, check), VIEWS[views], "hashing", taxonomy=TAXONOMY[check], seeds=seeds, tier=LATER
        )  # fmt: skip


def _spec(setting: Setting, views: str, check: str, seed: int) -> HashingSpec:
    """bfloat16 where runs have it; float16 is too coarse for the ratio of such losses."""
    size = SIZES[setting.profile.name]
    setup = Hashing(
        student=setting.networks[1], policy=VIEWS[views], check=check, bits=size.bits, epochs=size.epochs, seed=seed
    )
    return HashingSpec(
        data=setting.data, teacher=setting.teacher(seed), setup=setup, images=size.images, index=size.index,
        queries=size.queries, machine=setting.machine.without_float16(),
    )  # fmt: skip


def _contrasts(arms: Mapping[str, Arm]) -> Iterable[Contrast]:
    """Those whose arms are there: the primary one first, then its interaction with view strength."""
    pairs = {views: (label(views, "cluster"), label(views, "none")) for views in VIEWS}
    own = {"metric": "own_map", "margin": MARGIN}
    yield Contrast.of("H1", *pairs[JDA], primary=True, among=PRIMARY, tier=LATER, **own)
    yield Contrast.interaction(
        INTERACTION, pairs[JDA], pairs[PLAIN], "cluster check - no check, under JDA - under weak2", **own
    )
    for arm, than in (
        pairs[PLAIN],
        (label(JDA, "none"), label(PLAIN, "none")),
        (label(JDA, "cluster"), label(JDA, "shuffled")),
        (label(JDA, "cosine"), label(JDA, "none")),
        (label(JDA, "cluster"), label(JDA, "cosine")),
    ):
        if {arm, than} <= set(arms):
            yield Contrast.of(f"{arm} - {than}", arm, than, **own)
    for metric, words in list(METRICS.items())[1:]:
        arm, than = pairs[JDA]
        yield Contrast(f"H1, {words}", {arm: 1, than: -1}, f"{words}: {arm} - {than}", metric=metric, margin=MARGIN)
