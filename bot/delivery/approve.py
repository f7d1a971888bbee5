"""Four eyes: where the rule that applies says so, nothing is stored before another person has approved it.

Asked each time the submission is processed until it is written: the rule, the approver's right and what is recorded of
the decision may have changed. The state is never believed: without a decision that counts, this step is not passed.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from bot.cloudflare.exchange import Turn
from bot.delivery.endings import end_unwritten
from bot.delivery.permit import find_rule
from bot.delivery.step import MaySend, Step
from bot.model.approval import Choice, Decision, digest_of
from bot.model.errors import (
    AccessRefused,
    ApprovalDenied,
    ApprovalMissing,
    ApprovalOutdated,
    ApproverRemoved,
    LeaseLost,
    NotApproved,
)
from bot.model.move import Changes, Move
from bot.model.submission import Pending, State, Submission, Task
from bot.policy.rules import Rule

_AFTER: Final = {
    Task.STORE: State.VERIFYING,
    Task.ENABLE: State.AWAITING_APPROVAL,  # a catalog is enabled from this very state
    Task.ROTATE: State.MINTING,  # nothing is made before
}
"""How a submission goes on once it is approved."""

ASK_AGAIN_AFTER: Final = timedelta(seconds=60)
"""How long a waiting submission is left alone: a changed rule and a removed person take effect within this time."""


class Approve(Step):
    """Has an approver asked, waits for the decision, and follows it."""

    name = "approve"
    state = State.AWAITING_APPROVAL
    label = "Wait for an approval"

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:  # noqa: ARG002 - asks only Slack
        """Follow the decision, if there is one; else have one asked for, and come back later."""
        submission = pending.submission
        rule = await find_rule(self._tools.gate, submission)
        if not rule.approvals:
            return self._pass(submission, Changes())
        decision = await self._tools.asking.find_decision(submission)
        if decision is not None:
            return await self._follow(pending, rule, decision)
        if submission.state is State.STORING or _is_minted(submission):
            raise ApprovalMissing
        if submission.state is not State.AWAITING_APPROVAL:  # first: from now on, no other token can take its place
            changes = Changes(approval_channel=rule.approval_channel or submission.channel_id)
            return Move(to=State.AWAITING_APPROVAL, at=self._tools.clock(), changes=changes)
        if not await may_send():
            raise LeaseLost  # the new holder asks
        await self._tools.asking.ask(pending)
        return self._wait(submission)

    def is_done(self, submission: Submission, now: datetime) -> bool:  # noqa: ARG002 - checked each time
        """Return whether it is written: from then on, no decision changes anything. While a token is made, it waits."""
        return submission.state in (State.MINTING, State.CONFIRMING)

    async def _follow(self, pending: Pending, rule: Rule, decision: Decision) -> Move | None:
        submission = pending.submission
        if decision.choice is Choice.DENY:
            return self._end(submission, ApprovalDenied(), decision)
        if decision.digest != digest_of(pending):
            return self._end(submission, ApprovalOutdated(), decision)
        try:
            permit = await self._tools.gate.permit_user(decision.user_id)
            permit.require_approver(rule, submission.user_id, submission.key, submission.channel_id)
        except AccessRefused as refusal:
            if refusal.retryable:
                raise
            return self._end(submission, ApproverRemoved(), decision)
        return self._pass(submission, Changes(decided_by=decision.user_id))

    def _pass(self, submission: Submission, changes: Changes) -> Move | None:
        """Go on to the write. A token needs new checks first if the wait was long."""
        if submission.state is not State.AWAITING_APPROVAL or self._is_passed(submission, changes):
            return None
        return Move(to=_AFTER[submission.task], at=self._tools.clock(), changes=changes)

    @staticmethod
    def _is_passed(submission: Submission, changes: Changes) -> bool:
        """Return whether nothing is left to record: a catalog is enabled from this very state."""
        return submission.task is Task.ENABLE and changes.decided_by in (None, submission.decided_by)

    def _end(self, submission: Submission, error: NotApproved, decision: Decision) -> Move:
        move = end_unwritten(submission, State.DENIED, error, self._tools.clock())
        return replace(move, changes=replace(move.changes, decided_by=decision.user_id))

    def _wait(self, submission: Submission) -> Move:
        """Come back in a while, or as soon as a decision is recorded. An error that delayed asking is over."""
        at = min(self._tools.clock() + ASK_AGAIN_AFTER, submission.expires_at)
        return Move(to=State.AWAITING_APPROVAL, at=at, changes=Changes(findings=submission.findings))


def _is_minted(submission: Submission) -> bool:
    """Return whether the token has been made already: it had to be approved before."""
    return submission.task is Task.ROTATE and submission.state in (State.MINTED, State.VERIFYING)
