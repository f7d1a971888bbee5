"""`r2-credential-bot sandbox`: both fakes in this process, the unchanged bot in another, and a page that shows it."""

import asyncio
import signal
import tempfile
from pathlib import Path
from typing import Final

from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.manifest import install
from bot.sandbox.page_state import PanelData, PanelSlot, PanelToken
from bot.sandbox.process import BotProcess, Transport, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import READY_MADE_TOKENS, Behaviour, make_token

DEFAULT_PORT: Final = 8080

_POLICY: Final = """[[rule]]
usergroups = ["{group}"]
verbs = ["store", "check", "status", "history", "enable"]
approvals = 1
approvers = ["{group}"]
"""

_AT_ONCE: Final = "The result appears in this channel."
_WITH_APPROVAL: Final = (
    "Then become another person (*You are*, at the top left) and press *Approve* or *Deny* in this channel."
)

_CATALOG_WORDS: Final = {"active": "active", "inactive": "switched off", None: "not enabled"}


def choose_port(wanted: int | None) -> int:
    """Return a port that is free now; raises OSError when one was asked for and cannot be had."""
    try:
        return find_free_port(DEFAULT_PORT if wanted is None else wanted)
    except OSError:
        if wanted is not None:
            raise
        return find_free_port()


async def run_sandbox(*, port: int, transport: Transport, manifest: str, four_eyes: bool = False) -> int:
    """Run until SIGINT or SIGTERM, or until the bot ends; return the bot's exit code.

    `manifest` is the app's, as it would be pasted into Slack. `four_eyes`: another person has to agree to each token.
    """
    async with FakeCloudflare() as cloudflare, FakeSlack(install(manifest), port=port) as slack:
        furnish(cloudflare)
        show_panel(cloudflare, slack, four_eyes=four_eyes)
        with tempfile.TemporaryDirectory(prefix="r2-credential-sandbox-") as directory:
            bot_port = find_free_port()
            if transport == "http":
                slack.request_url = f"http://127.0.0.1:{bot_port}/slack/events"
            environment = bot_environment(slack, cloudflare, Path(directory) / "data", transport, bot_port)
            if four_eyes:
                need_approvals(environment, Path(directory))
            return await _run_bot(BotProcess(environment, Path(directory)), slack.url)


def need_approvals(environment: dict[str, str], directory: Path) -> None:
    """Put a policy in the place of the lists: what one of the people submits, another one approves."""
    group = environment.pop("R2_CREDENTIAL_ALLOWED_USERGROUPS")
    environment.pop("R2_CREDENTIAL_ALLOW_ENABLE")
    policy = directory / "policy.toml"
    policy.write_text(_POLICY.format(group=group), encoding="utf-8")
    policy.chmod(0o600)
    environment["R2_CREDENTIAL_POLICY"] = str(policy)


def furnish(cloudflare: FakeCloudflare) -> None:
    """Put buckets into the account: one for each state that a catalog can be in."""
    cloudflare.add_bucket("analytics-events")
    cloudflare.add_bucket("billing-exports", token=make_token(Behaviour.GOOD, number=1))
    cloudflare.add_bucket("clickstream-raw")
    cloudflare.add_bucket("old-warehouse", catalog="inactive")
    cloudflare.add_bucket("photos", catalog=None)


def show_panel(cloudflare: FakeCloudflare, slack: FakeSlack, *, four_eyes: bool = False) -> None:
    """Fill the page's side panel, and keep it up to date."""
    slack.panel = lambda: describe(cloudflare, slack.config.commands[0].command, four_eyes=four_eyes)
    cloudflare.on_write = slack.notify_panel


def describe(cloudflare: FakeCloudflare, command: str, *, four_eyes: bool = False) -> PanelData:
    """Return what to do first, the tokens to try, and what each slot holds: only a sandbox can see into one."""
    stored_at = {write.bucket: write.at for write in cloudflare.writes}
    return PanelData(
        start=(
            f"Type `{command}` below and press *Enter*.",
            "Choose a bucket, then press *Paste* beside one of the tokens in the Sandbox panel.",
            f"Press *Check or store*. {_WITH_APPROVAL if four_eyes else _AT_ONCE}",
        ),
        tokens=tuple(
            PanelToken(label=each.label, explanation=each.explanation, token=each.token) for each in READY_MADE_TOKENS
        ),
        slots=tuple(
            PanelSlot(
                bucket=bucket.name,
                catalog_state=_CATALOG_WORDS[bucket.catalog],
                credential_state="present" if bucket.token else "absent",
                stored=bucket.token,
                stored_at=stored_at.get(bucket.name),
            )
            for bucket in cloudflare.buckets.values()
        ),
    )


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
