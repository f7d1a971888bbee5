"""What the bot asks Slack before it starts: where it is installed, and whether Slack accepts the app token.

Waits while Slack is down, since the bot can do nothing without it. A refusal by Slack ends the start.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from bot.model.errors import SlackRefused, SlackTrouble, StartRefused
from bot.model.finding import Finding
from bot.policy.gate import Home
from bot.slack.api import SlackWeb
from bot.slack.checks.words import app_token_refused, bot_token_refused, installed_org_wide, slack_not_reached

_PAUSE: Final = timedelta(seconds=2)

_T = TypeVar("_T")

_log = structlog.get_logger()


async def identify_home(slack: SlackWeb) -> Home:
    """Return the workspace where the bot is installed; raises StartRefused for an install in a whole organization."""
    home = (await _ask(slack.identify, bot_token_refused)).home
    if home.is_org_wide:
        raise _refuse(installed_org_wide())
    return home


async def open_first_connection(slack: SlackWeb, app_token: str) -> str:
    """Return the address of a Socket Mode connection; raises StartRefused when Slack refuses the app token."""
    return await _ask(lambda: slack.open_connection(app_token), app_token_refused)


async def _ask(ask: Callable[[], Awaitable[_T]], explain: Callable[[str], Finding]) -> _T:
    """Ask until Slack answers; each new cause of a silence is logged once."""
    said: Finding | None = None
    while True:
        try:
            return await ask()
        except SlackRefused as refusal:
            raise _refuse(explain(refusal.slack_error)) from None
        except SlackTrouble as trouble:
            found = slack_not_reached(trouble)
            if found != said:
                _log_silence(found)
            said = found
            await asyncio.sleep(_PAUSE.total_seconds())


def _refuse(finding: Finding) -> StartRefused:
    return StartRefused(f"{finding.setting}: {finding.text}" + (f"; {finding.fix}" if finding.fix else ""))


def _log_silence(finding: Finding) -> None:
    what_to_do = {"setting": finding.setting or None, "fix": finding.fix} if finding.fix else {}
    _log.warning(finding.event, found=finding.text, **what_to_do, next_try_in_seconds=_PAUSE.total_seconds())
