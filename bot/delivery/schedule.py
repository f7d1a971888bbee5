"""Newest wins: what a bucket has open, in the order in which it is done, and when each is due. Pure."""

from collections.abc import Sequence
from datetime import datetime

from bot.model.submission import Pending, State, Task


def schedule(work: Sequence[Pending], open_from: datetime) -> list[tuple[Pending, datetime]]:
    """Return when each is due, in the order in which they are done: the slot first, messages last.

    Only the newest submission to be stored is sent; older ones are due at their own expiry. Checks and enablings block
    nothing, and a catalog is enabled before anything is stored in it. Nothing goes to Cloudflare before `open_from`.
    """
    ended = [each for each in work if each.submission.is_ended]
    confirming = [each for each in work if each.submission.state is State.CONFIRMING]
    sendable = [each for each in work if each not in (*ended, *confirming)]
    of_task = {task: [each for each in sendable if each.submission.task is task] for task in Task}
    held, newest = of_task[Task.STORE][:-1], of_task[Task.STORE][-1:]
    return [
        *(
            (each, min(max(each.submission.next_attempt_at, open_from), each.submission.expires_at))
            for each in (*of_task[Task.ENABLE], *newest, *of_task[Task.CHECK])
        ),
        *((each, max(each.submission.next_attempt_at, open_from)) for each in confirming),
        *((each, each.submission.expires_at) for each in held),
        *((each, each.submission.next_attempt_at) for each in ended),
    ]
