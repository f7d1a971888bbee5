"""Decides which of many channels or user groups Slack is asked about now: its rate limits are shared with people."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

GOOD_FOR: Final = timedelta(hours=1)
BAD_FOR: Final = timedelta(minutes=5)

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Turns:
    """Each name has its turn again an hour after a good answer, and five minutes after another one."""

    def __init__(self, names: Sequence[str], clock: Callable[[], datetime], most: int) -> None:
        """Let at most `most` of them have their turn at once."""
        self.names = tuple(dict.fromkeys(names))
        self._clock = clock
        self._most = most
        self._asked: dict[str, tuple[datetime, timedelta]] = {}

    @property
    def asked(self) -> int:
        """How many have had a turn."""
        return len(self._asked)

    def due(self) -> list[str]:
        """Return whose turn it is, those with the oldest answers first."""
        now = self._clock()
        due = (name for name in self.names if not self._is_answered(name, now))
        return sorted(due, key=lambda name: self._asked.get(name, (_NEVER,))[0])[: self._most]

    def note(self, name: str, *, is_good: bool) -> None:
        """Note an answer."""
        self._asked[name] = (self._clock(), GOOD_FOR if is_good else BAD_FOR)

    def _is_answered(self, name: str, now: datetime) -> bool:
        if name not in self._asked:
            return False
        asked_at, lifetime = self._asked[name]
        return timedelta(0) <= now - asked_at < lifetime
