"""Asks whether the slot's credential works. It cannot turn a success into a failure any more."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import ClassVar, Final

import structlog

from bot.cloudflare.client import CloudflareClient, Turn
from bot.cloudflare.errors import CloudflareError, OperatorError
from bot.delivery.step import MaySend
from bot.model.catalog import CredentialStatus
from bot.model.move import Changes, Move
from bot.model.submission import Pending, State, Submission
from bot.storage.catalogs import Inventory

CONFIRM_PATIENCE: Final = timedelta(seconds=15)
"""How long an empty or broken slot after a success is asked about again before it is told as an alarm."""

_PAUSE: Final = timedelta(seconds=2)
_ALARMS: Final = (CredentialStatus.INVALID, CredentialStatus.ABSENT)

_log = structlog.get_logger()


class Confirm:
    """Looks into the slot until it shows a credential that works, or until the patience is over."""

    state: ClassVar = State.CONFIRMING
    label: ClassVar = "Confirm that the stored credential works"

    def __init__(self, cloudflare: CloudflareClient, inventory: Inventory, clock: Callable[[], datetime]) -> None:
        self._cloudflare = cloudflare
        self._inventory = inventory
        self._clock = clock

    def is_done(self, _: Submission, __: datetime) -> bool:
        """Not before it has ended."""
        return False

    async def take(self, pending: Pending, turn: Turn, _: MaySend) -> Move | None:
        """Ask once."""
        submission, now = pending.submission, self._clock()
        patience = (submission.confirm_until or now) - now
        try:
            status, is_tested = await self._look_into_slot(submission.key.bucket, turn)
        except CloudflareError as error:
            _log.warning("credential_not_confirmed", submission=submission.id, error=str(error))
            pause = max(_PAUSE, error.retry_after or _PAUSE)
            if error.retryable and patience > timedelta(0) and pause <= max(patience, _PAUSE):
                return Move(to=State.CONFIRMING, at=now + pause)
            return self._end(CredentialStatus.UNKNOWN, None)
        if status in _ALARMS and patience > timedelta(0):
            return Move(to=State.CONFIRMING, at=now + _PAUSE)
        return self._end(status, now if is_tested else None)

    def _end(self, status: CredentialStatus, tested_at: datetime | None) -> Move:
        changes = Changes(confirmation=status)
        return Move(to=State.STORED, at=self._clock(), changes=changes, tested_at=tested_at)

    async def _look_into_slot(self, bucket: str, turn: Turn) -> tuple[CredentialStatus, bool]:
        """Have Cloudflare test what the slot holds or, where it offers no test, say whether it holds anything.

        Return with it whether that was a test.
        """
        try:
            return await self._cloudflare.test_credential(bucket, turn), True
        except OperatorError:
            catalog = await self._cloudflare.get_catalog(bucket, turn)
            await self._inventory.save_catalog(catalog)
            return catalog.credential_status, False
