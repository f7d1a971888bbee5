"""Newest wins: in which order a bucket's open submissions are processed, and when each is due. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from bot.cloudflare.budget import Urgency
from bot.model.origin import Origin, origin_of
from bot.model.submission import FOR_THE_SLOT, Pending, State, Submission, Task

URGENCIES: Final[Mapping[Task, Urgency]] = {
    Task.STORE: Urgency.WRITE,
    Task.ROTATE: Urgency.WRITE,
    Task.ENABLE: Urgency.WRITE,
    Task.CHECK: Urgency.CHECK,
}
"""The urgency of each task's requests to Cloudflare."""

WRITES: Final = frozenset({Urgency.WRITE, Urgency.BULK})
"""What changes something: a check of the bucket waits for it."""

_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)


def urgency_of(submission: Submission) -> Urgency:
    """Return how urgent its requests are; those of a fleet or of the schedule let everyone else's writes go first."""
    is_one_of_many = origin_of(submission.id) in (Origin.FLEET, Origin.SCHEDULE)
    return Urgency.BULK if is_one_of_many else URGENCIES[submission.task]


def schedule(work: Sequence[Pending], open_from: Mapping[Urgency, datetime]) -> list[tuple[Pending, datetime]]:
    """Return when each is due, in the order of processing: the slot first, then messages, then checks.

    Only the newest submission to be stored is sent: an older one sent after it would put a stale token into the slot.
    The older ones wait until their own expiry, since the newest may still be refused. Checks and enablings block
    nothing, and a catalog is enabled before anything is stored in it. Nothing goes to Cloudflare before `open_from`.
    """
    ended = [each for each in work if each.submission.is_ended]
    confirming = [each for each in work if each.submission.state is State.CONFIRMING]
    sendable = [each for each in work if each not in (*ended, *confirming)]
    of_task = {task: [each for each in sendable if each.submission.task is task] for task in Task}
    for_the_slot = [each for each in sendable if each.submission.task in FOR_THE_SLOT]
    held, newest = for_the_slot[:-1], for_the_slot[-1:]

    def goes_at(pending: Pending) -> datetime:
        return max(pending.submission.next_attempt_at, open_from.get(urgency_of(pending.submission), _ALWAYS))

    return [
        *((each, min(goes_at(each), each.submission.expires_at)) for each in (*of_task[Task.ENABLE], *newest)),
        *((each, goes_at(each)) for each in confirming),
        *((each, each.submission.expires_at) for each in held),
        *((each, each.submission.next_attempt_at) for each in ended),
        *((each, min(goes_at(each), each.submission.expires_at)) for each in of_task[Task.CHECK]),
    ]
