"""The check of listed channels: what is wrong with each, few lookups at a time, and recovery."""

from datetime import timedelta
from itertools import pairwise

import pytest

from bot.model.finding import Check, Finding, Mark
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import Channel
from bot.slack.api import SlackWeb
from bot.slack.checks.channels import LOOKUPS, channels_check
from tests.clock import Clock

PLATFORM, ANALYTICS, ARCHIVED, SHARED, PRIVATE = "C0DATAPLT", "C0ANALYTX", "C0OLDWARE", "C0PARTNER", "G0INCID42"
MINUTE = timedelta(minutes=1)


async def _examine(check: Check) -> list[Finding]:
    return list(await check.examine())


BAD = {
    "archived": (ARCHIVED, "channel_archived", "take it off the list"),
    "shared": (SHARED, "channel_shared", "take it off the list"),
    "private, without the bot": (PRIVATE, "channel_not_found", "/invite"),
    "unknown": ("C0NOWHERE", "channel_not_found", "take it off the list"),
    "public, without the bot": (ANALYTICS, "channel_without_bot", "/invite"),
    "a group message": ("G0MPIM001", "channel_is_group_message", "take it off the list"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_each_bad_channel_is_a_warning_with_its_fix(
    slack: FakeSlack, web: SlackWeb, clock: Clock, kind: str
) -> None:
    """By its id; the others are counted as usable."""
    channel_id, event, fix = BAD[kind]
    slack.workspace.change_channel(Channel(id="G0MPIM001", name="mpdm", is_mpim=True, bot_is_member=True))
    slack.grant(*slack.config.scopes, "mpim:read")
    bad, summary = await _examine(channels_check(web, (PLATFORM, channel_id), clock))

    assert (bad.event, bad.mark, bad.about, bad.setting) == (
        event,
        Mark.WARNING,
        channel_id,
        "R2_CREDENTIAL_ALLOWED_CHANNELS",
    )
    assert channel_id in bad.text
    assert fix in bad.fix
    assert (summary.event, summary.mark, summary.known["usable"]) == ("channels_listed", Mark.OK, 1)


async def test_without_a_list_any_channel_will_do(slack: FakeSlack, web: SlackWeb, clock: Clock) -> None:
    """Slack is not asked."""
    [found] = await _examine(channels_check(web, (), clock))

    assert (found.event, found.mark) == ("channels_any", Mark.OK)
    assert slack.calls == []


async def test_a_list_of_useless_channels_has_failed(web: SlackWeb, clock: Clock) -> None:
    """Nobody could choose a channel for a result."""
    *_, last = await _examine(channels_check(web, (ARCHIVED, SHARED, "C0NOWHERE"), clock))

    assert (last.event, last.mark) == ("no_channel_usable", Mark.FAILED)


async def test_a_list_of_channels_without_the_bot_has_not_failed(web: SlackWeb, clock: Clock) -> None:
    """Results go there for half an hour."""
    *_, last = await _examine(channels_check(web, (ANALYTICS,), clock))

    assert last.mark is Mark.OK


async def test_a_channel_that_is_archived_and_back_is_noticed(slack: FakeSlack, web: SlackWeb, clock: Clock) -> None:
    """The first within an hour, the second within minutes."""
    check = channels_check(web, (PLATFORM,), clock)
    assert len(await _examine(check)) == 1
    slack.change_channel(PLATFORM, is_archived=True)
    clock.advance(timedelta(hours=1))
    archived, _ = await _examine(check)
    slack.change_channel(PLATFORM, is_archived=False)
    clock.advance(timedelta(minutes=5))
    [after] = await _examine(check)

    assert archived.event == "channel_archived"
    assert after.known["usable"] == 1


async def test_two_hundred_channels_are_looked_up_slowly(slack: FakeSlack, web: SlackWeb, clock: Clock) -> None:
    """Never more than ten a minute, and each once an hour."""
    channels = [f"C0{number:07}" for number in range(200)]
    for each in channels:
        slack.workspace.change_channel(Channel(id=each, name=each.lower(), bot_is_member=True))
    check = channels_check(web, channels, clock)
    counts = []
    for _ in range(60):
        *_, last = await _examine(check)
        counts.append(len(slack.calls_of("conversations.info")))
        clock.advance(MINUTE)

    assert counts[0] == LOOKUPS
    assert max(after - before for before, after in pairwise(counts)) == LOOKUPS
    assert counts[-1] == len(channels)
    assert last.known["usable"] == len(channels)


async def test_a_list_that_is_looked_up_in_part_says_so(web: SlackWeb, clock: Clock) -> None:
    """It has not failed while good channels may follow."""
    *_, last = await _examine(channels_check(web, (ARCHIVED, SHARED, PLATFORM), clock, most=2))

    assert (last.mark, last.known["looked_up"]) == (Mark.OK, 2)
    assert "of the 2 looked up so far" in last.text


TROUBLE = {
    "missing_scope": ("channels_not_examined", Mark.WARNING),
    "internal_error": ("channels_not_answered", Mark.WARNING),
}


@pytest.mark.parametrize("error", TROUBLE)
async def test_a_slack_that_does_not_tell_is_asked_again_a_minute_later(
    slack: FakeSlack, web: SlackWeb, clock: Clock, error: str
) -> None:
    """The first failure ends an examination: the next lookup would fail as well, and count."""
    check = channels_check(web, (PLATFORM, ARCHIVED), clock)
    slack.fail_next("conversations.info", error=error)
    first = await _examine(check)
    asked = len(slack.calls_of("conversations.info"))
    clock.advance(MINUTE)
    second = await _examine(check)

    assert ([(each.event, each.mark) for each in first], asked) == ([TROUBLE[error]], 1)
    assert [each.event for each in second] == ["channel_archived", "channels_listed"]
