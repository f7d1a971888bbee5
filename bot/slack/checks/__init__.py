"""What can be examined on Slack's side: one module for each part, and here those that every role has."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from bot.model.finding import Check
from bot.slack.api import SlackWeb
from bot.slack.checks import channels as channels_module
from bot.slack.checks import people as people_module
from bot.slack.checks.channels import channels_check
from bot.slack.checks.people import people_check
from bot.slack.checks.token import token_check
from bot.slack.memberships import Memberships
from bot.slack.people import People
from bot.slack.traffic import SlackTraffic


def slack_checks(  # noqa: PLR0913 - what is examined, by name
    web: SlackWeb,
    traffic: SlackTraffic,
    memberships: Memberships,
    people: People,
    clock: Callable[[], datetime],
    *,
    users: Collection[str],
    usergroups: Sequence[str],
    channels: Sequence[str],
    is_only_examination: bool = False,
) -> list[Check]:
    """Return the checks of the bot token, of people and of channels; `traffic` is that of the sessions of `web`.

    A running bot examines again and again, and asks about a few groups and channels at a time.
    """
    if is_only_examination:
        most_groups, most_channels = people_module.LOOKUPS_AT_ONCE, channels_module.LOOKUPS_AT_ONCE
    else:
        most_groups, most_channels = people_module.LOOKUPS, channels_module.LOOKUPS
    return [
        token_check(web, traffic, lists_usergroups=bool(usergroups)),
        people_check(memberships, people, clock, users=users, usergroups=usergroups, most=most_groups),
        channels_check(web, channels, clock, most=most_channels),
    ]
