"""What the bot asks Slack before it starts: where it is installed, and whether Slack accepts the app token.

Waits while Slack is down, since the bot can do nothing without it. A refusal by Slack ends the start.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from bot.model.errors import SlackRefused, SlackTrouble, StartRefused
from bot.policy.gate import Home
from bot.slack.api import SlackWeb

_PAUSE: Final = timedelta(seconds=2)

_T = TypeVar("_T")

_log = structlog.get_logger()


async def identify_home(slack: SlackWeb) -> Home:
    """Return the workspace where the bot is installed; raises StartRefused for an install in a whole organization."""
    home = await _ask(slack.identify, "SLACK_BOT_TOKEN", "copy it again from OAuth & Permissions")
    if home.is_org_wide:
        message = (
            "SLACK_BOT_TOKEN: the app is installed in the whole organization, which is not supported. Install it in "
            "one workspace (Install App in the app's settings), and take the bot token of that"
        )
        raise StartRefused(message)
    return home


async def open_first_connection(slack: SlackWeb, app_token: str) -> str:
    """Return the address of a Socket Mode connection; raises StartRefused when Slack refuses the app token."""
    return await _ask(
        lambda: slack.open_connection(app_token), "SLACK_APP_TOKEN", "it needs the scope connections:write"
    )


async def _ask(ask: Callable[[], Awaitable[_T]], setting: str, fix: str) -> _T:
    while True:
        try:
            return await ask()
        except SlackRefused as refusal:
            message = f"{setting}: Slack refused it ({refusal.slack_error}); {fix}"
            raise StartRefused(message) from None
        except SlackTrouble:
            _log.warning("slack_not_reached", next_try_in_seconds=_PAUSE.total_seconds())
            await asyncio.sleep(_PAUSE.total_seconds())
