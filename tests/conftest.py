"""Fixtures for tests of several modules: a database file, a clock that can be advanced, and the captured log."""

import asyncio
import gc
import io
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import cache
from pathlib import Path
from ssl import SSLContext
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from httpx._transports import default as httpx_transports
from hypothesis import settings
from playwright.async_api import Browser, async_playwright, expect

from bot.sandbox.workspace import PATIENCE
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.captured_log import captured_log
from tests.clock import Clock
from tests.desk import Desk, open_desk
from tests.make import CHAIN
from tests.pgbouncer import PGBOUNCER, running_pgbouncer
from tests.postgres import execute, running_postgres

gc.disable()  # until the tests are collected: nearly all objects stay, and looking through them is a third of the time

settings.register_profile("here", deadline=None)  # no duration is ever asserted
settings.load_profile("here")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


SLOWEST_FIRST = (
    "test_run_jobs.py",
    "test_app.py",
    "test_outages.py",
    "test_freeze.py",
    "test_replicas.py",
    "sandbox/test_page.py",
    "test_deliver.py",
    "test_postgres.py",
    "/e2e/",
    "test_submissions.py",
    "test_ordering.py",
    "/inbound/",
    "test_cli.py",
)
"""What waits longest comes first, since others run beside it; what only computes is left for the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest modules first: a worker that started one of them last would keep all others waiting."""

    def place(item: pytest.Item) -> int:
        module = item.nodeid.partition("::")[0]
        return next((number for number, name in enumerate(SLOWEST_FIRST) if name in module), len(SLOWEST_FIRST))

    items.sort(key=place)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Start a headless Chromium; without one, skip, except in CI."""
    if CHROMIUM is None:
        message = "Chromium is not installed: no page is looked at (Debian: apt install chromium)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    expect.set_options(timeout=PATIENCE / timedelta(milliseconds=1))
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """Lend the one Chromium, and close what a test has opened in it; the test runs in the session's loop."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    """Return the path of the database file; its directory holds nothing else."""
    return tmp_path / "data" / "bot.sqlite"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Freeze the collected tests, so that the garbage collector does not scan them again: a fifth of the run."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def authorities() -> Iterator[None]:
    """Load the certificate authorities once: httpx loads them for each client, and no test uses https."""
    read_once = cache(httpx.create_ssl_context)

    def read(**wanted: Any) -> SSLContext:  # noqa: ANN401 - the arguments of httpx
        is_named = wanted.get("trust_env") and {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys()
        return (httpx.create_ssl_context if is_named else read_once)(**wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx_transports, "create_ssl_context", read)
        yield


@pytest.fixture(scope="session", autouse=True)
def plain_network() -> Iterator[None]:
    """Remove the machine's proxy variables and certificate authorities from the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def plain_umask() -> Iterator[None]:
    """Make directories that only their owner can write, whatever the umask: the bot refuses others."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the bot's empty tables, to be copied: creating them takes ten times as long."""
    path = tmp_path_factory.mktemp("migrated") / "bot.sqlite"
    database = SqliteDatabase(path)
    database.start()
    database.stop()
    return path


@pytest.fixture
def migrated_path(database_path: Path, migrated_file: Path) -> Path:
    """Return the path of a database file that has its tables."""
    database_path.parent.mkdir(mode=0o700)
    shutil.copyfile(migrated_file, database_path)
    return database_path


@pytest.fixture
def database(migrated_path: Path) -> Iterator[SqliteDatabase]:
    """Start the bot's database on a real file."""
    database = SqliteDatabase(migrated_path)
    database.start()
    yield database
    database.stop()


@pytest.fixture
def submissions(database: SqliteDatabase) -> Submissions:
    """Return the tables of that database."""
    return Submissions(database, CHAIN)


@pytest_asyncio.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Return a function that advances the loop's time, so that no test sits through a timeout."""
    loop = asyncio.get_running_loop()
    real_time, passed = loop.time, timedelta(0)

    def move_on(by: timedelta) -> None:
        nonlocal passed
        passed += by

    monkeypatch.setattr(loop, "time", lambda: real_time() + passed.total_seconds())
    return move_on


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Capture every line that the program logs at level debug and above."""
    with captured_log() as stream:
        yield stream


@pytest_asyncio.fixture
async def desk(database: SqliteDatabase, database_path: Path, clock: Clock, log: io.StringIO) -> AsyncIterator[Desk]:
    """Open a desk for the members of one user group."""
    async with open_desk(database, database_path, clock) as desk:
        yield desk


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the URL of a PostgreSQL server: TEST_POSTGRES_URL, or else one started for this process."""
    if url := os.environ.get("TEST_POSTGRES_URL"):
        yield url
        return
    with TemporaryDirectory(prefix="postgres-") as directory:  # as root the server runs as nobody
        Path(directory).chmod(0o755)
        with running_postgres(Path(directory) / "server") as url:
            yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Return the URL of a new, empty database."""
    name = f"test_{uuid4().hex}"
    execute(postgres_server, f"CREATE DATABASE {name}")
    yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def pooled(postgres_url: str) -> Iterator[Callable[..., str]]:
    """Return a function that starts a PgBouncer before an empty database, in a mode and with more settings."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="pgbouncer-")))
        directory.chmod(0o755)  # as root it runs as nobody

        def start(mode: str, *settings: str) -> str:
            return stack.enter_context(running_pgbouncer(postgres_url, directory / uuid4().hex, mode, *settings))

        yield start
