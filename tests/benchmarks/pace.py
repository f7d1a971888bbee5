"""How close the bot's client comes to Cloudflare's limit, and how often it exceeds it: in real time, over loopback.

All submissions start at once, two requests each, against 120 requests in 10 s: first in one process, then in two that
share their budget through PostgreSQL. `pace.py [submissions] [seconds at most]`; 1000 take twice three minutes.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import Throttled
from bot.cloudflare.exchange import Turn
from bot.cloudflare.pace import LocalPace, Pace, SharedPace
from bot.model.catalog import BucketKey
from bot.model.secret import Secret
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN, FakeCloudflare, RateLimit
from bot.sandbox.tokens import Behaviour, make_token
from bot.storage.budget import PaceRows
from bot.storage.postgres import PostgresDatabase
from tests.postgres import running_postgres

LIMIT: Final = RateLimit(requests=120, window_seconds=10)
PROCESSES: Final = 2


async def main(submissions: int = 1000, seconds: int = 900) -> None:
    """Run both and print what the server saw."""
    print(f"{submissions} submissions of 2 requests, {LIMIT.requests} requests per {LIMIT.window_seconds} s allowed")
    print(f"{'':24}{'429 at first':>14}{'429 later':>11}{'of the rate used':>18}{'seconds':>9}", flush=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await measure("one process", submissions, alone)
            await measure("two on PostgreSQL", submissions, together)
            return
    print(f"not done within {seconds} s")


async def measure(name: str, submissions: int, run: Callable[[str, int], Awaitable[None]]) -> None:
    """Run it and print a line, even if the run is cut short."""
    async with FakeCloudflare(limit=LIMIT) as cloudflare:
        for number in range(submissions):
            cloudflare.add_bucket(name_bucket(number))
        try:
            await run(cloudflare.base_url, submissions)
            assert len(cloudflare.writes) == submissions
        finally:
            show(name, cloudflare.accepted_at, cloudflare.throttled_at)


def show(name: str, accepted_at: list[float], throttled_at: list[float]) -> None:
    """Print what came after the first window, as a share of what was allowed then."""
    first, last = min(accepted_at), max(accepted_at)
    later = first + LIMIT.window_seconds
    at_first = sum(at <= later for at in throttled_at)
    rate = sum(at > later for at in accepted_at) / max(last - later, 1)
    used = rate * LIMIT.window_seconds / LIMIT.requests
    refused = f"{at_first:14}{len(throttled_at) - at_first:11}"
    print(f"{name:24}{refused}{used:18.1%}{last - first:9.1f}", flush=True)


async def alone(base_url: str, submissions: int) -> None:
    """Submit everything from this process."""
    await submit_all(base_url, range(submissions), LocalPace(now))


async def together(base_url: str, submissions: int) -> None:
    """Submit everything from several processes, which share nothing but the database."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as directory:
        Path(directory).chmod(0o755)
        with running_postgres(Path(directory) / "server") as url:
            database = PostgresDatabase(url)
            await database.start()  # creates the tables
            await database.stop()
            processes = [
                await asyncio.create_subprocess_exec(
                    sys.executable, __file__, "worker", base_url, url, str(submissions), str(number)
                )
                for number in range(PROCESSES)
            ]
            try:
                codes = [await process.wait() for process in processes]
                assert codes == [0] * PROCESSES
            finally:
                for process in processes:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()


async def work(base_url: str, url: str, submissions: int, number: int) -> None:
    """Do the work of one of those processes."""
    database = PostgresDatabase(url)
    await database.start()
    pace = SharedPace(PaceRows(database, SANDBOX_ACCOUNT_ID), now)
    await submit_all(base_url, range(number, submissions, PROCESSES), pace)
    await database.stop()


async def submit_all(base_url: str, numbers: range, pace: Pace) -> None:
    """Submit all at once, so that they queue up."""
    auth = ApiToken(token=Secret(SANDBOX_API_TOKEN))
    client = CloudflareClient(account_id=SANDBOX_ACCOUNT_ID, base_url=base_url, auth=auth, pace=pace)
    keys = [BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket=name_bucket(number)) for number in numbers]
    await asyncio.gather(*(submit(client, key) for key in keys))
    await client.aclose()


async def submit(client: CloudflareClient, key: BucketKey) -> None:
    """Get the catalog, then store the credential."""
    token = Secret(make_token(Behaviour.GOOD))
    await insist(client, lambda turn: client.get_catalog(key, turn))
    await insist(client, lambda turn: client.store_credential(key, token, yes, turn))


async def insist(client: CloudflareClient, call: Callable[[Turn], Awaitable[object]]) -> None:
    """Wait for the time that each turn returns, until the call gets through."""
    while True:
        turn = await client.turn(Urgency.WRITE)
        if isinstance(turn, datetime):
            await asyncio.sleep((turn - now()).total_seconds())
            continue
        with suppress(Throttled):
            await call(turn)
            return


async def yes() -> bool:
    """Allow to send."""
    return True


def name_bucket(number: int) -> str:
    """Return the name of a bucket."""
    return f"bucket-{number:05}"


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        _, _, cloudflare_url, postgres_url, *figures = sys.argv
        asyncio.run(work(cloudflare_url, postgres_url, *map(int, figures)))
    else:
        asyncio.run(main(*map(int, sys.argv[1:])))
