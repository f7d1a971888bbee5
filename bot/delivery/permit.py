"""Whether a submission is still allowed: asked before every step, since much may have changed while it waited."""

from datetime import datetime
from typing import ClassVar

from bot.cloudflare.client import Turn
from bot.delivery.step import MaySend
from bot.model.move import Move
from bot.model.submission import Pending, State, Submission
from bot.policy.gate import Gate
from bot.policy.rules import verb_of


class Permit:
    """Lets pass what may be done. Raises AccessRefused."""

    state: ClassVar = State.VERIFYING
    label: ClassVar = ""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def is_done(self, _: Submission, __: datetime) -> bool:
        """Never: it is asked each time."""
        return False

    async def take(self, pending: Pending, _: Turn, __: MaySend) -> Move | None:
        """Ask about the person, the bucket, the channel and what is to be done."""
        submission = pending.submission
        permit = await self._gate.permit_user(submission.user_id)
        permit.require(verb_of(submission.task), submission.key, submission.channel_id)
        return None
