"""How fast kdlib is: nothing is trained and the store is not asked, since the chapter reads a benchmark."""

from kdlib.studies.base import Setting, Study


def create(setting: Setting, file: str = "auto") -> Study:
    """The study of chapter 15_benchmark.

    file: what `python -m kdlib bench` wrote; auto stands for the published benchmark (see kdlib.bench.report.chosen).
    """
    return Study("15_benchmark", setting, {})
