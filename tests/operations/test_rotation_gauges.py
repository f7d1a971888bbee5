"""The gauges about rotation: what was made, what is overdue, and whether somebody mints."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.metrics import ROTATIONS, Metrics
from bot.model.minted import OVER, MintedState
from bot.model.move import Change
from bot.model.submission import State, Task
from bot.operations.changes import count_endings
from bot.operations.gauges import (
    ACCOUNT_TOKENS,
    EXPIRY,
    MINTED,
    MINTER_SEEN,
    MINTER_TROUBLE,
    OVERDUE,
    Reading,
)
from bot.operations.rotation_gauges import of_rotation
from bot.operations.sources import of_database
from bot.policy.rules import People, Rule, Verb
from bot.policy.scheduled import Scheduled
from bot.storage.sqlite import SqliteDatabase
from tests.clock import Clock
from tests.make import LAKE, NOW, make_catalog, make_ended_submission
from tests.rotation.scene import EVERY, Rotations, make_scheduled

ONLY_STORING = Rule(name="store", who=People(), verbs=frozenset({Verb.STORE}))


@pytest.fixture
def rotations(database: SqliteDatabase, clock: Clock) -> Rotations:
    """Return a database in which nothing was rotated yet, at NOW."""
    clock.now = NOW
    return Rotations(database, clock)


async def read(rotations: Rotations, scheduled: Scheduled | None = None) -> Reading:
    """Return what the gauges say."""
    source = of_rotation(
        rotations.tokens,
        rotations.installations,
        rotations.catalogs,
        scheduled or make_scheduled(),
        rotations.clock,
    )
    return await source.read()


async def test_before_the_first_rotation_there_are_only_zeros(rotations: Rotations) -> None:
    """And no minter: nobody can miss one that never was."""
    reading = await read(rotations)
    assert reading[OVERDUE] == {(): 0.0}
    assert reading[MINTED] == {(state.value,): 0.0 for state in MintedState if state not in OVER}
    assert reading.keys() == {OVERDUE, MINTED}


async def test_what_was_made_is_counted_by_its_state(rotations: Rotations) -> None:
    """What is over is at Cloudflare no longer."""
    await rotations.press("lake")
    await rotations.press("pond")
    await rotations.press("pond")
    await rotations.retire(LAKE)
    minted = (await read(rotations))[MINTED]
    assert {state: number for state, number in minted.items() if number} == {("proven",): 2.0, ("retired",): 1.0}
    assert (await read(rotations, make_scheduled(ONLY_STORING)))[MINTED] == minted


async def test_what_was_not_rotated_in_time_is_overdue(rotations: Rotations) -> None:
    """Only what the schedule covers; and not before a quarter of the interval has passed."""
    await rotations.press("lake")
    await rotations.press("pond")
    await rotations.paste("bog")
    for more, overdue in ((EVERY * 1.25 - timedelta.resolution, 0.0), (timedelta.resolution, 2.0)):
        rotations.clock.advance(more)
        assert (await read(rotations))[OVERDUE] == {(): overdue}
    assert (await read(rotations, make_scheduled(globs=("pond",))))[OVERDUE] == {(): 1.0}
    assert (await read(rotations, make_scheduled(ONLY_STORING)))[OVERDUE] == {(): 0.0}
    assert (await read(rotations, make_scheduled(every=None)))[OVERDUE] == {(): 0.0}


async def test_a_minter_is_shown_where_rotation_is_granted(rotations: Rotations) -> None:
    """Else an operator who has switched it off would be told for ever that it is gone."""
    await rotations.be_there()
    reading = await read(rotations)
    assert (reading[MINTER_SEEN], reading[MINTER_TROUBLE]) == ({(): NOW.timestamp()}, {(): 0.0})
    assert reading[ACCOUNT_TOKENS] == {}
    await rotations.be_there(trouble="minting_token_refused")
    await rotations.installations.note_count(490, NOW)
    reading = await read(rotations)
    assert (reading[MINTER_TROUBLE], reading[ACCOUNT_TOKENS]) == ({(): 1.0}, {(): 490.0})
    assert MINTER_SEEN not in await read(rotations, make_scheduled(ONLY_STORING))


async def test_an_expiry_is_shown_once_somebody_has_to_act(rotations: Rotations) -> None:
    """What the schedule replaces in time would raise an alarm in each interval."""
    await rotations.press("lake")
    await rotations.paste("pond")
    for bucket in ("lake", "pond"):
        await rotations.catalogs.save_catalog(make_catalog(bucket))
    database, catalogs = rotations.database, rotations.catalogs
    source = of_database(database, catalogs, rotations.clock, make_scheduled())
    bare = of_database(database, catalogs, rotations.clock)
    assert {bucket for (bucket,) in (await source.read())[EXPIRY]} == {"pond"}
    assert {bucket for (bucket,) in (await bare.read())[EXPIRY]} == {"lake", "pond"}
    rotations.clock.advance(EVERY * 1.25)
    assert {bucket for (bucket,) in (await source.read())[EXPIRY]} == {"lake", "pond"}


def test_each_ending_of_a_rotation_is_counted() -> None:
    """By its outcome, and no other task's."""
    metrics = Metrics()
    count = count_endings(metrics)
    for state in (State.STORED, State.STORED, State.FAILED):
        ended = make_ended_submission(state)
        count(Change(submission=ended, is_new_state=True))
        count(Change(submission=replace(ended, task=Task.ROTATE), is_new_state=True))
        count(Change(submission=replace(ended, task=Task.ROTATE), is_new_state=False))
    counted = {
        outcome: metrics.registry.get_sample_value(ROTATIONS.name, {"outcome": outcome})
        for outcome in ROTATIONS.labels[0].values
    }
    assert {outcome: number for outcome, number in counted.items() if number} == {"stored": 2.0, "failed": 1.0}
    assert set(counted) == {"stored", "refused", "denied", "failed", "uncertain", "superseded", "expired"}
