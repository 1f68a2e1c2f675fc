"""Archives: a study goes on elsewhere to the same bits; damaged and foreign files place nothing."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from kdlib.lab import archives
from kdlib.lab.archives import MANIFEST, Count, pack, unpack
from kdlib.lab.checkpoints import write
from kdlib.lab.results import CHECKPOINT
from kdlib.lab.runs import execute
from kdlib.lab.stopping import OutOfTimeError, Stop
from kdlib.lab.store import Store

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def student(make_spec):
    return make_spec(method="kd", policy="jda", teacher=make_spec(seed=3))


@pytest.fixture
def file(isolated) -> Path:
    return isolated / "lent" / "runs.zip"


def stop_after(steps: int | None, monkeypatch) -> None:
    """Lets runs stop after so many steps, as if the time were over then; None never."""
    asked = []  # once before the first step, and after each
    monkeypatch.setattr(Stop, "is_late", lambda self: steps is not None and len(asked.append(0) or asked) > steps)


def tree(folder: Path) -> dict[str, bytes]:
    """Name -> content of all files below a folder; locks have none."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_run_in_the_middle_goes_on_elsewhere_to_the_same_bits(student, file, elsewhere, monkeypatch):
    whole = execute_with_teacher(student)
    first = elsewhere("lent")
    teacher = execute(student.teacher, "smoke")
    stop_after(3, monkeypatch)
    with pytest.raises(OutOfTimeError, match=r"stopped at step 3 of"):
        execute(student, "smoke")
    assert pack(Store("smoke"), file, unfinished=True) == Count("smoke", finished=1, unfinished=1)
    second = elsewhere("laptop")
    assert unpack(file) == Count("smoke", finished=1, unfinished=1)
    assert tree(second) == tree(first)
    stop_after(None, monkeypatch)
    assert Store("smoke").get(student.teacher) == teacher
    assert execute(student, "smoke").bits == whole.bits
    assert not (second / student.key / CHECKPOINT).exists()
    assert unpack(file) == Count("smoke", there=2)
    assert pack(Store("smoke"), file) == Count("smoke", finished=2)
    elsewhere("lent")
    assert unpack(file) == Count("smoke", finished=1, there=1)
    assert tree(first) == tree(second)  # and the checkpoint there has gone


def execute_with_teacher(student):
    execute(student.teacher, "smoke")
    return execute(student, "smoke")


def test_only_what_is_finished_travels_unless_asked(make_spec, file, monkeypatch):
    spec = make_spec()
    stop_after(1, monkeypatch)
    with pytest.raises(OutOfTimeError):
        execute(spec, "smoke")
    with pytest.raises(ValueError, match="holds no finished run: there is nothing to pack"):
        pack(Store("smoke"), file)
    assert not file.parent.exists() or not any(file.parent.iterdir())
    assert pack(Store("smoke"), file, unfinished=True) == Count("smoke", unfinished=1)


@pytest.mark.parametrize(("packed", "there", "stays"), [(1, 3, True), (3, 1, False), (2, 2, True)])
def test_the_checkpoint_that_is_further_stays(packed, there, stays, make_spec, file, elsewhere, monkeypatch):
    spec, contents = make_spec(), []
    for name, steps in (("lent", packed), ("laptop", there)):
        folder = elsewhere(name)
        stop_after(steps, monkeypatch)
        with pytest.raises(OutOfTimeError, match=f"stopped at step {steps} "):
            execute(spec, "smoke")
        if name == "lent":
            pack(Store("smoke"), file, unfinished=True)
        contents.append((folder / spec.key / CHECKPOINT).read_bytes())
    assert unpack(file) == (Count("smoke", there=1) if stays else Count("smoke", unfinished=1))
    assert (folder / spec.key / CHECKPOINT).read_bytes() == contents[stays]


def test_a_result_that_is_there_stays_and_other_bits_are_counted(make_spec, invented, file, elsewhere):
    spec = make_spec()
    result = invented(spec, "smoke")
    Store("smoke").put(result.model_copy(update={"bits": "f" * 16}))
    pack(Store("smoke"), file)
    elsewhere("laptop")
    Store("smoke").put(result)
    assert unpack(file) == Count("smoke", there=1, differ=1)
    assert Store("smoke").get(spec) == result


@pytest.fixture
def packed(student, invented, file) -> Path:
    """An archive of two finished runs."""
    for spec in (student.teacher, student):
        Store("smoke").put(invented(spec, "smoke"))
    pack(Store("smoke"), file)
    return file


def changed(file: Path, change) -> None:
    """Writes an archive anew, with its files (name -> content) changed in place; the manifest is read and written."""
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop(MANIFEST))
    change(files, manifest)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(MANIFEST, json.dumps(manifest))


def sealed(files: dict[str, bytes], manifest: dict) -> None:
    """Makes the manifest say what the files are."""
    manifest["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def edit(files, manifest):
    name = min(files)
    files[name] = files[name].replace(b'"top1": 50.0', b'"top1": 99.0')


def escape(files, manifest):
    files["../" + min(files)] = files.pop(min(files))
    sealed(files, manifest)


def lose(files, manifest):
    files.pop(min(files))


def another_key(files, manifest):
    first, last = min(files), max(files)
    files[first], files[last] = files[last], files[first]
    sealed(files, manifest)


def weights_alone(files, manifest):
    name = min(files)
    files[name.replace("result.json", "weights.safetensors")] = files.pop(name)
    sealed(files, manifest)


def pickled(files, manifest):
    name = min(files)
    files.pop(name)
    files[name.replace("result.json", CHECKPOINT)] = b"cos\nsystem\n(S'true'\ntR."
    sealed(files, manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit, r"is damaged: .*result\.json is not what was packed"),
        (escape, r"is no archive of kdlib pack: '\.\./.*' does not belong there"),
        (lose, r"is no archive of kdlib pack: .* does not belong there, or is missing"),
        (another_key, r"is that of run"),
        (weights_alone, r"are weights\.safetensors: that is no whole run"),
        (pickled, r"is corrupt: delete it"),
        (lambda files, manifest: manifest.update(profile="huge"), "is no archive of kdlib pack: profile = 'huge'"),
        (lambda files, manifest: manifest.update(format="runs 9"), "is no archive of kdlib pack: format = 'runs 9'"),
    ],
)
def test_a_damaged_or_foreign_archive_places_nothing(change, message, packed, elsewhere):
    changed(packed, change)
    second = elsewhere("laptop")
    with pytest.raises(ValueError, match=message):
        unpack(packed)
    assert tree(second) == {}
    assert {path.name for path in second.glob("*")} <= {".locks"}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_is_refused(share, packed, elsewhere):
    content = packed.read_bytes()
    packed.write_bytes(content[: int(share * len(content))])
    second = elsewhere("laptop")
    with pytest.raises(ValueError, match="is no whole archive of kdlib pack"):
        unpack(packed)
    assert not second.exists()


def test_any_changed_bit_is_noticed_or_changes_nothing(packed, elsewhere, generator):
    """1,000 archives with one flipped bit each: refused, or unpacked to the same files."""
    content, first = packed.read_bytes(), tree(Store("smoke").runs)
    refused = 0
    for i, position in enumerate(generator.integers(len(content), size=1000)):
        bad = bytearray(content)
        bad[position] ^= 1 << generator.integers(8)
        packed.write_bytes(bad)
        second = elsewhere(f"laptop {i}")
        try:
            unpack(packed)
        except ValueError:
            refused += 1
            assert tree(second) == {}
        else:
            assert tree(second) == first
    assert refused > 700


def test_another_zip_file_is_foreign(isolated):
    path = isolated / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat.txt", "meow")
    with pytest.raises(ValueError, match=r"photos\.zip is no archive of kdlib pack"):
        unpack(path)


def test_a_full_disk_is_noticed_before_anything_is_written(packed, elsewhere, monkeypatch):
    second = elsewhere("laptop")

    def full(folder, size, what):
        assert size > 1000
        raise OSError(f"{what} needs room")

    monkeypatch.setattr(archives, "check_room", full)
    with pytest.raises(OSError, match="needs room"):
        unpack(packed)
    assert tree(second) == {}


def test_a_run_that_ends_while_it_is_packed_is_packed_whole(make_spec, monkeypatch, file):
    """Between the look at the result and that at the checkpoint, the run ends."""
    spec = make_spec()
    stop_after(1, monkeypatch)
    with pytest.raises(OutOfTimeError):
        execute(spec, "smoke")
    stop_after(None, monkeypatch)
    read, looks = Path.read_bytes, []

    def late(path: Path) -> bytes:
        if path.name == CHECKPOINT and not looks:
            looks.append(path)
            execute(spec, "smoke")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", late)
    assert pack(Store("smoke"), file, unfinished=True) == Count("smoke", finished=1)


def test_checkpoints_are_read_without_running_what_they_hold(isolated):
    folder = isolated / "0123456789abcdef"
    folder.mkdir()
    write({"key": folder.name, "state": {"step": 4}, "extra": archives.Count("smoke")}, folder / CHECKPOINT)
    with pytest.raises(ValueError, match="is corrupt"):
        archives._steps(folder)
