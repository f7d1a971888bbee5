"""The tables on both engines: who may submit, which steps exist, and that only a fresh copy can be moved."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from sqlalchemy import create_engine, select

from bot.cloudflare.errors import CloudflareUnreachable, Throttled, TokenInvalid
from bot.model.catalog import BucketKey, CredentialStatus, StoredCredential
from bot.model.clock import FURTHEST_BACK
from bot.model.errors import BotError, DatabaseUnavailable, LeaseLost, NeverSent, NotAllowed
from bot.model.move import Changes, Move
from bot.model.submission import (
    ENDINGS,
    FOR_THE_SLOT,
    STEPS,
    Check,
    Findings,
    Lease,
    NewSubmission,
    Opening,
    Pending,
    Sealed,
    SealedResponseUrl,
    SealedToken,
    State,
    Submission,
    Task,
    TokenFacts,
    TokenKind,
)
from bot.storage.accepting import MOST_OPEN_CHECKS, Acceptance, Verdict, accept
from bot.storage.adoption import adopt_unsigned
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.postgres import PostgresDatabase
from bot.storage.schema import SUBMISSIONS
from bot.storage.submissions import Submissions
from tests.make import CHAIN, at
from tests.postgres import delete_rows
from tests.storage.conftest import Query

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
    sealed=Sealed(
        token=SealedToken("sealed.v1.aaaaaaaaaaaaaaaa.MADEUPTOKEN1"),
        response_url=SealedResponseUrl("sealed.v1.bbbbbbbbbbbbbbbb.MADEUPURL1"),
    ),
    sent_at=NOW,
    accepted_at=NOW,
    expires_at=NOW + timedelta(hours=1),
)
AGAIN = replace(
    NEW,
    sealed=replace(NEW.sealed, token=SealedToken("sealed.v1.aaaaaaaaaaaaaaaa.MADEUPTOKEN2")),
    **at(NOW + timedelta(seconds=9)),
)
THROTTLED = Throttled(cloudflare_code=971, cloudflare_message="Slow down.", cf_ray="ray-1")
FINDINGS = Findings(
    token=TokenFacts(id="0f" * 16, owner=TokenKind.ACCOUNT, expires_at=NOW + timedelta(days=30)),
    unchecked=frozenset({Check.REACH}),
    credential=CredentialStatus.PRESENT,
)
WAYS = {
    State.ACCEPTED: (),
    State.VERIFYING: (State.VERIFYING,),
    State.MINTING: (State.MINTING,),
    State.STORING: (State.VERIFYING, State.STORING),
    State.CONFIRMING: (State.VERIFYING, State.STORING, State.CONFIRMING),
}
"""How a submission comes to each state that is no ending."""
UNSENT = {State.ACCEPTED, State.MINTING, State.MINTED, State.VERIFYING, State.AWAITING_APPROVAL}
"""The states in which nothing was sent to the slot."""
UNCHANGED = Changes()


@pytest.fixture
def submissions(tables: Database) -> Submissions:
    """Return the tables of an empty database."""
    return Submissions(tables, CHAIN)


async def _accept(submissions: Submissions, new: NewSubmission = NEW) -> Submission:
    """Record a submission with a new opening."""
    nonce = f"nonce of {new.id}"
    expires_at = new.accepted_at + timedelta(hours=1)
    await submissions.add_opening(replace(OPENING, nonce=nonce, user_id=new.user_id, expires_at=expires_at))
    assert (await submissions.accept(new, nonce)).verdict is Verdict.RECORDED
    return await _read(submissions, new.id)


async def _read(submissions: Submissions, submission_id: str = "V1") -> Submission:
    found = await submissions.find(submission_id)
    assert found is not None
    return found


async def _bring_to(submissions: Submissions, state: State, new: NewSubmission = NEW) -> Submission:
    """Record a submission and bring it to a state by allowed steps."""
    submission = await _accept(submissions, new)
    before = next((known for known in WAYS if state in STEPS[known]), State.ACCEPTED)
    for step in WAYS[state if state in WAYS else before]:
        submission = _moved(await _move(submissions, submission, step))
    return submission if state in WAYS else _moved(await _move(submissions, submission, state))


async def _storing(
    submissions: Submissions, submission_id: str, changes: Changes = UNCHANGED, because: BotError | None = None
) -> Submission:
    """Move a recorded submission to STORING."""
    verifying = _moved(await _move(submissions, await _read(submissions, submission_id), State.VERIFYING))
    return _moved(await _move(submissions, verifying, State.STORING, changes, because=because))


async def _move(
    submissions: Submissions,
    submission: Submission,
    to: State,
    changes: Changes = UNCHANGED,
    *,
    at: datetime = NOW,
    lease: Lease | None = None,
    **parts: Any,  # noqa: ANN401 - each has its own type
) -> Submission | None:
    """Make a move as a delivery does; return the moved submission, or None if the copy was stale."""
    lease = lease or await submissions.take(submission.key)
    moved = await submissions.apply(submission, Move(to=to, at=at, changes=changes, **parts), lease)
    return moved[0] if moved else None


async def _report(submissions: Submissions, submission: Submission, at: datetime = NOW) -> Submission | None:
    """Record that the result was posted."""
    return await _move(submissions, submission, submission.state, Changes(reported_at=at), at=at)


async def _sealed(submissions: Submissions, submission_id: str = "V1") -> Sealed:
    """Return the sealed values of a submission."""
    columns = (SUBMISSIONS.c.sealed_token, SUBMISSIONS.c.sealed_response_url)
    query = select(*columns).where(SUBMISSIONS.c.id == submission_id)
    row = await submissions._database.run(lambda connection: connection.execute(query).one())
    return Sealed(token=row.sealed_token, response_url=row.sealed_response_url)


async def _open(submissions: Submissions, key: BucketKey = LAKE) -> list[str]:
    """Take a bucket's lease and return its work."""
    return [pending.submission.id for pending in await submissions.work(await submissions.take(key))]


def _moved(submission: Submission | None) -> Submission:
    assert submission is not None
    return submission


async def test_what_is_recorded_is_what_was_submitted(submissions: Submissions) -> None:
    """Every field comes back, times with their zone."""
    submission = await _accept(submissions)
    for field in fields(NEW):
        if field.name not in {"sealed", "sent_at", "fingerprint"}:
            assert getattr(submission, field.name) == getattr(NEW, field.name)
    assert await _sealed(submissions) == NEW.sealed
    assert (submission.state, submission.attempts, submission.possibly_written) == (State.ACCEPTED, 0, False)
    assert submission.next_attempt_at == NOW
    assert not submission.is_ended


async def test_times_of_another_zone_are_the_same_moments(submissions: Submissions) -> None:
    """SQLite has no zones, so all times are stored in UTC."""
    there = timezone(timedelta(hours=5, minutes=30))
    submission = await _accept(submissions, replace(NEW, **at(NOW.astimezone(there))))
    assert submission.accepted_at == NOW
    assert submission.accepted_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("nonce", "new", "verdict"),
    [
        pytest.param("nonce-2", NEW, Verdict.UNKNOWN_OPENING, id="an unknown nonce"),
        pytest.param("", NEW, Verdict.UNKNOWN_OPENING, id="no nonce"),
        pytest.param("NONCE-1", NEW, Verdict.UNKNOWN_OPENING, id="another spelling"),
        pytest.param("nonce-1", replace(NEW, user_id="U2"), Verdict.SOMEBODY_ELSES, id="another person's"),
        pytest.param("nonce-1", replace(NEW, team_id="T2"), Verdict.SOMEBODY_ELSES, id="another workspace's"),
        pytest.param("nonce-1", replace(NEW, **at(OPENING.expires_at)), Verdict.TOO_OLD, id="expired at this moment"),
        pytest.param("nonce-1", replace(NEW, **at(NOW + timedelta(days=1))), Verdict.TOO_OLD, id="expired long ago"),
        pytest.param(
            "nonce-1",
            replace(NEW, user_id="U2", **at(NOW + timedelta(days=1))),
            Verdict.SOMEBODY_ELSES,
            id="another person's and expired",
        ),
    ],
)
async def test_a_view_without_a_fitting_opening_is_refused(
    submissions: Submissions, nonce: str, new: NewSubmission, verdict: Verdict
) -> None:
    """Nothing is recorded, and its owner can still use the opening."""
    await submissions.add_opening(OPENING)
    assert await submissions.accept(new, nonce) == Acceptance(verdict=verdict)
    assert await submissions.find("V1") is None
    assert (await submissions.accept(NEW, "nonce-1")).verdict is Verdict.RECORDED


async def test_an_opening_is_used_once(submissions: Submissions) -> None:
    """A second view with the same nonce is refused, even from the same person."""
    await submissions.add_opening(OPENING)
    await submissions.accept(NEW, "nonce-1")
    assert await submissions.accept(replace(NEW, id="V2"), "nonce-1") == Acceptance(verdict=Verdict.USED)
    assert await submissions.find("V2") is None


async def test_a_repeated_submit_replaces_an_unsent_one(submissions: Submissions) -> None:
    """The last pasted token counts, with everything else in the form."""
    first = await _accept(submissions)
    changed = replace(AGAIN, key=POND, channel_id="C2", reason="another", last_four="four")
    acceptance = await submissions.accept(changed, "nonce of V1")
    assert acceptance.verdict is Verdict.REPLACED
    assert acceptance.submission == await _read(submissions)
    assert acceptance.submission == replace(
        first,
        key=POND,
        channel_id="C2",
        reason="another",
        last_four="four",
        accepted_at=AGAIN.accepted_at,
        next_attempt_at=AGAIN.accepted_at,
        revision=1,
    )
    assert await _sealed(submissions) == AGAIN.sealed
    assert (await _open(submissions), await _open(submissions, POND)) == ([], ["V1"])


async def test_a_repeated_submit_forgets_what_was_found_about_the_first_token(submissions: Submissions) -> None:
    """The findings were about another token: none may be shown or recorded for the second one."""
    accepted = await _accept(submissions)
    found = Changes(
        checked_at=NOW,
        findings=FINDINGS,
        patience_until=NOW + timedelta(seconds=60),
    )
    unknown = TokenInvalid(cloudflare_code=1000, cloudflare_message="Invalid API Token", cf_ray="ray-1")
    stale = _moved(await _move(submissions, accepted, State.VERIFYING, found, because=unknown))
    acceptance = await submissions.accept(AGAIN, "nonce of V1")
    assert acceptance.verdict is Verdict.REPLACED
    expected = replace(accepted, accepted_at=AGAIN.accepted_at, next_attempt_at=AGAIN.accepted_at, revision=2)
    assert acceptance.submission == await _read(submissions) == expected
    assert await _move(submissions, stale, State.STORING, Changes(attempts=1)) is None

    await _move(submissions, await _storing(submissions, "V1"), State.CONFIRMING)
    [credential] = await Catalogs(submissions._database, ACCOUNT).stored_credentials()
    assert (credential.token_id, credential.expires_at) == (None, None)


def _check(number: int, **changes: Any) -> NewSubmission:  # noqa: ANN401 - each field has its own type
    return replace(NEW, id=f"C{number}", task=Task.CHECK, key=replace(LAKE, bucket=f"bucket-{number}"), **changes)


async def _try(submissions: Submissions, new: NewSubmission) -> Verdict:
    """Submit in a new form, or again in the same one."""
    opening = replace(OPENING, nonce=f"nonce of {new.id}", user_id=new.user_id, team_id=new.team_id)
    with suppress(DatabaseUnavailable):  # it is open already
        await submissions.add_opening(opening)
    return (await submissions.accept(new, opening.nonce)).verdict


async def test_one_person_has_a_few_checks_under_way_and_no_more(submissions: Submissions) -> None:
    """Even of many at once; one too many keeps its form, and nothing of its token is stored."""
    verdicts = await asyncio.gather(*(_try(submissions, _check(number)) for number in range(3 * MOST_OPEN_CHECKS)))
    assert verdicts.count(Verdict.RECORDED) == MOST_OPEN_CHECKS
    assert verdicts.count(Verdict.TOO_MANY_CHECKS) == 2 * MOST_OPEN_CHECKS
    refused = _check(verdicts.index(Verdict.TOO_MANY_CHECKS))
    assert await submissions.find(refused.id) is None
    ended = await _read(submissions, f"C{verdicts.index(Verdict.RECORDED)}")
    await submissions.apply(ended, Move(to=State.DENIED, at=NOW, because=NotAllowed()))
    assert await _try(submissions, refused) is Verdict.RECORDED


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param(_check(99), Verdict.TOO_MANY_CHECKS, id="another check"),
        pytest.param(replace(_check(99), task=Task.STORE), Verdict.RECORDED, id="a write"),
        pytest.param(_check(99, user_id="U2"), Verdict.RECORDED, id="another person's check"),
        pytest.param(_check(0), Verdict.REPLACED, id="the same check again"),
        pytest.param(replace(NEW, task=Task.CHECK), Verdict.TOO_MANY_CHECKS, id="a write that is made a check"),
        pytest.param(replace(_check(0), task=Task.STORE), Verdict.REPLACED, id="a check that is made a write"),
    ],
)
async def test_only_open_checks_of_one_person_are_counted(
    submissions: Submissions, new: NewSubmission, expected: Verdict
) -> None:
    """Each once, however often it is submitted; no one gets round it, and it never prevents storing."""
    await _try(submissions, NEW)
    for number in range(MOST_OPEN_CHECKS):
        assert await _try(submissions, _check(number)) is Verdict.RECORDED
    assert await _try(submissions, new) is expected


async def test_a_repeated_submit_of_an_ended_check_is_not_counted(submissions: Submissions) -> None:
    """It is answered with the state, however many checks came after it."""
    await _try(submissions, _check(99))
    await submissions.apply(await _read(submissions, "C99"), Move(to=State.DENIED, at=NOW, because=NotAllowed()))
    for number in range(MOST_OPEN_CHECKS):
        await _try(submissions, _check(number))
    assert await _try(submissions, _check(99)) is Verdict.ALREADY_UNDER_WAY


@pytest.mark.parametrize("task", [Task.CHECK, Task.ENABLE])
async def test_a_submission_without_a_form_is_recorded_once(submissions: Submissions, task: Task) -> None:
    """However often Slack repeats the button press: its id is the key. It needs no opening."""
    new = replace(NEW, task=task, sealed=Sealed())
    assert (await submissions.add(new)).is_recorded
    assert not (await submissions.add(replace(new, user_id="U2", **at(NOW + timedelta(seconds=1))))).is_recorded
    added = await _read(submissions)
    assert (added.task, added.state, added.user_id, added.accepted_at) == (task, State.ACCEPTED, "U1", NOW)
    assert (added.next_attempt_at, await _sealed(submissions)) == (NOW, Sealed())
    assert await _open(submissions) == ["V1"]


async def test_what_was_added_after_the_clock_was_set_back_is_the_newest(submissions: Submissions) -> None:
    """It takes its place as a Submit does."""
    await _accept(submissions)
    back = NOW - FURTHEST_BACK
    assert (await submissions.add(replace(NEW, id="V2", task=Task.ENABLE, sealed=Sealed(), **at(back)))).is_recorded
    assert await _open(submissions) == ["V1", "V2"]
    assert (await _read(submissions, "V2")).next_attempt_at == back


@pytest.mark.parametrize("task", list(Task))
async def test_only_a_store_can_come_too_late(submissions: Submissions, task: Task) -> None:
    """A newer token in the slot does not make a check or the enabling of a catalog pointless."""
    await _accept(submissions)
    await _confirming(submissions, "V1")
    await submissions.add(replace(NEW, id="V2", task=task, **at(NOW - timedelta(seconds=1))))
    expected = State.SUPERSEDED if task in FOR_THE_SLOT else State.ACCEPTED
    assert (await _read(submissions, "V2")).state is expected


@pytest.mark.parametrize("state", sorted(set(State) - {State.ACCEPTED, State.VERIFYING}))
async def test_a_repeated_submit_does_not_change_a_sent_one(submissions: Submissions, state: State) -> None:
    """Once the token may have been sent, the answer is the state, and nothing is overwritten."""
    submission = await _bring_to(submissions, state)
    acceptance = await submissions.accept(AGAIN, "nonce of V1")
    assert acceptance == Acceptance(verdict=Verdict.ALREADY_UNDER_WAY, submission=submission)
    assert await _read(submissions) == submission


async def test_a_repeated_submit_is_answered_after_the_opening_expired(submissions: Submissions) -> None:
    """No one must read "nothing was sent" if the first Submit was recorded in time."""
    submission = await _bring_to(submissions, State.STORED)
    late = replace(AGAIN, **at(NOW + timedelta(days=1)))
    assert await submissions.accept(late, "nonce of V1") == Acceptance(
        verdict=Verdict.ALREADY_UNDER_WAY, submission=submission
    )


@pytest.mark.parametrize("pasted_earlier", [timedelta(microseconds=1), timedelta(seconds=2)])
async def test_an_older_submit_that_arrives_later_replaces_nothing(
    submissions: Submissions, pasted_earlier: timedelta
) -> None:
    """It was pasted before and only delayed: the last pasted token counts, not the last to arrive."""
    submission = await _accept(submissions)
    older = replace(AGAIN, **at(NOW - pasted_earlier))
    acceptance = await submissions.accept(older, "nonce of V1")
    assert acceptance == Acceptance(verdict=Verdict.ALREADY_UNDER_WAY, submission=submission)
    assert await _read(submissions) == submission


async def test_of_two_submits_of_one_moment_the_later_one_counts(submissions: Submissions) -> None:
    """Clocks tick coarsely; then only the order of arrival remains."""
    await _accept(submissions)
    assert (await submissions.accept(replace(AGAIN, **at(NOW)), "nonce of V1")).verdict is Verdict.REPLACED
    assert (await _sealed(submissions)) == AGAIN.sealed


async def test_a_replaced_submission_takes_its_new_place_in_the_order(submissions: Submissions) -> None:
    """Another person's paste in between is now older: the slot ends with the token pasted last."""
    await _accept(submissions)
    soon = NOW + timedelta(minutes=59)
    await _accept(submissions, replace(NEW, id="V2", **at(NOW + timedelta(seconds=3)), expires_at=soon))
    assert await _open(submissions) == ["V2"]
    await submissions.accept(AGAIN, "nonce of V1")
    assert await _open(submissions) == ["V2", "V1"]


async def test_submissions_of_one_moment_keep_the_order_of_their_arrival(submissions: Submissions) -> None:
    """The ids do not affect the order."""
    for name in ("V9", "V1", "V5"):
        await _accept(submissions, replace(NEW, id=name))
    assert await _open(submissions) == ["V9", "V5"]


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        pytest.param(State.ACCEPTED, Verdict.REPLACED, id="not sent yet"),
        pytest.param(State.STORING, Verdict.ALREADY_UNDER_WAY, id="under way"),
        pytest.param(State.STORED, Verdict.ALREADY_UNDER_WAY, id="ended"),
    ],
)
async def test_a_repeated_submit_is_answered_after_the_opening_was_forgotten(
    submissions: Submissions, state: State, verdict: Verdict
) -> None:
    """The bot still knows the submission: "does not know this form, nothing was sent" would be false."""
    await _bring_to(submissions, state)
    await submissions.forget_openings(NOW + timedelta(days=1))
    acceptance = await submissions.accept(AGAIN, "nonce of V1")
    assert acceptance == Acceptance(verdict=verdict, submission=await _read(submissions))
    assert acceptance.submission is not None
    assert acceptance.submission.state is state


@pytest.mark.parametrize("changes", [{"user_id": "U2"}, {"team_id": "T2"}], ids=["person", "workspace"])
async def test_no_one_else_can_repeat_a_submit(submissions: Submissions, changes: dict[str, str]) -> None:
    """A view's id gives no access to another person's submission, however old the opening is."""
    submission = await _accept(submissions)
    forged = replace(AGAIN, **changes)  # type: ignore[arg-type]  # both are texts
    assert await submissions.accept(forged, "nonce of V1") == Acceptance(verdict=Verdict.SOMEBODY_ELSES)
    await submissions.forget_openings(NOW + timedelta(days=1))
    assert await submissions.accept(forged, "nonce of V1") == Acceptance(verdict=Verdict.SOMEBODY_ELSES)
    assert await _read(submissions) == submission


async def test_accepting_is_all_or_nothing(submissions: Submissions) -> None:
    """If the submission cannot be recorded, its opening is not used up either."""
    await submissions.add_opening(OPENING)
    with pytest.raises(DatabaseUnavailable):
        await submissions.accept(replace(NEW, channel_id=cast("str", None)), "nonce-1")
    assert await submissions.find("V1") is None
    assert (await submissions.accept(replace(NEW, id="V2"), "nonce-1")).verdict is Verdict.RECORDED


@pytest.mark.parametrize("state", list(State))
async def test_only_the_steps_of_the_table_are_allowed(submissions: Submissions, state: State) -> None:
    """Any other step is a bug: it raises, and changes nothing."""
    for to in State:
        submission = await _bring_to(submissions, state, replace(NEW, id=f"to {to}"))
        if to in STEPS.get(state, ()) or to is state:
            assert _moved(await _move(submissions, submission, to)).state is to
            continue
        with pytest.raises(ValueError, match="no step leads"):
            await _move(submissions, submission, to)
        assert await _read(submissions, submission.id) == submission


async def test_a_note_about_an_ended_submission_leaves_its_ending(submissions: Submissions) -> None:
    """Staying in a state is not a step: a success keeps no cause."""
    ended = _moved(await _move(submissions, await _accept(submissions), State.FAILED, because=THROTTLED))
    noted = _moved(await _move(submissions, ended, State.FAILED, at=NOW + timedelta(days=1)))
    assert noted == replace(ended, next_attempt_at=NOW + timedelta(days=1), revision=ended.revision + 1)


async def _move_on(submissions: Submissions, fresh: Submission) -> None:
    await _move(submissions, fresh, State.CONFIRMING)


async def _try_again(submissions: Submissions, fresh: Submission) -> None:
    await _move(submissions, fresh, State.STORING, Changes(attempts=fresh.attempts + 1))


async def _end(submissions: Submissions, fresh: Submission) -> None:
    await _move(submissions, fresh, State.FAILED)


MADE_STALE = [
    pytest.param(_move_on, id="it moved on"),
    pytest.param(_try_again, id="it was tried again"),
    pytest.param(_end, id="it ended"),
]


@pytest.mark.parametrize("make_stale", MADE_STALE)
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda submissions, stale: _move(submissions, stale, State.CONFIRMING), id="move"),
        pytest.param(lambda submissions, stale: _move(submissions, stale, State.STORING), id="stay"),
        pytest.param(lambda submissions, stale: _move(submissions, stale, State.UNCERTAIN, supersedes=True), id="end"),
        pytest.param(_report, id="report"),
    ],
)
async def test_a_stale_copy_never_moves_anything(
    submissions: Submissions,
    make_stale: Callable[[Submissions, Submission], Awaitable[None]],
    use: Callable[[Submissions, Submission], Awaitable[Submission | None]],
) -> None:
    """A caller whose copy is outdated gets None, and the row stays as the other one left it."""
    stale = await _bring_to(submissions, State.STORING)
    await make_stale(submissions, stale)
    standing = await _read(submissions)
    assert await use(submissions, stale) is None
    assert await _read(submissions) == standing


async def test_a_copy_from_before_a_replacement_never_sends_the_old_token(submissions: Submissions) -> None:
    """A delivery that read the first Submit cannot move the second one."""
    stale = await _accept(submissions)
    await submissions.accept(AGAIN, "nonce of V1")
    assert await _move(submissions, stale, State.VERIFYING) is None
    assert await _move(submissions, stale, State.DENIED) is None
    assert (await _sealed(submissions)) == AGAIN.sealed


@pytest.mark.parametrize("ending", sorted(ENDINGS))
async def test_every_ending_erases_the_sealed_token(submissions: Submissions, query: Query, ending: State) -> None:
    """In the same transaction: no ended submission ever has one."""
    submission = await _bring_to(submissions, next(state for state in WAYS if ending in STEPS[state]))
    ended = _moved(await _move(submissions, submission, ending, at=NOW + timedelta(seconds=5), because=NeverSent()))
    seen = query("SELECT state, sealed_token, error_code FROM submissions")
    assert seen == [(ending.value, None, "expired")]
    assert (ended.ended_at, ended.next_attempt_at) == (NOW + timedelta(seconds=5), NOW + timedelta(seconds=5))
    assert ended.is_ended
    assert await _sealed(submissions) == replace(NEW.sealed, token=None)
    assert ended == await _read(submissions)


async def test_changes_are_kept_and_what_is_not_named_stays(submissions: Submissions) -> None:
    """None leaves a column unchanged; False and 0 do not."""
    changes = Changes(
        attempts=1,
        possibly_written=True,
        checked_at=NOW + timedelta(seconds=2),
        patience_until=NOW + timedelta(seconds=3),
        findings=FINDINGS,
        confirm_until=NOW + timedelta(seconds=15),
        cf_ray="ray-2",
        confirmation=CredentialStatus.INVALID,
    )
    at = NOW + timedelta(seconds=1)
    accepted = await _accept(submissions)
    verifying = _moved(await _move(submissions, accepted, State.VERIFYING, changes, at=at, because=THROTTLED))
    assert Changes(**{field.name: getattr(verifying, field.name) for field in fields(Changes)}) == changes
    assert (verifying.error_code, verifying.cloudflare_code) == ("throttled", 971)
    assert (verifying.cloudflare_message, verifying.next_attempt_at) == ("Slow down.", at)
    again = _moved(await _move(submissions, verifying, State.VERIFYING, Changes(possibly_written=False), at=at))
    assert again == replace(verifying, possibly_written=False, revision=2)


async def test_the_code_and_ray_of_an_earlier_error_do_not_stay_with_a_later_one(submissions: Submissions) -> None:
    """Support would be asked about a request that is unrelated to the ending."""
    storing = await _bring_to(submissions, State.STORING)
    storing = _moved(await _move(submissions, storing, State.STORING, because=THROTTLED))
    ended = _moved(await _move(submissions, storing, State.FAILED, because=CloudflareUnreachable()))
    assert (ended.error_code, ended.cloudflare_code) == ("cloudflare_unreachable", None)
    assert (ended.cloudflare_message, ended.cf_ray) == ("", None)


async def test_work_is_every_unreported_result_and_the_newest_to_send(submissions: Submissions) -> None:
    """The newest holds back all others: of those, only the first to expire is returned."""
    newest = await _accept(submissions, replace(NEW, id="V4", **at(NOW + timedelta(seconds=1))))
    for number in range(4):
        ttl = timedelta(minutes=30 if number == 2 else 60)
        await _accept(submissions, replace(NEW, id=f"V{number}", expires_at=NOW + ttl))
    await _accept(submissions, replace(NEW, id="other bucket", key=POND))
    await _accept(submissions, replace(NEW, id="other account", key=replace(LAKE, account_id="0" * 32)))

    assert await _open(submissions) == ["V2", "V4"]
    newest = await _storing(submissions, newest.id)
    assert await _open(submissions) == ["V2", "V4"]
    await _move(submissions, await _read(submissions, "V4"), State.REFUSED)
    assert await _open(submissions) == ["V2", "V3", "V4"]
    await _move(submissions, await _read(submissions, "V2"), State.EXPIRED)
    assert await _open(submissions) == ["V0", "V3", "V2", "V4"]
    await _report(submissions, await _read(submissions, "V4"))
    assert await _open(submissions) == ["V0", "V3", "V2"]
    await _confirming(submissions, "V3")
    assert await _open(submissions) == ["V3", "V0", "V1", "V2"]
    assert await _open(submissions, replace(LAKE, bucket="nowhere")) == []


async def _confirming(submissions: Submissions, submission_id: str) -> Submission:
    """Return a submission that was written."""
    storing = await _storing(submissions, submission_id)
    return _moved(await _move(submissions, storing, State.CONFIRMING, Changes(confirm_until=NOW)))


async def test_a_lease_is_held_until_another_one_is_taken(submissions: Submissions) -> None:
    """Each lease has the next epoch, separately for each bucket and account; 0 is never held."""
    first, other = await submissions.take(LAKE), await submissions.take(POND)
    assert first == Lease(key=LAKE, epoch=1)
    assert other.epoch == 1
    assert await submissions.holds(first)
    second = await submissions.take(LAKE)
    assert second.epoch == 2
    held = [await submissions.holds(lease) for lease in (first, second, other)]
    assert held == [False, True, True]
    assert not await submissions.holds(replace(second, epoch=3))
    assert not await submissions.holds(Lease(key=replace(LAKE, account_id="0" * 32), epoch=0))


async def test_work_is_only_for_the_holder_of_the_lease(submissions: Submissions) -> None:
    """Others get LeaseLost at once, whether there is work or not."""
    lease = await submissions.take(LAKE)
    assert await submissions.work(lease) == []
    await _accept(submissions)
    assert [found.submission.id for found in await submissions.work(lease)] == ["V1"]
    await submissions.take(LAKE)
    with pytest.raises(LeaseLost):
        await submissions.work(lease)


async def test_work_is_read_in_the_transaction_of_the_lease_and_of_a_move(submissions: Submissions) -> None:
    """A reading after each move would be another transaction. Where the move is not made, the lease may be lost."""
    first = await _accept(submissions)
    lease, work = await submissions.take_and_read(LAKE)
    assert lease == Lease(key=LAKE, epoch=1)
    assert work == await submissions.work(lease)
    changed, work = await submissions.apply_and_read(first, Move(to=State.VERIFYING, at=NOW), lease)
    assert [each.state for each in changed] == [State.VERIFYING]
    assert work is not None
    assert [each.submission for each in work] == changed
    assert await submissions.apply_and_read(first, Move(to=State.VERIFYING, at=NOW), lease) == ([], None)
    await submissions.take(LAKE)
    assert await submissions.apply_and_read(changed[0], Move(to=State.DENIED, at=NOW), lease) == ([], None)


@pytest.mark.parametrize("state", list(State))
async def test_a_former_holder_moves_nothing(submissions: Submissions, state: State) -> None:
    """However fresh its copy: each of its moves is compared with the epoch."""
    older = await _accept(submissions, replace(NEW, id="V0", **at(NOW - timedelta(seconds=1))))
    standing = await _bring_to(submissions, state)
    older = await _read(submissions, older.id)
    lost = await submissions.take(LAKE)
    await submissions.take(LAKE)
    for to in (state, *STEPS.get(state, ())):
        assert await _move(submissions, standing, to, Changes(attempts=7), lease=lost, supersedes=True) is None
    assert await _read(submissions) == standing
    assert await _read(submissions, "V0") == older


async def test_the_holder_of_the_lease_moves_submissions(submissions: Submissions) -> None:
    """A lease is for one bucket; a submission that moved to another bucket needs that one's."""
    here, there = await _accept(submissions), await _accept(submissions, replace(NEW, id="V2", key=POND))
    lease = await submissions.take(LAKE)
    assert await _move(submissions, there, State.VERIFYING, lease=lease) is None
    assert await _move(submissions, here, State.VERIFYING, lease=lease) is not None
    assert await _move(submissions, there, State.VERIFYING, lease=await submissions.take(POND)) is not None


async def test_a_move_from_outside_needs_no_lease_and_wakes_the_bucket(submissions: Submissions) -> None:
    """A delivery that works on the bucket meanwhile finds its copy stale."""
    woken: list[BucketKey] = []
    submissions.wake_by(woken.append)
    stale = await _accept(submissions)
    lease = await submissions.take(LAKE)
    woken.clear()
    verifying = Move(to=State.VERIFYING, at=NOW)
    assert [moved.state for moved in await submissions.apply(stale, verifying)] == [State.VERIFYING]
    assert woken == [LAKE]
    assert await submissions.apply(stale, verifying, lease) == []
    assert await submissions.apply(stale, verifying) == []
    assert await _move(submissions, await _read(submissions), State.DENIED, lease=lease) is not None
    assert woken == [LAKE]  # a delivery continues by itself, and a refused move wakes none


@pytest.mark.parametrize("state", sorted(set(State) - UNSENT))
async def test_a_sent_or_ended_one_is_not_moved_from_outside(submissions: Submissions, state: State) -> None:
    """A request or message may be under way: its outcome would meet a stale copy, and be sent again."""
    standing = await _bring_to(submissions, state)
    for to in (state, *STEPS.get(state, ())):
        assert await submissions.apply(standing, Move(to=to, at=NOW)) == []
    assert await _read(submissions) == standing


async def test_whatever_may_have_been_recorded_wakes_its_bucket(submissions: Submissions) -> None:
    """Also if the commit is unknown; a refused move wakes none."""
    woken: list[BucketKey] = []
    submissions.wake_by(woken.append)
    await submissions.add_opening(OPENING)
    await submissions.accept(NEW, "nonce-2")
    assert woken == []
    await submissions.accept(NEW, "nonce-1")
    await submissions.accept(AGAIN, "nonce-1")
    await submissions.add(replace(NEW, id="V2", task=Task.ENABLE))
    await submissions.add(replace(NEW, id="V2", task=Task.ENABLE))
    assert woken == [LAKE] * 3


async def test_every_change_is_passed_to_the_watchers(submissions: Submissions) -> None:
    """Also one by the loser of a race; notes about ended submissions are distinguished from steps."""
    seen: list[tuple[str, State, bool]] = []
    submissions.watch(lambda change: seen.append((change.submission.id, change.submission.state, change.is_new_state)))
    await _accept(submissions)
    await _accept(submissions, replace(NEW, id="V2", **at(NOW + timedelta(seconds=1))))
    await _confirming(submissions, "V2")
    await _report(submissions, await _read(submissions))
    late = await _accept(submissions, replace(NEW, id="V3", **at(NOW - timedelta(seconds=1))))
    assert late.state is State.SUPERSEDED
    assert seen == [
        ("V2", State.VERIFYING, True),
        ("V2", State.STORING, True),
        ("V2", State.CONFIRMING, True),
        ("V1", State.SUPERSEDED, True),
        ("V1", State.SUPERSEDED, False),
        ("V3", State.SUPERSEDED, True),
    ]


async def _open_states(submissions: Submissions) -> dict[str, str]:
    """Return each open submission with its state."""
    found = [await submissions.find(f"V{number}") for number in range(9)]
    return {submission.id: submission.state.value for submission in found if submission is not None}


async def _fill(submissions: Submissions) -> Submission:
    """Record the newest, V5, and one of each sort besides; return V5, ready to be moved."""
    failed = Changes(attempts=3, possibly_written=True)
    await _accept(submissions, replace(NEW, id="V3", user_id="U3"))
    await _confirming(submissions, "V3")
    for number in (1, 2, 4, 5):
        moment = NOW + timedelta(seconds=number)
        await _accept(submissions, replace(NEW, id=f"V{number}", user_id=f"U{number}", **at(moment)))
    await _accept(submissions, replace(NEW, id="V6", **at(NOW + timedelta(seconds=6))))
    await _accept(submissions, replace(NEW, id="V7", key=POND))
    await _accept(submissions, replace(NEW, id="V8", key=replace(LAKE, account_id="0" * 32)))
    await _storing(submissions, "V2", failed, THROTTLED)
    await _move(submissions, await _read(submissions, "V4"), State.DENIED, because=NotAllowed())
    return await _storing(submissions, "V5")


@pytest.mark.parametrize("ending", [None, State.UNCERTAIN], ids=["written", "nobody knows"])
async def test_a_write_ends_only_other_stores(submissions: Submissions, ending: State | None) -> None:
    """An older check, or the enabling of a catalog, still deserves an answer."""
    for name, task in (("V1", Task.CHECK), ("V2", Task.ENABLE), ("V3", Task.STORE)):
        await submissions.add(replace(NEW, id=name, task=task))
    newest = replace(NEW, id="V4", **at(NOW + timedelta(seconds=1)))
    await submissions.add(newest)
    storing = await _storing(submissions, "V4")
    if ending is None:
        await _move(submissions, storing, State.CONFIRMING)
    else:
        await _move(submissions, storing, ending, supersedes=True)
    states = await _open_states(submissions)
    assert [states[name] for name in ("V1", "V2", "V3")] == ["accepted", "accepted", "superseded"]


async def test_a_write_records_the_slots_credential(submissions: Submissions) -> None:
    """With its findings, replacing the earlier credential; other slots keep theirs."""
    catalogs = Catalogs(submissions._database, ACCOUNT)
    await _accept(submissions, replace(NEW, id="V0", key=POND))
    await _confirming(submissions, "V0")
    [other] = await catalogs.stored_credentials()
    await _accept(submissions)
    await _confirming(submissions, "V1")
    [first, _] = await catalogs.stored_credentials()
    await catalogs.note_reminded(first, NOW)

    later = NOW + timedelta(seconds=9)
    await _accept(submissions, replace(NEW, id="V2", user_id="U2", channel_id="C2", **at(NOW)))
    storing = await _storing(submissions, "V2", Changes(checked_at=NOW, findings=FINDINGS))
    changes = Changes(confirm_until=later, cf_ray="ray-1")
    confirming = _moved(await _move(submissions, storing, State.CONFIRMING, changes, at=later))

    assert (confirming.state, confirming.confirm_until, confirming.cf_ray) == (State.CONFIRMING, later, "ray-1")
    assert confirming == await _read(submissions, "V2")
    token = FINDINGS.token
    assert token is not None
    assert await catalogs.stored_credentials() == [
        StoredCredential(
            key=LAKE,
            submission_id="V2",
            stored_by="U2",
            stored_at=later,
            channel_id="C2",
            token_id=token.id,
            expires_at=token.expires_at,
            reminded_at=None,
            broken_at=None,
        ),
        other,
    ]


async def test_a_write_is_recorded_wholly_or_not_at_all(submissions: Submissions, query: Query) -> None:
    """If the slot's credential cannot be saved, the step is not taken and none is superseded."""
    newest = await _fill(submissions)
    before = await _open_states(submissions)
    query("ALTER TABLE credentials RENAME TO elsewhere")
    try:
        with pytest.raises(DatabaseUnavailable):
            await _move(submissions, newest, State.CONFIRMING)
    finally:
        query("ALTER TABLE elsewhere RENAME TO credentials")
    assert await _open_states(submissions) == before


async def test_what_the_audit_cannot_record_does_not_happen(submissions: Submissions, query: Query) -> None:
    """Nothing is accepted, written or ended where its entry cannot be appended in the same transaction."""
    verifying = _moved(await _move(submissions, await _accept(submissions), State.VERIFYING))
    before = await _open_states(submissions)
    query("ALTER TABLE audit RENAME TO elsewhere")
    try:
        with pytest.raises(DatabaseUnavailable):
            await _accept(submissions, replace(NEW, id="V2"))
        with pytest.raises(DatabaseUnavailable):
            await _move(submissions, verifying, State.STORING, Changes(possibly_written=True), effect=_never)
        with pytest.raises(DatabaseUnavailable):
            await _move(submissions, verifying, State.FAILED)
    finally:
        query("ALTER TABLE elsewhere RENAME TO audit")
    assert await _open_states(submissions) == before


async def _never(_: Pending) -> Move:
    pytest.fail("a write was sent that is not on record")


async def test_findings_clear_the_earlier_error(submissions: Submissions) -> None:
    """A verified token does not end with "unknown token" if its time is over while it waits for its turn."""
    trouble = TokenInvalid(cloudflare_code=1000, cloudflare_message="No.", cf_ray="ray-1")
    waiting = _moved(await _move(submissions, await _accept(submissions), State.VERIFYING, because=trouble))
    found = _moved(await _move(submissions, waiting, State.VERIFYING, Changes(checked_at=NOW, findings=FINDINGS)))
    assert (found.error_code, found.cloudflare_code) == (None, None)
    assert (found.cloudflare_message, found.cf_ray) == ("", None)
    assert found.findings == FINDINGS


NOTHING_TOLD = Findings(token=None, unchecked=frozenset(Check), credential=CredentialStatus.UNKNOWN)


@pytest.mark.parametrize(
    "findings",
    [
        pytest.param(FINDINGS, id="all"),
        pytest.param(NOTHING_TOLD, id="nothing, since nothing was offered"),
        pytest.param(replace(FINDINGS, unchecked=frozenset()), id="every check made"),
    ],
)
async def test_findings_come_back_as_they_were(submissions: Submissions, findings: Findings) -> None:
    """Only if checks were made: without checks there are none."""
    accepted = await _accept(submissions)
    assert accepted.findings is None
    found = await _move(submissions, accepted, State.VERIFYING, Changes(checked_at=NOW, findings=findings))
    assert _moved(found).findings == findings


async def test_the_history_has_the_newest_first(submissions: Submissions) -> None:
    """Of one bucket or of all, of this account only, whatever their endings, and no more than requested."""
    for number, key in enumerate((LAKE, POND, LAKE, replace(LAKE, account_id="0" * 32), LAKE)):
        await _accept(submissions, replace(NEW, id=f"V{number}", key=key))
    await _move(submissions, await _read(submissions, "V2"), State.DENIED)
    await _report(submissions, await _read(submissions, "V2"))
    await submissions.take(LAKE)

    lake = await submissions.history(ACCOUNT, "lake", 9)
    assert lake == [await _read(submissions, name) for name in ("V4", "V2", "V0")]
    assert [found.id for found in await submissions.history(ACCOUNT, "lake", 2)] == ["V4", "V2"]
    assert [found.id for found in await submissions.history(ACCOUNT, None, 9)] == ["V4", "V2", "V1", "V0"]
    assert await submissions.history(ACCOUNT, "nowhere", 9) == []


@pytest.mark.parametrize("ending", [None, State.UNCERTAIN], ids=["written", "nobody knows"])
async def test_older_ones_that_could_still_be_sent_are_superseded(
    submissions: Submissions, ending: State | None
) -> None:
    """In the same transaction, sent before or not; none that is newer, confirmed, ended or of another bucket."""
    newest = await _fill(submissions)
    others = {name: await _read(submissions, name) for name in ("V3", "V4", "V6", "V7", "V8")}
    at = NOW + timedelta(seconds=9)
    if ending is None:
        moved = await submissions.apply(newest, Move(to=State.CONFIRMING, at=at), await submissions.take(LAKE))
    else:
        moved = await submissions.apply(newest, Move(to=ending, at=at, supersedes=True), await submissions.take(LAKE))
    assert sorted(submission.id for submission in moved) == ["V1", "V2", "V5"]
    for name, attempts in (("V1", 0), ("V2", 3)):
        superseded = await _read(submissions, name)
        assert (superseded.state, superseded.superseded_by, superseded.ended_at) == (State.SUPERSEDED, "U5", at)
        assert superseded == next(submission for submission in moved if submission.id == name)
        assert (superseded.next_attempt_at, await _sealed(submissions, name)) == (at, replace(NEW.sealed, token=None))
        assert (superseded.error_code, superseded.cloudflare_code) == (None, None)
        assert (superseded.cloudflare_message, superseded.cf_ray) == ("", None)
        assert (superseded.attempts, superseded.possibly_written) == (attempts, attempts > 0)
    assert {name: await _read(submissions, name) for name in others} == others


async def test_nothing_is_superseded_without_the_flag(submissions: Submissions) -> None:
    """A newer one that ends unwritten leaves the older ones as they are."""
    newest = await _fill(submissions)
    before = await _open_states(submissions)
    await _move(submissions, newest, State.REFUSED)
    assert await _open_states(submissions) == before | {"V5": "refused"}


async def test_a_stale_copy_supersedes_nothing(submissions: Submissions) -> None:
    """Only a move that was made supersedes others."""
    stale = await _fill(submissions)
    await _move(submissions, stale, State.STORING, Changes(attempts=1))
    before = await _open_states(submissions)
    known = await Catalogs(submissions._database, ACCOUNT).stored_credentials()
    assert await _move(submissions, stale, State.CONFIRMING) is None
    assert await Catalogs(submissions._database, ACCOUNT).stored_credentials() == known
    assert await _move(submissions, stale, State.UNCERTAIN, supersedes=True) is None
    assert await _open_states(submissions) == before


async def test_of_one_moment_the_one_recorded_first_is_older(submissions: Submissions) -> None:
    """Only the order of arrival remains."""
    for name in ("V1", "V2", "V3"):
        await _accept(submissions, replace(NEW, id=name))
    await _confirming(submissions, "V2")
    assert await _open_states(submissions) == {"V1": "superseded", "V2": "confirming", "V3": "accepted"}


@pytest.mark.parametrize(
    ("later", "order"),
    [
        pytest.param(timedelta(seconds=1), ["V1", "V2"], id="later"),
        pytest.param(timedelta(0), ["V1", "V2"], id="the same moment"),
        pytest.param(timedelta(microseconds=-1), ["V2", "V1"], id="overtaken by a moment"),
        pytest.param(timedelta(seconds=-24), ["V2", "V1"], id="recorded by a gateway that was frozen"),
        pytest.param(timedelta(hours=-1), ["V2", "V1"], id="overtaken by an hour"),
        pytest.param(-FURTHEST_BACK, ["V1", "V2"], id="a clock that was a day ahead"),
        pytest.param(timedelta(hours=1), ["V1", "V2"], id="an hour later"),
    ],
)
async def test_the_order_is_that_of_sending(submissions: Submissions, later: timedelta, order: list[str]) -> None:
    """However long delivery and recording take; only a difference of a day means a clock was set back."""
    await _accept(submissions, replace(NEW, expires_at=NOW + timedelta(minutes=5)))
    second = replace(NEW, id="V2", **at(NOW + later), expires_at=NOW + later + timedelta(hours=1))
    await _accept(submissions, second)
    newest = order[-1]
    assert (await _open(submissions))[-1] == newest
    await _confirming(submissions, newest)
    assert await _open_states(submissions) == {newest: "confirming", order[0]: "superseded"}


async def test_of_those_sent_in_one_second_the_first_to_arrive_is_older(submissions: Submissions) -> None:
    """Slack signs whole seconds; the order of recording does not matter."""
    early, late = NOW + timedelta(milliseconds=100), NOW + timedelta(milliseconds=900)
    await _accept(submissions, replace(NEW, accepted_at=late))
    await _accept(submissions, replace(NEW, id="V2", accepted_at=early))
    assert (await _open(submissions))[-1] == "V1"
    await _confirming(submissions, "V1")
    assert (await _read(submissions, "V2")).state is State.SUPERSEDED


async def test_results_show_the_time_of_arrival_not_of_sending(submissions: Submissions) -> None:
    """Slack's clock may differ: it decides only the order, ours everything else."""
    newest = await _accept(submissions, replace(NEW, sent_at=NOW + timedelta(minutes=9)))
    assert (newest.accepted_at, newest.next_attempt_at) == (NOW, NOW)


async def test_a_clock_that_was_set_back_delays_nothing(submissions: Submissions) -> None:
    """The newest one is due at once by the present clock."""
    await _accept(submissions)
    newest = await _accept(submissions, replace(NEW, id="V2", **at(NOW - FURTHEST_BACK)))
    assert newest.next_attempt_at == newest.accepted_at == NOW - FURTHEST_BACK
    assert (await _open(submissions))[-1] == "V2"


@pytest.mark.parametrize("repeats", [1, 3])
async def test_a_repeated_submit_after_the_clock_was_set_back_is_the_newest(
    submissions: Submissions, repeats: int
) -> None:
    """It replaces the first one, and comes before another person's paste in between."""
    await _accept(submissions)
    await _accept(submissions, replace(NEW, id="V2", **at(NOW + timedelta(seconds=3))))
    for number in range(repeats):
        sealed = Sealed(token=SealedToken(f"sealed.v1.aaaaaaaaaaaaaaaa.TRY{number}"))
        again = replace(AGAIN, sealed=sealed, **at(NOW - FURTHEST_BACK))
        acceptance = await submissions.accept(again, "nonce of V1")
        assert acceptance.verdict is Verdict.REPLACED
        assert await _sealed(submissions) == sealed
    await _confirming(submissions, "V1")
    assert (await _read(submissions, "V2")).state is State.SUPERSEDED


@pytest.mark.parametrize("how", ["confirming", "stored", "reported"])
async def test_one_overtaken_by_a_written_one_is_not_sent(submissions: Submissions, how: str) -> None:
    """Pasted first, recorded 1 s later, after the newer one's success: a stale token never overwrites a newer one."""
    await _accept(submissions)
    written = await _confirming(submissions, "V1")
    if how != "confirming":
        written = _moved(await _move(submissions, written, State.STORED))
    if how == "reported":
        await _report(submissions, written)
    older = await _accept(submissions, replace(NEW, id="V2", **at(NOW - timedelta(seconds=1))))
    assert older.state is State.SUPERSEDED


@pytest.mark.parametrize(
    ("because", "expected"),
    [
        pytest.param(CloudflareUnreachable(), State.SUPERSEDED, id="no answer came"),
        pytest.param(None, State.SUPERSEDED, id="no time left"),
        pytest.param(TokenInvalid(), State.ACCEPTED, id="Cloudflare refused it afterwards"),
    ],
)
async def test_one_overtaken_by_one_that_may_be_written_is_not_sent(
    submissions: Submissions, because: BotError | None, expected: State
) -> None:
    """The uncertain ending supersedes older ones, also those that are recorded after it."""
    await _accept(submissions)
    uncertain = await _storing(submissions, "V1")
    await _move(submissions, uncertain, State.UNCERTAIN, because=because)
    older = await _accept(submissions, replace(NEW, id="V2", **at(NOW - timedelta(seconds=24))))
    assert older.state is expected


async def test_one_that_is_recorded_while_a_newer_one_is_written_is_superseded(
    tables_url: str,
) -> None:
    """The two transactions do not see each other: the second waits, or the older token would be sent afterwards."""
    database = PostgresDatabase(tables_url)
    await database.start()
    await database.run(delete_rows)
    submissions = Submissions(database, CHAIN)
    await _accept(submissions)
    storing = await _storing(submissions, "V1")
    await submissions.add_opening(replace(OPENING, nonce="nonce of V2"))
    older = replace(NEW, id="V2", **at(NOW - timedelta(seconds=1)))
    engine = create_engine(tables_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as other, other.begin():
        accept(other, CHAIN, older, "nonce of V2", older.team_id)
        with pytest.raises(DatabaseUnavailable):  # it waits for the other transaction, up to the time limit
            await _move(submissions, storing, State.CONFIRMING)
    engine.dispose()
    await _move(submissions, storing, State.CONFIRMING)
    assert (await _read(submissions, "V2")).state is State.SUPERSEDED
    await database.stop()


async def test_the_newest_of_hundreds_is_found(submissions: Submissions, tables: Database, query: Query) -> None:
    """However many wait for their turn or for Slack, no limit hides the newest, nor the first to expire."""
    await _accept(submissions)
    columns = "team_id, user_id, account_id, bucket, channel_id, reason, token_kind, last_four, accepted_at, expires_at"
    rest = "sent_at, revision, task, next_attempt_at, attempts, possibly_written, sealed_token"
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)"
    state = "CASE WHEN i <= 300 THEN 'accepted' ELSE 'failed' END"
    ended = "CASE WHEN i <= 300 THEN NULL ELSE accepted_at END"
    query(
        f"INSERT INTO submissions (id, state, ended_at, {columns}, {rest})"  # noqa: S608 - our own words
        f" {numbers} SELECT 'N' || i, {state}, {ended}, {columns}, {rest} FROM n, submissions WHERE id = 'V1'",
    )
    await tables.run(lambda connection: adopt_unsigned(connection, CHAIN, NOW))
    await _accept(submissions, replace(NEW, id="V2", **at(NOW + timedelta(seconds=1))))
    work = await submissions.work(await submissions.take(LAKE))
    assert [found.submission.id for found in work][:2] == ["V1", "V2"]
    assert len(work) == 2 + 30
    assert all(found.submission.is_ended for found in work[2:])
    await _confirming(submissions, "V2")
    assert query("SELECT count(*) FROM submissions WHERE state = 'superseded'") == [(301,)]


async def test_no_number_of_checks_hides_a_result(submissions: Submissions) -> None:
    """A person who has stored something gets the result, however many others check tokens for that bucket."""
    await _accept(submissions)
    for number in range(31):
        checking = replace(NEW, id=f"C{number}", user_id=f"U{number}", task=Task.CHECK)
        await _accept(submissions, checking)
    lease = await submissions.take(LAKE)
    [stored] = [each.submission for each in await submissions.work(lease) if each.submission.id == "V1"]
    await submissions.apply(stored, Move(to=State.REFUSED, at=NOW, because=TokenInvalid()), lease)
    assert "V1" in [found.submission.id for found in await submissions.work(lease)]


async def test_unreported_keys_are_the_buckets_with_work(submissions: Submissions) -> None:
    """Each once; a bucket whose results are all reported is not among them."""
    assert await submissions.unreported_keys() == []
    reported = await _accept(submissions)
    await _accept(submissions, replace(NEW, id="V2", key=POND))
    await _accept(submissions, replace(NEW, id="V3", key=POND))
    await _report(submissions, _moved(await _move(submissions, reported, State.DENIED)))
    assert await submissions.unreported_keys() == [POND]


async def test_the_response_url_is_erased_with_the_report(submissions: Submissions) -> None:
    """It is a secret: erased when the message is posted, or when it is too old to be useful."""
    ended = _moved(await _move(submissions, await _accept(submissions), State.DENIED))
    later = NOW + timedelta(minutes=3)
    waiting = _moved(await _move(submissions, ended, State.DENIED, at=later))
    assert waiting == replace(ended, next_attempt_at=later, revision=2)
    assert await _sealed(submissions) == replace(NEW.sealed, token=None)
    await _move(submissions, waiting, State.DENIED, at=later, forgets_response_url=True)
    assert await _sealed(submissions) == Sealed()

    other = _moved(await _move(submissions, await _accept(submissions, replace(NEW, id="V2")), State.DENIED))
    reported = _moved(await _report(submissions, other, later))
    assert (await _sealed(submissions, "V2"), reported.reported_at) == (Sealed(), later)


async def test_keys_are_in_use_while_a_sealed_value_is_needed(submissions: Submissions) -> None:
    """The token's key until the ending, the response URL's key until the report."""
    submission = await _accept(submissions)
    await _accept(submissions, replace(NEW, id="V2", sealed=Sealed(token=SealedToken("sealed.v1.cccccccccccccccc.x"))))
    assert await submissions.key_ids_in_use() == {"a" * 16, "b" * 16, "c" * 16}
    ended = _moved(await _move(submissions, submission, State.DENIED))
    assert await submissions.key_ids_in_use() == {"b" * 16, "c" * 16}
    await _report(submissions, ended)
    assert await submissions.key_ids_in_use() == {"c" * 16}


async def test_what_has_expired_needs_no_key(submissions: Submissions) -> None:
    """It ends without being opened: its key is kept until then, and nobody has to bring it."""
    submission = await _accept(submissions)
    at_last = submission.expires_at - timedelta(microseconds=1)
    assert await submissions.key_ids_needed(at_last) == {"a" * 16, "b" * 16}
    assert await submissions.key_ids_needed(submission.expires_at) == frozenset()
    assert await submissions.key_ids_in_use() == {"a" * 16, "b" * 16}


async def test_old_openings_are_deleted(submissions: Submissions) -> None:
    """Only those that expired before the given moment."""
    await submissions.add_opening(OPENING)
    await submissions.forget_openings(OPENING.expires_at)
    assert (await submissions.accept(replace(NEW, user_id="U2"), "nonce-1")).verdict is Verdict.SOMEBODY_ELSES
    await submissions.forget_openings(OPENING.expires_at + timedelta(seconds=1))
    assert (await submissions.accept(NEW, "nonce-1")).verdict is Verdict.UNKNOWN_OPENING


async def test_ping_returns_when_the_database_answers(submissions: Submissions) -> None:
    """It returns nothing."""
    await submissions.ping()


async def test_an_unknown_id_finds_nothing(submissions: Submissions) -> None:
    """A submission that does not exist is None, not an error."""
    assert await submissions.find("V9") is None
