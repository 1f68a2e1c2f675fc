"""What a result says of where it comes from: versions, hardware, date, commit and time."""

import datetime
import subprocess
import sys
from importlib.metadata import version

from kdlib.data import paths
from kdlib.lab import distributed, machine
from kdlib.lab.specs import Spec
from kdlib.lab.stacks import members


def provenance(spec: Spec, seconds: float | None) -> dict:
    """Versions, hardware, date, commit and training time: recorded, never part of the bits."""
    packages = ("torch", "torchvision", "numpy")
    together = len(members(spec))
    processes, device = distributed.world(), machine.device_name(spec.machine.device)
    return {
        "versions": {p: version(p) for p in packages} | {"python": sys.version.split()[0]},
        "hardware": f"{processes} x {device}" if processes > 1 else device,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "seconds": None if seconds is None else round(seconds, 1),
    } | ({"stacked": f"{together} seeds in one process; seconds are this one's share"} if together else {})


def commit() -> str | None:
    """The project's git commit, or None outside a checkout."""
    if paths.CHECKOUT is None:
        return None
    call = ["git", "-C", str(paths.CHECKOUT), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(call, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
