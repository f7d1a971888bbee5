"""The only writer of a recorded submission's state: one transaction, by compare-and-set.

Five things are compared, each to prevent a different failure:

- the revision: another process, or a repeated Submit, has changed the row since it was read;
- the bucket: a changed row must not move the submission of another one;
- the lease's epoch: a delivery that was frozen and wakes up must not record what a newer one has already decided;
- outside a delivery, "nothing was sent": once a request may be out, only the delivery decides;
- the step itself, against `STEPS`: an ending is final, or a result would be posted twice.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, case, func, null, or_, select, update

from bot.cloudflare.errors import CloudflareError
from bot.model.audit import Entry, Event
from bot.model.catalog import BucketKey, CredentialStatus, StoredCredential
from bot.model.errors import BotError, DatabaseRestored, RecordDamaged
from bot.model.move import Change, Changes, Move
from bot.model.submission import ENDINGS, STEPS, Lease, SealedToken, State, Submission, Task
from bot.storage.audit import AuditChain
from bot.storage.authentic import (
    entry_of,
    has_ended,
    require_progress,
    require_recorded,
    sign_progress,
    sign_submission,
)
from bot.storage.catalogs import note_stored, note_test
from bot.storage.lock import lock_bucket
from bot.storage.minted_moves import follow_moves
from bot.storage.rows import (
    EPOCH,
    IS_FOR_THE_SLOT,
    IS_OLDER,
    ITS_BUCKET,
    MAY_BE_SENT,
    MOST_COUNTED,
    NO_CAUSE,
    NO_ERROR,
    NOTHING_FOUND,
    PLACE,
    columns_of,
    names_of,
    progress_of,
    read_submission,
)
from bot.storage.schema import SUBMISSIONS

_SUCCESSES: Final = (State.STORED, State.CHECKED, State.ENABLED)
_Changed = tuple[Change, Row[Any]]


def make_move(
    connection: Connection, chain: AuditChain, submission: Submission, move: Move, lease: Lease | None
) -> list[Change]:
    """Make a move if the submission is unchanged since it was read; return it as changed, then those it superseded.

    With a `lease`, the lease must still hold. Without one, the move comes from outside a delivery, and is made only
    while nothing was sent. Returns an empty list if the move was not made. Raises ValueError for a step that `STEPS`
    does not allow.
    """
    is_new_state = move.to is not submission.state
    if is_new_state:
        _require_step(submission.state, move.to)
    values = _values(move, is_new_state=is_new_state) | names_of(submission.key)
    values |= {"its_id": submission.id, "its_revision": submission.revision}
    statement = _MOVE_FROM_OUTSIDE if lease is None else _MOVE_UNDER_LEASE
    is_written = is_new_state and move.to is State.CONFIRMING
    if is_written or move.supersedes:
        lock_bucket(connection, submission.key)  # first: an older one recorded meanwhile would escape superseding
    progress = progress_of(submission) | {"revision": submission.revision + 1}
    progress |= {name: value for name, value in values.items() if name in progress}
    values["progress"] = sign_progress(chain.authenticity, submission.id, progress)
    row = connection.execute(statement, values | ({"its_epoch": lease.epoch} if lease else {})).one_or_none()
    if row is None:
        return []
    changed = [(Change(submission=require_recorded(chain, row, progress), is_new_state=is_new_state), row)]
    if move.supersedes or is_written:
        changed += _supersede_older(connection, chain, row, move)
    if is_written:
        note_stored(connection, _as_credential(row, move.at))
    follow_moves(connection, chain, changed, move)
    if move.tested_at is not None:
        note_test(connection, submission.key, CredentialStatus(row.confirmation), move.tested_at)
    chain.append(connection, _entries(changed, move))
    return [change for change, _ in changed]


def give_token(
    connection: Connection, chain: AuditChain, submission: Submission, sealed: SealedToken, at: datetime
) -> Change | None:
    """Give a submission the token that was made for it, if it still waits for one; raises RecordDamaged.

    None if it has ended, waits no longer, or was submitted anew: the token is sealed for what was read.
    """
    row = connection.execute(_LOCK.where(SUBMISSIONS.c.id == submission.id)).one_or_none()
    if row is None or row.accepted_at != submission.accepted_at or row.state != State.MINTING.value:
        return None
    require_progress(chain, row)
    given = {"sealed_token": sealed, "state": State.MINTED.value, "next_attempt_at": at, "revision": row.revision + 1}
    signed = sign_submission(chain.authenticity, dict(row._mapping) | NO_CAUSE | given)  # noqa: SLF001 - public in SQLAlchemy, with this name
    values = {name: signed[name] for name in (*given, *NO_CAUSE, "token_digest", "signature", "progress")}
    statement = update(SUBMISSIONS).where(SUBMISSIONS.c.id == submission.id).values(values).returning(SUBMISSIONS)
    return Change(submission=require_progress(chain, connection.execute(statement).one()), is_new_state=True)


def begin_anew(
    connection: Connection, chain: AuditChain, is_it: ColumnElement[bool], first: Row[Any], row: dict[str, Any]
) -> bool:
    """Replace the first Submit of a form by a repeated one, if nothing was sent yet; return whether it was replaced.

    One that an approver was asked about stays as it is, and so do one for which a token is being made, and one that
    the bot has not made so.

    This is not a step but another submission under the same id. The higher revision makes every copy of the first
    one stale, so that a delivery that has read it cannot record anything.
    """
    try:
        progress = progress_of(require_progress(chain, first))
    except RecordDamaged:
        return False
    anew = progress | row | NOTHING_FOUND | {"revision": first.revision + 1}
    is_unchanged = SUBMISSIONS.c.revision == first.revision
    statement = update(SUBMISSIONS).where(is_it, _IS_UNTOUCHED, _IS_UNSEEN, is_unchanged)
    return connection.execute(statement.values(sign_submission(chain.authenticity, anew))).rowcount > 0


def end_all_open(connection: Connection, chain: AuditChain, at: datetime) -> list[Change]:
    """End every submission that has not ended, since the database was restored; return those that can be read.

    What they did after the backup is unknown. Those that were being sent end as UNCERTAIN, and those that Cloudflare
    had accepted as STORED.
    """
    rows = connection.execute(_END_ALL_OPEN.returning(SUBMISSIONS), {"at": at}).all()
    ended = _read_changes(rows)
    by_backup = connection.execute(_ENDED_BY_BACKUP).all()
    entries = [entry_of(row, Event.ENDED, at) for _, row in (*ended, *_read_changes(by_backup))]
    chain.append(connection, [Entry(event=Event.RESTORED, at=at), *entries])
    return [change for change, _ in ended]


def forget_all_open(connection: Connection, at: datetime) -> int:
    """Do the same to a copy for a backup, keep no sealed value in it, and return how many were open.

    Works with the tables of every earlier version.
    """
    ended = connection.execute(_END_ALL_OPEN, {"at": at}).rowcount
    connection.execute(update(SUBMISSIONS).values(sealed_token=None, sealed_response_url=None).where(_IS_SEALED))
    return ended


def superseded_by(user_id: str, at: datetime) -> Move:
    """Return the move that ends a submission because the slot holds a newer token, of `user_id`."""
    return Move(to=State.SUPERSEDED, at=at, changes=Changes(superseded_by=user_id))


def _require_step(state: State, to: State) -> None:
    if to not in STEPS.get(state, frozenset()):
        message = f"no step leads from {state} to {to}"
        raise ValueError(message)


# Statements that run for each submission are built once: building and hashing them took longer than running them.
_UNSENT: Final = (State.ACCEPTED, State.MINTING, State.MINTED, State.VERIFYING, State.AWAITING_APPROVAL)
_IS_UNSENT: Final = SUBMISSIONS.c.state.in_([state.value for state in _UNSENT])
# A token that was made for the first one is not made for the second one as well.
_IS_UNTOUCHED: Final = or_(
    SUBMISSIONS.c.state == State.ACCEPTED.value,
    and_(SUBMISSIONS.c.state == State.VERIFYING.value, SUBMISSIONS.c.task != Task.ROTATE.value),
)
# An approver decides on the first token, also while it is checked once more after the approval.
_IS_UNSEEN: Final = and_(SUBMISSIONS.c.state != State.AWAITING_APPROVAL.value, SUBMISSIONS.c.approval_channel.is_(None))
_LOCK: Final = select(SUBMISSIONS).with_for_update()
_CAN_COUNT: Final = SUBMISSIONS.c.revision < MOST_COUNTED  # a damaged one must not fail the move that ends it
_COUNTED: Final = case((_CAN_COUNT, SUBMISSIONS.c.revision + 1), else_=SUBMISSIONS.c.revision)
_MOVE: Final = (
    update(SUBMISSIONS)
    .where(SUBMISSIONS.c.id == bindparam("its_id"), SUBMISSIONS.c.revision == bindparam("its_revision"), ITS_BUCKET)
    .values(revision=SUBMISSIONS.c.revision + 1)
    .returning(SUBMISSIONS)
)
_MOVE_FROM_OUTSIDE: Final = _MOVE.where(_IS_UNSENT)
_MOVE_UNDER_LEASE: Final = _MOVE.where(func.coalesce(EPOCH.scalar_subquery(), 0) == bindparam("its_epoch"))
_IS_OVERTAKEN: Final = and_(ITS_BUCKET, MAY_BE_SENT, IS_FOR_THE_SLOT, IS_OLDER)
"""The submissions before that place that could still be sent."""

_OLDER: Final = select(SUBMISSIONS).where(_IS_OVERTAKEN).with_for_update()
_SUPERSEDE_OLDER: Final = update(SUBMISSIONS).where(_IS_OVERTAKEN).values(revision=_COUNTED).returning(SUBMISSIONS)

_IS_SEALED: Final = or_(SUBMISSIONS.c.sealed_token.is_not(None), SUBMISSIONS.c.sealed_response_url.is_not(None))
_IN_STATE: Final = {state: SUBMISSIONS.c.state == state.value for state in State}
_END_ALL_OPEN: Final = (
    update(SUBMISSIONS)
    .where(SUBMISSIONS.c.reported_at.is_(None), SUBMISSIONS.c.ended_at.is_(None))
    .values(
        state=case(
            (_IN_STATE[State.CONFIRMING], State.STORED.value),
            (_IN_STATE[State.STORING], State.UNCERTAIN.value),
            else_=State.EXPIRED.value,
        ),
        error_code=case((_IN_STATE[State.CONFIRMING], null()), else_=DatabaseRestored.code),
        confirmation=case(
            (_IN_STATE[State.CONFIRMING], CredentialStatus.UNKNOWN.value), else_=SUBMISSIONS.c.confirmation
        ),
        cloudflare_code=None,
        cloudflare_message=None,
        ended_at=bindparam("at", type_=SUBMISSIONS.c.ended_at.type),
        next_attempt_at=bindparam("at", type_=SUBMISSIONS.c.ended_at.type),
        sealed_token=None,
        revision=_COUNTED,
    )
)
_ENDED_BY_BACKUP: Final = select(SUBMISSIONS).where(
    SUBMISSIONS.c.reported_at.is_(None), SUBMISSIONS.c.error_code == DatabaseRestored.code, ~has_ended(SUBMISSIONS.c.id)
)
"""What `forget_all_open` ended in the copy that was put back: the chain does not know of it yet."""


def _values(move: Move, *, is_new_state: bool) -> dict[str, Any]:
    values: dict[str, Any] = {"state": move.to.value, "next_attempt_at": move.at}
    if is_new_state and move.to in ENDINGS:
        values |= {"ended_at": move.at, "sealed_token": None}
    if is_new_state and move.to in _SUCCESSES:  # the history of a success must not show an earlier error
        values |= NO_ERROR
    if move.changes.findings is not None:  # the error that delayed the checks does not delay the write
        values |= NO_CAUSE | columns_of(move.changes.findings)
    if move.because is not None:
        values |= _cause(move.because)
    if move.forgets_response_url or move.changes.reported_at is not None:
        values["sealed_response_url"] = None
    return values | _plain(move.changes)


def _plain(changes: Changes) -> dict[str, Any]:
    pairs = ((field.name, getattr(changes, field.name)) for field in fields(changes) if field.name != "findings")
    return {name: value for name, value in pairs if value is not None}


def _cause(error: BotError) -> dict[str, Any]:
    """Return every column that describes an error, so that nothing of an earlier error remains."""
    answer = error if isinstance(error, CloudflareError) else None
    return {
        "error_code": error.code,
        "cloudflare_code": answer.cloudflare_code if answer else None,
        "cloudflare_message": answer.cloudflare_message if answer else None,
        "cf_ray": answer.cf_ray if answer else None,
    }


def _supersede_older(connection: Connection, chain: AuditChain, newer: Row[Any], move: Move) -> list[_Changed]:
    """End the older ones that could still be sent: any of them would replace the newer token in the slot.

    One that the bot did not bring so far ends too, but nothing is said of it.
    """
    its = {"its_account_id": newer.account_id, "its_bucket": newer.bucket}
    its |= {f"its_{column.name}": getattr(newer, column.name) for column in PLACE}
    superseding = superseded_by(newer.user_id, move.at)
    older = {row.id: row for row in connection.execute(_OLDER, its)}
    if not older:
        return []
    values = _values(superseding, is_new_state=True) | NO_CAUSE
    changed = []
    for row in connection.execute(_SUPERSEDE_OLDER, its | values):
        with suppress(RecordDamaged, KeyError):  # it has ended all the same; the bucket's delivery reports the damage
            before = progress_of(require_progress(chain, older[row.id]))
            progress = before | {name: values[name] for name in before if name in values} | {"revision": row.revision}
            changed.append((Change(submission=require_recorded(chain, row, progress), is_new_state=True), row))
    return changed


def _read_changes(rows: Iterable[Row[Any]]) -> list[_Changed]:
    changed = []
    for row in rows:
        with suppress(RecordDamaged):  # it has ended all the same; the bucket's delivery reports the damage
            changed.append((Change(submission=read_submission(row), is_new_state=True), row))
    return changed


def _entries(changed: Iterable[_Changed], move: Move) -> Iterator[Entry]:
    """Yield what the audit says of a move: a write before it is sent, what was written, and each ending."""
    for change, row in changed:
        if change.is_new_state and change.submission.is_ended:
            yield entry_of(row, Event.ENDED, move.at)
        elif change.is_new_state and change.submission.state is State.CONFIRMING:
            yield entry_of(row, Event.WRITTEN, move.at)
        elif move.effect is not None:
            yield entry_of(row, Event.WRITE_SENT, move.at)


def _as_credential(written: Row[Any], at: datetime) -> StoredCredential:
    return StoredCredential(
        key=BucketKey(account_id=written.account_id, bucket=written.bucket),
        submission_id=written.id,
        stored_by=written.user_id,
        stored_at=at,
        channel_id=written.channel_id,
        token_id=written.token_id,
        expires_at=written.token_expires_at,
        reminded_at=None,
        broken_at=None,
    )
