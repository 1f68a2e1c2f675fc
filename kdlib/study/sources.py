"""What the runs of a study learn from."""

from kdlib.lab.tasks import TaskSpec
from kdlib.study.setting import Study


def data_of(study: Study) -> str:
    """The names of the data of a study of another task, else that of its setting."""
    names = dict.fromkeys(spec.data for spec in study.measurements.values() if isinstance(spec, TaskSpec))
    return ", ".join(names) or study.setting.data
