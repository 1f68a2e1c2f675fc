"""What `auto` stands for. The machine's own answer is asked of torch and of Linux, other machines are played."""

from pathlib import Path

import pytest
import torch

from kdlib.lab import machine
from kdlib.lab.machine import device_name, prepare, resolve_device, resolve_precision, threads
from kdlib.lab.recipe import Machine


def play_gpu(monkeypatch: pytest.MonkeyPatch, present: bool, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)


def play_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None) -> None:
    info = tmp_path / "cpuinfo"
    if text is not None:
        info.write_text(text)
    monkeypatch.setattr(machine, "Path", lambda _: info)


def test_cpu_is_always_there():
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize(("present", "auto"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch, present: bool, auto: str):
    play_gpu(monkeypatch, present)
    assert resolve_device("auto") == auto


def test_cuda_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch):
    play_gpu(monkeypatch, True)
    assert resolve_device("cuda") == "cuda"
    play_gpu(monkeypatch, False)
    with pytest.raises(ValueError, match="device = 'cuda' is not available.*auto and cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize("device", ["gpu", "CPU", "cuda:0", "", None])
def test_unknown_device_is_named(device):
    with pytest.raises(ValueError, match="is unknown; allowed are auto, cpu, cuda") as caught:
        resolve_device(device)
    assert repr(device) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bfloat16"), (False, "float16")])
def test_precision_of_a_gpu_asks_for_bf16_without_emulation(monkeypatch, bf16: bool, precision: str):
    play_gpu(monkeypatch, True, bf16)
    assert resolve_precision("cuda") == precision


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("processor : 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16\nbugs :\n", "bfloat16"),
        ("flags : fpu amx_bf16\n", "bfloat16"),
        ("Features : fp asimd bf16 i8mm\n", "bfloat16"),
        ("flags : fpu sse2 avx2 avx512f\n", "float32"),
        ("flags : fpu avx512_bf16_not_quite\n", "float32"),
        ("processor : 0\n", "float32"),
        (None, "float32"),
    ],
)
def test_precision_of_a_cpu_follows_its_flags(monkeypatch, tmp_path: Path, text: str | None, precision: str):
    play_cpu(monkeypatch, tmp_path, text)
    assert resolve_precision("cpu") == precision


def test_this_machine_is_read_right():
    info = Path("/proc/cpuinfo")
    if not info.exists():
        pytest.skip("/proc/cpuinfo is Linux's")
    words = set(info.read_text().split())
    assert (resolve_precision("cpu") == "bfloat16") == bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def test_device_name_says_what_the_cpu_is():
    assert "CPU" in device_name("cpu") and torch.backends.cpu.get_cpu_capability() in device_name("cpu")


def test_one_thread_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KDLIB_THREADS", raising=False)
    assert machine.resolve_threads() == Machine.of("cpu").threads == 1
    monkeypatch.setenv("KDLIB_THREADS", "3")
    assert machine.resolve_threads() == Machine.of("cpu").threads == 3
    assert Machine.of("cpu", threads=2).threads == 2


@pytest.mark.parametrize("word", ["0", "-1", "two", "1.5"])
def test_impossible_threads_are_refused(monkeypatch: pytest.MonkeyPatch, word: str):
    monkeypatch.setenv("KDLIB_THREADS", word)
    with pytest.raises(ValueError, match=f"KDLIB_THREADS = '{word}'"):
        machine.resolve_threads()


def test_float32_is_float32_and_sums_are_the_same_each_time():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark
    try:
        cudnn.allow_tf32 = matmul.allow_tf32 = cudnn.benchmark = True
        prepare(1)
        assert not (cudnn.allow_tf32 or matmul.allow_tf32 or cudnn.benchmark) and cudnn.deterministic
        assert torch.get_num_threads() == 1
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


def test_threads_are_set_and_set_back():
    with pytest.raises(KeyError), threads(2):
        assert torch.get_num_threads() == 2
        raise KeyError
    assert torch.get_num_threads() == 1
