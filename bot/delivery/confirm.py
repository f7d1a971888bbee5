"""Confirms that the slot's credential works. This can no longer turn a success into a failure."""

from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.cloudflare.errors import CloudflareError, OperatorError
from bot.cloudflare.exchange import Turn
from bot.delivery.step import MaySend, Step
from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.move import Changes, Move
from bot.model.submission import Pending, State

CONFIRM_PATIENCE: Final = timedelta(seconds=15)
"""How long after a successful write a slot may show no working credential before that is an alarm.

Cloudflare needs some seconds until a write is visible everywhere.
"""

_PAUSE: Final = timedelta(seconds=2)

_log = structlog.get_logger()


class Confirm(Step):
    """Asks until the slot shows a working credential, or `confirm_until` has passed."""

    name = "confirm"
    state = State.CONFIRMING
    label = "Confirm that the stored credential works"

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:  # noqa: ARG002 - reading needs no lease
        """Ask once."""
        submission, now = pending.submission, self._tools.clock()
        patience = (submission.confirm_until or now) - now
        try:
            status, is_tested = await self._test_slot(submission.key, turn)
        except CloudflareError as error:
            _log.warning("credential_not_confirmed", error=str(error))
            pause = max(_PAUSE, error.retry_after or _PAUSE)
            if error.retryable and patience > timedelta(0) and pause <= max(patience, _PAUSE):
                return Move(to=State.CONFIRMING, at=now + pause)
            return self._end(CredentialStatus.UNKNOWN, None)
        if status.is_alarm and patience > timedelta(0):
            return Move(to=State.CONFIRMING, at=now + _PAUSE)
        return self._end(status, now if is_tested else None)

    def _end(self, status: CredentialStatus, tested_at: datetime | None) -> Move:
        changes = Changes(confirmation=status)
        return Move(to=State.STORED, at=self._tools.clock(), changes=changes, tested_at=tested_at)

    async def _test_slot(self, key: BucketKey, turn: Turn) -> tuple[CredentialStatus, bool]:
        """Return the status, and whether Cloudflare tested the credential for it.

        If it offers no test, the status only says whether the slot holds anything.
        """
        try:
            return await self._tools.cloudflare.test_credential(key, turn), True
        except OperatorError:
            catalog = await self._tools.cloudflare.get_catalog(key, turn)
            await self._tools.catalogs.save_catalog(catalog)
            return catalog.credential_status, False
