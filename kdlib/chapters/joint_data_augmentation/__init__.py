"""What JDA does to images, and what the teacher says about them: nothing is trained for students."""

from kdlib.lab.recipe import Policy
from kdlib.study.setting import Setting, Study


def create(setting: Setting, ops: str = "cifar100", p: float | None = None) -> Study:
    """The study of chapter 02_joint_data_augmentation."""
    policy = Policy(name="jda", options={"ops": ops, "p": p})
    return Study("02_joint_data_augmentation", setting, {}, (), {"views": setting.views(policy)})
