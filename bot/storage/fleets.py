"""Stores fleets: signed, so that who can write to the database has nothing rotated and stops nothing.

Every method raises DatabaseTrouble when the database fails.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, and_, delete, exists, insert, literal, or_, select, update

from bot.model.audit import Entry, Event, Who
from bot.model.errors import LeaseLost, RecordDamaged, RecordForged
from bot.model.fleet import COLUMNS, CURRENT, PROPOSAL_LIFETIME, Fleet, FleetState
from bot.model.move import Change
from bot.model.origin import Origin, id_in_fleet
from bot.model.submission import NewSubmission, Submission, Task
from bot.sealing.authenticity import Authenticity, Fields
from bot.storage.accepting import Acceptance, add
from bot.storage.audit import as_text
from bot.storage.damage import SetAside, require_shape
from bot.storage.database import Database
from bot.storage.lock import lock_name
from bot.storage.rows import read_submission
from bot.storage.schema import AUDIT, FLEETS, SUBMISSIONS
from bot.storage.submissions import Submissions

HELD_FOR: Final = timedelta(seconds=30)
"""Another process waits as long for one that was killed."""

_KIND: Final = "fleet"
_ROW: Final = FLEETS.c
_IS_CURRENT: Final = _ROW.state.in_([state.value for state in CURRENT])
_LISTS: Final = ("buckets", "others")
_FORGOTTEN_AFTER: Final = timedelta(days=1)
_LATER: Final = {
    FleetState.PROPOSED: (Event.FLEET_STARTED, Event.FLEET_STOPPED, Event.FLEET_ENDED),
    FleetState.RUNNING: (Event.FLEET_STOPPED, Event.FLEET_ENDED),
    FleetState.STOPPING: (Event.FLEET_ENDED,),
}
"""What the audit says of a fleet once it is not in this state any more."""
_IS_OUTDATED: Final = (
    exists()
    .where(
        AUDIT.c.submission_id == literal(f"{Origin.FLEET}.").concat(_ROW.id),
        or_(*(and_(_ROW.state == state.value, AUDIT.c.event.in_(later)) for state, later in _LATER.items())),
    )
    .label("is_outdated")
)
"""Whether the audit knows more: a copy of an earlier row, which somebody has put back, is signed as well."""


class Started(StrEnum):
    """The outcome of pressing the button."""

    STARTED = "started"
    ANOTHER_RUNS = "another_runs"
    TOO_OLD = "too_old"
    """Or pressed before, or not there."""


class Fleets:
    """Reads and changes them."""

    def __init__(
        self, database: Database, submissions: Submissions, account_id: str, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._submissions = submissions
        self._chain = submissions.chain
        self._account_id = account_id
        self._clock = clock
        self._holder = uuid4().hex
        self._set_aside = SetAside()
        self._wake: Callable[[], None] = _leave_to_polling

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Call this, which must not fail, when one was begun or is to stop."""
        self._wake = wake

    async def propose(self, fleet: Fleet) -> None:
        """Record what a person was shown; what nobody began within a day is forgotten."""
        is_old = and_(_ROW.state == FleetState.PROPOSED.value, _ROW.proposed_at < self._clock() - _FORGOTTEN_AFTER)

        def record(connection: Connection) -> None:
            connection.execute(delete(FLEETS).where(is_old))
            connection.execute(insert(FLEETS), _values(fleet, self._chain.authenticity))

        await self._database.run(record)

    async def find(self, fleet_id: str) -> Fleet | None:
        """Return a fleet of this account; None also for one that the bot did not record."""
        query = select(FLEETS, _IS_OUTDATED).where(_ROW.id == fleet_id, _ROW.account_id == self._account_id)
        return await self._database.run(lambda connection: self._read(connection, query))

    async def current(self) -> Fleet | None:
        """Return the one that has begun and not ended."""
        query = select(FLEETS, _IS_OUTDATED).where(_ROW.account_id == self._account_id, _IS_CURRENT)
        return await self._database.run(lambda connection: self._read(connection, query))

    async def start(self, fleet: Fleet, *, with_others: bool) -> Started:
        """Begin what was proposed, once, unless another one has not ended."""

        def start(connection: Connection) -> Started:
            lock_name(connection, f"fleets of {self._account_id}")
            query = select(FLEETS).where(_ROW.account_id == self._account_id, or_(_IS_CURRENT, _ROW.id == fleet.id))
            rows = connection.execute(query).all()
            if any(row.id != fleet.id for row in rows):
                return Started.ANOTHER_RUNS
            now = self._clock()
            if fleet.state is not FleetState.PROPOSED or now - fleet.proposed_at > PROPOSAL_LIFETIME:
                return Started.TOO_OLD
            buckets = (*fleet.buckets, *(fleet.others if with_others else ()))
            begun = {"state": FleetState.RUNNING, "buckets": buckets, "others": (), "started_at": now}
            changed = self._change(connection, fleet, begun)
            if changed is None:
                return Started.TOO_OLD
            self._chain.append(connection, [_entry(changed, Event.FLEET_STARTED, now, _who(changed, fleet.user_id))])
            return Started.STARTED

        started = await self._database.run(start)
        self._wake()
        return started

    async def stop(
        self, fleet: Fleet, *, by: str | None = None, alarm: str | None = None, bucket: str | None = None
    ) -> Fleet | None:
        """Begin no further rotation, for a person or for an alarm; None if it has changed since it was read."""

        def stop(connection: Connection) -> Fleet | None:
            stopping = {"state": FleetState.STOPPING, "stopped_by": by, "alarm": alarm, "alarm_bucket": bucket}
            changed = self._change(connection, fleet, stopping) if fleet.state is FleetState.RUNNING else None
            if changed is not None:
                who = _who(changed, by) if by else None
                self._chain.append(connection, [_entry(changed, Event.FLEET_STOPPED, self._clock(), who)])
            return changed

        stopped = await self._database.run(stop)
        self._wake()
        return stopped

    async def end(self, fleet: Fleet) -> Fleet | None:
        """Record that nothing of it is left to do, and that this was told; None if it has changed since."""
        state = FleetState.DONE if fleet.state is FleetState.RUNNING else FleetState.STOPPED

        def end(connection: Connection) -> Fleet | None:
            now = self._clock()
            changed = self._change(connection, fleet, {"state": state, "ended_at": now}) if fleet.is_current else None
            if changed is not None:
                self._chain.append(connection, [_entry(changed, Event.FLEET_ENDED, now)])
            return changed

        return await self._database.run(end)

    async def note_message(self, fleet: Fleet, message_ts: str) -> Fleet | None:
        """Note the message that counts; None if the fleet has changed since it was read."""
        return await self._database.run(lambda connection: self._change(connection, fleet, {"message_ts": message_ts}))

    async def take(self) -> Fleet | None:
        """Take, or keep, the current fleet; None if there is none, or another process works on it."""
        now = self._clock()
        is_free = or_(
            _ROW.held_until.is_(None),
            _ROW.held_until <= now,
            _ROW.held_until > now + 2 * HELD_FOR,  # a clock was far ahead
            _ROW.holder == self._holder,
        )
        its = _ROW.account_id == self._account_id, _IS_CURRENT, is_free
        taken = (
            update(FLEETS)
            .where(*its)
            .values(holder=self._holder, held_until=now + HELD_FOR)
            .returning(FLEETS, _IS_OUTDATED)
        )
        return await self._database.run(lambda connection: self._read(connection, taken))

    async def let_go(self) -> None:
        """Let another process take it at once."""
        held = update(FLEETS).where(_ROW.account_id == self._account_id, _ROW.holder == self._holder)
        await self._database.run(lambda connection: connection.execute(held.values(held_until=None)).rowcount)

    async def begin(self, fleet: Fleet, new: NewSubmission) -> Acceptance:
        """Record the rotation of one bucket, once; raises LeaseLost if the fleet was stopped or taken since."""

        def record(connection: Connection) -> tuple[Acceptance, list[Change]]:
            its = _ROW.id == fleet.id, _ROW.state == FleetState.RUNNING.value, _ROW.holder == self._holder
            if connection.scalar(select(_ROW.id).where(*its).with_for_update()) is None:
                raise LeaseLost
            acceptance = add(connection, self._chain, new)
            return acceptance, [*acceptance.changes]

        return await self._submissions.follow(record, new.key)

    async def submissions_of(self, fleet: Fleet, buckets: Iterable[str]) -> dict[str, Submission]:
        """Return what was begun of these buckets, by the bucket; a damaged row is left out, and reported."""
        ids = {id_in_fleet(fleet.id, bucket): bucket for bucket in buckets}
        query = select(SUBMISSIONS).where(SUBMISSIONS.c.id.in_(ids))
        rows = await self._database.run(lambda connection: connection.execute(query).all()) if ids else []
        found = self._set_aside.read_each(rows, read_submission)
        return {ids[each.id]: each for each in found}

    def _change(self, connection: Connection, fleet: Fleet, changes: Mapping[str, Any]) -> Fleet | None:
        changed = replace(fleet, **changes, revision=fleet.revision + 1)
        its_row = _ROW.id == fleet.id, _ROW.revision == fleet.revision
        statement = update(FLEETS).where(*its_row).values(_values(changed, self._chain.authenticity))
        return changed if connection.execute(statement).rowcount else None

    def _read(self, connection: Connection, query: Select[Any] | Any) -> Fleet | None:  # noqa: ANN401 - or an UPDATE that returns rows
        rows = connection.execute(query).all()
        found = self._set_aside.read_each(rows, lambda row: _read_fleet(row, self._chain.authenticity))
        return found[0] if found else None


def _leave_to_polling() -> None:
    """Do nothing: the process that works on fleets is another one, and looks by itself."""


def _read_fleet(row: Row[Any], authenticity: Authenticity) -> Fleet:
    require_shape(row, FLEETS)
    values = {name: getattr(row, name) for name in COLUMNS}
    lists = {name: tuple(values[name].split()) for name in _LISTS}
    try:
        fleet = Fleet(**values | lists | {"state": FleetState(row.state)})
    except ValueError:
        raise RecordDamaged(FLEETS.name, row.id, "state") from None
    if not authenticity.verifies(_KIND, _fields(fleet), row.signature):
        raise RecordForged(FLEETS.name, row.id, "signature")
    if row.is_outdated:
        raise RecordForged(FLEETS.name, row.id, "state")
    return fleet


def _values(fleet: Fleet, authenticity: Authenticity) -> dict[str, Any]:
    return {**_plain(fleet), "signature": authenticity.sign(_KIND, _fields(fleet))}


def _plain(fleet: Fleet) -> dict[str, Any]:
    plain = {name: getattr(fleet, name) for name in COLUMNS} | {"state": fleet.state.value}
    return plain | {name: " ".join(plain[name]) for name in _LISTS}


def _fields(fleet: Fleet) -> Fields:
    return {name: as_text(value) for name, value in _plain(fleet).items()}


def _who(fleet: Fleet, user_id: str) -> Who:
    return Who(user_id=user_id, team_id=fleet.team_id, channel_id=fleet.channel_id)


def _entry(fleet: Fleet, event: Event, at: datetime, who: Who | None = None) -> Entry:
    """Return what the audit says of it; each rotation has entries of its own, with ids that begin with this one."""
    return Entry(
        event=event,
        at=at,
        submission_id=f"{Origin.FLEET}.{fleet.id}",
        task=Task.ROTATE.value,
        outcome=fleet.state.value,
        code=fleet.alarm or "",
        details=json.dumps({"asked": fleet.asked, "buckets": len(fleet.buckets)}),
        who=who,
    )
