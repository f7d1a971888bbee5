"""What the start says when Slack refuses a token: the setting, the cause and the fix, in one line."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.model.errors import StartRefused
from bot.sandbox.slack import FakeSlack
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.session import SlackClient, open_session
from bot.slack.startup import identify_home, open_first_connection


@pytest_asyncio.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """Start a fake Slack."""
    async with FakeSlack() as slack:
        yield slack


@pytest_asyncio.fixture
async def slack_web(slack: FakeSlack) -> AsyncIterator[SlackWeb]:
    """Return a client with the bot's token."""
    async with open_session(TIMEOUT) as http:
        client = SlackClient(token=slack.config.bot_tokens[0], base_url=slack.api_url, session=http, retry_handlers=[])
        yield SlackWeb(client)


BOT_TOKEN = {
    "invalid_auth": "does not know this bot token, .*; copy the Bot User OAuth Token again from OAuth & Permissions",
    "token_revoked": "was revoked, .*; install the app again",
    "account_inactive": "the app was removed .*; install the app again",
    "token_expired": "has expired, .*; .* create a new app from manifest.yml",
    "not_allowed_token_type": "a token of another kind .*; copy",
    "accesslimited": "no requests from this network .*; allow this network",
    "ekm_access_denied": "suspended the app .*; ask an administrator",
    "org_login_required": r"moved into an organization \(org_login_required\)$",
    "made_up_tomorrow": r"Slack refuses the bot token \(made_up_tomorrow\); copy",
}


@pytest.mark.parametrize("error", BOT_TOKEN)
async def test_a_refused_bot_token_ends_the_start(slack: FakeSlack, slack_web: SlackWeb, error: str) -> None:
    """An unknown refusal has the most likely fix."""
    slack.fail_next("auth.test", error=error)

    with pytest.raises(StartRefused, match=f"^SLACK_BOT_TOKEN: .*{BOT_TOKEN[error]}"):
        await identify_home(slack_web)


APP_TOKEN = {
    "invalid_auth": "does not know this app-level token, .*; generate an App-Level Token",
    "missing_scope": r"lacks the scope connections:write \(missing_scope\); generate",
    "not_allowed_token_type": "another kind .*; generate",
    "socket_mode_not_enabled": "Socket Mode is switched off in the app .*; switch it on",
    "made_up_tomorrow": r"Slack refuses the app-level token \(made_up_tomorrow\); generate",
}


@pytest.mark.parametrize("error", APP_TOKEN)
async def test_a_refused_app_token_ends_the_start(slack: FakeSlack, slack_web: SlackWeb, error: str) -> None:
    """Among other causes, Socket Mode may be switched off."""
    slack.fail_next("apps.connections.open", error=error)

    with pytest.raises(StartRefused, match=f"^SLACK_APP_TOKEN: .*{APP_TOKEN[error]}"):
        await open_first_connection(slack_web, "xapp-sandbox-app")
