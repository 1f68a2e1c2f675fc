"""What makes a good view? The spread of the teacher's mean answer, against the loss of students (Wang et al., 2022)."""

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, by_label
from kdlib.study.setting import Setting, Study


def create(setting: Setting, probabilities: list[float] | None = None) -> Study:
    """The study of chapter 11_good_views. probabilities: values of p above 0 for JDA; p = 0 is weak2.

    Every policy is measured on the teacher and has students, which are those of other chapters but for twin and cutout.
    Nothing is contrasted: the question is whether the two agree.
    """
    default = (0.3, 1.0) if setting.profile.trains else (0.1, 0.3, 0.6, 1.0)
    jda = [Policy(name="jda", options={"p": p}) for p in probabilities or default]  # refuses what is no probability
    by_p = {f"JDA, p = {p:g}": p for p in sorted({policy.options["p"] for policy in jda} - {0.0})}
    policies = {name: Policy(name=name) for name in ("twin", "weak2", "cutout", "rot2")}
    policies |= {label: Policy(name="jda", options={"p": p}) for label, p in by_p.items()}
    policies |= {"RandAugment": Policy(name="randaugment"), "CutMix": Policy(name="cutmix")}
    tiers = {"cutout": 4, "CutMix": 4}
    arms = by_label(*(Arm(n, policy, seeds="few", tier=tiers.get(n, 3)) for n, policy in policies.items()))
    measured = {label: setting.spread(policy) for label, policy in policies.items()}
    return Study("11_good_views", setting, arms, (), measured, {"p": by_p})
