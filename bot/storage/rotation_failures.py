"""Records which buckets could not be rotated: noted with the ending, and forgotten once something is stored there."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete

from bot.model.catalog import BucketKey
from bot.model.errors import RecordDamaged
from bot.model.submission import State, Submission
from bot.model.timetable import RotationFailure
from bot.storage.damage import require_shape
from bot.storage.rows import MOST_COUNTED, is_its, names_of
from bot.storage.schema import ROTATION_FAILURES
from bot.storage.upsert import insert_into

_FAILED: Final = frozenset({State.REFUSED, State.DENIED, State.FAILED, State.UNCERTAIN, State.EXPIRED})
"""A rotation that is superseded has not failed: a newer one, or a pasted token, is on its way."""

_FORGET: Final = delete(ROTATION_FAILURES).where(is_its(ROTATION_FAILURES))


def note_failure(connection: Connection, submission: Submission, at: datetime) -> None:
    """Note how a rotation has ended, if it failed."""
    if submission.state not in _FAILED:
        return
    key = submission.key
    row = {"account_id": key.account_id, "bucket": key.bucket, "since": at, "failed_at": at, "failures": 1}
    counted = {"failed_at": at, "failures": ROTATION_FAILURES.c.failures + 1, "code": submission.error_code}
    statement = insert_into(connection, ROTATION_FAILURES).on_conflict_do_update(
        index_elements=["account_id", "bucket"], set_=counted, where=ROTATION_FAILURES.c.failures < MOST_COUNTED
    )
    connection.execute(statement, row | {"code": submission.error_code})


def forget_failures(connection: Connection, key: BucketKey) -> None:
    """Forget them: the slot holds something newer."""
    connection.execute(_FORGET, names_of(key))


def read_failure(row: Row[Any]) -> RotationFailure:
    """Read a row; raises RecordDamaged."""
    require_shape(row, ROTATION_FAILURES)
    if not 0 < row.failures <= MOST_COUNTED:
        raise RecordDamaged(ROTATION_FAILURES.name, f"{row.account_id} {row.bucket}", "failures")
    return RotationFailure(
        bucket=row.bucket, since=row.since, failed_at=row.failed_at, failures=row.failures, code=row.code
    )
