"""What can be examined on Slack's side: one module for each part, and here those that every role has."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from bot.model.finding import Check, Finding
from bot.policy.listed import Listed
from bot.slack.api import SlackWeb
from bot.slack.checks import channels as channels_module
from bot.slack.checks import people as people_module
from bot.slack.checks.channels import channels_check
from bot.slack.checks.people import people_check
from bot.slack.checks.token import token_check
from bot.slack.memberships import Memberships
from bot.slack.profiles import Profiles
from bot.slack.traffic import SlackTraffic


def slack_checks(  # noqa: PLR0913 - what is examined, by name
    web: SlackWeb,
    traffic: SlackTraffic,
    memberships: Memberships,
    profiles: Profiles,
    clock: Callable[[], datetime],
    *,
    listed: Callable[[], Listed],
    is_only_examination: bool = False,
) -> list[Check]:
    """Return the checks of the bot token, of people and of channels; `traffic` is that of the sessions of `web`.

    `listed` returns the ids that the rules name now: other ones are examined afresh. A running bot examines again and
    again, and asks about a few groups and channels at a time.
    """
    if is_only_examination:
        most_groups, most_channels = people_module.LOOKUPS_AT_ONCE, channels_module.LOOKUPS_AT_ONCE
    else:
        most_groups, most_channels = people_module.LOOKUPS, channels_module.LOOKUPS

    def build(ids: Listed) -> list[Check]:
        return [
            token_check(web, traffic, lists_usergroups=bool(ids.usergroups)),
            people_check(memberships, profiles, clock, users=ids.users, usergroups=ids.usergroups, most=most_groups),
            channels_check(web, ids.channels, clock, most=most_channels),
        ]

    return [_follow(number, each, listed, build) for number, each in enumerate(build(listed()))]


def _follow(number: int, check: Check, listed: Callable[[], Listed], build: Callable[[Listed], list[Check]]) -> Check:
    """Return a check that is built anew when other ids are listed."""
    built_for = listed()

    async def examine() -> Sequence[Finding]:
        nonlocal built_for, check
        if (ids := listed()) != built_for:
            built_for, check = ids, build(ids)[number]
        return await check.examine()

    return replace(check, examine=examine)
