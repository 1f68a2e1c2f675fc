"""Public checkpoints. Tests that need the files are skipped unless KDLIB_CHECKPOINTS points at them."""

import hashlib
import io
import os
import re
import struct
import urllib.error
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision import datasets

from kdlib.lab.cost import macs, parameters
from kdlib.models import MODELS, checkpoints, create_model
from kdlib.models.checkpoints import PUBLIC, contents_hash, download_checkpoint, load_checkpoint, own_checkpoint

NAME = "cifar100_resnet20"
IMAGENET = ("imagenet_resnet34", "imagenet_resnet18")


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


def saved(state) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def publish(monkeypatch, name: str, kind: str, state, **changes) -> bytes:
    """The bytes of a file with `state`, after which PUBLIC has one entry: `name`, identified by that file."""
    body = saved(state)
    identity = {"contents": "", "file_hash": ""}
    identity[kind] = contents_hash(state) if kind == "contents" else hashlib.sha256(body).hexdigest()[:8]
    monkeypatch.setattr(checkpoints, "PUBLIC", {name: replace(PUBLIC[name], **identity, **changes)})
    return body


@pytest.fixture(params=["contents", "file_hash"])
def published(request, monkeypatch):
    """A stand-in for the published network: its file's bytes, with its entry in PUBLIC adapted to it."""
    torch.manual_seed(0)
    return publish(monkeypatch, NAME, request.param, create_model("resnet20", 100).state_dict())


def weight_offset(body: bytes) -> int:
    """Where the first convolution's values stand in a saved stand-in."""
    torch.manual_seed(0)
    values = create_model("resnet20", 100).conv1.weight.detach().numpy().tobytes()
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
        assert entry.model in MODELS
        file = name if name.startswith("cifar100") else name.removeprefix("imagenet_")
        assert re.fullmatch(r"https://\S+/" + file + r"-[0-9a-f]{8}\.pth?", entry.url)
        assert re.fullmatch(r"[0-9a-f]{64}|file:[0-9a-f]{8}", entry.identity)
        assert (entry.identity == entry.contents) == name.startswith("cifar100")
    assert len({entry.identity for entry in PUBLIC.values()}) == len(PUBLIC)


def test_imagenet_entries_are_what_torchvision_publishes():
    """Accuracies and file names from torchvision's table of classification weights."""
    for name, url, top1 in (
        ("imagenet_resnet34", "https://download.pytorch.org/models/resnet34-b627a593.pth", 73.314),
        ("imagenet_resnet18", "https://download.pytorch.org/models/resnet18-f37072fd.pth", 69.758),
    ):
        entry = PUBLIC[name]
        assert (entry.url, entry.top1, entry.num_classes) == (url, top1, 1000)
        assert f"{entry.file_hash}.pth" == url.rpartition("-")[2]
        assert entry.identity == f"file:{entry.file_hash}"
        assert (entry.mean, entry.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    "identity",
    [
        {},
        {"contents": "0" * 64, "file_hash": "b627a593"},
        {"file_hash": "b627a59"},
        {"file_hash": "B627A593"},
        {"file_hash": "0" * 65},
    ],
)
def test_checkpoint_needs_one_good_identification(identity):
    with pytest.raises(ValueError, match=f"checkpoint {NAME}: ") as caught:
        replace(PUBLIC[NAME], **({"contents": "", "file_hash": ""} | identity))
    assert "\n" not in str(caught.value)


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
    torch.save(create_model("resnet20", 100).state_dict(), tmp_path / PUBLIC[NAME].file)
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
    expected = create_model("resnet20", 100).state_dict()
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


# --- ImageNet networks of torchvision, identified by the hash in the name of their file


def torchvision_network(name: str) -> nn.Module:
    """The network of that entry as torchvision builds it, with random weights and BatchNorm statistics of noise."""
    torch.manual_seed(0)
    network = getattr(torchvision.models, name.removeprefix("imagenet_"))(weights=None)
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_network_is_that_of_torchvision(tmp_path, monkeypatch, name):
    """Downloaded, verified and strictly loaded, it gives the logits that torchvision's own network gives."""
    reference, images = torchvision_network(name), torch.randn(2, 3, 64, 64)
    body = publish(monkeypatch, name, "file_hash", reference.state_dict())
    download_checkpoint(name, tmp_path, opener=serving(body))
    model = load_checkpoint(name, tmp_path)
    assert not any(part.training for part in model.modules())
    assert list(model.state_dict()) == list(reference.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(model(images).logits, reference(images), rtol=0, atol=1e-5)


def test_older_file_without_counters_loads_as_torchvision_loads_it(tmp_path, monkeypatch):
    """State dicts of before PyTorch 0.4.1 have neither BatchNorm's num_batches_tracked nor a version."""
    reference = torchvision_network("imagenet_resnet18")
    old = OrderedDict((k, v) for k, v in reference.state_dict().items() if not k.endswith("num_batches_tracked"))
    (tmp_path / PUBLIC["imagenet_resnet18"].file).write_bytes(
        publish(monkeypatch, "imagenet_resnet18", "file_hash", old)
    )
    torchvision.models.resnet18(weights=None).load_state_dict(old, strict=True)
    state = load_checkpoint("imagenet_resnet18", tmp_path).state_dict()
    assert all(torch.equal(state[key], value) for key, value in old.items())


@pytest.mark.parametrize("name", IMAGENET)
def test_file_with_another_hash_is_refused(tmp_path, name):
    body = saved({"a": torch.zeros(2)})
    path = tmp_path / PUBLIC[name].file
    path.write_bytes(body)
    with pytest.raises(ValueError, match="does not hold the published weights") as caught:
        load_checkpoint(name, tmp_path)
    message = str(caught.value)
    assert str(path) in message
    assert f"{hashlib.sha256(body).hexdigest()}, expected {PUBLIC[name].file_hash}...)" in message
    assert f"python -m kdlib fetch {name}" in message
    assert "\n" not in message


@pytest.mark.parametrize("digits", [8, 20, 64])
@pytest.mark.parametrize("right", [True, False])
def test_file_hash_is_checked_as_torch_hub_does(tmp_path, monkeypatch, digits, right):
    body = publish(monkeypatch, NAME, "file_hash", create_model("resnet20", 100).state_dict())
    digest = hashlib.sha256(body).hexdigest()[:digits]
    prefix = digest if right else digest[:-1] + ("0" if digest[-1] != "0" else "1")
    monkeypatch.setattr(checkpoints, "PUBLIC", {NAME: replace(checkpoints.PUBLIC[NAME], file_hash=prefix)})
    path = tmp_path / PUBLIC[NAME].file
    path.write_bytes(body)

    def with_hub():
        torch.hub.download_url_to_file(path.as_uri(), tmp_path / "copy", hash_prefix=prefix, progress=False)

    if right:
        with_hub()
        load_checkpoint(NAME, tmp_path)
    else:
        with pytest.raises(RuntimeError, match="invalid hash value"):
            with_hub()
        with pytest.raises(ValueError, match="SHA-256 of the file"):
            load_checkpoint(NAME, tmp_path)


def narrower(state):
    return state | {"fc.weight": state["fc.weight"][:, :-1]}


def without_bias(state):
    return {key: value for key, value in state.items() if key != "fc.bias"}


def with_more(state):
    return state | {"head.weight": torch.zeros(1)}


def renamed(state):
    return {f"module.{key}": value for key, value in state.items()}


@pytest.mark.parametrize("kind", ["contents", "file_hash"])
@pytest.mark.parametrize(
    ("change", "part"),
    [
        (narrower, "size mismatch for fc.weight"),
        (without_bias, 'Missing key(s) in state_dict: "fc.bias"'),
        (with_more, 'Unexpected key(s) in state_dict: "head.weight"'),
        (renamed, "all names begin with 'module.': save model.module.state_dict()"),
    ],
)
def test_weights_that_do_not_fit_the_model_are_refused(tmp_path, monkeypatch, kind, change, part):
    body = publish(monkeypatch, NAME, kind, change(create_model("resnet20", 100).state_dict()))
    path = tmp_path / PUBLIC[NAME].file
    path.write_bytes(body)
    with pytest.raises(ValueError, match="does not fit resnet20") as caught:
        load_checkpoint(NAME, tmp_path)
    message = str(caught.value)
    assert NAME in message
    assert str(path) in message
    assert part in message
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))


@pytest.mark.parametrize("kind", ["contents", "file_hash"])
@pytest.mark.parametrize("other", [[torch.zeros(1)], {"a": 1.0}, {"a": {"b": torch.zeros(1)}}])
def test_file_that_holds_something_else_is_refused(tmp_path, monkeypatch, kind, other):
    body = saved(other)
    identity = {"contents": "", "file_hash": hashlib.sha256(body).hexdigest()[:8]} if kind == "file_hash" else {}
    monkeypatch.setattr(checkpoints, "PUBLIC", {NAME: replace(PUBLIC[NAME], **identity)})
    (tmp_path / PUBLIC[NAME].file).write_bytes(body)
    with pytest.raises(ValueError, match="cannot be read as a dict of tensors"):
        load_checkpoint(NAME, tmp_path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_names_of_a_wrapper_come_with_a_hint(tmp_path, monkeypatch, prefix):
    state = {prefix + name: values for name, values in create_model("resnet20", 100).state_dict().items()}
    (tmp_path / PUBLIC[NAME].file).write_bytes(publish(monkeypatch, NAME, "contents", state))
    with pytest.raises(
        ValueError, match=rf"does not fit resnet20 \(all names begin with '{prefix}': save model\."
    ) as caught:
        load_checkpoint(NAME, tmp_path)
    assert f"{prefix.strip('.')}.state_dict()" in str(caught.value) and "\n" not in str(caught.value)


def test_weights_in_bfloat16_are_a_state_dict(tmp_path, monkeypatch):
    """Each of them is a float32 whose lower two bytes are zero: the hash is that of the upper two."""
    state = create_model("resnet20", 100).state_dict()
    half = {name: v.bfloat16() if v.is_floating_point() else v for name, v in state.items()}
    digest = hashlib.sha256()
    for name, values in sorted(half.items()):
        if not values.is_floating_point():
            kind, raw = "int64", values.numpy().tobytes()
        else:
            pairs = values.float().numpy().astype("<f4").view("<u2").reshape(-1, 2)
            kind, raw = "bfloat16", pairs[:, 1].tobytes()
        digest.update(f"{name} {kind} {list(values.shape)}\n".encode() + raw)
    assert contents_hash(half) == digest.hexdigest()
    path = tmp_path / "half.pth"
    torch.save(half, path)
    own = own_checkpoint("half", path, "resnet20", 100, (0.5,) * 3, (0.2,) * 3)
    monkeypatch.setitem(PUBLIC, "half", own)
    loaded = load_checkpoint("half", tmp_path).state_dict()
    assert all(torch.equal(loaded[name], values.to(loaded[name].dtype)) for name, values in half.items())
    assert loaded["fc.weight"].dtype == torch.float32


# --- networks of github.com/chenyaofo/pytorch-cifar-models that are not those of this project

# Million parameters and million MACs ("#MAdds") for CIFAR-100, as printed in the README of that repository.
THEIRS = {
    "resnet": {"0.28, 40.82", "0.47, 69.13", "0.67, 97.44", "0.86, 125.75"},
    "vgg": {"9.80, 153.34", "9.99, 228.84", "15.30, 313.77", "20.61, 398.71"},
    "mobilenetv2": {"0.82, 28.08", "1.48, 59.43", "2.35, 88.09", "4.50, 170.23"},
    "shufflenetv2": {"0.44, 10.99", "1.36, 45.09", "2.58, 94.35", "5.55, 188.00"},
}


def counts(network: nn.Module) -> str:
    return f"{parameters(network) / 1e6:.2f}, {macs(network.eval(), (1, 3, 32, 32)) / 1e6:.2f}"


@pytest.mark.parametrize(
    ("model", "family", "listed"),
    [
        ("resnet20", "resnet", True),
        ("resnet32", "resnet", True),
        ("resnet44", "resnet", True),
        ("resnet56", "resnet", True),
        ("vgg8", "vgg", False),
        ("vgg13", "vgg", False),
        ("mobilenetv2", "mobilenetv2", False),
        ("mobilenetv2_stride1", "mobilenetv2", False),
        ("shufflenetv2", "shufflenetv2", False),
    ],
)
def test_a_family_is_listed_where_the_published_counts_are_ours(model, family, listed):
    with torch.device("meta"):
        assert (counts(create_model(model, 100)) in THEIRS[family]) == listed
    assert (model in {entry.model for entry in PUBLIC.values()}) == listed


def test_their_vgg_has_more_pools_and_a_deeper_head():
    """Rebuilt from torchvision's convolutions it has their counts; the convolutions are as many as ours."""
    with torch.device("meta"):
        theirs = torchvision.models.vgg13_bn(num_classes=100)
        theirs.avgpool = nn.Identity()
        theirs.classifier = nn.Sequential(
            nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 100)
        )
        ours = create_model("vgg13", 100)
    assert counts(theirs) == "9.99, 228.84"
    assert parameters(theirs.features) == parameters(ours) - parameters(ours.fc)
    pools = [sum(isinstance(part, nn.MaxPool2d) for part in network.modules()) for network in (theirs, ours)]
    assert pools == [5, 3]


def test_their_mobilenet_has_a_wider_second_group_and_relu6():
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(num_classes=100, width_mult=0.5)
        theirs.features[0][0].stride = theirs.features[2].conv[1][0].stride = (1, 1)
        ours = create_model("mobilenetv2_stride1", 100)
    assert counts(theirs) == "0.82, 28.08"
    assert theirs.features[3].out_channels == 16
    assert ours.stage_channels[0] == 12
    assert not any(isinstance(part, nn.ReLU6) for part in ours.modules())


def test_their_shufflenet_has_a_3x3_stem():
    """It is the only difference: 24 filters of 3 channels with 8 weights more each."""
    with torch.device("meta"):
        theirs = torchvision.models.shufflenet_v2_x1_0(num_classes=100)
        theirs.conv1[0].stride, theirs.maxpool = (1, 1), nn.Identity()
        ours = create_model("shufflenetv2", 100)
    assert counts(theirs) == "1.36, 45.09"
    assert parameters(theirs) - parameters(ours) == 24 * 3 * (9 - 1)
    image = (1, 3, 32, 32)
    assert macs(theirs.eval(), image) - macs(ours.eval(), image) == 24 * 3 * (9 - 1) * 32 * 32
