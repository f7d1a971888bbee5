"""Moves that could not be recorded yet and cannot be repeated: a request went out, or a message was posted.

In memory only. After a kill, a write that may have happened is repeated, which is safe; a message is repeated under the
same `client_msg_id`, by which Slack recognises it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot.model.catalog import BucketKey
from bot.model.move import Move
from bot.model.submission import Lease, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A move of a submission that still has this revision. `epoch` is that of the last lease, for a write."""

    revision: int
    move: Move
    epoch: int | None = None


class KeptMoves:
    """The results that each bucket's delivery still has to record."""

    def __init__(self) -> None:
        self._of_bucket: dict[BucketKey, dict[str, _Kept]] = {}

    def note_taken(self, lease: Lease) -> None:
        """Forget a write's result if another process has held the bucket since: its token may be in the slot now."""
        kept = self._of_bucket.get(lease.key, {})
        for submission_id, each in list(kept.items()):
            if each.epoch is not None and each.epoch + 1 != lease.epoch:
                del kept[submission_id]
            elif each.epoch is not None:
                kept[submission_id] = replace(each, epoch=lease.epoch)

    def keep_write(self, lease: Lease, submission: Submission, move: Move) -> None:
        """Keep the result of a write."""
        self._keep(submission, _Kept(revision=submission.revision, move=move, epoch=lease.epoch))

    def keep_report(self, submission: Submission, move: Move) -> None:
        """Keep the fact that the result was posted."""
        self._keep(submission, _Kept(revision=submission.revision, move=move))

    def find(self, submission: Submission, now: datetime) -> Move | None:
        """Return the kept move if the submission is unchanged since, with its times as if it were made now."""
        kept = self._of_bucket.get(submission.key, {}).get(submission.id)
        return _made_now(kept.move, now) if kept is not None and kept.revision == submission.revision else None

    def drop(self, submission: Submission) -> None:
        """Drop a move that is recorded, or no longer needed."""
        self._of_bucket.get(submission.key, {}).pop(submission.id, None)

    def forget_writes(self, key: BucketKey) -> None:
        """Drop the results of earlier writes: a newer request is about to go out."""
        kept = self._of_bucket.get(key, {})
        self._of_bucket[key] = {name: each for name, each in kept.items() if each.epoch is None}

    def forget(self, key: BucketKey) -> None:
        """Drop a bucket that has nothing left to do."""
        self._of_bucket.pop(key, None)

    def _keep(self, submission: Submission, kept: _Kept) -> None:
        self._of_bucket.setdefault(submission.key, {})[submission.id] = kept


def _made_now(move: Move, now: datetime) -> Move:
    """Shift its times by as much as it is late, so that what follows it, such as confirming, gets its full time."""
    late = max(now - move.at, timedelta(0))
    until = move.changes.confirm_until
    changes = replace(move.changes, confirm_until=until + late) if until is not None else move.changes
    return replace(move, at=move.at + late, changes=changes)
