"""Checks again that a submission is allowed, each time it is processed until it is written.

A submission may wait for an hour. The token of a person removed from the allowlist or deactivated since must not be
stored.
"""

from dataclasses import replace
from datetime import datetime

from bot.cloudflare.exchange import Turn
from bot.delivery.step import MaySend, Step
from bot.model.move import Move
from bot.model.origin import origin_of
from bot.model.submission import Pending, State, Submission
from bot.policy.gate import Gate
from bot.policy.rules import Rule, Verb


class Permit(Step):
    """Passes a submission that is still allowed, else raises AccessRefused."""

    name = "permit"

    def is_done(self, submission: Submission, now: datetime) -> bool:  # noqa: ARG002 - checked each time
        """Return whether it is written: from then on, a refusal changes nothing."""
        return submission.state is State.CONFIRMING

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:  # noqa: ARG002 - asks only Slack
        """Ask about the person, the bucket, the channel and the verb."""
        await find_rule(self._tools.gate, pending.submission)
        return None


async def find_rule(gate: Gate, submission: Submission) -> Rule:
    """Return the rule that allows this submission now; raises AccessRefused.

    What the bot does by itself, the operator's settings have approved: any rule that lets anyone do it is enough.
    """
    verb = Verb.of_task(submission.task)
    if origin_of(submission.id).is_the_bot:
        return replace(gate.rule_of_anybody(verb, submission.key, submission.channel_id), approvals=0)
    gate.require_of_anybody(verb, submission.key, submission.channel_id)  # first: it needs no answer from Slack
    permit = await gate.permit_user(submission.user_id)
    return permit.require(verb, submission.key, submission.channel_id)
