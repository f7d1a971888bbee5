"""How long a person waits: from Submit to the result in the channel, and for `status` of many catalogs.

Cloudflare and Slack answer at once here; both run in this process. Their own share, called in the same order by a
bare client, is measured in the same run.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import BotProcess, Transport, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token

RESULTS = 40  # within the account's rate limit: the pace is measured elsewhere
LOOKS = 30
CATALOGS = 500
USER, CHANNEL = "U0ADA0001", "C0DATAPLT"


async def main() -> None:
    """Print all figures."""
    print(f"{'ms':52}{'p50':>8}{'p95':>8}{'worst':>8}")
    for transport in ("http", "socket"):
        async with running_bot(transport, buckets=RESULTS) as (slack, cloudflare):
            show(f"Submit to result, {transport}, {RESULTS} buckets", await time_results(slack))
            show("the doubles alone, the same calls one after the other", await time_doubles(slack, cloudflare))
    async with running_bot("socket", buckets=CATALOGS) as (slack, cloudflare):
        show(f"status of {CATALOGS} catalogs, from the snapshot", await time_status(slack))
        await show_refresh(slack, cloudflare)


def show(name: str, seconds: list[float]) -> None:
    """Print one line."""
    p95 = statistics.quantiles(seconds, n=20)[18]
    print(f"{name:52}{statistics.median(seconds) * 1000:8.1f}{p95 * 1000:8.1f}{max(seconds) * 1000:8.1f}", flush=True)


@asynccontextmanager
async def running_bot(transport: Transport, buckets: int) -> AsyncIterator[tuple[FakeSlack, FakeCloudflare]]:
    """Start the bot as a separate process between doubles that have so many buckets."""
    async with FakeCloudflare() as cloudflare, FakeSlack() as slack:
        for number in range(buckets):
            cloudflare.add_bucket(f"lake-{number:03d}", token=make_token(Behaviour.GOOD, number=9))
        with tempfile.TemporaryDirectory() as scratch:
            port = find_free_port()
            if transport == "http":
                slack.request_url = f"http://127.0.0.1:{port}/slack/events"
            environment = bot_environment(slack, cloudflare, Path(scratch) / "data", transport, port)
            bot = BotProcess(environment | {"R2_CREDENTIAL_LOG_LEVEL": "error"}, Path(scratch))
            await bot.start()
            if not await bot.wait_until_ready():
                sys.exit("the bot did not start")
            if transport == "socket":
                await slack.wait_for_connections()
            yield slack, cloudflare
            await bot.stop()


async def time_results(slack: FakeSlack) -> list[float]:
    """Store one token after another; measure from pressing Submit to the message in the channel."""
    taken: list[float] = []
    for number in range(RESULTS):
        bucket = f"lake-{number:03d}"
        await slack.type_command(USER, CHANNEL, f"/r2-credential {bucket}")
        await slack.fill(USER, "token", make_token(Behaviour.GOOD, number))
        started = time.perf_counter()
        await slack.submit(USER)
        await slack.wait_for_message(CHANNEL, lambda message, name=f"`{bucket}`": name in message.text)  # type: ignore[misc]  # its default
        taken.append(time.perf_counter() - started)
        await slack.wait_for_view(USER, lambda view: view.title == "Credential stored")  # settled
        await slack.close(USER)
    return taken


async def time_doubles(slack: FakeSlack, cloudflare: FakeCloudflare) -> list[float]:
    """Make the calls of one result: the concurrent checks, the write, the test, the message."""
    taken: list[float] = []
    headers = {"Authorization": f"Bearer {cloudflare.api_token}"}
    account = f"{cloudflare.base_url}/accounts/{cloudflare.account_id}"
    async with aiohttp.ClientSession() as http:

        async def ask(url: str, token: str | None = None) -> None:
            theirs = {"Authorization": f"Bearer {token}"} if token else headers
            async with http.get(url, headers=theirs) as answer:
                await answer.read()

        for number in range(RESULTS):
            catalog, token = f"r2-catalog/lake-{number:03d}", make_token(Behaviour.GOOD, number)
            probe = f"{account}/basin-catalog/lake-{number:03d}/credential/status"
            started = time.perf_counter()
            await asyncio.gather(
                ask(f"{account}/tokens/verify", token),
                ask(f"{account}/{catalog}", token),
                ask(probe),
            )
            async with http.post(f"{account}/{catalog}/credential", headers=headers, json={"token": token}) as answer:
                await answer.read()
            await ask(probe)
            message = {"channel": CHANNEL, "text": "result", "token": slack.config.bot_tokens[0]}
            async with http.post(f"{slack.api_url}chat.postMessage", data=message) as answer:
                await answer.read()
            taken.append(time.perf_counter() - started)
    return taken


async def time_status(slack: FakeSlack) -> list[float]:
    """Type `status`, once while its data is being refreshed and once when it is fresh."""
    return [await timed(lambda: slack.type_command(USER, CHANNEL, "/r2-credential status")) for _ in range(LOOKS)]


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return how long the work takes, in seconds."""
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def show_refresh(slack: FakeSlack, cloudflare: FakeCloudflare) -> None:
    """Print what the refresh behind the first `status` has cost by the end of its tests."""
    await slack.wait_for_message(
        CHANNEL,
        lambda message: "reported by Cloudflare" in message.text and "being asked" not in message.text,
        as_user=USER,
    )
    paths = [request.path for request in cloudflare.requests]
    lists = sum(path.endswith("-catalog") for path in paths)
    probes = [request.at for request in cloudflare.requests if request.path.endswith("/credential/status")]
    took = (max(probes) - min(probes)).total_seconds()
    print(f"refreshes since the start: {lists} lists, {len(probes)} probes in {took:.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
