"""A damaged row is skipped, reported once and left unchanged; everything else goes on. On both engines."""

import io
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from bot.cloudflare.budget import Budget, Urgency
from bot.model.catalog import CatalogStatus, CredentialStatus, Snapshot
from bot.model.errors import RecordDamaged
from bot.model.move import Changes, Move
from bot.model.submission import NewSubmission, Opening, State
from bot.storage.accepting import Verdict
from bot.storage.budget import PaceRows
from bot.storage.catalogs import Catalogs, note_stored
from bot.storage.database import Database
from bot.storage.submissions import Submissions
from tests.make import ACCOUNT, CHAIN, LAKE, NOW, make_catalog, make_new_submission, make_stored_credential
from tests.storage.conftest import Query

POND = replace(LAKE, bucket="pond")
OLD = make_new_submission(id="V1")
NEWER = make_new_submission(id="V2", accepted_at=NOW + timedelta(seconds=1))
ELSEWHERE = make_new_submission(id="V3", key=POND)

ON_BOTH = {
    "an unknown state": "state = 'walking'",
    "no state": "state = ''",
    "an unknown task": "task = 'fly'",
    "an unknown kind": "token_kind = 'golden'",
    "an unknown confirmation": "confirmation = 'great'",
    "an unknown check": "checked_at = accepted_at, unchecked = 'token everything'",
    "an unknown owner": "checked_at = accepted_at, token_id = '0f', token_owner = 'nobody'",
    "no owner": "checked_at = accepted_at, token_id = '0f', token_owner = NULL",
    "an unknown status before": "checked_at = accepted_at, credential_before = 'great'",
    "less than no attempt": "attempts = -1",
    "attempts without end": "attempts = 2147483647",
    "no revision after this one": "revision = 2147483647",
    "less than no revision": "revision = -2147483648",
}
ON_SQLITE = {
    "a word for a time": "accepted_at = 'yesterday'",
    "a word for when it was sent": "sent_at = 'yesterday'",
    "the highest of words for a time": "accepted_at = 'zzzz'",
    "nothing for a time": "expires_at = ''",
    "a number for a time": "expires_at = 7",
    "bytes for a time": "next_attempt_at = x'00ff'",
    "a time that there is not": "expires_at = '2026-02-30 25:61:00.000000'",
    "bytes for a text": "user_id = x'00ff'",
    "bytes for a token": "sealed_token = x'00ff'",
    "a word for a number": "attempts = 'many'",
    "half a number": "revision = 1.5",
}
ON_POSTGRESQL = {
    "forever": "expires_at = 'infinity'",
    "since ever": "accepted_at = '-infinity'",
    "sent at the end of time": "sent_at = 'infinity'",
    "in 18,000 years": "next_attempt_at = '20000-01-01T00:00:00Z'",
    "on the ides of March": "accepted_at = '0044-03-15T00:00:00Z BC'",
}
DAMAGES = [
    pytest.param(engine, change, id=f"{engine}-{name}")
    for engine, of_engine in (("sqlite", ON_SQLITE), ("postgresql", ON_POSTGRESQL))
    for name, change in (ON_BOTH | of_engine).items()
]


async def _accept(submissions: Submissions, *news: NewSubmission) -> None:
    for new in news:
        opening = Opening(nonce=new.id, team_id=new.team_id, user_id=new.user_id, expires_at=new.expires_at)
        await submissions.add_opening(opening)
        assert (await submissions.accept(new, new.id)).verdict is Verdict.RECORDED


async def _work(submissions: Submissions) -> list[str]:
    return [each.submission.id for each in await submissions.work(await submissions.take(LAKE))]


@pytest.mark.parametrize(("engine", "change"), DAMAGES)
async def test_one_damaged_submission_holds_up_nothing_else(
    tables: Database, query: Query, engine: str, change: str, log: io.StringIO
) -> None:
    """Its bucket, the start, the list and the housekeeping go on; it is reported once, without its values."""
    submissions = Submissions(tables, CHAIN)
    await _accept(submissions, OLD, NEWER, ELSEWHERE)
    query(f"UPDATE submissions SET {change} WHERE id = 'V2'")  # noqa: S608 - our own words
    all_of_it = "submissions::text" if engine == "postgresql" else "*"
    before = query(f"SELECT {all_of_it} FROM submissions WHERE id = 'V2'")  # noqa: S608 - our own words

    for _ in range(2):
        assert await _work(submissions) == ["V1"]
        assert set(await submissions.unreported_keys()) == {LAKE, POND}
        assert set(await submissions.overdue_keys(NOW + timedelta(days=1))) == {LAKE, POND}
        assert [each.id for each in await submissions.history(ACCOUNT, None, 9)] == ["V3", "V1"]
        assert await submissions.key_ids_in_use() == {"0000000000facade"}
        assert await submissions.key_ids_needed(NOW) == {"0000000000facade"}
        assert await submissions.latest_time(until=NOW + timedelta(days=1)) in (OLD.accepted_at, NEWER.accepted_at)
    with pytest.raises(RecordDamaged):
        await submissions.find("V2")
    with pytest.raises(RecordDamaged):
        await submissions.history(ACCOUNT, LAKE.bucket, 1)

    lease, work = await submissions.take_and_read(LAKE)
    assert [each.submission.id for each in work or ()] == ["V1"]
    [first] = [each.submission for each in work or ()]
    _, work = await submissions.apply_and_read(first, Move(to=State.VERIFYING, at=NOW), lease)
    assert [each.submission.id for each in work or ()] == ["V1"]

    lines = [line for line in log.getvalue().splitlines() if "record_set_aside" in line]
    assert len(lines) == 1
    assert '"row": "V2"' in lines[0]
    assert "restore this row from a backup, or delete it" in lines[0]
    assert query(f"SELECT {all_of_it} FROM submissions WHERE id = 'V2'") == before  # noqa: S608 - our own words


@pytest.mark.parametrize(
    ("engine", "change"),
    [
        pytest.param("postgresql", ON_BOTH["no revision after this one"], id="no revision after this one"),
        *(pytest.param(*damage.values, id=damage.id, marks=pytest.mark.thorough) for damage in DAMAGES),
    ],
)
async def test_a_newer_one_goes_on_and_ends_it(tables: Database, query: Query, change: str) -> None:
    """A damaged older one fails neither the newer one nor the end of the others."""
    submissions = Submissions(tables, CHAIN)
    newest = make_new_submission(id="V4", accepted_at=NOW + timedelta(seconds=2))
    await _accept(submissions, OLD, NEWER, newest)
    query(f"UPDATE submissions SET {change} WHERE id = 'V2'")  # noqa: S608 - our own words

    lease = await submissions.take(LAKE)
    going = next(each.submission for each in await submissions.work(lease) if each.submission.id == "V4")
    for state in (State.VERIFYING, State.STORING, State.CONFIRMING):
        going, *others = await submissions.apply(going, Move(to=state, at=NOW), lease)

    assert "V1" in [each.id for each in others]  # in any order: PostgreSQL promises none
    assert (going.id, going.state) == ("V4", State.CONFIRMING)
    assert query("SELECT id FROM submissions WHERE sealed_token IS NOT NULL AND id = 'V1'") == []


@pytest.mark.parametrize("state", ["accepted", "confirming", "uncertain"])
@pytest.mark.parametrize(
    ("engine", "change"),
    [
        ("sqlite", "sent_at = 'yesterday'"),
        ("sqlite", "accepted_at = 'yesterday'"),
        ("postgresql", "sent_at = 'infinity'"),
        ("postgresql", "accepted_at = 'infinity'"),
    ],
)
async def test_a_damaged_time_refuses_no_submit(tables: Database, query: Query, change: str, state: str) -> None:
    """Into the same bucket, whatever became of the damaged one; what is older than its token stays too late."""
    submissions = Submissions(tables, CHAIN)
    later = make_new_submission(id="V4", accepted_at=NOW + timedelta(seconds=2))
    late = make_new_submission(id="V5", accepted_at=NOW - timedelta(seconds=1))
    await _accept(submissions, OLD, NEWER)
    if state != "accepted":
        lease = await submissions.take(LAKE)
        [going] = [each.submission for each in await submissions.work(lease) if each.submission.id == "V2"]
        for to in (State.VERIFYING, State.STORING, State(state)):
            changes = Changes(confirm_until=NOW if to is State.CONFIRMING else None)
            going, *_ = await submissions.apply(going, Move(to=to, at=NOW, changes=changes), lease)
    query(f"UPDATE submissions SET {change} WHERE id = 'V2'")  # noqa: S608 - our own words
    await _accept(submissions, later, late)
    found = await submissions.find("V5")
    assert found is not None
    is_known_to_be_late = state != "accepted" and change.startswith("accepted_at")
    assert found.state is (State.SUPERSEDED if is_known_to_be_late else State.ACCEPTED)


@pytest.mark.parametrize(
    "sealed",
    ["garbage", "", "sealed.v1", "sealed.v2.key.x", "sealed.v1.a.b.c", "sealed.v1.\x1b[2J.x", "....", "\u00e9"],
)
async def test_an_invalid_sealed_value_needs_no_key(tables: Database, query: Query, sealed: str) -> None:
    """No key opens it; the keys that the others need are still returned."""
    submissions = Submissions(tables, CHAIN)
    await _accept(submissions, OLD, ELSEWHERE)
    query(f"UPDATE submissions SET sealed_token = '{sealed}', sealed_response_url = '{sealed}' WHERE id = 'V3'")  # noqa: S608 - our own words
    assert await submissions.key_ids_in_use() == {"0000000000facade"}


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize("column", ["reason", "bucket"])
async def test_text_that_is_not_utf_8_is_read(tables: Database, query: Query, column: str) -> None:
    """Invalid bytes do not fail the query that reads them; what was recorded had none."""
    submissions = Submissions(tables, CHAIN)
    await _accept(submissions, OLD, ELSEWHERE)
    query(f"UPDATE submissions SET {column} = CAST(x'ff' AS TEXT) WHERE id = 'V1'")  # noqa: S608 - our own words
    assert POND in await submissions.unreported_keys()
    assert await _work(submissions) == []
    assert len(await submissions.history(ACCOUNT, None, 9)) == 2


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_bucket_that_is_not_text_is_skipped(tables: Database, query: Query, log: io.StringIO) -> None:
    """The other buckets are resumed."""
    submissions = Submissions(tables, CHAIN)
    await _accept(submissions, OLD, ELSEWHERE)
    query("UPDATE submissions SET bucket = x'00ff' WHERE id = 'V1'")
    assert await submissions.unreported_keys() == [POND]
    assert "record_set_aside" in log.getvalue()


async def test_a_repeated_submit_of_a_damaged_one_says_so(tables: Database, query: Query) -> None:
    """The first one's outcome cannot be read: that is reported, and nothing else is claimed."""
    submissions = Submissions(tables, CHAIN)
    await _accept(submissions, OLD)
    query("UPDATE submissions SET state = 'walking' WHERE id = 'V1'")
    with pytest.raises(RecordDamaged):
        await submissions.accept(OLD, OLD.id)


async def test_a_time_far_ahead_does_not_hide_the_others(tables: Database, query: Query) -> None:
    """A clock that was set back is detected by the latest plausible time."""
    submissions = Submissions(tables, CHAIN)
    await _accept(submissions, OLD, ELSEWHERE)
    query("UPDATE submissions SET accepted_at = '2999-01-01 00:00:00.000000+00:00' WHERE id = 'V3'")
    assert await submissions.latest_time(until=NOW + timedelta(days=1)) == NOW
    assert await submissions.latest_time(until=NOW - timedelta(days=1)) is None


async def test_an_unknown_status_is_read_as_unknown(tables: Database, query: Query) -> None:
    """The list is still shown, and the next refresh overwrites it."""
    catalogs = Catalogs(tables, ACCOUNT)
    listed = tuple(make_catalog(bucket, tested_at=None) for bucket in ("lake", "pond"))
    await catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=NOW))
    query("UPDATE catalogs SET status = 'great', credential_status = 'great' WHERE bucket = 'lake'")

    snapshot = await catalogs.snapshot()

    assert snapshot is not None
    lake, pond = snapshot.catalogs
    assert (lake.status, lake.credential_status) == (CatalogStatus.UNKNOWN, CredentialStatus.UNKNOWN)
    assert pond == listed[1]
    await catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=NOW))
    assert await catalogs.snapshot() == snapshot.__class__(catalogs=listed, refreshed_at=NOW)


NO_TIME = {"sqlite": "'never'", "postgresql": "'infinity'"}


async def test_a_list_without_a_time_is_requested_again(tables: Database, query: Query, engine: str) -> None:
    """As if it had never been requested."""
    catalogs = Catalogs(tables, ACCOUNT)
    await catalogs.save_snapshot(Snapshot(catalogs=(), refreshed_at=NOW))
    query(f"UPDATE snapshots SET refreshed_at = {NO_TIME[engine]}")  # noqa: S608 - our own words
    assert await catalogs.snapshot() is None
    await catalogs.save_snapshot(Snapshot(catalogs=(), refreshed_at=NOW))
    assert await catalogs.snapshot() is not None


async def test_a_test_without_a_time_is_repeated(tables: Database, query: Query, engine: str) -> None:
    """The catalog is due, and the new result is saved."""
    catalogs = Catalogs(tables, ACCOUNT)
    await catalogs.save_snapshot(Snapshot(catalogs=(make_catalog(tested_at=None),), refreshed_at=NOW))
    await catalogs.save_test(LAKE, CredentialStatus.VALID, NOW)
    query(f"UPDATE catalogs SET tested_at = {NO_TIME[engine]}, tested = 'great'")  # noqa: S608 - our own words
    await catalogs.save_test(LAKE, CredentialStatus.INVALID, NOW)
    snapshot = await catalogs.snapshot()
    assert snapshot is not None
    assert [(each.credential_status, each.tested_at) for each in snapshot.catalogs] == [(CredentialStatus.INVALID, NOW)]


async def test_a_damaged_credential_hides_no_other(
    tables: Database, query: Query, engine: str, log: io.StringIO
) -> None:
    """It gets no reminder; the others do."""
    catalogs = Catalogs(tables, ACCOUNT)
    for stored in (make_stored_credential("lake"), make_stored_credential("pond")):
        await tables.run(partial(note_stored, stored=stored))
    query(f"UPDATE credentials SET stored_at = {NO_TIME[engine]} WHERE bucket = 'lake'")  # noqa: S608 - our own words
    for _ in range(2):
        assert [each.bucket for each in await catalogs.stored_credentials()] == ["pond"]
    assert log.getvalue().count("record_set_aside") == 1
    assert f'"row": "{ACCOUNT} lake"' in log.getvalue()


PACES = {
    "no window": "window_seconds = 0",
    "a window of less than nothing": "window_seconds = -300",
    "a window of years": "window_seconds = 2147483647",
    "another window": "window_seconds = 10",
    "no quota": "quota = 0",
    "nothing spent, not even in no slot": "spent = '[]'",
    "words": """spent = '["a", "b"]'""",
    "no list": """spent = '{"a": 1}'""",
    "JSON's null": "spent = 'null'",
    "less than nothing spent": "spent = ('[' || repeat('-1,', 65) || '0]')::json",
    "halves": "spent = ('[' || repeat('0.5,', 65) || '0]')::json",
    "numbers without end": "spent = ('[' || repeat('1e400,', 65) || '0]')::json",
    "a stop forever": "blocked_until = 'infinity', next_at = 'infinity'",
    "a stop for years": "blocked_until = '2999-01-01T00:00:00Z'",
    "a next one in years": "next_at = '2999-01-01T00:00:00Z'",
    "a reset in years": "spare = 0, resets_at = '2999-01-01T00:00:00Z'",
    "counted in years": "newest_at = '2999-01-01T00:00:00Z'",
    "counted in no time": "newest_at = '-infinity'",
}


@pytest.mark.parametrize("engine", ["postgresql"])
@pytest.mark.parametrize("change", PACES.values(), ids=PACES)
async def test_a_damaged_budget_is_replaced_by_a_fresh_one(
    tables: Database, query: Query, change: str, log: io.StringIO
) -> None:
    """No row can stop an account for days; Cloudflare's answers correct the lost counts."""
    rows = PaceRows(tables, ACCOUNT)
    await rows.change(lambda budget, now: (budget.take(now), None))
    query(f"UPDATE pace SET {change}")  # noqa: S608 - our own words

    opens_in = await rows.change(lambda budget, now: (budget.take(now), budget.opens_at(now, Urgency.WRITE) - now))
    assert opens_in <= timedelta(0)
    kept = await rows.change(lambda budget, now: (budget, budget))

    assert isinstance(kept, Budget)
    assert kept.spent.total == 1
    assert log.getvalue().count("record_set_aside") == 1
