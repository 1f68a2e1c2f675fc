"""Stored views and answers: what a bank of V sets of views costs and saves, and whether its students are as good."""

from kdlib.specs import Policy
from kdlib.studies.base import Arm, Contrast, Setting, Study, by_label

FRESH, EXACT = "fresh views", "fresh views, float32"


def create(setting: Setting, sets: list | None = None) -> Study:
    """The study of chapter 14_view_bank: KD + JDA with V sets of views per image, and with fresh ones.

    sets: values of V, whole numbers from 1 up; by default 1, 2, 4, 8 and 16 (1 and 4 at smoke and quick).
    """
    chosen = sorted(set(sets or ((1, 4) if setting.profile.trains else (1, 2, 4, 8, 16))))
    jda = Policy(name="jda")
    by_v = {f"V = {v}": v for v in chosen}
    arms = by_label(
        Arm(FRESH, jda),
        *(Arm(label, jda, bank=v, seeds="few", tier=3) for label, v in by_v.items()),
        Arm(EXACT, jda, exact=True, seeds="few", tier=3),
    )
    contrasts = (
        *(Contrast.of(f"{label} - {FRESH}", label, FRESH) for label in by_v),
        Contrast.of(f"{setting.machine.precision} - float32", FRESH, EXACT),
    )
    timed = [arms[FRESH], arms[list(by_v)[-1]]]
    return Study("14_view_bank", setting, arms, contrasts, {"timing": setting.timing(timed)}, {"V": by_v})
