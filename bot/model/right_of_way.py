"""The acknowledgement of a Submit comes first: a person waits for it, for three seconds. Deliveries take what is left.

Both share one event loop. Without this, an acknowledgement waits for every delivery that happens to be ready.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from bot.model.line import Line

QUIET: Final = timedelta(milliseconds=5)
"""How long no acknowledgement has been in progress before deliveries go on as they like.

A client that sends one request after the other leaves less than that between two of them: each would meet a delivery.
"""

LAST_IN_LINE: Final = 9
"""The urgency of what is only shown."""

LONGEST_WAIT: Final = timedelta(milliseconds=20)
"""How long the first in line waits, however many acknowledgements are in progress: so 50 pass in a second.

A delivery passes about eight times, for each request and each message: with no pause at all between acknowledgements,
six submissions are delivered in a second.
"""


class RightOfWay:
    """Lets deliveries pass one at a time while there are acknowledgements, and all at once while there are none."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._in_progress = 0
        self._last_at = float("-inf")
        self._passed_at = float("-inf")
        self._line = Line()

    @contextmanager
    def acknowledging(self) -> Iterator[None]:
        """Hold deliveries back meanwhile, and for a moment after that."""
        self._in_progress += 1
        try:
            yield
        finally:
            self._in_progress -= 1
            self._last_at = self._timer()

    async def give_way(self, urgency: int = 0) -> None:
        """Return when a delivery may take the loop until it next waits for something. Safe to cancel.

        The most urgent one, 0, passes first: a write never waits for checks, however many there are.
        """
        if self._is_quiet() and self._line.is_empty:
            return
        with self._line.stand(urgency) as place:
            while not self._line.is_first(place) or (seconds := self._seconds_to_wait()) > 0:
                await (asyncio.sleep(seconds) if self._line.is_first(place) else place.wait_for_call())
            self._passed_at = self._timer()

    def _is_quiet(self) -> bool:
        return not self._in_progress and self._timer() - self._last_at >= QUIET.total_seconds()

    def _seconds_to_wait(self) -> float:
        """Return 0 if it is the next one's turn."""
        now = self._timer()
        quiet_from = (now if self._in_progress else self._last_at) + QUIET.total_seconds()
        return min(quiet_from, self._passed_at + LONGEST_WAIT.total_seconds()) - now
