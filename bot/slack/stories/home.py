"""The App Home: the state of the catalogs for those who may see it, and a button for the form."""

from dataclasses import dataclass
from typing import Final

import structlog

from bot.model.errors import BotError
from bot.policy.gate import Actor
from bot.policy.rules import Verb
from bot.slack.blocks import Json
from bot.slack.inbound.payloads import Opened, Press
from bot.slack.inbound.routes import Routes
from bot.slack.stories.live_table import LiveTables
from bot.slack.stories.parts import Parts
from bot.slack.stories.refusal import refuse_lookup
from bot.slack.stories.table import NEXT_PAGE, PREVIOUS_PAGE, Look, Table, home_view, notice_home

_ONLY_ONE: Final = "0" * 8
"""Each person has one Home, so its pages need no distinct id."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AppHome:
    """An entrance that no other app's command can shadow; it is in no channel."""

    parts: Parts
    tables: LiveTables

    def register(self, routes: Routes) -> None:
        """Take the opened tab, and the buttons that turn its pages."""
        routes.on_opened(self.open)
        routes.on_press(PREVIOUS_PAGE, self.turn_page, in_view=True)
        routes.on_press(NEXT_PAGE, self.turn_page, in_view=True)

    async def open(self, opened: Opened) -> None:
        """Show what this person may see, or why that is nothing."""
        if opened.tab == "home":
            await self._fill(opened.actor, Look(id=_ONLY_ONE))

    async def turn_page(self, press: Press) -> None:
        """Show another page."""
        look = Look.of_value(press.value)
        if look is not None:
            await self._fill(press.actor, Look(id=_ONLY_ONE, page=look.page))

    async def _fill(self, actor: Actor, look: Look) -> None:
        async def show(table: Table) -> None:
            await self._publish(actor, home_view(table, look))

        try:
            permit = await self.parts.gate.permit(actor)
            permit.require(Verb.STATUS, None, None)
            table = await self.tables.begin(f"home of {actor.user_id}", actor, permit, None, show)
        except BotError as error:
            await self._publish(actor, notice_home(refuse_lookup(error, actor, self.parts.contact)))
        else:
            await show(table)

    async def _publish(self, actor: Actor, view: Json) -> None:
        try:
            await self.parts.web.publish_home(actor.user_id, view)
        except BotError as error:
            _log.warning("home_not_published", user=actor.user_id, error=str(error))
