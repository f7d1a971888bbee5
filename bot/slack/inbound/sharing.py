"""Notices another bot on the same Slack app, which takes a share of all payloads: Slack counts the app's connections.

The count comes with each new connection only. Connections of a machine that died are counted for a while, so a high
count is believed when a later one is high as well.
"""

from datetime import timedelta
from typing import Final

COUNT_AGAIN_AFTER: Final = timedelta(minutes=3)
_COUNT_AGAIN_WHILE_SHARED: Final = timedelta(minutes=15)


class Sharing:
    """What Slack's counts say. `total` is the last one, 0 if there is none."""

    def __init__(self, count_again_after: timedelta = COUNT_AGAIN_AFTER) -> None:
        self.total = 0
        self.others = 0
        """The connections that are not this process's, once that is certain."""
        self._patience = count_again_after
        self._suspected_at: float | None = None

    @property
    def count_again_after(self) -> timedelta | None:
        """When to open a connection just for its count; None if the last count was as expected."""
        if self._suspected_at is None:
            return None
        return _COUNT_AGAIN_WHILE_SHARED if self.others else self._patience

    def note(self, total: int, own: int, now: float) -> None:
        """Take a count, made when this process had at most `own` connections; `now` is a time in seconds."""
        self.total = total
        if total <= own:
            self.others, self._suspected_at = 0, None
            return
        if self._suspected_at is None:
            self._suspected_at = now
        if now - self._suspected_at >= self._patience.total_seconds():
            self.others = total - own
