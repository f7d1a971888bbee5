"""`status`: shows the state of the catalogs at once, and replaces it when fresh data arrives."""

import secrets
from dataclasses import dataclass

import structlog

from bot.model.errors import BotError
from bot.model.secret import Secret
from bot.policy.rules import Verb
from bot.slack.blocks import Json
from bot.slack.inbound.payloads import Command, Press
from bot.slack.inbound.routes import Routes
from bot.slack.stories.live_table import LiveTables, Show
from bot.slack.stories.parts import Parts
from bot.slack.stories.refusal import refuse_lookup
from bot.slack.stories.table import NEXT_PAGE, PREVIOUS_PAGE, Look, Table, status_message
from bot.slack.subcommands import STATUS

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Status:
    """Every message after the first uses the response URL of the command or the pressed button."""

    parts: Parts
    tables: LiveTables

    def register(self, routes: Routes) -> None:
        """Take the subcommand, and the buttons that turn its pages."""
        routes.on_command(STATUS, self.answer)
        routes.on_press(PREVIOUS_PAGE, self.turn_page, in_view=False)
        routes.on_press(NEXT_PAGE, self.turn_page, in_view=False)

    async def answer(self, command: Command) -> str | Json:
        """Return what the person reads at once."""
        key = self.parts.key(command.bucket) if command.bucket else None
        look = Look(id=secrets.token_hex(4), key=key)
        try:
            permit = await self.parts.gate.permit(command.actor)
            permit.require(Verb.STATUS, key, command.channel_id)
            show = self._replace_by(command.answer_url, look)
            table = await self.tables.begin(look.id, command.actor, permit, command.channel_id, show)
        except BotError as error:
            return refuse_lookup(error, command.actor, self.parts.contact)
        return status_message(table, look)

    async def turn_page(self, press: Press) -> None:
        """Replace the page with the button by another page, or by a refusal."""
        look = Look.of_value(press.value)
        if look is None:
            return
        show = self._replace_by(press.answer_url, look)
        try:
            permit = await self.parts.gate.permit(press.actor)
            permit.require(Verb.STATUS, None, press.channel_id)
            table = await self.tables.begin(look.id, press.actor, permit, press.channel_id, show)
        except BotError as error:
            await self._post(press.answer_url, {"text": refuse_lookup(error, press.actor, self.parts.contact)})
        else:
            await show(table)

    def _replace_by(self, url: Secret | None, look: Look) -> Show:
        async def show(table: Table) -> None:
            await self._post(url, status_message(table, look))

        return show

    async def _post(self, url: Secret | None, message: Json) -> None:
        replacing = message | {"replace_original": True}
        if url is not None and not await self.parts.slack_post.post(url, replacing):
            _log.warning("lookup_not_answered")
