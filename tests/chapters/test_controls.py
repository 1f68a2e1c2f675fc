"""The comparisons beside the verdicts: every one is there, and says what the runs say."""

import numpy as np
import pytest

from kdlib.chapters.claims import CLAIMS, CONTRASTS
from kdlib.chapters.controls import CONTROLS, controls_frame
from kdlib.chapters.few_shot import percent
from kdlib.chapters.registry import create_study
from kdlib.lab.recipe import Public
from kdlib.lab.store import Store
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.mark.parametrize("profile", ["reference", "paper"])
def test_every_claim_has_controls_and_every_control_is_there(profile: str):
    frame = controls_frame(Store(profile), Setting.of(profile, device="cpu"))
    assert list(dict.fromkeys(frame.index)) == list(CONTROLS) == [claim.name for claim in CLAIMS]
    public = isinstance(Setting.of(profile, device="cpu").teacher(), Public)
    absent = 0 if public else 3  # comparisons with the public teacher, and with more views than published
    assert len(frame) == sum(map(len, CONTROLS.values())) - absent
    assert frame.asked.is_unique and frame.asked.str.endswith("?").all()
    assert set(frame.difference) == {"not measured"}
    assert set(frame["95 % interval"]) == {""}


def test_demonstrations_show_those_that_they_have():
    frame = controls_frame(Store("quick"), Setting.of("quick", device="cpu"))
    assert 0 < len(frame) < sum(map(len, CONTROLS.values()))


def test_no_control_decides_a_claim():
    setting = Setting.of("reference", device="cpu")
    for controls in CONTROLS.values():
        for _, chapter, name in controls:
            name = name.format(few=percent(setting.profile.few_shot_fraction))
            (contrast,) = (c for c in create_study(chapter, setting).contrasts if c.name == name)
            assert name not in CONTRASTS
            assert not contrast.primary


def test_differences_are_paired(invented):
    setting = Setting.of("reference", device="cpu")
    study, store = create_study("04_augmented_teacher", setting), Store("reference")
    gains = np.array([-1.0, -0.5, 0.25, -2.0, 0.0])
    for way, values in (("KD + weak2", 40 + np.arange(5)), ("KD + JDA", 40 + np.arange(5) + gains)):
        for spec, value in zip(study.specs(f"{way}, plain teacher"), values, strict=True):
            store.put(invented(spec, "reference", top1=float(value)))
    row = controls_frame(Store("reference"), setting).query("asked.str.contains('teacher of our own')").iloc[0]
    half = 2.776445 * gains.std(ddof=1) / np.sqrt(5)  # Student's t at 97.5 %, 4 degrees of freedom
    assert row.difference == "-0.65"
    assert row["95 % interval"] == f"[{gains.mean() - half:+.2f}, {gains.mean() + half:+.2f}]"
    assert (row.n, row.chapter) == (5, "04")


def test_controls_that_rest_on_an_untrained_arm_say_so(invented):
    setting = Setting.of("reference", device="cpu")
    study, store = create_study("09_ccd_versus_hsakd", setting), Store("reference")
    for arm, top1 in (("CCD", 40.0), ("HSAKD, frozen teacher", 29.0), ("no teacher", 33.0), ("KD + weak2", 38.0)):
        for spec in study.specs(arm):
            store.put(invented(spec, "reference", top1=top1 + 0.1 * spec.seed * (arm == "CCD")))
    frame = controls_frame(Store("reference"), setting).set_index("asked")
    assert frame.tested["Is it better than plain KD?"] == "not tested at this budget: HSAKD, frozen teacher"
    assert frame.tested["Does JDA help KD?"] == ""
