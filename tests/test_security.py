"""No file runs what it holds, nothing is downloaded but over https with a hash, and no parameter reaches a shell."""

import ast
import hashlib
import json
import pickle
import re
import subprocess
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from kdlib import files
from kdlib.data import images, paths, thumbnails
from kdlib.lab import archives, checkpoints
from kdlib.lab.archives import unpack
from kdlib.lab.bank import bank_key, open_bank
from kdlib.lab.results import CHECKPOINT
from kdlib.lab.runs import execute
from kdlib.lab.store import Store
from kdlib.lab.task import Task
from kdlib.models import https
from kdlib.models.checkpoints import PUBLIC, load_checkpoint, own_checkpoint

pytestmark = pytest.mark.usefixtures("isolated")
ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for folder in ("kdlib", "book", "data") for path in sorted((ROOT / folder).rglob("*.py"))]


class Evil:
    """Whoever unpickles it writes the marker."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path):
    """Where the marker would be; it must not be there at the end of the test."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "what a file held was run"


def as_pickle(marker: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"state": Evil(marker)}))


def as_torch_file(marker: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.zeros(2), "state": Evil(marker)}, path)


def as_old_torch_file(marker: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.zeros(2), "state": Evil(marker)}, path, _use_new_zipfile_serialization=False)


def as_sealed_checkpoint(marker: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.write({"key": "0" * 16, "state": Evil(marker)}, path)


def objects(marker: Path, count: int = 1) -> np.ndarray:
    array = np.empty(count, dtype=object)
    array[:] = [Evil(marker) for _ in range(count)]
    return array


KINDS = [as_pickle, as_torch_file, as_old_torch_file]


@pytest.mark.parametrize("kind", [*KINDS, as_sealed_checkpoint])
def test_the_marker_is_written_where_nothing_protects(tmp_path, kind):
    """Else the tests below would prove nothing."""
    path, marker = tmp_path / "file", tmp_path / "written"
    kind(marker, path)
    raw = path.read_bytes()
    if kind is as_pickle:
        pickle.loads(raw)
    else:
        start = raw.find(b"PK") if kind is as_sealed_checkpoint else 0
        path.write_bytes(raw[start:])
        torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("kind", [*KINDS, as_sealed_checkpoint])
def test_a_run_does_not_go_on_from_it(make_spec, marker, tried, kind):
    kind(marker, Store("smoke").folder(make_spec()) / CHECKPOINT)
    with pytest.raises(ValueError, match="^checkpoint .* is (corrupt|of an older version)"):
        execute(make_spec(), "smoke")
    tried("attacks", "files that hold a program", refused=1)


@pytest.mark.parametrize("kind", [*KINDS, as_sealed_checkpoint])
def test_an_archive_does_not_bring_it(marker, tried, kind, tmp_path):
    name = f"{'0' * 16}/{CHECKPOINT}"
    kind(marker, tmp_path / "source")
    content = (tmp_path / "source").read_bytes()
    manifest = archives.Manifest(profile="smoke", files={name: hashlib.sha256(content).hexdigest()})
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        archive.writestr(name, content)
        archive.writestr(archives.MANIFEST, manifest.model_dump_json())
    with pytest.raises(ValueError, match="is corrupt|of an older version"):
        unpack(tmp_path / "runs.zip")
    tried("attacks", "files that hold a program", refused=1)


@pytest.mark.parametrize("kind", KINDS)
def test_it_teaches_nobody(marker, tried, kind, tmp_path, monkeypatch):
    """As one's own checkpoint, as a public one that is known by its contents, and by the hash of its very file."""
    path = tmp_path / "teacher.pth"
    kind(marker, path)
    with pytest.raises(ValueError, match="^path = .* must be a file that torch.save made of a state dict alone"):
        own_checkpoint("mine", path, "resnet8", 10, (0.5,) * 3, (0.5,) * 3)
    known = PUBLIC["cifar100_resnet20"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for checkpoint in (known, replace(known, contents="", file_hash=digest)):
        monkeypatch.setitem(PUBLIC, "cifar100_resnet20", replace(checkpoint, file="teacher.pth"))
        with pytest.raises(ValueError, match="cannot be read as a dict of tensors"):
            load_checkpoint("cifar100_resnet20", tmp_path)
    tried("attacks", "files that hold a program", refused=1)


@pytest.mark.parametrize("name", ["weights.safetensors", "result.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_no_result_and_no_weights(make_spec, invented, marker, tried, kind, name):
    store, spec = Store("smoke"), make_spec()
    store.put(invented(spec, "smoke"))
    (store.folder(spec) / "weights.safetensors").touch()
    kind(marker, store.folder(spec) / name)
    with pytest.raises(ValueError, match="^(weights in|result file) .* (are damaged|is corrupt)"):
        store.network(spec, "float32")
    tried("attacks", "files that hold a program", refused=1)


@pytest.mark.parametrize("name", ["views.npy", "answers.npy"])
def test_a_bank_does_not_hold_it(make_spec, teacher, marker, tmp_path, tried, name):
    """Not even where the sums beside it are right."""
    spec = make_spec(method="kd", policy="weak1", teacher=make_spec(seed=7), bank=1)
    data = images.load_data(spec.data).train
    folder = tmp_path / bank_key(spec, data)
    open_bank(spec, teacher.frozen(), data, spec.view_policy(), tmp_path)
    np.save(folder / name, objects(marker), allow_pickle=True)
    (folder / files.SUMS).write_text(json.dumps(files._sums(folder)))
    with pytest.raises(ValueError, match=rf"^file .*{name} is no array of numbers: delete its folder"):
        open_bank(spec, teacher.frozen(), data, spec.view_policy(), tmp_path)
    tried("attacks", "files that hold a program", refused=1)


def test_kept_answers_do_not_hold_it(make_spec, teacher, marker, tmp_path, tried):
    from kdlib.lab.answers import answers_key, remembering

    task = Task.of(make_spec(method="kd", policy="weak1", teacher=make_spec(seed=7)), teacher)
    remembering(task, tmp_path)
    folder = tmp_path / answers_key(task)
    np.save(folder / "answers.npy", objects(marker), allow_pickle=True)
    (folder / files.SUMS).write_text(json.dumps(files._sums(folder)))
    with pytest.raises(ValueError, match="is no array of numbers"):
        remembering(task, tmp_path)
    tried("attacks", "files that hold a program", refused=1)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_data_set_does_not_hold_it(marker, tmp_path, monkeypatch, tried, name):
    """CIFAR comes as pickles: torchvision opens only those whose MD5 it knows."""
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    good = {}
    for file in ("train", "test", "meta"):
        as_pickle(marker, folder / file)
        good[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    kept = {file: digest for file, digest in good.items() if file != name}
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", kept.get("train", "0" * 32)]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", kept.get("test", "0" * 32)]])
    if name != "train":  # it is read before the names of the classes are, so it must be a good one
        (folder / "train").write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]}))
        digest = hashlib.md5((folder / "train").read_bytes()).hexdigest()
        monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", digest]])
    with pytest.raises(ValueError, match="are incomplete or corrupt: delete them"):
        images._load_cifar("cifar100")
    tried("attacks", "files that hold a program", refused=1)


@pytest.mark.parametrize("array", ["train_images", "test_labels"])
def test_the_bundled_files_do_not_hold_it(marker, tmp_path, monkeypatch, tried, array):
    with np.load(paths.BUNDLED) as file:
        arrays = {name: file[name] for name in file.files} | {array: objects(marker, 3)}
    np.savez(tmp_path / "bundled.npz", **arrays)
    monkeypatch.setattr(paths, "BUNDLED", tmp_path / "bundled.npz")
    with pytest.raises(ValueError, match=r"bundled.npz is corrupt"):
        images._load_bundled()
    monkeypatch.setattr(paths, "THUMBNAILS", tmp_path)
    np.savez(tmp_path / "cifar100.npz", classes=objects(marker))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        thumbnails.kept("cifar100")
    tried("attacks", "files that hold a program", refused=2)


# --- downloads


def test_everything_is_downloaded_over_https_with_a_hash():
    for checkpoint in PUBLIC.values():
        assert checkpoint.url.startswith("https://")
        assert len(checkpoint.contents) == 64 or len(checkpoint.file_hash) >= 8
    for name in images.CIFAR:
        kind = getattr(datasets, name.upper())
        assert kind.url.startswith("https://") and re.fullmatch("[0-9a-f]{32}", kind.tgz_md5)


@pytest.mark.parametrize("url", ["http://example.org/x", "file:///etc/passwd", "ftp://example.org/x", "HTTP://a/b"])
def test_nothing_else_is_opened_nor_followed(tried, url):
    with pytest.raises(urllib.error.URLError, match="is not https"):
        https.open_secure(url, 1.0)
    first = urllib.request.Request("https://example.org/x")
    with pytest.raises(urllib.error.URLError, match="which is not https"):
        https._OnlySecure().redirect_request(first, None, 302, "Found", {}, url)
    assert https._OnlySecure().redirect_request(first, None, 302, "Found", {}, "https://example.org/y") is not None
    tried("attacks", "addresses of downloads", refused=2)


# --- what the source may not say


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """The calls in a file, with what is called: "os.system"."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in found]


def said(node: ast.Call, name: str) -> object:
    """The constant that a call gives to an argument by name; None without."""
    return next((getattr(k.value, "value", ...) for k in node.keywords if k.arg == name), None)


FORBIDDEN = re.compile(
    r"(os\.(system|popen|exec\w*|spawn\w*)|subprocess\.(getoutput|getstatusoutput)|eval|exec|(pickle|joblib|dill)\.load\w*"
    r"|pd\.read_pickle|yaml\.(load|unsafe_load)|urllib\.request\.(urlopen|urlretrieve)|requests\.\w+|torch\.hub\.\w+)"
)


def faults(path: Path) -> list[str]:
    """What a file calls that it may not."""
    found = []
    for name, node in calls(path):
        bad = FORBIDDEN.fullmatch(name) or said(node, "shell") not in (None, False)
        bad = bad or name == "torch.load" and said(node, "weights_only") is not True
        bad = bad or name.startswith("np.") and said(node, "allow_pickle") not in (None, False)
        if bad:
            found.append(f"{path.name}:{node.lineno}: {name}")
    return found


def test_no_shell_no_pickle_and_no_other_download_in_the_source():
    assert len(SOURCES) > 100
    assert [fault for path in SOURCES for fault in faults(path)] == []
    http = [path.name for path in SOURCES if re.search(r"""["']http://(?!localhost|127\.)""", path.read_text())]
    assert http == []


@pytest.mark.parametrize(
    "line",
    ["os.system(x)", "subprocess.run(x, shell=True)", "subprocess.run(x, shell=y)", "torch.load(x)", "pickle.load(x)",
     "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)", "eval(x)", "urllib.request.urlopen(x)"],
)  # fmt: skip
def test_such_a_line_would_be_found(line, tmp_path):
    path = tmp_path / "source.py"
    path.write_text(line)
    assert len(faults(path)) == 1


def dry(*arguments: str) -> subprocess.CompletedProcess:
    """What make would do."""
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_jupyterlab_keeps_its_token_and_its_place():
    line = next(line for line in dry("lab").stdout.splitlines() if "jupyter lab" in line)
    assert line.split()[1:] == ["lab", "notebooks/00_tour.ipynb", "--ServerApp.root_dir=."]
    text = "".join(path.read_text() for path in (ROOT / "Makefile", ROOT / "README.md", *(ROOT / "book").glob("*.md")))
    assert not re.search(r"token\s*=|password\s*=\s*['\"]{2}|allow_origin|disable_check_xsrf|--ip[= ]|allow-root", text)


@pytest.mark.parametrize("name", ["https://example.org/a", "s3://bucket/a", "nothing", ""])
def test_no_command_runs_a_notebook_from_elsewhere(name):
    done = dry("run", f"NOTEBOOK={name}")
    assert done.returncode != 0 and "is not one of" in done.stderr and "papermill" not in done.stdout


def test_the_audit_is_not_part_of_the_tests():
    assert "pip-audit" in dry("audit").stdout
    assert not any("audit" in dry(target).stdout for target in ("test", "test-slow", "install", "book", "html"))
    assert "make audit" in subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
