"""The teachers, before anybody learns from them: accuracy, calibration, training images. No student is trained."""

from kdlib.lab.recipe import Public
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.setting import Setting, Study


def create(setting: Setting) -> Study:
    """The study of chapter 01_data_and_teachers: the teachers of the setting.

    Where the teacher is a public checkpoint, all public checkpoints for the same classes are measured beside it.
    """
    own = setting.teacher()
    if isinstance(own, Public):
        classes = PUBLIC[own.checkpoint].num_classes
        teachers = {name: Public(checkpoint=name) for name in PUBLIC if PUBLIC[name].num_classes == classes}
    else:
        runs = [setting.teacher(seed) for seed in setting.seeds]
        teachers = {f"{run.student}, seed {run.seed}": run for run in runs}
    measured = {name: setting.scores(teacher) for name, teacher in teachers.items()}
    return Study("01_data_and_teachers", setting, {}, (), measured)
