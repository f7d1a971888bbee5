"""A fake Slack, and the clients that the checks are given."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio

from bot.network import DIRECT
from bot.sandbox.slack import FakeSlack
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.session import SlackClient, open_session
from bot.slack.traffic import SlackTraffic
from tests.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A session to Slack, its client, and what it has seen."""

    http: aiohttp.ClientSession
    web: SlackWeb
    traffic: SlackTraffic


@pytest_asyncio.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """Start a fake Slack."""
    async with FakeSlack() as slack:
        yield slack


@pytest_asyncio.fixture
async def line(slack: FakeSlack, clock: Clock) -> AsyncIterator[Line]:
    """Build the clients as the composition root does."""
    traffic = SlackTraffic()
    async with open_session(TIMEOUT, DIRECT, traffic) as http:
        client = SlackClient(token=slack.config.bot_tokens[0], base_url=slack.api_url, session=http, retry_handlers=[])
        yield Line(http=http, web=SlackWeb(client, clock), traffic=traffic)


@pytest.fixture
def web(line: Line) -> SlackWeb:
    """Return the client alone."""
    return line.web
