"""The number of requests that Cloudflare accepts, and when: counted here, corrected by Cloudflare's answers. Pure.

Any period as long as Cloudflare's window, wherever it begins, holds at most 97 % of the quota. So it does not matter
whether Cloudflare's windows slide, nor when they begin. While more than half of the quota is left, requests go at
once; after that never faster than evenly, and the rest is spread over the time until more becomes free. Others may use
the same quota: when the `Ratelimit` headers show that, half of what they leave is spread over the time until their
window is certainly over. A 429 stops everything until its Retry-After. The last quarter is reserved for writes, and a
small part of it for those that are not one of many.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final, Self

DEFAULT_QUOTA: Final = 1200
DEFAULT_WINDOW: Final = timedelta(minutes=5)
RESERVE_PERCENT: Final = 3
FOR_WRITES_PERCENT: Final = 25
"""The share that dry runs cannot use up: enough for 58 writes in 5 minutes, each with its checks."""
FOR_SINGLE_WRITES_PERCENT: Final = 3
"""The share that writes of many buckets at once cannot use up: enough for 7 others in 5 minutes."""
LATENESS: Final = timedelta(seconds=0.3)
"""How much longer one request may take to reach Cloudflare than another."""
ROUNDING: Final = timedelta(seconds=1)
"""Headers give whole seconds, and do not say whether they were rounded up."""
LONGEST_PAUSE: Final = timedelta(seconds=1)
"""Between two requests while some quota is left, unless the even pace is slower."""

_SLOTS_IN_WINDOW: Final = 64
_MOST_DIGITS: Final = 9
_LONGEST: Final = timedelta(hours=1)
"""The longest window or reset that is believed: one strange header must not stop an account for days."""
_LONGEST_STOP: Final = timedelta(days=2)
"""No stored budget stops an account for longer; Cloudflare asks for minutes."""


class Urgency(IntEnum):
    """What a request is for; the lower number goes first."""

    WRITE = 0
    """A change: the checks before it, the write itself, and the confirmation after it."""
    BULK = 1
    """A change that is one of many: a single one goes first."""
    CHECK = 2
    """A person waits for an answer that changes nothing."""
    BACKGROUND = 3
    """No one waits."""


_KEPT_PERCENT: Final = {Urgency.WRITE: 0, Urgency.BULK: FOR_SINGLE_WRITES_PERCENT}
"""Of the budget, for what is more urgent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits in the headers of one answer; `remaining` was left for all callers when Cloudflare counted."""

    quota: int | None = None
    window: timedelta | None = None
    remaining: int | None = None
    resets_in: timedelta | None = None


def parse_limits(headers: Mapping[str, str]) -> Limits | None:
    """Read `ratelimit` and `ratelimit-policy` (draft-ietf-httpapi-ratelimit-headers), names in lower case.

    Of several policies the slowest counts, of several remainders the smallest. Unreadable parts are left out.
    """
    policies = [item for item in _items(headers.get("ratelimit-policy", "")) if item.get("q") and item.get("w")]
    slowest = min(policies, key=lambda item: item["q"] / item["w"], default={})
    remainders = [item for item in _items(headers.get("ratelimit", "")) if "r" in item]
    scarcest = min(remainders, key=lambda item: item["r"], default={})
    if not slowest and not scarcest:
        return None
    return Limits(
        quota=slowest.get("q"),
        window=_seconds(slowest.get("w")),
        remaining=scarcest.get("r"),
        resets_in=_seconds(scarcest.get("t")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Our requests, counted in slots of a 64th of the window; the first is the newest and begins at `newest_at`.

    There are enough slots to remember each request for the window and the lateness.
    """

    counts: tuple[int, ...]
    slot: timedelta
    newest_at: datetime

    @classmethod
    def of(cls, count: int, window: timedelta, now: datetime) -> Self:
        """Return a count of requests that were all sent just now."""
        others = -(-(window + LATENESS) // slot_of(window))  # rounded up
        return cls(counts=(count, *[0] * others), slot=slot_of(window), newest_at=now)

    @property
    def total(self) -> int:
        """The number of requests."""
        return sum(self.counts)

    def added(self) -> Self:
        """Return the count with one more request in the newest slot."""
        newest, *others = self.counts
        return replace(self, counts=(newest + 1, *others))

    def forwarded(self, at: datetime) -> Self:
        """Return the count as of `at`, without the slots that are too old."""
        steps = max(0, (at - self.newest_at) // self.slot)
        size = len(self.counts)
        counts = ((0,) * min(steps, size) + self.counts)[:size]
        return replace(self, counts=counts, newest_at=self.newest_at + steps * self.slot)

    def since(self, start: datetime) -> int:
        """Return how many requests may have been sent after `start`."""
        ends = (self.newest_at + (1 - index) * self.slot for index in range(len(self.counts)))
        return sum(count for count, end in zip(self.counts, ends, strict=True) if end > start)

    def falls_below(self, total: int) -> datetime | None:
        """Return when fewer than `total` are left, with none added; None when that is so now."""
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen >= total:
                return self.newest_at + (len(self.counts) - index) * self.slot
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The requests that an account has left.

    `resets_at` is when Cloudflare's current window ends, if known. `spare` is what Cloudflare reported as left until
    then, less our requests since; None while our own count allows fewer.
    """

    quota: int
    window: timedelta
    spent: Spent
    next_at: datetime
    spare: int | None = None
    resets_at: datetime | None = None
    blocked_until: datetime | None = None

    @classmethod
    def fresh(cls, now: datetime) -> Self:
        """Return the budget before any answer: 1200 requests in 5 minutes, as Cloudflare documents."""
        spent = Spent.of(0, DEFAULT_WINDOW, now)
        return cls(quota=DEFAULT_QUOTA, window=DEFAULT_WINDOW, spent=spent, next_at=now)

    def is_possible(self, now: datetime) -> bool:
        """Return whether answers can have led to it: a damaged row could otherwise stop the account forever."""
        counts = self.spent.counts
        numbers = (self.quota, self.spare or 0, *counts)
        times = (self.next_at, self.spent.newest_at, self.resets_at or now, self.blocked_until or now)
        return (
            timedelta(0) < self.window <= _LONGEST
            and len(counts) == len(Spent.of(0, self.window, now).counts)
            and all(isinstance(number, int) and abs(number) < 10**_MOST_DIGITS for number in numbers)
            and self.quota > 0
            and min(counts) >= 0
            and all(at - now <= _LONGEST_STOP for at in times)
        )

    def take(self, now: datetime) -> Self:
        """Return the budget after one more request, sent now: not before `next_at` and `opens_at`."""
        then = self.forwarded(now)
        spare = None if then.spare is None else then.spare - 1
        after = replace(then, spent=then.spent.added(), spare=spare)
        planned_at = max(self.next_at, now - self._even)  # a late wake-up must not slow down the others
        return replace(after, next_at=planned_at + after.pause(now))

    def opens_at(self, now: datetime, urgency: Urgency) -> datetime:
        """Return when a request of that urgency may go: `now`, or later if blocked or used up."""
        kept = self._most * _KEPT_PERCENT.get(urgency, FOR_WRITES_PERCENT) // 100
        at = max(now, self.blocked_until or now)
        at = max(at, self.spent.forwarded(at).falls_below(self._most - kept) or at)
        spare = self.forwarded(at).spare
        return at if spare is None or spare > self._reserve + kept else self._surely_over_at

    def left(self, now: datetime) -> int:
        """Return how many requests may still go, the last quarter only for writes; none while blocked."""
        then = self.forwarded(now)
        if self.blocked_until is not None and self.blocked_until > now:
            return 0
        left = self._most - then.spent.total
        return max(0, left if then.spare is None else min(left, then.spare - self._reserve))

    def pause(self, now: datetime) -> timedelta:
        """Return how long to wait after a request sent now. Of a quota that others also use, half is ours."""
        left, share = self._most - self.spent.total, 1
        until = self.spent.falls_below(self.spent.total) or now
        if self.spare is not None and self.spare - self._reserve < left:
            left, share, until = self.spare - self._reserve, 2, self._surely_over_at
        if left > self._most / 2:
            return timedelta(0)
        return max(self._even, min((until - now) * share / max(left, 1), LONGEST_PAUSE))

    def forwarded(self, at: datetime) -> Self:
        """Return the budget as of `at`, without what Cloudflare said about a window that is over."""
        is_over = self.resets_at is not None and at >= self._surely_over_at
        spare, resets_at = (None, None) if is_over else (self.spare, self.resets_at)
        return replace(self, spent=self.spent.forwarded(at), spare=spare, resets_at=resets_at)

    def corrected(self, limits: Limits, heard_at: datetime, in_flight: int) -> Self:
        """Return the budget after an answer, while `in_flight` other requests of the same process had none."""
        budget = self.resized(limits.quota or self.quota, limits.window or self.window, heard_at).forwarded(heard_at)
        if limits.remaining is None:
            return budget
        resets_in = budget.window if limits.resets_in is None else limits.resets_in
        spare = budget.find_spare(limits.remaining, heard_at, in_flight)
        return replace(budget, spare=spare, resets_at=heard_at + resets_in)

    def find_spare(self, remaining: int, heard_at: datetime, in_flight: int) -> int | None:
        """Return what is left for all callers, or None if only we seem to use the quota.

        Cloudflare had counted some of the requests in flight and some not. So the truth is between its number and its
        number less all of ours that it may not have counted.
        """
        if remaining >= self._most - self.spent.total:
            return None
        if self.spare is None:
            return remaining - in_flight
        return min(max(self.spare, remaining - in_flight - self.spent.since(heard_at)), remaining)

    def resized(self, quota: int, window: timedelta, now: datetime) -> Self:
        """Return the budget under another policy; requests within its window count as sent just now."""
        if window == self.window:
            return replace(self, quota=quota)
        spent = Spent.of(self.spent.since(now - window), window, max(now, self.spent.newest_at))
        return replace(self, quota=quota, window=window, spent=spent)

    def rebased(self, now: datetime) -> Self:
        """Return the budget after the clock was set back, if it was: all requests count as sent just now."""
        if self.spent.newest_at <= now + LONGEST_PAUSE:
            return self
        spent = Spent.of(self.spent.total, self.window, now)
        return replace(self, spent=spent, next_at=now, spare=None, resets_at=None)

    def blocked(self, until: datetime) -> Self:
        """Return the budget with no request allowed before `until`."""
        return replace(self, blocked_until=max(until, self.blocked_until or until))

    @property
    def _most(self) -> int:
        return max(1, self.quota * (100 - RESERVE_PERCENT) // 100)

    @property
    def _even(self) -> timedelta:
        return self.window / self._most

    @property
    def _reserve(self) -> int:
        return self.quota - self._most

    @property
    def _surely_over_at(self) -> datetime:
        return (self.resets_at or self.next_at) + ROUNDING + LATENESS


def slot_of(window: timedelta) -> timedelta:
    """Return how long a slot is."""
    return window / _SLOTS_IN_WINDOW


def _items(header: str) -> Iterator[dict[str, int]]:
    """Yield the whole numbers among each item's parameters."""
    for item in header.split(","):
        pairs = (parameter.partition("=") for parameter in item.split(";")[1:])
        numbers = {name.strip().lower(): _number(value.strip()) for name, _, value in pairs}
        yield {name: number for name, number in numbers.items() if number is not None}


def _number(digits: str) -> int | None:
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS
    return int(digits) if is_number else None


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else min(timedelta(seconds=number), _LONGEST)
