"""The schedule: it begins what is due, once, where the slot holds a token of ours, and leaves everything else alone."""

import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from bot.delivery.repeated import is_repeated
from bot.model.catalog import Catalog, CatalogStatus, CredentialStatus, Snapshot, StoredCredential
from bot.model.errors import BucketNotAllowed, DatabaseUnavailable
from bot.model.minted import MintedState
from bot.model.origin import Origin, origin_of
from bot.model.submission import State, Task
from bot.model.timetable import LONGEST_RHYTHM, RotationFailure, Timetable
from bot.policy.rules import People, Rule, Verb
from bot.policy.scheduled import Scheduled
from bot.rotation.schedule import MOST_AT_ONCE
from bot.storage.accepting import Verdict
from bot.storage.catalogs import note_stored
from bot.storage.database import Database
from bot.storage.sqlite import SqliteDatabase
from tests.clock import Clock
from tests.make import (
    LAKE,
    NOW,
    at,
    make_catalog,
    make_key,
    make_new_submission,
    make_stored_credential,
    make_submission,
)
from tests.rotation.scene import DAY, EVERY, Rotations, make_schedule, make_scheduled

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def look(rotations: Rotations, scheduled: Scheduled | None = None) -> list[str]:
    """Say that a minter is there, do what housekeeping does in a minute, and return the buckets under way."""
    await rotations.be_there()
    await rotations.new_schedule(scheduled).begin_due()
    return [key.bucket for key in await rotations.open_ones()]


TIMETABLE = Timetable(every=EVERY)


async def pass_time(rotations: Rotations, until: datetime) -> datetime | None:
    """Let time pass until the next rotation begins, and return when that was; None if that is not before `until`."""
    known, now = await rotations.catalogs.catch_up(), rotations.clock()
    begins_at = TIMETABLE.next_at(await rotations.stored(), known.failures.get("lake"), now)
    if begins_at > now + MINUTE:
        rotations.clock.now = begins_at - MINUTE
        assert await look(rotations) == []
    rotations.clock.now = max(begins_at, now)
    return rotations.clock() if await look(rotations) and rotations.clock() < until else None


def next_moment(after: datetime) -> datetime:
    """Return the bucket's next moment: what is due by then begins there."""
    return TIMETABLE.next_at(make_stored_credential(stored_at=NOW, expires_at=None), None, after)


async def begin(rotations: Rotations) -> str:
    """Rotate a lake as a person does, wait for the schedule, and return the id of what it began."""
    await rotations.press()
    rotations.clock.advance(EVERY * 0.96)
    assert await pass_time(rotations, NOW + EVERY * 1.3) is not None
    [pending] = await rotations.submissions.work(await rotations.submissions.take(LAKE))
    return pending.submission.id


async def test_a_rotated_bucket_is_rotated_about_an_interval_later(rotations: Rotations) -> None:
    """In the name of who stored the last one, with the result where that went, and by the bot's own decision."""
    await rotations.press(channel_id="C0OTHER01")
    assert await look(rotations) == []
    rotations.clock.now = NOW + EVERY * 0.93
    assert await pass_time(rotations, NOW + EVERY * 1.2) is not None

    [pending] = await rotations.submissions.work(await rotations.submissions.take(LAKE))
    new, stored = pending.submission, await rotations.stored()
    assert (new.task, new.key, origin_of(new.id)) == (Task.ROTATE, LAKE, Origin.SCHEDULE)
    assert (new.user_id, new.channel_id, new.team_id) == (stored.stored_by, "C0OTHER01", "T0SANDBOX")
    assert new.expires_at == new.accepted_at + HOUR


async def test_it_goes_on_for_years_without_anybody(rotations: Rotations) -> None:
    """Each time the interval counts from the last one, which a person may bring forward."""
    await rotations.press()
    times = [NOW]
    for number in range(5):
        if number == 2:
            rotations.clock.advance(EVERY / 2)
            times.append(rotations.clock())
            await rotations.press()
        rotations.clock.advance(EVERY * 0.9)
        began_at = await pass_time(rotations, rotations.clock() + EVERY)
        assert began_at is not None
        times.append(began_at)
        await rotations.end_well(LAKE)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses.pop(2) == EVERY / 2
    assert all(EVERY * 15 / 16 <= pause <= EVERY * 1.1 for pause in pauses)


async def _press(rotations: Rotations) -> None:
    await rotations.press()


async def _paste_later(rotations: Rotations) -> None:
    await rotations.press()
    rotations.clock.advance(HOUR)
    await rotations.paste()


async def _paste(rotations: Rotations) -> None:
    await rotations.paste()


async def _fail(rotations: Rotations) -> None:
    await rotations.submissions.add(make_new_submission(task=Task.ROTATE))
    await rotations.end_badly(LAKE)


async def _keep_one_that_is_taken_back(rotations: Rotations) -> None:
    await rotations.press()
    await rotations.retire(LAKE)


async def _change(rotations: Rotations, **changes: Any) -> None:  # noqa: ANN401 - the fields of a MintedToken
    """Press, and find something out about the token afterwards, as the minter's housekeeping does."""
    await rotations.press()
    [token] = await rotations.tokens.of_bucket(LAKE)
    assert await rotations.tokens.change(token, replace(token, **changes)) is not None


async def _forge(rotations: Rotations, statement: str) -> None:
    await rotations.press()
    await rotations.database.run(lambda connection: connection.execute(text(statement)).rowcount)


async def _list(rotations: Rotations, *catalogs: Catalog) -> None:
    """Press, and have Cloudflare list these afterwards."""
    await rotations.press()
    await rotations.catalogs.save_snapshot(Snapshot(catalogs=catalogs, refreshed_at=NOW + HOUR))


async def _list_one(rotations: Rotations, **fields: Any) -> None:  # noqa: ANN401 - of a Catalog
    await _list(rotations, make_catalog(**fields))


async def _break(rotations: Rotations) -> None:
    """Press, and have Cloudflare say later that it does not work."""
    await _list(rotations, make_catalog())
    await rotations.catalogs.save_test(LAKE, CredentialStatus.INVALID, NOW + HOUR)


ONLY_STORING = Rule(name="store", who=People(), verbs=frozenset({Verb.STORE}))
ELSEWHERE = Rule(name="else", who=People(), verbs=frozenset({Verb.ROTATE}), channels=frozenset({"C0OTHER01"}))
POND = Rule(name="pond", who=People(), verbs=frozenset({Verb.ROTATE}), buckets=("pond",))

LEFT_ALONE: dict[str, tuple[Callable[[Rotations], Awaitable[None]], Scheduled]] = {
    "a person pasted it": (_paste, make_scheduled()),
    "a person has pasted since": (_paste_later, make_scheduled()),
    "the first press failed": (_fail, make_scheduled()),
    "the schedule is off": (_press, make_scheduled(every=None)),
    "the schedule is for others": (_press, make_scheduled(globs=("pond-*",))),
    "the schedule excludes it": (_press, make_scheduled(globs=("*", "!lake"))),
    "no rule lets anybody rotate": (_press, make_scheduled(ONLY_STORING)),
    "no rule lets anybody rotate it": (_press, make_scheduled(POND)),
    "no rule lets the result go there": (_press, make_scheduled(ELSEWHERE)),
    "an earlier one is taken back": (_keep_one_that_is_taken_back, make_scheduled()),
    "it was revoked by hand": (partial(_change, state=MintedState.DEAD), make_scheduled()),
    "it was disabled by hand": (partial(_change, trouble="token_disabled_by_hand"), make_scheduled()),
    "it never worked": (partial(_change, state=MintedState.IN_SLOT), make_scheduled()),
    "its catalog was switched off": (partial(_list_one, status=CatalogStatus.INACTIVE), make_scheduled()),
    "its slot was emptied": (partial(_list_one, credential_status=CredentialStatus.ABSENT), make_scheduled()),
    "its catalog is gone": (_list, make_scheduled()),
    "it does not work": (_break, make_scheduled()),
    "somebody else changed its row": (
        partial(_forge, statement="UPDATE minted_tokens SET due_at = changed_at, scope = 'account'"),
        make_scheduled(),
    ),
    "somebody else changed who is told": (
        partial(_forge, statement="UPDATE credentials SET channel_id = 'C0MALLORY'"),
        make_scheduled(),
    ),
}


@pytest.mark.parametrize(("prepare", "scheduled"), LEFT_ALONE.values(), ids=LEFT_ALONE)
async def test_what_is_not_its_own_is_left_alone(
    rotations: Rotations, prepare: Callable[[Rotations], Awaitable[None]], scheduled: Scheduled
) -> None:
    """However old it is."""
    await prepare(rotations)
    for days in (40, 400):
        rotations.clock.now = next_moment(NOW + days * DAY)
        assert await look(rotations, scheduled) == []


async def test_else_it_begins_at_that_very_moment(rotations: Rotations) -> None:
    """So the cases above are left alone for their reason."""
    await _list(rotations, make_catalog())
    rotations.clock.now = next_moment(NOW + 40 * DAY)
    assert await look(rotations) == ["lake"]


async def test_it_waits_where_nobody_can_mint(rotations: Rotations) -> None:
    """Or each bucket would fail by itself, and say so: the minter's condition says it once."""
    await rotations.press()
    rotations.clock.now = next_moment(NOW + 40 * DAY)
    await rotations.schedule.begin_due()
    await rotations.be_there(trouble="minting_token_refused")
    await rotations.schedule.begin_due()
    assert await rotations.open_ones() == []
    assert await look(rotations) == ["lake"]


async def test_several_workers_begin_it_once(rotations: Rotations) -> None:
    """Whichever comes first; the others find its id, also when it has ended meanwhile."""
    first = await begin(rotations)
    assert await look(rotations) == ["lake"]
    await rotations.end_badly(LAKE)
    again = make_new_submission(id=first, task=Task.ROTATE, **at(rotations.clock()))
    assert (await rotations.submissions.add_if_idle(again)).verdict is Verdict.ALREADY_UNDER_WAY
    assert await look(rotations) == []


async def test_it_never_overtakes_a_person(rotations: Rotations) -> None:
    """Newest wins: begun while a pasted token is on its way, it would replace that one."""
    await rotations.press()
    rotations.clock.now = next_moment(NOW + 40 * DAY)
    await rotations.submissions.add(make_new_submission(id="VPASTE", **at(rotations.clock())))
    await look(rotations)
    [pending] = await rotations.submissions.work(await rotations.submissions.take(LAKE))
    assert pending.submission.id == "VPASTE"


async def test_a_check_keeps_nothing_from_being_rotated(rotations: Rotations) -> None:
    """It touches no slot."""
    await rotations.press()
    rotations.clock.now = next_moment(NOW + 40 * DAY)
    check = make_new_submission(id="VCHECK", task=Task.CHECK, **at(rotations.clock()))
    await rotations.submissions.add(check)
    await look(rotations)
    works = await rotations.submissions.work(await rotations.submissions.take(LAKE))
    assert {each.submission.task for each in works} == {Task.CHECK, Task.ROTATE}


async def test_what_failed_is_tried_again_under_another_id(rotations: Rotations) -> None:
    """After an hour and more, then after a day and more; a success ends that."""
    ids, times = [await begin(rotations)], [rotations.clock()]
    for _ in range(3):
        await rotations.end_badly(LAKE)
        assert await pass_time(rotations, rotations.clock() + 2 * DAY) is not None
        [pending] = await rotations.submissions.work(await rotations.submissions.take(LAKE))
        ids.append(pending.submission.id)
        times.append(rotations.clock())
    assert len(set(ids)) == len(ids)
    first, *later = (after - before for before, after in pairwise(times))
    assert HOUR <= first <= HOUR + LONGEST_RHYTHM + 9 * MINUTE
    assert all(DAY <= pause <= DAY + LONGEST_RHYTHM + 9 * MINUTE for pause in later)

    known = await rotations.catalogs.catch_up()
    assert (known.failures["lake"].failures, known.failures["lake"].code) == (3, "throttled")
    assert known.failures["lake"].since < known.failures["lake"].failed_at
    await rotations.end_well(LAKE)
    assert (await rotations.catalogs.catch_up()).failures == {}


@pytest.mark.parametrize("ending", [State.REFUSED, State.DENIED, State.FAILED, State.EXPIRED])
async def test_each_way_to_fail_is_noted(rotations: Rotations, ending: State) -> None:
    """With the cause, for those who look at the bucket."""
    await begin(rotations)
    await rotations.end_badly(LAKE, ending, BucketNotAllowed())
    failure = (await rotations.catalogs.catch_up()).failures["lake"]
    assert (failure.failures, failure.code, failure.since) == (1, BucketNotAllowed.code, rotations.clock())


async def test_to_be_superseded_is_no_failure(rotations: Rotations) -> None:
    """A person stores something newer: what is rotated next is for that to decide."""
    await begin(rotations)
    await rotations.end_badly(LAKE, State.SUPERSEDED)
    assert (await rotations.catalogs.catch_up()).failures == {}


async def test_after_weeks_without_a_bot_not_all_begin_at_once(rotations: Rotations) -> None:
    """They are done within hours, each at its moment, the oldest first, and a bounded number in a minute."""
    for number in range(12):
        await rotations.press(f"lake-{number}")
    rotations.clock.now = NOW + 200 * DAY
    counts = []
    while rotations.clock() <= NOW + 200 * DAY + LONGEST_RHYTHM:
        counts.append(len(await look(rotations)))
        rotations.clock.advance(9 * MINUTE)
    assert counts == sorted(counts)
    assert counts[0] < 6 < counts[-1] == 12


class AllNow(Timetable):
    """Gives each bucket a turn at once."""

    def turn(self, credential: StoredCredential, failure: RotationFailure | None, now: datetime) -> int | None:
        """Return a number."""
        return 1


async def test_a_minute_begins_a_bounded_number(database: SqliteDatabase, clock: Clock) -> None:
    """However many have the same moment: the rest comes in the next minute, or in hours."""
    rotations = Rotations(database, clock)
    for number in range(MOST_AT_ONCE + 3):
        await rotations.press(f"lake-{number}")
    clock.advance(EVERY)
    scheduled = replace(make_scheduled(), timetable=AllNow(every=EVERY))
    assert len(await look(rotations, scheduled)) == MOST_AT_ONCE
    assert len(await look(rotations, scheduled)) == MOST_AT_ONCE  # the same ones are under way


async def test_a_clock_that_is_set_back_begins_nothing_twice(rotations: Rotations) -> None:
    """What was begun has its id; what was stored counts from when it was stored."""
    await begin(rotations)
    await rotations.end_well(LAKE)
    for back in (MINUTE, HOUR, 20 * HOUR):
        rotations.clock.advance(-back)
        assert await look(rotations) == []


async def test_a_bucket_that_fails_to_begin_holds_up_no_other(
    rotations: Rotations, tables: Database, clock: Clock, log: io.StringIO
) -> None:
    """It is logged, and tried again."""
    for bucket in ("bog", "lake"):
        await rotations.press(bucket)

    async def fail_for_bog(credential: Any) -> bool:  # noqa: ANN401 - a StoredCredential
        if credential.bucket == "bog":
            raise DatabaseUnavailable
        return True

    schedule = make_schedule(tables, rotations.submissions, clock, is_authentic=fail_for_bog)
    clock.now = NOW + 40 * DAY
    while clock() < NOW + 40 * DAY + LONGEST_RHYTHM:
        await rotations.be_there()
        await schedule.begin_due()
        clock.advance(9 * MINUTE)
    assert await rotations.open_ones() == [make_key("lake")]
    logged = [json.loads(line) for line in log.getvalue().splitlines()]
    failed = [line for line in logged if line["event"] == "scheduled_rotation_not_begun"]
    assert {line["bucket"] for line in failed} == {"bog"}
    assert all(origin_of(line["reference"]) is Origin.SCHEDULE for line in failed)


async def test_a_record_of_somebody_else_is_reported_once(rotations: Rotations, log: io.StringIO) -> None:
    """Nothing is done in the name of a person whom the bot did not record."""
    await rotations.press()
    forged = replace(await rotations.stored(), stored_by="U0MALLORY")
    await rotations.database.run(partial(note_stored, stored=forged))
    schedule = rotations.new_schedule()
    for days in (40, 50):
        rotations.clock.now = next_moment(NOW + days * DAY)
        await rotations.be_there()
        await schedule.begin_due()
    assert log.getvalue().count("record_not_authentic") == 1
    assert await rotations.open_ones() == []


async def test_of_repeated_failures_the_first_is_told(rotations: Rotations) -> None:
    """Until something is stored: the next failure after that is news again."""
    told = []
    await begin(rotations)
    for is_good in (False, False, True, False, False):
        [key] = await rotations.open_ones()
        [pending] = await rotations.submissions.work(await rotations.submissions.take(key))
        await (rotations.end_well(key) if is_good else rotations.end_badly(key))
        ended = await rotations.submissions.find(pending.submission.id)
        assert ended is not None
        told.append(not await is_repeated(rotations.catalogs, ended))
        rotations.clock.advance(HOUR)
        assert await pass_time(rotations, rotations.clock() + EVERY * 1.2) is not None
    assert told == [True, False, True, True, False]


async def test_what_a_person_asked_for_is_always_told(rotations: Rotations) -> None:
    """However often it fails."""
    for number in range(3):
        new = make_new_submission(id=f"V{number}", task=Task.ROTATE, **at(rotations.clock()))
        await rotations.submissions.add(new)
        assert not await is_repeated(rotations.catalogs, make_submission(id=new.id))
        await rotations.end_badly(LAKE)
        ended = await rotations.submissions.find(new.id)
        assert ended is not None
        assert not await is_repeated(rotations.catalogs, ended)
        rotations.clock.advance(HOUR)
