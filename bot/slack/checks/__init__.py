"""What can be examined on Slack's side: one module for each part, and here those that every role has."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from bot.model.finding import Check
from bot.slack.api import SlackWeb
from bot.slack.checks.channels import LOOKUPS, channels_check
from bot.slack.checks.people import people_check
from bot.slack.checks.token import token_check
from bot.slack.memberships import Memberships
from bot.slack.traffic import SlackTraffic


def slack_checks(  # noqa: PLR0913 - what is examined, by name
    web: SlackWeb,
    traffic: SlackTraffic,
    memberships: Memberships,
    clock: Callable[[], datetime],
    *,
    users: Collection[str],
    usergroups: Collection[str],
    channels: Sequence[str],
    channel_lookups: int = LOOKUPS,
) -> list[Check]:
    """Return the checks of the bot token, of people and of channels; `traffic` is that of the sessions of `web`."""
    return [
        token_check(web, traffic, lists_usergroups=bool(usergroups)),
        people_check(memberships, users=users, usergroups=usergroups),
        channels_check(web, channels, clock, most=channel_lookups),
    ]
