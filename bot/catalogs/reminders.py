"""Watches stored credentials: reminds before a token expires, and announces one that stopped working."""

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.model.catalog import BucketKey, StoredCredential
from bot.model.errors import BotError
from bot.model.known_catalogs import KnownCatalogs
from bot.model.reference import about
from bot.storage.catalogs import Catalogs

WATCH_EVERY: Final = timedelta(minutes=1)

_log = structlog.get_logger()


class Announcer(Protocol):
    """Posts messages. Each method raises a Transient if it must be tried again, and is safe to repeat."""

    async def remind_of_expiry(self, credential: StoredCredential, due_at: datetime) -> None:
        """Post that a token expires or has expired; `due_at` distinguishes this reminder from the others."""

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
        is_authentic: Callable[[StoredCredential], Awaitable[bool]],
    ) -> None:
        """Take `is_authentic`, which returns whether the bot itself recorded a credential; raises DatabaseTrouble."""
        self._catalogs = catalogs
        self._announcer = announcer
        self._clock = clock
        self._reminders = reminders
        self._serves = serves
        self._is_authentic = is_authentic
        self._forged: set[str] = set()

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
                    await _try_to(self._remind_if_due, credential)

    def _find_due(self, known: KnownCatalogs) -> list[StoredCredential]:
        """Return the few of which something may be due: with 10,000, to ask more of each took 80 ms a minute."""
        first = self._clock() + max(self._reminders, default=timedelta(0))
        due = [
            each
            for each in known.credentials.values()
            if each.broken_at is not None or (each.expires_at is not None and each.expires_at <= first)
        ]
        return sorted(due, key=lambda each: each.bucket)

    async def _announce_if_broken(self, credential: StoredCredential) -> None:
        if credential.broken_at is not None and await self._is_ours(credential):
            await self._announcer.announce_broken(credential)
            await self._catalogs.note_announced(credential)
            _log.warning("credential_broken", bucket=credential.bucket)

    async def _is_ours(self, credential: StoredCredential) -> bool:
        """Return whether this may be announced in a person's name; who writes to the database must not."""
        if await self._is_authentic(credential):
            return True
        if credential.submission_id not in self._forged:
            self._forged.add(credential.submission_id)
            row = f"{credential.key.account_id} {credential.bucket}"
            _log.critical("record_not_authentic", table="credentials", row=row, column="submission_id")
        return False

    async def _remind_if_due(self, credential: StoredCredential) -> None:
        now = self._clock()
        due_at = find_reminder(credential, now, self._reminders)
        if due_at is not None and await self._is_ours(credential):
            await self._announcer.remind_of_expiry(credential, due_at)
            await self._catalogs.note_reminded(credential, now)
            _log.info("expiry_reminded", bucket=credential.bucket)


async def _try_to(say: Callable[[StoredCredential], Awaitable[None]], credential: StoredCredential) -> None:
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
    passed = [credential.expires_at - reminder for reminder in reminders if credential.expires_at - reminder <= now]
    due_at = max(passed, default=None)
    said_until = max(credential.stored_at, credential.reminded_at or credential.stored_at)
    return due_at if due_at is not None and due_at > said_until else None
