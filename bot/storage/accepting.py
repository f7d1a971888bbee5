"""Records a Submit as a row: once per form, and at its place in the bucket's order."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from bot.cloudflare.errors import Refusal
from bot.model.audit import Entry, Event, Who
from bot.model.clock import FURTHEST_BACK
from bot.model.errors import leaves
from bot.model.move import Change
from bot.model.submission import FOR_THE_SLOT, NewSubmission, Submission, Task
from bot.storage.audit import AuditChain
from bot.storage.authentic import sign_submission, was_sent_by_the_bot
from bot.storage.lock import lock_bucket, lock_name
from bot.storage.moves import begin_anew, make_move, superseded_by
from bot.storage.rows import (
    IS_FOR_THE_SLOT,
    IS_UNCERTAIN,
    ITS_BUCKET,
    MAY_BE_SENT,
    PLACE,
    names_of,
    new_row,
    read_submission,
)
from bot.storage.schema import OPENINGS, SUBMISSIONS
from bot.storage.upsert import INSERTS

MOST_OPEN_CHECKS: Final = 5
"""For each person: more results than anyone watches at once, and at most 20 of the requests that an account has."""

_NEXT: Final = timedelta(microseconds=1)


class Verdict(StrEnum):
    """The outcome of a Submit."""

    RECORDED = "recorded"
    REPLACED = "replaced"
    ALREADY_UNDER_WAY = "already_under_way"
    UNKNOWN_OPENING = "unknown_opening"
    SOMEBODY_ELSES = "somebody_elses"
    USED = "used"
    TOO_OLD = "too_old"
    TOO_MANY_CHECKS = "too_many_checks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The verdict and, if there is one, the recorded submission; `changes` are those made by a move."""

    verdict: Verdict
    submission: Submission | None = None
    changes: tuple[Change, ...] = ()

    @property
    def is_recorded(self) -> bool:
        """Whether this Submit was recorded, so that there is new work."""
        return self.verdict in (Verdict.RECORDED, Verdict.REPLACED)


# Statements that run for each submission are built once: building and hashing them took longer than running them.
_IS_WRITTEN: Final = SUBMISSIONS.c.confirm_until.is_not(None)
_REFUSED: Final[list[ColumnElement[str]]] = [literal_column(f"'{leaf.code}'") for leaf in leaves(Refusal)]
"""Literals: a list of values would be expanded each time."""
# It may be in the slot, and has ended the older ones; one that Cloudflare refused is not, and these go on.
_MAY_BE_WRITTEN: Final = and_(IS_UNCERTAIN, func.coalesce(SUBMISSIONS.c.error_code, "").not_in(_REFUSED))
# One row for each at most, each the first of an index: as seven subqueries, three of which read the bucket's whole
# history, this took half of the time of recording a Submit, and grew.
_newest: Final = (
    select(SUBMISSIONS.c.sent_at, SUBMISSIONS.c.accepted_at, SUBMISSIONS.c.user_id, SUBMISSIONS.c.id)
    .order_by(*(column.desc() for column in PLACE))
    .limit(literal_column("1"))
)
_NEWEST: Final = union_all(
    *(
        select(_newest.where(ITS_BUCKET, is_it).subquery(), literal_column(is_in_slot).label("is_in_slot"))
        for is_in_slot, is_it in (("0", MAY_BE_SENT), ("1", _IS_WRITTEN), ("1", _MAY_BE_WRITTEN))
    )
)
_UNDER_WAY: Final = (
    select(SUBMISSIONS.c.sequence)
    .where(ITS_BUCKET, SUBMISSIONS.c.reported_at.is_(None), SUBMISSIONS.c.ended_at.is_(None), IS_FOR_THE_SLOT)
    .limit(literal_column("1"))
)
_OTHER_OPEN_CHECKS: Final = (
    select(func.count())
    .select_from(SUBMISSIONS)
    .where(
        SUBMISSIONS.c.reported_at.is_(None),  # what the index has
        SUBMISSIONS.c.ended_at.is_(None),
        SUBMISSIONS.c.task == Task.CHECK.value,
        SUBMISSIONS.c.team_id == bindparam("its_team_id"),
        SUBMISSIONS.c.user_id == bindparam("its_user_id"),
        SUBMISSIONS.c.id != bindparam("used_by"),
    )
)
_CLAIM_OPENING: Final = (
    update(OPENINGS)
    .where(
        OPENINGS.c.nonce == bindparam("its_nonce"),
        OPENINGS.c.team_id == bindparam("opened_in"),
        OPENINGS.c.user_id == bindparam("its_user_id"),
        or_(
            and_(OPENINGS.c.used_by.is_(None), OPENINGS.c.expires_at > bindparam("now")),
            OPENINGS.c.used_by == bindparam("used_by"),  # a repeated Submit gets the state, however late
        ),
    )
    .values(used_by=bindparam("used_by"))
)
_INSERT_SUBMISSION: Final = {
    dialect: insert(SUBMISSIONS).on_conflict_do_nothing(index_elements=["id"]).returning(SUBMISSIONS.c.id)
    for dialect, insert in INSERTS.items()
}


def accept(connection: Connection, chain: AuditChain, new: NewSubmission, nonce: str, opened_in: str) -> Acceptance:
    """Use up the opening and record the submission, or do neither and return why.

    One check too many leaves the opening unused: the same form can be submitted again.
    """
    claim = {
        "its_nonce": nonce,
        "opened_in": opened_in,
        "its_team_id": new.team_id,
        "its_user_id": new.user_id,
        "now": new.accepted_at,
        "used_by": new.id,
    }
    if new.task is Task.CHECK and _has_too_many_checks(connection, new, claim):
        return Acceptance(verdict=Verdict.TOO_MANY_CHECKS)
    signed = _Signed(chain=chain, new=new, place=_find_place(connection, chain, new), nonce=nonce)
    if connection.execute(_CLAIM_OPENING, claim).rowcount == 0:
        is_repeated = connection.scalar(select(SUBMISSIONS.c.id).where(_is_same_form(new))) is not None
        if not is_repeated:
            return Acceptance(verdict=_why_not(connection, new, nonce, opened_in))
    elif _insert(connection, signed):
        return _recorded(connection, signed, Verdict.RECORDED)
    return _accept_again(connection, signed)


def add(connection: Connection, chain: AuditChain, new: NewSubmission) -> Acceptance:
    """Record a submission that no form was opened for, once."""
    signed = _Signed(chain=chain, new=new, place=_find_place(connection, chain, new))
    if _insert(connection, signed):
        return _recorded(connection, signed, Verdict.RECORDED)
    return Acceptance(verdict=Verdict.ALREADY_UNDER_WAY)


def add_if_idle(connection: Connection, chain: AuditChain, new: NewSubmission) -> Acceptance:
    """Record one that nobody is in a hurry for, once, and only if nothing is under way for the slot: it would win."""
    lock_bucket(connection, new.key)
    if connection.scalar(_UNDER_WAY, names_of(new.key)):
        return Acceptance(verdict=Verdict.ALREADY_UNDER_WAY)
    return add(connection, chain, new)


def _has_too_many_checks(connection: Connection, new: NewSubmission, claim: dict[str, Any]) -> bool:
    """Whether too many checks of other forms are open; a repeated Submit is not counted against itself."""
    lock_name(connection, f"checks of {new.team_id} {new.user_id}")
    has_many = connection.execute(_OTHER_OPEN_CHECKS, claim).scalar_one() >= MOST_OPEN_CHECKS
    return has_many and connection.scalar(select(SUBMISSIONS.c.task).where(_is_same_form(new))) != Task.CHECK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A submission's place in its bucket's order; `overtaken_by` is the user whose newer token is in the slot."""

    sent_at: datetime
    overtaken_by: str | None = None


def _find_place(connection: Connection, chain: AuditChain, new: NewSubmission) -> _Place:
    """Return its place in the bucket's order: by when it was sent, however late it is recorded.

    A submission older than the token that is, or may be, in the slot is superseded at once: a delayed Submit must not
    replace the newer token. But no Submit is delayed by a day. If one seems to be, a clock was far ahead when the
    newest known one was recorded, and this one is the newest.
    """
    lock_bucket(connection, new.key)
    rows = connection.execute(_NEWEST, names_of(new.key)).all()
    newest = [row for row in rows if row.sent_at is not None]  # a damaged one must not refuse every Submit
    in_slot = max((row for row in newest if row.is_in_slot), key=_times_of, default=None)
    newest_at = max((row.sent_at for row in newest), default=new.sent_at)
    if newest_at - new.sent_at >= FURTHEST_BACK:
        return _Place(sent_at=newest_at + _NEXT)  # a repeated Submit keeps its sequence
    is_late = new.task in FOR_THE_SLOT and in_slot is not None and _is_older(new, *_times_of(in_slot))
    if in_slot is None or not is_late or not was_sent_by_the_bot(connection, chain, in_slot):
        return _Place(sent_at=new.sent_at)
    return _Place(sent_at=new.sent_at, overtaken_by=in_slot.user_id)


def _times_of(row: Row[Any]) -> tuple[datetime, datetime]:
    """Return both times, of which ours may be damaged: an older Submit must be late all the same."""
    return row.sent_at, row.accepted_at or row.sent_at


def _is_older(new: NewSubmission, sent_at: datetime, accepted_at: datetime) -> bool:
    """Compare by Slack's time and, within one second of it, by ours, unless ours has been set back between the two."""
    behind = accepted_at - new.accepted_at
    return new.sent_at < sent_at or (new.sent_at == sent_at and timedelta(0) < behind < FURTHEST_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """A Submit at its place, and what signs and audits it; `nonce` is that of its form, if it has one."""

    chain: AuditChain
    new: NewSubmission
    place: _Place
    nonce: str = ""

    def row(self) -> dict[str, Any]:
        """Return its row as that of a new submission."""
        return sign_submission(self.chain.authenticity, self.unsigned_row())

    def unsigned_row(self) -> dict[str, Any]:
        """Return its row. A token that will never be sent is not stored, not even sealed."""
        new, place = self.new, self.place
        row = new_row(new) | {
            "sent_at": place.sent_at,
            "accepted_at": new.accepted_at,
            "next_attempt_at": new.accepted_at,
            "expires_at": new.expires_at,
            "nonce": self.nonce,
        }
        return row | ({"sealed_token": None} if place.overtaken_by else {})

    def entry(self, verdict: Verdict) -> Entry:
        """Return what the audit says of it."""
        new = self.new
        return Entry(
            event=Event.SUBMITTED,
            at=new.accepted_at,
            key=new.key,
            submission_id=new.id,
            task=new.task.value,
            outcome=verdict.value,
            fingerprint=new.fingerprint,
            who=Who(user_id=new.user_id, team_id=new.team_id, channel_id=new.channel_id, reason=new.reason),
        )


def _insert(connection: Connection, signed: _Signed) -> bool:
    return connection.scalar(_INSERT_SUBMISSION[connection.dialect.name], signed.row()) is not None


def _recorded(connection: Connection, signed: _Signed, verdict: Verdict) -> Acceptance:
    """Return the recorded submission. An overtaken one ends here, by a normal move."""
    new, chain = signed.new, signed.chain
    chain.append(connection, [signed.entry(verdict)])
    if signed.place.overtaken_by is None:
        is_known = verdict is Verdict.RECORDED  # its state is that of every new one: no query needed
        return Acceptance(verdict=verdict, submission=None if is_known else _find_recorded(connection, new))
    move = superseded_by(signed.place.overtaken_by, new.accepted_at)
    [change] = make_move(connection, chain, _find_recorded(connection, new), move, lease=None)
    return Acceptance(verdict=verdict, submission=change.submission, changes=(change,))


def _find_recorded(connection: Connection, new: NewSubmission) -> Submission:
    return read_submission(connection.execute(select(SUBMISSIONS).where(_is_same_form(new))).one())


def _why_not(connection: Connection, new: NewSubmission, nonce: str, opened_in: str) -> Verdict:
    query = select(OPENINGS.c.team_id, OPENINGS.c.user_id, OPENINGS.c.used_by).where(OPENINGS.c.nonce == nonce)
    opening = connection.execute(query).one_or_none()
    if opening is None:
        return Verdict.UNKNOWN_OPENING
    if (opening.team_id, opening.user_id) != (opened_in, new.user_id):
        return Verdict.SOMEBODY_ELSES
    return Verdict.USED if opening.used_by not in (None, new.id) else Verdict.TOO_OLD


def _accept_again(connection: Connection, signed: _Signed) -> Acceptance:
    """Record a second Submit of the same view, unless it was sent first and merely arrived later.

    A rotation brings no token that could be a better one, and one may be on its way to it: the first Submit stands.
    """
    new = signed.new
    if new.task is Task.ROTATE:
        return Acceptance(verdict=Verdict.ALREADY_UNDER_WAY, submission=_find_recorded(connection, new))
    first = connection.execute(select(SUBMISSIONS).where(_is_same_form(new)).with_for_update()).one()
    its_time, first_time = (signed.place.sent_at, new.accepted_at), (SUBMISSIONS.c.sent_at, SUBMISSIONS.c.accepted_at)
    is_it = and_(_is_same_form(new), tuple_(*first_time) <= its_time)
    if begin_anew(connection, signed.chain, is_it, first, signed.unsigned_row()):
        return _recorded(connection, signed, Verdict.REPLACED)
    return Acceptance(verdict=Verdict.ALREADY_UNDER_WAY, submission=_find_recorded(connection, new))


def _is_same_form(new: NewSubmission) -> ColumnElement[bool]:
    """Whether a row is of this view, and of the person whose view it is."""
    submission = SUBMISSIONS.c
    return and_(submission.id == new.id, submission.team_id == new.team_id, submission.user_id == new.user_id)
