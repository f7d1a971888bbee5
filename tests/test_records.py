"""The tables on a real SQLite file: who may submit, which steps exist, and that only a fresh copy moves anything."""

from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from sqlite3 import connect
from typing import cast

import pytest

from bot.catalog import Catalog, CatalogStatus, CredentialStatus, Snapshot
from bot.database.sqlite import SqliteDatabase
from bot.errors import DatabaseUnavailable
from bot.records import Acceptance, Changes, Records, Verdict
from bot.submission import (
    ENDINGS,
    STEPS,
    BucketKey,
    Confirmation,
    NewSubmission,
    Opening,
    SealedResponseUrl,
    SealedToken,
    State,
    Submission,
    TokenKind,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ACCOUNT = "5a4db0c0000000000000000000000001"
LAKE = BucketKey(account_id=ACCOUNT, bucket="lake")
POND = BucketKey(account_id=ACCOUNT, bucket="pond")
OPENING = Opening(nonce="nonce-1", team_id="T1", user_id="U1", expires_at=NOW + timedelta(hours=1))
NEW = NewSubmission(
    id="V1",
    team_id="T1",
    user_id="U1",
    key=LAKE,
    channel_id="C1",
    reason="made up",
    token_kind=TokenKind.ACCOUNT,
    last_four="madeup"[-4:],
    sealed_token=SealedToken("sealed.v1.aaaa.MADEUPTOKEN1"),
    sealed_response_url=SealedResponseUrl("sealed.v1.bbbb.MADEUPURL1"),
    accepted_at=NOW,
    expires_at=NOW + timedelta(hours=1),
)
AGAIN = replace(NEW, sealed_token=SealedToken("sealed.v1.aaaa.MADEUPTOKEN2"), accepted_at=NOW + timedelta(seconds=9))
WAYS = {
    State.ACCEPTED: (),
    State.STORING: (State.STORING,),
    State.CONFIRMING: (State.STORING, State.CONFIRMING),
}
"""How a submission comes to each state that is no ending."""


async def _accept(records: Records, new: NewSubmission = NEW) -> Submission:
    """Record a submission with an opening of its own."""
    nonce = f"nonce of {new.id}"
    await records.add_opening(replace(OPENING, nonce=nonce))
    assert (await records.accept(new, nonce)).verdict is Verdict.RECORDED
    return await _read(records, new.id)


async def _read(records: Records, submission_id: str = "V1") -> Submission:
    found = await records.find(submission_id)
    assert found is not None
    return found


async def _bring_to(records: Records, state: State, new: NewSubmission = NEW) -> Submission:
    """Record a submission and take it to a state by steps that exist."""
    submission = await _accept(records, new)
    before = next((known for known in WAYS if state in STEPS[known]), State.ACCEPTED)
    for step in WAYS[state if state in WAYS else before]:
        submission = _moved(await records.move(submission, step))
    return submission if state in WAYS else _moved(await records.end(submission, state, NOW))


def _moved(submission: Submission | None) -> Submission:
    assert submission is not None
    return submission


async def test_what_is_recorded_is_what_was_submitted(records: Records) -> None:
    """Every field comes back, times with their zone."""
    submission = await _accept(records)
    for field in fields(NEW):
        assert getattr(submission, field.name) == getattr(NEW, field.name)
    assert (submission.state, submission.attempts, submission.possibly_written) == (State.ACCEPTED, 0, False)
    assert submission.next_attempt_at == NOW
    assert not submission.is_ended


async def test_times_of_another_zone_are_the_same_moments(records: Records) -> None:
    """SQLite knows no zones, so all are kept as UTC."""
    there = timezone(timedelta(hours=5, minutes=30))
    submission = await _accept(records, replace(NEW, accepted_at=NOW.astimezone(there)))
    assert submission.accepted_at == NOW
    assert submission.accepted_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("nonce", "new", "verdict"),
    [
        pytest.param("nonce-2", NEW, Verdict.UNKNOWN_OPENING, id="a nonce that nobody gave out"),
        pytest.param("", NEW, Verdict.UNKNOWN_OPENING, id="no nonce"),
        pytest.param("NONCE-1", NEW, Verdict.UNKNOWN_OPENING, id="another spelling"),
        pytest.param("nonce-1", replace(NEW, user_id="U2"), Verdict.SOMEBODY_ELSES, id="somebody else's"),
        pytest.param("nonce-1", replace(NEW, team_id="T2"), Verdict.SOMEBODY_ELSES, id="another workspace's"),
        pytest.param(
            "nonce-1", replace(NEW, accepted_at=OPENING.expires_at), Verdict.TOO_OLD, id="expired at this moment"
        ),
        pytest.param(
            "nonce-1", replace(NEW, accepted_at=NOW + timedelta(days=1)), Verdict.TOO_OLD, id="expired long ago"
        ),
        pytest.param(
            "nonce-1",
            replace(NEW, user_id="U2", accepted_at=NOW + timedelta(days=1)),
            Verdict.SOMEBODY_ELSES,
            id="somebody else's and expired",
        ),
    ],
)
async def test_a_view_without_a_fitting_opening_is_refused(
    records: Records, nonce: str, new: NewSubmission, verdict: Verdict
) -> None:
    """Nothing is recorded, and the opening can still be used by the one whom it belongs to."""
    await records.add_opening(OPENING)
    assert await records.accept(new, nonce) == Acceptance(verdict=verdict)
    assert await records.find("V1") is None
    assert (await records.accept(NEW, "nonce-1")).verdict is Verdict.RECORDED


async def test_an_opening_is_used_once(records: Records) -> None:
    """A second view with the same nonce is refused, also when the same person sends it."""
    await records.add_opening(OPENING)
    await records.accept(NEW, "nonce-1")
    assert await records.accept(replace(NEW, id="V2"), "nonce-1") == Acceptance(verdict=Verdict.USED)
    assert await records.find("V2") is None


async def test_a_repeated_submit_replaces_what_was_not_sent(records: Records) -> None:
    """The last pasted token counts, with everything else that was in the form."""
    first = await _accept(records)
    changed = replace(AGAIN, key=POND, channel_id="C2", reason="another", last_four="four")
    acceptance = await records.accept(changed, "nonce of V1")
    assert acceptance.verdict is Verdict.REPLACED
    assert acceptance.submission == await _read(records)
    assert acceptance.submission == replace(
        first,
        key=POND,
        channel_id="C2",
        reason="another",
        last_four="four",
        sealed_token=AGAIN.sealed_token,
        accepted_at=AGAIN.accepted_at,
        next_attempt_at=AGAIN.accepted_at,
    )
    assert await records.runnable(LAKE) == []


@pytest.mark.parametrize("state", [state for state in State if state is not State.ACCEPTED])
async def test_a_repeated_submit_leaves_alone_what_is_under_way(records: Records, state: State) -> None:
    """From the moment the token may have been sent, the answer is how it stands, and nothing is overwritten."""
    submission = await _bring_to(records, state)
    acceptance = await records.accept(AGAIN, "nonce of V1")
    assert acceptance == Acceptance(verdict=Verdict.ALREADY_UNDER_WAY, submission=submission)
    assert await _read(records) == submission


async def test_a_repeated_submit_is_answered_after_the_opening_expired(records: Records) -> None:
    """Nobody is told that nothing was sent when the first Submit was recorded in time."""
    submission = await _bring_to(records, State.STORED)
    late = replace(AGAIN, accepted_at=NOW + timedelta(days=1))
    assert await records.accept(late, "nonce of V1") == Acceptance(
        verdict=Verdict.ALREADY_UNDER_WAY, submission=submission
    )


@pytest.mark.parametrize("pasted_earlier", [timedelta(microseconds=1), timedelta(seconds=2)])
async def test_an_older_submit_that_arrives_later_replaces_nothing(records: Records, pasted_earlier: timedelta) -> None:
    """It was pasted before and only took longer on its way: the last pasted token counts, not the last that came."""
    submission = await _accept(records)
    older = replace(AGAIN, accepted_at=NOW - pasted_earlier)
    acceptance = await records.accept(older, "nonce of V1")
    assert acceptance == Acceptance(verdict=Verdict.ALREADY_UNDER_WAY, submission=submission)
    assert await _read(records) == submission


async def test_of_two_submits_of_one_moment_the_later_one_counts(records: Records) -> None:
    """Clocks tick coarsely; then the order of arrival is all there is."""
    await _accept(records)
    assert (await records.accept(replace(AGAIN, accepted_at=NOW), "nonce of V1")).verdict is Verdict.REPLACED
    assert (await _read(records)).sealed_token == AGAIN.sealed_token


async def test_a_replaced_submission_takes_its_new_place_in_the_order(records: Records) -> None:
    """What somebody else pasted meanwhile is older now: the slot ends with what was pasted last."""
    await _accept(records)
    await _accept(records, replace(NEW, id="V2", accepted_at=NOW + timedelta(seconds=3)))
    assert [submission.id for submission in await records.runnable(LAKE)] == ["V1"]
    await records.accept(AGAIN, "nonce of V1")
    assert [submission.id for submission in await records.runnable(LAKE)] == ["V2"]


async def test_submissions_of_one_moment_keep_the_order_of_their_arrival(records: Records) -> None:
    """Nobody overtakes by the accident of an id."""
    for name in ("V9", "V1", "V5"):
        await _accept(records, replace(NEW, id=name))
    assert [submission.id for submission in await records.runnable(LAKE)] == ["V9"]


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        pytest.param(State.ACCEPTED, Verdict.REPLACED, id="not sent yet"),
        pytest.param(State.STORING, Verdict.ALREADY_UNDER_WAY, id="under way"),
        pytest.param(State.STORED, Verdict.ALREADY_UNDER_WAY, id="ended"),
    ],
)
async def test_a_repeated_submit_is_answered_after_the_opening_was_forgotten(
    records: Records, state: State, verdict: Verdict
) -> None:
    """The bot still knows the submission: "does not know this form, nothing was sent" would be a lie."""
    await _bring_to(records, state)
    await records.forget_openings(NOW + timedelta(days=1))
    acceptance = await records.accept(AGAIN, "nonce of V1")
    assert acceptance == Acceptance(verdict=verdict, submission=await _read(records))
    assert acceptance.submission is not None
    assert acceptance.submission.state is state


@pytest.mark.parametrize("changes", [{"user_id": "U2"}, {"team_id": "T2"}], ids=["person", "workspace"])
async def test_nobody_else_repeats_a_submit(records: Records, changes: dict[str, str]) -> None:
    """A view's id is no key to somebody's submission, with the opening or without it."""
    submission = await _accept(records)
    forged = replace(AGAIN, **changes)  # type: ignore[arg-type]  # both are texts
    assert await records.accept(forged, "nonce of V1") == Acceptance(verdict=Verdict.SOMEBODY_ELSES)
    await records.forget_openings(NOW + timedelta(days=1))
    assert await records.accept(forged, "nonce of V1") == Acceptance(verdict=Verdict.UNKNOWN_OPENING)
    assert await _read(records) == submission


async def test_accepting_is_all_or_nothing(records: Records) -> None:
    """When the submission cannot be recorded, its opening is not used up either."""
    await records.add_opening(OPENING)
    with pytest.raises(DatabaseUnavailable):
        await records.accept(replace(NEW, channel_id=cast("str", None)), "nonce-1")
    assert await records.find("V1") is None
    assert (await records.accept(replace(NEW, id="V2"), "nonce-1")).verdict is Verdict.RECORDED


@pytest.mark.parametrize("state", list(State))
async def test_only_the_steps_of_the_table_are_taken(records: Records, state: State) -> None:
    """A step that the table does not know is a fault of ours: it raises, and changes nothing."""
    for to in State:
        submission = await _bring_to(records, state, replace(NEW, id=f"to {to}"))
        step = records.end(submission, to, NOW) if to in ENDINGS else records.move(submission, to)
        if to in STEPS.get(state, ()) or (to is state and state not in ENDINGS):
            assert _moved(await step).state is to
            continue
        with pytest.raises(ValueError, match="no step leads"):
            await step
        assert await _read(records, submission.id) == submission


async def test_end_takes_endings_only(records: Records) -> None:
    """A state that is no ending would lose its token."""
    submission = await _accept(records)
    with pytest.raises(ValueError, match="no ending"):
        await records.end(submission, State.STORING, NOW)
    assert (await _read(records)).sealed_token == NEW.sealed_token


async def _move_on(records: Records, fresh: Submission) -> None:
    await records.move(fresh, State.CONFIRMING)


async def _try_again(records: Records, fresh: Submission) -> None:
    await records.move(fresh, State.STORING, Changes(attempts=fresh.attempts + 1))


async def _end(records: Records, fresh: Submission) -> None:
    await records.end(fresh, State.FAILED, NOW)


MADE_STALE = [
    pytest.param(_move_on, id="it moved on"),
    pytest.param(_try_again, id="it was tried again"),
    pytest.param(_end, id="it ended"),
]


@pytest.mark.parametrize("make_stale", MADE_STALE)
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda records, stale: records.move(stale, State.CONFIRMING), id="move"),
        pytest.param(lambda records, stale: records.move(stale, State.STORING), id="stay"),
        pytest.param(lambda records, stale: records.end(stale, State.UNCERTAIN, NOW), id="end"),
        pytest.param(
            lambda records, stale: records.postpone_report(stale, NOW + timedelta(days=1), forget_response_url=True),
            id="postpone",
        ),
        pytest.param(lambda records, stale: records.mark_reported(stale, NOW), id="mark"),
    ],
)
async def test_a_stale_copy_never_moves_anything(
    records: Records,
    make_stale: Callable[[Records, Submission], Awaitable[None]],
    use: Callable[[Records, Submission], Awaitable[Submission | None]],
) -> None:
    """Who read before somebody else wrote is told None, and the row is as the other one left it."""
    stale = await _bring_to(records, State.STORING)
    await make_stale(records, stale)
    standing = await _read(records)
    assert await use(records, stale) is None
    assert await _read(records) == standing


async def test_a_copy_from_before_a_replacement_never_sends_the_old_token(records: Records) -> None:
    """A delivery that read the first Submit cannot take the second one's place."""
    stale = await _accept(records)
    await records.accept(AGAIN, "nonce of V1")
    assert await records.move(stale, State.STORING) is None
    assert await records.end(stale, State.DENIED, NOW) is None
    assert (await _read(records)).sealed_token == AGAIN.sealed_token


@pytest.mark.parametrize("ending", sorted(ENDINGS))
async def test_every_ending_erases_the_sealed_token(records: Records, database_path: Path, ending: State) -> None:
    """In the same transaction: nobody ever finds an ended submission that still has one."""
    submission = await _bring_to(records, next(state for state in WAYS if ending in STEPS[state]))
    ended = _moved(await records.end(submission, ending, NOW + timedelta(seconds=5), Changes(error_code="expired")))
    with closing(connect(database_path)) as other:
        seen = other.execute("SELECT state, sealed_token, error_code FROM submissions").fetchall()
    assert seen == [(ending.value, None, "expired")]
    assert (ended.sealed_token, ended.ended_at, ended.next_attempt_at) == (None, *[NOW + timedelta(seconds=5)] * 2)
    assert ended.is_ended
    assert ended.sealed_response_url == NEW.sealed_response_url
    assert ended == await _read(records)


async def test_changes_are_kept_and_what_is_not_named_stays(records: Records) -> None:
    """None leaves a column as it is; False and 0 do not."""
    changes = Changes(
        next_attempt_at=NOW + timedelta(seconds=1),
        attempts=1,
        possibly_written=True,
        confirm_until=NOW + timedelta(seconds=15),
        error_code="throttled",
        cloudflare_code=971,
        cf_ray="ray-1",
        credential_before=CredentialStatus.PRESENT,
        confirmation=Confirmation.ABSENT,
    )
    storing = _moved(await records.move(await _accept(records), State.STORING, changes))
    assert Changes(**{field.name: getattr(storing, field.name) for field in fields(Changes)}) == changes
    again = _moved(await records.move(storing, State.STORING, Changes(possibly_written=False)))
    assert again == replace(storing, possibly_written=False)


async def test_the_code_and_ray_of_an_earlier_error_do_not_stay_with_a_later_one(records: Records) -> None:
    """Support would be asked about a request that has nothing to do with the ending."""
    storing = await _bring_to(records, State.STORING)
    throttled = Changes(error_code="throttled", cloudflare_code=971, cf_ray="ray-1")
    storing = _moved(await records.move(storing, State.STORING, throttled))
    ended = _moved(await records.end(storing, State.FAILED, NOW, Changes(error_code="cloudflare_unreachable")))
    assert (ended.error_code, ended.cloudflare_code, ended.cf_ray) == ("cloudflare_unreachable", None, None)


async def test_runnable_is_what_is_untold_and_the_oldest_that_has_not_ended(records: Records) -> None:
    """One at a time is delivered, in the order of the Submits; every result that is not told yet waits beside it."""
    submissions = [await _accept(records, replace(NEW, id=f"V{number}")) for number in range(5)]
    await _accept(records, replace(NEW, id="other bucket", key=POND))
    await _accept(records, replace(NEW, id="other account", key=replace(LAKE, account_id="0" * 32)))

    async def runnable() -> list[str]:
        return [submission.id for submission in await records.runnable(LAKE)]

    assert await runnable() == ["V0"]
    for submission in submissions[:2]:
        await records.end(submission, State.DENIED, NOW)
    assert await runnable() == ["V0", "V1", "V2"]
    await records.mark_reported(await _read(records, "V0"), NOW)
    assert await runnable() == ["V1", "V2"]
    await records.move(submissions[2], State.STORING)
    assert await runnable() == ["V1", "V2"]
    await records.end(await _read(records, "V2"), State.FAILED, NOW)
    assert await runnable() == ["V1", "V2", "V3"]
    assert await records.runnable(replace(LAKE, bucket="nowhere")) == []


async def test_unreported_keys_are_the_buckets_with_something_to_do(records: Records) -> None:
    """Each once; a bucket whose results are all told is none of them."""
    assert await records.unreported_keys() == []
    told = await _accept(records)
    await _accept(records, replace(NEW, id="V2", key=POND))
    await _accept(records, replace(NEW, id="V3", key=POND))
    await records.mark_reported(_moved(await records.end(told, State.DENIED, NOW)), NOW)
    assert await records.unreported_keys() == [POND]


async def test_the_response_url_goes_with_the_report(records: Records) -> None:
    """It is a secret of its own: erased when the message is out, or when it is too old to be of use."""
    ended = _moved(await records.end(await _accept(records), State.DENIED, NOW))
    later = NOW + timedelta(minutes=3)
    await records.postpone_report(ended, later, forget_response_url=False)
    assert await _read(records) == replace(ended, next_attempt_at=later)
    await records.postpone_report(ended, later, forget_response_url=True)
    assert (await _read(records)).sealed_response_url is None

    other = _moved(await records.end(await _accept(records, replace(NEW, id="V2")), State.DENIED, NOW))
    await records.mark_reported(other, later)
    reported = await _read(records, "V2")
    assert (reported.sealed_response_url, reported.reported_at) == (None, later)


async def test_keys_are_in_use_as_long_as_something_sealed_is_needed(records: Records) -> None:
    """The token's key until the ending, the response URL's key until the report."""
    submission = await _accept(records)
    await _accept(records, replace(NEW, id="V2", sealed_response_url=None, sealed_token=SealedToken("sealed.v1.cc.x")))
    assert await records.key_ids_in_use() == {"aaaa", "bbbb", "cc"}
    ended = _moved(await records.end(submission, State.DENIED, NOW))
    assert await records.key_ids_in_use() == {"bbbb", "cc"}
    await records.mark_reported(ended, NOW)
    assert await records.key_ids_in_use() == {"cc"}


async def test_old_openings_are_forgotten(records: Records) -> None:
    """Only those that expired before the given moment."""
    await records.add_opening(OPENING)
    await records.forget_openings(OPENING.expires_at)
    assert (await records.accept(replace(NEW, user_id="U2"), "nonce-1")).verdict is Verdict.SOMEBODY_ELSES
    await records.forget_openings(OPENING.expires_at + timedelta(seconds=1))
    assert (await records.accept(NEW, "nonce-1")).verdict is Verdict.UNKNOWN_OPENING


def _catalog(bucket: str, credential: CredentialStatus = CredentialStatus.ABSENT) -> Catalog:
    return Catalog(bucket=bucket, status=CatalogStatus.ACTIVE, credential_status=credential)


async def test_a_snapshot_replaces_the_one_before(records: Records) -> None:
    """Of this account only; sorted by bucket, and None before anybody asked."""
    assert await records.snapshot(ACCOUNT) is None
    other = Snapshot(catalogs=(_catalog("theirs"),), refreshed_at=NOW)
    await records.save_snapshot("0" * 32, other)
    assert await records.snapshot(ACCOUNT) is None
    await records.save_snapshot(ACCOUNT, Snapshot(catalogs=(_catalog("b"), _catalog("a")), refreshed_at=NOW))
    assert await records.snapshot(ACCOUNT) == Snapshot(catalogs=(_catalog("a"), _catalog("b")), refreshed_at=NOW)
    empty = Snapshot(catalogs=(), refreshed_at=NOW + timedelta(minutes=5))
    await records.save_snapshot(ACCOUNT, empty)
    assert await records.snapshot(ACCOUNT) == empty
    assert await records.snapshot("0" * 32) == other


async def test_one_catalog_of_a_snapshot_is_corrected(records: Records) -> None:
    """The others, and the age of the snapshot, stay; a catalog that it did not have is added."""
    await records.save_snapshot(ACCOUNT, Snapshot(catalogs=(_catalog("a"), _catalog("c")), refreshed_at=NOW))
    await records.save_catalog(ACCOUNT, _catalog("c", CredentialStatus.PRESENT))
    await records.save_catalog(ACCOUNT, _catalog("b"))
    expected = (_catalog("a"), _catalog("b"), _catalog("c", CredentialStatus.PRESENT))
    assert await records.snapshot(ACCOUNT) == Snapshot(catalogs=expected, refreshed_at=NOW)


async def test_a_snapshot_is_replaced_wholly_or_not_at_all(records: Records) -> None:
    """A list that names a bucket twice leaves the old one standing."""
    good = Snapshot(catalogs=(_catalog("a"),), refreshed_at=NOW)
    await records.save_snapshot(ACCOUNT, good)
    with pytest.raises(DatabaseUnavailable):
        await records.save_snapshot(ACCOUNT, Snapshot(catalogs=(_catalog("b"), _catalog("b")), refreshed_at=NOW))
    assert await records.snapshot(ACCOUNT) == good


async def test_ping_returns_when_the_database_answers(records: Records, database: SqliteDatabase) -> None:
    """It says nothing else."""
    await records.ping()


async def test_nobody_is_found_under_an_unknown_id(records: Records) -> None:
    """A submission that does not exist is None, not an error."""
    assert await records.find("V9") is None
