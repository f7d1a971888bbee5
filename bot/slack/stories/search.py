"""The type-ahead of the form's bucket field: offers the catalogs that match what was typed."""

from dataclasses import dataclass

import structlog

from bot.model.errors import BotError
from bot.policy.rules import Verb
from bot.slack import form as modal
from bot.slack.blocks import Json
from bot.slack.inbound.payloads import Search
from bot.slack.inbound.routes import Routes
from bot.slack.stories.in_form import permit_in_form
from bot.slack.stories.parts import Parts

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BucketSearch:
    """Offers nothing to a person who may not use the bot, and only catalogs that the person may see."""

    parts: Parts

    def register(self, routes: Routes) -> None:
        """Take what is typed into the field."""
        routes.on_search(modal.BUCKET_ACTION, self.answer)

    async def answer(self, search: Search) -> list[Json]:
        """Return the options."""
        parts = self.parts
        try:
            permit = await permit_in_form(parts, search.actor, search.nonce)
            seen = await parts.visibility.of(permit, Verb.STORE, Verb.CHECK)
        except BotError as error:
            _log.info("options_refused", user=search.actor.user_id, error=error.code)
            return []
        parts.want_snapshot()
        return modal.build_options(seen.names, seen.catalog, search.query)
