"""Stores the tokens that the bot makes itself, and who may speak to Cloudflare about a bucket's tokens.

Every method raises DatabaseTrouble when the database fails.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, and_, case, func, literal, or_, select, update

from bot.model.audit import Event
from bot.model.catalog import BucketKey
from bot.model.errors import LeaseLost, RecordDamaged
from bot.model.minted import (
    OVER,
    PROBE_AFTER,
    TAKEN_BACK,
    MintedState,
    MintedToken,
    MintingLease,
    MintingWork,
    Standing,
    find_busy_until,
)
from bot.model.move import Change, Move
from bot.model.predecessor import Predecessor, find_predecessor
from bot.model.submission import Pending, SealedToken, State, Submission, Task
from bot.storage.audit import AuditChain
from bot.storage.authentic import OPENING_COLUMNS, has_ended, require_authentic
from bot.storage.database import Database
from bot.storage.minted_rows import add_token, change_token, entry_of_token, read_tokens, select_left
from bot.storage.moves import give_token
from bot.storage.rows import IS_FOR_THE_SLOT, ITS_BUCKET, MAY_BE_SENT, PLACE, names_of, read_pending
from bot.storage.schema import AUDIT, IS_LEFT, MINTED_TOKENS, MINTING_LEASES, OPENINGS, SUBMISSIONS
from bot.storage.submissions import Submissions
from bot.storage.upsert import insert_into

HELD_FOR: Final = timedelta(seconds=60)
"""Longer than a request may take; another process waits as long for one that was killed."""

_BEGINNING: Final = (MintedState.RETIRED, MintedState.DISABLING)
_MINTERS: Final = sorted({MintedState.INTENDED, MintedState.LOST, *TAKEN_BACK} - {MintedState.DISABLED})
"""The states in which the minter has something to do, at once or when it is due."""

_LEASE: Final = MINTING_LEASES.c
_ROW: Final = MINTED_TOKENS.c
_HOUSE: Final = ""


class MintedTokens:
    """Reads and changes them. A change that gives the worker something to do wakes the bucket's delivery."""

    def __init__(
        self, database: Database, submissions: Submissions, account_id: str, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._submissions = submissions
        self._chain = submissions.chain
        self._account_id = account_id
        self._clock = clock
        self._holder = uuid4().hex
        self._set_aside = submissions.set_aside
        self.wake_minter: Callable[[BucketKey], None] = _leave_to_polling

    def wake_minter_by(self, wake: Callable[[BucketKey], None]) -> None:
        """Call this, which must not fail, for each bucket in which the minter of this process has something to do."""
        self.wake_minter = wake

    async def to_test(self, due_before: datetime | None = None) -> list[BucketKey]:
        """Return the buckets whose slots are to be tested by a worker, or those that were due before that time."""
        is_disabled = IS_LEFT, _ROW.account_id == self._account_id, _ROW.state == MintedState.DISABLED.value
        is_due = () if due_before is None else (_ROW.due_at < due_before,)
        query = select(_ROW.bucket).where(*is_disabled, *is_due).distinct()
        buckets = await self._database.run(lambda connection: connection.scalars(query).all())
        return [BucketKey(account_id=self._account_id, bucket=each) for each in buckets if isinstance(each, str)]

    async def due(self, now: datetime) -> list[BucketKey]:
        """Return the buckets in which the minter has something to do now."""
        return await self._database.run(partial(_read_due, account_id=self._account_id, now=now))

    async def next_due(self) -> datetime | None:
        """Return when the minter has something to do next, as far as it is known; a waiting person comes earlier."""
        its = IS_LEFT, _ROW.account_id == self._account_id, _ROW.state.in_(_MINTERS)
        query = select(func.min(_ROW.due_at)).where(*its)
        return await self._database.run(lambda connection: connection.scalar(query))

    async def take(self, key: BucketKey) -> MintingWork | None:
        """Take the lease and return the bucket's work; None while another process holds it."""

        def take(connection: Connection) -> MintingWork | None:
            lease = _take(connection, key, self._holder, self._clock())
            return None if lease is None else self._read(connection, lease)

        return await self._database.run(take)

    async def take_house(self) -> MintingLease | None:
        """Take the lease of housekeeping, which is about no bucket; None while another process holds it."""
        key = BucketKey(account_id=self._account_id, bucket=_HOUSE)
        return await self._database.run(lambda connection: _take(connection, key, self._holder, self._clock()))

    async def work(self, lease: MintingLease) -> MintingWork:
        """Return the bucket's work; raises LeaseLost."""

        def read(connection: Connection) -> MintingWork:
            _require(connection, lease)
            return self._read(connection, lease)

        return await self._database.run(read)

    async def holds(self, lease: MintingLease) -> bool:
        """Return whether no other process has taken the lease since, and prolong it."""

        def prolong(connection: Connection) -> bool:
            held = update(MINTING_LEASES).where(*_is_of(lease)).values(held_until=self._clock() + HELD_FOR)
            return connection.execute(held).rowcount > 0

        return await self._database.run(prolong)

    async def let_go(self, lease: MintingLease) -> None:
        """Let another process take it at once."""
        ended = update(MINTING_LEASES).where(*_is_of(lease)).values(held_until=self._clock())
        await self._database.run(lambda connection: connection.execute(ended).rowcount)

    async def intend(self, lease: MintingLease, token: MintedToken, waiting: Pending) -> None:
        """Record a token before it is asked for; raises LeaseLost, also if nobody waits for it any more."""

        def record(connection: Connection) -> None:
            _require(connection, lease)
            its = SUBMISSIONS.c.id == waiting.submission.id, SUBMISSIONS.c.state == State.MINTING.value
            if connection.scalar(select(SUBMISSIONS.c.id).where(*its)) is None:
                raise LeaseLost
            add_token(connection, self._chain, token)

        await self._database.run(record)

    async def give(self, lease: MintingLease, token: MintedToken, waiting: Pending, sealed: SealedToken) -> MintedToken:
        """Record what was made, and give it to the submission that waits; one that waits no longer leaves it retired.

        `token` has its id. Raises LeaseLost, and then the next holder finds the name.
        """
        return await self._submissions.follow(
            partial(self._give, lease, token, waiting, sealed), waiting.submission.key
        )

    async def note_waiting(self, waiting: Pending, move: Move) -> None:
        """Say at a submission why no token is made for it yet, or end it."""
        await self._submissions.apply(waiting.submission, move)

    async def change(
        self,
        token: MintedToken,
        to: MintedToken,
        *,
        lease: MintingLease | None = None,
        event: Event | None = None,
        wakes: bool = False,
    ) -> MintedToken | None:
        """Change a token if it is as it was read; return it as it is then, or None.

        `event` is what the audit says of it; `wakes` wakes the bucket's delivery. Raises LeaseLost.
        """

        def record(connection: Connection) -> tuple[MintedToken | None, list[Change]]:
            if lease is not None:
                _require(connection, lease)
            now = self._clock()
            changed = change_token(connection, self._chain, token, to, now)
            if changed is not None and event is not None:
                self._chain.append(connection, [entry_of_token(changed, event, now)])
            return changed, []

        if not wakes:
            return (await self._database.run(record))[0]
        return await self._submissions.follow(record, token.key)

    async def of_bucket(self, key: BucketKey) -> list[MintedToken]:
        """Return what may be left of a bucket's tokens at Cloudflare, the oldest first."""
        return await self._read_all(select_left(key))

    async def predecessor_of(self, submission: Submission) -> Predecessor | None:
        """Return what becomes of the token that a rotation has replaced, if it is proven that it is replaced."""
        if submission.task is not Task.ROTATE or submission.state is not State.STORED:
            return None
        its = _ROW.account_id == submission.key.account_id, _ROW.bucket == submission.key.bucket
        return find_predecessor(submission, await self._read_all(select(MINTED_TOKENS).where(*its)))

    async def was_given(self, token: MintedToken) -> bool:
        """Return whether a submission was given its value, as the audit says.

        The row of one whose create was out says otherwise, also where somebody has put a copy of it back.
        """
        its = AUDIT.c.submission_id == (token.submission_id or ""), AUDIT.c.event == Event.MINTED.value
        query = select(AUDIT.c.number).where(*its, AUDIT.c.details == token.name).limit(1)
        return await self._database.run(lambda connection: connection.scalar(query)) is not None

    async def all_left(self) -> list[MintedToken]:
        """Return what may be left of all tokens, the oldest first."""
        return await self._read_all(select_left().where(_ROW.account_id == self._account_id))

    async def named(self, names: Iterable[str]) -> list[MintedToken]:
        """Return the tokens with these names, whatever became of them."""
        return await self._read_all(select(MINTED_TOKENS).where(_ROW.name.in_([*names])))

    async def adopt(self, token: MintedToken) -> None:
        """Record a token that bears our mark and is in no row."""

        def record(connection: Connection) -> None:
            if connection.scalar(select(_ROW.name).where(_ROW.name == token.name)) is None:
                add_token(connection, self._chain, token)

        await self._database.run(record)

    async def busy_until(self, key: BucketKey) -> datetime | None:
        """Return until when an earlier token of the bucket is being taken back, or None."""
        return find_busy_until(await self.of_bucket(key))

    async def count(self) -> dict[MintedState, int]:
        """Return how many tokens are in each state, but for those of which nothing is left."""
        its = _ROW.account_id == self._account_id, IS_LEFT
        query = select(_ROW.state, func.count()).where(*its).group_by(_ROW.state)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        known = {state.value: state for state in MintedState if state not in OVER}
        return {known[state]: number for state, number in rows if state in known}

    async def estimate_total(self, standing: Standing | None) -> int | None:
        """Return how many tokens the account may have now: those last counted, and what was made and deleted since.

        None where no minter has counted.
        """
        if standing is None or standing.tokens is None or standing.checked_at is None:
            return None
        return standing.tokens + await self._count_gained_since(standing.checked_at)

    async def made_for(self, submission_ids: Collection[str]) -> set[str]:
        """Return those of the submissions for which a token was made, or may have been."""
        query = select(_ROW.submission_id).where(
            _ROW.submission_id.in_(submission_ids), _ROW.state != MintedState.GONE.value
        )
        return {*await self._database.run(lambda connection: connection.scalars(query).all())}

    async def find_undone(self, since: datetime) -> str | None:
        """Return a bucket whose slot has not worked since then without a token that was to be taken back."""
        is_needed = or_(_ROW.state == MintedState.UNDOING.value, _ROW.undone > 0)
        query = select(_ROW.bucket).where(_ROW.account_id == self._account_id, is_needed, _ROW.changed_at >= since)
        return await self._database.run(lambda connection: connection.scalar(query.limit(1)))

    def _give(
        self, lease: MintingLease, token: MintedToken, waiting: Pending, sealed: SealedToken, connection: Connection
    ) -> tuple[MintedToken, list[Change]]:
        _require(connection, lease)
        now = self._clock()
        change = _give_if_authentic(connection, self._chain, waiting, sealed, now)
        state = MintedState.RETIRED if change is None else MintedState.CREATED
        changed = change_token(connection, self._chain, token, replace(token, state=state, due_at=now), now)
        if changed is None:
            raise LeaseLost
        self._chain.append(connection, [entry_of_token(changed, Event.MINTED, now)])
        return changed, [] if change is None else [change]

    async def _count_gained_since(self, since: datetime) -> int:
        is_made = and_(_ROW.intended_at >= since, _ROW.state != MintedState.GONE.value)
        is_deleted = and_(_ROW.changed_at >= since, _ROW.state == MintedState.DEAD.value)
        its = select(func.count()).select_from(MINTED_TOKENS).where(_ROW.account_id == self._account_id)
        query = select(its.where(is_made).scalar_subquery() - its.where(is_deleted).scalar_subquery())
        return await self._database.run(lambda connection: connection.execute(query).scalar_one())

    async def _read_all(self, query: Any) -> list[MintedToken]:  # noqa: ANN401 - a Select
        return await self._database.run(lambda connection: read_tokens(connection, self._chain, query, self._set_aside))

    def _read(self, connection: Connection, lease: MintingLease) -> MintingWork:
        tokens = read_tokens(connection, self._chain, select_left(lease.key), self._set_aside)
        waiting = self._read_waiting(connection, lease.key)
        return MintingWork(lease=lease, tokens=tuple(tokens), waiting=waiting)

    def _read_waiting(self, connection: Connection, key: BucketKey) -> Pending | None:
        """Return the newest submission of the bucket, if it waits for a token: an older one must not be stored."""
        row = connection.execute(_NEWEST, names_of(key)).one_or_none()
        if row is None or row.state != State.MINTING.value:
            return None
        try:
            pending = read_pending(row)
            require_authentic(connection, self._chain, row)
        except RecordDamaged as damage:
            self._set_aside.report(damage)
            return None
        return pending


async def waits_for_a_test(database: Database, now: datetime) -> bool:
    """Return whether a token was disabled so lately that a slot must not be tested yet; raises DatabaseTrouble."""
    is_new = _ROW.disabled_at > now - PROBE_AFTER, _ROW.disabled_at <= now
    query = select(_ROW.name).where(IS_LEFT, _ROW.state == MintedState.DISABLED.value, *is_new).limit(1)
    return await database.run(lambda connection: connection.scalar(query)) is not None


_newest: Final = (
    select(SUBMISSIONS)
    .where(ITS_BUCKET, MAY_BE_SENT, IS_FOR_THE_SLOT)
    .order_by(*(column.desc() for column in PLACE))
    .limit(1)
    .subquery()
)
_NEWEST: Final = select(_newest, *OPENING_COLUMNS, has_ended(_newest.c.id).label("has_ended")).outerjoin_from(
    _newest, OPENINGS, OPENINGS.c.nonce == _newest.c.nonce
)


def _leave_to_polling(_: BucketKey) -> None:
    """Do nothing: the minter is in another process, and finds it."""


def _read_due(connection: Connection, account_id: str, now: datetime) -> list[BucketKey]:
    """Return the buckets, first those where a person waits or something was begun: a test of the slot grows old.

    When 500 tokens are to be taken back at the same moment, beginning with each of them before the first is finished
    would have every slot tested twice.
    """
    is_due = IS_LEFT, _ROW.account_id == account_id, _ROW.state.in_(_MINTERS), _ROW.due_at <= now
    is_open = SUBMISSIONS.c.reported_at.is_(None), SUBMISSIONS.c.state == State.MINTING.value
    waits = SUBMISSIONS.c.account_id == account_id, *is_open
    rank = case((_ROW.state.in_(_BEGINNING), 1), else_=0).label("rank")
    waiting = select(SUBMISSIONS.c.bucket, literal(0).label("rank")).where(*waits)
    due = select(_ROW.bucket, rank).where(*is_due).union_all(waiting).subquery()
    buckets = connection.scalars(select(due.c.bucket).group_by(due.c.bucket).order_by(func.min(due.c.rank))).all()
    return [BucketKey(account_id=account_id, bucket=bucket) for bucket in buckets if isinstance(bucket, str)]


def _take(connection: Connection, key: BucketKey, holder: str, now: datetime) -> MintingLease | None:
    row = {"account_id": key.account_id, "bucket": key.bucket, "epoch": 1, "holder": holder}
    row |= {"held_until": now + HELD_FOR}
    is_free = or_(_LEASE.held_until <= now, _LEASE.held_until > now + 2 * HELD_FOR, _LEASE.holder == holder)
    statement = (
        insert_into(connection, MINTING_LEASES)
        .on_conflict_do_update(
            index_elements=["account_id", "bucket"],
            set_={"epoch": _LEASE.epoch + 1, "holder": holder, "held_until": now + HELD_FOR},
            where=is_free,
        )
        .returning(_LEASE.epoch)
    )
    epoch = connection.execute(statement, row).scalar_one_or_none()
    return None if epoch is None else MintingLease(key=key, epoch=epoch)


def _is_of(lease: MintingLease) -> tuple[Any, ...]:
    return _LEASE.account_id == lease.key.account_id, _LEASE.bucket == lease.key.bucket, _LEASE.epoch == lease.epoch


def _require(connection: Connection, lease: MintingLease) -> None:
    if connection.scalar(select(_LEASE.epoch).where(*_is_of(lease)).with_for_update()) is None:
        raise LeaseLost


def _give_if_authentic(
    connection: Connection, chain: AuditChain, waiting: Pending, sealed: SealedToken, now: datetime
) -> Change | None:
    try:
        return give_token(connection, chain, waiting.submission, sealed, now)
    except RecordDamaged:  # changed by somebody else meanwhile: it gets nothing
        return None
