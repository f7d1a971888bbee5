"""Whether credentials are rotated: what the token, the rules and the schedule say together, each with its fix."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from bot.model.errors import DatabaseUnavailable, StartRefused
from bot.model.finding import Finding, Mark, Part
from bot.model.minted import PRESENT_FOR, Standing
from bot.model.role import Role
from bot.operations.rotation_switch import (
    has_own_switch,
    is_rotation_on,
    minter_check,
    require_grant,
    rotation_check,
)
from bot.policy.rules import USUAL_VERBS, People, Rule, Verb
from bot.settings import Settings
from tests.make import NOW
from tests.test_setting_rotation import MINTER, MINTING, Load, load
from tests.test_settings import GOOD

__all__ = ["load"]  # a fixture

USUAL = Rule(name="rule 1", who=People(users=frozenset({"U0ADA"})), verbs=USUAL_VERBS)
ROTATE = Rule(name="rule 2", who=People(users=frozenset({"U0BOB"})), verbs=frozenset({Verb.ROTATE}))
EVERY = {"R2_CREDENTIAL_ROTATE_EVERY": "30d"}
MICROSECOND = timedelta(microseconds=1)


async def accept() -> Sequence[Finding]:
    """Find the token good."""
    return [Finding(part=Part.ROTATION, event="minting_token_active", text="active")]


async def look(settings: Settings, *rules: Rule) -> list[Finding]:
    """Return what is found with these rules."""
    check = rotation_check(settings, lambda: rules, accept)
    assert check.part is Part.ROTATION
    return [*await check.examine()]


SWITCHES = {
    "neither is there": ({}, [USUAL], ["rotation_off"]),
    "a token that nobody may have used": (MINTING, [USUAL], ["rotation_not_granted"]),
    "no rule at all": (MINTING, [], ["rotation_not_granted"]),
    "a verb without a token": ({}, [USUAL, ROTATE], ["minting_token_missing"]),
    "both": (MINTING, [USUAL, ROTATE], ["rotation_on", "minting_token_active"]),
    "a schedule of nothing": (EVERY, [USUAL], ["rotation_off", "schedule_without_rotation"]),
    "a schedule without a verb": (MINTING | EVERY, [USUAL], ["rotation_not_granted", "schedule_without_rotation"]),
    "a schedule without a token": (EVERY, [ROTATE], ["minting_token_missing", "schedule_without_rotation"]),
    "a schedule of both": (MINTING | EVERY, [ROTATE], ["rotation_on", "minting_token_active"]),
}


@pytest.mark.parametrize(("more", "rules", "events"), SWITCHES.values(), ids=SWITCHES)
async def test_it_takes_a_verb_and_a_token(
    load: Load, more: dict[str, str], rules: list[Rule], events: list[str]
) -> None:
    """One without the other is a warning with its fix; Cloudflare is asked about the token where it is on."""
    settings = load(GOOD | more).settings

    found = await look(settings, *rules)

    assert [each.event for each in found] == events
    assert is_rotation_on(settings, rules) == (events[0] == "rotation_on")
    doubts = [each for each in found if each.event not in ("rotation_on", "rotation_off", "minting_token_active")]
    assert {each.mark for each in doubts} <= {Mark.WARNING}
    assert all(each.setting and each.fix for each in doubts)


async def test_lists_are_no_place_for_the_verb(load: Load) -> None:
    """Where there is no file of rules, the fix says to write one: a rule to add the verb to would not be found."""
    [found] = await look(load(GOOD | MINTING).settings, USUAL)

    assert (found.event, found.setting) == ("rotation_not_granted", "R2_CREDENTIAL_POLICY")
    assert "set it to a file of rules" in found.fix
    assert "to the verbs of a rule" not in found.fix


async def test_a_minter_without_a_rule_does_not_start(load: Load) -> None:
    """Its token is an administrator's: it must not lie in a process that has no use for it."""
    minter = load(MINTER, Role.MINTER).settings
    with pytest.raises(StartRefused, match=r"^R2_CREDENTIAL_POLICY: no rule grants the verb rotate"):
        require_grant(minter, [USUAL])
    require_grant(minter, [USUAL, ROTATE])

    [found] = await look(minter, USUAL)

    assert (found.event, found.mark) == ("rotation_not_granted", Mark.FAILED)


def test_other_roles_start_without_a_rule(load: Load) -> None:
    """Rotation is an addition to them."""
    require_grant(load(GOOD | MINTING).settings, [USUAL])


STANDINGS = {
    "there was never one": (None, "minter_not_seen"),
    "not for a while": (Standing(seen_at=NOW - PRESENT_FOR), "minter_not_seen"),
    "lately": (Standing(seen_at=NOW - PRESENT_FOR + MICROSECOND), "rotation_on"),
    "it is in trouble": (Standing(seen_at=NOW, trouble="minting_not_allowed"), "minter_in_trouble"),
}


@pytest.mark.parametrize(("standing", "event"), STANDINGS.values(), ids=STANDINGS)
async def test_other_processes_know_whether_a_minter_is_at_work(
    load: Load, standing: Standing | None, event: str
) -> None:
    """By what it has noted in the database; without a minter, rotations would wait in silence."""
    settings = load(MINTER | GOOD | {"R2_CREDENTIAL_ALLOWED_USERS": ""}, Role.GATEWAY).settings

    async def read() -> Standing | None:
        return standing

    [found] = await minter_check(settings, lambda: [ROTATE], read, lambda: NOW).examine()

    assert found.event == event
    assert found.mark is (Mark.OK if event == "rotation_on" else Mark.WARNING)
    assert (standing is None) or (standing.trouble or "") in found.text


async def test_no_minter_is_missed_where_no_rule_grants_the_verb(load: Load) -> None:
    """Nor without a database; a schedule without the verb is in vain here as well."""

    async def fail() -> Standing | None:
        raise DatabaseUnavailable

    gateway = load(MINTER | GOOD | EVERY | {"R2_CREDENTIAL_ALLOWED_USERS": ""}, Role.GATEWAY).settings
    off = await minter_check(gateway, lambda: [USUAL], fail, lambda: NOW).examine()
    unknown = await minter_check(gateway, lambda: [ROTATE], fail, lambda: NOW).examine()

    assert [each.event for each in off] == ["rotation_off", "schedule_without_rotation"]
    assert [each.event for each in unknown] == ["minter_not_asked"]


def test_one_process_that_does_all_is_its_own_minter(load: Load) -> None:
    """Unless it shares a database and holds no token: then another process may hold it."""
    shared = {"R2_CREDENTIAL_DATABASE_URL": MINTER["R2_CREDENTIAL_DATABASE_URL"]}
    assert has_own_switch(load(GOOD).settings)
    assert has_own_switch(load(MINTER, Role.MINTER).settings)
    assert has_own_switch(load(GOOD | MINTING | shared).settings)
    assert not has_own_switch(load(GOOD | shared).settings)
