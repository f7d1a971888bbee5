"""What Slack is asked about follows the rules that hold: other ids are examined at the next examination."""

from dataclasses import replace

from bot.model.finding import Part
from bot.policy.listed import Listed
from bot.sandbox.slack import FakeSlack
from bot.slack.checks import slack_checks
from bot.slack.memberships import Memberships
from bot.slack.profiles import Profiles
from tests.clock import Clock
from tests.slack.checks.conftest import Line

ADA, GROUP, ARCHIVED = "U0ADA0001", "S0DATAENG", "C0OLDWARE"


async def test_other_ids_are_examined_when_the_rules_change(slack: FakeSlack, line: Line, clock: Clock) -> None:
    """People, channels and the scope that reading user groups needs; the same ids keep what was found."""
    granted = tuple(scope for scope in slack.config.scopes if scope != "usergroups:read")
    slack.workspace.config = replace(slack.config, scopes=granted)
    listed = Listed(users=(ADA,), usergroups=(), channels=())
    checks = slack_checks(
        line.web, line.traffic, Memberships(line.web, clock), Profiles(line.web, clock), clock, listed=lambda: listed
    )

    async def examine() -> dict[Part, list[str]]:
        return {check.part: [found.event for found in await check.examine()] for check in checks}

    before = await examine()
    assert (before[Part.PEOPLE], before[Part.CHANNELS]) == (["allowlist_lets_in"], ["channels_any"])
    assert "slack_scope_missing" not in before[Part.SLACK]

    listed = Listed(users=(), usergroups=(GROUP,), channels=(ARCHIVED,))
    after = await examine()
    assert after[Part.PEOPLE] == ["usergroup_unreadable", "allowlist_matches_nobody"]
    assert after[Part.CHANNELS] == ["channel_archived", "no_channel_usable"]
    assert "slack_scope_missing" in after[Part.SLACK]
    assert await examine() == after
