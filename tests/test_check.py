"""What `check` finds about Cloudflare, catalogs, network and clock, with clients of its own."""

import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.check import check, check_policy
from bot.model.finding import Finding, Mark, Part
from bot.operations.check_report import CheckReport
from bot.operations.conditions import has_failed
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour
from bot.settings import LoadedSettings, SlackSettings, load_settings


class Examine(Protocol):
    """Runs the command."""

    def __call__(self, changes: Mapping[str, str], url: str | None = None) -> Awaitable[dict[Part, list[Finding]]]:
        """Return the findings of each part, with these settings on top of good ones."""


Explain = Callable[[str], Awaitable[list[Finding]]]


@pytest_asyncio.fixture
async def cloudflare() -> AsyncIterator[FakeCloudflare]:
    """Start a Cloudflare with one catalog."""
    async with FakeCloudflare() as small:
        small.add_bucket("lake")
        yield small


@pytest_asyncio.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """Start a Slack."""
    async with FakeSlack() as small:
        yield small


@pytest.fixture
def load(
    slack: FakeSlack, cloudflare: FakeCloudflare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Mapping[str, str]], LoadedSettings]:
    """Return a function that loads these settings on top of good ones."""
    for name in [name for name in os.environ if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_"))]:
        monkeypatch.delenv(name)

    def load_with(changes: Mapping[str, str]) -> LoadedSettings:
        environment = bot_environment(slack, cloudflare, tmp_path / "data", "socket", 0)
        for name, value in (environment | dict(changes)).items():
            if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_")):
                monkeypatch.setenv(name, value)
        return load_settings(tmp_path / "no.env")

    return load_with


@pytest.fixture
def examine(load: Callable[[Mapping[str, str]], LoadedSettings]) -> Examine:
    """Return a function that runs the command with these settings on top, and returns the findings of each part."""

    async def run(changes: Mapping[str, str], url: str | None = None) -> dict[Part, list[Finding]]:
        found = await check(load(changes), [], CheckReport(io.StringIO()), url)
        return {part: [each for each in found if each.part is part] for part in Part}

    return run


@pytest.fixture
def explain(load: Callable[[Mapping[str, str]], LoadedSettings], policy: Path) -> Explain:
    """Return a function that says what the policy lets a user do with a bucket."""

    async def run(user: str) -> list[Finding]:
        settings = load({**NO_LISTS, "R2_CREDENTIAL_POLICY": str(policy)}).settings
        assert isinstance(settings, SlackSettings)
        return await check_policy(settings, CheckReport(io.StringIO()), user, "lake")

    return run


async def test_a_whole_check_writes_nothing_to_cloudflare(cloudflare: FakeCloudflare, examine: Examine) -> None:
    """It sends only GETs, and finds everything well."""
    found = await examine({})
    assert {request.method for request in cloudflare.requests} == {"GET"}
    assert cloudflare.writes == []
    for part in (Part.NETWORK, Part.CLOUDFLARE, Part.CATALOGS, Part.CLOCK):
        assert found[part]
        assert [each.text for each in found[part] if each.mark is not Mark.OK] == []
    assert "1 of 1 catalog served" in found[Part.CATALOGS][0].text


async def test_a_refused_token_is_the_only_cross(cloudflare: FakeCloudflare, examine: Examine) -> None:
    """That there is no list follows from it."""
    cloudflare.own_behaviour = Behaviour.EXPIRED
    found = await examine({})
    assert [each.event for each in found[Part.CLOUDFLARE]] == ["cloudflare_token_expired"]
    assert [(each.event, each.mark) for each in found[Part.CATALOGS]] == [("catalogs_not_listed", Mark.WARNING)]


async def test_an_allowlist_that_matches_nothing_is_a_warning(examine: Examine) -> None:
    """As the running bot counts it."""
    found = await examine({"R2_CREDENTIAL_ALLOWED_BUCKETS": "laek"})
    assert [each.event for each in found[Part.CATALOGS]] == ["allowlist_matches_no_bucket"]


async def test_the_public_url_is_examined_on_request(examine: Examine) -> None:
    """In Socket Mode there is none, and the finding names the settings that decide it."""
    [found] = (await examine({}, "https://bot.example.com"))[Part.TRANSPORT]
    assert (found.event, found.mark) == ("public_url_wrong", Mark.FAILED)
    assert "unset SLACK_APP_TOKEN" in found.fix


OF_GROUP = '[[rule]]\nusergroups = ["S0DATAENG"]\n'
NO_LISTS = dict.fromkeys(("R2_CREDENTIAL_ALLOWED_USERGROUPS", "R2_CREDENTIAL_ALLOW_ENABLE"), "")


def write(path: Path, text: str) -> None:
    """Write a policy."""
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return the path of a policy that names a group."""
    path = tmp_path / "policy.toml"
    write(path, OF_GROUP)
    return path


MINTS: dict[str, tuple[bool, bool, list[str]]] = {
    "nothing of it is set": (False, False, ["rotation_off"]),
    "a token, and no rule": (True, False, ["rotation_not_granted"]),
    "a rule, and no token": (False, True, ["minting_token_missing"]),
    "both": (True, True, ["rotation_on", "minting_token_active", "minting_rights_enough", "room_for_tokens"]),
}


@pytest.mark.parametrize(("has_token", "has_rule", "events"), MINTS.values(), ids=MINTS)
async def test_rotation_is_examined_and_no_token_is_made(
    cloudflare: FakeCloudflare, examine: Examine, policy: Path, events: list[str], *, has_token: bool, has_rule: bool
) -> None:
    """With the minting token, and only where a rule lets it be used."""
    if has_rule:
        write(policy, OF_GROUP + 'verbs = ["store", "rotate"]\n')
    changes = {**NO_LISTS, "R2_CREDENTIAL_POLICY": str(policy)}
    changes |= {"CLOUDFLARE_MINTING_TOKEN": cloudflare.minting_token} if has_token else {}

    found = await examine(changes)

    assert [each.event for each in found[Part.ROTATION]] == events
    assert {request.method for request in cloudflare.requests} == {"GET"}
    assert cloudflare.tokens.tokens == {}
    minting = f"Bearer {cloudflare.minting_token}"
    asked = [request for request in cloudflare.requests if request.headers["authorization"] == minting]
    assert bool(asked) is (events[0] == "rotation_on")


async def test_with_postgresql_it_is_asked_whether_a_minter_is_there(examine: Examine, policy: Path) -> None:
    """A process without the token says that of no other one, and nothing of any without the database."""
    write(policy, OF_GROUP + 'verbs = ["store", "rotate"]\n')
    away = f"postgresql://bot@127.0.0.1:{find_free_port()}/bot"
    changes = {**NO_LISTS, "R2_CREDENTIAL_POLICY": str(policy), "R2_CREDENTIAL_DATABASE_URL": away}

    found = await examine(changes)

    assert [each.event for each in found[Part.ROTATION]] == ["minter_not_asked"]


async def test_a_policy_is_examined(examine: Examine, policy: Path) -> None:
    """Its rules are counted, and the ids that it names are looked up; what is wrong with one names the file."""
    settings = {**NO_LISTS, "R2_CREDENTIAL_POLICY": str(policy)}
    found = await examine(settings)
    assert [each.event for each in found[Part.POLICY]] == ["policy_holds"]
    assert [each.mark for each in found[Part.PEOPLE]] == [Mark.OK]
    write(policy, '[[rule]]\nusergroups = ["S0NOPE1234"]\nbuckets = ["pond*"]')
    found = await examine(settings)
    assert {each.setting for each in found[Part.PEOPLE]} == {"R2_CREDENTIAL_POLICY"}
    assert [each.setting for each in found[Part.CATALOGS]] == ["R2_CREDENTIAL_POLICY"]


async def test_each_fault_of_a_policy_is_a_cross(examine: Examine, policy: Path) -> None:
    """As faults of settings are."""
    write(policy, f"{OF_GROUP}bukets = []\nverbs = []\n")
    found = await examine({**NO_LISTS, "R2_CREDENTIAL_POLICY": str(policy)})
    assert [(each.event, each.mark, each.setting) for each in found[Part.SETTINGS]] == [
        ("setting_wrong", Mark.FAILED, "R2_CREDENTIAL_POLICY")
    ] * 2
    assert found[Part.SLACK] == []


EXPLAINED = {
    "a member": ("U0ADA0001", ["policy_allows"] * 4 + ["policy_refuses"] * 3),
    "a stranger": ("U0MALLORY", ["policy_refuses"] * 7),
}


@pytest.mark.parametrize(("user", "events"), EXPLAINED.values(), ids=EXPLAINED)
async def test_a_policy_is_explained(explain: Explain, user: str, events: list[str]) -> None:
    """For each verb, and a no is nothing to fix."""
    found = await explain(user)
    assert [each.event for each in found] == events
    assert {each.mark for each in found} == {Mark.OK}
    assert [each.known["verb"] for each in found][:2] == ["store", "check"]


@pytest.mark.parametrize("user", ["U0GUEST01", "U0DEPART1"], ids=["a guest", "who has left"])
async def test_no_policy_lets_in_who_is_no_member(explain: Explain, policy: Path, user: str) -> None:
    """Whatever the rules say, and that is said first."""
    write(policy, f'[[rule]]\nusers = ["{user}"]\n')
    found = await explain(user)
    assert [each.event for each in found][:2] == ["policy_refuses_person", "policy_allows"]
    assert found[0].mark is Mark.FAILED


async def test_a_policy_is_not_explained_where_slack_says_nothing_of_the_person(
    explain: Explain, slack: FakeSlack
) -> None:
    """Nor does it refuse for good."""
    slack.fail_next("users.info", status=503)
    first, *_ = await explain("U0ADA0001")
    assert first.event == "policy_unsure"


async def test_a_policy_is_not_explained_where_slack_is_silent(explain: Explain, slack: FakeSlack) -> None:
    """What is not known has to be fixed, and it is said why."""
    slack.fail_next("usergroups.users.list", status=503)
    found = await explain("U0ADA0001")
    assert [each.event for each in found] == [
        "usergroup_not_asked",
        *["policy_unsure"] * 4,
        *["policy_refuses"] * 3,
    ]
    assert has_failed(found)


async def test_a_broken_policy_is_not_explained(explain: Explain, policy: Path) -> None:
    """Its faults are told instead."""
    write(policy, "[[rule]]")
    assert [each.event for each in await explain("U0ADA0001")] == ["setting_wrong"]


async def test_the_audits_webhook_is_asked_without_an_entry(examine: Examine) -> None:
    """With a signed empty array; before the first start there is no key to sign with."""
    asked: list[tuple[bytes, str]] = []

    async def take(request: web.Request) -> web.Response:
        asked.append((await request.read(), request.headers["webhook-signature"][:3]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/audit", take)
    async with TestServer(app, host="127.0.0.1") as receiver:
        webhook = {"R2_CREDENTIAL_AUDIT_WEBHOOK": str(receiver.make_url("/audit"))}
        found = await examine(webhook)
        assert [each.event for each in found[Part.WEBHOOK]] == ["audit_webhook_not_asked"]
        assert any("The audit's webhook: 127.0.0.1" in each.text for each in found[Part.NETWORK])
        found = await examine(webhook | {"R2_CREDENTIAL_AUDIT_KEY": "k" * 32})
    assert [each.event for each in found[Part.WEBHOOK]] == ["audit_webhook_answers"]
    assert asked == [(b"[]", "v1,")]
