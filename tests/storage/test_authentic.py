"""Who can write to the database cannot make the bot do, send or announce anything."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.model.move import Changes, Move
from bot.model.submission import Opening, Pending, Sealed, SealedToken, State, Submission
from bot.sealing.authenticity import Authenticity
from bot.storage.audit import AuditChain
from bot.storage.database import Database
from bot.storage.submissions import Submissions
from tests.make import CHAIN, LAKE, NOW, make_new_submission
from tests.storage.conftest import Query

NEW = make_new_submission(sealed=Sealed(token=SealedToken("sealed.v1.0000000000facade.ONE")))
STRANGER = AuditChain(Authenticity(["the key of somebody else, who can write to the database"]))


@pytest.fixture
def submissions(tables: Database) -> Submissions:
    """Return the submissions of a worker."""
    return Submissions(tables, CHAIN)


async def _accept(submissions: Submissions, nonce: str = "nonce") -> None:
    await submissions.add_opening(
        Opening(nonce=nonce, team_id=NEW.team_id, user_id=NEW.user_id, expires_at=NOW + timedelta(hours=1))
    )
    assert (await submissions.accept(NEW, nonce)).is_recorded


async def _work(submissions: Submissions) -> list[Pending]:
    return await submissions.work(await submissions.take(LAKE))


async def _move(submissions: Submissions, to: State, **changes: object) -> Submission:
    """Make a move as a delivery does."""
    lease = await submissions.take(LAKE)
    [pending] = await submissions.work(lease)
    move = Move(to=to, at=NOW, changes=Changes(**changes))  # type: ignore[arg-type]  # of its fields
    [moved] = await submissions.apply(pending.submission, move, lease)
    return moved


_CHANGES = {
    "another person": "user_id = 'U0GRACE01'",
    "another workspace": "team_id = 'T0OTHER'",
    "another channel": "channel_id = 'C0ANALYTX'",
    "a write instead of a check": "task = CASE task WHEN 'store' THEN 'check' ELSE 'store' END",
    "another reason": "reason = 'approved by the boss'",
    "another mask": "last_four = 'XXXX'",
    "another token": "sealed_token = 'sealed.v1.0000000000facade.TWO'",
    "another token and its digest": (
        "sealed_token = 'sealed.v1.0000000000facade.TWO', token_digest = "
        "'11b3d5d9bc8a2e1a4d3b3a3ee0a2a4cf0a5f37d8a0f6f6f8d0ab0b2a70b3d7d5'"
    ),
    "a response URL": "sealed_response_url = 'sealed.v1.0000000000facade.URL'",
    "a later expiry": "expires_at = accepted_at, accepted_at = sent_at, sent_at = expires_at",
    "another fingerprint": "fingerprint = '0'",
    "no form": "nonce = ''",
    "from before there were signatures": "nonce = 'adopted'",
    "no signature": "signature = NULL",
    "garbage for a signature": "signature = 'v1.x.y'",
    "an ending that nobody reached": "state = 'stored', ended_at = accepted_at, confirmation = 'valid'",
    "a write that never happened": "state = 'confirming'",
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
async def test_a_changed_row_is_set_aside(
    submissions: Submissions, query: Query, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is opened, sent or announced for it; the log names the row, and says who acts."""
    await _accept(submissions)
    assert len(await _work(submissions)) == 1
    query(f"UPDATE submissions SET {change}")  # noqa: S608 - our own words
    assert await _work(submissions) == []
    assert "record_not_authentic" in capsys.readouterr().out


@pytest.mark.parametrize("changes", ["team_id = 'T0OTHER'", "user_id = 'U0GRACE01'", "signature = NULL"])
async def test_a_form_that_nobody_opened_is_none(submissions: Submissions, query: Query, changes: str) -> None:
    """The opening is signed as well; a row without one is not what a gateway records."""
    await _accept(submissions)
    query(f"UPDATE openings SET {changes}")  # noqa: S608 - our own words
    assert await _work(submissions) == []


async def test_the_opening_stays_as_long_as_it_is_needed(submissions: Submissions) -> None:
    """A submission may wait for longer than its form was valid."""
    await _accept(submissions)
    await submissions.forget_openings(NOW + timedelta(days=1))
    assert len(await _work(submissions)) == 1


async def test_a_row_of_another_installation_is_set_aside(tables: Database, submissions: Submissions) -> None:
    """Whoever can write to the database can seal and sign, but not with this key."""
    await _accept(Submissions(tables, STRANGER))
    assert await _work(submissions) == []


async def test_what_has_ended_cannot_be_put_back(submissions: Submissions, query: Query) -> None:
    """Its signature is real, and the audit knows that it ended: a denied token is not stored by a copy of its row."""
    await _accept(submissions)
    await _move(submissions, State.DENIED)
    query("UPDATE submissions SET state = 'accepted', ended_at = NULL, sealed_token = 'sealed.v1.0000000000facade.ONE'")
    assert await _work(submissions) == []


_RESULTS = {
    "another ending": "state = 'stored'",
    "another token": "token_id = 'ffffffffffffffffffffffffffffffff'",
    "another word for the slot": "confirmation = 'valid'",
    "another cause": "error_code = 'token_invalid'",
    "other words of Cloudflare's": "cloudflare_message = 'All is well.'",
    "another time": "ended_at = expires_at",
    "superseded by somebody": "superseded_by = 'U0GRACE01'",
}


@pytest.mark.parametrize("change", _RESULTS.values(), ids=_RESULTS)
async def test_no_result_is_posted_that_is_not_the_one(submissions: Submissions, query: Query, change: str) -> None:
    """What the message would say is part of what the audit recorded."""
    await _accept(submissions)
    await _move(submissions, State.FAILED)
    assert len(await _work(submissions)) == 1
    query(f"UPDATE submissions SET {change}")  # noqa: S608 - our own words
    assert await _work(submissions) == []


async def test_what_is_written_goes_on_to_be_confirmed(submissions: Submissions) -> None:
    """The audit has the entry that the state needs."""
    await _accept(submissions)
    await _move(submissions, State.VERIFYING)
    await _move(submissions, State.STORING, possibly_written=True)
    await _move(submissions, State.CONFIRMING, confirm_until=NOW)
    assert len(await _work(submissions)) == 1


@pytest.mark.parametrize("event", ["written", "ended"])
async def test_an_entry_that_nobody_signed_proves_nothing(
    submissions: Submissions, query: Query, event: str, engine: str
) -> None:
    """An attacker who writes the state writes the entry as well, but cannot sign it."""
    await _accept(submissions)
    state = {"written": "confirming", "ended": "stored"}[event]
    query(f"UPDATE submissions SET state = '{state}'")  # noqa: S608 - our own words
    query(f"UPDATE audit SET event = '{event}', details = ''")  # noqa: S608 - our own words
    assert await _work(submissions) == []


async def test_a_forged_row_holds_back_no_other(submissions: Submissions, query: Query) -> None:
    """It looks newer, and does not count as the newest."""
    await _accept(submissions)
    newer = replace(NEW, id="V2", sent_at=NOW + timedelta(minutes=1))
    assert (await submissions.add(newer)).is_recorded
    query("UPDATE submissions SET signature = NULL WHERE id = 'V2'")
    assert [each.submission.id for each in await _work(submissions)] == [NEW.id]


_NOT_SIGNED_YET = {
    "the state": "state = 'verifying'",
    "when it was checked, and what was found": "checked_at = accepted_at, token_id = 'f', token_owner = 'user'",
    "when it is due": "next_attempt_at = expires_at",
    "who decided": "decided_by = 'U0GRACE01'",
    "where an approver is asked": "approval_channel = 'C0ANALYTX'",
}


@pytest.mark.parametrize("change", _NOT_SIGNED_YET.values(), ids=_NOT_SIGNED_YET)
async def test_what_only_the_way_there_says_is_believed(submissions: Submissions, query: Query, change: str) -> None:
    """The threat model says so: until the end, nothing signs what a delivery notes. What it asks for stays the same."""
    await _accept(submissions)
    query(f"UPDATE submissions SET {change}")  # noqa: S608 - our own words
    [pending] = await _work(submissions)
    assert (pending.submission.user_id, pending.submission.key) == (NEW.user_id, NEW.key)
    assert (pending.submission.channel_id, pending.sealed) == (NEW.channel_id, NEW.sealed)


async def test_one_whose_ending_was_removed_comes_back_and_leaves_a_gap(submissions: Submissions, query: Query) -> None:
    """The threat model says so: until it expires, with the audit's entry gone too. `audit verify` names the gap."""
    await _accept(submissions)
    newer = replace(NEW, id="V2", sent_at=NOW + timedelta(minutes=1))
    await _move(submissions, State.DENIED)
    assert (await submissions.add(newer)).is_recorded
    query("DELETE FROM audit WHERE event = 'ended'")
    query("UPDATE submissions SET state = 'accepted', ended_at = NULL, sealed_token = 'sealed.v1.0000000000facade.ONE'")
    assert NEW.id in [each.submission.id for each in await _work(submissions)]
    numbers = [number for (number,) in query("SELECT number FROM audit ORDER BY number")]
    assert numbers == [1, 3]
