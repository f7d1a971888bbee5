"""A time that passes faster than the machine's, and is the same in each process that is told of it.

What waits for hours can be seen in minutes, by real processes over real sockets. Three things are needed for that, and
the bot itself is unchanged: the clock that its composition root takes, an event loop that shortens long waits in
proportion, and a server of PostgreSQL that tells this time and translates the due times of jobs. Short waits, timeouts
and heartbeats stay as they are: shortened, a busy machine would only look like a broken service.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

_NAME: Final = "HASTY_TIME"
_SHORT: Final = 1.0
"""Seconds: no wait up to this is shortened."""

_TELL_TIME: Final = """
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT to_timestamp({began} + (extract(epoch FROM pg_catalog.clock_timestamp()) - {began}) * {factor})
$$;
ALTER DATABASE postgres SET search_path = public, pg_catalog;
"""
_TRANSLATE: Final = """
CREATE FUNCTION translate_due_time() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := to_timestamp({began});
BEGIN
    NEW.scheduled_at := began + (NEW.scheduled_at - began) / {factor};
    RETURN NEW;
END $$;
CREATE TRIGGER translate_due_time BEFORE INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN (NEW.scheduled_at > now()) EXECUTE FUNCTION translate_due_time();
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HastyTime:
    """The time since a moment, multiplied. `began_at` and `began_by_timer` are that moment by the machine's clocks."""

    began_at: float
    began_by_timer: float
    factor: float

    @classmethod
    def begin(cls, factor: float) -> Self:
        """Return the time that is the machine's now, and runs ahead of it from here on."""
        return cls(began_at=time.time(), began_by_timer=time.monotonic(), factor=factor)

    @classmethod
    def of(cls, environment: dict[str, str]) -> Self:
        """Return the time that the process which started this one has."""
        began_at, began_by_timer, factor = map(float, environment[_NAME].split())
        return cls(began_at=began_at, began_by_timer=began_by_timer, factor=factor)

    def environment(self) -> dict[str, str]:
        """Return what tells another process on this machine."""
        return {_NAME: f"{self.began_at!r} {self.began_by_timer!r} {self.factor!r}"}

    def __call__(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(self.began_at + self._passed(), UTC)

    def timer(self) -> float:
        """Return seconds since the beginning."""
        return self._passed()

    def tell_by_server(self) -> str:
        """Return the statements that have an empty server tell this time when the bot asks for it."""
        return _TELL_TIME.format(began=self.began_at, factor=self.factor)

    def translate_due_times(self) -> str:
        """Return the statements that have the server, with Procrastinate's tables, start jobs when they are due."""
        return _TRANSLATE.format(began=self.began_at, factor=self.factor)

    def loop(self) -> "HastyLoop":
        """Return an event loop for a process that lives in this time."""
        return HastyLoop(self.factor)

    def _passed(self) -> float:
        return (time.monotonic() - self.began_by_timer) * self.factor


class HastyLoop(asyncio.SelectorEventLoop):
    """A loop in which the part of a wait that goes beyond a second passes faster."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def call_at(
        self, when: float, callback: Callable[..., object], *arguments: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at this time of the loop, or earlier if that is far off."""
        now = self.time()
        wait = when - now
        shortened = wait if wait <= _SHORT else _SHORT + (wait - _SHORT) / self._factor
        return super().call_at(now + shortened, callback, *arguments, context=context)
