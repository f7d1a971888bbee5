"""Decides what follows a failed step: another try, and when, or the end."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.cloudflare.errors import CloudflareError, Refusal
from bot.delivery.endings import end_unwritten
from bot.model.errors import AccessRefused, BotError
from bot.model.move import Changes, Move
from bot.model.submission import State, Submission, Task

_SHORTEST: Final = timedelta(milliseconds=100)
_LONGEST: Final = timedelta(seconds=60)
_SHORTEST_FOR_SLACK: Final = timedelta(seconds=2)
_SHORTEST_CEILING: Final = timedelta(seconds=1)
_MOST_DOUBLINGS: Final = 10
_AFTER_CONFIRMING_FAILED: Final = timedelta(seconds=2)

_log = structlog.get_logger()


class Retry:
    """Knows what passes by itself, and how long to wait for that; `jitter` gives a random part, from 0 to 1."""

    def __init__(self, clock: Callable[[], datetime], jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._jitter = jitter

    def after(self, submission: Submission, error: BotError, *, landed: bool | None = None) -> Move:
        """Try again later what passes by itself, else end.

        Where Cloudflare asks for more time than there is left, the end is known already. `landed`: whether a request
        may have been carried out; by default it is as recorded.
        """
        landed = submission.possibly_written if landed is None else landed
        now = self._clock()
        if submission.state is State.CONFIRMING:  # it is written: what fails now neither ends it nor is told
            return Move(to=State.CONFIRMING, at=now + _AFTER_CONFIRMING_FAILED)
        if not error.retryable:
            return end_unwritten(submission, _ending_after(error), error, now, landed=landed)
        at = now + pause_after(error, submission, now, self._jitter())
        if at >= submission.expires_at:
            return end_unwritten(submission, State.FAILED, error, now, landed=landed)
        _log.info("delivery_waits", submission=submission.id, error=str(error), until=at.isoformat())
        return wait(submission, at, error, Changes(possibly_written=landed))


def wait(submission: Submission, at: datetime, because: BotError, changes: Changes) -> Move:
    """Go on at that time, from where it stands."""
    is_first = submission.state is State.ACCEPTED and submission.task is not Task.ENABLE
    to = State.VERIFYING if is_first else submission.state
    return Move(to=to, at=at, changes=changes, because=because.with_traceback(None))


def _ending_after(error: BotError) -> State:
    if isinstance(error, AccessRefused):
        return State.DENIED
    return State.REFUSED if isinstance(error, Refusal) else State.FAILED


def pause_after(error: BotError, submission: Submission, now: datetime, jitter: float) -> timedelta:
    """Return Retry-After in full, else a growing pause; `jitter` is a random part, from 0 to 1, of the longest one.

    After the n-th try to write that one is 2^n seconds. Before the first, it is as long as the submission has waited.
    """
    if isinstance(error, CloudflareError) and error.retry_after:  # "0" says nothing: it must not become a busy loop
        return max(error.retry_after, _SHORTEST)
    waited = now - submission.accepted_at
    if isinstance(error, AccessRefused):
        return min(max(waited, _SHORTEST_FOR_SLACK), _LONGEST)
    ceiling = (
        timedelta(seconds=2 ** min(submission.attempts, _MOST_DOUBLINGS))
        if submission.attempts
        else max(waited, _SHORTEST_CEILING)
    )
    return max(min(ceiling, _LONGEST) * jitter, _SHORTEST)


def pause_for_fresh_token(now: datetime, patience_until: datetime, patience: timedelta) -> timedelta:
    """Return a pause that grows as long as Cloudflare does not know a token, and ends with the patience."""
    waited = now - (patience_until - patience)
    return max(min(max(waited, _SHORTEST_CEILING), patience_until - now), _SHORTEST)
