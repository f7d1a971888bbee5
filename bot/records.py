"""The tables and their compare-and-set transitions."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from bot.catalog import CredentialStatus
from bot.database import Database
from bot.database.schema import CATALOGS, CREDENTIALS, LEASES, OPENINGS, SNAPSHOTS, SUBMISSIONS
from bot.database.upsert import INSERTS, insert_into
from bot.errors import LeaseLost
from bot.sealing import key_id_of
from bot.submission import (
    ENDINGS,
    STEPS,
    BucketKey,
    Check,
    Findings,
    Lease,
    NewSubmission,
    Opening,
    SealedResponseUrl,
    SealedToken,
    State,
    Submission,
    Task,
    TokenFacts,
    TokenKind,
)

_NO_BUCKET: Final = BucketKey(account_id="", bucket="")
_SLOWEST_RECORDING: Final = timedelta(seconds=3)
_MOST_WORK: Final = 30
_SUCCESSES: Final = (State.STORED, State.CHECKED, State.ENABLED)
_NOTHING_FOUND: Final = dict.fromkeys(
    ("checked_at", "patience_until", "error_code", "cloudflare_code", "cloudflare_message", "cf_ray")
)
"""What is not known of a token that replaces another one, while that one was being checked."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a transition changes besides the state; None leaves a column as it is."""

    next_attempt_at: datetime | None = None
    attempts: int | None = None
    possibly_written: bool | None = None
    checked_at: datetime | None = None
    patience_until: datetime | None = None
    findings: Findings | None = None
    confirm_until: datetime | None = None
    error_code: str | None = None
    cloudflare_code: int | None = None
    cloudflare_message: str | None = None
    cf_ray: str | None = None
    confirmation: CredentialStatus | None = None


class Records:
    """Reads and moves what the database holds. Every method raises DatabaseTrouble when the database fails.

    `enqueue` is called for what was recorded, with the driver's connection, inside the recording's transaction.
    """

    def __init__(self, database: Database, enqueue: Callable[[Any, BucketKey], Awaitable[None]] | None = None) -> None:
        self._database = database
        self._enqueue = enqueue

    async def ping(self) -> None:
        """Return when the database takes something: one that can only be read is of no use."""
        await self._database.run(lambda connection: _take(connection, _NO_BUCKET) and None)

    async def add_opening(self, opening: Opening) -> None:
        """Record an opened modal."""
        row = {field.name: getattr(opening, field.name) for field in fields(opening)}
        await self._database.run(lambda connection: connection.execute(insert(OPENINGS), row) and None)

    async def accept(self, new: NewSubmission, nonce: str) -> Acceptance:
        """Use up the opening and record the submission, both or neither.

        A repeated Submit of the same view replaces what was recorded as long as nothing was sent, and leaves it alone
        afterwards.
        """

        async def enqueue(acceptance: Acceptance, connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            if self._enqueue is not None and acceptance.verdict in (Verdict.RECORDED, Verdict.REPLACED):
                await self._enqueue(connection, new.key)

        afterwards = None if self._enqueue is None else enqueue
        return await self._database.run(lambda connection: _accept(connection, new, nonce), afterwards)

    async def add(self, new: NewSubmission) -> bool:
        """Record what no form was submitted for; say whether that is new."""

        async def enqueue(is_new: bool, connection: Any) -> None:  # noqa: ANN401, FBT001 - psycopg is optional
            if self._enqueue is not None and is_new:
                await self._enqueue(connection, new.key)

        afterwards = None if self._enqueue is None else enqueue
        return await self._database.run(lambda connection: _add(connection, new), afterwards)

    async def history(self, account_id: str, bucket: str | None, most: int) -> list[Submission]:
        """Return the last submissions for a bucket, or for all, the newest first."""
        its_bucket = [SUBMISSIONS.c.bucket == bucket] if bucket else []
        query = (
            _SUBMISSIONS_UNDER_LEASE.where(SUBMISSIONS.c.account_id == account_id, *its_bucket)
            .order_by(SUBMISSIONS.c.sequence.desc())
            .limit(most)
        )
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [_read_submission(row, row.epoch) for row in rows]

    async def take(self, key: BucketKey) -> Lease:
        """Take over a bucket: whoever held it moves nothing any more."""
        return await self._database.run(lambda connection: _take(connection, key))

    async def holds(self, lease: Lease) -> bool:
        """Whether nobody has taken the bucket since."""
        return await self._database.run(lambda connection: _holds(connection, lease))

    async def work(self, lease: Lease) -> list[Submission]:
        """Return what the bucket has open, what has not ended first, oldest first; raises LeaseLost.

        That is: what ended and is not told yet, what is being confirmed, and of those that may still be sent the newest
        one, which holds all others, and the one that expires first.
        """
        return await self._database.run(lambda connection: _read_work(connection, lease))

    async def unreported_keys(self) -> list[BucketKey]:
        """Return the buckets that have something left to do."""
        query = select(SUBMISSIONS.c.account_id, SUBMISSIONS.c.bucket).where(_is_unreported()).distinct()
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [BucketKey(account_id=row.account_id, bucket=row.bucket) for row in rows]

    async def overdue_keys(self, due_before: datetime) -> list[BucketKey]:
        """Return the buckets with something that was due before that time."""
        is_due = SUBMISSIONS.c.next_attempt_at < due_before
        query = select(SUBMISSIONS.c.account_id, SUBMISSIONS.c.bucket).where(_is_unreported(), is_due).distinct()
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [BucketKey(account_id=row.account_id, bucket=row.bucket) for row in rows]

    async def find(self, submission_id: str) -> Submission | None:
        """Return one submission."""
        query = _SUBMISSIONS_UNDER_LEASE.where(SUBMISSIONS.c.id == submission_id)
        return await self._database.run(lambda connection: _read_one(connection.execute(query).one_or_none()))

    async def move(self, submission: Submission, to: State, changes: Changes | None = None) -> Submission | None:
        """Take one step, if the submission still stands as it was read; return it as it is then, else None."""
        if to is not submission.state or submission.is_ended:
            _require_step(submission.state, to)
        return await self._change(submission, {"state": to.value} | _values(changes or Changes()))

    async def note_written(self, submission: Submission, written_at: datetime, changes: Changes) -> Submission | None:
        """Move on to confirming, since the slot holds the token now; return the submission as it is then, else None.

        In the same transaction all older ones of the bucket that could still be sent end, and what is known of the
        slot's credential becomes what is known of this one.
        """
        _require_step(submission.state, State.CONFIRMING)

        def afterwards(connection: Connection, row: Row[Any]) -> None:
            _supersede_older(connection, row, written_at)
            _replace_credential(connection, row, written_at)

        return await self._change(submission, {"state": State.CONFIRMING.value} | _values(changes), afterwards)

    async def end(
        self,
        submission: Submission,
        ending: State,
        ended_at: datetime,
        changes: Changes | None = None,
        *,
        supersede_older: bool = False,
    ) -> Submission | None:
        """Move to an ending and erase the sealed token in the same transaction; see `move` for the rest."""
        if ending not in ENDINGS:
            message = f"{ending} is no ending"
            raise ValueError(message)
        _require_step(submission.state, ending)
        values = {"state": ending.value, "ended_at": ended_at, "sealed_token": None, "next_attempt_at": ended_at}
        if ending in _SUCCESSES:  # what went wrong on the way there is not how it ended
            values |= {"error_code": None, "cloudflare_code": None, "cloudflare_message": None}
        values |= _values(changes or Changes())
        if not supersede_older:
            return await self._change(submission, values)
        return await self._change(
            submission, values, lambda connection, row: _supersede_older(connection, row, ended_at)
        )

    async def postpone_report(self, submission: Submission, until: datetime, *, forget_response_url: bool) -> None:
        """Try the report again at `until`."""
        values: dict[str, Any] = {"next_attempt_at": until}
        if forget_response_url:
            values["sealed_response_url"] = None
        await self._change(submission, values)

    async def mark_reported(self, submission: Submission, reported_at: datetime) -> None:
        """Note that the final message is out, and erase the response URL."""
        await self._change(submission, {"reported_at": reported_at, "sealed_response_url": None})

    async def key_ids_in_use(self) -> frozenset[str]:
        """Return the ids of the keys that something not yet erased is sealed with."""
        query = select(SUBMISSIONS.c.sealed_token, SUBMISSIONS.c.sealed_response_url).where(_is_unreported())
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return frozenset(key_id_of(sealed) for row in rows for sealed in row if sealed)

    async def forget_openings(self, expired_before: datetime) -> None:
        """Delete openings that expired before that time."""
        statement = delete(OPENINGS).where(OPENINGS.c.expires_at < expired_before)
        await self._database.run(lambda connection: connection.execute(statement) and None)

    async def latest_time(self) -> datetime | None:
        """Return the latest time that was ever recorded as past, or None for an empty database."""
        columns = (SUBMISSIONS.c.accepted_at, SUBMISSIONS.c.ended_at, SNAPSHOTS.c.refreshed_at)
        query = select(*(select(func.max(column)).scalar_subquery() for column in columns))
        row = await self._database.run(lambda connection: connection.execute(query).one())
        return max((time for time in row if time is not None), default=None)

    async def _change(
        self,
        submission: Submission,
        values: dict[str, Any],
        afterwards: Callable[[Connection, Row[Any]], None] | None = None,
    ) -> Submission | None:
        statement = (
            update(SUBMISSIONS)
            .where(
                SUBMISSIONS.c.id == submission.id,
                SUBMISSIONS.c.state == submission.state.value,
                SUBMISSIONS.c.attempts == submission.attempts,
                SUBMISSIONS.c.sealed_token.is_not_distinct_from(submission.sealed_token),
                _epoch_of(submission.key) == submission.epoch,
            )
            .values(values)
            .returning(SUBMISSIONS)
        )

        def change(connection: Connection) -> Submission | None:
            row = connection.execute(statement).one_or_none()
            if row is not None and afterwards is not None:
                afterwards(connection, row)
            return _read_one(row, epoch=submission.epoch)

        return await self._database.run(change)


def _require_step(state: State, to: State) -> None:
    if to not in STEPS.get(state, frozenset()):
        message = f"no step leads from {state} to {to}"
        raise ValueError(message)


def _is_unreported() -> ColumnElement[bool]:
    return SUBMISSIONS.c.reported_at.is_(None)


# Statements that run for each submission are built once: building and hashing them took longer than running them.
_its_bucket: Final = and_(
    SUBMISSIONS.c.account_id == bindparam("its_account_id"), SUBMISSIONS.c.bucket == bindparam("its_bucket")
)
_may_be_sent: Final = and_(
    SUBMISSIONS.c.reported_at.is_(None),
    SUBMISSIONS.c.ended_at.is_(None),
    SUBMISSIONS.c.state != State.CONFIRMING.value,
)
_sendable: Final = select(SUBMISSIONS.c.sequence).where(_its_bucket, _may_be_sent).limit(1)
_WORK: Final = (
    select(SUBMISSIONS)
    .where(
        _its_bucket,
        _is_unreported(),
        or_(
            not_(_may_be_sent),
            SUBMISSIONS.c.sequence
            == _sendable.order_by(SUBMISSIONS.c.accepted_at.desc(), SUBMISSIONS.c.sequence.desc())
            .correlate(None)
            .scalar_subquery(),
            SUBMISSIONS.c.sequence
            == _sendable.order_by(SUBMISSIONS.c.expires_at, SUBMISSIONS.c.sequence).correlate(None).scalar_subquery(),
        ),
    )
    .order_by(SUBMISSIONS.c.ended_at.is_not(None), SUBMISSIONS.c.accepted_at, SUBMISSIONS.c.sequence)
    .limit(_MOST_WORK)
)
_EPOCH: Final = select(LEASES.c.epoch).where(
    LEASES.c.account_id == bindparam("its_account_id"), LEASES.c.bucket == bindparam("its_bucket")
)
_SUBMISSIONS_UNDER_LEASE: Final = select(SUBMISSIONS, func.coalesce(LEASES.c.epoch, 0).label("epoch")).outerjoin(
    LEASES, and_(LEASES.c.account_id == SUBMISSIONS.c.account_id, LEASES.c.bucket == SUBMISSIONS.c.bucket)
)
_is_written: Final = SUBMISSIONS.c.confirm_until.is_not(None)
_last_written: Final = (
    select(SUBMISSIONS).where(_its_bucket, _is_written).order_by(SUBMISSIONS.c.accepted_at.desc()).limit(1).subquery()
)
_NEWEST: Final = select(
    select(func.max(SUBMISSIONS.c.accepted_at)).where(_its_bucket, _may_be_sent).scalar_subquery().label("open_at"),
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


def _names(key: BucketKey) -> dict[str, str]:
    return {"its_account_id": key.account_id, "its_bucket": key.bucket}


def _epoch_of(key: BucketKey) -> ColumnElement[int]:
    """Return the bucket's epoch at that moment; 0 as long as nobody took it."""
    epoch = select(LEASES.c.epoch).where(LEASES.c.account_id == key.account_id, LEASES.c.bucket == key.bucket)
    return func.coalesce(epoch.scalar_subquery(), 0)


def _take(connection: Connection, key: BucketKey) -> Lease:
    statement = (
        insert_into(connection, LEASES)
        .values(account_id=key.account_id, bucket=key.bucket, epoch=1)
        .on_conflict_do_update(index_elements=["account_id", "bucket"], set_={"epoch": LEASES.c.epoch + 1})
        .returning(LEASES.c.epoch)
    )
    return Lease(key=key, epoch=connection.execute(statement).scalar_one())


def _holds(connection: Connection, lease: Lease) -> bool:
    return connection.scalar(_EPOCH, _names(lease.key)) == lease.epoch


def _read_work(connection: Connection, lease: Lease) -> list[Submission]:
    if not _holds(connection, lease):
        raise LeaseLost
    rows = connection.execute(_WORK, _names(lease.key)).all()
    return [_read_submission(row, epoch=lease.epoch) for row in rows]


def _supersede_older(connection: Connection, newer: Row[Any], at: datetime) -> None:
    """End what is older and could still be sent: the slot holds something newer now."""
    its = SUBMISSIONS.c
    is_older = or_(
        its.accepted_at < newer.accepted_at,
        and_(its.accepted_at == newer.accepted_at, its.sequence < newer.sequence),
    )
    its_bucket = and_(its.account_id == newer.account_id, its.bucket == newer.bucket)
    ending = _superseded(by=newer.user_id, at=at)
    is_for_the_slot = its.task == Task.STORE.value
    connection.execute(update(SUBMISSIONS).where(its_bucket, is_for_the_slot, _may_be_sent, is_older).values(ending))


def _replace_credential(connection: Connection, written: Row[Any], at: datetime) -> None:
    """Keep what the slot holds now; what was said of its credential before is about another one."""
    key = {"account_id": written.account_id, "bucket": written.bucket}
    row = key | {
        "submission_id": written.id,
        "stored_by": written.user_id,
        "stored_at": at,
        "channel_id": written.channel_id,
        "token_id": written.token_id,
        "expires_at": written.token_expires_at,
        "reminded_at": None,
        "broken_at": None,
    }
    statement = insert_into(connection, CREDENTIALS).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=[*key], set_=row))
    its = CATALOGS.c
    its_catalog = and_(its.account_id == written.account_id, its.bucket == written.bucket)
    present = CredentialStatus.PRESENT.value
    connection.execute(update(CATALOGS).where(its_catalog).values(credential_status=present, tested=None))


def _superseded(*, by: str, at: datetime) -> dict[str, Any]:
    return {
        "state": State.SUPERSEDED.value,
        "superseded_by": by,
        "error_code": None,
        "cloudflare_code": None,
        "cloudflare_message": None,
        "cf_ray": None,
        "sealed_token": None,
        "ended_at": at,
        "next_attempt_at": at,
    }


def _accept(connection: Connection, new: NewSubmission, nonce: str) -> Acceptance:
    claim = {
        "its_nonce": nonce,
        "its_team_id": new.team_id,
        "its_user_id": new.user_id,
        "now": new.accepted_at,
        "used_by": new.id,
    }
    row = _submission_row(new) | _place(connection, new)
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


def _place(connection: Connection, new: NewSubmission) -> dict[str, Any]:
    """Return what is left of a row: its place among its bucket's is that of its arrival at the ingress.

    Recording takes some seconds at most. So one that seems much older than what is known already comes from a clock
    that was set back, and is the newest; one that is a little older than what is written already has come too late.
    """
    newest = connection.execute(_NEWEST, _names(new.key)).one()
    newest_at = max((at for at in (newest.open_at, newest.written_at) if at is not None), default=new.accepted_at)
    place = {
        "accepted_at": new.accepted_at,
        "next_attempt_at": new.accepted_at,  # by the clock as it is now: it must not wait until that has caught up
        "expires_at": new.expires_at,
    }
    if newest_at - new.accepted_at >= _SLOWEST_RECORDING:
        return place | {"accepted_at": newest_at + timedelta(microseconds=1)}  # a repeated Submit keeps its sequence
    if new.task is Task.STORE and newest.written_at is not None and new.accepted_at < newest.written_at:
        return place | _superseded(by=newest.written_by, at=new.accepted_at)
    return place


def _add(connection: Connection, new: NewSubmission) -> bool:
    row = _submission_row(new) | _place(connection, new)
    return connection.scalar(_INSERT_SUBMISSION[connection.dialect.name], row) is not None


def _find_recorded(connection: Connection, new: NewSubmission) -> Submission | None:
    return _read_one(connection.execute(_SUBMISSIONS_UNDER_LEASE.where(_is_same_form(new))).one())


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
        .values(row | _NOTHING_FOUND)
    )
    verdict = Verdict.REPLACED if connection.execute(replace).rowcount else Verdict.ALREADY_UNDER_WAY
    return Acceptance(verdict=verdict, submission=_find_recorded(connection, new))


def _is_same_form(new: NewSubmission) -> ColumnElement[bool]:
    """Whether a row is of this view, and of the person whose view it is."""
    submission = SUBMISSIONS.c
    return and_(submission.id == new.id, submission.team_id == new.team_id, submission.user_id == new.user_id)


def _submission_row(new: NewSubmission) -> dict[str, Any]:
    return {
        "id": new.id,
        "task": new.task.value,
        "state": State.ACCEPTED.value,
        "team_id": new.team_id,
        "user_id": new.user_id,
        "account_id": new.key.account_id,
        "bucket": new.key.bucket,
        "channel_id": new.channel_id,
        "reason": new.reason,
        "token_kind": new.token_kind.value,
        "last_four": new.last_four,
        "sealed_token": new.sealed_token,
        "sealed_response_url": new.sealed_response_url,
    }


def _read_one(row: Row[Any] | None, epoch: int | None = None) -> Submission | None:
    return None if row is None else _read_submission(row, row.epoch if epoch is None else epoch)


def _read_submission(row: Row[Any], epoch: int) -> Submission:
    return Submission(
        id=row.id,
        task=Task(row.task),
        state=State(row.state),
        team_id=row.team_id,
        user_id=row.user_id,
        key=BucketKey(account_id=row.account_id, bucket=row.bucket),
        channel_id=row.channel_id,
        reason=row.reason,
        token_kind=TokenKind(row.token_kind),
        last_four=row.last_four,
        sealed_token=SealedToken(row.sealed_token) if row.sealed_token else None,
        sealed_response_url=SealedResponseUrl(row.sealed_response_url) if row.sealed_response_url else None,
        accepted_at=row.accepted_at,
        expires_at=row.expires_at,
        next_attempt_at=row.next_attempt_at,
        attempts=row.attempts,
        possibly_written=row.possibly_written,
        checked_at=row.checked_at,
        patience_until=row.patience_until,
        findings=_read_findings(row),
        confirm_until=row.confirm_until,
        ended_at=row.ended_at,
        error_code=row.error_code,
        cloudflare_code=row.cloudflare_code,
        cloudflare_message=row.cloudflare_message or "",
        cf_ray=row.cf_ray,
        confirmation=CredentialStatus(row.confirmation) if row.confirmation else None,
        reported_at=row.reported_at,
        superseded_by=row.superseded_by,
        epoch=epoch,
    )


def _read_findings(row: Row[Any]) -> Findings | None:
    if row.checked_at is None:
        return None
    token = (
        TokenFacts(id=row.token_id, owner=TokenKind(row.token_owner), expires_at=row.token_expires_at)
        if row.token_id
        else None
    )
    return Findings(
        token=token,
        unchecked=frozenset(Check(each) for each in (row.unchecked or "").split()),
        credential=CredentialStatus(row.credential_before or CredentialStatus.UNKNOWN),
    )


def _values(changes: Changes) -> dict[str, Any]:
    pairs = ((field.name, getattr(changes, field.name)) for field in fields(changes) if field.name != "findings")
    values = {name: value for name, value in pairs if value is not None}
    if changes.error_code is not None:  # its code and Ray ID go with it: those of an earlier error must not stay
        cause = ("cloudflare_code", "cloudflare_message", "cf_ray")
        values |= {name: getattr(changes, name) for name in cause}
    return values | (_columns_of(changes.findings) if changes.findings is not None else {})


def _columns_of(findings: Findings) -> dict[str, Any]:
    token = findings.token
    return {
        "token_id": token.id if token else None,
        "token_owner": token.owner.value if token else None,
        "token_expires_at": token.expires_at if token else None,
        "unchecked": " ".join(sorted(findings.unchecked)),
        "credential_before": findings.credential.value,
    }
