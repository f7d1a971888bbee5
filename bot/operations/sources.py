"""The sources of the gauges: the findings on each part, the database, Cloudflare's allowance, and the process."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from bot import __version__
from bot.metrics import OTHER
from bot.model.catalog import CatalogStatus, CredentialStatus, StoredCredential
from bot.model.finding import Finding, Mark, Part
from bot.model.known_catalogs import KnownCatalogs
from bot.model.submission import Task
from bot.operations.conditions import is_ready
from bot.operations.gauges import (
    ALLOWANCE,
    ALLOWANCE_LEFT,
    AUDIT_ENTRIES,
    BUILD,
    CATALOGS,
    EXPIRY,
    FINDINGS,
    OLDEST,
    PART_READY,
    READY,
    REFRESHED,
    SOCKETS,
    TASKS,
    UNAPPROVED,
    UNPOSTED,
    WAITING,
    Reading,
    Source,
)
from bot.policy.scheduled import NOT_SCHEDULED, Scheduled
from bot.settings import Settings
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.figures import Figures, read_figures

_Values = dict[tuple[str, ...], float]

Ask = Callable[[], Awaitable[Sequence[Finding]]]
"""Returns the findings on all parts; those that block mean "not ready"."""


def of_findings(ask: Ask) -> Source:
    """Return the readiness: of the whole, and of each part."""

    async def read() -> Reading:
        found = await ask()
        parts = by_part(found)
        marks = Counter((finding.part, finding.mark) for finding in found)
        return {
            READY: {(): float(is_ready(found))},
            PART_READY: {(part.value,): float(is_ready(its)) for part, its in parts.items()},
            FINDINGS: {(part.value, mark.value): float(marks[part, mark]) for part in parts for mark in Mark},
        }

    return Source(name="readiness", read=read)


def by_part(found: Sequence[Finding]) -> dict[Part, list[Finding]]:
    """Return the findings on each part of which something was found."""
    return {part: its for part in Part if (its := [finding for finding in found if finding.part is part])}


def of_database(
    database: Database, catalogs: Catalogs, clock: Callable[[], datetime], scheduled: Scheduled = NOT_SCHEDULED
) -> Source:
    """Return what the rows say."""

    async def read() -> Reading:
        now = clock()

        def replaces(credential: StoredCredential, known: KnownCatalogs) -> bool:
            return scheduled.replaces(credential, known, now)

        return _describe(await read_figures(database, catalogs, replaces), now)

    return Source(name="database", read=read)


def _describe(figures: Figures, now: datetime) -> Reading:
    """Every state has a series, also at zero: a series that appears or vanishes cannot be compared."""
    oldest = figures.oldest_waiting_at
    catalogs: _Values = {
        (status.value, credential.value): 0.0 for status in CatalogStatus for credential in CredentialStatus
    }
    for (status, credential), number in figures.catalogs.items():
        catalogs[_word(status, CatalogStatus), _word(credential, CredentialStatus)] += number
    waiting: _Values = {(task.value,): 0.0 for task in Task}
    for task, number in figures.waiting.items():
        known = task if (task,) in waiting else OTHER
        waiting[known,] = waiting.get((known,), 0.0) + number
    return {
        WAITING: waiting,
        OLDEST: {(): max(0.0, (now - oldest).total_seconds()) if oldest else 0.0},
        UNAPPROVED: {(): float(figures.unapproved)},
        UNPOSTED: {(): float(figures.unposted)},
        CATALOGS: catalogs,
        REFRESHED: {(): figures.refreshed_at.timestamp()} if figures.refreshed_at else {},
        EXPIRY: {(bucket,): expires_at.timestamp() for bucket, expires_at in figures.expiries.items()},
    }


def of_pace(left: Callable[[], Awaitable[tuple[int, int]]]) -> Source:
    """Return how many requests Cloudflare still allows; `left` returns that, and the limit."""

    async def read() -> Reading:
        remaining, limit = await left()
        return {ALLOWANCE_LEFT: {(): float(remaining)}, ALLOWANCE: {(): float(limit)}}

    return Source(name="allowance", read=read)


def of_audit(count: Callable[[], Awaitable[int]]) -> Source:
    """Return how long the audit's chain is."""

    async def read() -> Reading:
        return {AUDIT_ENTRIES: {(): float(await count())}}

    return Source(name="audit", read=read)


def of_process(settings: Settings, transport: str, sockets: Callable[[], int] | None) -> Source:
    """Return what this process is; `sockets` counts its Socket Mode connections, where it has any."""

    async def read() -> Reading:
        database = "sqlite" if settings.postgres_url is None else "postgresql"
        connections: Reading = {SOCKETS: {(): float(sockets())}} if sockets is not None else {}
        tasks: Reading = {TASKS: {(): float(len(asyncio.all_tasks()))}}
        return {BUILD: {(__version__, settings.role.value, database, transport): 1.0}, **tasks, **connections}

    return Source(name="process", read=read)


def _word(text: str, words: type[CatalogStatus | CredentialStatus]) -> str:
    """Return a word of a row; one that this version does not know is "unknown", as everywhere."""
    return text if text in {word.value for word in words} else "unknown"
