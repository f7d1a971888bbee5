"""The condition of each part of a running bot: examined every minute, logged when it changes, the base of readiness."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from bot.model.finding import Check, Finding, Mark, Part, log_finding
from bot.operations.examiner import PATIENCE, Examiner

EXAMINE_EVERY: Final = timedelta(minutes=1)
EXAMINE_AGAIN: Final = timedelta(seconds=15)
"""While the bot is not ready."""

_QUICK_PATIENCE: Final = timedelta(seconds=1.8)
"""A little longer than a call of PostgreSQL may take, which then says why."""

_START_PATIENCE: Final = timedelta(seconds=5)
_START_PAUSE: Final = timedelta(milliseconds=100)

_SEVERITY: Final = {Mark.OK: 0, Mark.WARNING: 1, Mark.FAILED: 2}

_log = structlog.get_logger()


class Conditions:
    """Keeps the latest findings of each part. Until the start is over, that is all that is found."""

    def __init__(self) -> None:
        self._examiners: list[Examiner] = []
        self._found: dict[Part, Sequence[Finding]] = {}
        self._known: dict[str, object] = {}
        self._was_ready: bool | None = None
        self.wait_for("its first step")

    def wait_for(self, what: str) -> None:
        """Note what the start is waiting for: the bot is not ready."""
        waiting = Finding(
            part=Part.START, event="starting", text=f"the start waits for {what}", mark=Mark.WARNING, blocks=True
        )
        self._found[Part.START] = [waiting]

    def note(self, finding: Finding) -> None:
        """Keep and log what the start has met, until the part is examined."""
        self._keep(finding.part, [finding])

    def add(self, *checks: Check) -> None:
        """Examine these parts too, from now on. A part has one check: a second one would hide its findings."""
        self._examiners += map(Examiner, checks)

    async def begin(self, **known: object) -> None:
        """End the start: from now on, the bot is ready if no finding blocks. Returns after the first examination.

        `known` are the fields of the log lines `ready` and `not_ready`, of which there is one for each change.
        """
        self._known = known
        self.wait_for("the first examination")  # no one is told "ready" before that
        await self._examine_all()
        await self._wait_for_what_starts()
        self._found.pop(Part.START)
        self._announce()

    async def run(self) -> None:
        """Examine every minute, and more often while the bot is not ready, until cancelled."""
        while True:
            await asyncio.sleep((EXAMINE_EVERY if self._was_ready else EXAMINE_AGAIN).total_seconds())
            await self.examine()

    async def examine(self) -> None:
        """Examine all parts at once, and log what has changed."""
        await self._examine_all()
        self._announce()

    async def ask(self) -> list[Finding]:
        """Return the findings on all parts; those of quick checks are fresh, the others at most a minute old."""
        await self._examine_quick()
        if self._was_ready is not None:
            self._announce()
        return self.latest()

    def latest(self) -> list[Finding]:
        """Return the latest findings, in the order of the parts."""
        return [finding for part in Part for finding in self._found.get(part, ())]

    async def _examine_all(self) -> None:
        await asyncio.gather(*(self._examine(each, PATIENCE) for each in self._examiners))

    async def _examine_quick(self) -> None:
        quick = (each for each in self._examiners if each.check.is_quick)
        await asyncio.gather(*(self._examine(each, _QUICK_PATIENCE) for each in quick))

    async def _wait_for_what_starts(self) -> None:
        """Wait a little for what is fine and not there yet, such as the job runner's first beat."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_PATIENCE.total_seconds()):
                while any(finding.blocks and finding.mark is Mark.OK for finding in self.latest()):
                    await asyncio.sleep(_START_PAUSE.total_seconds())
                    await self._examine_quick()

    def _announce(self) -> None:
        found = self.latest()
        ready = is_ready(found)
        if ready and not self._was_ready:
            _log.info("ready", **self._known)
        elif not ready and self._was_ready is not False:
            blocking = [finding.part.value for finding in found if finding.blocks]
            _log.warning("not_ready", parts=list(dict.fromkeys(blocking)), **self._known)
        self._was_ready = ready

    async def _examine(self, examiner: Examiner, patience: timedelta) -> None:
        self._keep(examiner.check.part, await examiner.examine(patience))

    def _keep(self, part: Part, found: Sequence[Finding]) -> None:
        before, self._found[part] = self._found.get(part, ()), found
        _log_changes(before, found)


def has_failed(found: Iterable[Finding]) -> bool:
    """Whether someone has to act before the bot can do all of its work."""
    return any(finding.mark is Mark.FAILED for finding in found)


def is_ready(found: Iterable[Finding]) -> bool:
    """Whether a submission can be stored."""
    return not any(finding.blocks for finding in found)


def _log_changes(before: Sequence[Finding], after: Sequence[Finding]) -> None:
    for finding in _new(before, after):
        log_finding(finding)
    for gone in _new(after, before):
        if gone.mark is not Mark.OK and not _lasts(gone, after):
            _log.info("recovered", part=gone.part.value, was=gone.event)


def _lasts(gone: Finding, after: Sequence[Finding]) -> bool:
    """Return whether what is found now is the same, only worse, or hides whether it has ended."""
    return any(
        _SEVERITY[each.mark] > _SEVERITY[gone.mark]
        or (each.event, each.setting, each.about) == (gone.event, gone.setting, gone.about)
        for each in after
    )


def _new(before: Collection[Finding], after: Iterable[Finding]) -> Iterator[Finding]:
    """Yield what is found now and was not before; a text that only counts on is no news."""
    known = {_key(each) for each in before}
    return (each for each in after if _key(each) not in known)


def _key(finding: Finding) -> tuple[str, ...]:
    return (finding.event, finding.mark, finding.setting, finding.about)
