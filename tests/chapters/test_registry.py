"""Studies and profiles: fair comparisons by construction, and refusals."""

import itertools
from collections import Counter
from functools import cache

import pytest
import torch

from kdlib.chapters import CHAPTERS
from kdlib.chapters.registry import create_study
from kdlib.data.images import FACTS
from kdlib.data.sampling import Order, training_ids
from kdlib.lab.measurements import ScoresSpec, SpreadSpec, ThresholdsSpec, ViewsSpec
from kdlib.lab.optimisation import rate
from kdlib.lab.recipe import Public
from kdlib.lab.runs import needed
from kdlib.lab.specs import RunSpec
from kdlib.lab.tasks import TaskSpec
from kdlib.methods import METHODS
from kdlib.methods.ccd import CCD_WEIGHTS
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.arms import Contrast, MeasuredArm
from kdlib.study.profiles import PROFILES, profile
from kdlib.study.setting import Setting, Study

ALL = [
    (scale, name)
    for scale, name in itertools.product(PROFILES, CHAPTERS)
    if name in (PROFILES[scale].chapters or CHAPTERS)
]
#: Primary contrasts of related systems, which wait for the claims.
LATER = ("S1", "H1", "P1", "D1", "D2", "K2", "M1", "O1", "V1")


@cache
def built(scale: str, name: str, pair: str = "auto"):
    """(study, specs of each arm) on a CPU; built once, since every spec is validated."""
    study = create_study(name, Setting.of(scale, pair, device="cpu"))
    return study, {arm: study.specs(arm) for arm in study.arms}


@pytest.fixture(autouse=True)
def _isolated(isolated):
    """No test here reads or writes the project's store."""


@pytest.mark.parametrize(("scale", "name"), ALL)
def test_every_study_builds_at_every_profile_and_pair(scale, name):
    study, specs = built(scale, name)
    assert study.name == name
    assert all(label.endswith(arm.label) for label, arm in study.arms.items())  # chapter 12 names the study first
    keys = [spec.key for label, arm in specs.items() for spec in (*arm, *study.measured(label).values())]
    assert len(keys) == sum(len(study.setting.seeds_of(arm)) for arm in study.arms.values())
    assert all(bool(specs[label]) != isinstance(arm, MeasuredArm) for label, arm in study.arms.items())
    # In chapter 12 two studies may need the same run; at smoke a plain teacher is the student without one.
    if name != "12_verdicts" and (scale, name) != ("smoke", "04_augmented_teacher"):
        assert len(set(keys)) == len(keys)
    assert len({spec.key for spec in study.measurements.values()}) == len(study.measurements)
    assert len({contrast.name for contrast in study.contrasts}) == len(study.contrasts)
    for contrast in study.contrasts:
        assert set(contrast.weights) <= set(study.arms)
        assert sum(contrast.weights.values()) == pytest.approx(0)
        assert sum(abs(w) for w in contrast.weights.values()) in (pytest.approx(2), pytest.approx(4))
        assert contrast.says in ("better", "no better", "less")
        assert contrast.title
    for points in study.series.values():
        assert set(points) <= set(study.arms)
        assert len(set(points.values())) == len(points)


def test_every_pair_builds():
    for scale in PROFILES.values():
        for pair, networks in scale.pairs.items():
            if scale.chapters:
                continue
            setting = Setting.of(scale.name, pair, seeds=[0], device="cpu")
            study = create_study("03_blind_teacher", setting)
            (spec,) = study.specs("JDA")
            assert setting.networks == networks
            assert spec.student == networks[1]


def of_runs(study: Study) -> list[Contrast]:
    """The contrasts whose arms have runs."""
    return [c for c in study.contrasts if not any(study.measured(arm) for arm in c.weights)]


def work(spec: RunSpec) -> tuple[int, int, int]:
    """(steps, views of a step, training images), counted on the stream of images that training would see."""
    per_image, recipe = spec.view_policy().views, spec.recipe
    images = (spec.data, spec.seed, spec.fraction, spec.pool, spec.validation, spec.part)
    steps, batch, count, last = stream(images, spec.images_per_step, recipe.views_per_image, recipe.views_per_step)
    seen = recipe.views_per_image
    assert (last + 1) * per_image in range(seen - per_image + 1, seen + 2 * per_image)
    return steps, per_image * batch, count


@cache
def stream(images: tuple, per_step: int, views: int, views_per_step: int) -> tuple[int, int, int, int]:
    """(steps, images of a step, training images, epoch of the last image): many arms have the same."""
    data, seed, *chosen = images
    known = FACTS[data]
    labels = torch.arange(sum(known.class_sizes)) % len(known.class_sizes)  # balanced, as these data sets are
    ids = training_ids(labels, seed, *chosen)
    order = Order(tuple(ids.tolist()), sum(known.class_sizes), per_step, seed)
    steps = len(ids) * views // views_per_step
    return steps, order.batch, len(ids), order.at(steps - 1)[1].max().item()


@pytest.mark.parametrize(("scale", "name"), ALL)
def test_arms_of_a_contrast_have_equal_views_steps_images_and_seeds(scale, name):
    """Those of measured arms: tests/chapters/retrieval."""
    study, specs = built(scale, name)
    for contrast in of_runs(study):
        arms = [specs[arm] for arm in contrast.weights]
        seeds = [[s.seed for s in arm] for arm in arms]
        shared = min(seeds, key=len)
        assert all(s[: len(shared)] == shared for s in seeds) and len(shared) == study.planned(contrast)
        found = Counter(work(arm[0]) for arm in arms)
        slope = contrast.name == "F4"  # at each of its budgets two arms, equal in all of this
        assert len(found) == 1 or slope and set(found.values()) == {2}, (contrast.name, found)
        assert min(found)[0] >= (1 if name == "18_budget" else 2)  # at smoke the smaller budget is one step


@pytest.mark.parametrize(("scale", "name"), ALL)
def test_contrasts_are_found_by_their_names(scale, name):
    study, _ = built(scale, name)
    for contrast in study.contrasts:
        assert study.contrast(contrast.name) is contrast
    assert study.contrast("no such contrast") is None


@pytest.mark.parametrize(("scale", "name"), ALL)
def test_arms_of_a_contrast_differ_only_in_what_is_compared(scale, name):
    """One recipe, network, data and machine; one trained teacher, but for chapter 04 and heads trained on it. Those of
    measured arms: tests/chapters/retrieval."""
    study, specs = built(scale, name)
    for contrast in of_runs(study):
        for seed in range(study.planned(contrast)):
            runs = [specs[arm][seed] for arm in contrast.weights]
            ignored = {"policy", "method", "options", "teacher"} | (
                {"part"} if contrast.name == "interaction" else set()
            )
            if name == "14_view_bank":  # where views come from, and the precision, are what is compared
                ignored |= {"bank", "exact", "machine"}
            if contrast.name == "e at a smaller rate":  # that of one method, on both its sides
                ignored |= {"recipe"}
            if contrast.name.startswith("interaction of"):  # of the student with what it sees
                ignored |= {"student"}
            if name == "18_budget":  # families of methods have rates of their own, and a slope joins budgets
                ignored |= {"recipe"}
            assert len({repr(s.model_dump(exclude=ignored)) for s in runs}) == 1
            if name != "04_augmented_teacher":
                assert len({trained_teacher(s) for s in runs if s.teacher} - {"joint"}) <= 1


def trained_teacher(spec: RunSpec) -> str:
    """The network that a student learns from, below a head that was trained on it."""
    teacher = spec.teacher
    while isinstance(teacher, RunSpec) and not METHODS[teacher.method].trains_student:
        teacher = teacher.teacher
    if isinstance(teacher, RunSpec) and teacher.method == "hsakd_joint_teacher":
        return "joint"
    return teacher.key if isinstance(teacher, RunSpec) else repr(teacher)


def test_every_number_of_views_gives_equal_steps():
    for scale in PROFILES.values():
        for views in (1, 2, 4):
            assert scale.recipe.views_per_step % views == 0
            assert scale.recipe.views_per_image % views == 0


@pytest.mark.parametrize(("scale", "name"), ALL)
def test_blind_teachers_never_see_an_augmented_view(scale, name):
    """All teachers but those of chapter 04, and what heads are trained on."""
    study, specs = built(scale, name)
    measured = (s.student if isinstance(s, ThresholdsSpec) else s for s in study.measurements.values())
    runs = [*measured, *(spec for arm in specs.values() for spec in arm)]
    teachers = [taught.teacher for s in runs for taught in s.taught if taught.teacher is not None]
    while teachers:
        teacher = teachers.pop()
        if isinstance(teacher, RunSpec):
            own = name in ("04_augmented_teacher", "12_verdicts") and teacher.policy.name == "jda"
            assert own or teacher.policy.name in ("weak1", "weak2")
            assert teacher.method in ("ce", "sskd_teacher", "hsakd_teacher", "hsakd_joint_teacher", "soteacher")
            teachers += [teacher.teacher] if teacher.teacher else []


def test_student_seed_s_learns_from_teacher_seed_s_at_paper():
    study = create_study("03_blind_teacher", Setting.of("paper", seeds=[3, 8], device="cpu"))
    for arm in study.arms:
        taught = [(s.seed, s.teacher.seed) for s in study.specs(arm) if s.teacher]
        assert taught == ([] if study.arms[arm].method == "ce" else [(3, 3), (8, 8)])
    shared = create_study("05_proportion", Setting.of("quick", seeds=[3, 8], device="cpu"))
    assert len({s.teacher.key for s in shared.all_specs if s.teacher}) == 1


def test_reference_learns_from_the_public_resnet56():
    setting = Setting.of("reference", device="cpu")
    assert setting.data == "cifar100"
    for name in set(CHAPTERS) - {"04_augmented_teacher", "10_imagenet", "12_verdicts", "18_budget", "24_detection"}:
        study, specs = built("reference", name)
        measured = [
            t
            for s in study.measurements.values()
            if not isinstance(s, ScoresSpec | ThresholdsSpec | TaskSpec)
            for t in s.taught
        ]
        others = [label for label, arm in study.arms.items() if arm.teacher or arm.head]  # controls for the teacher
        arms = [spec for label, arm in specs.items() if label not in others for spec in arm]
        for spec in [*(s for s in measured if s not in specs.get("HSAKD, joint teacher", ())), *arms]:
            if getattr(spec, "part", "all") == "all":  # the control for memorisation trains its own
                assert trained_teacher(spec) == repr(Public(checkpoint="cifar100_resnet56")) or spec.teacher is None
    assert setting.teacher().sha256 == PUBLIC["cifar100_resnet56"].contents
    assert PUBLIC["cifar100_resnet56"].top1 == 72.63
    assert len(setting.seeds) >= 5
    assert setting.profile.recipe.evaluations <= 10


def test_the_paper_profile_is_the_papers_recipe():
    scale = PROFILES["paper"]
    assert set(scale.pairs.values()) >= {("wrn_40_2", "wrn_16_2"), ("resnet56", "resnet20")}
    recipe = scale.recipe
    assert (recipe.views_per_step, recipe.views_per_image) == (256, 480)  # 240 epochs of 128 images, two views each
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay, recipe.nesterov) == (0.1, 0.9, 1e-4, True)
    assert rate(recipe, 149 / 240) == pytest.approx(0.1)
    assert rate(recipe, 211 / 240) == pytest.approx(1e-4)
    assert scale.teacher_recipe.views_per_image == 240  # epochs of one view
    assert scale.fraction == 1
    assert scale.pool is None


def test_the_primary_contrasts_of_the_blind_teacher_are_fixed():
    for scale in (name for name, scale in PROFILES.items() if not scale.chapters):
        study = create_study("03_blind_teacher", Setting.of(scale, device="cpu"))
        primary = {c.name: (c.weights, c.says) for c in study.contrasts if c.primary}
        assert primary == {
            "a1": ({"JDA": 1, "weak2": -1}, "better"),
            "a2": ({"JDA": 1, "rot4": -1}, "better"),
        }
        assert {arm.method for arm in study.arms.values()} == {"kd", "ce"}


def test_ccd_is_compared_with_its_controls():
    study = create_study("08_cosine_confidence", Setting.of("reference", device="cpu"))
    weights = {arm.options.get("weight") for arm in study.arms.values() if arm.method == "ccd"}
    assert set(CCD_WEIGHTS) - {"one"} == weights
    assert {study.arms[f"same cluster{rest}"].tier for rest in ("", ", shuffled")} == {3}
    assert {"same cluster - w = 1 (KD + JDA)", "same cluster - same cluster, shuffled"} <= {
        c.text for c in study.contrasts
    }
    for arm in study.arms.values():
        assert arm.policy.views == 2
    same = [a for a in study.arms.values() if a.method == "kd" and a.policy.name == "jda"]
    assert len(same) == 1  # w = 1 is KD + JDA
    few = create_study("08_cosine_confidence", Setting.of("reference", device="cpu"), weights=["mean", "cosine"])
    assert [c.text for c in few.contrasts if c.name.startswith("CCD")] == [
        "CCD - w = mean(w)", "CCD - DKD + JDA",
    ]  # fmt: skip


def test_options_reach_the_runs():
    setting = Setting.of("smoke", device="cpu")
    study = create_study("03_blind_teacher", setting, ops="cifar10", p=0.1)
    (spec,) = study.specs("JDA")
    assert spec.policy.options == {"ops": "cifar10", "p": 0.1}
    assert study.measurements["JDA"].policy == spec.policy
    default = create_study("03_blind_teacher", setting).specs("JDA")[0]
    assert default.key == create_study("03_blind_teacher", setting, p=0.3).specs("JDA")[0].key
    assert default.key != spec.key


def test_measurements_use_the_teacher_of_the_students():
    for scale, name in ALL:
        study, specs = built(scale, name)
        for measured, spec in study.measurements.items():
            assert spec.data == study.setting.data or isinstance(spec, TaskSpec)
            if name == "04_augmented_teacher" and measured in study.arms:  # teachers that are arms themselves
                assert spec.teacher == specs[measured][0]
            elif isinstance(spec, ViewsSpec | SpreadSpec):
                assert spec.teacher == study.setting.teacher()


def test_what_is_timed_are_the_arms_themselves():
    study, specs = built("quick", "09_ccd_versus_hsakd")
    timing = study.measurements["timing"]
    untimed = ("no teacher", "DKD + JDA")  # which are no methods of the comparison of cost
    assert timing.runs == {arm: runs[0] for arm, runs in specs.items() if arm not in untimed}
    assert {run.key for run in timing.prerequisites} <= {run.key for run in needed(study.all_specs)}


def test_contrasts_of_several_arms():
    mean = Contrast.mean_of("m", [("A", "a"), ("B", "b")], "mean gain")
    assert mean.weights == {"A": 0.5, "a": -0.5, "B": 0.5, "b": -0.5}
    difference = Contrast.interaction("i", ("A", "a"), ("B", "b"), "gain")
    assert difference.weights == {"A": 1, "a": -1, "B": -1, "b": 1}
    assert Contrast.of("x", "A", "B").title == "A - B"
    assert Contrast.of("a1", "A", "B", primary=True).title == "a1: A - B"


@pytest.mark.parametrize(
    ("scale", "name", "said"),
    [
        ("imagenet", "03_blind_teacher", "10_imagenet; 03_blind_teacher has smoke, quick, reference, paper"),
        ("imagenet", "18_budget", "10_imagenet; 18_budget has smoke, quick, reference, full, paper"),
        ("full", "10_imagenet", "18_budget; 10_imagenet has smoke, quick, reference, paper, imagenet"),
    ],
)
def test_a_profile_may_belong_to_one_chapter(scale, name, said):
    with pytest.raises(ValueError, match="belongs") as refusal:
        create_study(name, Setting.of(scale, device="cpu"))
    assert str(refusal.value) == f"profile = '{scale}' belongs to chapter {said}"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "huge"}, "profile = 'huge' is unknown; allowed are smoke, quick, reference, full, paper, imagenet"),
        (
            {"name": "smoke", "pair": "x-y"},
            "pair = 'x-y' is unknown at profile 'smoke'; allowed are auto, resnet8_tiny-resnet8_tiny, or "
            "TEACHER-STUDENT of any two names of kdlib.models.MODELS (the teacher: also of a public checkpoint), "
            "which hold no hyphen",
        ),
        ({"name": "smoke", "seeds": [0, 0]}, "seeds = [0, 0] must be a list of different whole numbers from 0 up"),
        ({"name": "smoke", "seeds": [-1]}, "seeds = [-1] must be a list of different whole numbers from 0 up"),
        ({"name": "smoke", "seeds": [1.5]}, "seeds = [1.5] must be a list of different whole numbers from 0 up"),
        ({"name": "smoke", "seeds": [True]}, "seeds = [True] must be a list of different whole numbers from 0 up"),
        ({"name": "smoke", "device": "tpu"}, "device = 'tpu' is unknown; allowed are auto, cpu, cuda"),
    ],
)  # fmt: skip
def test_bad_choices_are_refused_in_one_sentence(fields, sentence):
    with pytest.raises(ValueError, match="allowed|must") as refusal:
        Setting.of(**fields)
    assert str(refusal.value) == sentence


def test_bad_study_options_are_refused_in_one_sentence():
    setting = Setting.of("smoke", device="cpu")
    for name, options, sentence in (
        ("99_none", {}, f"study = '99_none' is unknown; allowed are {', '.join(CHAPTERS)}"),
        (
            "08_cosine_confidence",
            {"weights": ["x"]},
            "weights = ['x'] is not possible; allowed are different words among cosine, one, mean",
        ),
        ("03_blind_teacher", {"ops": "x"}, "ops = 'x' is unknown; allowed are cifar100, cifar10, imagenet"),
        ("03_blind_teacher", {"p": 1.5}, "p = 1.5 is not a probability; allowed are numbers from 0 to 1"),
    ):
        with pytest.raises(ValueError, match="allowed") as refusal:
            create_study(name, setting, **options)
        assert str(refusal.value).startswith(sentence)
        assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="profile = 'x' is unknown"):
        profile("x")


def test_the_same_weight_twice_is_refused():
    with pytest.raises(ValueError, match="weights"):
        create_study("08_cosine_confidence", Setting.of("smoke", device="cpu"), weights=["cosine", "cosine", "one"])


def test_headline_arms_have_ten_seeds_and_exploratory_ones_three():
    study = create_study("08_cosine_confidence", Setting.of("reference", device="cpu"))
    counts = {arm: len(study.specs(arm)) for arm in study.arms}
    assert {arm for arm, n in counts.items() if n == 10} == {"weak2", "w = 1 (KD + JDA)", "CCD", "w = mean(w)"}
    assert counts["w shuffled"] == counts["x only"] == 3
    assert [study.tier(arm) for arm in ("CCD", "w shuffled", "x only")] == [1, 2, 3]
    between = {c.name: study.planned(c) for c in study.contrasts}
    assert between["CCD - w = mean(w)"] == 10 and between["CCD - w shuffled"] == 3
    chosen = create_study("08_cosine_confidence", Setting.of("reference", seeds=[0, 1, 2, 3, 4], device="cpu"))
    assert {len(chosen.specs(arm)) for arm in chosen.arms} == {5}


def test_the_first_tier_decides_every_claim():
    setting = Setting.of("reference", device="cpu")
    studies = [create_study(name, setting) for name in CHAPTERS]
    up_to = {tier: {spec.key for study in studies for spec in study.specs_to(tier)} for tier in (1, 3)}
    for study in studies:
        for contrast in study.contrasts:
            if contrast.primary:
                assert contrast.tier == (3 if contrast.name in LATER else 1)
                specs = [s for arm in contrast.weights for s in study.specs(arm) or study.measured(arm).values()]
                assert {spec.key for spec in specs} <= up_to[contrast.tier] and specs
                assert study.planned(contrast) >= 5
        second, third, all_of_them = ({s.key for s in study.specs_to(tier)} for tier in (2, 3, 4))
        assert second <= third == {s.key for s in study.all_specs} <= all_of_them


@pytest.mark.parametrize("name", [name for name in CHAPTERS if name != "10_imagenet"])
def test_profiles_without_limits_plan_every_arm(name):
    for scale in ("quick", "paper"):
        study = create_study(name, Setting.of(scale, device="cpu"))
        assert study.all_specs == study.specs_to(4)


@pytest.mark.parametrize(("scale", "teachers"), [("reference", 1), ("paper", 5), ("quick", 1)])
def test_a_public_teacher_has_one_head_for_all_seeds(scale, teachers):
    study = create_study("07_compatibility", Setting.of(scale, device="cpu"))
    for arm in ("HSAKD + JDA", "HSAKD + weak2"):
        assert len({spec.teacher.key for spec in study.specs(arm)}) == teachers


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("06_few_shot", {"fractions": [0]}, "fractions = [0.0] must be shares of the training images, above 0 and"),
        ("06_few_shot", {"fractions": [0.5, 1.5]}, "fractions = [0.5, 1.5] must be shares of the training images"),
        ("06_few_shot", {"fractions": 0.5}, "option fractions = 0.5 is not allowed: input should be a valid list"),
        ("06_few_shot", {"fractions": ["a"]}, "option fractions.0 = 'a' is not allowed"),
        ("07_compatibility", {"methods": [["a"]]}, "option methods.0 = ['a'] is not allowed"),
        ("05_proportion", {"shares": [None]}, "option shares.0 = None is not allowed"),
        ("05_proportion", {"probabilities": ["x"]}, "option probabilities.0 = 'x' is not allowed"),
        ("08_cosine_confidence", {"weights": "cosine"}, "option weights = 'cosine' is not allowed"),
    ],
)
def test_options_of_a_wrong_type_or_value_are_refused_in_one_sentence(name, options, said):
    with pytest.raises(ValueError, match=".") as refusal:
        create_study(name, Setting.of("quick", device="cpu"), **options)
    assert str(refusal.value).startswith(said) and "\n" not in str(refusal.value)


def test_a_teacher_of_the_profiles_pairs_is_the_same_in_every_pair():
    own = Setting.of("reference", device="cpu")
    other = Setting.of("reference", "resnet56-resnet20", device="cpu")
    assert other.networks == ("cifar100_resnet56", "resnet20") and other.teacher() == own.teacher()
    assert Setting.of("reference", "wrn_16_2-resnet8", device="cpu").networks == ("wrn_16_2", "resnet8")
    assert Setting.of("paper", "resnet56-resnet8", device="cpu").networks == ("resnet56", "resnet8")


@pytest.mark.parametrize("name", ["10_imagenet", "16_sizing"])
def test_chapters_that_show_another_profile_keep_the_device(name, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    assert create_study(name, Setting.of("paper", device="cpu")).setting.machine.device == "cpu"
