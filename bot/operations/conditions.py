"""The condition of each part of a running bot: examined every minute, logged when it changes, the base of readiness."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final

import structlog

from bot.model.finding import Check, Finding, Mark, Part

EXAMINE_EVERY: Final = timedelta(minutes=1)
PATIENCE: Final = timedelta(seconds=20)
_QUICK_PATIENCE: Final = timedelta(seconds=1)

_LEVELS: Final = {Mark.OK: logging.DEBUG, Mark.WARNING: logging.WARNING, Mark.FAILED: logging.ERROR}

_log = structlog.get_logger()


class Conditions:
    """Keeps the latest findings of each part. Until the start is over, that is all that is found."""

    def __init__(self) -> None:
        self._checks: list[Check] = []
        self._found: dict[Part, Sequence[Finding]] = {}
        self.wait_for("its first step")

    def wait_for(self, what: str) -> None:
        """Note what the start is waiting for: the bot is not ready."""
        waiting = Finding(
            part=Part.START, event="starting", text=f"the start waits for {what}", mark=Mark.WARNING, blocks=True
        )
        self._found[Part.START] = [waiting]

    def add(self, *checks: Check) -> None:
        """Examine these parts too, from now on."""
        self._checks += checks

    async def begin(self) -> None:
        """End the start: from now on, the bot is ready if no finding blocks. Returns after the first examination."""
        await self.examine()
        self._found.pop(Part.START)

    async def run(self) -> None:
        """Examine every minute, until cancelled."""
        while True:
            await asyncio.sleep(EXAMINE_EVERY.total_seconds())
            await self.examine()

    async def examine(self) -> None:
        """Examine all parts at once, and log what has changed."""
        await asyncio.gather(*(self._examine(check, PATIENCE) for check in self._checks))

    async def ask(self) -> list[Finding]:
        """Return the findings on all parts; those of quick checks are fresh, the others at most a minute old."""
        quick = (check for check in self._checks if check.is_quick)
        await asyncio.gather(*(self._examine(check, _QUICK_PATIENCE) for check in quick))
        return self.latest()

    def latest(self) -> list[Finding]:
        """Return the latest findings, in the order of the parts."""
        return [finding for part in Part for finding in self._found.get(part, ())]

    async def _examine(self, check: Check, patience: timedelta) -> None:
        found = await examine(check, patience)
        before, self._found[check.part] = self._found.get(check.part, ()), found
        _log_changes(before, found)


async def examine(check: Check, patience: timedelta = PATIENCE) -> Sequence[Finding]:
    """Return what a check finds; never raises, and returns within `patience`."""
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await check.examine()
    except TimeoutError:
        text, fix = "gave no answer in time", ""
    except Exception as error:  # noqa: BLE001 - a check that fails must not end the bot, or hide the other checks
        text, fix = f"could not be examined ({type(error).__name__})", "report this, with the log before it"
    unknown = Finding(part=check.part, event="part_not_examined", text=text, mark=Mark.FAILED, fix=fix, blocks=True)
    return [unknown]


def is_ready(found: Iterable[Finding]) -> bool:
    """Whether a submission can be stored."""
    return not any(finding.blocks for finding in found)


def log_finding(finding: Finding) -> None:
    """Log a finding, in the words that `check` prints."""
    what_to_do = {"setting": finding.setting or None, "fix": finding.fix} if finding.fix else {}
    level = _LEVELS[finding.mark]
    _log.log(level, finding.event, part=finding.part.value, found=finding.text, **finding.known, **what_to_do)


def _log_changes(before: Sequence[Finding], after: Sequence[Finding]) -> None:
    for finding in _new(before, after):
        log_finding(finding)
    for gone in _new(after, before):
        if gone.mark is not Mark.OK:
            _log.info("recovered", part=gone.part.value, was=gone.event)


def _new(before: Collection[Finding], after: Iterable[Finding]) -> Iterator[Finding]:
    """Yield what is found now and was not before; a text that only counts on is no news."""
    known = {(each.event, each.mark, each.setting) for each in before}
    return (each for each in after if (each.event, each.mark, each.setting) not in known)
