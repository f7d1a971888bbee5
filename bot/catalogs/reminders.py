"""Watches stored credentials: reminds before a token expires, and announces one that stopped working or is overdue."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import structlog

from bot.catalogs.authentic import IsAuthentic, report_forged
from bot.model.catalog import BucketKey, StoredCredential
from bot.model.errors import BotError
from bot.model.known_catalogs import KnownCatalogs
from bot.model.reference import about
from bot.policy.scheduled import NOT_SCHEDULED, Overdue, Scheduled
from bot.storage.catalogs import Catalogs

WATCH_EVERY: Final = timedelta(minutes=1)

_Say = Callable[[StoredCredential], Awaitable[None]]

_log = structlog.get_logger()


class Announcer(Protocol):
    """Posts messages. Each method raises a Transient if it must be tried again, and is safe to repeat."""

    async def remind_of_expiry(self, credential: StoredCredential, due_at: datetime) -> None:
        """Post that a token expires or has expired; `due_at` distinguishes this reminder from the others."""

    async def announce_overdue(self, overdue: Overdue, due_at: datetime) -> None:
        """Post that a token was not replaced in time; `due_at` distinguishes this message from the others."""

    async def announce_broken(self, credential: StoredCredential) -> None:
        """Post that Cloudflare now calls a credential invalid that it called valid before."""


class CredentialWatch:
    """Announces each event once; a failure is logged, and the next round tries again."""

    def __init__(  # noqa: PLR0913 - the composition root fills this
        self,
        catalogs: Catalogs,
        announcer: Announcer,
        clock: Callable[[], datetime],
        reminders: Collection[timedelta],
        *,
        serves: Callable[[BucketKey], bool],
        is_authentic: IsAuthentic,
        scheduled: Scheduled = NOT_SCHEDULED,
    ) -> None:
        """Store the dependencies."""
        self._catalogs = catalogs
        self._announcer = announcer
        self._clock = clock
        self._reminders = reminders
        self._serves = serves
        self._is_ours = report_forged(is_authentic)
        self._scheduled = scheduled

    async def announce_due(self) -> None:
        """Announce what is due now. Never fails."""
        try:
            known = await self._catalogs.catch_up()
        except BotError as error:
            _log.warning("watch_interrupted", error=str(error))
            return
        for credential in self._find_due(known):
            if self._serves(credential.key):
                await _try_to(self._announce_if_broken, credential)
                if _is_in_its_slot(credential, known):
                    await _try_to(self._choose_reminder(credential, known), credential)

    def _find_due(self, known: KnownCatalogs) -> list[StoredCredential]:
        """Return the few of which something may be due: with 10,000, to ask more of each took 80 ms a minute."""
        now = self._clock()
        first = now + max(self._reminders, default=timedelta(0))
        due = {
            each.bucket: each
            for each in known.credentials.values()
            if each.broken_at is not None or (each.expires_at is not None and each.expires_at <= first)
        }
        due |= {each.credential.bucket: each.credential for each in self._scheduled.find_overdue(known, now)}
        return [due[bucket] for bucket in sorted(due)]

    async def _announce_if_broken(self, credential: StoredCredential) -> None:
        if credential.broken_at is not None and await self._is_ours(credential):
            await self._announcer.announce_broken(credential)
            await self._catalogs.note_announced(credential)
            _log.warning("credential_broken", bucket=credential.bucket)

    def _choose_reminder(self, credential: StoredCredential, known: KnownCatalogs) -> _Say:
        """Return how this person is reminded: a token that is replaced by itself needs nobody before it is overdue."""
        if self._scheduled.timetable_of(credential, known) is None:
            return self._remind_if_due
        return partial(self._announce_if_overdue, self._scheduled.overdue(credential, known, self._clock()))

    async def _remind_if_due(self, credential: StoredCredential) -> None:
        now = self._clock()
        due_at = find_reminder(credential, now, self._reminders)
        if due_at is not None and await self._is_ours(credential):
            await self._announcer.remind_of_expiry(credential, due_at)
            await self._catalogs.note_reminded(credential, now)
            _log.info("expiry_reminded", bucket=credential.bucket)

    async def _announce_if_overdue(self, overdue: Overdue | None, credential: StoredCredential) -> None:
        now = self._clock()
        due_at = None if overdue is None else find_overdue_reminder(overdue, now, self._reminders)
        if overdue is not None and due_at is not None and await self._is_ours(credential):
            await self._announcer.announce_overdue(overdue, due_at)
            await self._catalogs.note_reminded(credential, now)
            code = overdue.failure.code if overdue.failure else None
            _log.warning("rotation_overdue", bucket=credential.bucket, since=overdue.since.isoformat(), error=code)


async def _try_to(say: _Say, credential: StoredCredential) -> None:
    """Announce it, or leave it for the next round: a failure must not hold up the others."""
    with about(credential.submission_id):
        try:
            await say(credential)
        except BotError as error:
            _log.warning("not_announced", bucket=credential.bucket, error=str(error))
        except Exception as error:  # noqa: BLE001 - a reminder must not end the bot, nor the rest of its housekeeping
            _log.critical("watch_broke", bucket=credential.bucket, error=type(error).__name__)


def _is_in_its_slot(credential: StoredCredential, known: KnownCatalogs) -> bool:
    """Return whether, as far as is known, the catalog exists and its slot still holds this credential."""
    if known.listing is None:
        return True
    catalog = known.catalog(credential.key)
    return catalog is not None and credential.expires_in(catalog) is not None


def find_reminder(credential: StoredCredential, now: datetime, reminders: Collection[timedelta]) -> datetime | None:
    """Return the due time of the reminder to be sent now, or None.

    Of several missed reminders, only the last is sent, and none that was due before the token was stored: the result
    message has already warned of that.
    """
    if credential.expires_at is None:
        return None
    return _find_last(credential, now, (credential.expires_at - reminder for reminder in reminders))


def find_overdue_reminder(overdue: Overdue, now: datetime, reminders: Collection[timedelta]) -> datetime | None:
    """Return the same for a token that should have been replaced: once at that time, and at the reminders after it."""
    expires_at = overdue.credential.expires_at
    times = [] if expires_at is None else [expires_at - reminder for reminder in reminders]
    return _find_last(overdue.credential, now, (overdue.since, *(at for at in times if at > overdue.since)))


def _find_last(credential: StoredCredential, now: datetime, times: Iterable[datetime]) -> datetime | None:
    due_at = max((at for at in times if at <= now), default=None)
    said_until = max(credential.stored_at, credential.reminded_at or credential.stored_at)
    return due_at if due_at is not None and due_at > said_until else None
