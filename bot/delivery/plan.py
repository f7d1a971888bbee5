"""What a bucket has open, in the order in which it is done. Pure."""

from datetime import datetime

from bot.model.submission import State, Submission, Task


def plan_work(work: list[Submission], open_from: datetime) -> list[tuple[Submission, datetime]]:
    """Return when each is due, in the order in which they are done: the slot first, messages last.

    Of those that may still be sent to the slot the newest one holds all others: they only wait for it, or for their
    own end. What only checks or enables holds nothing; a catalog is enabled before anything is stored in it. Nothing
    goes to Cloudflare before `open_from`.
    """
    ended = [submission for submission in work if submission.is_ended]
    confirming = [submission for submission in work if submission.state is State.CONFIRMING]
    sendable = [submission for submission in work if submission not in (*ended, *confirming)]
    of_task = {task: [submission for submission in sendable if submission.task is task] for task in Task}
    held, newest = of_task[Task.STORE][:-1], of_task[Task.STORE][-1:]
    return [
        *(
            (submission, min(max(submission.next_attempt_at, open_from), submission.expires_at))
            for submission in (*of_task[Task.ENABLE], *newest, *of_task[Task.CHECK])
        ),
        *((submission, max(submission.next_attempt_at, open_from)) for submission in confirming),
        *((submission, submission.expires_at) for submission in held),
        *((submission, submission.next_attempt_at) for submission in ended),
    ]
