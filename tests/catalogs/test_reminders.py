"""Expiry reminders and announcements of broken credentials: when they are due, and that each is posted once."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bot.catalogs.reminders import CredentialWatch, find_reminder
from bot.model.audit import Entry, Event, Who
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot, StoredCredential
from bot.model.errors import DatabaseUnavailable, SlackUnavailable
from bot.model.submission import Task
from bot.policy.rules import People, Rule, Verb
from bot.policy.scheduled import Overdue, Scheduled
from bot.storage.catalogs import Catalogs, note_stored
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.clock import Clock
from tests.make import CHAIN, make_new_submission
from tests.rotation.scene import EVERY, Rotations, make_scheduled

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
REMINDERS = (14 * DAY, 3 * DAY, timedelta(0))
ACCOUNT = "5a4db0c0000000000000000000000001"
KEY = BucketKey(account_id=ACCOUNT, bucket="lake")
POND = replace(KEY, bucket="pond")
LAKE = StoredCredential(
    key=KEY,
    submission_id="V1",
    stored_by="U1",
    stored_at=NOW - 60 * DAY,
    channel_id="C1",
    token_id="0f" * 16,
    expires_at=NOW,
    reminded_at=None,
    broken_at=None,
)


@pytest.mark.parametrize(
    ("credential", "at", "due"),
    [
        pytest.param(LAKE, -15 * DAY, None, id="long before"),
        pytest.param(LAKE, -14 * DAY - MINUTE, None, id="a minute before the first one"),
        pytest.param(LAKE, -14 * DAY, -14 * DAY, id="the first one"),
        pytest.param(LAKE, -10 * DAY, -14 * DAY, id="the first one, late"),
        pytest.param(LAKE, -2 * DAY, -3 * DAY, id="two were missed: the last one"),
        pytest.param(LAKE, 40 * DAY, timedelta(0), id="all were missed: that it has expired"),
        pytest.param(replace(LAKE, reminded_at=NOW - 14 * DAY), -4 * DAY, None, id="said, the next one is not due"),
        pytest.param(replace(LAKE, reminded_at=NOW - 10 * DAY), -3 * DAY, -3 * DAY, id="the second one"),
        pytest.param(replace(LAKE, reminded_at=NOW - 3 * DAY), timedelta(0), timedelta(0), id="the last one"),
        pytest.param(replace(LAKE, reminded_at=NOW), 40 * DAY, None, id="all said"),
        pytest.param(replace(LAKE, reminded_at=NOW + DAY), DAY, None, id="said late, once"),
        pytest.param(replace(LAKE, stored_at=NOW - 14 * DAY), -14 * DAY, None, id="stored as it was due"),
        pytest.param(replace(LAKE, stored_at=NOW - 2 * DAY), -DAY, None, id="stored when two were past"),
        pytest.param(replace(LAKE, stored_at=NOW - 2 * DAY), timedelta(0), timedelta(0), id="and then it expires"),
        pytest.param(replace(LAKE, stored_at=NOW + DAY), 2 * DAY, None, id="expired when it was stored"),
        pytest.param(replace(LAKE, expires_at=None), 40 * DAY, None, id="it never expires, or that is unknown"),
        pytest.param(replace(LAKE, reminded_at=NOW + 9 * DAY), -3 * DAY, None, id="said before the clock was set back"),
    ],
)
def test_which_reminder_is_due(credential: StoredCredential, at: timedelta, due: timedelta | None) -> None:
    """The last one that has passed, unless it was sent, or had passed before the token was stored."""
    assert find_reminder(credential, NOW + at, REMINDERS) == (None if due is None else NOW + due)


def test_without_reminders_none_is_due() -> None:
    """The operator wants none."""
    assert find_reminder(LAKE, NOW + 40 * DAY, ()) is None


MINUTES = st.integers(-60 * 24 * 60, 60 * 24 * 60).map(lambda number: number * MINUTE)


@given(
    stored=MINUTES,
    reminders=st.sets(st.integers(0, 60).map(lambda number: number * DAY)),
    looks=st.lists(MINUTES, max_size=30),
)
def test_each_is_sent_once_whenever_the_watch_runs(
    stored: timedelta, reminders: set[timedelta], looks: list[timedelta]
) -> None:
    """However late, and even if the clock is set back; never one that had passed when the token was stored."""
    credential = replace(LAKE, stored_at=NOW + stored)
    said: list[datetime] = []
    for look in looks:
        due = find_reminder(credential, NOW + look, reminders)
        if due is not None:
            said.append(due)
            credential = replace(credential, reminded_at=NOW + look)
            assert credential.stored_at < due <= NOW + look
    assert len(said) == len(set(said))
    assert set(said) <= {NOW - reminder for reminder in reminders}


@given(stored=MINUTES, reminders=st.sets(st.integers(0, 60).map(lambda number: number * DAY)))
def test_a_watch_that_runs_in_time_misses_none(stored: timedelta, reminders: set[timedelta]) -> None:
    """Each reminder after the storing is sent when it is due, the earliest first."""
    credential = replace(LAKE, stored_at=NOW + stored)
    said: list[datetime] = []
    for at in sorted(NOW - reminder for reminder in reminders):
        due = find_reminder(credential, at, reminders)
        if due is not None:
            said.append(due)
            credential = replace(credential, reminded_at=at)
    assert said == [at for at in sorted(NOW - reminder for reminder in reminders) if at > credential.stored_at]


class SmallChannel:
    """Records what is posted, and fails for a bucket if a test says so."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, datetime | None]] = []
        self.codes: list[str | None] = []
        self.failing: dict[str, Exception] = {}
        self.meanwhile: Callable[[], None] = lambda: None

    async def remind_of_expiry(self, credential: StoredCredential, due_at: datetime) -> None:
        """Record it."""
        self._say(("expiry", credential.bucket, due_at))

    async def announce_overdue(self, overdue: Overdue, due_at: datetime) -> None:
        """Record it, with the error of the last failure."""
        self.codes.append(overdue.failure.code if overdue.failure else None)
        self._say(("overdue", overdue.credential.bucket, due_at))

    async def announce_broken(self, credential: StoredCredential) -> None:
        """Record it."""
        self._say(("broken", credential.bucket, credential.broken_at))

    def _say(self, what: tuple[str, str, datetime | None]) -> None:
        kind, bucket, _ = what
        for name in (bucket, f"{kind} {bucket}"):
            if name in self.failing:
                raise self.failing[name]
        self.said.append(what)
        self.meanwhile()


def _written(credential: StoredCredential) -> Entry:
    """Return what the audit says of a credential that the bot stored."""
    expires_at = credential.expires_at
    return Entry(
        event=Event.WRITTEN,
        at=credential.stored_at,
        key=credential.key,
        submission_id=credential.submission_id,
        token_id=credential.token_id or "",
        details=expires_at.astimezone(UTC).isoformat(timespec="microseconds") if expires_at else "",
        who=Who(user_id=credential.stored_by, channel_id=credential.channel_id),
    )


class Scene:
    """A watch over a real database."""

    def __init__(self, database: SqliteDatabase, clock: Clock) -> None:
        clock.now = NOW
        self.database = database
        self.clock = clock
        self.catalogs = Catalogs(database, ACCOUNT)
        self.channel = SmallChannel()
        self.is_authentic = Submissions(database, CHAIN).is_stored_by_the_bot
        self.watch = self.new_watch()

    def new_watch(self) -> CredentialWatch:
        """Return another one, as a restarted process has it."""
        return CredentialWatch(
            self.catalogs,
            self.channel,
            self.clock,
            REMINDERS,
            serves=lambda _: True,
            is_authentic=self.is_authentic,
            scheduled=make_scheduled(),
        )

    async def store(self, *credentials: StoredCredential) -> None:
        """Store these in their slots."""
        for credential in credentials:
            await self.database.run(partial(note_stored, stored=credential))
            await self.database.run(partial(CHAIN.append, entries=[_written(credential)]))

    async def look(self) -> list[tuple[str, str, datetime | None]]:
        """Run a round, and return the messages it posted."""
        self.channel.said.clear()
        await self.watch.announce_due()
        return self.channel.said[:]


@pytest.fixture
def scene(database: SqliteDatabase, clock: Clock) -> Scene:
    """Build one."""
    return Scene(database, clock)


async def test_each_reminder_is_sent_once(scene: Scene) -> None:
    """Across rounds, and across processes that restart."""
    await scene.store(LAKE, replace(LAKE, key=POND, expires_at=None))
    said = []
    scene.clock.now = NOW - 20 * DAY
    while scene.clock.now < NOW + 20 * DAY:
        said += await scene.look()
        scene.watch = scene.new_watch()
        scene.clock.advance(DAY / 4)
    assert said == [("expiry", "lake", NOW - reminder) for reminder in REMINDERS]


def _catalog(credential: CredentialStatus, tested_at: datetime | None = None) -> Catalog:
    return Catalog(key=KEY, status=CatalogStatus.ACTIVE, credential_status=credential, tested_at=tested_at)


SLOTS: dict[str, tuple[Catalog | None, bool]] = {
    "works, tested before": (_catalog(CredentialStatus.VALID, NOW - DAY), True),
    "works, tested after its end": (_catalog(CredentialStatus.VALID, NOW), False),
    "does not work": (_catalog(CredentialStatus.INVALID, NOW), True),
    "empty": (_catalog(CredentialStatus.ABSENT), False),
    "not listed": (None, False),
}


@pytest.mark.parametrize(("catalog", "is_reminded"), SLOTS.values(), ids=SLOTS)
async def test_only_a_credential_in_its_slot_gets_reminders(
    scene: Scene, catalog: Catalog | None, *, is_reminded: bool
) -> None:
    """Someone may have filled the slot elsewhere, emptied it, or removed the catalog."""
    await scene.store(LAKE)
    listed = (catalog,) if catalog else ()
    await scene.catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=NOW))
    if catalog is not None and catalog.tested_at is not None:
        await scene.catalogs.save_test(KEY, catalog.credential_status, catalog.tested_at)
    assert bool(await scene.look()) is is_reminded


async def test_a_bucket_that_is_no_longer_served_gets_no_messages(scene: Scene) -> None:
    """The operator removed the bucket from the list."""
    await scene.store(replace(LAKE, broken_at=NOW))
    scene.watch = CredentialWatch(
        scene.catalogs, scene.channel, scene.clock, REMINDERS, serves=lambda _: False, is_authentic=scene.is_authentic
    )
    assert await scene.look() == []


async def test_a_newer_token_gets_its_own_reminders(scene: Scene) -> None:
    """Those for the earlier one do not count."""
    await scene.store(LAKE)
    assert await scene.look() == [("expiry", "lake", NOW)]
    newer = replace(LAKE, submission_id="V2", stored_at=NOW, expires_at=NOW + 15 * DAY)
    await scene.store(newer)
    assert await scene.look() == []
    scene.clock.advance(DAY)
    assert await scene.look() == [("expiry", "lake", NOW + DAY)]


async def test_a_broken_credential_is_announced_once(scene: Scene) -> None:
    """And again only after it worked in between."""
    await scene.store(replace(LAKE, expires_at=None))
    said = []
    for status in (CredentialStatus.VALID, CredentialStatus.INVALID, CredentialStatus.INVALID) * 2:
        await scene.catalogs.save_test(KEY, status, scene.clock())
        said += await scene.look()
        said += await scene.look()
        scene.clock.advance(DAY)
    assert said == [("broken", "lake", NOW + DAY), ("broken", "lake", NOW + 4 * DAY)]


@pytest.mark.parametrize(
    ("error", "event"),
    [
        pytest.param(SlackUnavailable(), "not_announced", id="Slack is away"),
        pytest.param(DatabaseUnavailable(), "not_announced", id="the database is away"),
        pytest.param(KeyError("MARKER"), "watch_broke", id="a fault of ours"),
    ],
)
async def test_a_failed_message_is_retried_and_holds_up_nothing(scene: Scene, error: Exception, event: str) -> None:
    """Neither other credentials, nor other messages for the same one, nor the bot."""
    keys = [replace(KEY, bucket=bucket) for bucket in ("bog", "lake", "pond")]
    await scene.store(*(replace(LAKE, key=key, broken_at=NOW) for key in keys))
    scene.channel.failing = {"bog": error, "broken lake": error}
    with capture_logs() as logged:
        assert await scene.look() == [("expiry", "lake", NOW), ("broken", "pond", NOW), ("expiry", "pond", NOW)]
    assert [line["bucket"] for line in logged if line["event"] == event] == ["bog", "bog", "lake"]
    assert "MARKER" not in str(logged)

    scene.channel.failing = {}
    assert await scene.look() == [("broken", "bog", NOW), ("expiry", "bog", NOW), ("broken", "lake", NOW)]
    assert await scene.look() == []


async def test_a_notice_is_logged_under_the_submission_that_stored_it(scene: Scene, log: io.StringIO) -> None:
    """Its reference finds that the credential broke later, too."""
    await scene.store(replace(LAKE, broken_at=NOW))
    await scene.look()
    events = [(line["event"], line["reference"]) for line in map(json.loads, log.getvalue().splitlines())]
    assert events == [("credential_broken", LAKE.submission_id), ("expiry_reminded", LAKE.submission_id)]


@pytest.mark.parametrize(
    "changes",
    [
        {"stored_by": "U0OTHER01"},
        {"channel_id": "C0OTHER01"},
        {"submission_id": "V0MADEUP9"},
        {"token_id": "f" * 32},
        {"expires_at": NOW - DAY, "broken_at": NOW},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_what_the_bot_did_not_record_is_announced_in_nobodys_name(
    scene: Scene, log: io.StringIO, changes: dict[str, Any]
) -> None:
    """Who can write to the database could send a message to any channel, about anyone; the log says it once."""
    await scene.store(LAKE)
    forged = replace(LAKE, **({"broken_at": NOW} | changes))
    await scene.database.run(partial(note_stored, stored=forged))
    scene.clock.now = NOW + 400 * DAY
    assert await scene.look() == []
    assert await scene.look() == []
    assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == ["record_not_authentic"]


async def test_a_person_who_was_forgotten_in_the_audit_is_reminded(scene: Scene) -> None:
    """The entry still says what was written, and where."""
    await scene.store(LAKE)
    await scene.database.run(
        lambda connection: connection.exec_driver_sql("UPDATE audit SET user_id = NULL, channel_id = NULL").rowcount
    )
    scene.clock.now = NOW + 400 * DAY
    assert len(await scene.look()) == 1


def _take_away(path: Path) -> None:
    path.rename(path.with_name("away"))


def _bring_back(path: Path) -> None:
    path.with_name("away").rename(path)


async def test_a_message_that_could_not_be_recorded_is_posted_again(scene: Scene, database_path: Path) -> None:
    """Better twice than never; the poster recognizes it by its time."""
    await scene.store(LAKE)
    scene.channel.meanwhile = lambda: _take_away(database_path)
    assert await scene.look() == [("expiry", "lake", NOW)]
    scene.channel.meanwhile = lambda: None
    _bring_back(database_path)
    scene.clock.advance(MINUTE)
    assert await scene.look() == [("expiry", "lake", NOW)]
    assert await scene.look() == []


async def test_a_missing_database_does_not_end_the_watch(scene: Scene, database_path: Path) -> None:
    """It is logged, and the next round does everything."""
    await scene.store(LAKE)
    _take_away(database_path)
    with capture_logs() as logged:
        assert await scene.look() == []
    assert [line["event"] for line in logged] == ["sqlite_failed", "watch_interrupted"]
    _bring_back(database_path)
    assert await scene.look() == [("expiry", "lake", NOW)]


ROTATED_AT = NOW - 100 * DAY
OVERDUE_AT, EXPIRES_AT = ROTATED_AT + EVERY * 1.25, ROTATED_AT + EVERY * 1.5


async def _rotate(scene: Scene, *buckets: str) -> Rotations:
    """Rotate these buckets long ago."""
    scene.clock.now = ROTATED_AT
    rotations = Rotations(scene.database, scene.clock)
    for bucket in buckets:
        await rotations.press(bucket)
    return rotations


async def _look_until(scene: Scene, end: datetime) -> list[tuple[str, str, datetime | None]]:
    said = []
    while scene.clock.now < end:
        said += await scene.look()
        scene.clock.advance(DAY / 4)
    return said


async def test_what_the_schedule_replaces_is_announced_when_that_is_overdue(scene: Scene) -> None:
    """Once when a quarter more has passed, and again at the times of the reminders after that, in other words."""
    await _rotate(scene, "lake")
    assert await _look_until(scene, OVERDUE_AT) == []
    assert await _look_until(scene, EXPIRES_AT + 40 * DAY) == [
        ("overdue", "lake", OVERDUE_AT),
        ("overdue", "lake", EXPIRES_AT - 3 * DAY),
        ("overdue", "lake", EXPIRES_AT),
    ]
    assert scene.channel.codes == [None, None, None]


async def test_why_it_is_overdue_is_known(scene: Scene, log: io.StringIO) -> None:
    """From the last attempt, whoever made it; the log has it too."""
    rotations = await _rotate(scene, "lake")
    await rotations.submissions.add(make_new_submission(id="VFAIL", task=Task.ROTATE, accepted_at=ROTATED_AT + DAY))
    await rotations.end_badly(KEY)
    scene.clock.now = OVERDUE_AT
    assert await scene.look() == [("overdue", "lake", OVERDUE_AT)]
    assert scene.channel.codes == ["throttled"]
    [line] = [each for each in map(json.loads, log.getvalue().splitlines()) if each["event"] == "rotation_overdue"]
    assert (line["bucket"], line["error"], line["since"]) == ("lake", "throttled", OVERDUE_AT.isoformat())


async def test_a_rotation_in_time_is_announced_by_nobody(scene: Scene) -> None:
    """The next one counts from there."""
    rotations = await _rotate(scene, "lake")
    scene.clock.now = ROTATED_AT + EVERY
    await rotations.press()
    assert await _look_until(scene, OVERDUE_AT + EVERY) == []
    assert await _look_until(scene, OVERDUE_AT + EVERY + DAY) == [("overdue", "lake", OVERDUE_AT + EVERY)]


ONLY_STORING = Rule(name="store", who=People(), verbs=frozenset({Verb.STORE}))
NOT_COVERED = {
    "the schedule is off": make_scheduled(every=None),
    "the schedule is for others": make_scheduled(globs=("pond",)),
    "no rule grants it": make_scheduled(ONLY_STORING),
}


@pytest.mark.parametrize("scheduled", NOT_COVERED.values(), ids=NOT_COVERED)
async def test_what_it_does_not_cover_is_reminded_of_as_ever(scene: Scene, scheduled: Scheduled) -> None:
    """Somebody has to press a button."""
    await _rotate(scene, "lake")
    scene.watch = CredentialWatch(
        scene.catalogs,
        scene.channel,
        scene.clock,
        REMINDERS,
        serves=lambda _: True,
        is_authentic=scene.is_authentic,
        scheduled=scheduled,
    )
    assert await _look_until(scene, NOW) == [("expiry", "lake", EXPIRES_AT - reminder) for reminder in REMINDERS]


async def test_what_was_pasted_is_reminded_of_as_ever(scene: Scene) -> None:
    """Also where a token of ours was before."""
    rotations = await _rotate(scene, "lake")
    await rotations.paste()
    assert {kind for kind, _, _ in await _look_until(scene, NOW)} == {"expiry"}


async def test_without_reminders_what_is_overdue_is_announced_once(scene: Scene) -> None:
    """They are about the expiry; this is about a machine that does not do its work."""
    await _rotate(scene, "lake")
    scene.watch = CredentialWatch(
        scene.catalogs,
        scene.channel,
        scene.clock,
        (),
        serves=lambda _: True,
        is_authentic=scene.is_authentic,
        scheduled=make_scheduled(),
    )
    assert await _look_until(scene, NOW) == [("overdue", "lake", OVERDUE_AT)]


async def test_an_overdue_bucket_that_somebody_forged_is_announced_in_nobodys_name(scene: Scene) -> None:
    """Who can write to the database could send a message to any channel."""
    await _rotate(scene, "lake")
    await scene.database.run(
        lambda connection: connection.exec_driver_sql("UPDATE credentials SET channel_id = 'C0OTHER'").rowcount
    )
    assert await _look_until(scene, NOW) == []


async def test_what_is_broken_is_announced_also_where_it_is_replaced(scene: Scene) -> None:
    """It does not work now, whatever the schedule does later."""
    await _rotate(scene, "lake")
    for status in (CredentialStatus.VALID, CredentialStatus.INVALID):
        await scene.catalogs.save_test(KEY, status, scene.clock())
        scene.clock.advance(MINUTE)
    assert [kind for kind, _, _ in await scene.look()] == ["broken"]
