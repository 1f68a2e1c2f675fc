"""Runs that are handed to others: Parsl with workers on this machine, one of which is killed, and a real Slurm."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab.executors import open_executor
from kdlib.lab.runs import missing, repeat
from kdlib.lab.specs import Spec
from kdlib.lab.store import Store
from kdlib.study.setting import Setting

ROOT = Path(__file__).resolve().parents[2]
CLUSTERS = ROOT / "book" / "clusters"
STUDY = "03_blind_teacher"
needs_slurm = pytest.mark.skipif(
    not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))) or os.geteuid() != 0,
    reason="needs Debian's slurm-wlm, and root to start it",
)


@pytest.fixture
def environment(isolated, tiny) -> dict[str, str]:
    """That of the commands: Parsl finds its programs beside the interpreter, and workers find this checkout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "KDLIB_THREADS": "1"}


def specs_on(data: str) -> list[Spec]:
    return create_study(STUDY, Setting.of("smoke", device="cpu", data=data)).all_specs


def command(data: str, *words: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "kdlib",
        "run",
        STUDY,
        "--profile",
        "smoke",
        "--device",
        "cpu",
        "--data",
        data,
        *words,
    ]


def has_the_bits_of_serial_runs(specs: list[Spec]) -> None:
    store = Store("smoke")
    assert missing(specs, store) == []
    assert repeat(specs[-1], "smoke") == store.get(specs[-1]).bits


# --- what is named on the command line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ray:x.py", "allowed is parsl:FILE"),
        ("parsl:", "allowed is parsl:FILE"),
        ("parsl:/nowhere/x.py", "/nowhere/x.py is not there"),
    ],
)
def test_another_executor_is_refused_before_any_work(text, said):
    with pytest.raises(ValueError, match=said), open_executor(text):
        raise AssertionError("opened")


def test_without_parsl_its_absence_is_said(tmp_path, monkeypatch):
    (tmp_path / "config.py").write_text("raise AssertionError('run')")
    monkeypatch.setitem(sys.modules, "parsl.concurrent", None)
    with pytest.raises(ValueError, match=r"needs Parsl: pip install 'kdlib\[cluster\]'"):
        open_executor(f"parsl:{tmp_path / 'config.py'}").__enter__()


def test_the_files_of_the_book_are_programs():
    files = sorted(CLUSTERS.glob("*.py"))
    assert [file.stem for file in files] == ["kubernetes", "one_machine", "slurm"]
    for file in files:
        compile(file.read_text(), str(file), "exec")


@pytest.mark.slow
def test_a_file_without_a_config_is_refused(tmp_path):
    pytest.importorskip("parsl")
    (tmp_path / "config.py").write_text("x = 1")
    with pytest.raises(ValueError, match="defines no `config`"):
        open_executor(f"parsl:{tmp_path / 'config.py'}").__enter__()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("one_machine", {}),
        ("slurm", {"SLURM_PARTITION": "all", "KDLIB_GPUS": "2"}),
        ("kubernetes", {"KDLIB_IMAGE": "kdlib", "KDLIB_CLAIM": "runs"}),
    ],
)
def test_parsl_takes_the_configurations_of_the_book(name, given, monkeypatch):
    parsl = pytest.importorskip("parsl")
    if name == "kubernetes":
        pytest.importorskip("kubernetes")
    import runpy

    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    config = runpy.run_path(str(CLUSTERS / f"{name}.py"))["config"]
    assert isinstance(config, parsl.config.Config) and config.retries == 2
    (executor,) = config.executors
    assert executor.max_workers_per_node >= 1


# --- Parsl on this machine


@pytest.mark.slow
def test_the_program_of_the_book_trains_what_a_study_lacks(isolated):
    pytest.importorskip("parsl")
    page = (ROOT / "book" / "cluster.md").read_text(encoding="utf-8")
    program = next(code for code in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "parsl" in code)
    assert 'profile = "quick"' in program
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where Parsl's own programs are
    done = subprocess.run(
        [sys.executable, "-c", program.replace('"quick"', '"smoke"')],
        cwd=isolated, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    has_the_bits_of_serial_runs(create_study(STUDY, Setting.of("smoke")).all_specs)


#: Hands the specs of a file to an executor; argv: the executor, the file.
HAND = """
import sys
from pathlib import Path
from kdlib.lab.executors import open_executor
from kdlib.lab.runs import run_all
from kdlib.lab.specs import RunSpec

if __name__ == "__main__":
    specs = [RunSpec.model_validate_json(line) for line in Path(sys.argv[2]).read_text().splitlines()]
    with open_executor(sys.argv[1]) as executor:
        run_all(specs, "smoke", executor)
"""


def holder(lock: Path) -> int | None:
    """The process that has a file open, or None."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(link.readlink() == lock for link in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:  # it has ended, or is somebody else's
            continue
    return None


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_parsl_worker_that_is_killed_is_followed_by_another_with_the_same_bits(
    make_spec, isolated, environment, tried
):
    pytest.importorskip("parsl")
    specs, store = [make_spec(seed=s, recipe={"views_per_image": 400}) for s in (0, 1)], Store("smoke")
    (isolated / "specs").write_text("".join(spec.model_dump_json() + "\n" for spec in specs))
    call = [sys.executable, "-c", HAND, f"parsl:{CLUSTERS / 'one_machine.py'}", str(isolated / "specs")]
    checkpoint, killed = store.folder(specs[0]) / "checkpoint.pt", None
    with subprocess.Popen(call, cwd=isolated, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and killed is None:
            if checkpoint.exists() and (killed := holder(store.runs / ".locks" / specs[0].key)):
                os.kill(killed, signal.SIGKILL)
            time.sleep(0.02)
        err = process.communicate(timeout=600)[1]
    assert killed, "it ran too shortly to be killed"
    assert process.returncode == 0, err
    assert [repeat(spec, "smoke") for spec in specs] == [store.get(spec).bits for spec in specs]
    tried("kills", "a worker of Parsl", same_bits=1)


# --- Slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm of one node on this machine; the environment that its commands need."""
    folder = tmp_path_factory.mktemp("slurm")
    script = ROOT / "tests" / "cluster" / "slurm.sh"
    with subprocess.Popen(
        ["bash", str(script), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout.readline() != "ready\n":
            pytest.fail(f"Slurm does not start: {process.communicate(timeout=30)[1]}")
        yield {"SLURM_CONF": str(folder / "slurm.conf"), "SLURM_PARTITION": "all"}
        process.stdin.close()
        process.wait(30)


@pytest.mark.slow
@needs_slurm
def test_slurm_runs_what_parsl_asks_it_for(isolated, tiny, environment, slurm):
    pytest.importorskip("parsl")
    given = {"KDLIB_GPUS": "0", "KDLIB_CORES": "2", "KDLIB_NODES": "1", "KDLIB_WALLTIME": "00:10:00"}
    words = ["--executor", f"parsl:{CLUSTERS / 'slurm.py'}"]
    done = subprocess.run(
        command(tiny, *words),
        cwd=isolated,
        env=environment | slurm | given,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    specs = specs_on(tiny)
    assert len(specs) >= 6
    has_the_bits_of_serial_runs(specs)


@pytest.mark.slow
@needs_slurm
def test_a_job_array_of_shards_trains_a_shared_teacher_once(isolated, tiny, environment, slurm):
    log = isolated / "log"
    log.mkdir()
    job = isolated / "job.sh"
    line = " ".join(command(tiny, "--shard", "$SLURM_ARRAY_TASK_ID/2"))
    job.write_text(f"#!/bin/bash\n{line}\n")
    done = subprocess.run(
        ["sbatch", "--wait", "--array=1-2", f"--output={log}/%a", "--export=ALL", str(job)],
        cwd=isolated, env=environment | slurm, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    said = "".join(file.read_text() for file in sorted(log.iterdir()))
    assert done.returncode == 0, done.stderr + said
    specs = specs_on(tiny)
    has_the_bits_of_serial_runs(specs)
    results = list(Store("smoke").runs.glob("*/result.json"))
    assert len(results) == len({spec.key for spec in specs} | {run.key for s in specs for run in s.prerequisites})
