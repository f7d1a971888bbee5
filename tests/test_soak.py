"""The verdict of a soak finds what grows and what was lost, and nothing in a process that is only busy."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.soak.verdict import Ending, Sample, find_faults, memory_growth

MB = 2**20
GOOD = Ending(acknowledged=36_000, not_acknowledged=0, without_result=0, results_doubled=0, left_open=0)


def _samples(grow: Callable[[int, Sample], Sample] = lambda _, sample: sample) -> list[Sample]:
    """Return half an hour of a process that fills its caches for three minutes, and is now more busy, now less."""
    usual = (
        Sample(
            seconds=5.0 * number,
            resident_bytes=(100 + min(number, 36) // 2 + number % 3) * MB,
            descriptors=40 + number * 7 % 30,
            threads=10,
            tasks=60 + number * 13 % 200,
        )
        for number in range(360)
    )
    return [grow(number, sample) for number, sample in enumerate(usual)]


def test_a_busy_process_that_does_not_grow_passes() -> None:
    """What fills at the start, and what comes and goes, is no growth."""
    assert find_faults(_samples(), GOOD) == []


@pytest.mark.parametrize(
    ("grow", "fault"),
    [
        pytest.param(
            lambda number, sample: replace(sample, resident_bytes=sample.resident_bytes + number * 30_000),
            "memory grew by 5.6%",
            id="30 kB in five seconds",
        ),
        pytest.param(
            lambda number, sample: replace(sample, descriptors=sample.descriptors + number // 60),
            "descriptors grew from 41 to 45",
            id="a descriptor in five minutes",
        ),
        pytest.param(
            lambda number, sample: replace(sample, threads=sample.threads + number // 60),
            "threads grew from 11 to 15",
            id="a thread in five minutes",
        ),
        pytest.param(
            lambda number, sample: replace(sample, tasks=sample.tasks + number // 10),
            "tasks grew from 68 to 94",
            id="a task in fifty seconds",
        ),
    ],
)
def test_growth_is_found(grow: Callable[[int, Sample], Sample], fault: str) -> None:
    """However slow: a leak is in every sample, and what is in use hides it in some of them only."""
    [found] = find_faults(_samples(grow), GOOD)

    assert found.startswith(fault)


def test_memory_that_is_given_back_is_no_growth() -> None:
    """After an outage in the middle."""
    samples = _samples(
        lambda number, sample: replace(sample, resident_bytes=150 * MB) if 170 < number < 250 else sample
    )

    assert find_faults(samples, GOOD) == []
    assert memory_growth(samples) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("name", ["not_acknowledged", "without_result", "results_doubled", "left_open"])
def test_a_single_loss_is_found(name: str) -> None:
    """One of 36,000 is enough."""
    [found] = find_faults(_samples(), replace(GOOD, **{name: 1}))

    assert found.startswith("1 ")


def test_a_soak_without_a_submission_is_no_success() -> None:
    """Nothing grew, for nothing was done."""
    assert find_faults(_samples(), replace(GOOD, acknowledged=0)) == ["nothing was acknowledged"]
