"""Whether people know a result already: of what the schedule tries again and again, the first failure is told."""

from bot.model.origin import Origin, origin_of
from bot.model.submission import Submission
from bot.storage.catalogs import Catalogs


async def is_repeated(catalogs: Catalogs, submission: Submission) -> bool:
    """Return whether the schedule has failed in this bucket before; raises DatabaseTrouble.

    The first success after that is told, and before that the watch tells that the rotation is overdue.
    """
    if origin_of(submission.id) is not Origin.SCHEDULE or submission.ended_at is None:
        return False
    failure = (await catalogs.catch_up()).failures.get(submission.key.bucket)
    return failure is not None and failure.since < submission.ended_at
