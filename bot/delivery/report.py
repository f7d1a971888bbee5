"""Posts the result of a submission, and retries until Slack accepts it.

Only one message appears: each attempt has the same `client_msg_id`, and an unrecorded post is kept in memory.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.metrics import RETRIED, STEPS, Metrics
from bot.model.errors import SlackTrouble
from bot.model.move import Changes, Move
from bot.model.origin import Origin, origin_of
from bot.model.submission import RESPONSE_URL_LIFETIME, Pending, Posted, Submission, Way

_SHORTEST_PAUSE: Final = timedelta(seconds=2)
_LONGEST_PAUSE: Final = timedelta(minutes=5)

_UNTOLD: Final = Posted(place=None, way=Way.NONE)

_log = structlog.get_logger()


class Poster(Protocol):
    """Posts the final message."""

    async def post_result(self, pending: Pending) -> Posted:
        """Post it and return where; raises SlackTrouble if it must be tried again."""


class Report:
    """Posts the final message of a submission that has ended. It follows every plan but is part of none."""

    def __init__(
        self,
        poster: Poster,
        clock: Callable[[], datetime],
        close_request: Callable[[Submission], Awaitable[None]],
        metrics: Metrics | None = None,
        is_repeated: Callable[[Submission], Awaitable[bool]] | None = None,
    ) -> None:
        """Take `close_request`, which ends an approver's message and raises SlackTrouble, as posting does.

        And `is_repeated`, which returns whether people know of this, and raises DatabaseTrouble.
        """
        self._is_repeated = is_repeated
        self._metrics = metrics or Metrics()
        self._poster = poster
        self._clock = clock
        self._close_request = close_request

    async def take(self, pending: Pending) -> Move:
        """Post it. If recording that fails, the delivery repeats only the recording."""
        submission, asked_at = pending.submission, self._clock()
        began = time.monotonic()  # the clock may be set meanwhile, and no histogram counts backwards
        try:
            await self._close_request(submission)
            posted = _UNTOLD if await self._is_told(submission) else await self._poster.post_result(pending)
        except SlackTrouble as error:
            self._metrics.count(RETRIED, error.code)
            return self._report_later(pending, error)
        finally:
            self._metrics.observe(STEPS, time.monotonic() - began, "report")
        now = self._clock()
        if posted.way is not Way.NONE:  # else the poster has logged why
            _log.info(
                "result_posted",
                bucket=submission.key.bucket,
                ending=submission.state.value,
                channel=posted.place,
                way=posted.way.value,
                seconds=round((now - asked_at).total_seconds(), 3),
            )
        return Move(to=submission.state, at=now, changes=Changes(reported_at=now))

    async def _is_told(self, submission: Submission) -> bool:
        if _is_counted(submission):
            return True
        is_repeated = self._is_repeated is not None and await self._is_repeated(submission)
        if is_repeated:
            _log.info("failure_told_before", bucket=submission.key.bucket)
        return is_repeated

    def _report_later(self, pending: Pending, error: SlackTrouble) -> Move:
        submission, now = pending.submission, self._clock()
        waited = now - (submission.ended_at or now)
        pause = error.retry_after or min(max(waited, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        is_url_dead = now + pause - submission.accepted_at >= RESPONSE_URL_LIFETIME
        _log.warning("report_postponed", error=str(error), until=(now + pause).isoformat())
        return Move(to=submission.state, at=now + pause, forgets_response_url=is_url_dead)


def _is_counted(submission: Submission) -> bool:
    """Return whether the one message of a fleet counts it: 500 results in a channel would bury what matters."""
    return origin_of(submission.id) is Origin.FLEET
