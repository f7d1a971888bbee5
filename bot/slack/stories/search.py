"""The type-ahead of the form's bucket field: offers the catalogs that match what was typed."""

from dataclasses import dataclass
from typing import Final

import structlog

from bot.model.errors import BotError
from bot.policy.rules import Verb
from bot.slack import form as modal
from bot.slack import rotate_form
from bot.slack.blocks import Json
from bot.slack.inbound.payloads import Search
from bot.slack.inbound.routes import Routes
from bot.slack.stories.in_form import permit_in_form
from bot.slack.stories.parts import Parts

_VERBS: Final = {
    modal.BUCKET_ACTION: (Verb.STORE, Verb.CHECK),
    rotate_form.BUCKET_ACTION: (Verb.ROTATE,),
}
"""What the person may do with a bucket that is offered, by the field."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BucketSearch:
    """Offers nothing to a person who may not use the bot, and only catalogs that the person may see."""

    parts: Parts

    def register(self, routes: Routes) -> None:
        """Take what is typed into the field of either form."""
        for action_id in _VERBS:
            routes.on_search(action_id, self.answer)

    async def answer(self, search: Search) -> list[Json]:
        """Return the options."""
        parts = self.parts
        try:
            permit = await permit_in_form(parts, search.actor, search.nonce)
            seen = await parts.visibility.of(permit, *_VERBS[search.action_id])
        except BotError as error:
            _log.info("options_refused", user=search.actor.user_id, error=error.code)
            return []
        parts.want_snapshot()
        return modal.build_options(seen.names, seen.catalog, search.query)
