"""Make data/teachers/: the trained teachers, and heads of teachers, whose students learn at profile quick.

    python data/make_teachers.py

Each is an ordinary run in a folder of its own: result.json holds its spec, its scores and, in `bits`, a hash of scores
and weights; weights.safetensors (and head.safetensors) what it learnt. What is there already stays, what no study
names any more is deleted. Training all of them takes about a quarter of an hour on two CPU cores. One that is there is
trained once more, and its bits compared, by `python -m kdlib repeat KEY --profile quick`.
"""

import shutil

from kdlib.chapters.registry import studies_of
from kdlib.data import paths
from kdlib.data.images import BUNDLED
from kdlib.lab.results import FINISHED
from kdlib.lab.runs import needed, run_all
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.study.setting import Setting


def teachers() -> list[RunSpec]:
    """The runs at profile quick, on the bundled images, that other runs learn from or that are compared as teachers."""
    studies = [study for study in studies_of(Setting.of("quick", device="cpu")) if study.setting.data == BUNDLED]
    runs = [spec for study in studies for spec in study.all_specs if isinstance(spec, RunSpec)]
    compared = [
        run for study in studies for label in study.arms if study.arms[label].is_teacher for run in study.specs(label)
    ]
    return needed([*compared, *(teacher for run in runs for teacher in run.prerequisites)])


def main() -> None:
    wanted = teachers()
    run_all(wanted, "quick", report=lambda done, total, result: print(f"{done} of {total}: {result.key}", flush=True))
    store = Store("quick")
    folders = [store.weights(spec).parent for spec in wanted]
    for folder in folders:
        if folder.parent != paths.TEACHERS:
            (paths.TEACHERS / folder.name).mkdir(parents=True, exist_ok=True)
            for file in FINISHED:
                if (folder / file).exists():
                    shutil.copyfile(folder / file, paths.TEACHERS / folder.name / file)
    for folder in paths.TEACHERS.glob("*/"):
        if folder.name not in {kept.name for kept in folders}:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
