"""Decides what follows a failed step: another attempt, and when, or the end."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from bot.cloudflare.errors import CloudflareError, Refusal
from bot.delivery.endings import end_unwritten
from bot.model.errors import AccessRefused, ApprovalNotAsked, BotError, NotApproved
from bot.model.move import Changes, Move
from bot.model.submission import State, Submission, Task

_SHORTEST: Final = timedelta(milliseconds=100)
_LONGEST: Final = timedelta(seconds=60)
_SHORTEST_FOR_SLACK: Final = timedelta(seconds=2)
_SHORTEST_CEILING: Final = timedelta(seconds=1)
_MOST_DOUBLINGS: Final = 10
_AFTER_CONFIRMING_FAILED: Final = timedelta(seconds=2)


class Retry:
    """Decides whether and when to retry; `jitter` returns a random factor from 0 to 1."""

    def __init__(self, clock: Callable[[], datetime], jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._jitter = jitter

    def after(self, submission: Submission, error: BotError, *, landed: bool | None = None) -> Move:
        """Retry a `retryable` error later; else end the submission.

        If Cloudflare asks for a longer pause than there is time left, it ends now. `landed`: whether a request may
        have been carried out; by default as recorded.
        """
        landed = submission.possibly_written if landed is None else landed
        now = self._clock()
        if submission.state is State.CONFIRMING:  # it is written: a failure from now on neither ends it nor is reported
            return Move(to=State.CONFIRMING, at=now + _AFTER_CONFIRMING_FAILED)
        if not error.retryable:
            return end_unwritten(submission, _ending_after(error), error, now, landed=landed)
        at = now + pause_after(error, submission, now, self._jitter())
        if at >= submission.expires_at:
            return end_unwritten(submission, State.FAILED, error, now, landed=landed)
        return wait(submission, at, error, Changes(possibly_written=landed))


def wait(submission: Submission, at: datetime, because: BotError, changes: Changes) -> Move:
    """Return a move that stays in the current state until `at`."""
    is_first = submission.state is State.ACCEPTED and submission.task in (Task.STORE, Task.CHECK)
    to = State.VERIFYING if is_first or submission.state is State.MINTED else submission.state
    return Move(to=to, at=at, changes=changes, because=because.with_traceback(None))


def _ending_after(error: BotError) -> State:
    if isinstance(error, AccessRefused | NotApproved):
        return State.DENIED
    return State.REFUSED if isinstance(error, Refusal) else State.FAILED


def pause_after(error: BotError, submission: Submission, now: datetime, jitter: float) -> timedelta:
    """Return Retry-After in full, else a growing ceiling times `jitter`, a random factor from 0 to 1.

    After the n-th attempt to write, the ceiling is 2^n seconds; before the first, the time since acceptance.
    """
    if isinstance(error, CloudflareError | ApprovalNotAsked) and error.retry_after:  # "0" must not become a busy loop
        return max(error.retry_after, _SHORTEST)
    waited = now - submission.accepted_at
    if isinstance(error, AccessRefused | ApprovalNotAsked):
        return min(max(waited, _SHORTEST_FOR_SLACK), _LONGEST)
    ceiling = (
        timedelta(seconds=2 ** min(submission.attempts, _MOST_DOUBLINGS))
        if submission.attempts
        else max(waited, _SHORTEST_CEILING)
    )
    return max(min(ceiling, _LONGEST) * jitter, _SHORTEST)


def pause_for_fresh_token(now: datetime, patience_until: datetime, patience: timedelta) -> timedelta:
    """Return a pause that grows while Cloudflare does not know the token, but not beyond `patience_until`."""
    waited = now - (patience_until - patience)
    return max(min(max(waited, _SHORTEST_CEILING), patience_until - now), _SHORTEST)
