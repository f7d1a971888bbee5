"""What a minter starts, in this process: whatever its database holds, it is no tool against the tokens of others."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from bot.app import running
from bot.model.errors import DatabaseUnavailable, StartRefused
from bot.model.role import Role
from bot.roles.minter import _find_mark
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sealing.hpke import generate_private_key, load_private_keys, public_pem
from bot.settings import Settings, load_settings
from bot.storage.installations import Installations
from tests.postgres import execute
from tests.test_settings import OURS

POLICY = '[[rule]]\nusers = ["U0ADA0001"]\nverbs = ["store", "rotate"]\n'
SECOND = timedelta(seconds=1)


@pytest_asyncio.fixture
async def cloudflare() -> AsyncIterator[FakeCloudflare]:
    """Start a Cloudflare that lets tokens be made."""
    async with FakeCloudflare() as small:
        yield small


@pytest.fixture
def settings(
    cloudflare: FakeCloudflare, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> Settings:
    """Return all that a minter needs."""
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    for name in [name for name in os.environ if name.upper().startswith(OURS)]:
        monkeypatch.delenv(name)
    for name, value in {
        "CLOUDFLARE_ACCOUNT_ID": cloudflare.account_id,
        "CLOUDFLARE_BASE_URL": cloudflare.base_url,
        "CLOUDFLARE_MINTING_TOKEN": cloudflare.minting_token,
        "R2_CREDENTIAL_POLICY": str(policy),
        "R2_CREDENTIAL_DATABASE_URL": postgres_url,
        "R2_CREDENTIAL_DATA_DIR": str(tmp_path / "data"),
        "R2_CREDENTIAL_SEALING_PUBLIC_KEY": public_pem(load_private_keys(generate_private_key())[0]),
        "R2_CREDENTIAL_AUDIT_KEY": "made-up-" * 8,
        "R2_CREDENTIAL_HTTP_PORT": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return load_settings(tmp_path / "no.env", Role.MINTER).settings


async def test_it_runs_without_a_way_for_slack(settings: Settings, cloudflare: FakeCloudflare) -> None:
    """It listens for probes, has asked about its token, and has made none."""
    async with running(settings) as bot:
        assert bot.transport == "none"
        assert bot.background
    assert {request.method for request in cloudflare.requests} == {"GET"}
    assert cloudflare.tokens.tokens == {}


async def test_a_mark_that_the_bot_did_not_record_refuses_the_start(
    settings: Settings, cloudflare: FakeCloudflare, postgres_url: str
) -> None:
    """With another installation's mark, it would take that one's tokens for its own, and take them back."""
    async with running(settings):
        pass
    cloudflare.requests.clear()
    execute(postgres_url, "UPDATE installations SET mark = '4f3a9c1e'")

    with pytest.raises(StartRefused, match=r"^R2_CREDENTIAL_DATABASE_URL: what marks the bot's tokens"):
        async with running(settings):
            pass

    assert cloudflare.requests == []


class Away:
    """Installations whose database is away for the first questions."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def mark(self) -> str:
        """Fail so many times."""
        if self.times:
            self.times -= 1
            raise DatabaseUnavailable
        return "4f3a9c1e"


async def test_a_database_in_trouble_is_waited_for(pass_time: Callable[[timedelta], None]) -> None:
    """The start says why it waits, each second, and goes on by itself."""
    noted: list[int] = []
    finding = asyncio.create_task(_find_mark(cast("Installations", Away(3)), lambda: noted.append(1)))
    while not finding.done():
        await asyncio.sleep(0.01)  # no event says that it waits
        pass_time(SECOND)

    assert await finding == "4f3a9c1e"
    assert len(noted) == 3
