"""Compares the machine's clock with the `Date` of Cloudflare's and Slack's answers, which a stranger may forge."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from bot.model.finding import Check, Finding, Mark, Part

TOLERANCE: Final = timedelta(minutes=1)
REFUSED_FROM: Final = timedelta(minutes=5)
"""From this difference on, Slack's requests count as replayed, and submissions expire at the wrong time."""
ANSWERS: Final = 3
"""How many answers in a row must differ: a single one may come from a cache or have been delayed."""
FIRST_ANSWERS_WITHIN: Final = timedelta(seconds=10)
"""How long a check waits for the answers to the other checks."""

_FIX: Final = (
    "set the clock of this machine, or of the container's host, and keep it right: `timedatectl set-ntp true`, or "
    "restart its time service"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """How far the machine's clock is ahead of a service's, and how many answers in a row said too much."""

    ahead: timedelta
    in_a_row: int


class ClockComparison:
    """Keeps the difference to each service's clock.

    `answers` in a row must differ before it counts; the command that asks only once believes the first one.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC), *, answers: int = ANSWERS) -> None:
        self._clock = clock
        self._answers = answers
        self._differences: dict[str, _Difference] = {}
        self._is_noted = asyncio.Event()

    def note(self, whose: str, date: str | None) -> None:
        """Compare the `Date` header of one answer."""
        said = _read(date)
        if said is None:
            return
        ahead, before = self._clock() - said, self._differences.get(whose)
        in_a_row = (before.in_a_row if before else 0) + 1 if abs(ahead) > TOLERANCE else 0
        self._differences[whose] = _Difference(ahead=ahead, in_a_row=in_a_row)
        self._is_noted.set()

    def check(self, services: Collection[str], *, refuses: bool) -> Check:
        """Return the check of the clock, which waits a moment for the first answers of these services.

        `refuses`: whether a wrong clock makes the bot refuse Slack's requests, as it does over HTTP.
        """

        async def examine() -> Sequence[Finding]:
            try:
                async with asyncio.timeout(FIRST_ANSWERS_WITHIN.total_seconds()):
                    while not self._differences.keys() >= set(services):
                        self._is_noted.clear()
                        await self._is_noted.wait()
            except TimeoutError:
                pass  # that one does not answer is another part's finding
            return [self.find(refuses=refuses)]

        return Check(part=Part.CLOCK, examine=examine)

    def find(self, *, refuses: bool) -> Finding:
        """Return what the answers so far say about the clock."""
        if not self._differences:
            text = "no service has told the time, so the clock was not compared"
            return Finding(part=Part.CLOCK, event="clock_not_compared", mark=Mark.WARNING, text=text)
        aheads = {whose: each.ahead for whose, each in self._differences.items()}
        differing = [each.ahead for each in self._differences.values() if each.in_a_row >= self._answers]
        said = " and ".join(_describe(whose, ahead) for whose, ahead in sorted(aheads.items()))
        known = {f"{whose.lower()}_seconds": round(ahead.total_seconds()) for whose, ahead in aheads.items()}
        if not differing:
            whose = " and ".join(f"{each}'s" for each in sorted(aheads))
            text = f"this machine's clock agrees with {whose}"
            return Finding(part=Part.CLOCK, event="clock_right", text=text, known=known)
        # If only one service says so, that one may be wrong.
        is_refused = len(differing) == len(aheads) and min(map(abs, differing)) >= REFUSED_FROM
        return Finding(
            part=Part.CLOCK,
            event="clock_differs",
            mark=Mark.FAILED if is_refused else Mark.WARNING,
            text=f"this machine's clock {said}",
            fix=_FIX,
            blocks=is_refused and refuses,
            known=known,
        )


def _describe(whose: str, ahead: timedelta) -> str:
    seconds = round(abs(ahead).total_seconds())
    if abs(ahead) <= TOLERANCE:
        return f"agrees with {whose}'s"
    return f"is {seconds} s {'ahead of' if ahead > timedelta(0) else 'behind'} {whose}'s"


def _read(date: str | None) -> datetime | None:
    try:
        said = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    return said if said.tzinfo is not None else said.replace(tzinfo=UTC)
