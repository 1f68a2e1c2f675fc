"""The data sets, and how good the teachers are."""

from kdlib.models.checkpoints import PUBLIC
from kdlib.specs import Public
from kdlib.studies.base import Setting, Study


def create(setting: Setting) -> Study:
    """The study of chapter 01_data_and_teachers: the setting's teacher and the public ones for its data set."""
    measured = {"teacher": setting.evaluation()}
    for name in PUBLIC:
        if name.startswith(f"{setting.data}_"):
            measured[name] = setting.evaluation(Public(checkpoint=name))
    return Study("01_data_and_teachers", setting, {}, (), measured)
