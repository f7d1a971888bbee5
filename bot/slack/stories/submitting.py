"""What every form's Submit goes through: it is checked, recorded once and acknowledged, or refused in the form.

No story ever holds a token.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar, Final

import structlog

from bot.model.catalog import BucketKey
from bot.model.errors import AccessRefused, BucketNotInChannel, ChannelNotAllowed, DatabaseTrouble, RecordDamaged
from bot.model.place import DIRECT
from bot.model.predecessor import find_if_possible
from bot.model.submission import NewSubmission, State, Submission, Task
from bot.policy.permit import Permit
from bot.policy.rules import Rule, Verb
from bot.slack import form as modal
from bot.slack.blocks import Json
from bot.slack.channels import NOT_LISTED
from bot.slack.inbound.payloads import Submit
from bot.slack.messages import render
from bot.slack.messages.redacted import RedactedProgress
from bot.slack.progress_steps import steps_of
from bot.slack.stories.in_form import permit_in_form
from bot.slack.stories.masked_reason import MaskedReasons
from bot.slack.stories.parts import Parts
from bot.storage.accepting import MOST_OPEN_CHECKS, Acceptance, Verdict

_UNUSABLE: Final = {
    Verdict.UNKNOWN_OPENING: "The bot does not know this form.",
    Verdict.SOMEBODY_ELSES: "This form was opened for someone else.",
    Verdict.USED: "This form was submitted before.",
    Verdict.TOO_OLD: "This form has been open for more than an hour.",
}
_NO_VIEW: Final = "The bot cannot identify this form. Close it, and open a new one."
_TOO_MANY_CHECKS: Final = (
    f"You have {MOST_OPEN_CHECKS} checks in progress, the limit for one person. Submit again when one has ended, or "
    "untick this to store the token: it is checked first anyway."
)
_NO_CHANNEL: Final = "Choose the channel to which the result is posted."
_NOWHERE: Final = "Choose a channel, or tick below that the result is sent to you directly."
_DIRECT_NOT_ALLOWED: Final = "Results of this bot go to channels only. Choose one, and untick the direct message."
_NOWHERE_TO_ASK: Final = (
    "This has to be approved by someone else, who is asked in the channel of the result. Choose a channel, and untick "
    "the direct message."
)

_log = structlog.get_logger()


class FormStory(ABC):
    """Errors stay in the form; a valid submission is recorded before it is acknowledged."""

    nothing_sent: ClassVar[str]
    """What follows the reason why a form cannot be used, and how to start again."""

    def __init__(self, parts: Parts, masked_reasons: MaskedReasons) -> None:
        self.parts = parts
        self.masked_reasons = masked_reasons

    @abstractmethod
    def new_submission(self, submit: Submit) -> NewSubmission:
        """Return what a form without errors asks for."""

    def find_own_errors(self, submit: Submit) -> dict[str, str | None]:
        """Return what is wrong with the fields that only this form has, by block id."""
        del submit
        return {}

    def find_other_task(self, permit: Permit, submit: Submit) -> tuple[str, str] | None:
        """Return the field, and what it says, by which a task that is allowed can be chosen instead of this one."""
        del permit, submit
        return None

    async def answer_instead(self, submit: Submit, permit: Permit) -> Json | None:
        """Return the answer to a form without errors that is not recorded; raises DatabaseTrouble, RecordDamaged."""
        del submit, permit
        return None

    def is_mere_look(self, submit: Submit) -> bool:
        """Return whether nothing is recorded, so that it needs no reason and no approval."""
        del submit
        return False

    async def take(self, submit: Submit) -> Json:
        """Take a pressed Submit."""
        if not submit.view_id:  # it becomes the submission's id, which would not be unique
            return self._error(submit, _NO_VIEW)
        try:
            permit, errors = await self._check(submit)
            instead = None if errors else await self.answer_instead(submit, permit)
        except AccessRefused as refusal:
            _log.warning("submission_refused", user=submit.actor.user_id, error=refusal.code)
            return await self._answer_refusal(submit, refusal)
        except (DatabaseTrouble, RecordDamaged) as trouble:  # it is unknown who opened the form
            return self._error(submit, trouble.user_message)
        if errors:
            return {"response_action": "errors", "errors": errors}
        return instead or await self._accept(submit)

    async def _check(self, submit: Submit) -> tuple[Permit, dict[str, str]]:
        """Return what this person may do, and what is wrong, by block id; raises AccessRefused, DatabaseTrouble."""
        # Both may ask Slack: in sequence they could take longer than Slack waits for the answer.
        permit, channel_problem = await asyncio.gather(
            permit_in_form(self.parts, submit.actor, submit.form.nonce), self._examine(submit.form.channel_id)
        )
        errors = self._find_errors(submit, permit, channel_problem)
        if not errors:
            rule = permit.require(Verb.of_task(submit.form.task), self.key(submit), submit.form.channel_id)
            errors = {} if self.is_mere_look(submit) else _find_nobody_asked(submit, rule)
        return permit, errors

    async def _accept(self, submit: Submit) -> Json:
        """Record a valid submission, and return what the person sees."""
        if not submit.team_id:  # the token is sealed for it
            return self._error(submit, _NO_VIEW)
        try:
            acceptance = await self._record(self.new_submission(submit), submit.form.nonce)
        except (DatabaseTrouble, RecordDamaged) as error:
            _log.warning("recording_failed", user=submit.actor.user_id, error=error.code)
            return self._error(submit, f"{error.user_message} Reference: {submit.view_id}")
        if acceptance.verdict is Verdict.TOO_MANY_CHECKS:
            return {"response_action": "errors", "errors": {modal.CHECK_BLOCK: _TOO_MANY_CHECKS}}
        return update(await self._acknowledgement(acceptance, submit))

    async def _examine(self, channel_id: str) -> str | None:
        """Return what is wrong with the place of the result, for any person, or None."""
        if channel_id == DIRECT:
            return None if self.parts.gate.allows_channel(DIRECT) else _DIRECT_NOT_ALLOWED
        if not channel_id:
            return _NOWHERE if self.parts.gate.allows_channel(DIRECT) else _NO_CHANNEL
        return await self.parts.channels.explain_problem(channel_id)

    def _find_errors(self, submit: Submit, permit: Permit, channel_problem: str | None) -> dict[str, str]:
        """Return what is wrong, by block id."""
        form, verb = submit.form, Verb.of_task(submit.form.task)
        key = self.key(submit)
        refused_at, refusal = self._find_field(permit, submit)
        needs_reason = not self.is_mere_look(submit) and any(
            rule.require_reason for rule in permit.find_rules(verb, key, form.channel_id)
        )
        problems = {
            modal.BUCKET_BLOCK: modal.check_bucket(form.bucket),
            modal.CHANNEL_BLOCK: channel_problem,
            modal.REASON_BLOCK: modal.check_reason(form.reason, is_needed=needs_reason)
            or self.masked_reasons.find_problem(submit.view_id, form.reason),
            **self.find_own_errors(submit),
        }
        problems[refused_at] = problems.get(refused_at) or refusal
        return {block: problem for block, problem in problems.items() if problem}

    def _find_field(self, permit: Permit, submit: Submit) -> tuple[str, str]:
        """Return the field that another choice would make allowed, and what it says; "" twice if there is none."""
        verb, key, channel_id = Verb.of_task(submit.form.task), self.key(submit), submit.form.channel_id
        refusal = permit.attempt(verb, key, None)
        if refusal is not None:
            other = self.find_other_task(permit, submit)
            if other is not None:
                return other
            return (
                ("", "") if refusal.retryable else (modal.BUCKET_BLOCK, f"{refusal.user_message} Choose another one.")
            )
        refusal = permit.attempt(verb, key, channel_id)
        if isinstance(refusal, ChannelNotAllowed):
            return modal.CHANNEL_BLOCK, NOT_LISTED.in_form
        return (modal.CHANNEL_BLOCK, refusal.user_message) if isinstance(refusal, BucketNotInChannel) else ("", "")

    def key(self, submit: Submit) -> BucketKey:
        """Return the slot that the form is about."""
        return self.parts.key(submit.form.bucket)

    async def _record(self, new: NewSubmission, nonce: str) -> Acceptance:
        acceptance = await self.parts.submissions.accept(new, nonce, opened_in=self.parts.gate.home.team_id)
        _log.info(
            "submission_received",
            task=new.task.value,
            bucket=new.key.bucket,
            user=new.user_id,
            channel=new.channel_id,
            verdict=acceptance.verdict.value,
        )
        return acceptance

    async def _acknowledgement(self, acceptance: Acceptance, submit: Submit) -> Json:
        """Return the view that takes the form's place; it has no input, so the token is off the screen."""
        if acceptance.verdict in _UNUSABLE:
            return render.notice_view("Nothing was sent", f"{_UNUSABLE[acceptance.verdict]} {self.nothing_sent}")
        if acceptance.submission is not None:
            return await self._view_of(acceptance.submission)
        task, bucket = submit.form.task, submit.form.bucket
        progress = RedactedProgress(task=task, bucket=bucket, state=State.ACCEPTED, steps=steps_of(task))
        return render.progress_view(progress)

    async def _answer_refusal(self, submit: Submit, refusal: AccessRefused) -> Json:
        """Refuse a Submit, unless it was recorded before: then its token is kept, and may already be stored."""
        try:
            known = await self.parts.submissions.find(submit.view_id)
        except (DatabaseTrouble, RecordDamaged) as error:
            return self._error(submit, error.user_message)
        if known is not None and (known.team_id, known.user_id) == (submit.team_id, submit.actor.user_id):
            return update(await self._view_of(known))
        if refusal.retryable:
            return self._error(submit, refusal.user_message)
        text = render.refusal(refusal, contact=self.parts.contact)
        return update(render.notice_view("Nothing was sent", f"{text} {self.nothing_sent}"))

    async def _view_of(self, submission: Submission) -> Json:
        steps = steps_of(submission.task)
        return render.submission_view(
            submission,
            now=self.parts.clock(),
            steps=steps,
            contact=self.parts.contact,
            may_enable=self.parts.may_enable(submission.key, submission.channel_id),
            predecessor=await find_if_possible(self.parts.rotations.tokens.predecessor_of, submission),
        )

    @staticmethod
    def _error(submit: Submit, problem: str) -> Json:
        return modal.form_error(problem, submit.callback_id)


def _find_nobody_asked(submit: Submit, rule: Rule) -> dict[str, str]:
    """Return a form error where approvers would be asked in a direct message: that is the requester's own."""
    place = rule.approval_channel or submit.form.channel_id
    is_asked = rule.approvals > 0 and submit.form.task is not Task.CHECK
    return {modal.CHANNEL_BLOCK: _NOWHERE_TO_ASK} if is_asked and place == DIRECT else {}


def update(view: Json) -> Json:
    """Return the answer to a Submit that replaces the form by another view."""
    return {"response_action": "update", "view": view}
