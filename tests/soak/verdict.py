"""What must hold after a soak. Knows figures only."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

MEMORY_GROWTH: Final = 0.05
"""From the median of the second sixth of the time to that of the last."""

SPARE: Final = {"descriptors": 5, "threads": min(32, (os.cpu_count() or 1) + 4) + 1, "tasks": 5}
"""So many more than before the load are no growth: connections that are kept for the next request, and the threads of
asyncio's pool, which start when they are first needed.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The bot's process at one moment; `seconds` since the load began, negative before."""

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
    is_stopped: bool


def find_faults(rest: Sample, samples: Sequence[Sample], rest_after: Sample, ending: Ending) -> list[str]:
    """Return what does not hold, a line each.

    Memory is compared under load, from the second sixth of the time to the last: in the first one, imports, caches and
    pools fill. The rest is compared at rest, before the load and after: what is in use comes and goes, and what leaks
    stays.
    """
    growth = memory_growth(samples)
    faults = [f"memory grew by {growth:.1%}, of {MEMORY_GROWTH:.0%} allowed"] if growth > MEMORY_GROWTH else []
    for name, spare in SPARE.items():
        before, after = getattr(rest, name), getattr(rest_after, name)
        if after > before + spare:
            faults.append(f"{name} grew from {before} to {after} at rest")
    return [*faults, *_find_losses(ending)]


def memory_growth(samples: Sequence[Sample]) -> float:
    """Return by which part the memory grew between the second sixth and the last."""
    settled, last = _sixths(samples)
    before = median(each.resident_bytes for each in settled)
    return median(each.resident_bytes for each in last) / before - 1


def _find_losses(ending: Ending) -> list[str]:
    found = (
        (ending.acknowledged == 0, "nothing was acknowledged"),
        (ending.not_acknowledged > 0, f"{ending.not_acknowledged} submissions were not acknowledged"),
        (ending.without_result > 0, f"{ending.without_result} acknowledged submissions got no result"),
        (ending.results_doubled > 0, f"{ending.results_doubled} results came twice"),
        (ending.left_open > 0, f"{ending.left_open} submissions are still open"),
        (not ending.is_stopped, "the bot did not stop by itself, or not without an error"),
    )
    return [fault for is_there, fault in found if is_there]


def _sixths(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Return the second sixth of the time, and the last one."""
    end = samples[-1].seconds
    settled = [each for each in samples if end / 6 <= each.seconds < end / 3]
    return settled, [each for each in samples if each.seconds >= end * 5 / 6]
