"""Decides when a request may go to Cloudflare: a queue per process, one budget for all processes of an account.

However many checks there are, they never delay a write: not in the queue, not in the budget, not in flight.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, TypeVar

from bot.cloudflare.budget import Budget, Limits, Urgency
from bot.model.errors import DatabaseTrouble
from bot.model.line import Line, Place

MOMENT: Final = timedelta(seconds=1)
"""The longest stop for which a request stays in the queue."""
MOST_IN_FLIGHT: Final = 32
FEW_IN_FLIGHT: Final = 8
"""Until the first request has ended: its answer may announce an unusually low limit."""
FOR_WRITES_IN_FLIGHT: Final = 1 / 4
"""The share that is reserved for writes: when Cloudflare is slow, checks would otherwise fill every place."""

_T = TypeVar("_T")


class Pace(Protocol):
    """Lets requests go to Cloudflare as fast as the account's budget allows."""

    async def turn(self, urgency: Urgency) -> datetime | None:
        """Wait in the queue; None means that one request may go now, after which `done()` must be called.

        A datetime, returned at once, means that no request of this urgency may go until then, which is more than a
        second away. Safe to cancel. Raises DatabaseTrouble if the budget is in a database.
        """
        ...

    def done(self, limits: Limits | None) -> None:
        """Record that a request has ended, and the limits in its answer, if any."""
        ...

    async def block(self, retry_after: timedelta) -> None:
        """Stop all requests of the account, for at least a second: Cloudflare answered 429."""
        ...


class PaceStore(Protocol):
    """Stores the budget of one account, initially `Budget.fresh`."""

    async def change(self, change: Callable[[Budget, datetime], tuple[Budget, _T]]) -> _T:
        """Replace the budget by the result of `change` at the store's time, one change after the other.

        `change` may run twice. Raises DatabaseTrouble.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _News:
    limits: Limits
    in_flight: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """Requests that are counted in the budget already, and not sent."""

    count: int
    at: datetime


_NOTHING: Final = _Taken(count=0, at=datetime.min.replace(tzinfo=UTC))


class SharedPace:
    """The pace of an account whose budget may be shared with other processes.

    Only the first in the queue asks the store, one at a time, and passes on the limits received meanwhile. It takes for
    those behind it too: a change in PostgreSQL costs a worker 1 ms, and a delivery asks five questions. While it sleeps
    until the budget opens, a more urgent one may overtake it.
    """

    def __init__(
        self,
        store: PaceStore,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._line = Line()
        self._asking = asyncio.Lock()
        self._in_flight = 0
        self._most_in_flight = FEW_IN_FLIGHT
        self._news: list[_News] = []
        self._stopped_until = dict.fromkeys(Urgency, datetime.min.replace(tzinfo=UTC))
        self._taken = dict.fromkeys(Urgency, _NOTHING)

    async def turn(self, urgency: Urgency) -> datetime | None:
        """Wait in the queue for a request; see `Pace`."""
        with self._line.stand(urgency) as place:
            while True:
                while not self._may_go_on(place):
                    await place.wait_for_call()
                if self._is_stopped(urgency):
                    return self._stopped_until[urgency]
                async with self._asking:  # another place, no longer the first, may still be asking
                    if not self._may_go_on(place):
                        continue
                    wait = None if self._use_taken(urgency) else await self._take(urgency)
                    if self._is_stopped(urgency):  # a 429 may have come while the store answered
                        continue
                    if wait is None:
                        self._in_flight += 1
                        return None
                await self._sleep(wait.total_seconds())

    def done(self, limits: Limits | None) -> None:
        """Record a request's end; see `Pace`."""
        self._in_flight -= 1
        self._most_in_flight = MOST_IN_FLIGHT
        self._line.call_first()
        if limits is not None:
            self._news.append(_News(limits=limits, in_flight=self._in_flight, at=self._clock()))

    async def block(self, retry_after: timedelta) -> None:
        """Stop all requests of the account; see `Pace`."""
        retry_after = max(retry_after, MOMENT)
        self._stop(self._clock() + retry_after)
        self._line.call_first()
        with suppress(DatabaseTrouble):  # then the other processes get a 429 themselves
            await self._store.change(lambda budget, now: (budget.blocked(now + retry_after), None))

    async def left(self) -> tuple[int, int]:
        """Return how many requests may still go, and how many Cloudflare allows in a window; raises as `turn`."""
        return await self._store.change(lambda budget, now: (budget, (budget.left(now), budget.quota)))

    def _is_stopped(self, urgency: Urgency) -> bool:
        return self._stopped_until[urgency] - self._clock() > MOMENT

    def _stop(self, until: datetime, least: Urgency = Urgency.WRITE) -> None:
        """Stop everything of that urgency and below; a longer stop stays as it is."""
        for urgency, stopped_until in self._stopped_until.items():
            if urgency >= least:
                self._stopped_until[urgency] = max(stopped_until, until)
                self._taken[urgency] = _NOTHING

    def _may_go_on(self, place: Place) -> bool:
        """Return whether this place may take a request now, or learn that none may go."""
        urgency = Urgency(place.urgency)
        return self._line.is_first(place) and (self._room(urgency) > 0 or self._is_stopped(urgency))

    def _room(self, urgency: Urgency) -> int:
        """Return how many more of that urgency may be in flight."""
        kept = 0 if urgency is Urgency.WRITE else int(self._most_in_flight * FOR_WRITES_IN_FLIGHT)
        return self._most_in_flight - kept - self._in_flight

    def _use_taken(self, urgency: Urgency) -> bool:
        """Use a request that was taken with an earlier one a moment ago; return whether there was one."""
        taken = self._taken[urgency]
        is_left = taken.count > 0 and timedelta(0) <= self._clock() - taken.at < MOMENT
        self._taken[urgency] = replace(taken, count=taken.count - 1) if is_left else _NOTHING
        return is_left

    async def _take(self, urgency: Urgency) -> timedelta | None:
        """Take a request for each in the queue of that urgency, or return how long to wait before asking again.

        If one of them gives up, what was taken for it is counted and not sent, or used by the next one.
        """
        news, wanted = tuple(self._news), min(self._line.waiting(urgency), self._room(urgency))

        def change(budget: Budget, now: datetime) -> tuple[Budget, tuple[int, timedelta]]:
            budget, count = budget.rebased(now), 0
            for heard in news:
                heard_at = now - max(timedelta(0), self._clock() - heard.at)
                budget = budget.corrected(heard.limits, heard_at, heard.in_flight)
            while (goes_at := max(budget.opens_at(now, urgency), budget.next_at)) <= now and count < wanted:
                budget, count = budget.take(now), count + 1
            return budget, (count, goes_at - now)

        count, wait = await self._store.change(change)
        del self._news[: len(news)]
        if count:
            self._taken[urgency] = _Taken(count=count - 1, at=self._clock())
            return None
        if wait > 2 * MOMENT:  # more than the pause between two requests usually is
            self._stop(self._clock() + wait, urgency)
        return wait


class LocalPace(SharedPace):
    """The pace of one process on its own, in memory."""

    def __init__(
        self, clock: Callable[[], datetime], sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        super().__init__(MemoryStore(clock), clock, sleep)


class MemoryStore:
    """Keeps a budget in memory."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._budget = Budget.fresh(clock())

    async def change(self, change: Callable[[Budget, datetime], tuple[Budget, _T]]) -> _T:
        """Replace the budget; see `PaceStore`."""
        self._budget, result = change(self._budget, self._clock())
        return result
