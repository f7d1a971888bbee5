"""Whether answers stay as fast while the account and the history grow: each lookup and the start, at several sizes.

The databases are filled with plain SQL; the bot runs as a process between doubles. An argument chooses one of the two
halves, `catalogs` or `submissions`.
"""

import asyncio
import itertools
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, FakeCloudflare
from bot.sandbox.process import BotProcess, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.storage.chain_start import set_up_with
from bot.storage.sqlite import SqliteDatabase
from tests.benchmarks.footprint import resident_bytes
from tests.make import AUDIT_KEY, CHAIN

CATALOGS = (10, 100, 1_000, 10_000)
SUBMISSIONS = (0, 10_000, 1_000_000)
FEW = 100
"""The catalogs while submissions grow."""

ROUNDS = 15
USER, CHANNEL = "U0ADA0001", "C0DATAPLT"
BUSY = "lake-00000"
"""The bucket with a tenth of the submissions."""

SEED_CATALOGS = """
WITH RECURSIVE one(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM one WHERE n + 1 < :count)
INSERT INTO catalogs (account_id, bucket, status, credential_status, tested, tested_at)
SELECT :account, printf('lake-%05d', n), 'active', 'present', iif(n % 50, 'valid', 'invalid'), :now FROM one
"""
SEED_CREDENTIALS = """
INSERT INTO credentials (account_id, bucket, submission_id, stored_by, stored_at, channel_id, token_id, expires_at)
SELECT account_id, bucket, 'V' || bucket, 'U0ADA0001', :now, 'C0DATAPLT', hex(randomblob(16)),
    strftime('%Y-%m-%d %H:%M:%f000', :now, printf('+%d minutes', 1000 + abs(random()) % 200000))
FROM catalogs
"""
SEED_SUBMISSIONS = """
WITH RECURSIVE one(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM one WHERE n + 1 < :count)
INSERT INTO submissions (
    id, task, state, team_id, user_id, account_id, bucket, channel_id, reason, token_kind, last_four, sent_at,
    accepted_at, expires_at, next_attempt_at, attempts, possibly_written, checked_at, token_id, token_owner,
    token_expires_at, unchecked, credential_before, ended_at, confirmation, reported_at, revision
)
SELECT printf('V%010d', n), 'store', 'stored', 'T0SANDBOX', 'U0ADA0001', :account,
    iif(n % 10, printf('lake-%05d', n / 10 % 99 + 1), :busy), 'C0DATAPLT', 'rotation of the quarter', 'account', 'Zq9x',
    :now, :now, :now, :now, 1, TRUE, :now, '0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f', 'account', :now, '', 'present', :now,
    'valid', :now, 9
FROM one
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians in milliseconds by name, in the order of the table; and what the file and the process take, in MB."""

    medians: dict[str, float]
    file: float
    memory: float


async def main() -> None:
    """Print one table for each half."""
    halves = sys.argv[1:] or ["catalogs", "submissions"]
    if "catalogs" in halves:
        show("catalogs", CATALOGS, [await measure(count, submissions=0) for count in CATALOGS])
    if "submissions" in halves:
        show("submissions", SUBMISSIONS, [await measure(FEW, submissions=count) for count in SUBMISSIONS])


def show(of_what: str, sizes: Sequence[int], figures: Sequence[Figures]) -> None:
    """Print the medians at each size, and how many times the first and the second the last is.

    Of ten catalogs, a page shows ten; of 100 it is full, as of 10,000.
    """
    print(f"{'ms, ' + of_what + ':':32}{''.join(f'{size:>11,}' for size in sizes)}{'factor':>9}{'from 2nd':>9}")
    for name in figures[0].medians:
        row = [each.medians[name] for each in figures]
        print(f"{name:32}{''.join(f'{figure:11.1f}' for figure in row)}{row[-1] / row[0]:9.2f}{row[-1] / row[1]:9.2f}")
    print(f"{'file, MB':32}{''.join(f'{each.file:11.1f}' for each in figures)}")
    print(f"{'memory, MB':32}{''.join(f'{each.memory:11.1f}' for each in figures)}", flush=True)


async def measure(catalogs: int, submissions: int) -> Figures:
    """Fill a database, start the bot on it, and ask for everything, in turn so that noise meets all alike."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "data" / "bot.sqlite"
        await fill(path, catalogs, submissions)
        async with running_bot(Path(scratch), catalogs) as (slack, bot, seconds):
            taken: dict[str, list[float]] = {name: [] for name in lookups(slack)}
            for _ in range(ROUNDS):
                for name, ask in lookups(slack).items():
                    started = time.perf_counter()
                    await ask()
                    taken[name].append(time.perf_counter() - started)
                await slack.close(USER)
            medians = {name: statistics.median(figures) * 1000 for name, figures in taken.items()}
            memory = resident_bytes(bot.pid) / 2**20
        file = sum(each.stat().st_size for each in path.parent.glob("bot.sqlite*")) / 2**20
        return Figures(medians | {"start": seconds * 1000}, file, memory)


async def fill(path: Path, catalogs: int, submissions: int) -> None:
    """Make the tables as the bot does, then the rows with one statement for each table."""
    database = SqliteDatabase(path, set_up_with(CHAIN, lambda: datetime.now(UTC)))
    database.start()
    await database.close()
    known = {"account": SANDBOX_ACCOUNT_ID, "busy": BUSY, "now": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(SEED_CATALOGS, known | {"count": catalogs})
        connection.execute(SEED_CREDENTIALS, known)
        connection.execute("INSERT INTO snapshots VALUES (:account, :now, :now)", known)
        if submissions:
            connection.execute(SEED_SUBMISSIONS, known | {"count": submissions})


@asynccontextmanager
async def running_bot(scratch: Path, catalogs: int) -> AsyncIterator[tuple[FakeSlack, BotProcess, float]]:
    """Start the bot; yield once it is ready and has its list, with the seconds that it took to be ready."""
    async with FakeCloudflare() as cloudflare, FakeSlack() as slack:
        for number in range(catalogs):
            cloudflare.add_bucket(f"lake-{number:05d}", token=make_token(Behaviour.GOOD, number=9))
        environment = bot_environment(slack, cloudflare, scratch / "data", "socket", find_free_port())
        bot = BotProcess(
            environment | {"R2_CREDENTIAL_LOG_LEVEL": "error", "R2_CREDENTIAL_AUDIT_KEY": AUDIT_KEY}, scratch
        )
        started = time.perf_counter()
        await bot.start()
        if not await bot.wait_until_ready():
            sys.exit("the bot did not start")
        seconds = time.perf_counter() - started
        await slack.wait_for_connections()
        await asyncio.sleep(2)  # the list is requested at the start, and takes its time with many catalogs
        yield slack, bot, seconds
        await bot.stop()


_numbers = itertools.count()


def lookups(slack: FakeSlack) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what a person does, by name, in this order: the form that is opened first is searched in."""

    async def search(query: str) -> None:
        await slack.search_options(USER, "bucket", query)

    async def see_home() -> None:
        before = len(slack.calls_of("views.publish"))
        await slack.open_home(USER)
        await slack.wait_for_home(USER, lambda _: len(slack.calls_of("views.publish")) > before)

    def command(words: str) -> Callable[[], Awaitable[object]]:
        return lambda: slack.type_command(USER, CHANNEL, f"/r2-credential {words}")

    return {
        "form of a bucket": command(BUSY),
        "search, matches": lambda: search("lake-0000"),
        "search, in the middle": lambda: search("000"),
        "search, no match": lambda: search(f"lakes-{next(_numbers):05d}"),
        "status": command("status"),
        "status of a bucket": command(f"status {BUSY}"),
        "Home": see_home,
        "history": command("history"),
        "history of a busy bucket": command(f"history {BUSY}"),
    }


if __name__ == "__main__":
    asyncio.run(main())
