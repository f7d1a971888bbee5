"""Background tasks: none is lost, none is started twice, and a stop ends within its time."""

import asyncio
import gc
import io
import json
from datetime import timedelta

import pytest

from bot.model.background import Background

MARKED = "madeup-token"


@pytest.fixture
def background() -> Background:
    """Start with no task running."""
    return Background("work_broke")


async def _answer(question: asyncio.Event, answer: str = "done") -> str:
    await question.wait()
    return answer


async def test_a_started_task_is_kept_until_it_ends(background: Background) -> None:
    """The event loop itself keeps only weak references to tasks."""
    may_end = asyncio.Event()
    task = background.start(_answer(may_end))
    assert background.tasks == {task}
    may_end.set()
    assert await task == "done"
    assert not background.tasks


async def test_a_failed_task_is_logged_by_its_type(background: Background, log: io.StringIO) -> None:
    """The error's text and frames may contain what was pasted."""

    async def work() -> None:
        raise ValueError(MARKED)

    background.start(work())
    await background.drain()
    assert MARKED not in log.getvalue()
    [line] = map(json.loads, log.getvalue().splitlines())
    assert (line["event"], line["level"], line["error"]) == ("work_broke", "error", "ValueError")


async def test_a_stop_waits_for_running_tasks(background: Background) -> None:
    """It waits until they end."""
    may_end = asyncio.Event()
    task = background.start(_answer(may_end))
    draining = asyncio.create_task(background.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    may_end.set()
    await draining
    assert task.result() == "done"


@pytest.mark.parametrize("patience", [timedelta(0), timedelta(milliseconds=1)], ids=["none", "a little"])
async def test_a_stop_cancels_what_takes_too_long(
    background: Background, log: io.StringIO, patience: timedelta
) -> None:
    """It returns when they have ended, and the cancellation is not logged as a fault."""
    task = background.start(_answer(asyncio.Event()))
    await background.drain(patience)
    assert task.cancelled()
    assert not background.tasks
    assert log.getvalue() == ""


async def test_a_stop_that_is_cut_off_cancels_what_it_waits_for(background: Background) -> None:
    """Otherwise the tasks would go on with what is closed after them."""
    task = background.start(_answer(asyncio.Event()))
    draining = asyncio.create_task(background.drain())
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait({draining, task})
    assert (draining.cancelled(), task.cancelled()) == (True, True)


async def test_all_tasks_can_be_cancelled_at_once(background: Background) -> None:
    """The caller may wait for their end."""
    tasks = [background.start(_answer(asyncio.Event())) for _ in range(3)]
    background.cancel()
    await background.drain()
    assert all(task.cancelled() for task in tasks)


async def test_a_shielded_call_goes_on_without_its_caller(background: Background) -> None:
    """The caller gave up; the work is still done, and a stop waits for it."""
    may_end, done = asyncio.Event(), []

    async def work() -> None:
        done.append(await _answer(may_end))

    caller = asyncio.create_task(background.shield(work))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    may_end.set()
    await background.drain()
    assert done == ["done"]


async def test_a_shielded_call_fails_for_its_caller_alone(background: Background, log: io.StringIO) -> None:
    """The caller gets the error; nothing is logged."""

    async def work() -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await background.shield(work)
    assert log.getvalue() == ""


async def test_a_failure_after_its_caller_is_gone_is_not_logged(background: Background, log: io.StringIO) -> None:
    """No caller receives it, and asyncio would log a traceback."""
    may_fail = asyncio.Event()

    async def work() -> None:
        await may_fail.wait()
        raise ValueError(MARKED)

    caller = asyncio.create_task(background.shield(work))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    may_fail.set()
    await background.drain()
    del caller
    gc.collect()
    assert log.getvalue() == ""


async def test_callers_under_one_name_share_one_answer(background: Background) -> None:
    """A caller that gives up does not cancel it for the others."""
    may_end, asked = asyncio.Event(), []

    async def ask() -> str:
        asked.append("once")
        return await _answer(may_end)

    callers = [asyncio.create_task(background.shield(ask, "S1")) for _ in range(3)]
    other = asyncio.create_task(background.shield(lambda: _answer(may_end, "another"), "S2"))
    await asyncio.sleep(0)
    callers[0].cancel()
    may_end.set()
    assert await asyncio.gather(*callers[1:], other) == ["done", "done", "another"]
    assert asked == ["once"]


async def test_the_next_caller_starts_anew(background: Background) -> None:
    """An answer is not remembered."""
    answers = iter(["first", "second"])

    async def ask() -> str:
        return next(answers)

    assert [await background.shield(ask, "S1") for _ in range(2)] == ["first", "second"]


async def test_a_task_being_cancelled_is_not_found(background: Background) -> None:
    """Its successor can use its name."""
    first = background.start(_answer(asyncio.Event()), "home")
    assert background.find("home") is first
    first.cancel()
    assert background.find("home") is None
    second = background.start(_answer(asyncio.Event()), "home")
    assert background.find("home") is second
    assert background.find("another") is None
    await background.drain(timedelta(0))
    assert background.find("home") is None
