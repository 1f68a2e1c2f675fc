"""The benchmark: how fast kdlib is against a plain program, and against what the machine can do.

`python -m kdlib bench` prints a table and writes JSON and a figure. Absolute rates are those of one machine on one day;
what is compared are ratios of rates that were measured in one run, on one machine, in turn.

The chapter reads what it wrote: nothing is trained, and the store is not asked.
"""

from kdlib.study.setting import Setting, Study


def create(setting: Setting, file: str = "auto") -> Study:
    """The study of chapter 15_benchmark.

    file: what `python -m kdlib bench` wrote; auto stands for the published benchmark (see
    kdlib.chapters.benchmark.report.chosen).
    """
    return Study("15_benchmark", setting, {})
