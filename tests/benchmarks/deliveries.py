"""How fast deliveries start and run, and what waiting ones cost: in one process on SQLite, and on PostgreSQL.

The doubles run in this process and take a good part of the time: the fake Cloudflare and the fake Slack, called
directly by a bare client with the same requests, are measured in the same run.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from bot.delivery.deliver import Delivery
from bot.delivery.run_inline import InlineDispatcher
from bot.delivery.run_jobs import JobRunner
from bot.model.catalog import BucketKey
from bot.model.submission import NewSubmission, Opening, Sealed, SealedToken
from bot.sandbox.cloudflare import NO_LIMIT_TO_SPEAK_OF, FakeCloudflare
from bot.sandbox.process import BotProcess, Role, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext, generate_private_key, load_private_keys, public_pem
from bot.storage.chain_start import set_up_with
from bot.storage.database import Database
from bot.storage.jobs import Jobs
from bot.storage.postgres import PostgresDatabase
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.benchmarks.footprint import cpu_seconds, resident_bytes
from tests.make import AUDIT_KEY, CHAIN, make_key, make_new_submission
from tests.postgres import running_postgres

STARTS = 400
DELIVERIES = 1000
IDLE_SECONDS = 20
PATIENCE = 120
USER, CHANNEL = "U0ADA0001", "C0DATAPLT"


async def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        directory.chmod(0o711)  # the PostgreSQL server does not run as root
        with running_postgres(directory / "postgres") as url:
            print(f"accept to start, ms, {STARTS} one after the other")
            await show_starts("inline", start_inline(directory))
            await show_starts("PostgreSQL", start_on_postgres(url))
            print(f"deliveries, {DELIVERIES} buckets, all recorded before the start")
            await show_doubles()
            await show_deliveries("inline", directory / "inline", None)
            await show_deliveries("PostgreSQL, one worker", directory / "jobs", url)
            print("memory and idle CPU")
            await show_waiting(directory / "waiting")
            for role in ("all", "gateway", "worker"):
                await show_idle_role(directory / role, url, role)


class Noting(Delivery):
    """Notes when it is called, and does nothing."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[float] = asyncio.Queue()

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Note the time."""
        self.started.put_nowait(time.perf_counter())
        return None


async def show_starts(name: str, starts: AsyncIterator[float]) -> None:
    """Print the latencies of one engine."""
    seconds = [second async for second in starts]
    p50, p99 = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
    print(f"  {name:24}p50 {p50 * 1000:6.2f}   p99 {p99 * 1000:6.2f}", flush=True)


async def start_inline(directory: Path) -> AsyncIterator[float]:
    """Yield the time from a recorded submission to its delivery's start."""
    database = SqliteDatabase(directory / "starts.sqlite")
    database.start()
    submissions, delivery = Submissions(database, CHAIN), Noting()
    dispatcher = InlineDispatcher(delivery, submissions.unreported_keys, lambda: datetime.now(UTC))
    for number in range(STARTS):
        new = await accept(submissions, number)
        recorded_at = time.perf_counter()
        dispatcher.dispatch(new.key)
        yield await delivery.started.get() - recorded_at
    await dispatcher.stop()
    database.stop()


async def start_on_postgres(url: str) -> AsyncIterator[float]:
    """Do the same with a job that was deferred in the transaction of the recording."""

    async def nothing() -> None: ...

    async def refresh(tests: bool) -> None: ...  # noqa: FBT001 - as the runner calls it

    async with postgres(url) as (database, jobs):
        submissions, delivery = Submissions(database, CHAIN, enqueue=jobs.deliver_in), Noting()
        runner = JobRunner(
            url=url,
            jobs=jobs,
            find_overdue=submissions.overdue_keys,
            delivery=delivery,
            refresh_catalogs=refresh,
            keep_house=nothing,
            clock=lambda: datetime.now(UTC),
        )
        running = asyncio.create_task(runner.run())
        await accept(submissions, -1)
        await delivery.started.get()
        for number in range(STARTS):
            await accept(submissions, number)
            recorded_at = time.perf_counter()
            yield max(0.0, await delivery.started.get() - recorded_at)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await forget(database)


async def show_doubles() -> None:
    """Call the doubles as the bot would: for each delivery five requests to Cloudflare, one message and one view."""
    async with FakeCloudflare() as cloudflare, FakeSlack() as slack, aiohttp.ClientSession() as http:
        for number in range(DELIVERIES):
            cloudflare.add_bucket(bucket(number))
        cloudflare_headers = {"Authorization": f"Bearer {cloudflare.api_token}"}
        slack_headers = {"Authorization": f"Bearer {slack.config.bot_tokens[0]}"}
        account = f"{cloudflare.base_url}/accounts/{cloudflare.account_id}"

        async def deliver(number: int) -> None:
            token, name = make_token(Behaviour.GOOD, number), bucket(number)
            of_the_token = {"Authorization": f"Bearer {token}"}
            catalog, test = f"{account}/r2-catalog/{name}", f"{account}/basin-catalog/{name}/credential/status"
            await asyncio.gather(
                http.get(f"{account}/tokens/verify", headers=of_the_token),
                http.get(catalog, headers=of_the_token),
                http.get(test, headers=cloudflare_headers),
            )
            await http.post(f"{catalog}/credential", json={"token": token}, headers=cloudflare_headers)
            await http.get(test, headers=cloudflare_headers)
            message = {"channel": CHANNEL, "text": "a benchmark"}
            await http.post(f"{slack.api_url}chat.postMessage", json=message, headers=slack_headers)
            await http.post(f"{slack.api_url}views.update", json={"view_id": "V0", "view": {}}, headers=slack_headers)

        started = time.perf_counter()
        await asyncio.gather(*(deliver(number) for number in range(DELIVERIES)))
        print(f"  {'the doubles alone':24}{DELIVERIES / (time.perf_counter() - started):6.0f} per second", flush=True)


async def show_deliveries(name: str, directory: Path, url: str | None) -> None:
    """Start a bot with recorded submissions, and print how fast it delivers them."""
    async with waiting_bot(directory, url, DELIVERIES) as (slack, cloudflare, process):
        await process.start()
        while not cloudflare.writes:  # noqa: ASYNC110 - polling is the measurement
            await asyncio.sleep(0.002)
        started, before = time.perf_counter(), cpu_seconds(process.pid)
        await wait_for(lambda: len(slack.workspace.messages) >= DELIVERIES)
        seconds = time.perf_counter() - started
        load = (cpu_seconds(process.pid) - before) / seconds
    print(f"  {name:24}{DELIVERIES / seconds:6.0f} per second, {load:.0%} of a core", flush=True)


async def show_waiting(directory: Path) -> None:
    """Print the memory of a bot with a thousand submissions that wait for Cloudflare, minus that of a bot with none."""
    sizes = []
    for count in (0, DELIVERIES):
        async with waiting_bot(directory / str(count), None, count) as (_, cloudflare, process):
            cloudflare.fail_next("credential", times=10**6, status=503, retry_after=3600)
            await process.start()
            await process.wait_until_ready()
            await wait_for(lambda: sum(each.path.endswith("/credential") for each in cloudflare.requests) >= count)  # noqa: B023 - used at once
            await asyncio.sleep(3)
            sizes.append(resident_bytes(process.pid))
    print(f"  {f'{DELIVERIES} waiting, inline':24}{(sizes[1] - sizes[0]) / 2**20:+6.1f} MB", flush=True)


async def show_idle_role(directory: Path, url: str, role: Role) -> None:
    """Print what an idle process costs; a gateway has a worker beside it, whose keys it waits for."""
    async with AsyncExitStack() as stack:
        _, _, process = await stack.enter_async_context(waiting_bot(directory, url, 0, role))
        if role == "gateway":
            beside = {**process._environment, "R2_CREDENTIAL_HTTP_PORT": str(find_free_port())}
            worker = BotProcess(beside, directory, role="worker")
            stack.push_async_callback(worker.kill)
            await worker.start()
            await worker.wait_until_ready()
        await process.start()
        await process.wait_until_ready()
        await asyncio.sleep(5)
        before = cpu_seconds(process.pid)
        await asyncio.sleep(IDLE_SECONDS)
        load = (cpu_seconds(process.pid) - before) / IDLE_SECONDS
        size = resident_bytes(process.pid) / 2**20
    print(f"  {f'{role}, PostgreSQL, idle':24}{size:6.0f} MB, {load:.2%} of a core over {IDLE_SECONDS} s", flush=True)


@asynccontextmanager
async def waiting_bot(
    directory: Path, url: str | None, count: int, role: Role | None = None
) -> AsyncIterator[tuple[FakeSlack, FakeCloudflare, BotProcess]]:
    """Record submissions, each for a different bucket, and set up a bot for them that is not started yet."""
    directory.mkdir(parents=True)
    pem = generate_private_key()
    async with AsyncExitStack() as stack:
        cloudflare = await stack.enter_async_context(FakeCloudflare())
        slack = await stack.enter_async_context(FakeSlack())
        cloudflare.limit = NO_LIMIT_TO_SPEAK_OF
        for number in range(count):
            cloudflare.add_bucket(bucket(number))
        environment = bot_environment(slack, cloudflare, directory / "data", "http", find_free_port())
        environment |= {"R2_CREDENTIAL_SEALING_KEY": pem, "R2_CREDENTIAL_LOG_LEVEL": "error"}
        environment["R2_CREDENTIAL_AUDIT_KEY"] = AUDIT_KEY
        ring = KeyRing(*load_private_keys(pem))
        environment["R2_CREDENTIAL_SEALING_PUBLIC_KEY"] = public_pem(load_private_keys(pem)[0])
        if url is None:
            database = SqliteDatabase(directory / "data" / "bot.sqlite", set_up_with(CHAIN, lambda: datetime.now(UTC)))
            database.start()
            await asyncio.gather(*(accept(Submissions(database, CHAIN), number, ring) for number in range(count)))
            database.stop()
        else:
            environment["R2_CREDENTIAL_DATABASE_URL"] = url
            async with postgres(url) as (shared, jobs):
                await forget(shared)
                submissions = Submissions(shared, CHAIN, enqueue=jobs.deliver_in)
                for number in range(count):
                    await accept(submissions, number, ring)
        process = BotProcess(environment, directory, role=role or ("all" if url is None else "worker"))
        try:
            yield slack, cloudflare, process
        finally:
            await process.kill()


@asynccontextmanager
async def postgres(url: str) -> AsyncIterator[tuple[PostgresDatabase, Jobs]]:
    """Open the database, with all its tables."""
    database = PostgresDatabase(url)
    await database.start()
    jobs = Jobs(database)
    await jobs.prepare()
    yield database, jobs
    await database.stop()


async def forget(database: Database) -> None:
    """Empty the tables."""

    async def empty(_: None, connection: Any) -> None:  # noqa: ANN401 - psycopg's type
        await connection.execute("TRUNCATE submissions, leases, openings, procrastinate_jobs CASCADE")

    await database.run(lambda _: None, empty)


def bucket(number: int) -> str:
    """Return the name of one of the buckets."""
    return f"bucket-{number}" if number >= 0 else "warm-up"


async def wait_for(look: Callable[[], bool]) -> None:
    """Wait until the condition holds, at most two minutes."""
    async with asyncio.timeout(PATIENCE):
        while not look():  # noqa: ASYNC110 - no event is set
            await asyncio.sleep(0.005)


async def accept(submissions: Submissions, number: int, ring: KeyRing | None = None) -> NewSubmission:
    """Record one submission, with its opening."""
    now = datetime.now(UTC)
    key = make_key(bucket(number))
    nonce, team_id = f"nonce-{number}-{now.timestamp()}", "T0SANDBOX"
    new = make_new_submission(
        id=f"V{number:010}{int(now.timestamp() * 1000) % 10**9}",
        team_id=team_id,
        user_id=USER,
        key=key,
        channel_id=CHANNEL,
        accepted_at=now,
    )
    if ring is not None:
        context = SealingContext(
            purpose=TOKEN,
            task=new.task,
            team_id=team_id,
            user_id=USER,
            view_id=new.id,
            channel_id=new.channel_id,
            account_id=key.account_id,
            bucket=key.bucket,
        )
        sealed = ring.sealing_key.seal(make_token(Behaviour.GOOD, number), context)
        new = replace(new, sealed=Sealed(token=SealedToken(sealed)))
    await submissions.add_opening(Opening(nonce=nonce, team_id=team_id, user_id=USER, expires_at=new.expires_at))
    await submissions.accept(new, nonce)
    return new


if __name__ == "__main__":
    asyncio.run(main())
