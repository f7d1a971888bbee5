"""What was measured, and its statistics."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.benchmarks.alternatives.load import Sent

SLACK_WAITS: Final = 3.0
"""Seconds; then Slack shows an error in the form: https://docs.slack.dev/interactivity/handling-user-interaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one contender did in one round: its place in the table, and the figures, in seconds and bytes.

    `delay` is Cloudflare's; None for one that does not call it. With a `failure` there are no figures.
    """

    contender: str
    delay: float | None
    connections: int
    failure: str = ""
    per_second: float = 0
    p50: float = 0
    p99: float = 0
    slowest: float = 0
    answers: int = 0
    late: int = 0
    failed: int = 0
    resident: int = 0
    start: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What one `kill -9` under load cost: of so many people who had an acknowledgement, how many heard no more."""

    contender: str
    delay: float
    acknowledged: int = 0
    lost: int = 0
    failure: str = ""


@dataclass(slots=True, kw_only=True)
class Results:
    """All of a run; `skipped` says why a contender did not take part, `installed` is in bytes."""

    machine: str = ""
    rounds: int = 0
    seconds: float = 0
    cells: list[Cell] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    installed: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def delays(self) -> list[float]:
        """Cloudflare's delays, the shortest first."""
        return sorted({cell.delay for cell in self.cells if cell.delay is not None})

    @property
    def connections(self) -> list[int]:
        """The numbers of connections, the smallest first."""
        return sorted({cell.connections for cell in self.cells})

    def at(self, contender: str, delay: float, connections: int) -> Cell | None:
        """Return the rounds of one place as one, None if it was not measured."""
        rounds = [
            cell
            for cell in self.cells
            if (cell.contender, cell.connections) == (contender, connections) and cell.delay in {None, delay}
        ]
        return combine(rounds) if rounds else None

    def kill(self, contender: str, delay: float) -> Kill | None:
        """Return what a kill cost, None if it was not tried."""
        return next((kill for kill in self.kills if (kill.contender, kill.delay) == (contender, delay)), None)

    def median(self, contender: str, figure: Callable[[Cell], float]) -> float | None:
        """Return the median of a figure over all cells of a contender."""
        found = [figure(cell) for cell in self.cells if cell.contender == contender and not cell.failure]
        return statistics.median(found) if found else None

    def largest(self, contender: str, figure: Callable[[Cell], float]) -> float | None:
        """Return the largest of a figure over all cells of a contender."""
        return max(
            (figure(cell) for cell in self.cells if cell.contender == contender and not cell.failure), default=None
        )


def combine(rounds: Sequence[Cell]) -> Cell:
    """Return the medians of several rounds, the slowest answer of all, and sums of what was counted."""
    good = [cell for cell in rounds if not cell.failure]
    first = rounds[0]
    if not good:
        return first
    return Cell(
        contender=first.contender,
        delay=first.delay,
        connections=first.connections,
        per_second=statistics.median(cell.per_second for cell in good),
        p50=statistics.median(cell.p50 for cell in good),
        p99=statistics.median(cell.p99 for cell in good),
        slowest=max(cell.slowest for cell in good),
        answers=sum(cell.answers for cell in good),
        late=sum(cell.late for cell in good),
        failed=sum(cell.failed for cell in good),
        resident=int(statistics.median(cell.resident for cell in good)),
        start=statistics.median(cell.start for cell in good),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is not exceeded by this share of all (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0


def rate(sent: Sequence[Sent]) -> float:
    """Return the acknowledgements a second, of which each lane has its own rate: it sent one after the other.

    So a lane that waits for its last answer after the others have stopped does not make them slower.
    """
    counts: defaultdict[int, int] = defaultdict(int)
    ends: defaultdict[int, float] = defaultdict(float)
    for each in sent:
        counts[each.lane] += not each.failure
        ends[each.lane] = max(ends[each.lane], each.began + each.took)
    return sum(count / ends[lane] for lane, count in counts.items())


def count_late(sent: Sequence[Sent]) -> int:
    """Return how many people saw an error of Slack: no acknowledgement, or none in time."""
    return sum(bool(each.failure) or each.took > SLACK_WAITS for each in sent)
