"""What makes a view policy good: T.stddev, known before any student is trained, against the students' test loss."""

from collections.abc import Mapping

from kdlib.specs import Policy
from kdlib.studies.base import Arm, Setting, Study, by_label

POLICIES: Mapping[str, Policy] = {
    "one view": Policy(name="weak1"),
    "weak2": Policy(name="weak2"),
    "rot2": Policy(name="rot2"),
    "RandAugment": Policy(name="randaugment"),
    "CutMix": Policy(name="cutmix"),
    "JDA": Policy(name="jda"),
    "JDA, p = 1": Policy(name="jda", options={"p": 1.0}),
}
MORE: Mapping[str, Policy] = {
    f"JDA, p = {p:g}": Policy(name="jda", options={"p": p}) for p in (0.1, 0.2, 0.4, 0.6, 0.8)
}


def create(setting: Setting) -> Study:
    """The study of chapter 11_good_views. Its students are those of other chapters."""
    policies = POLICIES if setting.profile.trains else POLICIES | MORE
    arms = by_label(*(Arm(name, policy) for name, policy in policies.items()))
    return Study("11_good_views", setting, arms, (), {name: setting.spread(p) for name, p in policies.items()})
