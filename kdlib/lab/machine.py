"""What this machine has: the device, the precision and the number of threads that `auto` stands for."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from kdlib.choices import check_device


def resolve_device(device: str) -> str:
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda". Raises ValueError for another word, or cuda where there is none."""
    check_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda' is not available: torch sees no GPU here; allowed are auto and cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def resolve_precision(device: str) -> str:
    """bfloat16 where the hardware computes in it, else float16 on a GPU and float32 on a CPU."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"


def resolve_threads() -> int:
    """Threads of a run on a CPU: $KDLIB_THREADS, else 1, so that as many runs as there are cores go side by side.

    More pay where one run has the machine to itself. Raises ValueError for anything but a whole number from 1 up.
    """
    return _whole("KDLIB_THREADS", "threads")


def resolve_stack() -> int:
    """Up to how many seeds of an arm are trained together: $KDLIB_STACK, else 1, and each is trained alone.

    More pay where one run cannot fill a GPU; on a CPU they do not. Raises ValueError for anything but a whole number
    from 1 up.
    """
    return _whole("KDLIB_STACK", "seeds")


def resolve_capture() -> bool:
    """Whether the steps of runs on a GPU are captured as a graph, see `kdlib.lab.captured`: $KDLIB_CAPTURE, else not,
    since no GPU has tried it so far. Raises ValueError for anything but 0 or 1."""
    given = os.environ.get("KDLIB_CAPTURE") or "0"
    if given not in ("0", "1"):
        raise ValueError(f"KDLIB_CAPTURE = {given!r} is neither yes nor no; allowed are 1 and 0")
    return given == "1"


def _whole(variable: str, what: str) -> int:
    """The number that an environment variable gives, 1 if it is not set."""
    given = os.environ.get(variable) or "1"
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"{variable} = {given!r} is not a number of {what}; allowed are whole numbers from 1 up")
    return int(given)


def prepare(threads: int) -> None:
    """Sets what the bits of a run hang on, in this process: its threads; on a GPU float32 that is float32 (TF32 has 10
    bits of mantissa) and algorithms of cuDNN that give the same sum each time."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for each operation, and then again as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_flags() -> set[str]:
    """Instruction-set flags as Linux lists them; empty where it does not (then float32 is the safe choice)."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return set()
    lines = [line for line in info.read_text().splitlines() if line.startswith(("flags", "Features"))]
    return set(lines[0].split(":")[1].split()) if lines else set()


def device_name(device: str) -> str:
    """A reader's words for the hardware: the GPU's name, or the CPU's instruction set."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"
