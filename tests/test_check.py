"""What `check` finds about Cloudflare, catalogs, network and clock, with clients of its own."""

import io
import os
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.check import check
from bot.model.finding import Finding, Mark, Part
from bot.operations.check_report import CheckReport
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import bot_environment
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour
from bot.settings import load_settings


class Examine(Protocol):
    """Runs the command."""

    def __call__(self, changes: Mapping[str, str], url: str | None = None) -> Awaitable[dict[Part, list[Finding]]]:
        """Return the findings of each part, with these settings on top of good ones."""


@pytest_asyncio.fixture
async def cloudflare() -> AsyncIterator[FakeCloudflare]:
    """Start a Cloudflare with one catalog."""
    async with FakeCloudflare() as small:
        small.add_bucket("lake")
        yield small


@pytest_asyncio.fixture
async def examine(
    cloudflare: FakeCloudflare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Examine]:
    """Return a function that runs the command with these settings on top, and returns the findings of each part."""
    for name in [name for name in os.environ if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_"))]:
        monkeypatch.delenv(name)
    async with FakeSlack() as slack:

        async def run(changes: Mapping[str, str], url: str | None = None) -> dict[Part, list[Finding]]:
            environment = bot_environment(slack, cloudflare, tmp_path / "data", "socket", 0)
            for name, value in (environment | dict(changes)).items():
                if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_")):
                    monkeypatch.setenv(name, value)
            found = await check(load_settings(tmp_path / "no.env"), [], CheckReport(io.StringIO()), url)
            return {part: [each for each in found if each.part is part] for part in Part}

        yield run


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
