"""The reference is on the lines of the work on its submission, and on no others."""

import asyncio
import io
import json
import logging
from collections.abc import Callable
from datetime import timedelta

import pytest
import structlog

from bot.model.background import Background
from bot.model.reference import about, bound_reference, context_about
from bot.model.tally import PAUSE, Tally


def references(log: io.StringIO) -> list[tuple[str, str | None]]:
    """Return each logged event with its reference."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [(line["event"], line.get("reference")) for line in lines]


def test_all_lines_meanwhile_have_it(log: io.StringIO) -> None:
    """Ours and those of libraries; outside there is none, and inside another one that of the inner."""
    structlog.get_logger("bot.x").info("before")
    with about("V1"):
        structlog.get_logger("bot.x").info("ours")
        logging.getLogger("a.library").warning("theirs")
        with about("V2"):
            structlog.get_logger("bot.x").info("inner")
        with about(""):
            structlog.get_logger("bot.x").info("still")
    structlog.get_logger("bot.x").info("after")
    assert references(log) == [
        ("before", None),
        ("ours", "V1"),
        ("theirs", "V1"),
        ("inner", "V2"),
        ("still", "V1"),
        ("after", None),
    ]


async def test_concurrent_work_does_not_mix(log: io.StringIO) -> None:
    """Each task has its own."""
    turn = asyncio.Barrier(3)

    async def work(name: str) -> None:
        with about(name):
            await turn.wait()
            structlog.get_logger("bot.x").info("worked", name=name)

    await asyncio.gather(*(work(name) for name in ("V1", "V2", "V3")))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["name"] == line["reference"] for line in lines] == [True] * 3


@pytest.mark.parametrize("reference", ["", "V2"])
async def test_a_background_task_does_not_keep_that_of_its_starter(log: io.StringIO, reference: str) -> None:
    """Nor does the line about its failure: it may run for days, as a bucket's delivery does."""
    background = Background("it_broke")

    async def fail() -> None:
        structlog.get_logger("bot.x").info("began")
        await asyncio.sleep(0)
        raise ValueError

    with about("V1"):
        background.start(fail(), reference=reference)
        assert bound_reference() == "V1"
        await background.drain()
    assert references(log) == [("began", reference or None), ("it_broke", reference or None)]


async def test_work_that_its_caller_awaits_keeps_it(log: io.StringIO) -> None:
    """A transaction is part of its caller's work, whether that is cancelled or not."""
    background = Background("it_broke")

    async def work() -> None:
        structlog.get_logger("bot.x").info("worked")

    with about("V1"):
        await background.shield(work)
    assert references(log) == [("worked", "V1")]


async def test_work_that_several_await_has_none(log: io.StringIO) -> None:
    """The answer to a shared question would be logged under the reference of the one who came first."""
    background = Background("it_broke")
    may_answer = asyncio.Event()

    async def ask() -> None:
        await may_answer.wait()
        structlog.get_logger("bot.x").info("asked")

    async def want(reference: str) -> None:
        with about(reference):
            await background.shield(ask, name="question")

    waiting = [asyncio.create_task(want(name)) for name in ("V1", "V2")]
    await asyncio.sleep(0)
    may_answer.set()
    await asyncio.gather(*waiting)
    assert references(log) == [("asked", None)]


async def test_a_count_over_several_has_none(log: io.StringIO, pass_time: Callable[[timedelta], None]) -> None:
    """The first event is logged at once with the reference; the next line counts those of others too."""
    tally = Tally("slack_not_heard")
    with about("V1"):
        tally.count("timeout")
        tally.count("timeout")
    pass_time(PAUSE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert references(log) == [("slack_not_heard", "V1"), ("slack_not_heard", None)]


def test_a_context_of_its_own_leaves_the_current_one_unchanged() -> None:
    """The starter goes on under its own reference."""
    with about("V1"):
        assert context_about("V2").run(bound_reference) == "V2"
        assert context_about().run(bound_reference) == ""
        assert bound_reference() == "V1"
