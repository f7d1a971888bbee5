"""A cache for answers of another service, each valid for a while."""

from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Memory(Generic[_Key, _Value]):
    """Each entry has its own lifetime, and is ignored if the clock has gone back to before it was kept."""

    def __init__(self, clock: Callable[[], datetime], most: int | None = None) -> None:
        """Take `most`, beyond which the entry that was kept first is dropped."""
        self._clock = clock
        self._most = most
        self._kept: dict[_Key, tuple[_Value, datetime, timedelta]] = {}

    def get(self, key: _Key) -> _Value | None:
        """Return the value of this key, or None."""
        if key not in self._kept:
            return None
        value, kept_at, lifetime = self._kept[key]
        return value if timedelta(0) <= self._clock() - kept_at < lifetime else None

    def keep(self, key: _Key, value: _Value, lifetime: timedelta) -> None:
        """Keep a value for `lifetime`, and drop every entry that is too old."""
        self._kept = {known: kept for known, kept in self._kept.items() if known != key and self.get(known) is not None}
        if len(self._kept) == self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (value, self._clock(), lifetime)
