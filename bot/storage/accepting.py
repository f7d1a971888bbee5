"""How a Submit becomes a row: once for each form, and in its place among those of its bucket."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select, update

from bot.model.submission import NewSubmission, State, Submission, Task
from bot.storage.rows import (
    ITS_BUCKET,
    MAY_BE_SENT,
    NOTHING_FOUND,
    UNDER_LEASE,
    names_of,
    new_row,
    read_one,
    superseded,
)
from bot.storage.schema import OPENINGS, SUBMISSIONS
from bot.storage.upsert import INSERTS

_SLOWEST_RECORDING: Final = timedelta(seconds=3)


class Verdict(StrEnum):
    """What became of a Submit."""

    RECORDED = "recorded"
    REPLACED = "replaced"
    ALREADY_UNDER_WAY = "already_under_way"
    UNKNOWN_OPENING = "unknown_opening"
    SOMEBODY_ELSES = "somebody_elses"
    USED = "used"
    TOO_OLD = "too_old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The verdict, and the submission as recorded where there is one."""

    verdict: Verdict
    submission: Submission | None = None


# Statements that run for each submission are built once: building and hashing them took longer than running them.
_is_written: Final = SUBMISSIONS.c.confirm_until.is_not(None)
_last_written: Final = (
    select(SUBMISSIONS).where(ITS_BUCKET, _is_written).order_by(SUBMISSIONS.c.accepted_at.desc()).limit(1).subquery()
)
_NEWEST: Final = select(
    select(func.max(SUBMISSIONS.c.accepted_at)).where(ITS_BUCKET, MAY_BE_SENT).scalar_subquery().label("open_at"),
    select(_last_written.c.accepted_at).scalar_subquery().label("written_at"),
    select(_last_written.c.user_id).scalar_subquery().label("written_by"),
)
_CLAIM_OPENING: Final = (
    update(OPENINGS)
    .where(
        OPENINGS.c.nonce == bindparam("its_nonce"),
        OPENINGS.c.team_id == bindparam("its_team_id"),
        OPENINGS.c.user_id == bindparam("its_user_id"),
        or_(
            and_(OPENINGS.c.used_by.is_(None), OPENINGS.c.expires_at > bindparam("now")),
            OPENINGS.c.used_by == bindparam("used_by"),  # a repeated Submit: however late, it is told how it stands
        ),
    )
    .values(used_by=bindparam("used_by"))
)
_INSERT_SUBMISSION: Final = {
    dialect: insert(SUBMISSIONS).on_conflict_do_nothing(index_elements=["id"]).returning(SUBMISSIONS.c.id)
    for dialect, insert in INSERTS.items()
}


def accept(connection: Connection, new: NewSubmission, nonce: str) -> Acceptance:
    """Use up the opening and record the submission, or say why not."""
    claim = {
        "its_nonce": nonce,
        "its_team_id": new.team_id,
        "its_user_id": new.user_id,
        "now": new.accepted_at,
        "used_by": new.id,
    }
    row = new_row(new) | _place(connection, new)
    if connection.execute(_CLAIM_OPENING, claim).rowcount == 0:
        is_repeated = connection.scalar(select(SUBMISSIONS.c.id).where(_is_same_form(new))) is not None
        return (
            _accept_again(connection, new, row) if is_repeated else Acceptance(verdict=_why_not(connection, new, nonce))
        )
    if connection.scalar(_INSERT_SUBMISSION[connection.dialect.name], row) is not None:
        return Acceptance(
            verdict=Verdict.RECORDED, submission=_find_recorded(connection, new) if "ended_at" in row else None
        )
    return _accept_again(connection, new, row)


def add(connection: Connection, new: NewSubmission) -> bool:
    """Record what no form was submitted for; say whether that is new."""
    row = new_row(new) | _place(connection, new)
    return connection.scalar(_INSERT_SUBMISSION[connection.dialect.name], row) is not None


def _place(connection: Connection, new: NewSubmission) -> dict[str, Any]:
    """Return what is left of a row: its place among its bucket's is that of its arrival at the ingress.

    Recording takes some seconds at most. So one that seems much older than what is known already comes from a clock
    that was set back, and is the newest; one that is a little older than what is written already has come too late.
    """
    newest = connection.execute(_NEWEST, names_of(new.key)).one()
    newest_at = max((at for at in (newest.open_at, newest.written_at) if at is not None), default=new.accepted_at)
    place = {
        "accepted_at": new.accepted_at,
        "next_attempt_at": new.accepted_at,  # by the clock as it is now: it must not wait until that has caught up
        "expires_at": new.expires_at,
    }
    if newest_at - new.accepted_at >= _SLOWEST_RECORDING:
        return place | {"accepted_at": newest_at + timedelta(microseconds=1)}  # a repeated Submit keeps its sequence
    if new.task is Task.STORE and newest.written_at is not None and new.accepted_at < newest.written_at:
        return place | superseded(by=newest.written_by, at=new.accepted_at)
    return place


def _find_recorded(connection: Connection, new: NewSubmission) -> Submission | None:
    return read_one(connection.execute(UNDER_LEASE.where(_is_same_form(new))).one())


def _why_not(connection: Connection, new: NewSubmission, nonce: str) -> Verdict:
    opening = connection.execute(select(OPENINGS).where(OPENINGS.c.nonce == nonce)).one_or_none()
    if opening is None:
        return Verdict.UNKNOWN_OPENING
    if (opening.team_id, opening.user_id) != (new.team_id, new.user_id):
        return Verdict.SOMEBODY_ELSES
    return Verdict.USED if opening.used_by not in (None, new.id) else Verdict.TOO_OLD


def _accept_again(connection: Connection, new: NewSubmission, row: dict[str, Any]) -> Acceptance:
    """Take a second Submit of the same view, unless it is the older one and was only slower on its way here."""
    replace = (
        update(SUBMISSIONS)
        .where(
            _is_same_form(new),
            SUBMISSIONS.c.state.in_([State.ACCEPTED.value, State.VERIFYING.value]),
            SUBMISSIONS.c.accepted_at <= row["accepted_at"],
        )
        .values(row | NOTHING_FOUND)
    )
    verdict = Verdict.REPLACED if connection.execute(replace).rowcount else Verdict.ALREADY_UNDER_WAY
    return Acceptance(verdict=verdict, submission=_find_recorded(connection, new))


def _is_same_form(new: NewSubmission) -> ColumnElement[bool]:
    """Whether a row is of this view, and of the person whose view it is."""
    submission = SUBMISSIONS.c
    return and_(submission.id == new.id, submission.team_id == new.team_id, submission.user_id == new.user_id)
