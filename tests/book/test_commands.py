"""Every command that a page prints works. Long ones, and those for a network or a GPU, are tried as the table says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.book
PAGES = ("README.md", "CONTRIBUTING.md", "book/intro.md", "book/how_to_run.md", "book/cluster.md", "book/contribute.md")
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: What a line may hold before a command is complete: a continuation, or a loop.
COMMAND = re.compile(r"^(?:for [\s\S]*?^done.*$|(?:.*\\\n)*.+$)", re.MULTILINE)
SMALL = "--profile smoke --device cpu --tier 1"  # of an option that is given twice the last counts
SHARD = "python -m kdlib run 03_blind_teacher --profile paper --device cuda"
REALLY = None

#: A command as it is printed -> (how it is tried, why not as it is). What stands in one block is tried in its order.
TRIED: dict[str, tuple[str | None, str]] = {
    **{
        f"make {target}": (f"make -n {target}", "it installs from a network first: its recipe is made, and not run")
        for target in ("book", "test", "html", "test-slow", "lab", "install")
    },
    "make": (REALLY, ""),
    """make run NOTEBOOK=05_proportion ARGS="-y 'seeds: [0, 1]'\"""": (
        """make -n run NOTEBOOK=05_proportion ARGS="-y 'seeds: [0, 1]'\"""", "it installs from a network first",
    ),
    ".venv/bin/pip install pre-commit && .venv/bin/pre-commit install": (
        """python -c 'import yaml; assert yaml.safe_load(open(".pre-commit-config.yaml"))["repos"]'""", "a network",
    ),
    "source .venv/bin/activate": ("python -c 'import kdlib, papermill'", "the tests run in an environment"),
    "papermill notebooks/03_blind_teacher.ipynb out.ipynb --cwd notebooks -p profile quick -y 'seeds: [0, 1]'": (
        "KDLIB_MISSING=gap papermill notebooks/03_blind_teacher.ipynb out.ipynb --cwd notebooks -p profile quick "
        "-y 'seeds: [0, 1]'",
        "it would train for a minute",
    ),
    "papermill --help-notebook notebooks/03_blind_teacher.ipynb": (REALLY, ""),
    "python -m kdlib run --profile quick": ("python -m kdlib plan --profile quick", "it trains for minutes"),
    "python book/build.py --profile quick": ("python book/build.py --profile quick --help", "test_pages.py builds"),
    "python -m kdlib plan 03_blind_teacher --profile reference": (REALLY, ""),
    "python -m kdlib run 03_blind_teacher --profile reference": (
        f"python -m kdlib run 03_blind_teacher --profile reference {SMALL}", "it trains for hours",
    ),
    "python -m kdlib status 03_blind_teacher --profile reference": (REALLY, ""),
    "python -m kdlib fetch cifar100 resnet56": (
        "python -m kdlib fetch cifar100 resnet56 --help && python -c 'from kdlib.choices import check_fetchable as c; "
        'c(["cifar100", "resnet56"])\'',
        "a network",
    ),
    "python -m kdlib publish": (REALLY, ""),
    "python -m kdlib repeat KEY": (
        "KEY=$(basename $(dirname $(ls $KDLIB_RUNS/smoke/*/weights.safetensors | head -n 1))); "
        "python -m kdlib repeat $KEY --profile smoke",
        "KEY stands for that of a run",
    ),
    f"{SHARD} --shard $SLURM_ARRAY_TASK_ID/8": (
        f"SLURM_ARRAY_TASK_ID=1; {SHARD} {SMALL} --shard $SLURM_ARRAY_TASK_ID/8", "a cluster with GPUs",
    ),
    "python -m kdlib pack runs.zip --profile full --unfinished": (
        f"python -m kdlib run 03_blind_teacher {SMALL} --seeds 0 && "
        "python -m kdlib pack runs.zip --profile full --unfinished --profile smoke",
        "there are no runs of profile full",
    ),
    "python -m kdlib unpack runs.zip": ("export KDLIB_RUNS=other; python -m kdlib unpack runs.zip", "another machine"),
    "for i in 1 2 3 4 5 6 7 8; do\n"
    f"    CUDA_VISIBLE_DEVICES=$((i - 1)) {SHARD} --shard $i/8 &\n"
    "done; wait": (
        'python() { echo "$CUDA_VISIBLE_DEVICES $*" >> said; }\n'
        f"for i in 1 2 3 4 5 6 7 8; do\n    CUDA_VISIBLE_DEVICES=$((i - 1)) {SHARD} --shard $i/8 &\ndone; wait\n"
        "unset -f python; grep -q '^7 -m kdlib run .* --shard 8/8$' said; test $(wc -l < said) = 8",
        "it needs eight GPUs; the line above tries a shard",
    ),
    "python -m kdlib run 03_blind_teacher --profile quick --executor parsl:book/clusters/one_machine.py": (
        "python -m kdlib run --help | grep -q parsl:FILE && test -f book/clusters/one_machine.py",
        "Parsl is not installed everywhere; test_cluster.py runs it",
    ),
    f"SLURM_PARTITION=gpu {SHARD} --executor parsl:book/clusters/slurm.py": (
        "test -f book/clusters/slurm.py", "a cluster; test_cluster.py runs it where Slurm can be installed",
    ),
    f"{SHARD} --stack 8": (f"{SHARD} {SMALL} --stack 8", "a GPU"),
    "mkdir -p _build/smoke": (REALLY, ""),
    "papermill notebooks/00_tour.ipynb _build/smoke/00_tour.ipynb --cwd notebooks --prepare-only -p profile smoke": (
        REALLY, "",
    ),
    "jupyter nbconvert --clear-output --inplace _build/smoke/00_tour.ipynb": (REALLY, ""),
    "sed -i.bak 's/nbval-check-output/not-compared/' _build/smoke/00_tour.ipynb": (REALLY, ""),
    "pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 120 _build/smoke": (REALLY, ""),
    "KDLIB_MISSING=gap pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 120 notebooks": (
        "KDLIB_MISSING=gap pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 120 notebooks/00_tour.ipynb",
        "test_notebooks.py does it for every chapter",
    ),
}  # fmt: skip


def blocks(page: str) -> list[list[str]]:
    """The commands of each block of a page, without comments, a command of several lines as one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [[plain(command) for command in COMMAND.findall(block) if command.strip()] for block in BLOCK.findall(text)]


def plain(command: str) -> str:
    """A command without its comment, and on one line where it only goes on."""
    return re.sub(r"\s*\\\n\s*", " ", re.sub(r"\s+#\s.*$", "", command, flags=re.MULTILINE)).strip()


def test_every_command_that_is_printed_has_a_row() -> None:
    """And no row is left of one that is not printed any more."""
    printed = {command for page in PAGES for block in blocks(page) for command in block}
    assert printed - set(TRIED) == set(), "say in TRIED how these are tried"
    assert set(TRIED) - printed == set(), "these are printed nowhere"
    assert all(why for tried, why in TRIED.values() if tried is not REALLY)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The project as a reader has it, in which a command may write."""
    for name in ("notebooks", "results", "data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("kdlib", "book", "tests", "Makefile", "pyproject.toml", ".pre-commit-config.yaml", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def distinct_blocks() -> list[list[str]]:
    """Each block once, also where several pages have it."""
    found = {tuple(block): None for page in PAGES for block in blocks(page)}
    return [list(block) for block in found]


@pytest.mark.parametrize("block", distinct_blocks(), ids=lambda block: block[0][:40])
def test_the_commands_of_a_block_work(block: list[str], tree: Path) -> None:
    here = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "KDLIB_RUNS": str(tree / "runs"), "KDLIB_RESULTS": str(tree / "results"), "CI": "1", "OMP_NUM_THREADS": "1",
        "PYTEST_ADDOPTS": "-p no:cacheprovider", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    script = "\n".join(TRIED[command][0] or command for command in block)
    call = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(call, cwd=tree, env=os.environ | here, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
