"""The tables and their compare-and-set transitions."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
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
from sqlalchemy.dialects import postgresql, sqlite

from bot.catalog import Catalog, CatalogStatus, CredentialStatus, Snapshot
from bot.database import Database
from bot.database.schema import CATALOGS, LEASES, OPENINGS, SNAPSHOTS, SUBMISSIONS
from bot.errors import LeaseLost
from bot.sealing import key_id_of
from bot.submission import (
    ENDINGS,
    STEPS,
    BucketKey,
    Confirmation,
    Lease,
    NewSubmission,
    Opening,
    SealedResponseUrl,
    SealedToken,
    State,
    Submission,
    TokenKind,
)

_NO_BUCKET: Final = BucketKey(account_id="", bucket="")
_SLOWEST_RECORDING: Final = timedelta(seconds=3)
_MOST_WORK: Final = 30


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
    confirm_until: datetime | None = None
    error_code: str | None = None
    cloudflare_code: int | None = None
    cf_ray: str | None = None
    credential_before: CredentialStatus | None = None
    confirmation: Confirmation | None = None


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

    async def move(
        self,
        submission: Submission,
        to: State,
        changes: Changes | None = None,
        *,
        supersede_older_at: datetime | None = None,
    ) -> Submission | None:
        """Take one step, if the submission still stands as it was read; return it as it is then, else None.

        With `supersede_older_at` all older ones of the bucket that could still be sent end in the same transaction.
        """
        if to is not submission.state or submission.is_ended:
            _require_step(submission.state, to)
        values = {"state": to.value} | _values(changes or Changes())
        return await self._change(submission, values, supersede_older_at)

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
        if ending is State.STORED:  # what went wrong on the way there is not how it ended
            values |= {"error_code": None, "cloudflare_code": None}
        values |= _values(changes or Changes())
        return await self._change(submission, values, ended_at if supersede_older else None)

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

    async def save_snapshot(self, account_id: str, snapshot: Snapshot) -> None:
        """Replace the account's catalogs."""
        await self._database.run(lambda connection: _save_snapshot(connection, account_id, snapshot))

    async def save_catalog(self, account_id: str, catalog: Catalog) -> None:
        """Correct one catalog of the snapshot."""
        row = _catalog_row(account_id, catalog)
        await self._database.run(lambda connection: _save_catalog(connection, row))

    async def catalog(self, key: BucketKey) -> Catalog | None:
        """Return one catalog of the snapshot, or None for one that it does not list."""

        def read(connection: Connection) -> Catalog | None:
            row = connection.execute(_CATALOG, _names(key)).one_or_none()
            return None if row is None else _read_catalog(row)

        return await self._database.run(read)

    async def snapshot(self, account_id: str) -> Snapshot | None:
        """Return the account's catalogs, or None when nobody has asked Cloudflare yet."""
        return await self._database.run(lambda connection: _read_snapshot(connection, account_id))

    async def _change(
        self, submission: Submission, values: dict[str, Any], supersede_older_at: datetime | None = None
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
            if row is not None and supersede_older_at is not None:
                _supersede_older(connection, row, supersede_older_at)
            return _read_one(row, epoch=submission.epoch)

        return await self._database.run(change)


def _require_step(state: State, to: State) -> None:
    if to not in STEPS.get(state, frozenset()):
        message = f"no step leads from {state} to {to}"
        raise ValueError(message)


def _is_unreported() -> ColumnElement[bool]:
    return SUBMISSIONS.c.reported_at.is_(None)


_Insert = sqlite.Insert | postgresql.Insert
_INSERTS: Final[Mapping[str, Callable[[Table], _Insert]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def _insert(connection: Connection, table: Table) -> _Insert:
    """Return the dialect's own INSERT, which knows ON CONFLICT; both spell it alike."""
    return _INSERTS[connection.dialect.name](table)


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
_CATALOG: Final = select(CATALOGS).where(
    CATALOGS.c.account_id == bindparam("its_account_id"), CATALOGS.c.bucket == bindparam("its_bucket")
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
    for dialect, insert in _INSERTS.items()
}


def _names(key: BucketKey) -> dict[str, str]:
    return {"its_account_id": key.account_id, "its_bucket": key.bucket}


def _epoch_of(key: BucketKey) -> ColumnElement[int]:
    """Return the bucket's epoch at that moment; 0 as long as nobody took it."""
    epoch = select(LEASES.c.epoch).where(LEASES.c.account_id == key.account_id, LEASES.c.bucket == key.bucket)
    return func.coalesce(epoch.scalar_subquery(), 0)


def _take(connection: Connection, key: BucketKey) -> Lease:
    statement = (
        _insert(connection, LEASES)
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
    connection.execute(update(SUBMISSIONS).where(its_bucket, _may_be_sent, is_older).values(ending))


def _superseded(*, by: str, at: datetime) -> dict[str, Any]:
    return {
        "state": State.SUPERSEDED.value,
        "superseded_by": by,
        "error_code": None,
        "cloudflare_code": None,
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
    if newest.written_at is not None and new.accepted_at < newest.written_at:
        return place | _superseded(by=newest.written_by, at=new.accepted_at)
    return place


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
            SUBMISSIONS.c.state == State.ACCEPTED.value,
            SUBMISSIONS.c.accepted_at <= row["accepted_at"],
        )
        .values(row)
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
        confirm_until=row.confirm_until,
        ended_at=row.ended_at,
        error_code=row.error_code,
        cloudflare_code=row.cloudflare_code,
        cf_ray=row.cf_ray,
        credential_before=CredentialStatus(row.credential_before) if row.credential_before else None,
        confirmation=Confirmation(row.confirmation) if row.confirmation else None,
        reported_at=row.reported_at,
        superseded_by=row.superseded_by,
        epoch=epoch,
    )


def _values(changes: Changes) -> dict[str, Any]:
    pairs = ((field.name, getattr(changes, field.name)) for field in fields(changes))
    values = {name: value for name, value in pairs if value is not None}
    if changes.error_code is not None:  # its code and Ray ID go with it: those of an earlier error must not stay
        values |= {"cloudflare_code": changes.cloudflare_code, "cf_ray": changes.cf_ray}
    return values


def _catalog_row(account_id: str, catalog: Catalog) -> dict[str, str]:
    return {
        "account_id": account_id,
        "bucket": catalog.bucket,
        "status": catalog.status.value,
        "credential_status": catalog.credential_status.value,
    }


def _save_catalog(connection: Connection, row: dict[str, str]) -> None:
    statement = _insert(connection, CATALOGS).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["account_id", "bucket"], set_=row))


def _save_snapshot(connection: Connection, account_id: str, snapshot: Snapshot) -> None:
    connection.execute(delete(CATALOGS).where(CATALOGS.c.account_id == account_id))
    rows: Sequence[dict[str, str]] = [_catalog_row(account_id, catalog) for catalog in snapshot.catalogs]
    if rows:
        connection.execute(insert(CATALOGS), rows)
    row = {"account_id": account_id, "refreshed_at": snapshot.refreshed_at}
    connection.execute(
        _insert(connection, SNAPSHOTS).values(row).on_conflict_do_update(index_elements=["account_id"], set_=row)
    )


def _read_snapshot(connection: Connection, account_id: str) -> Snapshot | None:
    refreshed_at = connection.scalar(select(SNAPSHOTS.c.refreshed_at).where(SNAPSHOTS.c.account_id == account_id))
    if refreshed_at is None:
        return None
    rows = connection.execute(select(CATALOGS).where(CATALOGS.c.account_id == account_id).order_by(CATALOGS.c.bucket))
    return Snapshot(catalogs=tuple(_read_catalog(row) for row in rows), refreshed_at=refreshed_at)


def _read_catalog(row: Row[Any]) -> Catalog:
    return Catalog(
        bucket=row.bucket,
        status=CatalogStatus(row.status),
        credential_status=CredentialStatus(row.credential_status),
    )
