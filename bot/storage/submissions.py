"""Stores submissions and the leases of buckets. Moves are made by `bot.storage.moves`."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, exists, func, insert, not_, or_, select

from bot.model.approval import Answer, Decided, Decision
from bot.model.catalog import BucketKey, StoredCredential
from bot.model.errors import CommitUnknown, LeaseLost, RecordDamaged
from bot.model.move import Change, Move
from bot.model.submission import Lease, NewSubmission, Opening, Pending, Submission
from bot.sealing.hpke import key_id_of
from bot.storage.accepting import Acceptance, accept, add, add_if_idle
from bot.storage.approvals import record_decision
from bot.storage.audit import AuditChain
from bot.storage.authentic import (
    OPENING_COLUMNS,
    has_ended,
    is_stored_by_the_bot,
    require_authentic,
    require_progress,
    sign_opening,
)
from bot.storage.damage import SetAside
from bot.storage.database import Database
from bot.storage.high_water_mark import HighWaterMark, Mark
from bot.storage.moves import make_move
from bot.storage.position import Position, count_sent, is_at, read_position
from bot.storage.rows import (
    EPOCH,
    IS_FOR_THE_SLOT,
    ITS_BUCKET,
    MAY_BE_SENT,
    PLACE,
    names_of,
    read_pending,
    read_submission,
)
from bot.storage.schema import LEASES, OPENINGS, SNAPSHOTS, SUBMISSIONS
from bot.storage.upsert import INSERTS

_NO_BUCKET: Final = BucketKey(account_id="", bucket="")
_MOST_WORK: Final = 30
_LATEST: Final = 10_000
_MOST_ENDED: Final = 10_000
"""About 1 MB, and more than end within the time that a sealed token may be sent."""

_T = TypeVar("_T")
_Read = tuple[list[Pending], list[RecordDamaged]]
"""A bucket's work, and the rows of it that cannot be read."""


class _HasChanges(Protocol):
    """What a transaction that makes moves returns."""

    @property
    def changes(self) -> Sequence[Change]:
        """The submissions that it changed."""


_Changed = TypeVar("_Changed", bound=_HasChanges)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What a move has changed; if it records that a write may be sent, the position after that."""

    changes: list[Change]
    is_sent: bool = False
    position: Position | None = None


class _Settle(Protocol):
    async def __call__(self, *, is_told: bool = False) -> object: ...


class Submissions:
    """Reads and changes submissions. Every method raises DatabaseTrouble when the database fails.

    Each change wakes its bucket and is passed to the watchers. On PostgreSQL `enqueue` adds a job in the transaction
    that makes it necessary; a single process is woken by `wake` after the commit.
    """

    def __init__(
        self,
        database: Database,
        chain: AuditChain,
        enqueue: Callable[[Any, BucketKey], Awaitable[None]] | None = None,
        mark: HighWaterMark | None = None,
    ) -> None:
        self._database = database
        self._chain = chain
        self._enqueue = enqueue
        self._mark = mark or HighWaterMark(None, is_expected=False)
        self._settle: _Settle = _leave_unsettled
        self._wake: Callable[[BucketKey], None] = _leave_to_jobs
        self._watchers: list[Callable[[Change], None]] = []
        self._set_aside = SetAside()
        self._ended: dict[str, None] = {}  # who removes an ending from the audit cannot remove it from here

    @property
    def chain(self) -> AuditChain:
        """The audit's chain, and what the records are signed with."""
        return self._chain

    @property
    def set_aside(self) -> SetAside:
        """What reports rows that nobody of ours wrote: one for all who read them, so that each is reported once."""
        return self._set_aside

    def wake_by(self, wake: Callable[[BucketKey], None]) -> None:
        """Call this, which must not fail, for each bucket that has new work."""
        self._wake = wake

    def watch(self, watcher: Callable[[Change], None]) -> None:
        """Call this, which must not fail, for every change of a submission that was committed here."""
        self._watchers.append(watcher)

    def settle_by(self, settle: "_Settle") -> None:
        """Call this when the database turns out to be an older one; it must take every lease away."""
        self._settle = settle

    async def end_all(self, act: Callable[[Connection], _Changed]) -> _Changed:
        """Run a transaction that ends submissions of any buckets; report each of them, and wake its bucket."""

        async def enqueue(ended: _Changed, connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            if self._enqueue is not None:
                for key in _keys_of(ended.changes):
                    await self._enqueue(connection, key)

        ended = await self._database.run(act, None if self._enqueue is None else enqueue)
        for key in _keys_of(ended.changes):
            self._wake(key)
        self._notify(ended.changes)
        return ended

    async def ping(self) -> None:
        """Return once the database has accepted a write: a read-only one is not ready."""
        await self._database.run(try_to_write)

    async def add_opening(self, opening: Opening) -> None:
        """Record an opened modal."""
        row = sign_opening(
            self._chain.authenticity, {field.name: getattr(opening, field.name) for field in fields(opening)}
        )
        await self._database.run(lambda connection: connection.execute(insert(OPENINGS), row).rowcount)

    async def is_opener(self, nonce: str, team_id: str, user_id: str) -> bool:
        """Return whether this user opened this form in this workspace, if that is still recorded."""
        opening = OPENINGS.c
        query = select(opening.nonce).where(
            opening.nonce == nonce, opening.team_id == team_id, opening.user_id == user_id
        )
        return await self._database.run(lambda connection: connection.scalar(query)) is not None

    async def accept(self, new: NewSubmission, nonce: str, *, opened_in: str | None = None) -> Acceptance:
        """Use up the opening and record the submission, both or neither.

        `opened_in` is the workspace of the opening, where the submission has another one: in an organization, Slack may
        name a sister workspace at Submit, and the token is sealed for that one.

        A repeated Submit of the same view replaces the first one while nothing was sent, and changes nothing after
        that.
        """

        def record(connection: Connection) -> Acceptance:
            return accept(connection, self._chain, new, nonce, opened_in or new.team_id)

        return await self._record(record, new.key)

    async def add(self, new: NewSubmission) -> Acceptance:
        """Record a submission that no form was opened for, once."""
        return await self._record(lambda connection: add(connection, self._chain, new), new.key)

    async def add_if_idle(self, new: NewSubmission) -> Acceptance:
        """Do the same unless something else is under way for the slot."""
        return await self._record(lambda connection: add_if_idle(connection, self._chain, new), new.key)

    async def decide(self, decision: Decision) -> Decided:
        """Record an approver's decision, once, and wake the bucket; or return why not. Raises RecordDamaged."""

        def wakes(done: tuple[Decided, list[Change]]) -> bool:
            return bool(done[1])

        found = await self.find(decision.submission_id)
        if found is None:
            return Decided(answer=Answer.NOT_WAITING)

        def record(connection: Connection) -> tuple[Decided, list[Change]]:
            return record_decision(connection, self._chain, decision)

        decided, changes = await self._run(record, found.key, wakes)
        self._notify(changes)
        return decided

    async def follow(self, act: Callable[[Connection], tuple[_T, list[Change]]], key: BucketKey) -> _T:
        """Run a transaction of another part that gives the bucket's delivery something to do, and wake it."""
        result, changes = await self._run(act, key, wakes=lambda _: True)
        self._notify(changes)
        return result

    async def apply(self, submission: Submission, move: Move, lease: Lease | None = None) -> list[Submission]:
        """Make a move if the submission is unchanged since it was read; return all that changed, it first.

        One transaction: the state, the end of older ones, what is known of the slot, and the job that continues. A
        delivery passes its `lease`, which must still hold, and continues by itself; any other move wakes the bucket.
        Raises ValueError for a step that `STEPS` does not allow.
        """
        mark = self._mark.current

        def make(connection: Connection) -> _Made:
            return _make(connection, self._chain, submission, move, lease)

        if lease is None:
            made = await self._run(make, submission.key, wakes=lambda made: bool(made.changes))
        else:
            made = await self._database.run(make)
        return await self._announce(made, mark)

    async def apply_and_read(
        self, submission: Submission, move: Move, lease: Lease
    ) -> tuple[list[Submission], list[Pending] | None]:
        """Make a move as `apply` does, and read the bucket's work, as `work` does, in the same transaction.

        No work if the move was not made: the lease may be lost.
        """
        mark = self._mark.current

        def make(connection: Connection) -> tuple[_Made, _Read | None]:
            made = _make(connection, self._chain, submission, move, lease)
            return made, _read_work(connection, self._chain, lease.key, self._ended) if made.changes else None

        made, read = await self._database.run(make)
        return await self._announce(made, mark), self._open(read) if read else None

    async def _announce(self, made: _Made, mark: Mark | None) -> list[Submission]:
        """Pass on what was committed; before a write may be sent, put that on disk."""
        self._notify(made.changes)
        if made.is_sent and mark is not None:
            await self._note_sent(mark, made.position)
        return [change.submission for change in made.changes]

    async def _note_sent(self, mark: Mark, position: Position | None) -> None:
        """Put on disk, outside of the database, that a write is about to be sent; nothing may be sent before.

        Raises DatabaseUnavailable if that fails, and LeaseLost if the database turns out to be an older one.
        """
        if position is None or not is_at(mark, position) or position.sent == mark.sent:
            await self._settle(is_told=True)  # by now, the count may have caught up
            raise LeaseLost
        await asyncio.to_thread(self._mark.note, position.sent)

    async def history(self, account_id: str, bucket: str | None, most: int) -> list[Submission]:
        """Return the last submissions for a bucket, or for all, the newest first.

        Raises RecordDamaged if there are rows but none can be read: that is not "nothing was submitted".
        """
        query = self.newest(account_id, bucket, most)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        found = self._set_aside.read_each(rows, read_submission)
        if rows and not found:
            read_submission(rows[0])
        return found

    @staticmethod
    def newest(account_id: str, bucket: str | None, most: int) -> Select[Any]:
        """Return the query of `history`: both forms have an index, since sorting 1,000,000 rows took 375 ms."""
        its_bucket = [SUBMISSIONS.c.bucket == bucket] if bucket else []
        its = SUBMISSIONS.c.account_id == account_id, *its_bucket
        return select(SUBMISSIONS).where(*its).order_by(SUBMISSIONS.c.sequence.desc()).limit(most)

    async def take(self, key: BucketKey) -> Lease:
        """Take over a bucket's lease: an earlier holder can no longer record anything."""
        lease, _ = await self.take_and_read(key)
        return lease

    async def take_and_read(self, key: BucketKey) -> tuple[Lease, list[Pending] | None]:
        """Take over a bucket's lease, and read its work in the same transaction.

        No work if the database turned out to be an older one: then the lease is lost again.
        """
        mark = self._mark.current

        def take(connection: Connection) -> tuple[Lease, Position | None, _Read]:
            return (
                _take(connection, key),
                read_position(connection),
                _read_work(connection, self._chain, key, self._ended),
            )

        lease, position, read = await self._database.run(take)
        if mark is not None and not is_at(mark, position):
            await self._settle()  # it ends what is open, and takes the lease away
            return lease, None
        if mark is not None and position is not None and position.sent > mark.sent:  # by another process
            await asyncio.to_thread(self._mark.note, position.sent)
        return lease, self._open(read)

    async def holds(self, lease: Lease) -> bool:
        """Return whether no other process has taken over the bucket since."""
        return await self._database.run(lambda connection: _holds(connection, lease))

    async def work(self, lease: Lease) -> list[Pending]:
        """Return the bucket's open submissions, those that have not ended first, oldest first; raises LeaseLost.

        These are ended but unreported ones, those being confirmed, checks and enablings; and of those still to be
        stored only two, the newest (see `bot.delivery.schedule`) and the one that expires first. A damaged row is
        skipped and reported.
        """

        def read(connection: Connection) -> _Read:
            if not _holds(connection, lease):
                raise LeaseLost
            return _read_work(connection, self._chain, lease.key, self._ended)

        return self._open(await self._database.run(read))

    async def unreported_keys(self) -> list[BucketKey]:
        """Return the buckets that have work left."""
        return await self._keys_where(_is_unreported())

    async def overdue_keys(self, due_before: datetime) -> list[BucketKey]:
        """Return the buckets with work that was due before that time."""
        return await self._keys_where(_is_unreported(), SUBMISSIONS.c.next_attempt_at < due_before)

    async def find(self, submission_id: str) -> Submission | None:
        """Return one submission; raises RecordDamaged, also if it is open and not as the bot recorded it."""
        query = select(SUBMISSIONS).where(SUBMISSIONS.c.id == submission_id)
        row = await self._database.run(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        submission = read_submission(row)
        return submission if submission.is_ended else require_progress(self._chain, row)

    async def is_stored_by_the_bot(self, credential: StoredCredential) -> bool:
        """Return whether the audit says that the bot wrote this, for this person."""
        return await self._database.run(lambda connection: is_stored_by_the_bot(connection, self._chain, credential))

    async def key_ids_in_use(self) -> frozenset[str]:
        """Return the ids of the keys that open what is not erased yet: none of them may be destroyed.

        Damaged and expired rows count: someone can repair a row, or set a clock that was wrong, but make no key again.
        """
        query = select(SUBMISSIONS.c.sealed_token, SUBMISSIONS.c.sealed_response_url).where(_is_unreported())
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return frozenset(_key_ids(sealed for row in rows for sealed in row))

    async def key_ids_needed(self, now: datetime) -> frozenset[str]:
        """Return the ids of the keys without which work would be lost.

        A damaged row is not worked on, and an expired one ends without its token: either would keep the bot from being
        ready although no key helps.
        """
        return await find_needed_keys(self._database, now, self._set_aside)

    async def forget_openings(self, expired_before: datetime) -> None:
        """Delete openings that expired before that time, unless what was submitted with them is still open."""
        is_needed = exists().where(SUBMISSIONS.c.id == OPENINGS.c.used_by, _is_unreported())
        statement = delete(OPENINGS).where(OPENINGS.c.expires_at < expired_before, ~is_needed)
        await self._database.run(lambda connection: connection.execute(statement).rowcount)

    async def latest_time(self, until: datetime) -> datetime | None:
        """Return the latest recorded past time up to `until`, or None.

        Of submissions, the last 10,000 are asked: going through 1,000,000 took 350 ms of each start.
        """
        last = (
            select(SUBMISSIONS.c.accepted_at, SUBMISSIONS.c.ended_at)
            .order_by(SUBMISSIONS.c.sequence.desc())
            .limit(_LATEST)
            .subquery()
        )
        columns = (last.c.accepted_at, last.c.ended_at, SNAPSHOTS.c.refreshed_at)
        query = select(*(select(func.max(column)).where(column <= until).scalar_subquery() for column in columns))
        row = await self._database.run(lambda connection: connection.execute(query).one())
        return max((time for time in row if time is not None), default=None)

    async def _record(self, record: Callable[[Connection], Acceptance], key: BucketKey) -> Acceptance:
        acceptance = await self._run(record, key, wakes=lambda acceptance: acceptance.is_recorded)
        self._notify(acceptance.changes)
        return acceptance

    async def _keys_where(self, *conditions: ColumnElement[bool]) -> list[BucketKey]:
        query = select(SUBMISSIONS.c.account_id, SUBMISSIONS.c.bucket).where(*conditions).distinct()
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return self._set_aside.read_each(rows, _read_key)

    async def _run(self, act: Callable[[Connection], _T], key: BucketKey, wakes: Callable[[_T], bool]) -> _T:
        """Run a transaction that may leave work for a bucket, and wake its delivery, also if the commit is unknown.

        A bucket that is woken for nothing costs a query. One that is not woken would sleep on a recorded submission.
        """

        async def enqueue(result: _T, connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            if self._enqueue is not None and wakes(result):
                await self._enqueue(connection, key)

        try:
            result = await self._database.run(act, None if self._enqueue is None else enqueue)
        except (CommitUnknown, asyncio.CancelledError):
            self._wake(key)
            raise
        if wakes(result):
            self._wake(key)
        return result

    def _open(self, read: _Read) -> list[Pending]:
        """Return the work that was read, and report the damaged rows among it."""
        work, damages = read
        for damage in damages:
            self._set_aside.report(damage)
        return work

    def _notify(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.submission.is_ended:
                self._ended[change.submission.id] = None
            for watcher in self._watchers:
                watcher(change)
        while len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]


async def find_needed_keys(database: Database, now: datetime, set_aside: SetAside | None = None) -> frozenset[str]:
    """Do what `Submissions.key_ids_needed` does, for a command that has no audit key."""
    query = select(SUBMISSIONS).where(_is_unreported(), SUBMISSIONS.c.expires_at > now)
    rows = await database.run(lambda connection: connection.execute(query).all())
    needed = [each.sealed for each in (set_aside or SetAside()).read_each(rows, read_pending)]
    return frozenset(_key_ids(value for sealed in needed for value in (sealed.token, sealed.response_url)))


async def _leave_unsettled(*, is_told: bool = False) -> None:
    """Do nothing."""


def _keys_of(changes: Iterable[Change]) -> list[BucketKey]:
    return sorted({change.submission.key for change in changes})


def _leave_to_jobs(_: BucketKey) -> None:
    """Do nothing: the transaction has deferred a job."""


def _is_unreported() -> ColumnElement[bool]:
    return SUBMISSIONS.c.reported_at.is_(None)


# Statements that run for each submission are built once: building and hashing them took longer than running them.
def _work_where(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Return a bounded number that have not ended, and as many that have.

    Counted apart, so that a person with many open checks cannot keep a result from being posted.
    """
    sendable = select(SUBMISSIONS.c.sequence).where(ITS_BUCKET, MAY_BE_SENT, IS_FOR_THE_SLOT, *conditions).limit(1)
    newest = sendable.order_by(*(column.desc() for column in PLACE))
    first_to_expire = sendable.order_by(SUBMISSIONS.c.expires_at, SUBMISSIONS.c.sequence)
    is_over = SUBMISSIONS.c.ended_at.is_not(None)
    place = func.row_number().over(partition_by=is_over, order_by=(not_(IS_FOR_THE_SLOT), *PLACE))
    work = (
        select(SUBMISSIONS, place.label("place"))
        .where(
            ITS_BUCKET,
            _is_unreported(),
            or_(
                not_(MAY_BE_SENT),
                not_(IS_FOR_THE_SLOT),
                SUBMISSIONS.c.sequence == newest.correlate(None).scalar_subquery(),
                SUBMISSIONS.c.sequence == first_to_expire.correlate(None).scalar_subquery(),
            ),
            *conditions,
        )
        .subquery()
    )
    return (
        select(work, *OPENING_COLUMNS, has_ended(work.c.id).label("has_ended"))
        .outerjoin_from(work, OPENINGS, OPENINGS.c.nonce == work.c.nonce)
        .where(work.c.place <= _MOST_WORK)
        .order_by(work.c.ended_at.is_not(None), work.c.place)
    )


_WORK: Final = _work_where()
_TAKE: Final = {
    dialect: insert(LEASES)
    .on_conflict_do_update(index_elements=["account_id", "bucket"], set_={"epoch": LEASES.c.epoch + 1})
    .returning(LEASES.c.epoch)
    for dialect, insert in INSERTS.items()
}


def try_to_write(connection: Connection) -> None:
    """Write a row that nothing else reads."""
    _take(connection, _NO_BUCKET)


def _take(connection: Connection, key: BucketKey) -> Lease:
    row = {"account_id": key.account_id, "bucket": key.bucket, "epoch": 1}
    return Lease(key=key, epoch=connection.execute(_TAKE[connection.dialect.name], row).scalar_one())


def _holds(connection: Connection, lease: Lease) -> bool:
    return connection.scalar(EPOCH, names_of(lease.key)) == lease.epoch


def _make(connection: Connection, chain: AuditChain, submission: Submission, move: Move, lease: Lease | None) -> _Made:
    changes = make_move(connection, chain, submission, move, lease)
    if not changes or move.changes.possibly_written is not True:
        return _Made(changes=changes)
    return _Made(changes=changes, is_sent=True, position=count_sent(connection))


def _read_work(connection: Connection, chain: AuditChain, key: BucketKey, ended: Collection[str]) -> _Read:
    """Read it; if a row is damaged or forged, read again without that row, which may count as the newest one.

    `ended` has the ids of what this process has seen end.
    """
    query, damages = _WORK, dict[int, RecordDamaged]()
    while True:
        work, known = [], len(damages)
        for row in connection.execute(query, names_of(key)).all():
            try:
                work.append(read_pending(row))
                require_authentic(connection, chain, row, has_ended=row.id in ended)
            except RecordDamaged as damage:
                damages[row.sequence] = damage
        if len(damages) == known:
            return work, list(damages.values())
        query = _work_where(SUBMISSIONS.c.sequence.not_in(damages))


def _read_key(row: Row[Any]) -> BucketKey:
    if not (isinstance(row.account_id, str) and isinstance(row.bucket, str)):
        raise RecordDamaged(SUBMISSIONS.name, f"{row.account_id} {row.bucket}", "account_id or bucket")
    return BucketKey(account_id=row.account_id, bucket=row.bucket)


def _key_ids(sealed_values: Iterable[Any]) -> Iterator[str]:
    """Yield the ids of the needed keys; a damaged sealed value needs none, since no key opens it."""
    for sealed in sealed_values:
        if isinstance(sealed, str):
            with suppress(ValueError):
                yield key_id_of(sealed)
