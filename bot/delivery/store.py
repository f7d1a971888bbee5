"""Writes the token into the slot. A kill in the middle must never be recorded as "not sent"."""

from datetime import datetime
from functools import partial
from typing import Final

from bot.cloudflare.errors import CloudflareError
from bot.cloudflare.exchange import Turn
from bot.cloudflare.minting_errors import as_minted
from bot.delivery.confirm import patience_to_confirm
from bot.delivery.judge import explain_refusal
from bot.delivery.step import MaySend, Step
from bot.model.errors import DatabaseTrouble, DeadlineReached, LeaseLost, SealedValueUnreadable
from bot.model.move import Changes, Move
from bot.model.submission import Pending, State, Submission, Task

_UNSENT: Final = (SealedValueUnreadable, DatabaseTrouble)
"""The errors that stop a write before anything is sent."""


class Store(Step):
    """Records that a write may happen, then sends it.

    In this order: otherwise a kill between the two would leave a written slot recorded as untouched.
    """

    name = "store"
    state = State.STORING
    label = "Store it at Cloudflare"

    def is_done(self, submission: Submission, now: datetime) -> bool:  # noqa: ARG002 - it is done once
        """Return whether Cloudflare has accepted the token."""
        return submission.state is State.CONFIRMING

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:
        """Record that a write may happen; the write is the effect, and runs only if that was recorded."""
        submission = pending.submission
        return Move(
            to=State.STORING,
            at=self._tools.clock(),
            changes=Changes(attempts=submission.attempts + 1, possibly_written=True),
            effect=partial(self._write, turn=turn, may_send=may_send, landed_before=submission.possibly_written),
        )

    async def _write(self, pending: Pending, *, turn: Turn, may_send: MaySend, landed_before: bool) -> Move:
        """Send the token once, and return the move for the outcome."""
        submission = pending.submission
        try:
            cf_ray = await self._send(pending, turn, may_send)
        except LeaseLost:
            if self._tools.clock() < submission.expires_at:
                raise
            return self._tools.retry.after(submission, DeadlineReached(), landed=landed_before)
        except _UNSENT as stopped:
            return self._tools.retry.after(submission, stopped, landed=landed_before)
        except CloudflareError as answer:
            landed = landed_before or answer.possibly_landed
            refusal = explain_refusal(answer, submission.findings)
            told = as_minted(refusal) if submission.task is Task.ROTATE else refusal
            return self._tools.retry.after(submission, told, landed=landed)
        now = self._tools.clock()
        changes = Changes(confirm_until=now + patience_to_confirm(submission.task), cf_ray=cf_ray)
        return Move(to=State.CONFIRMING, at=now, changes=changes)

    async def _send(self, pending: Pending, turn: Turn, may_send: MaySend) -> str | None:
        """Open the token, send it, drop it: no other function holds the plain token on its way out."""
        token = self._tools.opener.open(pending)
        return await self._tools.cloudflare.store_credential(
            pending.submission.key, token, may_send=may_send, turn=turn
        )
