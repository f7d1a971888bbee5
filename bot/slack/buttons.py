"""The buttons of results and of the App Home: open the form filled in, enable a catalog."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext

from bot.errors import BotError, DatabaseTrouble
from bot.records import Records
from bot.slack import modal, replies
from bot.slack.access import Actor, Gate
from bot.slack.blocks import Json
from bot.slack.ingress import RECEIVED_AT
from bot.slack.modal import Filling
from bot.slack.opening import FormOpener
from bot.slack.results import RedactedProgress
from bot.slack.status import STORE
from bot.slack.web import SlackWeb
from bot.submission import BucketKey, NewSubmission, State, Submission, Task, TokenKind

_FORGOTTEN = "The bot does not know any more what this button belongs to. Type `/r2-credential` instead."

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Buttons:
    """What Bolt calls for a pressed button. Whoever presses one is checked anew: it may be in front of anybody."""

    account_id: str
    ttl: timedelta
    contact: str
    gate: Gate
    records: Records
    web: SlackWeb
    opener: FormOpener
    dispatch: Callable[[BucketKey], None]

    def register(self, app: AsyncApp) -> None:
        """Attach the buttons to Bolt."""
        app.action(replies.TRY_AGAIN)(self.handle_try_again)
        app.action(replies.ENABLE)(self.handle_enable)
        app.action(STORE)(self.handle_store)

    async def handle_try_again(self, ack: AsyncAck, body: Json) -> None:
        """Open the form with everything but the token, for whoever pressed the button and may."""
        await ack()
        value, actor, trigger_id = _value(body), Actor.of_interaction(body), _trigger_id(body)
        pressed_in = (body.get("channel") or {}).get("id")  # none in the App Home
        try:
            known = None if modal.is_bucket_name(value) else await self.records.find(value)
        except DatabaseTrouble as error:
            await self._tell(actor.user_id, trigger_id, replies.refusal(error, contact=self.contact))
            return
        bucket = value if modal.is_bucket_name(value) else ""
        filling = _fill_in(known) if known else Filling(bucket=bucket)
        # A result may be in a direct message because the bot could not post where it was wanted.
        problem = await self.opener.open(actor, trigger_id, filling, known.channel_id if known else pressed_in)
        if problem:
            await self._tell(actor.user_id, trigger_id, problem)

    async def handle_store(self, ack: AsyncAck, body: Json) -> None:
        """Open the empty form from the App Home, which is in no channel."""
        await ack()
        actor, trigger_id = Actor.of_interaction(body), _trigger_id(body)
        problem = await self.opener.open(actor, trigger_id, Filling(), None)
        if problem:
            await self._tell(actor.user_id, trigger_id, problem)

    async def handle_enable(self, ack: AsyncAck, body: Json, context: AsyncBoltContext) -> None:
        """Have the catalog enabled that a submission found missing; the person has confirmed that."""
        await ack()
        actor, trigger_id = Actor.of_interaction(body), _trigger_id(body)
        try:
            await self.gate.check_actor(actor)
            self.gate.check_task(Task.ENABLE)
            known = await self.records.find(_value(body))
            if known is None:
                await self._tell(actor.user_id, trigger_id, _FORGOTTEN)
                return
            self.gate.check_bucket(known.key.bucket)
            self.gate.check_channel(known.channel_id)
            await self._enable(actor, trigger_id, known, context[RECEIVED_AT])
        except BotError as error:
            _log.warning("enabling_refused", user=actor.user_id, error=error.code)
            await self._tell(actor.user_id, trigger_id, replies.refusal(error, contact=self.contact))

    async def _enable(self, actor: Actor, trigger_id: str, known: Submission, received_at: datetime) -> None:
        """Show the progress first: the view's id is the submission's, as with a form."""
        bucket = known.key.bucket
        progress = RedactedProgress(task=Task.ENABLE, bucket=bucket, state=State.ACCEPTED)
        view_id = await self.web.open_view(trigger_id, replies.progress_view(progress))
        new = NewSubmission(
            id=view_id,
            task=Task.ENABLE,
            team_id=self.gate.home.team_id,
            user_id=actor.user_id,
            key=BucketKey(account_id=self.account_id, bucket=bucket),
            channel_id=known.channel_id,
            reason="",
            token_kind=TokenKind.EMPTY,
            last_four="",
            sealed_token=None,
            sealed_response_url=None,
            accepted_at=received_at,
            expires_at=received_at + self.ttl,
        )
        try:
            await self.records.add(new)
        except DatabaseTrouble as error:
            await self.web.update_view(view_id, replies.notice_view("Not enabled", error.user_message))
            return
        _log.info("enabling_received", submission=new.id, user=new.user_id, bucket=bucket)
        self.dispatch(new.key)

    async def _tell(self, user_id: str, trigger_id: str, problem: str) -> None:
        """Say it where the form would be, else (the trigger may be dead) in a direct message."""
        try:
            await self.web.open_view(trigger_id, replies.notice_view("Not possible", problem))
        except BotError:
            try:
                await self.web.post(user_id, {"text": problem}, str(uuid.uuid4()))
            except BotError as error:
                _log.warning("person_not_told", user=user_id, error=str(error))


def _fill_in(known: Submission) -> Filling:
    check_again = known.task is Task.CHECK and known.state is not State.CHECKED
    return Filling(bucket=known.key.bucket, channel_id=known.channel_id, reason=known.reason, check_only=check_again)


def _value(body: Json) -> str:
    return str(next(iter(body.get("actions") or [{}])).get("value", ""))


def _trigger_id(body: Json) -> str:
    return str(body.get("trigger_id", ""))
