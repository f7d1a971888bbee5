"""The request limit of the fake Cloudflare: how many each caller may make in a window, and the headers that say so."""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How many requests each caller may make in a window, one after the other or sliding."""

    requests: int
    window_seconds: int
    sliding: bool = False


NO_LIMIT_TO_SPEAK_OF: Final = RateLimit(requests=10**8, window_seconds=1)
"""Announced like any limit, so that a caller knows that it may hurry."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a request met under a limit, and what is left after it, for how many seconds."""

    limit: RateLimit
    is_taken: bool
    remaining: int
    resets_in: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers that Cloudflare's API has had since 2025-09 (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "Ratelimit": f'"default";r={self.remaining};t={self.resets_in}',
            "Ratelimit-Policy": f'"default";q={self.limit.requests};w={self.limit.window_seconds}',
        }


@dataclass(slots=True)
class RequestCounter:
    """The requests of each caller that were taken; windows that do not slide begin at multiples of their length."""

    _counted: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def count(self, caller: str, limit: RateLimit, now: float) -> Allowance:
        """Count a request for its caller, unless it has none left."""
        counted = self._counted[caller]
        began_at = now - limit.window_seconds if limit.sliding else now // limit.window_seconds * limit.window_seconds
        while counted and (counted[0] <= began_at if limit.sliding else counted[0] < began_at):
            counted.popleft()
        first_at = counted[0] if counted else now
        ends_at = (first_at if limit.sliding else began_at) + limit.window_seconds
        is_taken = len(counted) < limit.requests
        if is_taken:
            counted.append(now)
        return Allowance(limit, is_taken, limit.requests - len(counted), math.ceil(ends_at - now))
