"""Opens the form, for whoever may, from every place where it can be asked for."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from bot.model.errors import BotError, CommitUnknown, DatabaseUnavailable, SlackRefused
from bot.model.place import DIRECT, is_channel_id
from bot.model.submission import Opening
from bot.policy.gate import Actor
from bot.policy.rules import Verb
from bot.slack import form as modal
from bot.slack.form import Filling
from bot.slack.inbound.payloads import Command, Press
from bot.slack.messages import render
from bot.slack.stories.parts import Parts
from bot.slack.token_advice import advise

OPENING_LIFETIME: Final = timedelta(hours=1)

_TRIGGER_ERRORS: Final = frozenset({"expired_trigger_id", "exchanged_trigger_id", "invalid_trigger_id"})
_NOT_OPENED: Final = (
    "Slack did not open the form: it waits three seconds for the bot, and the bot was too late. Please try again."
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FormOpener:
    """Checks, records the opening, opens."""

    parts: Parts

    def place_of(self, entrance: Command | Press) -> str:
        """Return where a result goes unless the person chooses: the channel that they are in, else to them alone.

        A group message looks like a channel at Submit, so it is remembered.
        """
        channel_id = entrance.channel_id or ""
        if entrance.is_in_group_message:
            self.parts.channels.note_group_message(channel_id)
            return DIRECT
        return "" if is_channel_id(channel_id) else DIRECT

    async def open(self, actor: Actor, trigger_id: str, filling: Filling, asked_in: str | None) -> str:
        """Return what the person reads instead of the form, or nothing when it has opened.

        `asked_in` is the place where it was asked for; None where there is none.
        """
        try:
            permit = await self.parts.gate.permit(actor)
            permit.require(Verb.STORE, filling.key, asked_in)
            offers_direct = permit.refusal(Verb.STORE, filling.key, DIRECT) is None
            await self._open(actor, trigger_id, filling, offers_direct=offers_direct)
        except SlackRefused as refusal:
            _log.warning("form_not_opened", slack_error=refusal.slack_error)
            if refusal.slack_error in _TRIGGER_ERRORS:
                return _NOT_OPENED
            return f"Slack did not open the form ({refusal.slack_error}). Please tell the operator of the bot."
        except BotError as error:
            _log.warning("form_refused", user=actor.user_id, channel=asked_in, error=error.code)
            return render.refusal(error, contact=self.parts.contact)
        return ""

    async def _open(self, actor: Actor, trigger_id: str, filling: Filling, *, offers_direct: bool) -> None:
        nonce = await self._record_opening(actor)
        snapshot = await self.parts.catalogs.snapshot()
        self.parts.want_snapshot()
        catalogs = None if snapshot is None else snapshot.catalogs
        view = modal.build_form(
            nonce=nonce,
            filling=filling,
            catalogs=catalogs,
            offers_direct=offers_direct,
            token_advice=advise(self.parts.account_id, self.parts.max_token_lifetime),
        )
        await self.parts.web.open_view(trigger_id, view)

    async def _record_opening(self, actor: Actor) -> str:
        nonce = secrets.token_hex(16)  # hexadecimal: never taken for a token and masked on its way back
        team_id = self.parts.gate.home.team_id
        expires_at = self.parts.clock() + OPENING_LIFETIME
        opening = Opening(nonce=nonce, team_id=team_id, user_id=actor.user_id, expires_at=expires_at)
        try:
            await self.parts.submissions.add_opening(opening)
        except CommitUnknown:  # an opening that nobody can use does no harm: for the person it is the same
            raise DatabaseUnavailable from None
        return nonce
