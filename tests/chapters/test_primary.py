"""What the verdicts rest on, written out by hand and compared with the specs that would run.

Every side of the nine primary contrasts at the two profiles that give verdicts: what is trained, on which views, of how
much data, learning from whom. Then the published settings, the control for memorisation, and arms that are told apart
by their labels alone.
"""

from functools import cache
from typing import NamedTuple

import pytest
import torch

from kdlib.chapters import CHAPTERS
from kdlib.chapters.registry import create_study
from kdlib.data.sampling import training_ids
from kdlib.lab.recipe import Policy, Recipe
from kdlib.lab.specs import RunSpec
from kdlib.study.setting import Setting, Study

WEAK1, WEAK2, ROT4 = ("weak1",), ("weak2",), ("rot4",)
JDA, JDA_ALWAYS = ("jda", ("ops", "cifar100"), ("p", 0.3)), ("jda", ("ops", "cifar100"), ("p", 1.0))

# As published: one place for a method's options. DKD's beta depends on the pair.
CE_AND_KD = {"temperature": 4, "ce_weight": 1, "kd_weight": 1}
OPTIONS = {
    "ce": {}, "sskd_teacher": {}, "hsakd_teacher": {}, "hsakd_joint_teacher": {},
    "kd": CE_AND_KD,
    "ccd": CE_AND_KD | {"weight": "cosine"},
    "dkd": {"temperature": 4, "ce_weight": 1, "alpha": 1, "warm_up": 20 / 240},
    "spkd": CE_AND_KD | {"kd_weight": 0, "weight": 3000},
    "crd": CE_AND_KD | {"kd_weight": 0, "weight": 0.8, "negatives": 16384},
    "sskd": {
        "temperature": 4, "similarity_temperature": 0.5, "ce_weight": 0.1, "kd_weight": 0.9, "turned_weight": 2.7,
        "similarity_weight": 10, "turned_ratio": 1, "similarity_ratio": 0.75,
    },
    "hsakd": {"temperature": 3, "ce_weight": 1, "kd_weight": 1, "branch_weight": 1},
}  # fmt: skip


class Trained(NamedTuple):
    """A run by what matters: a student, or, if it learns from nobody, a teacher."""

    network: str
    method: str
    views: tuple  # name of the policy, and its options
    options: tuple
    teacher: "Trained | str | None" = None  # a name is that of a public checkpoint
    fraction: float = 1.0
    views_per_image: int = 0
    part: str = "all"


def described(spec: RunSpec) -> Trained:
    """The same of a spec."""
    teacher = described(spec.teacher) if isinstance(spec.teacher, RunSpec) else spec.teacher and spec.teacher.checkpoint
    views = (spec.policy.name, *sorted(spec.policy.options.items()))
    return Trained(
        spec.student, spec.method, views, ordered(spec.options), teacher, spec.fraction, spec.recipe.views_per_image,
        spec.part,
    )  # fmt: skip


def ordered(options: dict) -> tuple:
    return tuple(sorted(options.items()))


class Scale(NamedTuple):
    """What a profile's runs have in common; (views per image, fraction) of students, teachers, heads, few-shot ones."""

    student: str
    teacher: Trained | str
    own_network: str  # of the teachers that are trained for a comparison
    beta: float
    usual: tuple[int, float]
    own: tuple[int, float]
    heads: tuple[int, float]
    few: tuple[int, float]

    def pupil(self, method: str, views: tuple, teacher=None, amount=None, **options) -> Trained:
        count, fraction = amount or self.usual
        chosen = ordered(OPTIONS[method] | options)
        return Trained(self.student, method, views, chosen, teacher or self.teacher, fraction, count)

    def trained_teacher(self, views: tuple) -> Trained:
        return Trained(self.own_network, "ce", views, (), None, self.own[1], self.own[0])

    def with_heads(self, method: str) -> Trained:
        name = self.teacher.network if isinstance(self.teacher, Trained) else "resnet56"
        return Trained(name, method, WEAK1, (), self.teacher, self.heads[1], self.heads[0])


SCALES = {
    "reference": Scale(
        "resnet8", "cifar100_resnet56", "resnet20", 2.0, usual=(60, 0.5), own=(60, 1.0), heads=(20, 1.0), few=(300, 0.1)
    ),
    "paper": Scale(  # one view in 240 epochs is equal to two views in 120, for the teachers
        "wrn_16_2", Trained("wrn_40_2", "ce", WEAK1, (), None, 1.0, 240), "wrn_40_2", 6.0,
        usual=(480, 1.0), own=(240, 1.0), heads=(400, 1.0), few=(1920, 0.25),
    ),
}  # fmt: skip


def contrasts(at: Scale) -> dict[str, tuple[str, str, dict[Trained, float]]]:
    """Name -> (chapter, what the claim says, the sides with their weights)."""
    kd, jda_teacher, plain = at.pupil, at.trained_teacher(JDA), at.trained_teacher(WEAK2)
    hsakd = at.with_heads("hsakd_teacher")
    mean = {}
    for method, teacher, options in (("dkd", None, {"beta": at.beta}), ("spkd", None, {}), ("hsakd", hsakd, {})):
        for views, weight in ((JDA, 1 / 3), (WEAK2, -1 / 3)):
            mean[at.pupil(method, views, teacher, **options)] = weight
    students = {
        kd("kd", views, teacher): weight
        for teacher, weight in ((jda_teacher, 0.5), (plain, -0.5))
        for views in (WEAK2, JDA)
    }
    zero_point = {kd("kd", JDA): 1, kd("kd", WEAK2): -1}
    return {
        "a1": ("03_blind_teacher", "better", zero_point),
        "a2": ("03_blind_teacher", "better", {kd("kd", JDA): 1, kd("kd", ROT4): -1}),
        "b1": ("04_augmented_teacher", "better", {jda_teacher: 1, plain: -1}),
        "b2": ("04_augmented_teacher", "no better", students),
        "c1": ("05_proportion", "better", zero_point),  # p = 0 is two plain crops
        "c2": ("05_proportion", "better", {kd("kd", JDA): 1, kd("kd", JDA_ALWAYS): -1}),
        "d": (
            "06_few_shot",
            "better",
            {kd("kd", JDA, amount=at.few): 1, kd("kd", WEAK2, amount=at.few): -1},
        ),
        "e": ("07_compatibility", "better", mean),
        "f": ("09_ccd_versus_hsakd", "better", {kd("ccd", JDA): 1, kd("hsakd", WEAK1, hsakd): -1}),
    }


@cache
def built(scale: str, name: str) -> Study:
    return create_study(name, Setting.of(scale, device="cpu"))


def sides(study: Study, weights) -> dict[Trained, float]:
    return {described(study.specs(label)[0]): weight for label, weight in weights.items()}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["a1", "a2", "b1", "b2", "c1", "c2", "d", "e", "f"])
def test_a_primary_contrast_compares_what_was_fixed(scale: str, name: str):
    chapter, says, expected = contrasts(SCALES[scale])[name]
    study = built(scale, chapter)
    (contrast,) = (c for c in study.contrasts if c.name == name)
    assert contrast.primary and contrast.says == says
    assert len(contrast.weights) == len(expected)
    assert sides(study, contrast.weights) == pytest.approx(expected)
    assert (contrast.cheaper is not None) == (name == "f")
    if name == "f":  # CCD must also need fewer bytes than HSAKD
        assert [described(study.specs(label)[0]).method for label in contrast.cheaper] == ["ccd", "hsakd"]


@pytest.mark.parametrize("scale", SCALES)
def test_no_other_contrast_decides_a_claim(scale: str):
    # with contrasts of their own
    own = (
        "18_budget", "19_rivals", "20_which_images", "21_resolution", "22_retrieval", "23_thresholds", "24_detection",
        "25_translation", "26_oriented",
        "27_masked",
    )  # fmt: skip
    others = [name for name in CHAPTERS if name not in own]
    primary = {(c.name, name) for name in others for c in built(scale, name).contrasts if c.primary}
    primary -= {("S1", "04_augmented_teacher"), ("P1", "06_few_shot")}  # which decide none
    assert primary == {(name, chapter) for name, (chapter, _, _) in contrasts(SCALES[scale]).items()}


# --- published settings


STEPS = {"schedule": "steps", "momentum": 0.9}


def recipe(**fields) -> dict:
    return Recipe(**STEPS | fields).model_dump()


def test_students_and_teachers_of_the_paper_follow_its_recipe():
    """240 epochs, 128 images of two views, 0.1 times 0.1 at 150, 180 and 210, Nesterov 0.9, weight decay 1e-4."""
    published = {
        "views_per_step": 256, "learning_rate": 0.1, "weight_decay": 1e-4, "nesterov": True,
        "milestones": (150 / 240, 180 / 240, 210 / 240), "evaluations": 10,
    }  # fmt: skip
    (spec,) = create_study("03_blind_teacher", Setting.of("paper", seeds=[4], device="cpu")).specs("JDA")
    assert spec.recipe.model_dump() == recipe(**published, views_per_image=2 * 240)
    assert spec.teacher.recipe.model_dump() == recipe(**published, views_per_image=240)


@pytest.mark.parametrize(("chapter", "arm"), [("07_compatibility", "SSKD + JDA"), ("07_compatibility", "HSAKD + weak2"),
                                              ("09_ccd_versus_hsakd", "HSAKD, frozen teacher")])  # fmt: skip
def test_heads_of_frozen_teachers_follow_hsakds_recipe(chapter: str, arm: str):
    """100 epochs, 64 images of four views, 0.05 times 0.1 at 30, 60 and 90, Nesterov 0.9, weight decay 5e-4."""
    spec = built("paper", chapter).specs(arm)[0]
    assert spec.teacher.recipe.model_dump() == recipe(
        views_per_step=4 * 64, views_per_image=4 * 100, learning_rate=0.05, weight_decay=5e-4, nesterov=True,
        milestones=(0.3, 0.6, 0.9), evaluations=1,
    )  # fmt: skip
    assert spec.recipe.views_per_image == 480  # the student's own


@pytest.mark.parametrize("arm", ["KD + weak2", "KD + JDA", "CCD"])
def test_imagenet_follows_its_recipe(arm: str):
    """200 epochs, 768 images of two views in two parts, 0.1 times 0.1 at 60, 120 and 180, no Nesterov, norm 20."""
    for spec in built("imagenet", "10_imagenet").specs(arm):
        assert spec.recipe.model_dump() == recipe(
            views_per_step=1536, views_per_image=2 * 200, learning_rate=0.1, weight_decay=1e-4, nesterov=False,
            milestones=(60 / 200, 120 / 200, 180 / 200), evaluations=10, clip_norm=20, micro_batches=2,
        )  # fmt: skip
        assert (spec.data, spec.student, spec.fraction) == ("imagenet", "resnet18_imagenet", 1)
        assert spec.teacher.checkpoint == "imagenet_resnet34"
        assert spec.policy == (Policy(name="weak2") if arm == "KD + weak2" else imagenet_jda())


def imagenet_jda() -> Policy:
    """JDA with the list of ImageNet, each operation with probability 0.2."""
    return Policy(name="jda", options={"ops": "imagenet", "p": 0.2})


@pytest.mark.parametrize(
    ("pair", "beta"),
    [
        ("resnet56-resnet20", 2), ("wrn_40_2-wrn_16_2", 6), ("wrn_40_2-wrn_40_1", 6), ("vgg13-vgg8", 6),
        ("vgg13-mobilenetv2", 6), ("resnet32x4-resnet8x4", 8), ("resnet50-mobilenetv2", 8),
        ("wrn_40_2-shufflenetv1", 8), ("resnet32x4-shufflenetv2", 8),
    ],
)  # fmt: skip
def test_the_beta_of_dkd_is_that_of_the_pair(pair: str, beta: float):
    setting = Setting.of("paper", pair, seeds=[0], device="cpu")
    assert pair in setting.profile.pairs
    study = create_study("07_compatibility", setting, methods=["dkd"])
    assert {study.specs(f"DKD + {views}")[0].options["beta"] for views in ("weak2", "JDA")} == {beta}


# --- the control for memorisation


@pytest.mark.parametrize("scale", SCALES)
def test_the_interaction_tells_seen_images_from_unseen_ones(scale: str):
    """By the images themselves: all that a student of seen images trains on were the teacher's, and none of another's.

    The interaction is (JDA - weak2 of unseen images) - (JDA - weak2 of seen images), all of one number of images.
    """
    study = built(scale, "03_blind_teacher")
    (contrast,) = (c for c in study.contrasts if c.name == "interaction")
    found, sizes = {}, set()
    for label, weight in contrast.weights.items():
        spec = study.specs(label)[1]
        own, teachers = images(spec), images(spec.teacher)
        assert own <= teachers or not own & teachers
        where = "seen" if own <= teachers else "unseen"
        assert label.startswith(f"{where}: ")
        assert (spec.method, spec.teacher.method, spec.teacher.policy.name) == ("kd", "ce", "weak1")
        found[where, spec.policy.name] = weight
        sizes.add(len(own))
    assert found == {("unseen", "jda"): 1, ("unseen", "weak2"): -1, ("seen", "jda"): -1, ("seen", "weak2"): 1}
    assert len(sizes) == 1


def images(spec: RunSpec) -> set[int]:
    """Ids of the training images of a run on CIFAR-100: 500 of each class."""
    labels = torch.arange(50_000) % 100
    return set(training_ids(labels, spec.seed, spec.fraction, spec.pool, spec.validation, spec.part).tolist())


# --- labels that only the options stand behind


def test_labels_of_the_four_terms_name_what_is_on():
    """The order is CE on x, CE on x~, KL on x, KL on x~."""
    study = built("reference", "08_cosine_confidence")
    found = {n: study.specs(n)[0].options["weights"] for n, arm in study.arms.items() if arm.method == "four_term"}
    assert found == {
        "x only": (1, 0, 1, 0), "x only, twice": (2, 0, 2, 0), "x, CE on x~": (1, 1, 1, 0), "x, KL on x~": (1, 0, 1, 1),
        "CE only": (1, 1, 0, 0), "KL only": (0, 0, 1, 1),
    }  # fmt: skip


def test_labels_of_the_controls_of_ccd_name_their_weight():
    study = built("reference", "08_cosine_confidence")
    found = {n: study.specs(n)[0].options["weight"] for n, arm in study.arms.items() if arm.method == "ccd"}
    assert found == {
        "CCD": "cosine", "w = mean(w)": "mean", "w shuffled": "shuffled", "w / mean(w)": "normalised",
        "centred cosine": "centred", "cosine of softmax": "softmax", "confidence of teacher": "confidence",
        "same cluster": "cluster", "same cluster, shuffled": "cluster_shuffled",
    }  # fmt: skip


def assert_only_slower(study: Study, slow: str, label: str, divisor: int = 4) -> None:
    """The runs of one arm are those of another at a fraction of the learning rate."""
    for one, other in zip(study.specs(slow), study.specs(label), strict=False):  # the slow arm has fewer seeds
        assert divisor * one.recipe.learning_rate == pytest.approx(other.recipe.learning_rate)
        recipe = one.recipe.model_copy(update={"learning_rate": other.recipe.learning_rate})
        assert one.model_copy(update={"recipe": recipe}) == other


@pytest.mark.parametrize("scale", SCALES)
def test_hsakd_gains_at_a_smaller_rate_too(scale: str):
    study = built(scale, "07_compatibility")
    slow = "HSAKD (rate/4)"
    for views in ("weak2", "JDA"):
        assert_only_slower(study, f"{slow} + {views}", f"HSAKD + {views}")
    (mean,) = (contrast for contrast in study.contrasts if contrast.name == "e at a smaller rate")
    assert not mean.primary
    gains = {name: [mean.weights[f"{name} + {views}"] for views in ("JDA", "weak2")] for name in ("DKD", "SPKD", slow)}
    assert len(mean.weights) == 6
    assert all(weights == pytest.approx([1 / 3, -1 / 3]) for weights in gains.values())


@pytest.mark.parametrize("scale", SCALES)
def test_ccds_rivals_have_their_own_views_and_teachers(scale: str):
    at, study = SCALES[scale], built(scale, "09_ccd_versus_hsakd")
    found = {label: described(study.specs(label)[0]) for label in study.arms}
    joint = found.pop("HSAKD, joint teacher")
    for label in ("CCD", "HSAKD, frozen teacher"):
        for words, divisor in (("a quarter of the rate", 4), ("a sixteenth of the rate", 16)):
            assert_only_slower(study, f"{label}, {words}", label, divisor)
            del found[f"{label}, {words}"]
    longer = [label for label in found if label.endswith(", four times the views")]
    assert len(longer) == (5 if scale == "reference" else 0)
    for label in longer:
        assert found.pop(label).views_per_image == 4 * at.usual[0]
    assert found.pop("no teacher") == at.pupil("ce", WEAK2)._replace(teacher=None)
    assert found == {
        "DKD + JDA": at.pupil("dkd", JDA, beta=at.beta),
        "KD + weak2": at.pupil("kd", WEAK2),
        "KD + JDA": at.pupil("kd", JDA),
        "CCD": at.pupil("ccd", JDA),
        "CRD": at.pupil("crd", WEAK2),
        "SSKD": at.pupil("sskd", WEAK1, at.with_heads("sskd_teacher")),
        "HSAKD, frozen teacher": at.pupil("hsakd", WEAK1, at.with_heads("hsakd_teacher")),
    }
    assert joint == at.pupil("hsakd", WEAK1, joint.teacher)
    assert joint.teacher[:5] == (at.own_network, "hsakd_joint_teacher", WEAK1, (), None)
    if scale == "paper":
        assert joint.teacher.views_per_image == 4 * 240  # 240 epochs of four views
