"""The button that enables a catalog that a submission found missing."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from bot.model.catalog import BucketKey
from bot.model.errors import BotError, CommitUnknown, DatabaseTrouble, SlackConnectionBroke
from bot.model.place import DIRECT, is_channel_id
from bot.model.reference import about
from bot.model.submission import NewSubmission, Sealed, Submission, Task, TokenKind
from bot.policy.rules import Verb
from bot.slack.blocks import Json, escape
from bot.slack.button_values import read_place_value
from bot.slack.inbound.payloads import Press
from bot.slack.inbound.routes import Routes
from bot.slack.messages import render
from bot.slack.stories.parts import Parts
from bot.slack.stories.tell import tell_presser
from bot.storage.accepting import Verdict

_FORGOTTEN: Final = "The bot no longer knows what this button refers to. Type `/r2-credential` instead."
_NOWHERE_TO_ASK: Final = (
    "This has to be approved by someone else, who is asked in the channel of the result, and there is none. Submit a "
    "token with a channel for its result, and press the button there."
)
_ANOTHER_CHANNEL: Final = "To choose another channel, submit the token again: its result offers this button as well."
_UNTIL_RECORDED: Final = (
    "This view changes when that is done. If it does not within a few minutes, press the button again; enabling a "
    "catalog twice does no harm."
)
_NOT_KNOWN_IF_RECORDED: Final = (
    "The bot's database did not answer in time, so it is not known whether this was recorded. If it was, the result is "
    "posted. What to do: If none comes within a minute, press the button again; enabling a catalog twice does no harm."
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EnableCatalog:
    """Anyone can see the button, so each press is checked again. The person has confirmed it."""

    parts: Parts

    def register(self, routes: Routes) -> None:
        """Take the button."""
        routes.on_press(render.ENABLE, self.act)

    async def act(self, press: Press) -> None:
        """Record that the catalog is to be enabled, or say why not."""
        parts = self.parts
        try:
            wanted = await self._find_wanted(press.value)
            # Both may ask Slack: in sequence they could take longer than a trigger lives.
            permit, problem = await asyncio.gather(parts.gate.permit(press.actor), self._examine(wanted))
            if wanted is None:
                await tell_presser(parts.web, press, _FORGOTTEN)
                return
            rule = permit.require(Verb.ENABLE, wanted.key, wanted.place)
            if rule.approvals and (rule.approval_channel or wanted.place) == DIRECT:
                problem = _NOWHERE_TO_ASK
            if problem:
                await tell_presser(parts.web, press, problem)
                return
            await self._enable(press, wanted)
        except BotError as error:
            _log.warning("enabling_refused", user=press.actor.user_id, error=error.code)
            await tell_presser(parts.web, press, render.refusal(error, contact=parts.contact))

    async def _find_wanted(self, value: str) -> "_Wanted | None":
        """Read a button's value: the id of a submission that found no catalog, or a notice's bucket and place."""
        parts = self.parts
        named = read_place_value(value, parts.account_id)
        if named is not None:
            key, place = named
            return _Wanted(key=key, place=place, is_in_notice=True)
        known = await parts.submissions.find(value)
        if known is None or known.key.account_id != parts.account_id:
            return None
        return _Wanted(key=known.key, place=_place(known))

    async def _examine(self, wanted: "_Wanted | None") -> str | None:
        """Return what is wrong with the place of the result, which may have changed, or None."""
        if wanted is None or wanted.place == DIRECT:
            return None
        problem = await self.parts.channels.explain_problem(wanted.place)
        return f"The result would go to <#{wanted.place}>. {problem} {_ANOTHER_CHANNEL}" if problem else None

    async def _show(self, press: Press, wanted: "_Wanted", view: Json) -> str:
        """Open a view, or reuse that of the notice, which has no submission yet; return its id."""
        if not wanted.is_in_notice or not press.view_id:
            view_id = await self.parts.web.open_view(press.trigger_id, view, in_modal=press.is_in_modal)
            if view_id is None:  # the submission would have no id
                raise SlackConnectionBroke
            return view_id
        await self.parts.web.update_view(press.view_id, view)
        return press.view_id

    async def _enable(self, press: Press, wanted: "_Wanted") -> None:
        """Show a view, since its id becomes the submission's, then record; the view promises nothing yet."""
        words = f"The catalog of *{escape(wanted.key.bucket)}* is about to be enabled. {_UNTIL_RECORDED}"
        view_id = await self._show(press, wanted, render.notice_view("Enabling...", words))
        new = self._new_submission(view_id, press, wanted)
        with about(view_id):
            await self._record(new)

    async def _record(self, new: NewSubmission) -> None:
        """Record it; if that fails, the view says so."""
        try:
            await self.parts.submissions.add(new)
        except DatabaseTrouble as error:
            _log.warning("recording_failed", user=new.user_id, error=error.code)
            is_unknown = isinstance(error, CommitUnknown)  # if it is recorded, a process carries it out
            title, words = (
                ("Not known if recorded", _NOT_KNOWN_IF_RECORDED) if is_unknown else ("Not enabled", error.user_message)
            )
            await self.parts.web.update_view(new.id, render.notice_view(title, words))
        else:
            _log.info(
                "submission_received",
                task=new.task.value,
                bucket=new.key.bucket,
                user=new.user_id,
                channel=new.channel_id,
                verdict=Verdict.RECORDED.value,
            )

    def _new_submission(self, view_id: str, press: Press, wanted: "_Wanted") -> NewSubmission:
        return NewSubmission(
            id=view_id,
            task=Task.ENABLE,
            team_id=self.parts.gate.home.team_id,
            user_id=press.actor.user_id,
            key=wanted.key,
            channel_id=wanted.place,
            reason="",
            token_kind=TokenKind.EMPTY,
            last_four="",
            sealed=Sealed(),
            sent_at=press.received_at,
            accepted_at=press.received_at,
            expires_at=press.received_at + self.parts.ttl,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Which catalog is to be enabled, and where the result goes."""

    key: BucketKey
    place: str
    is_in_notice: bool = False


def _place(known: Submission) -> str:
    """Return where the result goes: to the channel of the earlier submission, else to the presser alone."""
    return known.channel_id if is_channel_id(known.channel_id) else DIRECT
