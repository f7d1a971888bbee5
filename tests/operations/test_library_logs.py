"""What real libraries and Python itself have to say comes out as log lines like ours, in a real process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bot

PROGRAM = """
import asyncio, gc, sys, threading, warnings
import aiohttp, httpx, sqlalchemy
from aiohttp import web
from aiohttp.test_utils import TestServer
from slack_sdk.web.async_client import AsyncWebClient
from bot.model.reference import about
from bot.operations.logs import configure_logging
from bot.storage.sqlite import SqliteDatabase
from pathlib import Path

SECRET = "cfut_" + "MADEUP0user1" * 3 + "abcd" + "0badc0de"
configure_logging("debug", "json")

async def fail(_):
    raise ValueError(SECRET)

async def use_libraries():
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", fail)
    async with TestServer(app) as server, httpx.AsyncClient(trust_env=False) as client:
        await client.post(str(server.make_url("/there")), headers={"Authorization": SECRET})
        async with aiohttp.ClientSession() as session:
            await session.get(server.make_url("/"))
            await AsyncWebClient(SECRET, base_url=str(server.make_url("/")), session=session).auth_test()

async def forget_a_task():
    asyncio.ensure_future(fail(None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

class Finalized:
    def __del__(self):
        raise KeyError(SECRET)

database = SqliteDatabase(Path(sys.argv[1]))  # with SQLAlchemy and Alembic
database.start()
database.stop()
try:
    asyncio.run(use_libraries())
except Exception:
    pass
with about("V1"):
    asyncio.run(forget_a_task())
    gc.collect()
    Finalized()
    warnings.warn(f"careful with {SECRET}", RuntimeWarning)
    thread = threading.Thread(target=lambda: int(SECRET), name="made-up")
thread.start()
thread.join()
raise LookupError(SECRET)
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the program at level debug, and return what it printed."""
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM, tmp_path_factory.mktemp("library-logs") / "bot.sqlite"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(bot.__file__).parent.parent,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_every_line_has_the_same_fields(lines: list[dict[str, Any]]) -> None:
    """So one query finds them all."""
    assert [line for line in lines if not {"timestamp", "level", "event", "logger"} <= line.keys()] == []


def test_no_line_shows_the_secret(lines: list[dict[str, Any]]) -> None:
    """Neither do tracebacks and warnings."""
    assert "MADEUP0user1" not in str(lines)
    assert "masked]" in str(lines)


@pytest.mark.parametrize(
    ("event", "level", "logger", "error"),
    [
        pytest.param("crashed", "critical", "bot.operations.logs", "LookupError", id="the main thread"),
        pytest.param("thread_broke", "critical", "bot.operations.logs", "ValueError", id="a thread"),
        pytest.param("finalizer_broke", "error", "bot.operations.logs", "KeyError", id="a finalizer"),
    ],
)
def test_what_nothing_handles_is_logged(
    lines: list[dict[str, Any]], event: str, level: str, logger: str, error: str
) -> None:
    """With the traceback, under a name that can be searched for."""
    [line] = [line for line in lines if line["event"] == event]
    assert (line["level"], line["logger"]) == (level, logger)
    assert f"\n{error}: " in line["exception"]


def test_what_libraries_warn_of_is_logged(lines: list[dict[str, Any]]) -> None:
    """Once, under their own names; what they say about each request, statement and migration is not."""
    theirs = [(line["logger"], line["level"]) for line in lines if not line["logger"].startswith("bot.")]
    failed_requests = [("aiohttp.server", "error")] * 3
    assert theirs == [*failed_requests, ("asyncio", "error"), ("py.warnings", "warning")]


def test_what_the_garbage_collector_finds_has_no_reference(lines: list[dict[str, Any]]) -> None:
    """It is found in the middle of unrelated work."""
    assert [line for line in lines if "reference" in line] == []
