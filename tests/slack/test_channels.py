"""Whether a result may go to a channel: Slack's description, the list, and what only a command reveals."""

from datetime import timedelta

import pytest

from bot.model.errors import SlackUnavailable
from bot.slack.channels import GROUP_MESSAGE, GROUP_MESSAGE_LIFETIME, NO_CHANNEL, NOT_LISTED, Channels
from tests.clock import Clock
from tests.desk import ANALYTICS, ARCHIVED, PARTNER, PLATFORM, PRIVATE, Desk


def channels_of(desk: Desk, *listed: str) -> Channels:
    """Return the check with a list of channels, or with none."""
    return Channels(desk.web, lambda channel_id: not listed or channel_id in listed, desk.clock)


FIT = {"the bot is in it": PLATFORM, "public, without the bot": ANALYTICS, "private, without the bot": PRIVATE}


@pytest.mark.parametrize("channel_id", FIT.values(), ids=FIT)
async def test_a_channel_that_a_result_can_reach_is_accepted(desk: Desk, channel_id: str) -> None:
    """By the bot, or by the response URL of the person who chooses it."""
    assert await channels_of(desk).find_problem(channel_id) is None


@pytest.mark.parametrize(
    ("channel_id", "because"),
    [
        pytest.param(ARCHIVED, "it is archived", id="archived"),
        pytest.param(PARTNER, "it is shared with another company", id="shared"),
    ],
)
async def test_an_unfit_channel_is_refused_with_the_reason(desk: Desk, channel_id: str, because: str) -> None:
    """Each reason has words for the form and words for the message that is posted instead."""
    unfit = await channels_of(desk).find_problem(channel_id)
    assert unfit is not None
    assert (unfit.because, unfit.in_form.startswith("This channel is ")) == (because, True)


async def test_slack_is_not_asked_about_a_channel_that_cannot_be_used(desk: Desk) -> None:
    """Neither about an id that is no channel's, nor about a channel that is not listed."""
    channels = channels_of(desk, PLATFORM, "D0PARTNER")
    assert await channels.find_problem("D0PARTNER") is NO_CHANNEL
    assert await channels.find_problem(ANALYTICS) is NOT_LISTED
    assert desk.slack.calls_of("conversations.info") == []


async def test_a_group_message_is_remembered_as_long_as_a_form_is_valid(desk: Desk, clock: Clock) -> None:
    """Slack's answers describe it like a private channel without the bot."""
    channels = channels_of(desk)
    channels.note_group_message(PRIVATE)
    assert await channels.find_problem(PRIVATE) is GROUP_MESSAGE
    clock.advance(GROUP_MESSAGE_LIFETIME - timedelta(seconds=1))
    assert await channels.find_problem(PRIVATE) is GROUP_MESSAGE
    clock.advance(timedelta(seconds=1))
    assert await channels.find_problem(PRIVATE) is None


async def test_a_failed_lookup_is_raised_or_explained(desk: Desk) -> None:
    """A message waits for it; a person reads that it will pass."""
    desk.slack.fail_next("conversations.info", status=503, times=2)
    with pytest.raises(SlackUnavailable):
        await channels_of(desk).find_problem(PLATFORM)
    explained = await channels_of(desk).explain_problem(PLATFORM)
    assert explained == "Slack did not answer about this channel. Please try again in a moment."
