"""What runs on photographs take of several GPUs and of a disk, against a count by hand."""

import re

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab.cost import model_size
from kdlib.lab.forecasts import answers_bytes, bytes_read, forecast, hours, on_gpus, total_macs
from kdlib.lab.specs import RunSpec
from kdlib.study.setting import Setting


@pytest.fixture(scope="module")
def runs() -> list[RunSpec]:
    study = create_study("10_imagenet", Setting.of("imagenet", device="cpu"))
    return [spec for arm in study.arms for spec in study.specs(arm)]


def test_hours_of_eight_gpus_are_operations_over_rates(runs):
    """Two floating-point operations a MAC; a student's view costs three forward passes, a teacher's one."""
    student, teacher = (model_size(f"resnet{n}_imagenet", 1000, 224)[1] for n in (18, 34))
    views = 1536 * (1_281_167 * 400 // 1536)
    days = [9 * views * 2 * (3 * student + teacher) / (8 * rate * 1e12) / 3600 for rate in (60, 30)]
    said = on_gpus(runs, 8, (30, 60))
    assert said.startswith(f"{hours(days[0])} to {hours(days[1])} on 8 GPUs of 60 to 30 sustained TFLOP/s each")
    high, low = map(float, re.search(r"reading ([\d.]+) to ([\d.]+) GB/s", said).groups())
    bytes_ = 9 * views / 2 * 3 * 256**2  # both views of a step are made of one square
    assert [high, low] == pytest.approx([bytes_ / day / 3600 / 1e9 for day in days], rel=0.05)
    assert high == pytest.approx(2 * low, rel=0.1)


def test_a_gpu_more_is_so_much_less(runs):
    one, two = (on_gpus(runs, gpus, (30, 30)) for gpus in (1, 2))
    first, second = (float(re.match(r"([\d,]+) h to", text)[1].replace(",", "")) for text in (one, two))
    assert first == pytest.approx(2 * second, rel=0.01)


def test_images_in_memory_are_not_read_and_nothing_takes_no_time(make_spec):
    assert on_gpus([], 8) == "no time on 8 GPUs"
    assert bytes_read(make_spec()) == 0 and "reading" not in on_gpus([make_spec()], 8)


def test_a_forecast_is_macs_at_one_rate(runs):
    assert forecast(runs) == pytest.approx(total_macs(runs) / 130e9 / 3600)
    assert answers_bytes(runs) == 0  # steps in micro-batches keep none
