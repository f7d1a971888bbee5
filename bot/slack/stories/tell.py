"""Shows a person who pressed a button why nothing happened."""

import uuid

import structlog

from bot.model.errors import BotError
from bot.slack.api import SlackWeb
from bot.slack.inbound.payloads import Press
from bot.slack.messages import render

_log = structlog.get_logger()


async def tell_presser(web: SlackWeb, press: Press, problem: str) -> None:
    """Show the problem in a modal, or in a direct message if the trigger has expired."""
    try:
        await web.open_view(press.trigger_id, render.notice_view("Not possible", problem), in_modal=press.is_in_modal)
    except BotError:
        try:
            await web.post(press.actor.user_id, {"text": problem}, str(uuid.uuid4()))
        except BotError as error:
            _log.warning("person_not_told", user=press.actor.user_id, error=str(error))
