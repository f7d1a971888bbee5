"""Records refused attempts in the audit: the first of a kind at once, the others of the same minute with their number.

So a person who presses a button ten times a second adds two entries a minute. Nothing waits for this, and nobody is let
in because it fails: a refusal needs no record.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.audit import Entry, Event, Who
from bot.model.errors import DatabaseTrouble
from bot.policy.attempt import RefusedAttempt
from bot.storage.audit import AuditChain
from bot.storage.database import Database

MINUTE: Final = timedelta(minutes=1)
MOST_KINDS: Final = 500
"""In one minute: beyond that, attempts differ only by their reason. An entry says so."""

MOST_WAITING: Final = 5000
"""Entries while the database is away; further ones are only counted."""

_AFTER_TROUBLE: Final = timedelta(seconds=1)
_MANY: Final = "many"

_log = structlog.get_logger()
_Kind = tuple[str, str, str, str, str, str]


@dataclass(slots=True, kw_only=True)
class _Count:
    first: Entry
    more: int = 0


class RefusedAttempts:
    """Takes attempts from the gate, and appends them to the audit's chain in the background."""

    def __init__(self, database: Database, chain: AuditChain, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._chain = chain
        self._clock = clock
        self._counts: dict[_Kind, _Count] = {}
        self._waiting: list[Entry] = []
        self._has_news = asyncio.Event()

    def note(self, attempt: RefusedAttempt) -> None:
        """Count an attempt; its entry is written as soon as the database takes it."""
        entry = _entry(attempt, self._clock())
        kind = _kind(entry)
        if kind not in self._counts and len(self._counts) >= MOST_KINDS:
            entry = replace(entry, key=None, task="", details="", who=Who(user_id=_MANY))
            kind = _kind(entry)
        count = self._counts.get(kind)
        if count is not None:
            count.more += 1
            return
        self._counts[kind] = _Count(first=entry)
        self._wait_with(entry)

    async def run(self) -> None:
        """Write until cancelled, and then what is left, if the database takes it at once."""
        try:
            while True:
                await self._wait()
                self._end_minutes()
                if not await self._write():
                    await asyncio.sleep(_AFTER_TROUBLE.total_seconds())
        finally:
            self._end_minutes(is_last=True)
            await self._write()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(MINUTE.total_seconds()):
                await self._has_news.wait()
        except TimeoutError:
            return
        self._has_news.clear()

    def _end_minutes(self, *, is_last: bool = False) -> None:
        """Say how many there were of each kind whose minute is over."""
        now = self._clock()
        for kind, count in list(self._counts.items()):
            if is_last or now - count.first.at >= MINUTE:
                del self._counts[kind]
                if count.more:
                    self._wait_with(replace(count.first, at=now, details=json.dumps({"more": count.more})))

    def _wait_with(self, entry: Entry) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(entry)
        self._has_news.set()

    async def _write(self) -> bool:
        waiting = self._waiting[:]
        if not waiting:
            return True
        try:
            await self._database.run(lambda connection: self._chain.append(connection, waiting))
        except DatabaseTrouble as error:
            _log.warning("attempts_not_recorded", entries=len(waiting), error=error.code)
            self._has_news.set()
            return False
        del self._waiting[: len(waiting)]
        return True


def _entry(attempt: RefusedAttempt, now: datetime) -> Entry:
    return Entry(
        event=Event.REFUSED,
        at=now,
        key=attempt.key,
        task=attempt.verb.value if attempt.verb else "",
        code=attempt.refusal.code,
        who=Who(user_id=attempt.user_id, team_id=attempt.team_id, channel_id=attempt.channel_id or ""),
    )


def _kind(entry: Entry) -> _Kind:
    who, bucket = entry.who or Who(user_id=""), entry.key.bucket if entry.key else ""
    return who.user_id, who.team_id, who.channel_id, entry.task, bucket, entry.code
