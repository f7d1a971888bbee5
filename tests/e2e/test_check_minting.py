"""The command `check --mint`, as a process: what it prints, how it ends, and what a signal leaves behind."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import bot_environment
from bot.sandbox.slack import FakeSlack

BUCKET = "my-test-bucket"
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nMADEUP\n-----END PUBLIC KEY-----"


@dataclass(slots=True, kw_only=True)
class Desk:
    """An account, and the settings of a bot for it."""

    cloudflare: FakeCloudflare
    environment: dict[str, str]
    directory: Path

    async def start(self, *options: str, changes: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
        """Start the command."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bot",
            "check",
            *options,
            env={**self.environment, "PYTHONIOENCODING": "utf-8", **(changes or {})},
            cwd=self.directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *options: str, changes: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run the command; return its exit code and what it printed."""
        process = await self.start(*options, changes=changes)
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Start a Cloudflare with a bucket; nothing asks Slack."""
    async with FakeCloudflare() as cloudflare, FakeSlack() as slack:
        cloudflare.add_bucket(BUCKET)
        environment = bot_environment(slack, cloudflare, tmp_path / "data", "socket", 0)
        environment["CLOUDFLARE_MINTING_TOKEN"] = cloudflare.minting_token
        yield Desk(cloudflare=cloudflare, environment=environment, directory=tmp_path)


def _live(desk: Desk) -> list[str]:
    return [token.name for token in desk.cloudflare.tokens.list_live()]


async def test_a_good_account_passes(desk: Desk) -> None:
    """A line for each answer, and nothing is left."""
    code, out, err = await desk.run("--mint", BUCKET)
    assert (code, err) == (0, "")
    assert "nothing failed, no warnings" in out
    assert len(desk.cloudflare.tokens.tokens) == 1
    assert _live(desk) == []
    assert desk.cloudflare.writes == []
    value = next(iter(desk.cloudflare.tokens.tokens.values())).value
    assert value not in out


async def test_the_slot_of_a_test_bucket(desk: Desk) -> None:
    """Stored and tested; a second time only if told so, since it is full now."""
    code, out, _ = await desk.run("--mint", BUCKET, "--store")
    assert code == 0
    assert f"the slot of {BUCKET} holds a token that is deleted now" in out
    code, out, _ = await desk.run("--mint", BUCKET, "--store", "--json")
    report: Any = json.loads(out)
    assert code == 1
    assert not report["ok"]
    assert "--overwrite" in report["findings"][-1]["fix"]
    code, _, _ = await desk.run("--mint", BUCKET, "--store", "--overwrite")
    assert code == 0
    assert len(desk.cloudflare.writes) == 2
    assert _live(desk) == []


@pytest.fixture
def heeded() -> Iterator[None]:
    """Have processes that are started heed signals that this one may ignore, under nohup or in the background."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_cleans_up(desk: Desk, number: signal.Signals) -> None:
    """The token of which it waits to become active is deleted; the exit code says that it did not end."""
    desk.cloudflare.tokens.known_after = 3600
    process = await desk.start("--mint", BUCKET)
    assert process.stdout is not None
    async for line in process.stdout:
        if b"created" in line:
            break
    process.send_signal(number)
    out, err = await process.communicate()
    assert (process.returncode, err) == (1, b"")
    assert b"was deleted" in out
    assert b"stopped by a signal" in out
    assert _live(desk) == []


async def test_without_the_token_nothing_is_asked(desk: Desk) -> None:
    """It says which setting is missing."""
    code, out, _ = await desk.run("--mint", BUCKET, changes={"CLOUDFLARE_MINTING_TOKEN": ""})
    assert code == 1
    assert "CLOUDFLARE_MINTING_TOKEN" in out
    assert desk.cloudflare.requests == []


@pytest.mark.parametrize(
    "options",
    [("--mint", "No_Bucket"), ("--store",), ("--mint", BUCKET, "--overwrite"), ("--overwrite",)],
    ids=" ".join,
)
async def test_options_that_mean_nothing_are_refused(desk: Desk, options: tuple[str, ...]) -> None:
    """With what to type."""
    code, out, err = await desk.run(*options)
    assert (code, out) == (2, "")
    assert "--mint my-test-bucket" in err
    assert desk.cloudflare.requests == []


async def test_a_minter_tries_it_out_without_the_bots_own_credentials(desk: Desk, tmp_path: Path) -> None:
    """Only with the minting token and the one that it creates; but it cannot store."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nusers = ["U0ADA0001"]\nverbs = ["rotate"]\n')
    names = ("SLACK_", "CLOUDFLARE_API_TOKEN", "R2_CREDENTIAL_ALLOW", "R2_CREDENTIAL_FRESH")
    for name in [name for name in desk.environment if name.startswith(names)]:
        del desk.environment[name]
    desk.environment |= {
        "R2_CREDENTIAL_POLICY": str(policy),
        "R2_CREDENTIAL_AUDIT_KEY": "made-up-key-of-the-audit-0123456789",
        "R2_CREDENTIAL_DATABASE_URL": "postgresql://bot@127.0.0.1:9/bot",
        "R2_CREDENTIAL_SEALING_PUBLIC_KEY": PUBLIC_KEY,
    }
    code, out, err = await desk.run("--mint", BUCKET, "--role", "minter")
    assert code == 0, out + err
    assert _live(desk) == []
    bearers = {each.headers["authorization"] for each in desk.cloudflare.requests}
    [created] = desk.cloudflare.tokens.tokens.values()
    assert bearers == {f"Bearer {desk.cloudflare.minting_token}", f"Bearer {created.value}"}
    code, out, _ = await desk.run("--mint", BUCKET, "--store", "--role", "minter")
    assert code == 1
    assert "without --store" in out
