"""The records of fleets on both engines: begun once, held by one process, signed, and forgotten with their person."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from bot.model.fleet import PROPOSAL_LIFETIME, Alarm, Fleet, FleetState
from bot.storage.database import Database
from bot.storage.fleets import HELD_FOR, Fleets, Started
from bot.storage.history import HistoryLimit
from bot.storage.people import StillOpen, find_kept, forget_person
from bot.storage.schema import AUDIT, FLEETS
from bot.storage.submissions import Submissions
from tests.clock import Clock
from tests.make import ACCOUNT, CHAIN, NOW
from tests.storage.conftest import Query

ADA, GRACE = "U0ADA0001", "U0GRACE01"
FLEET = Fleet(
    id="f123456789",
    account_id=ACCOUNT,
    team_id="T1",
    user_id=ADA,
    channel_id="C1",
    asked="team-*",
    state=FleetState.PROPOSED,
    buckets=("team-a", "team-b"),
    others=("team-c",),
    proposed_at=NOW,
)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock(NOW)


@pytest.fixture
def fleets(tables: Database, clock: Clock) -> Fleets:
    """Return the fleets of an empty database, as one process has them."""
    return make(tables, clock)


def make(tables: Database, clock: Clock) -> Fleets:
    """Return them as another process has them."""
    return Fleets(tables, Submissions(tables, CHAIN), ACCOUNT, clock)


async def begun(fleets: Fleets, fleet: Fleet = FLEET) -> Fleet:
    """Propose and begin one."""
    await fleets.propose(fleet)
    assert await fleets.start(fleet, with_others=False) is Started.STARTED
    current = await fleets.current()
    assert current is not None
    return current


async def entries(tables: Database) -> list[tuple[object, ...]]:
    """Return what the audit says."""
    rows = await tables.run(lambda connection: connection.execute(select(AUDIT).order_by(AUDIT.c.number)).all())
    return [(row.event, row.submission_id, row.outcome, row.code, row.user_id) for row in rows]


async def test_it_is_read_as_it_was_recorded(fleets: Fleets) -> None:
    """All of it."""
    await fleets.propose(FLEET)
    assert await fleets.find(FLEET.id) == FLEET
    assert await fleets.find("f000000000") is None
    assert await fleets.current() is None


async def test_its_whole_life_is_audited(fleets: Fleets, tables: Database) -> None:
    """Who began it and who stopped it; where it stopped by itself, why, and nobody is named."""
    running = await begun(fleets)
    stopping = await fleets.stop(running, alarm=Alarm.NOT_WORKING, bucket="team-a")
    assert stopping is not None
    ended = await fleets.end(stopping)
    assert ended is not None
    assert (ended.state, ended.ended_at) == (FleetState.STOPPED, NOW)
    its = f"fleet.{FLEET.id}"
    assert await entries(tables) == [
        ("fleet_started", its, "running", "", ADA),
        ("fleet_stopped", its, "stopping", "not_working", None),
        ("fleet_ended", its, "stopped", "not_working", None),
    ]
    row = await tables.run(lambda connection: connection.execute(select(AUDIT.c.details)).scalars().first())
    assert json.loads(str(row)) == {"asked": "team-*", "buckets": 2}


async def test_of_two_presses_at_the_same_instant_one_counts(tables: Database, clock: Clock) -> None:
    """Also of two gateways, and of two fleets."""
    one, other = make(tables, clock), make(tables, clock)
    another = replace(FLEET, id="f987654321")
    await one.propose(FLEET)
    await one.propose(another)
    started = await asyncio.gather(
        one.start(FLEET, with_others=False),
        other.start(FLEET, with_others=True),
        one.start(another, with_others=False),
    )
    assert started.count(Started.STARTED) == 1


@pytest.mark.parametrize("state", [state for state in FleetState if state is not FleetState.PROPOSED])
async def test_only_what_was_proposed_begins(fleets: Fleets, state: FleetState) -> None:
    """And not after ten minutes."""
    await fleets.propose(FLEET)
    assert await fleets.start(replace(FLEET, state=state), with_others=False) is Started.TOO_OLD
    assert await fleets.start(replace(FLEET, revision=3), with_others=False) is Started.TOO_OLD
    old = replace(FLEET, proposed_at=NOW - PROPOSAL_LIFETIME - timedelta(seconds=1))
    assert await fleets.start(old, with_others=False) is Started.TOO_OLD


async def test_a_change_of_something_outdated_is_not_made(fleets: Fleets) -> None:
    """Each names the revision that it has read."""
    running = await begun(fleets)
    assert await fleets.note_message(running, "1.2") is not None
    assert await fleets.note_message(running, "3.4") is None
    assert await fleets.stop(running, by=GRACE) is None
    assert await fleets.end(running) is None
    assert await fleets.end(FLEET) is None


async def test_it_wakes_who_works_on_it(fleets: Fleets) -> None:
    """When one begins, and when it is to stop."""
    woken = []
    fleets.wake_by(lambda: woken.append(1))
    running = await begun(fleets)
    await fleets.stop(running, by=GRACE)
    assert len(woken) == 2


async def test_one_process_holds_it(tables: Database, clock: Clock) -> None:
    """Until it lets go, or was not heard of for half a minute; also if a clock was far ahead."""
    one, other = make(tables, clock), make(tables, clock)
    assert await one.take() is None
    await begun(one)
    assert await one.take() is not None
    assert await one.take() is not None
    assert await other.take() is None
    clock.advance(HELD_FOR)
    assert await other.take() is not None
    assert await one.take() is None
    await other.let_go()
    assert await one.take() is not None
    clock.advance(timedelta(days=-1))
    assert await other.take() is not None


@pytest.mark.parametrize(
    "change",
    ["buckets = 'team-a secret-b'", "state = 'running'", "user_id = 'U0MALLORY'", "state = 'flying'", "asked = NULL"],
)
async def test_what_the_bot_did_not_record_is_no_fleet(fleets: Fleets, query: Query, change: str) -> None:
    """Who can write to the database has no key; it is reported, and nothing is rotated."""
    await fleets.propose(FLEET)
    try:
        query(f"UPDATE fleets SET {change}")  # noqa: S608 - our own words
    except Exception:  # noqa: BLE001 - of either driver: the column refuses it
        return
    with capture_logs() as log:
        assert await fleets.find(FLEET.id) is None
        assert await fleets.take() is None
    assert {line["event"] for line in log} <= {"record_not_authentic", "record_set_aside"}
    assert log != []


async def test_what_nobody_began_is_forgotten(fleets: Fleets, clock: Clock) -> None:
    """A day later, when another one is proposed."""
    await fleets.propose(FLEET)
    clock.advance(timedelta(days=1, seconds=1))
    await fleets.propose(replace(FLEET, id="f987654321", proposed_at=clock()))
    assert await fleets.find(FLEET.id) is None


async def test_old_ones_are_deleted_with_the_history(fleets: Fleets, tables: Database, clock: Clock) -> None:
    """Their buckets are submissions, which are deleted as all others."""
    ended = await fleets.end(await begun(fleets))
    assert ended is not None
    history = HistoryLimit(tables, timedelta(days=30))
    await history.enforce(clock() + timedelta(days=29))
    assert await fleets.find(FLEET.id) == ended
    await history.enforce(clock() + timedelta(days=31))
    assert await fleets.find(FLEET.id) is None


@pytest.mark.parametrize("user_id", [ADA, GRACE], ids=["who began it", "who stopped it"])
async def test_a_person_is_forgotten_once_it_has_ended(fleets: Fleets, tables: Database, user_id: str) -> None:
    """Before, its message would name nobody."""
    stopping = await fleets.stop(await begun(fleets), by=GRACE)
    assert stopping is not None
    with pytest.raises(StillOpen):
        await tables.run(lambda connection: forget_person(connection, CHAIN, user_id, NOW))
    await fleets.end(stopping)
    await tables.run(lambda connection: forget_person(connection, CHAIN, user_id, NOW))
    assert await tables.run(lambda connection: [*find_kept(connection, user_id)]) == []
    assert await tables.run(lambda connection: connection.execute(select(FLEETS)).all()) == []


@pytest.mark.parametrize("old", [FleetState.PROPOSED, FleetState.RUNNING, FleetState.STOPPING])
async def test_an_old_row_is_no_fleet_once_the_audit_knows_more(
    fleets: Fleets, tables: Database, old: FleetState
) -> None:
    """Who keeps a signed copy and puts it back begins nothing again, and undoes no Stop."""
    await fleets.propose(FLEET)
    copies = {FleetState.PROPOSED: await copy_row(tables)}
    assert await fleets.start(FLEET, with_others=False) is Started.STARTED
    copies[FleetState.RUNNING] = await copy_row(tables)
    stopping = await fleets.stop(await found(fleets), by=ADA)
    assert stopping is not None
    copies[FleetState.STOPPING] = await copy_row(tables)
    await fleets.end(stopping)
    await tables.run(lambda connection: connection.execute(update(FLEETS).values(copies[old])).rowcount)
    with capture_logs() as logs:
        assert await fleets.find(FLEET.id) is None
        assert await fleets.current() is None
        assert await fleets.take() is None
    assert [each["event"] for each in logs] == ["record_not_authentic"]


async def copy_row(tables: Database) -> dict[str, object]:
    """Return the only row."""
    return dict(await tables.run(lambda connection: connection.execute(select(FLEETS)).one()._mapping))


async def found(fleets: Fleets) -> Fleet:
    """Return the fleet as it is."""
    fleet = await fleets.find(FLEET.id)
    assert fleet is not None
    return fleet
