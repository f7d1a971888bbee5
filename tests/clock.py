"""The clock of the tests: it stands still until a test advances it."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Returns the given time, by default that of its creation, until it is advanced."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self.now += by


class PassingClock(Clock):
    """Moves on by a microsecond each time somebody looks, as a real one does."""

    def __call__(self) -> datetime:
        """Return the time, which nobody sees twice."""
        self.now += timedelta(microseconds=1)
        return self.now
