"""`r2-credential-bot sandbox`: both fakes in this process, the unchanged bot in another, and a page that shows it."""

import asyncio
import signal
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Final

from bot.sandbox.account_table import AccountTable
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.manifest import install
from bot.sandbox.panel import Panel
from bot.sandbox.process import BotProcess, Transport, bot_environment, find_free_port, rotation_environment
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.troubles import Troubles

DEFAULT_PORT: Final = 8080
GRACE: Final = timedelta(seconds=30)
"""How long a replaced token still works here: nobody wants to wait an hour to see what follows."""

_LAG_SECONDS: Final = 2.0
"""After so long the fake Cloudflare knows of a change: long enough to be seen."""

_RULE: Final = """[[rule]]
usergroups = ["{group}"]
verbs = ["store", "check", "status", "history", "enable", "rotate"]
"""
_APPROVALS: Final = """approvals = 1
approvers = ["{group}"]
"""

_TEAMS: Final = ("ads", "checkout", "fraud", "growth", "logistics", "search", "support", "warehouse")
_DATA: Final = ("clicks", "daily", "events", "exports", "raw")


def choose_port(wanted: int | None) -> int:
    """Return a port that is free now; raises OSError when one was asked for and cannot be had."""
    try:
        return find_free_port(DEFAULT_PORT if wanted is None else wanted)
    except OSError:
        if wanted is not None:
            raise
        return find_free_port()


async def run_sandbox(
    *, port: int, transport: Transport, manifest: str, four_eyes: bool = False, fleet: bool = False
) -> int:
    """Run until SIGINT or SIGTERM, or until the bot ends; return the bot's exit code.

    `manifest` is the app's, as it would be pasted into Slack. `four_eyes`: another person has to agree to each token.
    `fleet`: there are forty more buckets.
    """
    async with FakeCloudflare() as cloudflare, FakeSlack(install(manifest), port=port) as slack:
        furnish(cloudflare)
        if fleet:
            furnish_fleet(cloudflare)
        table = AccountTable(cloudflare=cloudflare, grace=GRACE)
        table.furnish()
        let_take_time(cloudflare)
        troubles = Troubles(cloudflare)
        Panel(
            cloudflare=cloudflare, slack=slack, table=table, troubles=troubles, four_eyes=four_eyes, has_fleet=fleet
        ).show()
        with tempfile.TemporaryDirectory(prefix="r2-credential-sandbox-") as directory:
            bot_port = find_free_port()
            if transport == "http":
                slack.request_url = f"http://127.0.0.1:{bot_port}/slack/events"
            environment = bot_environment(slack, cloudflare, Path(directory) / "data", transport, bot_port)
            environment |= rotation_environment(cloudflare, GRACE)
            put_policy(environment, Path(directory), four_eyes=four_eyes)
            return await _run_bot(BotProcess(environment, Path(directory)), slack.url)


def put_policy(environment: dict[str, str], directory: Path, *, four_eyes: bool = False) -> None:
    """Put a policy in the place of the lists, so that the group may rotate; with `four_eyes`, another one approves."""
    group = environment.pop("R2_CREDENTIAL_ALLOWED_USERGROUPS")
    environment.pop("R2_CREDENTIAL_ALLOW_ENABLE")
    policy = directory / "policy.toml"
    policy.write_text((_RULE + (_APPROVALS if four_eyes else "")).format(group=group), encoding="utf-8")
    policy.chmod(0o600)
    environment["R2_CREDENTIAL_POLICY"] = str(policy)


def furnish(cloudflare: FakeCloudflare) -> None:
    """Put buckets into the account: one for each state that a catalog can be in."""
    cloudflare.add_bucket("analytics-events")
    cloudflare.add_bucket("billing-exports", token=make_token(Behaviour.GOOD, number=1))
    cloudflare.add_bucket("clickstream-raw")
    cloudflare.add_bucket("old-warehouse", catalog="inactive")
    cloudflare.add_bucket("photos", catalog=None)


def furnish_fleet(cloudflare: FakeCloudflare) -> None:
    """Put forty more buckets into the account; every third one holds a token that somebody has pasted."""
    for number, name in enumerate(f"{team}-{data}" for team in _TEAMS for data in _DATA):
        cloudflare.add_bucket(name, token=None if number % 3 else make_token(Behaviour.GOOD, number=100 + number))


def let_take_time(cloudflare: FakeCloudflare) -> None:
    """Let changes of tokens become known a moment later, as they do at Cloudflare."""
    tokens = cloudflare.tokens
    tokens.known_after = tokens.unknown_after = tokens.listed_after = _LAG_SECONDS


async def _run_bot(bot: BotProcess, url: str) -> int:
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop.set)
    await bot.start()
    try:
        if await bot.wait_until_ready():
            print(f"\nThe sandbox is open at {url}\nStop it with Ctrl+C.\n", flush=True)  # noqa: T201 - for the terminal
            waits = {asyncio.create_task(asked_to_stop.wait()), asyncio.create_task(bot.wait())}
            _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in pending:
                wait.cancel()
    finally:  # also when the terminal is gone: the bot must not outlive its sandbox
        code = await bot.stop()
    return code
