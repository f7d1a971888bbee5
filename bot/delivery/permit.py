"""Checks again that a submission is allowed, each time it is processed until it is written.

It may wait for an hour. A person who is taken off the list, or deactivated, meanwhile must not get a token stored.
"""

from datetime import datetime

from bot.cloudflare.client import Turn
from bot.delivery.step import MaySend, Step
from bot.model.move import Move
from bot.model.submission import Pending, State, Submission
from bot.policy.rules import Verb


class Permit(Step):
    """Lets a submission pass that is still allowed. Raises AccessRefused."""

    def is_done(self, submission: Submission, now: datetime) -> bool:  # noqa: ARG002 - it is asked each time
        """Once it is written, a no would change nothing."""
        return submission.state is State.CONFIRMING

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:  # noqa: ARG002 - asks nobody but Slack
        """Ask about the person, the bucket, the channel and the verb."""
        submission, gate = pending.submission, self._tools.gate
        verb = Verb.of_task(submission.task)
        gate.require_of_anybody(verb, submission.key, submission.channel_id)  # first what needs no answer from Slack
        permit = await gate.permit_user(submission.user_id)
        permit.require(verb, submission.key, submission.channel_id)
        return None
