"""Command, options, submission: check, record, dispatch, acknowledge. No listener ever holds a token."""

import asyncio
import html
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse

from bot.model.errors import (
    AccessRefused,
    BotError,
    BucketNotAllowed,
    DatabaseTrouble,
)
from bot.model.pasted_token import MASK
from bot.model.submission import BucketKey, NewSubmission, PastedToken, Sealed, State, Submission, Task
from bot.policy.gate import Actor, Gate
from bot.slack import form as modal
from bot.slack.blocks import Json, escape
from bot.slack.channels import Channels
from bot.slack.form import Filling
from bot.slack.inbound.ingress import PASTED_TOKEN, RECEIVED_AT
from bot.slack.messages import render as replies
from bot.slack.messages.outcome import STEPS_OF_TASK
from bot.slack.messages.redacted import RedactedProgress, RedactedResult
from bot.slack.stories.enable import Buttons
from bot.slack.stories.look import Lookups
from bot.slack.stories.open_form import FormOpener
from bot.storage.accepting import Acceptance, Verdict
from bot.storage.catalogs import Catalogs
from bot.storage.submissions import Records

_LOOK_UPS: Final = ("status", "history")
_UNUSABLE: Final = {
    Verdict.UNKNOWN_OPENING: "The bot does not know this form.",
    Verdict.SOMEBODY_ELSES: "This form was opened for somebody else.",
    Verdict.USED: "This form was submitted before.",
    Verdict.TOO_OLD: "This form has been open for more than an hour.",
}
_START_AFRESH: Final = (
    "Nothing was sent to Cloudflare, and the token you pasted was not kept. Close this and type "
    f"`{modal.COMMAND}` to start afresh."
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """What Bolt calls. Within Slack's 3 s each method waits for the database and for Slack, and for nothing else."""

    account_id: str
    ttl: timedelta
    contact: str
    gate: Gate
    records: Records
    inventory: Catalogs
    channels: Channels
    opener: FormOpener
    buttons: Buttons
    lookups: Lookups
    dispatch: Callable[[BucketKey], None]
    want_snapshot: Callable[[], None]
    clock: Callable[[], datetime]

    def register(self, app: AsyncApp) -> None:
        """Attach everything to Bolt, which asks one listener after the other."""
        app.view(modal.CALLBACK_ID)(self.handle_submission)
        app.options(modal.BUCKET_ACTION)(self.handle_options)
        app.command(modal.COMMAND)(self.handle_command)
        self.buttons.register(app)
        self.lookups.register(app)
        app.error(self.handle_error)

    async def handle_command(self, ack: AsyncAck, body: Json, context: AsyncBoltContext) -> None:
        """`/r2-credential [bucket | status | history | help]`: open the form or answer, to this person only."""
        text = str(body.get("text", "")).strip()
        words = text.split()
        if MASK in text:
            _log.warning("token_typed_in_command", user=body.get("user_id"))
            await ack(modal.REVOKE_ADVICE)
        elif text.lower() == "help":
            await ack(replies.help_text())
        elif words and words[0].lower() in _LOOK_UPS:
            await ack(await self._look_up([words[0].lower(), *words[1:]], body, context))
        else:
            await ack(await self._open_form(body, text))

    async def handle_options(self, ack: AsyncAck, body: Json) -> None:
        """Offer the catalogs that match what was typed; a person who may not use the bot sees none."""
        try:
            await self.gate.check_actor(Actor.of_interaction(body))
            snapshot = await self.inventory.snapshot()
        except BotError as error:
            _log.info("options_refused", user=_user_id(body), error=error.code)
            await ack(options=[])
            return
        self.want_snapshot()
        catalogs = (
            [catalog for catalog in snapshot.catalogs if self.gate.allows_bucket(catalog.bucket)] if snapshot else []
        )
        await ack(options=modal.build_options(catalogs, str(body.get("value", ""))))

    async def handle_submission(self, ack: AsyncAck, body: Json, context: AsyncBoltContext) -> None:
        """Take a pressed Submit: form errors stay in the form; the rest is recorded before it is acknowledged."""
        form = modal.parse_form(body["view"])
        pasted: PastedToken = context[PASTED_TOKEN]
        try:
            # Both may ask Slack: one after the other would take longer than an answer may.
            _, errors = await asyncio.gather(
                self.gate.check_actor(Actor.of_interaction(body)), self._check_form(form, pasted)
            )
        except AccessRefused as refusal:
            _log.warning("submission_refused", user=_user_id(body), error=refusal.code)
            await ack(await self._answer_refusal(body, refusal))
            return
        if errors:
            await ack(response_action="errors", errors=errors)
            return
        try:
            acceptance = await self._record(self._new_submission(body, form, pasted, context[RECEIVED_AT]), form.nonce)
        except DatabaseTrouble as error:
            await ack(_form_error(f"{error.user_message} Reference: {body['view']['id']}"))
            return
        await ack(response_action="update", view=self._acknowledgement(acceptance, form))

    async def handle_error(self, error: Exception, request: AsyncBoltRequest) -> BoltResponse:
        """Answer for a fault of ours: a reference for the person, a type for the log, nothing of the payload."""
        reference = secrets.token_hex(4)
        _log.error("listener_broke", error=type(error).__name__, reference=reference)
        text = f"Something unexpected happened, reference {reference}. Please tell the operator of the bot."
        if request.body.get("type") == "view_submission":
            body: Json = {"response_action": "errors", "errors": {modal.TOKEN_BLOCK: text}}
            return BoltResponse(status=200, body=body)
        return BoltResponse(status=200, body=text if "command" in request.body else "")

    async def _open_form(self, body: Json, bucket: str) -> str:
        """Return what the person reads, or nothing when the form has opened."""
        if bucket and not modal.is_bucket_name(bucket):
            return _wrong_bucket(bucket)
        actor, channel_id = Actor.of_command(body), str(body.get("channel_id", ""))
        filling = Filling(bucket=bucket)
        return await self.opener.open(actor, str(body.get("trigger_id", "")), filling, channel_id)

    async def _look_up(self, words: list[str], body: Json, context: AsyncBoltContext) -> str | Json:
        """Return what `status` or `history` shows to this person."""
        kind, *buckets = words
        bucket = " ".join(buckets)
        if bucket and not modal.is_bucket_name(bucket):
            return _wrong_bucket(bucket)
        return await self.lookups.answer_command("status" if kind == "status" else "history", bucket, body, context)

    async def _check_form(self, form: modal.UnverifiedForm, pasted: PastedToken) -> dict[str, str]:
        """Return what is wrong, by block id; raises AccessRefused for what is no slip of the pen."""
        problems = {
            modal.BUCKET_BLOCK: modal.check_bucket(form.bucket) or self._check_allowed_bucket(form.bucket),
            modal.TOKEN_BLOCK: _check_kind(pasted),
            modal.CHANNEL_BLOCK: await self._check_channel(form.channel_id),
            modal.REASON_BLOCK: modal.check_reason(form.reason),
        }
        return {block: problem for block, problem in problems.items() if problem}

    def _check_allowed_bucket(self, bucket: str) -> str | None:
        return None if self.gate.allows_bucket(bucket) else f"{BucketNotAllowed.user_message} Choose another one."

    async def _check_channel(self, channel_id: str) -> str | None:
        """Say what is wrong with the result channel; one that the bot cannot see is reached by its response URL."""
        if not channel_id:
            return "Choose where the result is posted."
        if not self.gate.allows_channel(channel_id):
            return "The bot may not post in this channel. Choose another one."
        return await self.channels.examine(channel_id)

    def _new_submission(
        self, body: Json, form: modal.UnverifiedForm, pasted: PastedToken, received_at: datetime
    ) -> NewSubmission:
        if pasted.sealed is None:
            message = "a token of this kind should have been a form error"
            raise ValueError(message)
        return NewSubmission(
            id=str(body["view"]["id"]),
            task=Task.CHECK if form.check_only else Task.STORE,
            team_id=modal.installed_team_id(body),
            user_id=_user_id(body),
            key=BucketKey(account_id=self.account_id, bucket=form.bucket),
            channel_id=form.channel_id,
            reason=form.reason,
            token_kind=pasted.kind,
            last_four=pasted.last_four,
            sealed=Sealed(token=pasted.sealed, response_url=pasted.sealed_response_url),
            accepted_at=received_at,
            expires_at=received_at + self.ttl,
        )

    async def _record(self, new: NewSubmission, nonce: str) -> Acceptance:
        acceptance = await self.records.accept(new, nonce)
        _log.info(
            "submission_received",
            submission=new.id,
            user=new.user_id,
            bucket=new.key.bucket,
            task=new.task.value,
            verdict=acceptance.verdict.value,
        )
        if acceptance.verdict in (Verdict.RECORDED, Verdict.REPLACED):
            self.dispatch(new.key)
        return acceptance

    def _acknowledgement(self, acceptance: Acceptance, form: modal.UnverifiedForm) -> Json:
        """Return the view that takes the form's place; it has no input, so the token is off the screen."""
        if acceptance.verdict in _UNUSABLE:
            return replies.notice_view("Nothing was sent", f"{_UNUSABLE[acceptance.verdict]} {_START_AFRESH}")
        if acceptance.submission is not None:
            return self._view_of(acceptance.submission)
        task = Task.CHECK if form.check_only else Task.STORE
        progress = RedactedProgress(task=task, bucket=form.bucket, state=State.ACCEPTED, steps=STEPS_OF_TASK[task])
        return replies.progress_view(progress)

    async def _answer_refusal(self, body: Json, refusal: AccessRefused) -> Json:
        """Say no to a Submit, unless the same one was recorded before: its token is kept, and may be stored by now."""
        try:
            known = await self.records.find(str(body["view"]["id"]))
        except DatabaseTrouble as error:
            return _form_error(error.user_message)
        if known is not None and (known.team_id, known.user_id) == (modal.installed_team_id(body), _user_id(body)):
            return {"response_action": "update", "view": self._view_of(known)}
        if refusal.retryable:
            return _form_error(refusal.user_message)
        return {"response_action": "update", "view": self._refusal_view(refusal)}

    def _view_of(self, submission: Submission) -> Json:
        if submission.is_ended:
            return replies.result_view(RedactedResult.of(submission), contact=self.contact)
        return replies.progress_view(RedactedProgress.of(submission, self.clock(), STEPS_OF_TASK[submission.task]))

    def _refusal_view(self, refusal: AccessRefused) -> Json:
        text = replies.refusal(refusal, contact=self.contact)
        return replies.notice_view("Nothing was sent", f"{text} {_START_AFRESH}")


def _check_kind(pasted: PastedToken) -> str | None:
    problem = modal.NOT_STORABLE.get(pasted.kind)
    return problem.user_message if problem else None


def _wrong_bucket(typed: str) -> str:
    return f"`{escape(html.unescape(typed)[:80])}`: {modal.check_bucket(typed)}"  # Slack escaped it once


def _form_error(problem: str) -> Json:
    """Return an answer that leaves the form, with all that was typed, as it is."""
    return {"response_action": "errors", "errors": {modal.TOKEN_BLOCK: problem}}


def _user_id(body: Json) -> str:
    return str((body.get("user") or {}).get("id", ""))
