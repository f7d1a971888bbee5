"""What must hold after a soak. Knows figures only."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

MEMORY_GROWTH: Final = 0.05
"""From the median of the second sixth of the time to that of the last."""

SPARE: Final = 3
"""By so much the least number of descriptors, threads or tasks in a sixth may differ by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The bot's process at one moment; `seconds` since the load began."""

    seconds: float
    resident_bytes: int
    descriptors: int
    threads: int
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What came of the submissions, once the load was over and every result had its time."""

    acknowledged: int
    not_acknowledged: int
    without_result: int
    results_doubled: int
    left_open: int


def find_faults(samples: Sequence[Sample], ending: Ending) -> list[str]:
    """Return what does not hold, a line each.

    The first sixth is left out: imports, caches and pools fill. The second one is compared with the last.
    """
    return [*_find_growth(*_sixths(samples)), *_find_losses(ending)]


def memory_growth(samples: Sequence[Sample]) -> float:
    """Return by which part the memory grew between the second sixth and the last."""
    settled, last = _sixths(samples)
    before = median(each.resident_bytes for each in settled)
    return median(each.resident_bytes for each in last) / before - 1


def _find_growth(settled: Sequence[Sample], last: Sequence[Sample]) -> list[str]:
    faults = []
    growth = memory_growth([*settled, *last])
    if growth > MEMORY_GROWTH:
        faults.append(f"memory grew by {growth:.1%}, of {MEMORY_GROWTH:.0%} allowed")
    for name in ("descriptors", "threads", "tasks"):
        # The least: what is in use at a moment comes and goes, and what leaks is in every sample.
        before, after = (min(getattr(each, name) for each in part) for part in (settled, last))
        if after > before + SPARE:
            faults.append(f"{name} grew from {before} to {after}")
    return faults


def _find_losses(ending: Ending) -> list[str]:
    found = (
        (ending.acknowledged == 0, "nothing was acknowledged"),
        (ending.not_acknowledged > 0, f"{ending.not_acknowledged} submissions were not acknowledged"),
        (ending.without_result > 0, f"{ending.without_result} acknowledged submissions got no result"),
        (ending.results_doubled > 0, f"{ending.results_doubled} results came twice"),
        (ending.left_open > 0, f"{ending.left_open} submissions are still open"),
    )
    return [fault for is_there, fault in found if is_there]


def _sixths(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Return the second sixth of the time, and the last one."""
    end = samples[-1].seconds
    settled = [each for each in samples if end / 6 <= each.seconds < end / 3]
    return settled, [each for each in samples if each.seconds >= end * 5 / 6]
