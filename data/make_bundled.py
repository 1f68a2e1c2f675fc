"""Make data/fashion_mnist_8k.npz, the bundled data set, from the original Fashion-MNIST files.

    python data/make_bundled.py /usr/share/datasets/fashion-mnist

The folder holds the four original .gz files (Debian's package dataset-fashion-mnist installs them there; they are
also at https://github.com/zalandoresearch/fashion-mnist). The subset is stratified: 600 training and 200 test images
of each of the 10 classes, drawn with a fixed seed and kept in the order of the original files. The same NumPy
arrays come out on every machine; the checksum in README.md is that of the arrays, not of the zip container.
"""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).with_name("fashion_mnist_8k.npz")
PER_CLASS = {"train": ("train", 600), "test": ("t10k", 200)}
SEED = 20170825  # the date of the data set's first release


def read_idx(path: Path) -> np.ndarray:
    """One file of the MNIST family: a big-endian header (type, rank, sizes), then uint8 values."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def stratified(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of `per_class` images of every class, drawn without replacement."""
    chosen = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def main(source: Path) -> None:
    arrays = {}
    rng = np.random.default_rng(SEED)
    for split, (stem, per_class) in PER_CLASS.items():
        images = read_idx(source / f"{stem}-images-idx3-ubyte.gz")
        labels = read_idx(source / f"{stem}-labels-idx1-ubyte.gz")
        index = stratified(labels, per_class, rng)
        arrays |= {
            f"{split}_images": images[index],
            f"{split}_labels": labels[index],
            f"{split}_index": index.astype(np.int32),
        }
    np.savez_compressed(TARGET, **arrays)
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e6:.2f} MB, sha256 of the arrays {digest.hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
