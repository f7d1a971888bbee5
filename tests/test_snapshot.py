"""The keeper of the catalogs' list: when it asks Cloudflare, and that a failure keeps the old list."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from bot.catalog import Catalog, CatalogStatus, CredentialStatus
from bot.cloudflare.client import ApiToken, CloudflareClient
from bot.errors import DatabaseUnavailable
from bot.records import Records
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN
from bot.secret import Secret
from bot.snapshot import FRESH, REFRESH_EVERY, SnapshotKeeper

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PATIENCE = timedelta(seconds=5)
PassTime = Callable[[timedelta], None]


class Scene:
    """A keeper, a Cloudflare that answers as told, and a clock that stands still."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.now = START
        self.asked: asyncio.Queue[None] = asyncio.Queue()
        self.buckets = ["pond", "lake"]
        self.is_down = False
        self.fault: Exception | None = None
        self.client = CloudflareClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url="http://127.0.0.1:1/client/v4",
            auth=ApiToken(token=Secret(SANDBOX_API_TOKEN)),
            transport=httpx.MockTransport(self._answer),
        )
        self.keeper = SnapshotKeeper(self.client, records, SANDBOX_ACCOUNT_ID, lambda: self.now)
        self.running: asyncio.Task[None] | None = None

    def _answer(self, _: httpx.Request) -> httpx.Response:
        self.asked.put_nowait(None)
        if self.fault is not None:
            raise self.fault
        if self.is_down:
            return httpx.Response(503)
        warehouses = [{"bucket": bucket, "status": "active"} for bucket in self.buckets]
        return httpx.Response(200, json={"success": True, "errors": [], "result": {"warehouses": warehouses}})

    async def start(self) -> None:
        """Start the keeper; it asks at once."""
        self.running = asyncio.create_task(self.keeper.run())
        await self.refreshed()

    async def refreshed(self) -> None:
        """Wait until Cloudflare was asked once more, and the answer is recorded."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await self.asked.get()
        await self.settle()

    async def settle(self) -> None:
        """Let the keeper come to its next wait, for which the database has to answer twice."""
        for _ in range(2):
            await self.records.ping()
            await asyncio.sleep(0)

    async def listed(self) -> list[str]:
        """Return the buckets that a form would offer."""
        snapshot = await self.records.snapshot(SANDBOX_ACCOUNT_ID)
        return [catalog.bucket for catalog in snapshot.catalogs] if snapshot else []


@pytest_asyncio.fixture
async def scene(records: Records) -> AsyncIterator[Scene]:
    """Build a keeper, and end it afterwards."""
    scene = Scene(records)
    yield scene
    if scene.running is not None:
        scene.running.cancel()
        await asyncio.wait([scene.running])
    await scene.client.aclose()


async def test_the_list_is_there_soon_after_the_start(scene: Scene) -> None:
    """Sorted by bucket, with what Cloudflare left out as unknown, and the time of the question."""
    await scene.start()
    snapshot = await scene.records.snapshot(SANDBOX_ACCOUNT_ID)
    assert snapshot is not None
    assert snapshot.refreshed_at == START
    assert snapshot.catalogs == tuple(
        Catalog(bucket=bucket, status=CatalogStatus.ACTIVE, credential_status=CredentialStatus.UNKNOWN)
        for bucket in ("lake", "pond")
    )


async def test_it_asks_again_every_few_minutes(scene: Scene, pass_time: PassTime) -> None:
    """Not earlier, and for ever."""
    await scene.start()
    for bucket in ("bog", "mere"):
        scene.buckets.append(bucket)
        pass_time(REFRESH_EVERY - 2 * SECOND)
        await scene.settle()
        assert scene.asked.empty()
        pass_time(3 * SECOND)
        await scene.refreshed()
        assert bucket in await scene.listed()


@pytest.mark.parametrize(
    ("age", "is_asked"),
    [
        pytest.param(timedelta(0), False, id="just asked"),
        pytest.param(FRESH - timedelta(milliseconds=1), False, id="still fresh"),
        pytest.param(FRESH, True, id="stale"),
        pytest.param(timedelta(hours=1), True, id="very old"),
        pytest.param(-timedelta(hours=1), True, id="asked in the future: the clock was set back"),
    ],
)
async def test_somebody_who_looks_has_a_stale_list_refreshed(scene: Scene, age: timedelta, is_asked: bool) -> None:  # noqa: FBT001 - a column of the table
    """A fresh one is left alone, so that typing does not cost a request a keystroke."""
    await scene.start()
    scene.now += age
    for _ in range(3):
        scene.keeper.want()
    if is_asked:
        await scene.refreshed()
    await scene.settle()
    assert scene.asked.empty()


async def test_a_wish_before_the_start_costs_no_second_question(scene: Scene) -> None:
    """The first one serves it."""
    scene.keeper.want()
    await scene.start()
    await scene.settle()
    assert scene.asked.empty()


async def test_a_failure_keeps_the_old_list_and_is_no_end(scene: Scene) -> None:
    """It is logged without a word of the answer, and tried again at the next occasion."""
    await scene.start()
    scene.buckets, scene.is_down = ["mere"], True
    scene.now += FRESH
    with capture_logs() as logs:
        scene.keeper.want()
        await scene.refreshed()
    assert [line["event"] for line in logs] == ["snapshot_not_refreshed"]
    assert await scene.listed() == ["lake", "pond"]

    scene.keeper.want()
    await scene.settle()
    assert scene.asked.empty()

    scene.is_down = False
    scene.now += FRESH
    scene.keeper.want()
    await scene.refreshed()
    assert await scene.listed() == ["mere"]


async def test_a_bucket_that_is_listed_twice_is_kept_once(scene: Scene) -> None:
    """A strange answer is no reason to offer nothing."""
    scene.buckets = ["lake", "lake"]
    await scene.start()
    assert await scene.listed() == ["lake"]


async def test_a_database_that_is_away_is_no_end_either(scene: Scene, database_path: Path) -> None:
    """An answer that cannot be recorded is like none."""
    with closing(sqlite3.connect(database_path, isolation_level=None)) as somebody_else:
        somebody_else.execute("BEGIN IMMEDIATE")
        scene.running = asyncio.create_task(scene.keeper.run())
        await scene.asked.get()
        with pytest.raises(DatabaseUnavailable):
            await scene.records.ping()
    await scene.settle()
    assert await scene.listed() == []
    scene.buckets, scene.now = ["lake"], START + FRESH
    scene.keeper.want()
    await scene.refreshed()
    assert await scene.listed() == ["lake"]


@pytest.mark.parametrize("fault", [KeyError("MARKER"), RecursionError("MARKER"), ValueError("MARKER")], ids=repr)
async def test_no_fault_at_all_ends_the_keeper(scene: Scene, fault: Exception) -> None:
    """An old list must not end the bot: the fault is logged by its type, and the next occasion refreshes the list."""
    await scene.start()
    scene.fault = fault
    scene.now += FRESH
    with capture_logs() as logged:
        scene.keeper.want()
        await scene.refreshed()
    assert [(line["event"], line["error"]) for line in logged] == [("snapshot_broke", type(fault).__name__)]
    assert await scene.listed() == ["lake", "pond"]

    scene.fault, scene.buckets = None, ["new"]
    scene.now += FRESH
    scene.keeper.want()
    await scene.refreshed()
    assert await scene.listed() == ["new"]
