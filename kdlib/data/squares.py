"""Photographs made squares of one size in one file, by several processes. They import no torch: they start in no time
and are small."""

import math
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from kdlib.data import pictures
from kdlib.data.processes import cores, end_with_parent
from kdlib.files import check_room

FEW = 500  # photographs: one core decodes about as many while other processes start
GROUP = 64  # photographs that a process is handed at a time


def square(path: str, side: int) -> np.ndarray:
    """uint8 [3, side, side]: the central square of a photograph whose short side is scaled to `side` pixels.

    Bilinear with antialiasing; the long side and the margins are rounded as torchvision's Resize and CenterCrop do.
    Raises ValueError, naming the file, if it is not a readable image.
    """
    image = pictures.read_rgb(path)
    short = min(image.size)
    width, height = (side if length == short else int(side * length / short) for length in image.size)
    left, top = (round((length - side) / 2) for length in (width, height))
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled.crop((left, top, left + side, top + side))).transpose(2, 0, 1)


def write(target: Path, files: Sequence[str], side: int) -> None:
    """Makes target an array of NumPy, uint8 [N, 3, side, side]: the squares of N photographs, in their order.

    Raises ValueError, naming the file, for one that is not a readable image, OSError if the disk has no room, and
    BrokenProcessPool if a process was killed.
    """
    shape = (len(files), 3, side, side)
    check_room(target.parent, math.prod(shape), f"decoding {len(files):,} photographs")
    start = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape).offset
    try:
        with _workers(len(files)) as pool:
            filled = pool.map(partial(_fill, target, start, side), range(len(files)), files, chunksize=GROUP)
            for _ in tqdm(filled, total=len(files), desc="photographs", leave=False, disable=None):
                pass
    except BrokenProcessPool as error:
        raise BrokenProcessPool(
            f"a process that decoded photographs into {target} was killed, perhaps for want of memory: start again"
        ) from error
    with target.open("r+b") as file:
        os.fsync(file.fileno())


def _fill(target: Path, start: int, side: int, place: int, path: str) -> None:
    """Writes one square to its place. Not through a memory map: where the disk is full, that kills the process."""
    pixels = square(path, side)
    with target.open("r+b") as file:
        file.seek(start + place * pixels.nbytes)
        file.write(pixels.tobytes())


def _workers(count: int) -> Executor:
    """For so many photographs: threads of this process for a few, else processes, as many as there are cores.

    A process that is started afresh runs a plain script again, up to where it loads photographs: there, threads do it
    all. `python -m kdlib` and notebooks are no such scripts.
    """
    if count < FEW or _is_script():
        return ThreadPoolExecutor(cores())  # PIL decodes and scales outside the interpreter lock
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(cores(), mp_context=context, initializer=end_with_parent)


def _is_script() -> bool:
    """Whether `multiprocessing` would run this program's main module again in a new process."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    return not name.endswith("__main__") if name else hasattr(main, "__file__")
