"""How long to wait before something is tried again. Pure."""

from datetime import datetime, timedelta
from typing import Final

from bot.cloudflare.errors import CloudflareError
from bot.model.errors import AccessRefused, BotError
from bot.model.submission import Submission

_SHORTEST: Final = timedelta(milliseconds=100)
_LONGEST: Final = timedelta(seconds=60)
_SHORTEST_FOR_SLACK: Final = timedelta(seconds=2)
_SHORTEST_CEILING: Final = timedelta(seconds=1)
_MOST_DOUBLINGS: Final = 10


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
