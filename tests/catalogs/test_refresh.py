"""The refresh of the catalogs: when it asks Cloudflare, what it tests, and that a failure keeps the old records."""

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from bot.catalogs.freshness import FRESH, is_tested_lately
from bot.catalogs.refresh import (
    MOST_TESTS_AT_ONCE,
    REFRESH_EVERY,
    TEST_EVERY,
    CatalogsByOthers,
    SnapshotKeeper,
)
from bot.cloudflare.auth import ApiToken
from bot.cloudflare.client import CloudflareClient
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus
from bot.model.errors import DatabaseUnavailable
from bot.model.known_catalogs import Listing
from bot.model.secret import Secret
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import CHAIN

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LAKE = BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket="lake")
SECOND = timedelta(seconds=1)
PATIENCE = timedelta(seconds=60)
PassTime = Callable[[timedelta], None]


class Scene:
    """A refresher, a scripted Cloudflare, and a clock that stands still.

    `statuses` is what tests of credentials give, by bucket; where that is None, no test is offered.
    """

    def __init__(self, database: Database) -> None:
        self.submissions = Submissions(database, CHAIN)
        self.catalogs = Catalogs(database, SANDBOX_ACCOUNT_ID)
        self.now = START
        self.asked: asyncio.Queue[None] = asyncio.Queue()
        self.buckets = ["pond", "lake"]
        self.listed_as: dict[str, str] = {}
        self.inactive: set[str] = set()
        self.is_down = False
        self.fault: Exception | None = None
        self.refusal: httpx.Response | None = None
        self.statuses: dict[str, str | int | Exception] | None = None
        self.tested: list[str] = []
        self.testing = 0
        self.most_at_once = 0
        self.eight_at_once = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.client = CloudflareClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url="http://127.0.0.1:1/client/v4",
            auth=ApiToken(token=Secret(SANDBOX_API_TOKEN)),
            transport=httpx.MockTransport(self._answer),
        )
        self.counts: list[int | None] = []
        self.keeper = SnapshotKeeper(self.client, self.catalogs, lambda: self.now, tell_count=self.counts.append)
        self.running: asyncio.Task[None] | None = None

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/credential/status"):
            return await self._test(request.url.path.split("/")[-3])
        self.asked.put_nowait(None)
        if self.fault is not None:
            raise self.fault
        if self.refusal is not None:
            return self.refusal
        if self.is_down:
            return httpx.Response(503)
        warehouses = [
            {
                "bucket": bucket,
                "status": "inactive" if bucket in self.inactive else "active",
                "credential_status": self.listed_as.get(bucket),
            }
            for bucket in self.buckets
        ]
        return httpx.Response(200, json={"success": True, "errors": [], "result": {"warehouses": warehouses}})

    async def _test(self, bucket: str) -> httpx.Response:
        self.tested.append(bucket)
        self.testing += 1
        self.most_at_once = max(self.most_at_once, self.testing)
        if self.testing == MOST_TESTS_AT_ONCE:
            self.eight_at_once.set()
        try:
            if len(self.tested) > 1:  # the first one is tested alone
                await self.go_on.wait()
            return self._result(bucket)
        finally:
            self.testing -= 1

    def _result(self, bucket: str) -> httpx.Response:
        if self.statuses is None:
            return httpx.Response(404)
        status = self.statuses.get(bucket, "valid")
        if isinstance(status, Exception):
            raise status
        if isinstance(status, int):
            refusal = {"success": False, "errors": [{"code": status, "message": "made up"}], "result": None}
            return httpx.Response(404 if status > 1000 else status, json=refusal if status > 1000 else None)
        return httpx.Response(200, json={"success": True, "errors": [], "result": {"status": status}})

    async def known(self) -> dict[str, str]:
        """Return the known status of each catalog's credential."""
        snapshot = await self.catalogs.snapshot()
        assert snapshot is not None
        return {catalog.bucket: catalog.credential_status.value for catalog in snapshot.catalogs}

    async def look(self, *, tests: bool = True) -> list[str]:
        """Refresh on demand, with tests, and return what was tested."""
        self.tested.clear()
        await self.keeper.refresh_unless_fresh(tests=tests)
        return self.tested[:]

    async def start(self) -> None:
        """Start the refresher; it sends a request at once."""
        self.running = asyncio.create_task(self.keeper.run())
        await self.refreshed()

    async def refreshed(self) -> None:
        """Wait until Cloudflare was asked once more and the answer is recorded."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await self.asked.get()
        await self.settle()

    async def settle(self) -> None:
        """Let the refresher reach its next wait, for which the database must answer a few times."""
        for _ in range(8):
            await self.submissions.ping()
            await asyncio.sleep(0)

    async def listed(self) -> list[str]:
        """Return the buckets that a form would offer."""
        snapshot = await self.catalogs.snapshot()
        return [catalog.bucket for catalog in snapshot.catalogs] if snapshot else []


@pytest_asyncio.fixture
async def scene(database: SqliteDatabase) -> AsyncIterator[Scene]:
    """Build a refresher, and end it afterwards."""
    scene = Scene(database)
    yield scene
    if scene.running is not None:
        scene.running.cancel()
        await asyncio.wait([scene.running])
    await scene.client.aclose()


async def test_the_list_is_there_soon_after_the_start(scene: Scene) -> None:
    """Sorted by bucket, with UNKNOWN for what Cloudflare left out, and the time of the request."""
    await scene.start()
    snapshot = await scene.catalogs.snapshot()
    assert snapshot is not None
    assert snapshot.refreshed_at == START
    assert snapshot.catalogs == tuple(
        Catalog(key=key, status=CatalogStatus.ACTIVE, credential_status=CredentialStatus.UNKNOWN)
        for key in (LAKE, replace(LAKE, bucket="pond"))
    )


async def test_it_asks_again_every_few_minutes(scene: Scene, pass_time: PassTime) -> None:
    """Not earlier, and forever."""
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
async def test_a_stale_list_is_refreshed_on_demand(scene: Scene, age: timedelta, is_asked: bool) -> None:  # noqa: FBT001 - a column of the table
    """A fresh one is left alone, so that typing does not cost a request per keystroke."""
    await scene.start()
    scene.now += age
    for _ in range(3):
        scene.keeper.want()
    if is_asked:
        await scene.refreshed()
    await scene.settle()
    assert scene.asked.empty()


async def test_a_demand_before_the_start_costs_no_second_request(scene: Scene) -> None:
    """The first request serves it."""
    scene.keeper.want()
    await scene.start()
    await scene.settle()
    assert scene.asked.empty()


async def test_a_failure_keeps_the_old_list_and_the_refresher_running(scene: Scene) -> None:
    """It is logged without a word of the answer, and retried on the next occasion."""
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


@pytest.mark.parametrize("failure", ["refused", "unreachable"])
async def test_a_list_that_fails_is_noted_for_the_check_of_cloudflare(scene: Scene, failure: str) -> None:
    """Which says it, with its fix: the log has no second line about it above level debug."""
    if failure == "refused":
        scene.refusal = httpx.Response(401, json={"success": False, "errors": [{"code": 10000, "message": "made up"}]})
    else:
        scene.fault = httpx.ConnectError("made up")
        scene.fault.__cause__ = socket.gaierror(socket.EAI_NONAME, "made up")
    with capture_logs() as logs:
        await scene.start()
    assert [(line["event"], line["log_level"]) for line in logs] == [("snapshot_not_refreshed", "debug")]
    assert scene.counts == [None]


async def test_a_list_is_counted_for_the_check_of_cloudflare(scene: Scene) -> None:
    """So that it need not ask for the same."""
    await scene.start()
    assert scene.counts == [2]


async def test_a_test_that_fails_is_logged(scene: Scene) -> None:
    """No check asks for it: it is about one catalog."""
    scene.statuses = {"lake": 500, "pond": "valid"}
    with capture_logs() as logs:
        await scene.start()
    [line] = [line for line in logs if line["log_level"] == "warning"]
    assert (line["event"], "cloudflare_unavailable" in line["error"]) == ("credentials_not_tested", True)


async def test_a_bucket_that_is_listed_twice_is_kept_once(scene: Scene) -> None:
    """A strange answer must not empty the list."""
    scene.buckets = ["lake", "lake"]
    await scene.start()
    assert await scene.listed() == ["lake"]


async def test_a_missing_database_does_not_end_the_refresher(scene: Scene, database_path: Path) -> None:
    """An answer that cannot be recorded counts as none."""
    with closing(sqlite3.connect(database_path, isolation_level=None)) as somebody_else:
        somebody_else.execute("BEGIN IMMEDIATE")
        scene.running = asyncio.create_task(scene.keeper.run())
        await scene.asked.get()
        with pytest.raises(DatabaseUnavailable):
            await scene.submissions.ping()
    await scene.settle()
    assert await scene.listed() == []
    scene.buckets, scene.now = ["lake"], START + FRESH
    scene.keeper.want()
    await scene.refreshed()
    assert await scene.listed() == ["lake"]


@pytest.mark.parametrize("fault", [KeyError("MARKER"), RecursionError("MARKER"), ValueError("MARKER")], ids=repr)
async def test_no_bug_ends_the_refresher(scene: Scene, fault: Exception) -> None:
    """A stale list must not end the bot: the error's type is logged, and the next occasion refreshes the list."""
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


# Tests of stored credentials.


@pytest.mark.parametrize("tests", [True, False])
async def test_a_refresh_is_one_list_and_the_due_tests(scene: Scene, *, tests: bool) -> None:
    """Untested ones are due; empty and inactive ones are not tested at all."""
    scene.buckets = ["lake", "pond", "bog", "mere", "tarn"]
    scene.listed_as = {"lake": "present", "bog": "absent"}
    scene.inactive = {"tarn"}
    scene.statuses = {"pond": "invalid", "mere": "absent"}
    assert sorted(await scene.look(tests=tests)) == ["lake", "mere", "pond"]
    assert scene.asked.qsize() == 1
    assert await scene.known() == {
        "bog": "absent",
        "lake": "valid",
        "mere": "absent",
        "pond": "invalid",
        "tarn": "unknown",
    }


@pytest.mark.parametrize(
    ("tests", "age", "is_due"),
    [
        pytest.param(True, FRESH - SECOND, False, id="looked at, still fresh"),
        pytest.param(True, FRESH, True, id="looked at"),
        pytest.param(True, -SECOND, True, id="looked at, after the clock was set back"),
        pytest.param(False, FRESH, False, id="listed only"),
        pytest.param(False, TEST_EVERY - SECOND, False, id="listed only, not yet a day old"),
        pytest.param(False, TEST_EVERY, True, id="listed only, a day old"),
        pytest.param(False, -TEST_EVERY, True, id="listed only, after the clock was set back"),
    ],
)
async def test_a_test_is_repeated_once_a_day_or_on_demand(
    scene: Scene,
    tests: bool,  # noqa: FBT001 - a column of the table
    age: timedelta,
    is_due: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Also for a slot that was found empty, if the list does not say whether it still is."""
    scene.statuses = {"pond": "absent"}
    await scene.look()
    scene.now += age
    assert sorted(await scene.look(tests=tests)) == (["lake", "pond"] if is_due else [])


async def test_never_more_than_eight_are_tested_at_once(scene: Scene) -> None:
    """But eight as soon as the first one has shown that tests are offered."""
    scene.buckets = [f"bog{number}" for number in range(30)]
    scene.statuses = {}
    scene.go_on.clear()
    looking = asyncio.create_task(scene.look())
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await scene.eight_at_once.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(scene.tested) == 1 + MOST_TESTS_AT_ONCE
        scene.go_on.set()
        assert sorted(await looking) == sorted(scene.buckets)
    assert scene.most_at_once == MOST_TESTS_AT_ONCE


async def test_without_tests_on_offer_a_round_costs_one_request(scene: Scene) -> None:
    """And for a while none at all; the list is all there is to know, and counts as fresh."""
    scene.buckets = [f"bog{number}" for number in range(30)]
    with capture_logs() as logged:
        assert len(await scene.look()) == 1
    assert [line["event"] for line in logged] == ["snapshot_refreshed"]
    listing = (await scene.catalogs.catch_up()).listing
    assert listing is not None
    assert is_tested_lately(listing, scene.now)
    scene.now += timedelta(minutes=1)
    assert await scene.look() == []


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(503, id="Cloudflare is down"),
        pytest.param(429, id="too many requests"),
        pytest.param(httpx.ReadError("made up"), id="the line is cut"),
        pytest.param("made up", id="an answer of no known kind"),
        pytest.param(KeyError("made up"), id="a fault of ours"),
    ],
)
async def test_trouble_ends_a_round_and_the_rest_comes_first_next_time(
    scene: Scene, trouble: str | int | Exception
) -> None:
    """Untested ones keep their place; the failed one goes last, so that it cannot block the others forever."""
    scene.buckets = [f"bog{number}" for number in range(9)] + [f"cove{number}" for number in range(9)]
    scene.statuses = {"bog5": trouble}
    scene.go_on.clear()
    looking = asyncio.create_task(scene.look())
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await scene.eight_at_once.wait()
        scene.go_on.set()
        first = await looking
    assert "cove8" not in first
    assert scene.testing == 0
    snapshot = await scene.catalogs.snapshot()
    assert snapshot is not None
    assert snapshot.tested_at is None
    assert [catalog.bucket for catalog in snapshot.catalogs] == scene.buckets

    scene.now += FRESH
    await scene.look()
    assert set((await scene.known()).values()) == {"valid", "unknown"}
    scene.statuses = {}
    scene.now += FRESH
    assert max(await scene.look()) == "cove8"
    assert set((await scene.known()).values()) == {"valid"}


async def test_one_that_always_fails_holds_up_no_other(scene: Scene) -> None:
    """Cloudflare's failure with one catalog, the first in the list."""
    scene.buckets = [f"bog{number}" for number in range(20)]
    scene.statuses = {"bog0": 503}
    await scene.look()
    scene.now += FRESH
    assert (await scene.look())[-1] == "bog0"
    known = await scene.known()
    assert [bucket for bucket in scene.buckets if known[bucket] == "valid"] == scene.buckets[1:]


async def test_one_that_always_fails_does_not_cost_a_request_per_demand(scene: Scene) -> None:
    """The round counts as begun, whatever its outcome: repeated demands cost no more than usual."""
    scene.buckets = ["bog", "lake"]
    scene.statuses = {"bog": 503}
    await scene.look()
    for _ in range(5):
        scene.now += SECOND
        assert await scene.look() == []
    scene.now += FRESH
    assert await scene.look() != []


async def test_a_vanished_catalog_is_skipped(scene: Scene) -> None:
    """It was disabled between the list and the test: the others are tested, and the round is complete."""
    scene.buckets = ["bog", "lake", "pond"]
    scene.statuses = {"bog": 40401, "lake": 40401}
    assert sorted(await scene.look()) == ["bog", "lake", "pond"]
    assert await scene.known() == {"bog": "unknown", "lake": "unknown", "pond": "valid"}
    snapshot = await scene.catalogs.snapshot()
    assert snapshot is not None
    assert snapshot.tested_at == START


async def test_a_test_is_as_old_as_its_request(scene: Scene) -> None:
    """It is not about a credential that was stored while Cloudflare was testing."""
    scene.buckets = ["bog", "lake"]
    scene.statuses = {}
    scene.go_on.clear()
    looking = asyncio.create_task(scene.look())
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while len(scene.tested) < 2:  # noqa: ASYNC110 - the second request waits in the transport
            await asyncio.sleep(0)
        scene.now += 5 * SECOND
        scene.go_on.set()
        await looking
    snapshot = await scene.catalogs.snapshot()
    assert snapshot is not None
    assert [catalog.tested_at for catalog in snapshot.catalogs] == [START, START]


@pytest.mark.parametrize(
    ("catalogs", "age", "is_fresh"),
    [
        pytest.param(1, FRESH - SECOND, True, id="one, a moment ago"),
        pytest.param(1, FRESH, False, id="one, a while ago"),
        pytest.param(60, FRESH, False, id="as many as are tested in that time"),
        pytest.param(500, timedelta(seconds=249), True, id="hundreds, minutes ago"),
        pytest.param(500, timedelta(seconds=250), False, id="hundreds, longer ago"),
        pytest.param(1, -SECOND, False, id="in the future: the clock was set back"),
        pytest.param(1, None, False, id="never"),
    ],
)
def test_the_more_catalogs_the_longer_tests_are_fresh(
    catalogs: int,
    age: timedelta | None,
    is_fresh: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Constant demand costs no more than half of Cloudflare's 1,200 requests in five minutes."""
    listing = Listing(refreshed_at=START, tested_at=None if age is None else START - age, count=catalogs)
    assert is_tested_lately(listing, START) is is_fresh


async def test_fresh_tests_do_not_keep_a_stale_list(scene: Scene) -> None:
    """With many catalogs, tests stay fresh for longer than the list."""
    scene.buckets = [f"bog{number}" for number in range(100)]
    scene.statuses = {}
    await scene.look()
    scene.buckets.append("new")
    scene.now += FRESH
    assert await scene.look() == ["new"]
    assert "new" in await scene.listed()
    assert scene.asked.qsize() == 2


async def test_tests_are_made_on_demand_although_the_list_is_fresh(scene: Scene) -> None:
    """A demand during a round starts no second one."""
    scene.statuses = {"lake": "valid", "pond": "valid"}
    await scene.start()
    assert sorted(scene.tested) == ["lake", "pond"]
    scene.now += FRESH
    scene.keeper.want(tests=True)
    scene.keeper.want()
    await scene.refreshed()
    assert sorted(scene.tested) == ["lake", "lake", "pond", "pond"]
    scene.keeper.want(tests=True)
    scene.keeper.want(tests=True)
    await scene.settle()
    assert scene.asked.empty()
    assert len(scene.tested) == 4


async def test_without_the_database_cloudflare_is_not_asked(scene: Scene, database_path: Path) -> None:
    """The list's age is unknown and an answer could not be saved: it is logged, and the next demand asks."""
    away = database_path.with_name("away")
    await asyncio.to_thread(database_path.rename, away)
    with capture_logs() as logged:
        assert await scene.look() == []
    assert [line["event"] for line in logged] == ["sqlite_failed", "snapshot_not_read"]
    assert scene.asked.empty()
    await asyncio.to_thread(away.rename, database_path)
    await scene.look()
    assert await scene.listed() == ["lake", "pond"]


# A process without Cloudflare's credentials.


async def test_a_worker_is_asked_once_in_a_while(scene: Scene) -> None:
    """Separately for the list and for tests; a failure is logged, and the next demand asks again."""
    asked: list[bool] = []

    async def ask(tests: bool) -> None:  # noqa: FBT001 - as the jobs take it
        asked.append(tests)
        if len(asked) == 1:
            raise DatabaseUnavailable

    catalogs = CatalogsByOthers(ask, lambda: scene.now)
    with capture_logs() as logged:
        for _ in range(3):
            catalogs.want()
            await asyncio.sleep(0)
            catalogs.want(tests=True)
            await asyncio.sleep(0)
    assert asked == [False, True]
    assert [line["event"] for line in logged] == ["snapshot_not_asked_for"]
    for step in (FRESH, -2 * FRESH):
        scene.now += step
        catalogs.want(tests=True)
        await asyncio.sleep(0)
    assert asked == [False, True, True, True]
