"""The buttons of results and of the App Home: open the form filled in, enable a catalog."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext

from bot.model.errors import BotError, CommitUnknown, DatabaseTrouble
from bot.model.submission import BucketKey, NewSubmission, Sealed, State, Submission, Task, TokenKind
from bot.policy.gate import Actor, Gate
from bot.slack import form as modal
from bot.slack.api import SlackWeb
from bot.slack.blocks import Json
from bot.slack.channels import Channels
from bot.slack.form import Filling
from bot.slack.inbound.ingress import RECEIVED_AT
from bot.slack.messages import render as replies
from bot.slack.stories.open_form import FormOpener
from bot.slack.stories.status import STORE
from bot.storage.submissions import Records

_FORGOTTEN = "The bot does not know any more what this button belongs to. Type `/r2-credential` instead."

_ANOTHER_CHANNEL = "To choose another channel, submit the token again: its result offers this button as well."
_UNTIL_RECORDED = (
    "This changes when that is done. If it does not within some minutes, press the button again; enabling a catalog "
    "twice does no harm."
)
_NOT_KNOWN_IF_RECORDED = (
    "The bot's database did not answer in time, so it is not known whether this was recorded. If it was, the result is "
    "posted. Your move: if none comes within a minute, press the button again; enabling a catalog twice does no harm."
)

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
    channels: Channels
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
            known = await self.records.find(_value(body))
            # Both may ask Slack: one after the other would take longer than a trigger lives.
            _, problem = await asyncio.gather(self.gate.check_actor(actor), self._check_enabling(known))
            if known is None or problem:
                await self._tell(actor.user_id, trigger_id, problem or _FORGOTTEN)
                return
            await self._enable(actor, trigger_id, known, context[RECEIVED_AT])
        except BotError as error:
            _log.warning("enabling_refused", user=actor.user_id, error=error.code)
            await self._tell(actor.user_id, trigger_id, replies.refusal(error, contact=self.contact))

    async def _check_enabling(self, known: Submission | None) -> str | None:
        """Say what is wrong with the place of the result, which may have changed; raises AccessRefused for the rest."""
        if known is None:
            return None
        self.gate.check_task(Task.ENABLE)
        self.gate.check_bucket(known.key.bucket)
        self.gate.check_channel(known.channel_id)
        problem = await self.channels.examine(known.channel_id)
        return f"The result would go to <#{known.channel_id}>. {problem} {_ANOTHER_CHANNEL}" if problem else None

    async def _enable(self, actor: Actor, trigger_id: str, known: Submission, received_at: datetime) -> None:
        """Open a view first, since its id is the submission's, as with a form; it promises nothing yet."""
        bucket = known.key.bucket
        view = replies.notice_view(
            "Enabling...", f"The catalog of *{bucket}* is about to be enabled. {_UNTIL_RECORDED}"
        )
        view_id = await self.web.open_view(trigger_id, view)
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
            sealed=Sealed(),
            accepted_at=received_at,
            expires_at=received_at + self.ttl,
        )
        try:
            await self.records.add(new)
        except CommitUnknown:  # it may be there: then somebody has to do it
            await self.web.update_view(view_id, replies.notice_view("Not known if recorded", _NOT_KNOWN_IF_RECORDED))
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
