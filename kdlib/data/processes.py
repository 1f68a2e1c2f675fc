"""What processes of ours have in common: how many there may be, and that none outlives the one that started it.

It imports no torch, so that processes which need none start in no time.
"""

import multiprocessing
import os
import threading
import time


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(grace: float = 0.0) -> None:
    """From now on this process ends `grace` seconds after its parent, whatever killed that one; without a parent of
    `multiprocessing` nothing changes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent, grace), daemon=True).start()


def _watch(parent: multiprocessing.process.BaseProcess, grace: float) -> None:
    parent.join()
    time.sleep(grace)
    os._exit(1)
