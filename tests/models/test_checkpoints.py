"""Public checkpoints. Tests that need the files are skipped unless KDLIB_CHECKPOINTS points at them."""

import hashlib
import io
import os
import re
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from kdlib.models import checkpoints
from kdlib.models.checkpoints import PUBLIC, contents_hash, download_checkpoint, load_checkpoint

NAME = "cifar100_resnet20"


def checkpoint_folder(name: str) -> Path:
    folder = os.environ.get("KDLIB_CHECKPOINTS")
    if not folder:
        pytest.skip("KDLIB_CHECKPOINTS is not set")
    if not (Path(folder) / PUBLIC[name].file).is_file():
        pytest.skip(f"KDLIB_CHECKPOINTS holds no {PUBLIC[name].file}")
    return Path(folder)


def some_test_images() -> tuple[torch.Tensor, torch.Tensor]:
    """1,000 test images of CIFAR-100, uint8 [1000, 3, 32, 32], and their labels."""
    root = Path(os.environ.get("KDLIB_DATA") or "absent")
    if (root / "cifar-100-python").is_dir():
        source = datasets.CIFAR100(root, train=False)
        return torch.from_numpy(source.data[:1000]).permute(0, 3, 1, 2), torch.tensor(source.targets[:1000])
    if (root / "cifar100" / "test").is_dir():
        source = datasets.ImageFolder(root / "cifar100" / "test")
        chosen = [i for i in range(len(source)) if i % 10 == 0]
        images = np.stack([np.asarray(source[i][0]) for i in chosen])
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor([source.targets[i] for i in chosen])
    pytest.skip("KDLIB_DATA does not hold CIFAR-100")


class Answer(io.BytesIO):
    """What a server answers, as urlopen hands it out."""


def serving(body: bytes, asked: list | None = None):
    def opener(url, timeout):
        if asked is not None:
            asked.append((url, timeout))
        return Answer(body)

    return opener


@pytest.fixture
def published(monkeypatch):
    """A stand-in for the published network: its file's bytes, with its entry in PUBLIC adapted to it."""
    torch.manual_seed(0)
    state = checkpoints.create_model("resnet20", 100).state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    entry = {**vars(PUBLIC[NAME]), "contents": contents_hash(state)}
    monkeypatch.setattr(checkpoints, "PUBLIC", {NAME: checkpoints.Checkpoint(**entry)})
    return buffer.getvalue()


def weight_offset(body: bytes) -> int:
    """Where the first convolution's values stand in a saved stand-in."""
    torch.manual_seed(0)
    values = checkpoints.create_model("resnet20", 100).conv1.weight.detach().numpy().tobytes()
    assert body.count(values) == 1
    return body.index(values)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_checkpoint_loads_in_evaluation_mode(name):
    model = load_checkpoint(name, checkpoint_folder(name))
    assert not any(part.training for part in model.modules())
    assert model.num_classes == PUBLIC[name].num_classes


def test_public_checkpoint_classifies():
    """Published 68.83 %: 4 standard errors of 1,000 images are 5.9 points, exceeded once in 16,000."""
    entry, (images, labels) = PUBLIC[NAME], some_test_images()
    model = load_checkpoint(NAME, checkpoint_folder(NAME))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (entry.mean, entry.std))
    with torch.inference_mode():
        predicted = model((images / 255 - mean) / std).logits.argmax(dim=1)
    accuracy = 100 * (predicted == labels).float().mean().item()
    assert abs(accuracy - entry.top1) < 5.9


@pytest.mark.parametrize("byte", [0, 1, 2, 3, 1001, -1])
def test_one_changed_byte_of_a_public_checkpoint_is_refused(tmp_path, byte):
    entry, folder = PUBLIC[NAME], checkpoint_folder(NAME)
    body = bytearray((folder / entry.file).read_bytes())
    values = load_checkpoint(NAME, folder).fc.weight.detach().numpy().tobytes()
    body[body.index(values) + byte % len(values)] ^= 1
    (tmp_path / entry.file).write_bytes(body)
    with pytest.raises(ValueError, match=NAME):
        load_checkpoint(NAME, tmp_path)


def test_entries_are_complete():
    for name, entry in PUBLIC.items():
        assert entry.name == name
        assert entry.file == f"{name}.pth"
        assert re.fullmatch(r"https://\S+/" + name + r"-[0-9a-f]{8}\.pt", entry.url)
        assert re.fullmatch(r"[0-9a-f]{64}", entry.contents)
    assert len({entry.contents for entry in PUBLIC.values()}) == len(PUBLIC)


def test_contents_hash_is_its_definition():
    values = [1.5, -2.0, 3.25, 0.0, 7.0, 8.5]
    text = b"a int64 []\n" + struct.pack("<q", 9) + b"b float32 [2, 3]\n" + struct.pack("<6f", *values)
    state = {"b": torch.tensor(values).view(2, 3), "a": torch.tensor(9)}
    assert contents_hash(state) == hashlib.sha256(text).hexdigest()


def test_contents_hash_sees_contents_only():
    base = {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(4)}
    same = contents_hash(base)
    assert contents_hash(dict(reversed(base.items()))) == same
    assert contents_hash({**base, "w": base["w"].t().contiguous().t()}) == same
    for changed in (
        {"v": base["w"], "n": base["n"]},
        {**base, "w": base["w"].view(3, 2)},
        {**base, "w": base["w"].double()},
        {**base, "n": base["n"].int()},
        {**base, "w": base["w"] + 1e-6},
        {"w": base["w"]},
    ):
        assert contents_hash(changed) != same


def test_missing_file_says_where_and_how(tmp_path):
    with pytest.raises(FileNotFoundError, match="is missing") as caught:
        load_checkpoint(NAME, tmp_path)
    message = str(caught.value)
    assert str(tmp_path / PUBLIC[NAME].file) in message
    assert f"python -m kdlib fetch {NAME}" in message
    assert "\n" not in message


@pytest.mark.parametrize("action", [load_checkpoint, download_checkpoint])
def test_unknown_name(tmp_path, action):
    with pytest.raises(ValueError, match="'resnet20' is unknown: allowed are cifar100_resnet20"):
        action("resnet20", tmp_path)


@pytest.mark.parametrize("body", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_file_that_is_no_checkpoint(tmp_path, body):
    (tmp_path / PUBLIC[NAME].file).write_bytes(body)
    with pytest.raises(ValueError, match="cannot be read") as caught:
        load_checkpoint(NAME, tmp_path)
    assert "\n" not in str(caught.value)


def test_other_weights_are_refused(tmp_path):
    torch.save(checkpoints.create_model("resnet20", 100).state_dict(), tmp_path / PUBLIC[NAME].file)
    with pytest.raises(ValueError, match="does not hold the published weights"):
        load_checkpoint(NAME, tmp_path)


def test_download_then_load(tmp_path, published):
    asked = []
    path = download_checkpoint(NAME, tmp_path / "new" / "folder", opener=serving(published, asked))
    assert path.read_bytes() == published
    assert [url for url, _ in asked] == [PUBLIC[NAME].url]
    assert asked[0][1] > 0
    assert list(path.parent.iterdir()) == [path]
    torch.manual_seed(0)
    expected = checkpoints.create_model("resnet20", 100).state_dict()
    for key, value in load_checkpoint(NAME, path.parent).state_dict().items():
        assert torch.equal(value, expected[key])


def test_verified_file_is_not_downloaded_again(tmp_path, published):
    asked = []
    for _ in range(2):
        download_checkpoint(NAME, tmp_path, opener=serving(published, asked))
    assert len(asked) == 1


def test_damaged_file_is_replaced(tmp_path, published):
    path = tmp_path / PUBLIC[NAME].file
    path.write_bytes(published[:100])
    assert download_checkpoint(NAME, tmp_path, opener=serving(published)) == path
    assert path.read_bytes() == published


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_truncated_download_leaves_nothing(tmp_path, published, kept):
    with pytest.raises(ValueError, match=NAME):
        download_checkpoint(NAME, tmp_path, opener=serving(published[: int(kept * len(published))]))
    assert not list(tmp_path.iterdir())


def test_changed_download_leaves_nothing(tmp_path, published):
    body = bytearray(published)
    body[weight_offset(published)] ^= 1
    with pytest.raises(ValueError, match="published weights"):
        download_checkpoint(NAME, tmp_path, opener=serving(bytes(body)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [ConnectionResetError("reset"), TimeoutError("slow"), urllib.error.URLError("no route")]
)
def test_broken_connection_leaves_nothing(tmp_path, published, error):
    class Broken(Answer):
        def read(self, *args):
            if self.tell() > 0:
                raise error
            return super().read(1000)

    with pytest.raises(ConnectionError, match=NAME) as caught:
        download_checkpoint(NAME, tmp_path, opener=lambda url, timeout: Broken(published))
    assert PUBLIC[NAME].url in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_interruption_leaves_nothing(tmp_path, published):
    class Interrupted(Answer):
        def read(self, *args):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_checkpoint(NAME, tmp_path, opener=lambda url, timeout: Interrupted(published))
    assert not list(tmp_path.iterdir())


def test_failed_download_keeps_the_file_that_was_there(tmp_path, published):
    path = tmp_path / PUBLIC[NAME].file
    path.write_bytes(b"older")
    with pytest.raises(ValueError, match=NAME):
        download_checkpoint(NAME, tmp_path, opener=serving(b""))
    assert path.read_bytes() == b"older"
