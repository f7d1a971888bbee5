"""What the bot asks Slack before it starts: where it is installed, and whether Slack accepts the app token.

Waits while Slack is down, since the bot can do nothing without it. A refusal by Slack ends the start.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

from bot.model.errors import SlackRefused, SlackTrouble, StartRefused
from bot.model.finding import Finding, Part, log_finding
from bot.policy.gate import Home
from bot.slack.api import SlackWeb
from bot.slack.checks.words import app_token_refused, bot_token_refused, installed_org_wide, slack_not_reached

_PAUSE: Final = timedelta(seconds=2)

_T = TypeVar("_T")


async def identify_home(slack: SlackWeb, note: Callable[[Finding], None] = log_finding) -> Home:
    """Return the workspace where the bot is installed; raises StartRefused for an install in a whole organization.

    `note` is called with why it waits, each time that Slack gives no answer.
    """
    home = (await _ask(slack.identify, bot_token_refused, Part.SLACK, note)).home
    if home.is_org_wide:
        raise _refuse(installed_org_wide())
    return home


async def open_first_connection(slack: SlackWeb, app_token: str, note: Callable[[Finding], None] = log_finding) -> str:
    """Return the address of a Socket Mode connection; raises StartRefused when Slack refuses the app token."""
    return await _ask(lambda: slack.open_connection(app_token), app_token_refused, Part.TRANSPORT, note)


async def _ask(
    ask: Callable[[], Awaitable[_T]], explain: Callable[[str], Finding], part: Part, note: Callable[[Finding], None]
) -> _T:
    while True:
        try:
            return await ask()
        except SlackRefused as refusal:
            raise _refuse(explain(refusal.slack_error)) from None
        except SlackTrouble as trouble:
            note(slack_not_reached(trouble, part))
            await asyncio.sleep(_PAUSE.total_seconds())


def _refuse(finding: Finding) -> StartRefused:
    return StartRefused(f"{finding.setting}: {finding.text}" + (f"; {finding.fix}" if finding.fix else ""))
