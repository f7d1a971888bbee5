"""A fleet over the real storage, delivery and minter: one first, then the others, and nothing more after an alarm."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from bot.model.errors import LeaseLost, SlackRefused, SlackUnavailable
from bot.model.fleet import MOST_FAILED, SUPERSEDED, Alarm, Fleet, FleetState, Outcome
from bot.model.minted import PRESENT_FOR
from bot.model.origin import id_in_fleet
from bot.model.submission import NewSubmission, State
from bot.rotation.ask import new_rotation
from bot.rotation.fleet import EDIT_EVERY
from bot.sandbox.account_tokens import Flaw
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from bot.storage.database import Database
from bot.storage.fleets import HELD_FOR
from tests.clock import Clock
from tests.rotation.fleet_rig import MOST_OPEN, SECOND, FleetRig, Worker, names
from tests.rotation.rig import GRACE, TTL, Rig, key_of
from tests.storage.conftest import Query

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ON_ONE_ENGINE = pytest.mark.parametrize("engine", ["sqlite"])
"""What does not depend on the database: tests/storage/test_fleets.py has what does."""


@pytest_asyncio.fixture
async def fleet(tables: Database) -> AsyncIterator[FleetRig]:
    """Return an account without catalogs, and the bot."""
    rig = Rig(tables, Clock(START))
    yield FleetRig(rig)
    await rig.process.aclose()


async def _states(fleet: FleetRig, buckets: tuple[str, ...]) -> dict[str, State]:
    """Return the state of each rotation that was begun."""
    found = await fleet.fleets.submissions_of(await _found(fleet), buckets)
    return {bucket: submission.state for bucket, submission in found.items()}


async def _found(fleet: FleetRig) -> Fleet:
    """Return the fleet as it is recorded."""
    found = await fleet.fleets.find("f123456789")
    assert found is not None
    return found


async def test_one_goes_first_and_then_all_are_rotated(fleet: FleetRig) -> None:
    """One message counts them; none has one of its own."""
    buckets = names(12)
    await fleet.begin(*buckets)
    await fleet.take_steps()
    assert list(await _states(fleet, buckets)) == [buckets[0]]

    ended = await fleet.run_to_its_end()

    assert (ended.state, ended.alarm, ended.stopped_by) == (FleetState.DONE, None, None)
    assert set((await _states(fleet, buckets)).values()) == {State.STORED}
    assert len(fleet.rig.fake.tokens.list_live()) == len(buckets)
    assert (fleet.rig.posts.posted, fleet.board.posts, fleet.board.told) == ([], 1, [])
    assert len(fleet.board.last.of(Outcome.DONE)) == len(buckets)
    assert fleet.board.last.is_over


async def test_what_a_person_stores_after_the_press_stays(fleet: FleetRig) -> None:
    """The fleet comes to that bucket later, but was pressed before: the newer one wins, as anywhere."""
    buckets = names(3)
    await fleet.begin(*buckets)
    await fleet.take_steps()
    fleet.rig.clock.advance(SECOND)
    token = make_token(Behaviour.GOOD)
    pasted = await fleet.rig.paste(buckets[2], token)
    await fleet.run_to_its_end()
    assert (await fleet.rig.find(pasted)).state is State.STORED
    assert fleet.rig.fake.stored_token(buckets[2]) == token
    assert [(each.bucket, each.why) for each in fleet.board.last.of(Outcome.FAILED)] == [(buckets[2], SUPERSEDED)]


@ON_ONE_ENGINE
async def test_the_message_is_edited_every_five_seconds_at_most(fleet: FleetRig) -> None:
    """Slack takes an edit a second, for all apps of a channel together."""
    fleet.rig.fake.tokens.known_after = 20
    await fleet.begin(*names(9))
    await fleet.run_to_its_end()
    times = [at for at, _ in fleet.board.counts]
    assert len(times) > 2
    assert all(later - earlier >= EDIT_EVERY for earlier, later in pairwise(times))


@ON_ONE_ENGINE
async def test_so_many_are_under_way_at_a_time(fleet: FleetRig) -> None:
    """A bounded number, however many there are."""
    buckets = names(3 * MOST_OPEN)
    await fleet.begin(*buckets)
    await fleet.run_for(2 * SECOND)  # the first one is proven
    fleet.rig.fake.tokens.known_after = 20
    await fleet.run_for(4 * SECOND)
    assert len(await _states(fleet, buckets)) == MOST_OPEN + 1


@pytest.mark.parametrize("after", [0, 1, 4, 8])
async def test_a_killed_process_is_replaced_by_another(fleet: FleetRig, after: int) -> None:
    """It knows nothing but the database; each bucket is rotated once, and one message counts."""
    fleet.rig.fake.tokens.known_after = 3
    await fleet.begin(*names(6))
    await fleet.run_for(after * SECOND)
    fleet.worker = Worker(fleet.rig, fleet.rig.process, fleet.board)
    await fleet.run_for(5 * SECOND)
    fleet.rig.clock.advance(HELD_FOR)

    ended = await fleet.run_to_its_end()

    assert ended.state is FleetState.DONE
    assert len(fleet.rig.fake.tokens.tokens) == 6
    assert fleet.board.posts == 1


async def test_only_one_process_works_on_it(fleet: FleetRig) -> None:
    """Another one goes on at once where the first one has stopped."""
    other = Worker(fleet.rig, fleet.rig.process, fleet.board)
    await fleet.begin(*names(3))
    await fleet.take_steps()
    assert await other.fleets.take() is None
    await fleet.fleets.let_go()
    assert await other.fleets.take() is not None
    with pytest.raises(LeaseLost):
        await fleet.fleets.begin(await _found(fleet), _rotation(fleet, names(3)[1]))


def _rotation(fleet: FleetRig, bucket: str) -> NewSubmission:
    return new_rotation(
        submission_id=id_in_fleet("f123456789", bucket),
        key=key_of(bucket),
        team_id="T1",
        channel_id="C1",
        now=fleet.rig.clock(),
        ttl=TTL,
        user_id="U1",
    )


# What stops it


async def _ends_stopped(fleet: FleetRig, alarm: str, bucket: str | None, begun: int) -> None:
    ended = await fleet.run_to_its_end(step=5 * SECOND)
    assert (ended.state, ended.alarm, ended.alarm_bucket) == (FleetState.STOPPED, alarm, bucket)
    assert len(await _states(fleet, ended.buckets)) == begun
    assert fleet.board.last.is_over
    assert fleet.board.last.fleet.alarm == alarm


@ON_ONE_ENGINE
async def test_a_first_one_that_does_not_work_is_the_last(fleet: FleetRig) -> None:
    """No other slot is touched; the log says what to do."""
    fleet.rig.fake.tokens.flaws.append("invalid")
    await fleet.begin(*names(5))
    with capture_logs() as log:
        await _ends_stopped(fleet, Alarm.NOT_WORKING, "team-000", begun=1)
    [line] = [line for line in log if line["event"] == "fleet_stopped"]
    assert (line["log_level"], line["alarm"], line["bucket"]) == ("error", Alarm.NOT_WORKING, "team-000")
    assert "rotate" in line["fix"]


@ON_ONE_ENGINE
@pytest.mark.parametrize(("flaw", "code"), [("useless", "minted_token_useless"), ("refused", "minted_token_refused")])
async def test_a_token_that_does_not_serve_is_an_alarm(fleet: FleetRig, flaw: Flaw, code: str) -> None:
    """It would not serve the next bucket either."""
    fleet.rig.fake.tokens.flaws.append(flaw)
    await fleet.begin(*names(3))
    await _ends_stopped(fleet, code, "team-000", begun=1)


@ON_ONE_ENGINE
async def test_an_alarm_lets_what_is_under_way_end(fleet: FleetRig) -> None:
    """Half of a rotation would leave a token that nobody uses."""
    fleet.rig.fake.tokens.flaws.extend([None, None, "refused"])
    buckets = names(MOST_OPEN + 5)
    await fleet.begin(*buckets)
    ended = await fleet.run_to_its_end()
    assert (ended.state, ended.alarm) == (FleetState.STOPPED, "minted_token_refused")
    states = await _states(fleet, buckets)
    assert Counter(states.values()) == {State.STORED: MOST_OPEN, State.FAILED: 1}
    assert fleet.board.last.waiting == 4


@ON_ONE_ENGINE
async def test_without_a_test_nothing_is_proven(fleet: FleetRig) -> None:
    """Cloudflare stores the token, and does not say whether it works."""
    fleet.rig.fake.fail_next("status", times=999, status=503)
    await fleet.begin(*names(3))
    await _ends_stopped(fleet, Alarm.NOT_TESTED, "team-000", begun=1)


async def test_a_bucket_of_its_own_trouble_stops_nobody(fleet: FleetRig) -> None:
    """Its catalog was switched off since the sums; the first one that works is proof enough."""
    buckets = names(4)
    await fleet.begin(*buckets)
    fleet.rig.fake.add_bucket(buckets[0], "inactive")
    ended = await fleet.run_to_its_end()
    assert ended.state is FleetState.DONE
    assert [result.bucket for result in fleet.board.last.of(Outcome.FAILED)] == [buckets[0]]
    assert len(fleet.board.last.of(Outcome.DONE)) == 3


@ON_ONE_ENGINE
async def test_many_that_fail_in_a_row_have_something_in_common(fleet: FleetRig) -> None:
    """None is proven yet, so they are tried one by one."""
    buckets = names(MOST_FAILED + 3)
    await fleet.begin(*buckets)
    for bucket in buckets:
        fleet.rig.fake.add_bucket(bucket, "inactive")
    await _ends_stopped(fleet, Alarm.MANY_FAILED, buckets[MOST_FAILED - 1], begun=MOST_FAILED)


@ON_ONE_ENGINE
async def test_a_slot_that_needs_a_disabled_token_is_an_alarm(fleet: FleetRig) -> None:
    """What was learned of one slot while its earlier token was off may be true of the others."""
    await fleet.rig.process.house.look_if_due()
    fleet.rig.fake.add_bucket("lake")
    for _ in range(2):
        await fleet.rig.press("lake")
        await fleet.rig.run_for(2 * MINUTE)
    await fleet.rig.run_for(GRACE - MINUTE)
    first = next(iter(fleet.rig.fake.tokens.tokens.values()))
    fleet.rig.fake.buckets["lake"].token = first.value  # somebody has put the earlier token back
    fleet.rig.quota = 12  # room for one at a time
    proposed = fleet.propose(*names(3))
    fleet.worker = Worker(fleet.rig, fleet.rig.process, fleet.board)
    await fleet.fleets.propose(proposed)
    await fleet.fleets.start(proposed, with_others=False)
    ended = await fleet.run_to_its_end(30 * MINUTE, 10 * SECOND)
    assert (ended.alarm, ended.alarm_bucket) == (Alarm.TOKEN_NEEDED, "lake")


async def test_a_person_stops_it(fleet: FleetRig) -> None:
    """No alarm; who did it is in the message and in the audit."""
    fleet.rig.fake.tokens.known_after = 20
    await fleet.begin(*names(5))
    await fleet.run_for(3 * SECOND)
    stopped = await fleet.fleets.stop(await _found(fleet), by="U2")
    assert stopped is not None
    assert await fleet.fleets.stop(stopped, by="U1") is None
    ended = await fleet.run_to_its_end()
    assert (ended.state, ended.alarm, ended.stopped_by) == (FleetState.STOPPED, None, "U2")
    assert await _states(fleet, ended.buckets) == {"team-000": State.STORED}


async def test_without_a_minter_it_stops(fleet: FleetRig) -> None:
    """Its submissions would wait until they expire."""
    await fleet.begin(*names(3))
    fleet.rig.clock.advance(PRESENT_FOR)
    await fleet.worker.engine.work()
    assert (await _found(fleet)).alarm == Alarm.NO_MINTER


@ON_ONE_ENGINE
async def test_a_minter_that_may_do_nothing_stops_it(fleet: FleetRig) -> None:
    """What passes by itself does not."""
    await fleet.begin(*names(3))
    await fleet.rig.process.installations.note_seen("cloudflare_unavailable")
    await fleet.worker.engine.work()
    assert (await _found(fleet)).alarm is None
    await fleet.rig.process.installations.note_seen("minting_right_missing")
    await fleet.worker.engine.work()
    assert (await _found(fleet)).alarm == "minting_right_missing"


async def test_a_rotation_that_cannot_be_read_is_an_alarm(fleet: FleetRig, query: Query) -> None:
    """Nobody knows what it has done."""
    fleet.rig.fake.tokens.known_after = 20
    await fleet.begin(*names(3))
    await fleet.run_for(2 * SECOND)
    query("UPDATE submissions SET state = 'flying' WHERE bucket = 'team-000'")
    with capture_logs():
        await _ends_stopped(fleet, "record_damaged", "team-000", begun=0)


# The account's tokens


@ON_ONE_ENGINE
async def test_it_waits_for_room(fleet: FleetRig) -> None:
    """Each part begins when the earlier tokens of the one before are taken back."""
    fleet.rig.quota = 500
    buckets = names(4)
    await fleet.begin(*buckets)
    await fleet.run_to_its_end()
    fleet.rig.clock.advance(timedelta(hours=25))
    fleet.rig.fake.tokens.others = fleet.rig.quota - 10 - 4 - 2
    await fleet.rig.process.house.look()
    again = replace(
        await _found(fleet),
        id="f987654321",
        state=FleetState.PROPOSED,
        proposed_at=fleet.rig.clock(),
        started_at=None,
        ended_at=None,
        message_ts=None,
        revision=0,
    )
    await fleet.fleets.propose(again)
    await fleet.fleets.start(again, with_others=False)
    await fleet.run_for(MINUTE)
    current = await fleet.fleets.current()
    assert current is not None
    assert len(await fleet.fleets.submissions_of(current, buckets)) == 2
    assert fleet.board.last.waits_for_room
    await fleet.run_for(GRACE + 6 * MINUTE, MINUTE)
    assert await fleet.fleets.current() is None
    assert len(fleet.board.last.of(Outcome.DONE)) == 4
    assert len(fleet.rig.fake.tokens.list_live()) + fleet.rig.fake.tokens.others <= fleet.rig.quota - 10


async def test_where_no_room_can_come_it_stops(fleet: FleetRig) -> None:
    """Others have used up the quota since the sums were shown."""
    await fleet.begin(*names(3))
    fleet.rig.fake.tokens.others = 490
    await fleet.rig.process.house.look()
    await _ends_stopped(fleet, Alarm.NO_ROOM, None, begun=0)


# The message


@ON_ONE_ENGINE
async def test_nothing_begins_without_a_message(fleet: FleetRig) -> None:
    """It has the button that stops it; who began it is told."""
    fleet.board.errors = [SlackRefused("not_in_channel")]
    await fleet.begin(*names(3))
    with capture_logs():
        ended = await fleet.run_to_its_end()
    assert (ended.state, ended.alarm) == (FleetState.STOPPED, Alarm.NO_MESSAGE)
    assert await _states(fleet, ended.buckets) == {}
    assert [count.fleet.alarm for count in fleet.board.told] == [Alarm.NO_MESSAGE]


@ON_ONE_ENGINE
async def test_a_message_that_was_deleted_stops_it_before_it_begins(fleet: FleetRig) -> None:
    """Slack knows that it was posted, and no longer has it."""
    fleet.board.is_gone = True
    await fleet.begin(*names(3))
    assert (await fleet.run_to_its_end()).alarm == Alarm.NO_MESSAGE


@ON_ONE_ENGINE
async def test_a_message_that_is_deleted_meanwhile_is_missed_at_the_end(fleet: FleetRig) -> None:
    """Who began it gets a direct message; where that is refused as well, the log has it."""
    fleet.rig.fake.tokens.known_after = 20
    await fleet.begin(*names(2))
    await fleet.run_for(2 * SECOND)
    fleet.board.is_gone = True
    with capture_logs():
        ended = await fleet.run_to_its_end()
    assert ended.state is FleetState.DONE
    assert [count.is_over for count in fleet.board.told] == [True]


@ON_ONE_ENGINE
async def test_an_end_that_nobody_takes_is_logged(fleet: FleetRig) -> None:
    """It ends all the same."""
    await fleet.begin(*names(1))
    await fleet.run_for(SECOND)
    fleet.board.errors = [SlackRefused("message_not_found"), SlackRefused("messages_tab_disabled")]
    with capture_logs() as log:
        assert (await fleet.run_to_its_end()).state is FleetState.DONE
    assert {"fleet_message_not_updated", "fleet_end_not_told"} <= {line["event"] for line in log}


@ON_ONE_ENGINE
async def test_while_slack_is_down_the_rotations_go_on(fleet: FleetRig) -> None:
    """The end waits until it can be told, and comes once."""
    await fleet.begin(*names(3))
    await fleet.take_steps()
    fleet.board.errors = [SlackUnavailable(retry_after=20 * SECOND), SlackUnavailable()]
    await fleet.run_for(24 * SECOND)
    assert set((await _states(fleet, names(3))).values()) == {State.STORED}
    assert await fleet.fleets.current() is not None
    assert (await fleet.run_to_its_end()).state is FleetState.DONE
    assert sum(count.is_over for _, count in fleet.board.counts) == 1


# The engine


@ON_ONE_ENGINE
async def test_the_engine_outlives_what_goes_wrong(fleet: FleetRig) -> None:
    """A database that fails, a fleet that is stopped meanwhile, and a bug: each is logged, and a later look goes on."""
    await fleet.begin(*names(2))
    engine = fleet.worker.engine
    with capture_logs() as log:
        fleet.board.errors = [SlackUnavailable()]
        first = await engine._work_guarded()
        fleet.board.errors = [ZeroDivisionError()]  # type: ignore[list-item]  # a bug is no BotError
        second = await engine._work_guarded()
    assert [line["event"] for line in log] == ["fleet_interrupted", "fleet_broke"]
    assert (first, second) == (2 * SECOND, MINUTE)
    assert (await fleet.run_to_its_end()).state is FleetState.DONE


async def test_it_runs_until_it_is_cancelled(fleet: FleetRig) -> None:
    """A press wakes it, and at a stop another process may go on at once."""
    task = asyncio.create_task(fleet.worker.engine.run())
    fleet.fleets.wake_by(fleet.worker.engine.wake)
    await asyncio.sleep(0)
    await fleet.begin(*names(2))
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await fleet.board.is_posted.wait()
    task.cancel()
    await asyncio.wait([task])
    other = Worker(fleet.rig, fleet.rig.process, fleet.board)
    assert await other.fleets.take() is not None
