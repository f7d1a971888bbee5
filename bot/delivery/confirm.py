"""Asks whether the slot's credential works. It cannot turn a success into a failure any more."""

from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.cloudflare.client import Turn
from bot.cloudflare.errors import CloudflareError, OperatorError
from bot.delivery.step import MaySend, Step
from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.move import Changes, Move
from bot.model.submission import Pending, State

CONFIRM_PATIENCE: Final = timedelta(seconds=15)
"""How long a slot that looks empty or broken after a successful write is asked about before that is an alarm."""

_PAUSE: Final = timedelta(seconds=2)

_log = structlog.get_logger()


class Confirm(Step):
    """Looks into the slot until it shows a credential that works, or until the patience is over."""

    state = State.CONFIRMING
    label = "Confirm that the stored credential works"

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:  # noqa: ARG002 - a question, which anybody may ask
        """Ask once."""
        submission, now = pending.submission, self._tools.clock()
        patience = (submission.confirm_until or now) - now
        try:
            status, is_tested = await self._look_into_slot(submission.key, turn)
        except CloudflareError as error:
            _log.warning("credential_not_confirmed", submission=submission.id, error=str(error))
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

    async def _look_into_slot(self, key: BucketKey, turn: Turn) -> tuple[CredentialStatus, bool]:
        """Have Cloudflare test what the slot holds or, where it offers no test, say whether it holds anything.

        Return with it whether that was a test.
        """
        try:
            return await self._tools.cloudflare.test_credential(key, turn), True
        except OperatorError:
            catalog = await self._tools.cloudflare.get_catalog(key, turn)
            await self._tools.catalogs.save_catalog(catalog)
            return catalog.credential_status, False
