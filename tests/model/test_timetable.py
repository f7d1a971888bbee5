"""When the schedule rotates: about once in an interval, spread, again after failures, whatever the clock does."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.model.catalog import StoredCredential
from bot.model.timetable import FIRST_PAUSE, LATER_PAUSE, LONGEST_RHYTHM, START_FOR, RotationFailure, Timetable
from tests.make import NOW, make_stored_credential

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MONTHLY = Timetable(every=30 * DAY)
FLEET = [f"lake-{number}" for number in range(10_000)]

BUCKETS = st.integers(0, 10_000).map(lambda number: f"lake-{number}")
INTERVALS = st.integers(1, 400).map(lambda number: number * DAY)
TIMES = st.integers(0, 10**8).map(lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))


def rotated(bucket: str = "lake", at: datetime = NOW, every: timedelta = 30 * DAY) -> StoredCredential:
    """Return what a rotation stored: a token that lives one and a half intervals, and two days more at least."""
    life = max(every * 1.5, every + 2 * DAY)
    return make_stored_credential(bucket, stored_at=at, expires_at=at + life)


def failed(at: datetime, failures: int = 1) -> RotationFailure:
    """Return that the last rotation failed at this time."""
    return RotationFailure(bucket="lake", since=at, failed_at=at, failures=failures, code=None)


def wait(timetable: Timetable, credential: StoredCredential, failure: RotationFailure | None = None) -> datetime:
    """Look every minute from a day before it is due, and return when a rotation begins."""
    now = max(timetable.due_at(credential), failure.failed_at if failure else credential.stored_at) - MINUTE
    while timetable.turn(credential, failure, now) is None:
        now += MINUTE
    return now


@given(bucket=BUCKETS, every=INTERVALS, at=TIMES)
def test_the_next_one_is_about_an_interval_later(bucket: str, every: timedelta, at: datetime) -> None:
    """However it came about, by hand too: never much earlier, and before it counts as overdue or expires."""
    timetable, credential = Timetable(every=every), rotated(bucket, at, every)
    begins = timetable.next_at(credential, None, at)
    assert every * 15 / 16 <= begins - at < every * 1.19
    assert begins < timetable.overdue_at(credential) < (credential.expires_at or NOW)


@given(bucket=BUCKETS, every=INTERVALS, at=TIMES)
def test_a_turn_begins_when_it_was_said_to(bucket: str, every: timedelta, at: datetime) -> None:
    """Not a moment before, for some minutes, and every process that looks in that time finds the same turn."""
    timetable, credential = Timetable(every=every), rotated(bucket, at, every)
    begins = timetable.next_at(credential, None, at)
    late = begins + START_FOR - timedelta.resolution
    assert timetable.turn(credential, None, begins - timedelta.resolution) is None
    assert timetable.turn(credential, None, begins) == timetable.turn(credential, None, late) is not None
    assert timetable.turn(credential, None, begins + START_FOR) is None
    assert timetable.next_at(credential, None, late) == begins


@given(bucket=BUCKETS, every=INTERVALS, at=TIMES, looks=st.lists(st.integers(-500, 500), max_size=40))
def test_looking_changes_nothing(bucket: str, every: timedelta, at: datetime, looks: list[int]) -> None:
    """A clock that is set back and forth between two looks leads to no other turn."""
    timetable, credential = Timetable(every=every), rotated(bucket, at, every)
    begins = timetable.next_at(credential, None, at)
    for minutes in looks:
        turn = timetable.turn(credential, None, begins + minutes * MINUTE)
        assert (turn is not None) >= (0 <= minutes < START_FOR / MINUTE)
        assert turn is None or minutes >= 0


@given(bucket=BUCKETS, every=INTERVALS, at=TIMES, now=TIMES)
def test_the_first_look_leaves_out_nothing(bucket: str, every: timedelta, at: datetime, now: datetime) -> None:
    """What it calls not due has no turn, and is not overdue."""
    timetable, credential = Timetable(every=every), rotated(bucket, at, every)
    assume(not timetable.may_be_due(credential, now))
    assert timetable.turn(credential, None, now) is None
    assert timetable.overdue_at(credential) > now


def test_what_was_rotated_at_once_is_spread_over_the_interval() -> None:
    """After some years, those that a fleet rotated within a minute come evenly."""
    some = FLEET[:1000]
    at = dict.fromkeys(some, NOW)
    for _ in range(30):
        at = {bucket: MONTHLY.next_at(rotated(bucket, last), None, last) for bucket, last in at.items()}
    of_day = Counter((each - NOW) // DAY for each in at.values())
    assert len(of_day) >= 29
    assert max(of_day.values()) <= 2 * len(some) / 30


def test_already_the_first_time_they_come_over_days() -> None:
    """No hour has to do more than a few hundred."""
    of_hour = Counter((MONTHLY.next_at(rotated(bucket), None, NOW) - NOW) // HOUR for bucket in FLEET)
    assert len(of_hour) > 80
    assert max(of_hour.values()) < 300


def test_what_was_missed_is_done_within_hours_and_not_at_once() -> None:
    """The bot was down for two months: all are due, and none later than its next moment."""
    start = NOW + 90 * DAY
    at = [MONTHLY.next_at(rotated(bucket), None, start) for bucket in FLEET]
    assert start - START_FOR < min(at) <= max(at) <= start + LONGEST_RHYTHM
    of_ten_minutes = Counter((each - start) // START_FOR for each in at)
    assert max(of_ten_minutes.values()) < len(FLEET) / 10


@pytest.mark.parametrize(("failures", "pause"), [(1, FIRST_PAUSE), (2, LATER_PAUSE), (9, LATER_PAUSE)])
def test_a_failed_one_is_tried_again_after_a_pause(failures: int, pause: timedelta) -> None:
    """An hour, then a day, and from there to the bucket's next moment; under another turn."""
    credential = rotated()
    first = wait(MONTHLY, credential)
    failure = failed(first + MINUTE, failures)
    again = wait(MONTHLY, credential, failure)
    assert pause <= again - failure.failed_at <= pause + LONGEST_RHYTHM
    assert MONTHLY.turn(credential, failure, again) != MONTHLY.turn(credential, None, first)


def test_a_failure_by_hand_brings_nothing_forward() -> None:
    """Somebody pressed the button on the third day, and it failed."""
    credential = rotated()
    assert MONTHLY.next_at(credential, failed(NOW + 3 * DAY), NOW + 3 * DAY) == MONTHLY.next_at(credential, None, NOW)


def test_a_token_that_a_rule_lets_live_shorter_is_rotated_earlier() -> None:
    """After two thirds of its life; so is one that outlives the interval, after the interval."""
    short = make_stored_credential(stored_at=NOW, expires_at=NOW + 15 * DAY)
    assert MONTHLY.interval_of(short) == 10 * DAY
    assert MONTHLY.may_be_due(short, NOW + 8 * DAY)
    assert NOW + 9 * DAY < wait(MONTHLY, short) < NOW + 12 * DAY
    long = make_stored_credential(stored_at=NOW, expires_at=NOW + 90 * DAY)
    assert MONTHLY.interval_of(long) == 30 * DAY
    assert MONTHLY.interval_of(replace(long, expires_at=None)) == 30 * DAY
    assert MONTHLY.interval_of(replace(long, expires_at=NOW - DAY)) == timedelta(hours=6)


@pytest.mark.parametrize("ahead", [25 * HOUR, 400 * DAY])
def test_what_a_wrong_clock_recorded_is_done_again(ahead: timedelta) -> None:
    """It was far ahead when the token was stored: how old that is, nobody knows."""
    credential = rotated(at=NOW + ahead)
    assert MONTHLY.may_be_due(credential, NOW)
    assert MONTHLY.next_at(credential, failed(NOW + ahead), NOW) <= NOW + LONGEST_RHYTHM
    assert MONTHLY.overdue_at(credential) > NOW


def test_a_clock_that_was_a_little_ahead_changes_nothing() -> None:
    """By less than a day: its times are taken as they are."""
    credential = rotated(at=NOW + 20 * HOUR)
    assert not MONTHLY.may_be_due(credential, NOW)
    assert MONTHLY.next_at(credential, None, NOW) > NOW + 28 * DAY


def test_daylight_saving_time_means_nothing() -> None:
    """All times are UTC, however they are written."""
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=berlin)
    for at in (before, before.replace(fold=1)):
        utc = at.astimezone(UTC)
        assert MONTHLY.next_at(rotated(at=utc), None, at) == MONTHLY.next_at(rotated(at=utc), None, utc)
