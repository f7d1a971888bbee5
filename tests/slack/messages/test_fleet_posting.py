"""Posting the one message of a fleet: once, edited in place, and never where it may not be read."""

from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
import pytest_asyncio
from slack_sdk.web.async_client import AsyncWebClient

from bot.model.catalog import BucketKey
from bot.model.errors import SlackRefused
from bot.model.fleet import Count, FleetState
from bot.model.submission import Pending
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import dm_id
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.blocks import Json
from bot.slack.channels import Channels
from bot.slack.messages.posting import Poster
from tests.clock import Clock
from tests.make import NOW
from tests.slack.messages.test_fleet import ADA, make_fleet

MEMBER, NOT_MEMBER, ARCHIVED = "C0DATAPLT", "C0ANALYTX", "C0OLDWARE"
COUNT = Count(fleet=make_fleet(channel_id=MEMBER))


async def _by_url(_: Pending, __: Json) -> bool | None:
    raise AssertionError


async def _sees(_: str, __: BucketKey) -> bool:
    raise AssertionError


@pytest_asyncio.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """Start a workspace."""
    async with FakeSlack() as slack:
        yield slack


@pytest_asyncio.fixture
async def poster(slack: FakeSlack) -> AsyncIterator[Poster]:
    """Return a poster."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT.total_seconds())) as http:
        client = AsyncWebClient(token=slack.config.bot_tokens[0], base_url=slack.api_url, session=http)
        client.retry_handlers, client.proxy = [], None
        clock = Clock(NOW)
        web = SlackWeb(client, clock)
        yield Poster(
            web=web,
            post_by_response_url=_by_url,
            clock=clock,
            contact="",
            channels=Channels(web, lambda _: True, clock),
            sees=_sees,
        )


async def test_it_is_posted_and_edited(slack: FakeSlack, poster: Poster) -> None:
    """With the same id at each try, so that Slack knows a second one."""
    message_ts = await poster.post_fleet(COUNT)
    assert message_ts is not None
    await poster.post_fleet(COUNT)
    first, again = slack.calls_of("chat.postMessage")
    assert first.arguments["client_msg_id"] == again.arguments["client_msg_id"]
    running = replace(COUNT.fleet, message_ts=message_ts)
    await poster.update_fleet(Count(fleet=running, open=3))
    [message] = [each for each in slack.messages(MEMBER) if each.ts == message_ts]
    assert message.edited
    assert "3 under way" in message.text


@pytest.mark.parametrize(("channel_id", "error"), [(NOT_MEMBER, "not_in_channel"), (ARCHIVED, ""), ("D0DIRECT1", "")])
async def test_it_is_posted_nowhere_else(slack: FakeSlack, poster: Poster, channel_id: str, error: str) -> None:
    """No other way lets it be edited."""
    if error:
        slack.fail_next("chat.postMessage", error=error)
    with pytest.raises(SlackRefused):
        await poster.post_fleet(Count(fleet=make_fleet(channel_id=channel_id)))
    assert not slack.messages(MEMBER)


async def test_a_channel_that_may_no_longer_read_it_gets_no_edit(poster: Poster) -> None:
    """It was archived, or shared with another company, since."""
    count = Count(fleet=make_fleet(channel_id=ARCHIVED, message_ts="1700000000.000100"))
    with pytest.raises(SlackRefused):
        await poster.update_fleet(count)


async def test_the_end_reaches_who_began_it(slack: FakeSlack, poster: Poster) -> None:
    """As a direct message."""
    fleet = make_fleet(state=FleetState.STOPPING, stopped_by=ADA)
    await poster.tell_fleet_ended(Count(fleet=fleet, is_over=True))
    [message] = slack.messages(dm_id(ADA), ADA)
    assert "Stopped: 0 of 5 buckets rotated." in message.text
