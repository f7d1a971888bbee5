"""The buttons by which another person approves or denies what waits for an approval."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from bot.model.approval import Answer, Choice, Decided, Decision
from bot.model.errors import AccessRefused, BotError, DecisionForged
from bot.model.reference import about
from bot.model.submission import Submission
from bot.policy.rules import Rule, Verb
from bot.slack.blocks import date
from bot.slack.button_values import read_request_value
from bot.slack.inbound.payloads import Press
from bot.slack.inbound.routes import Routes
from bot.slack.messages import render
from bot.slack.messages.approval import CHOICES, RedactedRequest, decided_message
from bot.slack.messages.redacted import RedactedResult
from bot.slack.stories.parts import Parts
from bot.slack.stories.tell import tell_presser

_FORGOTTEN: Final = "The bot does not know this request, or the person who made it may no longer do that."
_OUTDATED: Final = "This button belongs to another token than the one that waits, so nothing was decided."
_NO_LONGER_WAITING: Final = "This no longer waits for an approval, so nothing was decided."
_DID: Final = {Choice.APPROVE: "approved", Choice.DENY: "denied"}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DecideRequest:
    """Anyone in the channel can see the buttons, so each press is checked anew. The person has confirmed it."""

    parts: Parts

    def register(self, routes: Routes) -> None:
        """Take both buttons."""
        for action_id in CHOICES:
            routes.on_press(action_id, self.act, in_view=False)

    async def act(self, press: Press) -> None:
        """Record the decision and say so in the message, or tell the person why not."""
        named = read_request_value(press.value)
        if named is None:
            await tell_presser(self.parts.web, press, _FORGOTTEN)
            return
        with about(named[0]):
            problem = await self._decide(press, *named)
            if problem:
                await tell_presser(self.parts.web, press, problem)

    async def _decide(self, press: Press, submission_id: str, digest: str) -> str:
        """Return what the person reads; "" if the decision counts."""
        user_id, choice = press.actor.user_id, CHOICES[press.action_id]
        try:
            submission = await self._find_allowed(press, submission_id)
            if submission is None:
                return _FORGOTTEN
            decision = Decision(
                submission_id=submission_id,
                choice=choice,
                user_id=user_id,
                decided_at=self.parts.clock(),
                digest=digest,
            )
            decided = await self.parts.submissions.decide(decision.signed_by(self.parts.authenticity))
        except BotError as error:
            _log.warning("decision_refused", user=user_id, error=error.code)
            return render.refusal(error, contact=self.parts.contact)
        _log.info("decision_received", user=user_id, choice=choice.value, answer=decided.answer.value)
        if decided.answer is Answer.RECORDED and decided.decision is not None:
            await self._show(submission, decided.decision)
            return ""
        return self._explain(decided)

    async def _find_allowed(self, press: Press, submission_id: str) -> Submission | None:
        """Return the submission if this person may decide on it; raises AccessRefused."""
        parts, submission = self.parts, await self.parts.submissions.find(submission_id)
        # Both may ask Slack: in sequence they could take longer than a trigger lives.
        permit, rule = await asyncio.gather(parts.gate.permit(press.actor), self._find_rule(submission))
        if submission is None or rule is None:
            return None
        permit.require_approver(rule, submission.user_id, submission.key, submission.channel_id)
        return submission

    async def _find_rule(self, submission: Submission | None) -> Rule | None:
        """Return the rule that lets the requester do this; None if none does, or if no approver was asked.

        Raises the AccessRefused that pass.
        """
        if submission is None or submission.approval_channel is None:
            return None
        if submission.key.account_id != self.parts.account_id:
            return None
        decided = await self._decide_on_requester(submission)
        if isinstance(decided, AccessRefused) and decided.retryable:
            raise decided
        return decided if isinstance(decided, Rule) else None

    async def _decide_on_requester(self, submission: Submission) -> Rule | AccessRefused:
        """Return the rule, or the refusal, which is no attempt of the requester's: someone else presses."""
        try:
            requester = await self.parts.gate.permit_user(submission.user_id)
        except AccessRefused as refusal:
            return refusal
        return requester.decide(Verb.of_task(submission.task), submission.key, submission.channel_id)

    async def _show(self, submission: Submission, decision: Decision) -> None:
        """Say it in the message, at best: the message is changed once more when the submission has ended."""
        try:
            request = await self.parts.approvals.find_request(submission.id)
            is_ours = request is not None and request.is_authentic(self.parts.authenticity)
            if request is not None and request.message_ts is not None and is_ours:
                message = decided_message(RedactedRequest.of(submission, self.parts.clock()), decision)
                await self.parts.web.update_message(request.channel_id, request.message_ts, message, is_patient=False)
        except BotError as error:
            _log.warning("decision_not_shown", error=str(error))

    def _explain(self, decided: Decided) -> str:
        decision, submission = decided.decision, decided.submission
        if decision is not None:
            if not decision.is_authentic(self.parts.authenticity):
                return DecisionForged.user_message
            by = f"<@{decision.user_id}> {_DID[decision.choice]} it on {date(decision.decided_at)}"
            return f"This is decided already: {by}."
        if decided.answer is Answer.ANOTHER_TOKEN:
            return _OUTDATED
        if submission is None or not submission.is_ended:
            return _NO_LONGER_WAITING
        return f"{_NO_LONGER_WAITING} {RedactedResult.of(submission).headline}"
