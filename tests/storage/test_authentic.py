"""Who can write to the database cannot make the bot do, send or announce anything."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.model.errors import RecordForged
from bot.model.move import Move
from bot.model.submission import Opening, Pending, Sealed, SealedToken, State
from bot.sealing.authenticity import Authenticity
from bot.storage.accepting import Verdict
from bot.storage.audit import AuditChain
from bot.storage.database import Database
from bot.storage.submissions import Submissions
from tests.make import CHAIN, LAKE, NOW, make_new_submission
from tests.storage.conftest import Query, move_on

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
        "'f9bd43b98af0855559e9af803a58fdfb6accc25b843f76a10f331e1fd7e6c579'"
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
    await move_on(submissions, State.DENIED)
    query("UPDATE submissions SET state = 'accepted', ended_at = NULL, sealed_token = 'sealed.v1.0000000000facade.ONE'")
    assert await _work(submissions) == []


_RESULTS = {
    "another ending": "state = 'stored'",
    "another token": ("token_id = 'ffffffffffffffffffffffffffffffff', token_owner = 'user', checked_at = accepted_at"),
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
    await move_on(submissions, State.FAILED)
    assert len(await _work(submissions)) == 1
    query(f"UPDATE submissions SET {change}")  # noqa: S608 - our own words
    assert await _work(submissions) == []


async def test_what_is_written_goes_on_to_be_confirmed(submissions: Submissions) -> None:
    """The audit has the entry that the state needs."""
    await _accept(submissions)
    await move_on(submissions, State.VERIFYING)
    await move_on(submissions, State.STORING, possibly_written=True)
    await move_on(submissions, State.CONFIRMING, confirm_until=NOW)
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


_PROGRESS = {
    "checked": "checked_at = accepted_at, token_id = 'ffffffffffffffffffffffffffffffff', token_owner = 'user'",
    "to be checked no more": "checked_at = expires_at",
    "approved by somebody": "decided_by = 'U0GRACE01'",
    "asked about elsewhere": "approval_channel = 'C0ANALYTX'",
    "tried before": "attempts = 1",
    "refused before": "error_code = 'token_invalid', cloudflare_message = 'All is well.'",
    "being checked": "state = 'verifying'",
    "waiting for an approver": "state = 'awaiting_approval', approval_channel = 'C0ANALYTX'",
    "changed more often": "revision = revision + 1",
    "not brought there by the bot": "progress = NULL",
    "signed as a submission": "progress = signature",
}


@pytest.mark.parametrize("change", _PROGRESS.values(), ids=_PROGRESS)
async def test_nothing_has_come_further_than_the_bot_brought_it(
    submissions: Submissions, query: Query, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checks that were not made, and an approver who was not asked, would be believed, and named in messages."""
    await _accept(submissions)
    query(f"UPDATE submissions SET {change}")  # noqa: S608 - our own words
    assert await _work(submissions) == []
    assert "record_not_authentic" in capsys.readouterr().out
    with pytest.raises(RecordForged):
        await submissions.find(NEW.id)


_MEANWHILE = {
    "another person": "user_id = 'U0GRACE01'",
    "another token": "token_id = 'ffffffffffffffffffffffffffffffff', token_owner = 'user', checked_at = accepted_at",
    "an approver": "decided_by = 'U0GRACE01'",
}


@pytest.mark.parametrize("change", _MEANWHILE.values(), ids=_MEANWHILE)
@pytest.mark.parametrize("to", [State.VERIFYING, State.FAILED])
async def test_what_is_changed_while_the_bot_works_is_not_signed(
    submissions: Submissions, query: Query, change: str, to: State
) -> None:
    """Between reading and recording, there is time; nothing of such a move is recorded, in the audit neither."""
    await _accept(submissions)
    lease = await submissions.take(LAKE)
    [pending] = await submissions.work(lease)
    query(f"UPDATE submissions SET {change}")  # noqa: S608 - our own words
    before = query("SELECT * FROM audit")
    with pytest.raises(RecordForged):
        await submissions.apply(pending.submission, Move(to=to, at=NOW), lease)
    assert query("SELECT state FROM submissions") == [("accepted",)]
    assert query("SELECT * FROM audit") == before


async def test_a_changed_one_is_superseded_without_a_word(submissions: Submissions, query: Query) -> None:
    """It must not be sent after the newer one, but what its row says is not announced."""
    await _accept(submissions)
    newer = replace(NEW, id="V2", sent_at=NOW + timedelta(minutes=1))
    assert (await submissions.add(newer)).is_recorded
    query(f"UPDATE submissions SET decided_by = 'U0GRACE01' WHERE id = '{NEW.id}'")  # noqa: S608 - our own words
    lease = await submissions.take(LAKE)
    [newest] = await submissions.work(lease)
    going = newest.submission
    for to in (State.VERIFYING, State.STORING, State.CONFIRMING):
        [going] = await submissions.apply(going, Move(to=to, at=NOW), lease)
    assert query(f"SELECT state, sealed_token FROM submissions WHERE id = '{NEW.id}'") == [("superseded", None)]  # noqa: S608 - our own words
    assert query(f"SELECT event FROM audit WHERE submission_id = '{NEW.id}'") == [("submitted",)]  # noqa: S608 - our own words
    assert [each.submission.id for each in await submissions.work(lease)] == ["V2"]


async def test_a_repeated_submit_does_not_make_a_changed_one_authentic(submissions: Submissions, query: Query) -> None:
    """Else the bot would sign what somebody else wrote into the row."""
    await _accept(submissions)
    query("UPDATE submissions SET decided_by = 'U0GRACE01'")
    again = replace(NEW, sent_at=NOW + timedelta(seconds=1), accepted_at=NOW + timedelta(seconds=1))
    assert (await submissions.accept(again, "nonce")).verdict is Verdict.ALREADY_UNDER_WAY
    assert await _work(submissions) == []


@pytest.mark.parametrize("how", ["state = 'uncertain'", "confirm_until = expires_at"])
async def test_a_write_that_was_never_sent_ends_no_submit(submissions: Submissions, query: Query, how: str) -> None:
    """Its person would be named as the one whose newer token is in the slot."""
    await _accept(submissions)
    query(f"UPDATE submissions SET {how}")  # noqa: S608 - our own words
    late = replace(NEW, id="V2", sent_at=NOW - timedelta(minutes=1))
    accepted = await submissions.add(late)
    assert (accepted.is_recorded, accepted.changes) == (True, ())


async def test_one_whose_ending_was_removed_comes_back_and_leaves_a_gap(
    submissions: Submissions, tables: Database, query: Query
) -> None:
    """The threat model says so: until it expires, with the audit's entry gone too. `audit verify` names the gap.

    Not in the process that saw it end.
    """
    await _accept(submissions)
    newer = replace(NEW, id="V2", sent_at=NOW + timedelta(minutes=1))
    [(progress,)] = query("SELECT progress FROM submissions")
    await move_on(submissions, State.DENIED)
    assert (await submissions.add(newer)).is_recorded
    query("DELETE FROM audit WHERE event = 'ended'")
    query(
        "UPDATE submissions SET state = 'accepted', revision = 0, ended_at = NULL, "  # noqa: S608 - our own words
        f"sealed_token = 'sealed.v1.0000000000facade.ONE', progress = '{progress}' WHERE id = '{NEW.id}'"
    )
    assert [each.submission.id for each in await _work(submissions)] == ["V2"]
    assert NEW.id in [each.submission.id for each in await _work(Submissions(tables, CHAIN))]
    numbers = [number for (number,) in query("SELECT number FROM audit ORDER BY number")]
    assert numbers == [1, 3]
