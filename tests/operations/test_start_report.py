"""The report at the start: missing scopes, and whom and what the allowlists match."""

import io
import json

import pytest

from bot.operations.start_report import Finding, find_missing_scopes, find_people, log_findings
from bot.slack.manifest import wanted_scopes

WANTED = {"commands", "chat:write"}
MISSING: dict[str, tuple[set[str] | None, list[list[str]]]] = {
    "all granted, and more": (WANTED | {"users:read"}, []),
    "one is missing": ({"commands"}, [["chat:write"]]),
    "nothing granted": ({""}, [["chat:write", "commands"]]),
    "Slack did not say": (None, []),
}


@pytest.mark.parametrize(("granted", "missing"), MISSING.values(), ids=MISSING)
def test_missing_scopes_are_named_with_the_fix(granted: set[str] | None, missing: list[list[str]]) -> None:
    """At level error: otherwise a user would find out when a command fails."""
    found = list(find_missing_scopes(granted, WANTED))
    assert [each.known["scopes"] for each in found] == missing
    assert all(each.fix and each.setting for each in found)


def test_the_scopes_are_those_of_the_manifest() -> None:
    """The bot asks for all of them."""
    assert wanted_scopes() == {"commands", "chat:write", "channels:read", "groups:read", "usergroups:read"}


GROUPS: dict[str, tuple[set[str], dict[str, set[str] | None], int, bool]] = {
    "a user": ({"U0ADA"}, {}, 1, False),
    "a group": (set(), {"S0DATA": {"U0ADA", "U0GRACE"}}, 2, False),
    "both, who overlap": ({"U0ADA"}, {"S0DATA": {"U0ADA", "U0GRACE"}}, 2, False),
    "an empty group": (set(), {"S0DATA": set()}, 0, True),
    "a group that Slack did not list": (set(), {"S0DATA": None}, 0, False),
    "an empty group and a user": ({"U0ADA"}, {"S0DATA": set()}, 1, False),
}


@pytest.mark.parametrize(("users", "members", "people", "is_nobody"), GROUPS.values(), ids=GROUPS)
def test_whom_the_allowlist_lets_in_is_counted(
    users: set[str], members: dict[str, set[str] | None], people: int, *, is_nobody: bool
) -> None:
    """An allowlist that matches no one is a warning; a group that Slack did not list is not."""
    first, *others = find_people(users, members)
    assert first.known["people"] == people
    assert [each.event for each in others] == ["allowlist_matches_nobody"] * is_nobody


def test_a_finding_is_a_line(log: io.StringIO) -> None:
    """It has a setting and a fix only if there is something to do."""
    log_findings([Finding(event="good", known={"n": 1}), Finding(event="bad", level=40, setting="S", fix="f")])
    good, bad = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (good["level"], good["n"], "fix" in good) == ("info", 1, False)
    assert (bad["level"], bad["setting"], bad["fix"]) == ("error", "S", "f")
