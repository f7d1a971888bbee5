"""The check of the bot token: who it is, whether Slack accepts it, and what was granted."""

from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web as aiohttp_web

from bot.model.finding import Finding, Mark
from bot.network import DIRECT
from bot.sandbox.slack import FakeSlack
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.checks.token import PURPOSES, find_scopes, token_check
from bot.slack.manifest import wanted_scopes
from bot.slack.session import SlackClient, open_session
from bot.slack.traffic import SlackTraffic
from tests.between import stand_between
from tests.slack.checks.conftest import Line

GRANTED = tuple(PURPOSES)


async def _examine(line: Line, *, lists_usergroups: bool = True) -> list[Finding]:
    check = token_check(line.web, line.traffic, lists_usergroups=lists_usergroups, pause=timedelta(0))
    return list(await check.examine())


async def test_a_good_token_is_named_with_its_workspace_and_scopes(line: Line) -> None:
    """Two good findings, with ids that an operator can compare."""
    who, scopes = await _examine(line)

    assert (who.event, who.mark, who.known) == (
        "slack_answers",
        Mark.OK,
        {"team": "T0SANDBOX", "bot_user": "U0R2BOT01"},
    )
    assert "T0SANDBOX" in who.text
    assert (scopes.event, scopes.mark) == ("slack_scopes_granted", Mark.OK)


REFUSALS = ("invalid_auth", "token_revoked", "account_inactive", "token_expired", "not_authed", "made_up_tomorrow")


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_refused_token_blocks_until_slack_accepts_it_again(slack: FakeSlack, line: Line, error: str) -> None:
    """The scopes of a token that is refused are not judged."""
    slack.refuse_bot_token(error)
    [refused] = await _examine(line)
    slack.refuse_bot_token(None)
    after = await _examine(line)

    assert (refused.event, refused.mark, refused.setting) == ("slack_token_refused", Mark.FAILED, "SLACK_BOT_TOKEN")
    assert refused.blocks
    assert refused.fix
    assert error in refused.text
    assert {found.mark for found in after} == {Mark.OK}


TROUBLE: dict[str, tuple[dict[str, Any], str]] = {
    "down": ({"status": 503}, "it has a problem (HTTP 503)"),
    "rate-limited": ({"retry_after": 7}, "it limits the rate of requests (HTTP 429)"),
    "broken": ({"drop_connection": True}, "the connection broke"),
}


@pytest.mark.parametrize(("trouble", "because"), TROUBLE.values(), ids=TROUBLE)
async def test_one_lost_call_is_not_told_and_a_second_one_is(
    slack: FakeSlack, line: Line, trouble: dict[str, Any], because: str
) -> None:
    """All replicas would leave the load balancer at each hiccup of Slack's."""
    tries = 2 if "drop_connection" in trouble else 1  # the client itself repeats a call that broke
    slack.fail_next("auth.test", times=tries, **trouble)
    assert {found.mark for found in await _examine(line)} == {Mark.OK}

    slack.fail_next("auth.test", times=2 * tries, **trouble)
    [found] = await _examine(line)

    assert (found.event, found.mark, found.blocks) == ("slack_not_reached", Mark.FAILED, True)
    assert because in found.text


IDENTITIES: dict[str, tuple[dict[str, Any], str]] = {
    "of a person": ({"team_id": "T0SANDBOX", "user_id": "U0ADA0001"}, "slack_token_of_no_bot"),
    "of an organization": (
        {"team_id": "E0NORTHWD", "enterprise_id": "E0NORTHWD", "is_enterprise_install": True, "bot_id": "B0"},
        "slack_installed_org_wide",
    ),
}


@pytest.mark.parametrize(("identity", "event"), IDENTITIES.values(), ids=IDENTITIES)
async def test_a_token_of_another_kind_blocks(identity: dict[str, Any], event: str) -> None:
    """Slack accepts it, but the bot cannot work with it."""
    traffic = SlackTraffic()
    async with stand_between() as between, open_session(TIMEOUT, DIRECT, traffic) as http:
        between.tamper = lambda _: aiohttp_web.json_response({"ok": True, **identity})
        client = SlackClient(token="xoxb-x", base_url=f"{between.address}/api/", session=http, retry_handlers=[])
        found = await token_check(SlackWeb(client), traffic, lists_usergroups=False).examine()

    assert (found[0].event, found[0].mark, found[0].blocks) == (event, Mark.FAILED, True)
    assert found[0].fix


async def test_a_scope_that_is_removed_and_added_while_the_bot_runs_is_noticed(slack: FakeSlack, line: Line) -> None:
    """Slack names the scopes with each answer."""
    slack.grant(*(scope for scope in GRANTED if scope != "chat:write"))
    _, missing = await _examine(line)
    slack.grant(*GRANTED)
    _, granted = await _examine(line)

    assert (missing.event, missing.about, missing.mark) == ("slack_scope_missing", "chat:write", Mark.FAILED)
    assert "posting results" in missing.text
    assert granted.mark is Mark.OK


SCOPES: dict[str, tuple[set[str] | None, bool, list[tuple[str, str]]]] = {
    "all, and no more": (set(GRANTED), True, [("slack_scopes_granted", "")]),
    "what every token has": ({*GRANTED, "identify"}, True, [("slack_scopes_granted", "")]),
    "one is missing": (set(GRANTED) - {"commands"}, True, [("slack_scope_missing", "commands")]),
    "two are missing": (
        set(GRANTED) - {"commands", "groups:read"},
        True,
        [("slack_scope_missing", "commands"), ("slack_scope_missing", "groups:read")],
    ),
    "nothing granted": ({""}, True, [("slack_scope_missing", scope) for scope in GRANTED]),
    "no groups to read": (set(GRANTED) - {"usergroups:read"}, False, [("slack_scopes_granted", "")]),
    "too many": ({*GRANTED, "pins:read", "files:write"}, True, [("slack_scopes_unneeded", "files:write pins:read")]),
    "no scope at all": ({*GRANTED, "<https://x.example|MARKER>"}, True, [("slack_scopes_granted", "")]),
    "Slack did not say": (None, True, [("slack_scopes_unknown", "")]),
}


@pytest.mark.parametrize(("granted", "lists_usergroups", "expected"), SCOPES.values(), ids=SCOPES)
def test_scopes_are_compared(
    granted: set[str] | None, expected: list[tuple[str, str]], *, lists_usergroups: bool
) -> None:
    """Each missing scope is a finding of its own; one that is not needed is a warning."""
    found = list(find_scopes(granted, lists_usergroups=lists_usergroups))

    assert [(each.event, each.about) for each in found] == expected
    assert all(bool(each.fix) == (each.mark is not Mark.OK) for each in found)
    assert not any("MARKER" in each.text for each in found)
    assert not any(each.blocks for each in found)


def test_an_app_that_was_installed_before_a_scope_was_asked_for_goes_on() -> None:
    """The scope of users.info came later: without it, a warning."""
    [found] = find_scopes(set(GRANTED) - {"users:read"}, lists_usergroups=True)

    assert (found.event, found.about, found.mark) == ("slack_scope_missing", "users:read", Mark.WARNING)


def test_the_scopes_are_those_of_the_manifest() -> None:
    """The bot asks for all of them, and says what each is for."""
    assert PURPOSES.keys() == wanted_scopes()
