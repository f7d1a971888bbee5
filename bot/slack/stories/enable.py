"""The button that enables a catalog which a submission found missing."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from bot.model.errors import BotError, CommitUnknown, DatabaseTrouble, SlackConnectionBroke
from bot.model.place import DIRECT, is_channel_id
from bot.model.submission import NewSubmission, Sealed, Submission, Task, TokenKind
from bot.policy.rules import Verb
from bot.slack.blocks import escape
from bot.slack.inbound.payloads import Press
from bot.slack.inbound.routes import Routes
from bot.slack.messages import render
from bot.slack.stories.parts import Parts
from bot.slack.stories.tell import tell_presser

_FORGOTTEN: Final = "The bot does not know any more what this button belongs to. Type `/r2-credential` instead."
_ANOTHER_CHANNEL: Final = "To choose another channel, submit the token again: its result offers this button as well."
_UNTIL_RECORDED: Final = (
    "This changes when that is done. If it does not within some minutes, press the button again; enabling a catalog "
    "twice does no harm."
)
_NOT_KNOWN_IF_RECORDED: Final = (
    "The bot's database did not answer in time, so it is not known whether this was recorded. If it was, the result is "
    "posted. Your move: if none comes within a minute, press the button again; enabling a catalog twice does no harm."
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EnableCatalog:
    """Whoever presses the button is checked anew: it may be in front of anybody. The person has confirmed it."""

    parts: Parts

    def register(self, routes: Routes) -> None:
        """Take the button."""
        routes.on_press(render.ENABLE, self.act)

    async def act(self, press: Press) -> None:
        """Have the catalog enabled, or say why not."""
        parts = self.parts
        try:
            known = await parts.submissions.find(press.value)
            # Both may ask Slack: one after the other would take longer than a trigger lives.
            permit, problem = await asyncio.gather(parts.gate.permit(press.actor), self._examine(known))
            if known is None or known.key.account_id != parts.account_id:
                await tell_presser(parts.web, press, _FORGOTTEN)
                return
            permit.require(Verb.ENABLE, known.key, _place(known))
            if problem:
                await tell_presser(parts.web, press, problem)
                return
            await self._enable(press, known)
        except BotError as error:
            _log.warning("enabling_refused", user=press.actor.user_id, error=error.code)
            await tell_presser(parts.web, press, render.refusal(error, contact=parts.contact))

    async def _examine(self, known: Submission | None) -> str | None:
        """Say what is wrong with the place of the result, which may have changed."""
        if known is None or _place(known) == DIRECT:
            return None
        problem = await self.parts.channels.explain_problem(known.channel_id)
        return f"The result would go to <#{known.channel_id}>. {problem} {_ANOTHER_CHANNEL}" if problem else None

    async def _enable(self, press: Press, known: Submission) -> None:
        """Open a view first, since its id is the submission's, as with a form; it promises nothing yet."""
        parts, bucket = self.parts, known.key.bucket
        words = f"The catalog of *{escape(bucket)}* is about to be enabled. {_UNTIL_RECORDED}"
        view_id = await parts.web.open_view(press.trigger_id, render.notice_view("Enabling...", words))
        if view_id is None:  # the submission would have no id
            raise SlackConnectionBroke
        new = self._new_submission(view_id, press, known)
        try:
            await parts.submissions.add(new)
        except CommitUnknown:  # it may be there: then somebody has to do it
            await parts.web.update_view(view_id, render.notice_view("Not known if recorded", _NOT_KNOWN_IF_RECORDED))
        except DatabaseTrouble as error:
            await parts.web.update_view(view_id, render.notice_view("Not enabled", error.user_message))
            return
        _log.info("enabling_received", submission=new.id, user=new.user_id, bucket=bucket)

    def _new_submission(self, view_id: str, press: Press, known: Submission) -> NewSubmission:
        return NewSubmission(
            id=view_id,
            task=Task.ENABLE,
            team_id=self.parts.gate.home.team_id,
            user_id=press.actor.user_id,
            key=known.key,
            channel_id=_place(known),
            reason="",
            token_kind=TokenKind.EMPTY,
            last_four="",
            sealed=Sealed(),
            sent_at=press.received_at,
            accepted_at=press.received_at,
            expires_at=press.received_at + self.parts.ttl,
        )


def _place(known: Submission) -> str:
    """Return where the result goes: to the channel of the one that found no catalog, else to who presses, alone."""
    return known.channel_id if is_channel_id(known.channel_id) else DIRECT
