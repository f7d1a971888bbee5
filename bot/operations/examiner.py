"""Examines one part: not twice at a time, and never for longer than those who ask can wait."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from bot.model.errors import DatabaseTrouble
from bot.model.finding import Check, Finding, Mark
from bot.model.reference import context_about

PATIENCE: Final = timedelta(seconds=20)


class Examiner:
    """Runs a check while someone waits for it; all who ask meanwhile share what it finds."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self._running: asyncio.Task[Sequence[Finding]] | None = None
        self._waiting = 0

    async def examine(self, patience: timedelta) -> Sequence[Finding]:
        """Return what the check finds; never raises, and returns within `patience`, whatever the check does.

        A check that goes on although it was cancelled is not waited for, and not begun again until it has ended.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + patience.total_seconds()
        while (left := until - loop.time()) > 0:
            task = await self._wait(left)
            if task.done() and not task.cancelled():  # cancelled: by one who asked before, and gave up
                return task.result()
        return [_unknown(self.check, "gave no answer in time")]

    async def _wait(self, seconds: float) -> asyncio.Task[Sequence[Finding]]:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(_run(self.check), context=context_about())
        task = self._running
        self._waiting += 1
        try:
            await asyncio.wait([task], timeout=seconds)
        finally:
            self._waiting -= 1
            if not self._waiting:
                task.cancel()
        return task


async def examine(check: Check, patience: timedelta = PATIENCE) -> Sequence[Finding]:
    """Return what a check finds; never raises, and returns within `patience`."""
    return await Examiner(check).examine(patience)


async def _run(check: Check) -> Sequence[Finding]:
    try:
        return await check.examine()
    except TimeoutError:
        return [_unknown(check, "gave no answer in time")]
    except DatabaseTrouble:
        text = "not examined, since the database does not answer"
        return [Finding(part=check.part, event="part_without_database", text=text, mark=Mark.WARNING)]
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        error = "CancelledError"  # of something that the check itself waited for
    except Exception as broken:  # noqa: BLE001 - a check that fails must not end the bot, or hide the other checks
        error = type(broken).__name__
    return [_unknown(check, f"could not be examined ({error})", "report this, with the log before it")]


def _unknown(check: Check, text: str, fix: str = "") -> Finding:
    return Finding(part=check.part, event="part_not_examined", text=text, mark=Mark.FAILED, fix=fix, blocks=True)
