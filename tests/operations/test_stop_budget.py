"""A stop ends within its one budget by construction, whichever of its stages hang; time is virtual here."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from bot.operations.stop_budget import LAST_RESORT, LATEST, LONGEST_STOP, Stage, StopBudget
from tests.virtual_time import run_in_virtual_time

Work = Callable[[], Coroutine[Any, Any, None]]


async def do_nothing() -> None:
    """End at once."""


async def hang() -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()


async def hang_in_spite_of_everything() -> None:
    """Ignore every cancellation, as psycopg does while it waits for a silent server."""
    for _ in range(1000):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


@asynccontextmanager
async def all_stages(budget: StopBudget, work: dict[Stage, Work]) -> AsyncIterator[None]:
    """Open the stages as the composition root does, each with its work, and close them in order."""
    async with AsyncExitStack() as stack:
        for stage in reversed(Stage):
            stages = await stack.enter_async_context(budget.stage(stage))
            stages.push_async_callback(work.get(stage, do_nothing))
        yield


async def stop_with(work: dict[Stage, Work], budget: StopBudget | None = None) -> timedelta:
    """Return the virtual time that a stop takes."""
    loop = asyncio.get_running_loop()
    budget = budget or StopBudget()
    async with all_stages(budget, work):
        await asyncio.sleep(100)  # a life before the stop counts for nothing
        began_at = loop.time()
    return timedelta(seconds=loop.time() - began_at)


def cut_off(log: io.StringIO) -> list[str]:
    """Return the stages that the log names as cut off."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line["stage"] for line in lines if line["event"] == "stop_stage_cut_off"]


def test_the_stages_fit_into_the_longest_stop() -> None:
    """Each ends later than the one before it, and the last one before the last resort."""
    times = [LATEST[stage] for stage in Stage]
    assert times == sorted(set(times))
    assert max(times) < LAST_RESORT < LONGEST_STOP


@pytest.mark.parametrize("work", [hang, hang_in_spite_of_everything])
def test_a_stop_in_which_everything_hangs_ends_in_time(work: Work, log: io.StringIO) -> None:
    """Not after the sum of all patiences."""
    took = run_in_virtual_time(stop_and_leave(dict.fromkeys(Stage, work)))
    assert max(LATEST.values()) <= took < LAST_RESORT
    assert cut_off(log) == [stage.value for stage in Stage]


async def stop_and_leave(work: dict[Stage, Work]) -> timedelta:
    """Stop, and then end what ignored its cancellation, which a process would end by exiting."""
    took = await stop_with(work)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    while others:
        for task in others:
            task.cancel()
        _, others = await asyncio.wait(others, timeout=0)
    return took


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_that_hangs_costs_only_its_own_time(stage: Stage, log: io.StringIO) -> None:
    """The others still have theirs."""
    took = run_in_virtual_time(stop_with({stage: hang}))
    assert took == LATEST[stage]
    assert cut_off(log) == [stage.value]


def test_a_stop_in_which_nothing_hangs_takes_no_time(log: io.StringIO) -> None:
    """No stage waits for the end of its time."""
    assert run_in_virtual_time(stop_with({})) == timedelta(0)
    assert cut_off(log) == []


@pytest.mark.parametrize(("earlier", "later"), [*pairwise(Stage)])
def test_a_stage_that_ends_early_leaves_its_time_to_the_next(earlier: Stage, later: Stage) -> None:
    """A write to Cloudflare has all of the time until the deliveries' end, if nobody waits for an answer."""
    shares: list[timedelta] = []
    budget_of: list[StopBudget] = []

    async def note() -> None:
        shares.append(budget_of[0].left(LATEST[later]))

    async def stop() -> None:
        budget_of.append(StopBudget())
        await stop_with({later: note}, budget_of[0])

    run_in_virtual_time(stop())
    assert shares == [LATEST[later]]
    assert LATEST[later] > LATEST[earlier]


def test_the_budget_counts_from_the_signal(log: io.StringIO) -> None:
    """Not from the moment when the loop came to it."""

    async def stop() -> timedelta:
        budget = StopBudget()
        budget.begin()
        await asyncio.sleep(3)
        budget.begin()
        left = budget.left(LAST_RESORT)
        loop = asyncio.get_running_loop()
        async with budget.stage(Stage.ANSWERS) as stack:
            stack.push_async_callback(hang)
            began_at = loop.time()
        assert timedelta(seconds=loop.time() - began_at) == LATEST[Stage.ANSWERS] - timedelta(seconds=3)
        return left

    assert run_in_virtual_time(stop()) == LAST_RESORT - timedelta(seconds=3)


def test_before_the_stop_all_of_the_budget_is_left() -> None:
    """And after it nothing."""
    now = iter([0.0, 1.0, 100.0])
    budget = StopBudget(lambda: next(now))
    assert budget.left(LAST_RESORT) == LAST_RESORT
    budget.begin()
    assert budget.left(LAST_RESORT) == LAST_RESORT - timedelta(seconds=1)
    assert budget.left(LAST_RESORT) == timedelta(0)


def test_a_stage_that_is_cut_off_still_frees_what_it_holds(log: io.StringIO) -> None:
    """Its other callbacks run, as those of the stages after it do."""
    freed: list[str] = []

    async def stop() -> None:
        async with StopBudget().stage(Stage.MODALS) as stack:
            stack.callback(freed.append, "session")
            stack.push_async_callback(hang)

    run_in_virtual_time(stop())
    assert freed == ["session"]


def raise_in(stages: Iterable[Stage]) -> dict[Stage, Work]:
    """Return work that fails."""

    async def fail() -> None:
        message = "made up"
        raise LookupError(message)

    return dict.fromkeys(stages, fail)


def test_a_stage_that_fails_does_not_stop_the_others(log: io.StringIO) -> None:
    """Its error ends the run when they are done."""
    done: list[Stage] = []

    def note(stage: Stage) -> Work:
        async def work() -> None:
            done.append(stage)

        return work

    with pytest.raises(LookupError, match="made up"):
        run_in_virtual_time(stop_with({stage: note(stage) for stage in Stage} | raise_in([Stage.ANSWERS])))
    assert done == list(Stage)[1:]
