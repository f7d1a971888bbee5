"""The settings of rotation, and of the process that mints: what it needs, and what it must not hold."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bot.model.role import Role
from bot.model.secret import Secret
from bot.model.token_name import Scope
from bot.settings import (
    LoadedSettings,
    MinterSettings,
    SettingsError,
    SlackSettings,
    find_secret_variables,
    load_settings,
)
from tests.test_settings import GOOD, OURS

MINTING = {"CLOUDFLARE_MINTING_TOKEN": "cfat_MADEUP0000000001"}
MINTER = MINTING | {
    "CLOUDFLARE_ACCOUNT_ID": GOOD["CLOUDFLARE_ACCOUNT_ID"],
    "R2_CREDENTIAL_DATABASE_URL": "postgresql://bot@127.0.0.1/bot",
    "R2_CREDENTIAL_SEALING_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----\nMADEUP\n-----END PUBLIC KEY-----",
    "R2_CREDENTIAL_AUDIT_KEY": "k" * 32,
    "R2_CREDENTIAL_POLICY": "policy.toml",
}
"""All that a minter needs."""

PRIVATE_KEY = "-----BEGIN PRIVATE KEY-----\nMADEUP\n-----END PRIVATE KEY-----"
OF_OTHERS = {
    "SLACK_BOT_TOKEN": "xoxb-MADEUP-1",
    "SLACK_APP_TOKEN": "xapp-MADEUP-1",
    "SLACK_SIGNING_SECRET": "a" * 32,
    "CLOUDFLARE_API_TOKEN": "cfat_MADEUP0000000000",
    "R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY,
}
"""What a minter must not hold, in one login of Cloudflare's."""

Load = Callable[..., LoadedSettings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Return a function that loads the settings of a role from these variables alone."""
    monkeypatch.chdir(tmp_path)

    def load_with(variables: dict[str, str], role: Role = Role.ALL) -> LoadedSettings:
        for name in list(os.environ):
            if name.upper().startswith(OURS):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings(role=role)

    return load_with


def problems(load: Load, variables: dict[str, str], role: Role = Role.ALL) -> list[str]:
    """Load the settings, which must fail, and return the problems."""
    with pytest.raises(SettingsError) as refusal:
        load(variables, role)
    return refusal.value.problems


def test_nothing_is_rotated_unless_it_is_asked_for(load: Load) -> None:
    """There is no minting token; the rest has the documented defaults, the schedule for what a person has begun."""
    settings = load(GOOD).settings

    assert (settings.cloudflare_minting_token, settings.rotate_buckets) == (None, ())
    assert settings.rotate_every == timedelta(days=30)
    assert (settings.rotate_grace, settings.rotate_scope) == (timedelta(hours=1), Scope.BUCKET)
    assert settings.rotate_quota == 500


def test_a_schedule_is_off_or_at_least_a_day(load: Load) -> None:
    """What is set is what holds."""
    more = {
        "R2_CREDENTIAL_ROTATE_EVERY": "30d",
        "R2_CREDENTIAL_ROTATE_BUCKETS": "team-*,!team-secret",
        "R2_CREDENTIAL_ROTATE_GRACE": "90m",
        "R2_CREDENTIAL_ROTATE_SCOPE": "account",
        "R2_CREDENTIAL_ROTATE_QUOTA": "1000",
    }
    settings = load(GOOD | MINTING | more).settings

    assert settings.cloudflare_minting_token == Secret(MINTING["CLOUDFLARE_MINTING_TOKEN"])
    assert (settings.rotate_every, settings.rotate_grace) == (timedelta(days=30), timedelta(minutes=90))
    assert settings.rotate_buckets == ("team-*", "!team-secret")
    assert (settings.rotate_scope, settings.rotate_quota) == (Scope.ACCOUNT, 1000)
    assert load(GOOD | {"R2_CREDENTIAL_ROTATE_EVERY": "off"}).settings.rotate_every is None
    assert load(GOOD | {"R2_CREDENTIAL_ROTATE_EVERY": "24h"}).settings.rotate_every == timedelta(days=1)


@pytest.mark.parametrize(("grace", "is_doubtful"), [("1s", True), ("899s", True), ("15m", False), ("7d", False)])
def test_a_short_grace_is_a_warning_that_says_why(load: Load, grace: str, *, is_doubtful: bool) -> None:
    """Any positive one is accepted: whoever tries the rotation out does not want to wait."""
    warnings = load(GOOD | {"R2_CREDENTIAL_ROTATE_GRACE": grace}).warnings

    expected = (
        "R2_CREDENTIAL_ROTATE_GRACE: is shorter than 15m, so a write that a frozen process still sends could land "
        "after it and leave a revoked token in the slot; make it 15m or longer"
    )
    assert warnings == ([expected] if is_doubtful else [])


@pytest.mark.parametrize(
    ("every", "grace", "is_refused"),
    [("1d", "12h", False), ("1d", "721m", True), ("3d", "2d", True), ("13d", "7d", True), ("14d", "7d", False)],
)
def test_a_schedule_leaves_time_for_two_graces(load: Load, every: str, grace: str, *, is_refused: bool) -> None:
    """Else each token would be replaced while the one before it waits to be revoked."""
    variables = GOOD | {"R2_CREDENTIAL_ROTATE_EVERY": every, "R2_CREDENTIAL_ROTATE_GRACE": grace}

    if is_refused:
        [problem] = problems(load, variables)
        assert problem.startswith("R2_CREDENTIAL_ROTATE_EVERY: is shorter than twice R2_CREDENTIAL_ROTATE_GRACE")
    else:
        assert load(variables).settings.rotate_every is not None


def test_the_minting_token_is_never_the_bots_own(load: Load) -> None:
    """Beside it, not instead of it: or each delivery would carry the rights of an administrator."""
    [problem] = problems(load, GOOD | {"CLOUDFLARE_MINTING_TOKEN": GOOD["CLOUDFLARE_API_TOKEN"]})

    assert problem.startswith("CLOUDFLARE_MINTING_TOKEN: is the same as CLOUDFLARE_API_TOKEN; make a token of its own")


def test_a_minter_needs_no_slack(load: Load) -> None:
    """Its settings have no Slack to speak to, so what calls Slack does not take them."""
    loaded = load(MINTER, Role.MINTER)

    assert loaded.warnings == []
    assert isinstance(loaded.settings, MinterSettings)
    assert not isinstance(loaded.settings, SlackSettings)
    assert loaded.settings.role is Role.MINTER


def test_all_that_a_minter_lacks_is_reported_at_once(load: Load) -> None:
    """Each with its fix, and nothing that only other roles need."""
    found = problems(load, {}, Role.MINTER)

    assert sorted(line.partition(":")[0] for line in found) == sorted({*MINTER, ".env"})
    assert all(len(line) > 40 for line in found)


@pytest.mark.parametrize("name", MINTER)
def test_each_thing_that_a_minter_needs_is_needed(load: Load, name: str) -> None:
    """It is reported alone where the others are there."""
    found = problems(load, {other: value for other, value in MINTER.items() if other != name}, Role.MINTER)

    assert [line.partition(":")[0] for line in found] == [name]


def test_a_minter_holds_no_secret_of_others(load: Load) -> None:
    """They are ignored with a warning, and so is a file with one, which is not even read."""
    loaded = load(MINTER | OF_OTHERS, Role.MINTER)

    assert [line.partition(":")[0] for line in loaded.warnings] == [*OF_OTHERS]
    assert all("a minter does not need it and ignores it; keep it away" in line for line in loaded.warnings)
    held = loaded.settings
    assert (held.slack_bot_token, held.cloudflare_api_token, held.sealing_key) == (None, None, None)
    assert set(OF_OTHERS) <= set(find_secret_variables())


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.WORKER])
def test_only_a_minter_holds_the_minting_token(load: Load, role: Role) -> None:
    """Of several processes; a gateway or a worker ignores it with a warning."""
    keys = {"R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY} if role is Role.WORKER else {}
    loaded = load(MINTER | GOOD | keys | {"R2_CREDENTIAL_ALLOWED_USERS": ""}, role)

    assert loaded.settings.cloudflare_minting_token is None
    assert f"CLOUDFLARE_MINTING_TOKEN: a {role} does not need it and ignores it; keep it away from this process" in (
        loaded.warnings
    )
    assert "CLOUDFLARE_MINTING_TOKEN" in find_secret_variables()


def test_each_role_is_asked_what_it_does() -> None:
    """Each needs something of its own; nobody but the minter, and the one process that does all, mints."""
    does = {
        role: (role.takes_payloads, role.delivers, role.mints, role.speaks_to_slack, role.calls_cloudflare)
        for role in Role
    }

    assert does == {
        Role.ALL: (True, True, True, True, True),
        Role.GATEWAY: (True, False, False, True, False),
        Role.WORKER: (False, True, False, True, True),
        Role.MINTER: (False, False, True, False, True),
    }
