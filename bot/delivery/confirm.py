"""Confirms that the slot's credential works. This can no longer turn a success into a failure."""

from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.cloudflare.errors import CloudflareError, OperatorError
from bot.cloudflare.exchange import Turn
from bot.delivery.step import MaySend, Step
from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.move import Changes, Move
from bot.model.submission import Pending, State, Submission, Task

CONFIRM_PATIENCE: Final = timedelta(seconds=15)
"""How long after a successful write a slot may show no working credential before that is an alarm.

Cloudflare needs some seconds until a write is visible everywhere.
"""

PROOF_PATIENCE: Final = timedelta(minutes=3)
"""The same for a token that the bot made: the slot's users know its rights after up to a minute, and what is proven
here decides on the end of the token before it."""

_PAUSE: Final = timedelta(seconds=2)
_LONGEST_PAUSE: Final = timedelta(seconds=10)

_log = structlog.get_logger()


def patience_to_confirm(task: Task) -> timedelta:
    """Return how long after a successful write the slot may show no working credential before that is an alarm."""
    return PROOF_PATIENCE if task is Task.ROTATE else CONFIRM_PATIENCE


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
            return Move(to=State.CONFIRMING, at=now + self._pause(submission, patience))
        return self._end(status, now if is_tested else None)

    @staticmethod
    def _pause(submission: Submission, patience: timedelta) -> timedelta:
        """Return a pause that grows where there is much time."""
        waited = patience_to_confirm(submission.task) - patience
        return max(_PAUSE, min(waited / 8, _LONGEST_PAUSE))

    def _end(self, status: CredentialStatus, tested_at: datetime | None) -> Move:
        """End it. Only a test that found the credential working proves that an older token is not in the slot."""
        is_proven = tested_at is not None and status is CredentialStatus.VALID
        now, grace = self._tools.clock(), self._tools.rotate_grace()
        return Move(
            to=State.STORED,
            at=now,
            changes=Changes(confirmation=status),
            tested_at=tested_at,
            retires_at=now + grace if is_proven and grace is not None else None,
        )

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
