"""Recognizes payloads about the views and messages of other apps: the bot answers for its own only.

Slack sends an app nothing about another app's views. What looks like that was sent with a stolen signing secret, or
with the secret or token of two apps.
"""

from typing import Final

from bot.slack.api import SlackWeb
from bot.slack.blocks import Json
from bot.slack.inbound.payloads import object_of

_ABOUT_APPS: Final = ("view", "message")


class Owner:
    """Compares a payload with itself, and with what Slack said of the bot's own views."""

    def __init__(self, web: SlackWeb) -> None:
        self._web = web

    def disowns(self, body: Json) -> bool:
        """Return whether any part of a payload names another app, or another app's bot as that of a view."""
        event = object_of(body.get("event"))
        parts = [object_of(part.get(name)) for part in (body, event) for name in _ABOUT_APPS]
        apps = {str(app) for app in (body.get("api_app_id"), *(part.get("app_id") for part in parts)) if app}
        bots = {str(bot) for bot in (object_of(body.get("view")).get("bot_id"),) if bot}
        return len(apps | {self._web.app_id} - {""}) > 1 or len(bots | {self._web.bot_id} - {""}) > 1
