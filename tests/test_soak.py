"""The verdict of a soak finds what grows and what was lost, and nothing in a process that is only busy."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.soak.verdict import SPARE, Ending, Sample, find_faults, memory_growth

MB = 2**20
GOOD = Ending(
    acknowledged=36_000, not_acknowledged=0, without_result=0, results_doubled=0, left_open=0, is_stopped=True
)


REST = Sample(seconds=0, resident_bytes=100 * MB, descriptors=40, threads=8, tasks=20)
RESTED = replace(REST, seconds=1820, resident_bytes=120 * MB, descriptors=43, threads=11, tasks=21)


def _samples(grow: Callable[[int, Sample], Sample] = lambda _, sample: sample) -> list[Sample]:
    """Return half an hour of a process that fills its caches for three minutes, and is now more busy, now less."""
    usual = (
        replace(
            REST,
            seconds=5.0 * number,
            resident_bytes=(100 + min(number, 36) // 2 + number % 3) * MB,
            tasks=60 + number * 13 % 200,
        )
        for number in range(360)
    )
    return [grow(number, sample) for number, sample in enumerate(usual)]


def test_a_busy_process_that_does_not_grow_passes() -> None:
    """What fills at the start, and what comes and goes, is no growth."""
    assert find_faults(REST, _samples(), RESTED, GOOD) == []


def test_memory_that_grows_slowly_is_found() -> None:
    """Six kilobytes a second, which are 6 MB between the two times that are compared."""
    samples = _samples(lambda number, sample: replace(sample, resident_bytes=sample.resident_bytes + number * 30_000))

    assert find_faults(REST, samples, RESTED, GOOD) == ["memory grew by 5.6%, of 5% allowed"]


def test_memory_that_is_given_back_is_no_growth() -> None:
    """After an outage in the middle."""
    samples = _samples(
        lambda number, sample: replace(sample, resident_bytes=150 * MB) if 170 < number < 250 else sample
    )

    assert find_faults(REST, samples, RESTED, GOOD) == []
    assert memory_growth(samples) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("name", ["descriptors", "threads", "tasks"])
def test_what_is_still_there_at_rest_is_found(name: str) -> None:
    """A few in half an hour are enough."""
    before = getattr(REST, name)
    most = before + SPARE[name]

    assert find_faults(REST, _samples(), replace(RESTED, **{name: most}), GOOD) == []
    assert find_faults(REST, _samples(), replace(RESTED, **{name: most + 1}), GOOD) == [
        f"{name} grew from {before} to {most + 1} at rest"
    ]


@pytest.mark.parametrize("name", ["not_acknowledged", "without_result", "results_doubled", "left_open"])
def test_a_single_loss_is_found(name: str) -> None:
    """One of 36,000 is enough."""
    [found] = find_faults(REST, _samples(), RESTED, replace(GOOD, **{name: 1}))  # type: ignore[arg-type]  # each of them is a number

    assert found.startswith("1 ")


def test_a_bot_that_does_not_stop_is_found() -> None:
    """Something hangs that should have ended."""
    [found] = find_faults(REST, _samples(), RESTED, replace(GOOD, is_stopped=False))

    assert "did not stop" in found


def test_a_soak_without_a_submission_is_no_success() -> None:
    """Nothing grew, for nothing was done."""
    nothing = replace(GOOD, acknowledged=0)

    assert find_faults(REST, _samples(), RESTED, nothing) == ["nothing was acknowledged"]
