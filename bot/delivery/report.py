"""Tells people how a submission ended: once, as far as that can be known, and as long as it takes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.model.errors import LeaseLost, SlackUnavailable
from bot.model.submission import RESPONSE_URL_LIFETIME, Lease, Submission
from bot.storage.submissions import Records

_SHORTEST_PAUSE: Final = timedelta(seconds=2)
_LONGEST_PAUSE: Final = timedelta(minutes=5)

_log = structlog.get_logger()


class Reporter(Protocol):
    """Tells people."""

    def show_progress(self, submission: Submission) -> None:
        """Show where it stands; returns at once and never fails."""

    async def post_result(self, submission: Submission) -> None:
        """Post the final message; raises SlackUnavailable when it has to be tried again."""


class Reporting:
    """Posts the final message, then notes that; where only the noting fails, only that is repeated."""

    def __init__(self, records: Records, reporter: Reporter, clock: Callable[[], datetime]) -> None:
        self._records = records
        self._reporter = reporter
        self._clock = clock
        self._posted: set[str] = set()

    async def report(self, submission: Submission) -> None:
        """Post it, or note when to try again. Raises LeaseLost and DatabaseTrouble."""
        if submission.id not in self._posted:
            if not await self._records.holds(Lease(key=submission.key, epoch=submission.epoch)):
                raise LeaseLost  # somebody else posts it
            try:
                await self._reporter.post_result(submission)
            except SlackUnavailable as error:
                await self._report_later(submission, error.retry_after)
                return
            self._posted.add(submission.id)
        await self._records.mark_reported(submission, self._clock())
        self._posted.discard(submission.id)

    async def _report_later(self, submission: Submission, retry_after: timedelta | None) -> None:
        now = self._clock()
        waited = now - (submission.ended_at or now)
        pause = retry_after or min(max(waited, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        is_url_dead = now + pause - submission.accepted_at >= RESPONSE_URL_LIFETIME
        _log.warning("report_waits", submission=submission.id, seconds=pause.total_seconds())
        await self._records.postpone_report(submission, now + pause, forget_response_url=is_url_dead)
