"""The processes of one or two installations, Cloudflare and time; a machine decides what happens to them."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from bot.model.catalog import BucketKey
from bot.model.errors import BotError
from bot.model.minted import TAKEN_BACK, MintedState
from bot.model.submission import State
from bot.sandbox.cloudflare import FakeCloudflare
from bot.storage.audit import AuditChain
from bot.storage.high_water_mark import HighWaterMark
from bot.storage.lineage import Lineage
from bot.storage.schema import CATALOG_CHANGES, METADATA, MINTED_TOKENS, SUBMISSIONS
from tests.clock import Clock
from tests.rotation.points import Event, PointedDatabase, PointedPosts, PointedServer, Points, Steady
from tests.rotation.rig import Process, Rig, Ways, key_of
from tests.rotation.witness import Record, Witness, read_records

START: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
_DUE: Final = [state.value for state in (*TAKEN_BACK, MintedState.INTENDED, MintedState.LOST)]
_TOKENS_DUE: Final = select(MINTED_TOKENS.c.bucket, MINTED_TOKENS.c.state, MINTED_TOKENS.c.due_at).where(
    MINTED_TOKENS.c.state.in_(_DUE)
)
_OPEN: Final = select(
    SUBMISSIONS.c.bucket, SUBMISSIONS.c.state, SUBMISSIONS.c.next_attempt_at, SUBMISSIONS.c.expires_at
).where(SUBMISSIONS.c.reported_at.is_(None))


@dataclass(slots=True, eq=False)
class Life:
    """A process, and what happens to it; `wakes_at`: when it goes on, if it is frozen."""

    process: Process
    points: Points
    wakes_at: datetime = START
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)


class Installation:
    """The bot on its database: processes come and go."""

    def __init__(self, database: Steady, clock: Clock, fake: FakeCloudflare, chain: AuditChain) -> None:
        self.database = database
        self.clock = clock
        self.problems: list[str] = []
        self.rig = Rig(database, clock, fake, chain)
        self.witness = Witness(fake, chain.authenticity.installation_mark(), database, self.problems)
        self.lives: list[Life] = []
        self.frozen: list[Life] = []
        self.cut_short = 0
        self.freeze_for = timedelta(minutes=1)
        self._turns = 0
        self._backup: dict[str, list[dict[str, Any]]] | None = None
        self.was_set_back = False

    def begin(self, processes: int) -> None:
        """Start that many processes."""
        self.lives = [self._start() for _ in range(processes)]
        self.witness.may_exceed = processes - 1

    def _start(self) -> Life:
        points = Points()
        ways = Ways(
            database=PointedDatabase(self.database, points),
            server=PointedServer(self.witness, points),
            poster=PointedPosts(self.rig.posts, points),
        )
        return Life(Process(self.rig, ways), points)

    def plan(self, event: Event, after: int, where: str, freeze_for: timedelta) -> None:
        """Let something happen: to the process whose turn is next, or to all that come to a place."""
        self.freeze_for = freeze_for
        for life in self.lives if where else [self.lives[self._turns % len(self.lives)]]:
            life.points.plan(event, after, where)

    async def take_steps(self) -> datetime | None:
        """Let the processes take every step that is due, in turns; return when the next one is, if that is known."""
        await self._thaw()
        upcoming = []
        life = self._next()
        await self._do(life, life.process.house.look_if_due())
        for key in (await self._survey()).to_deliver:
            life = self._next()
            upcoming.append(await self._do(life, life.process.deliver(key)))
        for key in (await self._survey()).to_mint:
            life = self._next()
            upcoming.append(await self._do(life, life.process.mint(key)))
        upcoming += [life.wakes_at for life in self.frozen]
        survey = await self._survey()
        self.witness.compare(survey.records)
        known = [at for at in (*upcoming, survey.next_at) if at is not None]
        return min(known, default=None)

    def _next(self) -> Life:
        self._turns += 1
        return self.lives[self._turns % len(self.lives)]

    async def _do(self, life: Life, work: Coroutine[Any, Any, object]) -> datetime | None:
        """Let a process do something, until it is done, killed or frozen."""
        froze = asyncio.create_task(life.points.froze.wait())
        task = asyncio.create_task(work)
        await asyncio.wait({task, froze}, return_when=asyncio.FIRST_COMPLETED)
        froze.cancel()
        if not task.done():
            life.wakes_at = self.clock() + self.freeze_for
            life.tasks.append(task)
            self.frozen.append(life)
            self._replace(life)
            return None
        return self._judge(life, task)

    def _judge(self, life: Life, task: asyncio.Task[Any]) -> datetime | None:
        if task.cancelled():
            if life in self.lives:
                self._replace(life)
            return None
        error = task.exception()
        if isinstance(error, BotError):
            return self.clock() + SECOND
        if error is not None:
            raise error
        found = task.result()
        return found if isinstance(found, datetime) else None

    def _replace(self, life: Life) -> None:
        self.cut_short += 1
        self.lives[self.lives.index(life)] = self._start()

    async def _thaw(self, *, all_of_them: bool = False) -> None:
        """Let those whose time has come go on where they were, as far as they come."""
        for life in [each for each in self.frozen if all_of_them or each.wakes_at <= self.clock()]:
            self.frozen.remove(life)
            life.points.thaw()
            await asyncio.wait(life.tasks)
            for task in life.tasks:
                self._judge(life, task)

    async def end_all(self) -> None:
        """Kill every process."""
        for life in (*self.lives, *self.frozen):
            life.points.kill()
            if life.tasks:
                await asyncio.wait(life.tasks)
        self.frozen.clear()

    async def wake_all(self) -> None:
        """Let all that are frozen go on, and nothing else happen to anybody."""
        await self._thaw(all_of_them=True)
        for life in self.lives:
            life.points.forget()

    async def _survey(self) -> "_Survey":
        return await self.database.run(partial(_survey, now=self.clock()))

    async def is_at_rest(self) -> bool:
        """Return whether nothing is left to do for anybody."""
        is_due = select(func.count()).select_from(MINTED_TOKENS).where(MINTED_TOKENS.c.state.in_(_DUE))
        is_open = select(func.count()).select_from(SUBMISSIONS).where(SUBMISSIONS.c.reported_at.is_(None))

        def count(connection: Connection) -> int:
            return sum(connection.execute(query).scalar_one() for query in (is_due, is_open))

        return await self.database.run(count) == 0

    @property
    def has_backup(self) -> bool:
        """Whether there is a copy."""
        return self._backup is not None

    async def back_up(self) -> None:
        """Keep a copy of all rows."""

        def copy(connection: Connection) -> dict[str, list[dict[str, Any]]]:
            return {
                name: [dict(row._mapping) for row in connection.execute(select(table))]
                for name, table in METADATA.tables.items()
            }

        self._backup = await self.database.run(copy)

    async def set_back(self) -> None:
        """Put the copy back, while nothing runs; new processes find out what that means."""
        backup, processes = self._backup, len(self.lives)
        assert backup is not None
        await self.end_all()

        def put_back(connection: Connection) -> int:
            tables = METADATA.sorted_tables
            for table in (*reversed(tables), CATALOG_CHANGES):
                connection.execute(delete(table))
            for table in sorted(tables, key=lambda each: each is CATALOG_CHANGES):
                if table is CATALOG_CHANGES:  # the triggers have written it
                    connection.execute(delete(table))
                if backup[table.name]:
                    connection.execute(insert(table), backup[table.name])
            return 0

        await self.database.run(put_back)
        submissions = self.rig.process.submissions
        await Lineage(submissions, HighWaterMark(None, is_expected=False), self.clock).settle(is_told=True)
        self.was_set_back = True
        self.witness.records = {}
        self.begin(processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What is due now, and what is recorded; `next_at`: when a token or a submission is due next."""

    to_deliver: Sequence[BucketKey]
    to_mint: Sequence[BucketKey]
    records: dict[str, Record]
    next_at: datetime | None


def _survey(connection: Connection, now: datetime) -> _Survey:
    tokens = connection.execute(_TOKENS_DUE).all()
    submissions = connection.execute(_OPEN).all()
    times = [row.due_at for row in tokens if row.due_at > now]
    times += [at for row in submissions for at in (row.next_attempt_at, max(row.expires_at, row.next_attempt_at))]
    due = [row for row in tokens if row.due_at <= now]
    to_test = [row.bucket for row in due if row.state == MintedState.DISABLED.value]
    to_deliver = [row.bucket for row in submissions if min(row.next_attempt_at, row.expires_at) <= now] + to_test
    waiting = [row.bucket for row in submissions if row.state == State.MINTING.value]
    to_mint = [row.bucket for row in due if row.state != MintedState.DISABLED.value] + waiting
    return _Survey(
        to_deliver=[key_of(bucket) for bucket in sorted({*to_deliver})],
        to_mint=[key_of(bucket) for bucket in sorted({*to_mint})],
        records=read_records(connection),
        next_at=min(times, default=None),
    )


class World:
    """All of it."""

    def __init__(self, database: Steady, chain: AuditChain) -> None:
        self.clock = Clock(START)
        self.fake = FakeCloudflare(clock=self.clock, timer=lambda: self.clock().timestamp())
        self.ours = Installation(database, self.clock, self.fake, chain)
        self.others: list[Installation] = []
        self.foreign: dict[str, datetime] = {}
        """When somebody else wrote a slot."""

    @property
    def installations(self) -> Sequence[Installation]:
        """Return them, ours first."""
        return [self.ours, *self.others]

    def note_foreign(self, bucket: str, at: datetime) -> None:
        """Note that somebody else has written a slot, or may do so until then."""
        self.foreign[bucket] = max(at, self.foreign.get(bucket, at))

    async def pass_time(self, span: timedelta) -> None:
        """Let time pass from one moment at which something happens to the next."""
        end = self.clock() + span
        while True:
            await self.fake.land()
            upcoming = [at for each in self.installations if (at := await each.take_steps()) is not None]
            for each in self.installations:
                each.witness.look_at_slots()
            if self.clock() >= end:
                return
            upcoming += [late.at for late in self.fake._late]
            self.clock.now = min(max(min(upcoming, default=end), self.clock() + SECOND), end)
