"""How long a check is waited for, and that it is not run twice at a time, in virtual time."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from bot.model.finding import Check, Finding, Mark, Part
from bot.operations.examiner import PATIENCE, Examiner, examine
from tests.virtual_time import run_in_virtual_time

GOOD = Finding(part=Part.CLOCK, event="clock_right", text="the clock is right")
LATE = "gave no answer in time"
BRIEF = timedelta(seconds=2)


class Slow:
    """A part that answers when a test lets it."""

    def __init__(self, *, is_stubborn: bool = False) -> None:
        self.is_stubborn = is_stubborn
        self.begun = 0
        self.running = 0
        self.most = 0
        self.answers = asyncio.Event()

    async def examine(self) -> Sequence[Finding]:
        """Return a finding; a stubborn part goes on when it is cancelled."""
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            while True:
                try:
                    await self.answers.wait()
                except asyncio.CancelledError:
                    if not self.is_stubborn:
                        raise
                else:
                    return [GOOD]
        finally:
            self.running -= 1

    def examiner(self) -> Examiner:
        """Return what examines it."""
        return Examiner(Check(part=Part.CLOCK, examine=self.examine, is_quick=True))


def test_a_check_that_ignores_its_cancellation_is_not_waited_for() -> None:
    """One such check would keep the readiness of all parts from being known."""

    async def run() -> None:
        part = Slow(is_stubborn=True)
        examiner, loop = part.examiner(), asyncio.get_running_loop()
        began = loop.time()
        for _ in range(3):
            [found] = await examiner.examine(BRIEF)
            assert (found.text, found.mark, found.blocks) == (LATE, Mark.FAILED, True)
        assert loop.time() - began == 3 * BRIEF.total_seconds()
        assert part.begun == 1

        part.answers.set()
        assert await examiner.examine(BRIEF) == [GOOD]

    run_in_virtual_time(run())


def test_two_who_ask_at_a_time_share_one_run() -> None:
    """The examination of each minute and a question about readiness."""

    async def run() -> None:
        part = Slow()
        examiner = part.examiner()
        slow = asyncio.create_task(examiner.examine(PATIENCE))
        [late] = await examiner.examine(BRIEF)
        assert late.text == LATE  # and the other one still waits
        quick = asyncio.create_task(examiner.examine(BRIEF))
        await asyncio.sleep(1)
        part.answers.set()
        assert await slow == await quick == [GOOD]
        assert part.begun == 1

    run_in_virtual_time(run())


def test_a_run_that_nobody_waits_for_ends_and_the_next_one_is_fresh() -> None:
    """A network that hung a moment ago may answer now."""

    async def run() -> None:
        part = Slow()
        examiner = part.examiner()
        asking = asyncio.create_task(examiner.examine(PATIENCE))
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.wait([asking])
        again = asyncio.create_task(examiner.examine(PATIENCE))  # while the first run is being cancelled
        await asyncio.sleep(1)
        part.answers.set()
        assert await again == [GOOD]
        assert (part.begun, part.most, part.running) == (2, 1, 0)

    run_in_virtual_time(run())


def test_a_check_whose_own_work_was_cancelled_is_a_finding() -> None:
    """It is over: to begin it again until the patience ends would take all of the processor."""
    runs = 0

    async def broken() -> Sequence[Finding]:
        nonlocal runs
        runs += 1
        raise asyncio.CancelledError

    [found] = asyncio.run(examine(Check(part=Part.CLOCK, examine=broken)))
    assert found.text == "could not be examined (CancelledError)"
    assert runs == 1
