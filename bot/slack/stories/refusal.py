"""The text for a refused lookup."""

from typing import Final

import structlog

from bot.model.errors import BotError, DatabaseTrouble
from bot.policy.gate import Actor
from bot.slack.messages import render

_DATABASE_TROUBLE: Final = (
    "The bot's database did not answer, so there is nothing to show. What to do: Try again in a minute; if it fails "
    "again, report it to the operator."
)

_log = structlog.get_logger()


def refuse_lookup(error: BotError, actor: Actor, contact: str) -> str:
    """Return the text for a refused lookup, and log it. A lookup sends nothing, so the text does not mention that."""
    _log.warning("lookup_refused", user=actor.user_id, error=error.code)
    return _DATABASE_TROUBLE if isinstance(error, DatabaseTrouble) else render.refusal(error, contact=contact)
