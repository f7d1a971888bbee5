"""What is kept of people: all of it can be shown and forgotten, and the audit stays verifiable."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import Row, select

from bot.model.audit import PERSONAL, Entry, Event, Who
from bot.model.catalog import StoredCredential
from bot.model.submission import Opening, Sealed, SealedToken, State, Submission
from bot.sealing.authenticity import Authenticity
from bot.storage.audit import AuditChain
from bot.storage.catalogs import Catalogs, note_stored
from bot.storage.database import Database
from bot.storage.people import PEOPLE, PeopleLimit, StillOpen, find_kept, forget_person
from bot.storage.schema import AUDIT, METADATA, SUBMISSIONS
from bot.storage.submissions import Submissions
from tests.make import ACCOUNT, CHAIN, LAKE, NOW, make_new_submission
from tests.storage.conftest import Query, move_on

ADA, GRACE = "U0ADA0001", "U0GRACE01"
NEW = make_new_submission(
    user_id=ADA, reason="the old one expires", sealed=Sealed(token=SealedToken("sealed.v1.0000000000facade.ONE"))
)
KEPT_FOR = timedelta(days=365)


@pytest.fixture
def submissions(tables: Database) -> Submissions:
    """Return the submissions of an empty database."""
    return Submissions(tables, CHAIN)


async def _fill(tables: Database, submissions: Submissions) -> Submission:
    """Let a person store something, which is not reported yet."""
    opening = Opening(nonce="nonce", team_id=NEW.team_id, user_id=ADA, expires_at=NOW + timedelta(hours=1))
    await submissions.add_opening(opening)
    assert (await submissions.accept(NEW, "nonce")).is_recorded
    stored = StoredCredential(
        key=LAKE,
        submission_id=NEW.id,
        stored_by=ADA,
        stored_at=NOW,
        channel_id=NEW.channel_id,
        token_id=None,
        expires_at=None,
        reminded_at=None,
        broken_at=None,
    )
    await tables.run(lambda connection: note_stored(connection, stored))
    return await move_on(submissions, State.FAILED)


async def _entries(tables: Database) -> list[Row[tuple[object, ...]]]:
    return [*await tables.run(lambda connection: connection.execute(select(AUDIT).order_by(AUDIT.c.number)).fetchall())]


def test_every_column_that_can_name_a_person_is_known() -> None:
    """A new table must not keep what nobody can find."""
    names = {
        "user_id",
        "stored_by",
        "superseded_by",
        "approver_id",
        "decided_by",
        "requester_id",
        "asked_by",
        "stopped_by",
    }
    found = {column for table in METADATA.tables.values() for column in table.columns if column.name in names}
    assert found == {column for columns in PEOPLE.values() for column in columns}


async def test_all_that_is_kept_is_shown(tables: Database, submissions: Submissions) -> None:
    """Each record, with what is sealed only named."""
    await _fill(tables, submissions)
    kept = await tables.run(lambda connection: [*find_kept(connection, ADA)])
    assert [record["table"] for record in kept] == ["submissions", "openings", "credentials", "audit", "audit"]
    assert kept[0]["reason"] == NEW.reason
    assert "sealed.v1." not in json.dumps(kept)
    assert await tables.run(lambda connection: [*find_kept(connection, GRACE)]) == []


async def test_a_person_with_something_open_is_not_forgotten(tables: Database, submissions: Submissions) -> None:
    """Its result could go to nobody; nothing is half forgotten."""
    await _fill(tables, submissions)
    before = await tables.run(lambda connection: [*find_kept(connection, ADA)])
    with pytest.raises(StillOpen):
        await tables.run(lambda connection: forget_person(connection, CHAIN, ADA, NOW))
    assert await tables.run(lambda connection: [*find_kept(connection, ADA)]) == before


async def test_a_forgotten_person_is_in_no_record(tables: Database, submissions: Submissions) -> None:
    """What was done stays: the history, the slot, and the chain, in which an entry says who is missing where."""
    await _fill(tables, submissions)
    await move_on(submissions, State.FAILED, reported_at=NOW)
    done = await tables.run(lambda connection: forget_person(connection, CHAIN, ADA, NOW))
    assert (done.submissions, done.entries) == (1, 2)
    assert await tables.run(lambda connection: [*find_kept(connection, ADA)]) == []
    [submission] = await submissions.history(ACCOUNT, None, 9)
    assert (submission.id, submission.user_id, submission.reason, submission.last_four) == (NEW.id, "", "", "")
    [credential] = await Catalogs(tables, ACCOUNT).stored_credentials()
    assert credential.stored_by == ""
    *named, telling = await _entries(tables)
    assert all(getattr(entry, name) is None for entry in named for name in (*PERSONAL, "salt"))
    assert all(CHAIN.is_authentic(entry) for entry in (*named, telling))
    assert (telling.event, json.loads(telling.details)) == (Event.PEOPLE_FORGOTTEN, {"entries": [[1, 2]]})


async def test_who_superseded_somebody_is_forgotten_there_as_well(tables: Database, submissions: Submissions) -> None:
    """Only once the result has been posted, which names that person and was signed with the name."""
    await _fill(tables, submissions)
    await move_on(submissions, State.FAILED, reported_at=NOW)
    is_it = SUBMISSIONS.c.id == NEW.id
    await tables.run(
        lambda connection: connection.execute(SUBMISSIONS.update().where(is_it).values(superseded_by=GRACE))
    )
    await tables.run(lambda connection: forget_person(connection, CHAIN, GRACE, NOW))
    assert await tables.run(lambda connection: [*find_kept(connection, GRACE)]) == []


async def _append(tables: Database, *days_ago: int, chain: AuditChain = CHAIN) -> None:
    entries = [
        Entry(event=Event.REFUSED, at=NOW - timedelta(days=days), who=Who(user_id=ADA, reason=f"{days} days ago"))
        for days in days_ago
    ]
    await tables.run(lambda connection: chain.append(connection, entries))


async def test_people_are_forgotten_by_age(tables: Database) -> None:
    """Who stands in an old entry is forgotten, in a young one not; an entry says up to where."""
    await _append(tables, 400, 370, 366, 364, 1)
    limit = PeopleLimit(tables, CHAIN, KEPT_FOR)
    assert await limit.enforce(NOW) == 3
    entries = await _entries(tables)
    assert [entry.user_id for entry in entries] == [None, None, None, ADA, ADA, None]
    assert json.loads(entries[-1].details) == {"up_to": 3}
    assert all(CHAIN.is_authentic(entry) for entry in entries)
    assert await limit.enforce(NOW) == 0


async def test_the_minute_adds_no_entry_about_the_minute_before(tables: Database) -> None:
    """Only once something is a day over its age does the chain get longer by forgetting."""
    await _append(tables, 365, 365)
    limit = PeopleLimit(tables, CHAIN, KEPT_FOR)
    assert await limit.enforce(NOW + timedelta(minutes=1)) == 0
    assert await limit.enforce(NOW + timedelta(days=1, minutes=1)) == 2


async def test_what_was_forgotten_cannot_be_guessed_from_its_digest(tables: Database) -> None:
    """Two entries about one person have different digests, and the salt is gone with the person."""
    await _append(tables, 400, 400)
    await PeopleLimit(tables, CHAIN, KEPT_FOR).enforce(NOW)
    first, second, _ = await _entries(tables)
    assert first.people_digest != second.people_digest
    assert (first.salt, second.salt) == (None, None)


async def test_a_time_that_somebody_wrote_makes_nobody_forgotten(tables: Database, query: Query) -> None:
    """Else the bot itself would take a name out of a young entry, and vouch for that."""
    await _append(tables, 400, 1, 1)
    query("UPDATE audit SET at = '2020-01-01 00:00:00.000000' WHERE number > 1")
    assert await PeopleLimit(tables, CHAIN, KEPT_FOR).enforce(NOW) == 1
    entries = await _entries(tables)
    assert [entry.user_id for entry in entries] == [None, ADA, ADA, None]
    assert json.loads(entries[-1].details) == {"up_to": 1}


async def test_the_entries_of_a_lost_key_are_forgotten_too(tables: Database) -> None:
    """Nobody can verify them any more; the entry with which the present key began says where they end."""
    lost = AuditChain(Authenticity(["the key that is lost, and was never copied"]))
    await _append(tables, 400, 399, chain=lost)
    begun = Entry(event=Event.CHAIN_BEGUN, at=NOW)
    await tables.run(lambda connection: CHAIN.append(connection, [begun]))
    await _append(tables, 1)
    assert await PeopleLimit(tables, CHAIN, KEPT_FOR).enforce(NOW) == 2
    assert [entry.user_id for entry in await _entries(tables)] == [None, None, None, ADA, None]


async def test_a_name_that_somebody_wrote_is_not_vouched_for(tables: Database, query: Query) -> None:
    """A person who asks to be forgotten must not take along what another one did."""
    await _append(tables, 2, 1)
    query(f"UPDATE audit SET user_id = '{GRACE}' WHERE number = 2")  # noqa: S608 - our own words
    done = await tables.run(lambda connection: forget_person(connection, CHAIN, GRACE, NOW))
    assert done.entries == 1
    assert [entry.event for entry in await _entries(tables)] == [Event.REFUSED, Event.REFUSED]
