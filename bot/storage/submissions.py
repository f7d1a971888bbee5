"""What was submitted and how it stands: compare-and-set transitions, each of them under the bucket's lease."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    String,
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

from bot.model.catalog import CredentialStatus, StoredCredential
from bot.model.errors import LeaseLost
from bot.model.submission import (
    ENDINGS,
    STEPS,
    BucketKey,
    Findings,
    Lease,
    NewSubmission,
    Opening,
    State,
    Submission,
    Task,
)
from bot.sealing.hpke import key_id_of
from bot.storage.accepting import Acceptance, Verdict, accept, add
from bot.storage.catalogs import note_stored, note_test
from bot.storage.database import Database
from bot.storage.rows import (
    ITS_BUCKET,
    MAY_BE_SENT,
    UNDER_LEASE,
    columns_of,
    names_of,
    read_one,
    read_submission,
    superseded,
)
from bot.storage.schema import LEASES, OPENINGS, SNAPSHOTS, SUBMISSIONS
from bot.storage.upsert import INSERTS

__all__ = ["Acceptance", "Changes", "Records", "Verdict"]

_NO_BUCKET: Final = BucketKey(account_id="", bucket="")
_MOST_WORK: Final = 30
_SUCCESSES: Final = (State.STORED, State.CHECKED, State.ENABLED)
_CAUSE: Final = ("cloudflare_code", "cloudflare_message", "cf_ray")
"""What stays with an error code, and goes with it."""

_T = TypeVar("_T")


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
        return await self._record(
            lambda connection: accept(connection, new, nonce),
            new.key,
            lambda acceptance: acceptance.verdict in (Verdict.RECORDED, Verdict.REPLACED),
        )

    async def add(self, new: NewSubmission) -> bool:
        """Record what no form was submitted for; say whether that is new."""
        return await self._record(lambda connection: add(connection, new), new.key, bool)

    async def history(self, account_id: str, bucket: str | None, most: int) -> list[Submission]:
        """Return the last submissions for a bucket, or for all, the newest first."""
        its_bucket = [SUBMISSIONS.c.bucket == bucket] if bucket else []
        query = (
            UNDER_LEASE.where(SUBMISSIONS.c.account_id == account_id, *its_bucket)
            .order_by(SUBMISSIONS.c.sequence.desc())
            .limit(most)
        )
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [read_submission(row, row.epoch) for row in rows]

    async def take(self, key: BucketKey) -> Lease:
        """Take over a bucket: whoever held it moves nothing any more."""
        return await self._database.run(lambda connection: _take(connection, key))

    async def holds(self, lease: Lease) -> bool:
        """Whether nobody has taken the bucket since."""
        return await self._database.run(lambda connection: _holds(connection, lease))

    async def work(self, lease: Lease) -> list[Submission]:
        """Return what the bucket has open, what has not ended first, oldest first; raises LeaseLost.

        That is: what ended and is not told yet, what is being confirmed, what is not for the slot, and of those that
        may still be sent to it the newest one, which holds all others, and the one that expires first.
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
        query = UNDER_LEASE.where(SUBMISSIONS.c.id == submission_id)
        return await self._database.run(lambda connection: read_one(connection.execute(query).one_or_none()))

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
            note_stored(connection, row.account_id, _as_credential(row, written_at))

        return await self._change(submission, {"state": State.CONFIRMING.value} | _values(changes), afterwards)

    async def end(  # noqa: PLR0913 - what goes into one transaction, by name
        self,
        submission: Submission,
        ending: State,
        ended_at: datetime,
        changes: Changes | None = None,
        *,
        supersede_older: bool = False,
        tested_at: datetime | None = None,
    ) -> Submission | None:
        """Move to an ending and erase the sealed token in the same transaction; see `move` for the rest.

        With `tested_at` the confirmation is what a test of the slot gave then, and is kept as such too.
        """
        if ending not in ENDINGS:
            message = f"{ending} is no ending"
            raise ValueError(message)
        _require_step(submission.state, ending)
        values = {"state": ending.value, "ended_at": ended_at, "sealed_token": None, "next_attempt_at": ended_at}
        if ending in _SUCCESSES:  # what went wrong on the way there is not how it ended
            values |= {"error_code": None, "cloudflare_code": None, "cloudflare_message": None}
        values |= _values(changes or Changes())

        def afterwards(connection: Connection, row: Row[Any]) -> None:
            if supersede_older:
                _supersede_older(connection, row, ended_at)
            if tested_at is not None:
                note_test(connection, submission.key, CredentialStatus(row.confirmation), tested_at)

        return await self._change(submission, values, afterwards)

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

    async def _record(
        self, record: Callable[[Connection], _T], key: BucketKey, is_recorded: Callable[[_T], bool]
    ) -> _T:
        async def enqueue(result: _T, connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            if self._enqueue is not None and is_recorded(result):
                await self._enqueue(connection, key)

        return await self._database.run(record, None if self._enqueue is None else enqueue)

    async def _change(
        self,
        submission: Submission,
        values: dict[str, Any],
        afterwards: Callable[[Connection, Row[Any]], None] | None = None,
    ) -> Submission | None:
        its = names_of(submission.key) | {
            "its_id": submission.id,
            "its_state": submission.state.value,
            "its_attempts": submission.attempts,
            "its_sealed_token": submission.sealed_token,
            "its_epoch": submission.epoch,
        }

        def change(connection: Connection) -> Submission | None:
            row = connection.execute(_CHANGE, its | values).one_or_none()
            if row is not None and afterwards is not None:
                afterwards(connection, row)
            return read_one(row, epoch=submission.epoch)

        return await self._database.run(change)


def _require_step(state: State, to: State) -> None:
    if to not in STEPS.get(state, frozenset()):
        message = f"no step leads from {state} to {to}"
        raise ValueError(message)


def _is_unreported() -> ColumnElement[bool]:
    return SUBMISSIONS.c.reported_at.is_(None)


# Statements that run for each submission are built once: building and hashing them took longer than running them.
_is_for_the_slot: Final = SUBMISSIONS.c.task == Task.STORE.value
_sendable: Final = select(SUBMISSIONS.c.sequence).where(ITS_BUCKET, MAY_BE_SENT, _is_for_the_slot).limit(1)
_WORK: Final = (
    select(SUBMISSIONS)
    .where(
        ITS_BUCKET,
        _is_unreported(),
        or_(
            not_(MAY_BE_SENT),
            not_(_is_for_the_slot),
            SUBMISSIONS.c.sequence
            == _sendable.order_by(SUBMISSIONS.c.accepted_at.desc(), SUBMISSIONS.c.sequence.desc())
            .correlate(None)
            .scalar_subquery(),
            SUBMISSIONS.c.sequence
            == _sendable.order_by(SUBMISSIONS.c.expires_at, SUBMISSIONS.c.sequence).correlate(None).scalar_subquery(),
        ),
    )
    .order_by(
        SUBMISSIONS.c.ended_at.is_not(None), not_(_is_for_the_slot), SUBMISSIONS.c.accepted_at, SUBMISSIONS.c.sequence
    )
    .limit(_MOST_WORK)
)
_EPOCH: Final = select(LEASES.c.epoch).where(
    LEASES.c.account_id == bindparam("its_account_id"), LEASES.c.bucket == bindparam("its_bucket")
)
_TAKE: Final = {
    dialect: insert(LEASES)
    .on_conflict_do_update(index_elements=["account_id", "bucket"], set_={"epoch": LEASES.c.epoch + 1})
    .returning(LEASES.c.epoch)
    for dialect, insert in INSERTS.items()
}
_CHANGE: Final = (
    update(SUBMISSIONS)
    .where(
        SUBMISSIONS.c.id == bindparam("its_id"),
        SUBMISSIONS.c.state == bindparam("its_state"),
        SUBMISSIONS.c.attempts == bindparam("its_attempts"),
        SUBMISSIONS.c.sealed_token.is_not_distinct_from(bindparam("its_sealed_token", type_=String)),
        func.coalesce(_EPOCH.scalar_subquery(), 0) == bindparam("its_epoch"),  # 0 as long as nobody took it
    )
    .returning(SUBMISSIONS)
)
_SUPERSEDE_OLDER: Final = update(SUBMISSIONS).where(
    ITS_BUCKET,
    MAY_BE_SENT,
    _is_for_the_slot,
    or_(
        SUBMISSIONS.c.accepted_at < bindparam("its_accepted_at"),
        and_(
            SUBMISSIONS.c.accepted_at == bindparam("its_accepted_at"),
            SUBMISSIONS.c.sequence < bindparam("its_sequence"),
        ),
    ),
)
"""Those that are older than the one with that time and sequence, and could still be sent."""


def _take(connection: Connection, key: BucketKey) -> Lease:
    row = {"account_id": key.account_id, "bucket": key.bucket, "epoch": 1}
    return Lease(key=key, epoch=connection.execute(_TAKE[connection.dialect.name], row).scalar_one())


def _holds(connection: Connection, lease: Lease) -> bool:
    return connection.scalar(_EPOCH, names_of(lease.key)) == lease.epoch


def _read_work(connection: Connection, lease: Lease) -> list[Submission]:
    if not _holds(connection, lease):
        raise LeaseLost
    rows = connection.execute(_WORK, names_of(lease.key)).all()
    return [read_submission(row, epoch=lease.epoch) for row in rows]


def _supersede_older(connection: Connection, newer: Row[Any], at: datetime) -> None:
    """End what is older and could still be sent: the slot holds something newer now."""
    its = names_of(BucketKey(account_id=newer.account_id, bucket=newer.bucket))
    its |= {"its_accepted_at": newer.accepted_at, "its_sequence": newer.sequence}
    connection.execute(_SUPERSEDE_OLDER, its | superseded(by=newer.user_id, at=at))


def _as_credential(written: Row[Any], at: datetime) -> StoredCredential:
    return StoredCredential(
        bucket=written.bucket,
        submission_id=written.id,
        stored_by=written.user_id,
        stored_at=at,
        channel_id=written.channel_id,
        token_id=written.token_id,
        expires_at=written.token_expires_at,
        reminded_at=None,
        broken_at=None,
    )


def _values(changes: Changes) -> dict[str, Any]:
    pairs = ((field.name, getattr(changes, field.name)) for field in fields(changes) if field.name != "findings")
    values = {name: value for name, value in pairs if value is not None}
    if changes.findings is not None:  # what was in the way of that has passed: it is not what the rest waits for
        values = dict.fromkeys(("error_code", *_CAUSE)) | columns_of(changes.findings) | values
    if changes.error_code is not None:  # those of an earlier error must not stay
        values |= {name: getattr(changes, name) for name in _CAUSE}
    return values
