"""Everything that is asked of a GPU, in one call: the checks, a benchmark, a first run, and a report of all three.

    python tests/cuda/gpu.py     what `make gpu` runs; the report: runs/gpu.json

It needs the core's requirements alone. KDLIB_CHECKED_DEVICE=cpu tries the program itself.
"""

import json
import os
import sys
import time
import unittest
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from material import DEVICE, HERE  # noqa: E402

from kdlib.chapters.benchmark import gpu  # noqa: E402
from kdlib.chapters.registry import create_study  # noqa: E402
from kdlib.data import paths  # noqa: E402
from kdlib.files import replacing  # noqa: E402
from kdlib.lab import machine  # noqa: E402
from kdlib.lab.provenance import provenance  # noqa: E402
from kdlib.lab.runs import execute, needed  # noqa: E402
from kdlib.lab.specs import RunSpec  # noqa: E402
from kdlib.study.setting import Setting  # noqa: E402

ROUNDS = int(os.environ.get("KDLIB_GPU_ROUNDS") or 5)
STEPS = int(os.environ.get("KDLIB_GPU_STEPS") or 20)


def checks() -> dict[str, Any]:
    """How many were run, and what failed."""
    suite = unittest.defaultTestLoader.discover(str(Path(__file__).resolve().parent))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    failed = [(str(test), text) for test, text in (*result.failures, *result.errors)]
    return {"run": result.testsRun, "skipped": len(result.skipped), "failed": failed}


def first_run(spec: RunSpec) -> dict[str, Any]:
    """Seconds, steps and top-1 of a run of profile quick, after the teacher that it needs."""
    for run in needed(spec.prerequisites):
        execute(run, "quick")
    started = time.monotonic()
    metrics = execute(spec, "quick").metrics
    seconds = time.monotonic() - started
    return {"key": spec.key, "seconds": seconds} | {name: metrics[name] for name in ("steps", "top1")}


def main() -> int:
    """The exit status: 0 if no check failed."""
    if not HERE:
        raise SystemExit("torch sees no GPU here: nothing was checked or measured")
    machine.prepare(1)
    spec = create_study("03_blind_teacher", Setting.of("quick", device=DEVICE)).specs("JDA")[0]
    report: dict[str, Any] = {"provenance": provenance(spec, None), "checks": checks()}
    broken = [name for name, _ in report["checks"]["failed"] if "test_captured" in name]
    if broken:
        print("captured steps are not measured: their checks failed")
    found = gpu.measure(DEVICE, ROUNDS, STEPS, graphs=not broken)
    report |= {"benchmark": [comparison.model_dump() for comparison in found], "run": first_run(spec)}
    path = paths.runs_root() / "gpu.json"
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1))
    counts = report["checks"]
    said = f"{counts['run']} checks, {len(counts['failed'])} failed, {counts['skipped']} skipped"
    print(f"{machine.device_name(DEVICE)}: {said}")
    print(*gpu.lines(found), sep="\n")
    print("first run: {steps} steps in {seconds:.1f} s, top-1 {top1:.1f} %".format(**report["run"]))
    print(f"the report: {path}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
