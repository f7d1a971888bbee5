"""The time of the tests: it stands still until somebody turns it."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Tells one time, that of its making or the given one, until it is moved on."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self.now += by
