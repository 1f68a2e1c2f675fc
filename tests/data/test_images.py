"""Image sets: the bundled one, torchvision's files, folders of images, and what is said when they are not there."""

import hashlib
import io
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from kdlib.data import images as sets
from kdlib.data import paths
from kdlib.data.classes import CIFAR10, CIFAR100
from kdlib.data.images import BUNDLED, FACTS, available, facts, fingerprint, load_data
from kdlib.models.checkpoints import PUBLIC

SPLITS = ("train", "test")
CACHE = paths.cache_root()  # the user's own, before any test points elsewhere


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty data root and cache for every test; nothing remembered from the one before."""
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KDLIB_CACHE", str(tmp_path / "cache"))
    load_data.cache_clear()
    yield
    load_data.cache_clear()


def pictures(count: int, seed: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def write_folder(root: Path, splits: dict[str, dict[str, int]], size: int = 8, suffix: str = "png") -> dict:
    """root/SPLIT/CLASS/N.png; returns the pixels by path below root."""
    written = {}
    for split, classes in splits.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for i, picture in enumerate(pictures(count, hash_of(split + name), size)):
                Image.fromarray(picture).save(root / split / name / f"{i}.{suffix}")
                written[f"{split}/{name}/{i}"] = picture
    return written


def hash_of(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def planes(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.transpose(2, 0, 1).copy())


def refuse(*_) -> None:
    raise AssertionError("an image was decoded")


# --- the bundled set


def arrays() -> dict[str, np.ndarray]:
    with np.load(paths.BUNDLED) as file:
        return {name: file[name] for name in file.files}


def test_bundled_file_is_the_one_described():
    readme = (paths.BUNDLED.parent / "README.md").read_text()
    digest = hashlib.sha256()
    for name, array in sorted(arrays().items()):
        digest.update(name.encode() + array.tobytes())
    assert re.findall(r"\b[0-9a-f]{64}\b", readme) == [digest.hexdigest()]
    assert paths.BUNDLED.stat().st_size < 5_000_000


def test_bundled_indices_are_distinct_and_in_range():
    for split, (taken, original) in {"train": (6_000, 60_000), "test": (2_000, 10_000)}.items():
        index = arrays()[f"{split}_index"]
        assert len(set(index.tolist())) == taken and index.min() >= 0 and index.max() < original


def test_bundled_set():
    found = load_data(BUNDLED)
    for split, count, name in ((found.train, 600, "train"), (found.test, 200, "test")):
        raw = arrays()
        assert split.images.dtype == torch.uint8 and split.images.shape == (10 * count, 3, 32, 32)
        assert split.labels.dtype == torch.int64 and len(split) == 10 * count and split.size == (32, 32)
        assert torch.bincount(split.labels).tolist() == [count] * 10
        assert (split.images == split.images[:, :1]).all()
        inner = split.images[:, 0, 2:-2, 2:-2]
        assert np.array_equal(inner.numpy(), raw[f"{name}_images"])
        assert np.array_equal(split.labels.numpy(), raw[f"{name}_labels"])
        assert split.images.sum(dtype=torch.int64) == 3 * inner.sum(dtype=torch.int64)  # the frame is black
        assert len(set(split.classes)) == 10 and split.name == BUNDLED
        assert split.fingerprint == fingerprint(split.images, split.labels)
    assert found.train.fingerprint != found.test.fingerprint
    values = found.train.images.double() / 255
    assert found.train.mean == pytest.approx([values.mean().item()] * 3, abs=2e-3)
    assert found.train.std == pytest.approx([values.std().item()] * 3, abs=2e-3)
    assert (found.train.mean, found.train.std) == (found.test.mean, found.test.std)


def test_facts_are_those_of_the_bundled_set():
    train = load_data(BUNDLED).train
    assert FACTS[BUNDLED].class_sizes == tuple(train.labels.bincount().tolist())
    assert facts(BUNDLED).size == train.size[0] and available(BUNDLED)
    assert (facts("cifar100").class_sizes, facts("cifar10").class_sizes) == ((500,) * 100, (5_000,) * 10)


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "text"])
def test_corrupt_bundled_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str):
    raw = paths.BUNDLED.read_bytes()
    middle = len(raw) // 2
    content = {
        "empty": b"", "half": raw[:middle], "text": b"version https://git-lfs.github.com/spec/v1\n",
        "flipped": raw[:middle] + bytes([raw[middle] ^ 255]) + raw[middle + 1 :],
    }[damage]  # fmt: skip
    path = tmp_path / "bundled.npz"
    path.write_bytes(content)
    monkeypatch.setattr(paths, "BUNDLED", path)
    with pytest.raises(ValueError, match="bundled.npz is corrupt"):
        load_data(BUNDLED)


def test_fingerprint_sees_every_pixel_label_and_the_shape():
    images, labels = torch.zeros(4, 3, 2, 6, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    marks = [fingerprint(images, labels), fingerprint(images.view(4, 3, 6, 2), labels)]
    for tensor in (images, labels):
        tensor.view(-1)[-1] = 1
        marks.append(fingerprint(images, labels))
    assert len(set(marks)) == 4 and all(re.fullmatch("[0-9a-f]{16}", mark) for mark in marks)
    assert fingerprint(images.contiguous(memory_format=torch.channels_last), labels) == marks[-1]


# --- torchvision's files


def write_cifar(root: Path, kind: type, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, list[int]]]:
    """A tiny set in the layout of torchvision, whose checksums are changed to match."""
    folder, classes = root / kind.base_folder, 100 if kind is datasets.CIFAR100 else 10
    folder.mkdir(parents=True)
    content = {}

    def write(name: str, entry: dict) -> str:
        (folder / name).write_bytes(pickle.dumps(entry))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for attribute in ("train_list", "test_list"):
        entries, parts = [], []
        for name, _ in getattr(kind, attribute):
            images = np.random.default_rng(hash_of(name)).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
            labels = [(hash_of(name) + i) % classes for i in range(6)]
            key = "fine_labels" if classes == 100 else "labels"
            entries.append([name, write(name, {"data": images.reshape(6, -1), key: labels})])
            parts.append((images, labels))
        monkeypatch.setattr(kind, attribute, entries)
        content[attribute] = (np.concatenate([p[0] for p in parts]), sum((p[1] for p in parts), []))
    names = [f"class {i:03}" for i in range(classes)]
    meta = dict(kind.meta)
    meta["md5"] = write(meta["filename"], {meta["key"]: names})
    monkeypatch.setattr(kind, "meta", meta)
    return content


@pytest.mark.parametrize(("name", "kind"), [("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)])
def test_torchvision_layout(monkeypatch: pytest.MonkeyPatch, name: str, kind: type):
    assert not available(name)
    content = write_cifar(paths.data_root(), kind, monkeypatch)
    assert available(name)
    found = load_data(name)
    for split, attribute in ((found.train, "train_list"), (found.test, "test_list")):
        images, labels = content[attribute]
        assert np.array_equal(split.images.numpy(), images) and split.labels.tolist() == labels
        assert split.images.is_contiguous() and split.labels.dtype == torch.int64
        assert split.classes == tuple(f"class {i:03}" for i in range(100 if name == "cifar100" else 10))
        assert split.fingerprint == fingerprint(split.images, split.labels)


def test_another_bundled_file_is_not_taken_for_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is whole, and holds one other pixel."""
    changed = {name: array.copy() for name, array in arrays().items()}
    changed["train_images"][0, 0, 0] ^= 1
    np.savez_compressed(tmp_path / "bundled.npz", **changed)
    monkeypatch.setattr(paths, "BUNDLED", tmp_path / "bundled.npz")
    with pytest.raises(ValueError, match=r"bundled.npz is corrupt \(fingerprints .*\): check it out again"):
        load_data(BUNDLED)


def test_corrupt_torchvision_file_is_named(monkeypatch: pytest.MonkeyPatch):
    write_cifar(paths.data_root(), datasets.CIFAR100, monkeypatch)
    with (paths.data_root() / "cifar-100-python" / "train").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"cifar-100-python are incomplete or corrupt.*python -m kdlib fetch cifar100"):
        load_data("cifar100")


def test_statistics_of_cifar100_are_those_of_the_public_teachers():
    assert {(c.mean, c.std) for c in PUBLIC.values() if c.num_classes == 100} == {sets.CIFAR["cifar100"][1:]}


# --- folders of images


def test_folder_layout(tmp_path: Path):
    written = write_folder(tmp_path / "set", {"train": {"b": 3, "a": 2}, "val": {"a": 1, "b": 2}})
    found = load_data(f"folder:{tmp_path / 'set'}")
    for split, folder in ((found.train, "train"), (found.test, "val")):
        keys = sorted(key for key in written if key.startswith(folder))
        assert split.labels.tolist() == ["ab".index(key.split("/")[1]) for key in keys]
        assert split.classes == ("a", "b") and split.size == (8, 8)
        for image, key in zip(split.images, keys, strict=True):
            assert torch.equal(image, planes(written[key]))
        assert split.fingerprint == fingerprint(split.images, split.labels)
    values = found.train.images.double().transpose(0, 1).flatten(1) / 255
    assert found.train.mean == pytest.approx(values.mean(1).tolist(), abs=5e-5)
    assert found.train.std == pytest.approx(values.std(1).tolist(), abs=5e-5)
    assert (found.test.mean, found.test.std) == (found.train.mean, found.train.std)
    assert facts(f"folder:{tmp_path / 'set'}") == sets.Facts(
        tuple(found.train.labels.bincount().tolist()), 8, ("a", "b")
    )


def test_cifar_in_folder_layout_has_cifars_statistics():
    write_folder(paths.data_root() / "cifar100", {split: dict.fromkeys(CIFAR100, 1) for split in SPLITS}, size=32)
    found = load_data("cifar100")
    assert available("cifar100") and found.train.name == "cifar100"
    assert (found.test.mean, found.test.std) == sets.CIFAR["cifar100"][1:]


def test_second_read_does_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = f"folder:{tmp_path / 'set'}"
    write_folder(tmp_path / "set", {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}})
    first = load_data(name)
    load_data.cache_clear()
    monkeypatch.setattr(sets.pictures, "read_rgb", refuse)
    second = load_data(name)
    for old, new in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(old.images, new.images) and torch.equal(old.labels, new.labels)
        assert (old.classes, old.mean, old.std, old.fingerprint) == (new.classes, new.mean, new.std, new.fingerprint)
    load_data.cache_clear()
    for file in paths.cache_root().iterdir():
        file.unlink()
    with pytest.raises(AssertionError, match="decoded"):
        load_data(name)


@pytest.mark.parametrize("change", ["pixels", "time", "added", "removed", "moved"])
def test_changed_folder_is_read_again(tmp_path: Path, change: str):
    root = tmp_path / "set"
    write_folder(root, {"train": {"a": 3, "b": 3}, "test": {"a": 1, "b": 1}})
    first = load_data(f"folder:{root}")
    load_data.cache_clear()
    file, new = root / "train" / "a" / "0.png", pictures(1, 99)[0]
    match change:
        case "pixels":
            Image.fromarray(new).save(file)
        case "time":  # equal size, other content and time
            raw = io.BytesIO()
            Image.fromarray(new).save(raw, "bmp")
            file.write_bytes(raw.getvalue())
            os.utime(file, ns=(0, 12345))
        case "added":
            Image.fromarray(new).save(root / "train" / "a" / "9.png")
        case "removed":
            file.unlink()
        case "moved":
            file.rename(root / "train" / "b" / "0a.png")
    second = load_data(f"folder:{root}")
    assert second.train.fingerprint != first.train.fingerprint
    assert second.test.fingerprint == first.test.fingerprint
    if change in ("pixels", "time"):
        assert torch.equal(second.train.images[0], planes(new))


def test_touched_files_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "set"
    write_folder(root, {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}})
    load_data(f"folder:{root}")
    load_data.cache_clear()
    os.utime(root / "train" / "a" / "0.png", ns=(0, 12345))
    monkeypatch.setattr(sets.pictures, "read_rgb", refuse)
    load_data(f"folder:{root}")


def test_another_set_of_the_same_names_sizes_and_times_is_not_taken_for_this_one(tmp_path: Path):
    """Uncompressed pictures in two folders of one name: only the pixels differ."""
    found = []
    for place in ("one", "two"):
        root = tmp_path / place / "set"
        for split in SPLITS:
            for name in "ab":
                (root / split / name).mkdir(parents=True)
                file = root / split / name / "0.bmp"
                Image.fromarray(pictures(1, hash_of(place + split + name))[0]).save(file)
                os.utime(file, ns=(0, 12345))
        found.append(load_data(f"folder:{root}").train)
        assert torch.equal(found[-1].images[0], planes(pictures(1, hash_of(f"{place}traina"))[0]))
    assert found[0].fingerprint != found[1].fingerprint


@pytest.mark.parametrize("keep", [0, 5, 200])
def test_corrupt_cache_file_is_made_again(tmp_path: Path, keep: int):
    write_folder(tmp_path / "set", {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}})
    first = load_data(f"folder:{tmp_path / 'set'}")
    expected = first.train.images.clone()
    del first
    load_data.cache_clear()
    for file in paths.cache_root().iterdir():
        content = file.read_bytes()
        file.unlink()  # what is mapped stays as it is
        file.write_bytes(content[:keep])
    assert torch.equal(load_data(f"folder:{tmp_path / 'set'}").train.images, expected)


def test_grey_palette_and_transparent_images_become_rgb(tmp_path: Path):
    root = tmp_path / "set"
    write_folder(root, {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}})
    source = Image.fromarray(pictures(1, 5)[0])
    for i, mode in enumerate(("L", "P", "RGBA", "CMYK")):
        source.convert(mode).save(root / "train" / "a" / f"x{i}.{'tif' if mode == 'CMYK' else 'png'}")
    found = load_data(f"folder:{root}").train
    assert found.images.shape == (6, 3, 8, 8)
    grey = found.images[1]
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], torch.from_numpy(np.array(source.convert("L"))))


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pictures(1, 0, 16)[0]).save(buffer, "png")
    return buffer.getvalue()


def broken_chunk() -> bytes:
    """A PNG in which the length of the pixel data is wrong."""
    raw = bytearray(png())
    at = raw.index(b"IDAT")
    raw[at - 2 : at] = b"\0\x20"
    return bytes(raw)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", png()[:20], png()[:100], png()[:33] + b"\xff" * 80, broken_chunk()],
    ids=["empty", "text", "header cut", "cut", "garbage", "broken chunk"],
)
def test_unreadable_image_is_named(tmp_path: Path, content: bytes):
    root = tmp_path / "set"
    write_folder(root, {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}, size=16)
    (root / "train" / "b" / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"b/bad.png is not a readable image") as caught:
        load_data(f"folder:{root}")
    assert "\n" not in str(caught.value)
    assert not list(paths.cache_root().glob("*train*"))


def test_damaged_pngs_raise_nothing_but_value_errors(tmp_path: Path):
    """2,000 files with one changed byte among the first 100."""
    rng, raw, path = np.random.default_rng(0), png(), tmp_path / "bad.png"
    failures = set()
    for place, value in zip(rng.integers(0, 100, 2000), rng.integers(0, 256, 2000), strict=True):
        content = bytearray(raw)
        content[place] = value
        path.write_bytes(bytes(content))
        try:
            np.asarray(sets.pictures.read_rgb(str(path)))
        except ValueError as error:
            assert str(path) in str(error)
        except Exception as error:
            failures.add(f"{type(error).__name__}: {error}")
    assert not failures


def test_images_of_several_sizes_are_refused(tmp_path: Path):
    root = tmp_path / "set"
    write_folder(root, {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}})
    Image.fromarray(pictures(1, 0, 9)[0][:, :7]).save(root / "train" / "b" / "9.png")
    with pytest.raises(ValueError, match="must have one size.*7x9") as caught:
        load_data(f"folder:{root}")
    assert "8x8" in str(caught.value) and "\n" not in str(caught.value)


def test_splits_of_different_sizes_are_refused(tmp_path: Path):
    write_folder(tmp_path / "set", {"train": {"a": 1, "b": 1}})
    write_folder(tmp_path / "set", {"test": {"a": 1, "b": 1}}, size=9)
    with pytest.raises(ValueError, match="size"):
        load_data(f"folder:{tmp_path / 'set'}")


def test_splits_of_different_classes_are_refused(tmp_path: Path):
    """Else label 0 would be one class in training and another in the test set."""
    write_folder(tmp_path / "set", {"train": {"a": 1, "b": 1, "c": 1}, "test": {"b": 1, "c": 1}})
    with pytest.raises(ValueError, match="class"):
        load_data(f"folder:{tmp_path / 'set'}")


@pytest.mark.parametrize(("channel", "word"), list(enumerate(("red", "green", "blue"))))
def test_a_constant_channel_is_named(tmp_path: Path, channel: int, word: str):
    root = tmp_path / "set"
    write_folder(root, {split: {"a": 2, "b": 2} for split in SPLITS})
    for file in (root / "train").rglob("*.png"):
        pixels = np.array(Image.open(file))
        pixels[..., channel] = 7
        Image.fromarray(pixels).save(file)
    with pytest.raises(ValueError, match=rf"set have a {word} channel that is 7 everywhere") as caught:
        load_data(f"folder:{root}")
    assert "\n" not in str(caught.value)
    pixels[0, 0, channel] = 250
    Image.fromarray(pixels).save(file)
    assert min(load_data(f"folder:{root}").train.std) > 0


# --- what is not there


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_set_says_where_it_was_looked_for_and_how_to_get_it(name: str):
    with pytest.raises(FileNotFoundError) as caught:
        load_data(name)
    text = str(caught.value)
    for words in (name, str(paths.data_root()), sets.CIFAR[name][0], f"python -m kdlib fetch {name}"):
        assert words in text
    assert "KDLIB_DATA" in text and "\n" not in text and not available(name)


def test_missing_bundled_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paths, "BUNDLED", tmp_path / "gone.npz")
    assert not available(BUNDLED)
    with pytest.raises(FileNotFoundError, match=r"gone.npz; .*check it out again"):
        load_data(BUNDLED)


@pytest.mark.parametrize("splits", [{}, {"train": {"a": 1}}, {"test": {"a": 1}}])
def test_folder_without_both_splits_is_named_and_not_available(tmp_path: Path, splits: dict):
    (tmp_path / "set").mkdir()
    write_folder(tmp_path / "set", splits)
    name = f"folder:{tmp_path / 'set'}"
    with pytest.raises(FileNotFoundError, match=r"train and test \(or val\)") as caught:
        load_data(name)
    assert str(tmp_path / "set") in str(caught.value)
    assert not available(name)


@pytest.mark.parametrize("name", ["mnist", "", "CIFAR100", "folder"])
def test_unknown_name(name: str):
    with pytest.raises(ValueError, match=r"data = .* is unknown; allowed are fashion-mnist-8k, cifar10, cifar100") as e:
        load_data(name)
    assert repr(name) in str(e.value) and "folder:PATH" in str(e.value)


def test_data_root_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for count in (1, 2):
        splits = {split: dict.fromkeys(CIFAR10, count) for split in SPLITS}
        write_folder(tmp_path / str(count) / "cifar10", splits, size=32)
        monkeypatch.setenv("KDLIB_DATA", str(tmp_path / str(count)))
        load_data.cache_clear()
        assert len(load_data("cifar10").train) == 10 * count
    monkeypatch.setenv("KDLIB_DATA", "")
    assert paths.data_root() == paths.ROOT / "data"


# --- the real CIFAR-100


REAL = os.environ.get("KDLIB_DATA")


@pytest.mark.skipif(not available("cifar100"), reason="CIFAR-100 is not on this machine: point KDLIB_DATA at it")
def test_real_cifar100(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KDLIB_DATA", REAL or "")
    monkeypatch.setenv("KDLIB_CACHE", str(CACHE))
    found = load_data("cifar100")
    for split, count in ((found.train, 500), (found.test, 100)):
        assert split.images.shape == (100 * count, 3, 32, 32) and split.images.dtype == torch.uint8
        assert torch.bincount(split.labels).tolist() == [count] * 100
        assert split.classes == CIFAR100
    values = found.train.images[::25].double().transpose(0, 1).flatten(1) / 255
    assert found.train.mean == pytest.approx(values.mean(1).tolist(), abs=0.02)
    assert found.train.std == pytest.approx(values.std(1).tolist(), abs=0.02)


@pytest.mark.parametrize("name", ["folder:images", "folder:../images", "photos:images", "folder:"])
def test_a_folder_is_named_from_the_root(name):
    """A relative one would be another in a notebook than in a shell, and is part of what identifies a run."""
    with pytest.raises(ValueError, match="must name its folder from the root or from ~"):
        sets.check_name(name)
    sets.check_name("folder:~/images")
