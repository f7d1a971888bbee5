"""Detects that this process stood still: frozen, swapped out, or blocked in its event loop."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from bot.model.clock import steady_seconds
from bot.slack.inbound.lateness import GIVEN_UP_AFTER

_BEAT: Final = timedelta(milliseconds=250)


class Pulse:
    """Beats in the event loop, and calls `on_standstill` after a gap of more than three seconds."""

    def __init__(self, on_standstill: Callable[[], None], timer: Callable[[], float] = steady_seconds) -> None:
        self._on_standstill = on_standstill
        self._timer = timer
        self._felt_at = timer()

    async def beat(self) -> None:
        """Beat forever."""
        while True:
            self.feel()
            await asyncio.sleep(_BEAT.total_seconds())

    def feel(self) -> None:
        """Beat once. Callers that depend on it call this too: the next beat of the loop may come too late for them."""
        now = self._timer()
        stood_still = timedelta(seconds=now - self._felt_at) > GIVEN_UP_AFTER
        self._felt_at = now
        if stood_still:
            self._on_standstill()
