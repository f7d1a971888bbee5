"""Requests for an approval and the decisions on them, on both engines."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import select

from bot.model.approval import Answer, Choice, Decision, Request, digest_of
from bot.model.audit import Event
from bot.model.catalog import BucketKey
from bot.model.move import Changes, Move
from bot.model.submission import Pending, State, Submission
from bot.storage.approvals import Approvals
from bot.storage.database import Database
from bot.storage.history import HistoryLimit
from bot.storage.postgres import PostgresDatabase
from bot.storage.schema import AUDIT, DECISIONS
from bot.storage.submissions import Submissions
from tests.make import AUTHENTICITY, CHAIN, NOW, make_new_submission

NEW = make_new_submission(id="V1")
REQUEST = Request(submission_id="V1", channel_id="C0DATAPLT", message_ts="1764000000.000100", asked_at=NOW)


@pytest.fixture
def submissions(tables: Database) -> Submissions:
    """Return the tables of an empty database."""
    return Submissions(tables, CHAIN)


@pytest_asyncio.fixture
async def waiting(submissions: Submissions) -> Submission:
    """Bring a submission to where an approver is asked."""
    await submissions.add(NEW)
    submission = await submissions.find("V1")
    assert submission is not None
    for to in (State.VERIFYING, State.AWAITING_APPROVAL):
        changes = Changes(approval_channel="C0DATAPLT" if to is State.AWAITING_APPROVAL else None)
        move = Move(to=to, at=NOW + timedelta(minutes=1), changes=changes)
        [submission] = await submissions.apply(submission, move)
    return submission


def decide(waiting: Submission, choice: Choice = Choice.APPROVE, user_id: str = "U2") -> Decision:
    """Return a signed decision."""
    digest = digest_of(Pending(submission=waiting, sealed=NEW.sealed))
    decision = Decision(submission_id=waiting.id, choice=choice, user_id=user_id, decided_at=NOW, digest=digest)
    return decision.signed_by(AUTHENTICITY)


async def test_a_decision_is_recorded_audited_and_makes_its_bucket_due(
    tables: Database, submissions: Submissions, waiting: Submission
) -> None:
    """In one transaction; it stays authentic on the way through the database."""
    woken: list[BucketKey] = []
    submissions.wake_by(woken.append)
    assert (await submissions.decide(decide(waiting))).answer is Answer.RECORDED
    recorded = await Approvals(tables).find_decision("V1")
    assert recorded == decide(waiting)
    assert recorded.is_authentic(AUTHENTICITY)
    assert woken == [waiting.key]
    due = await submissions.find("V1")
    assert due is not None
    assert (due.next_attempt_at, due.state) == (NOW, State.AWAITING_APPROVAL)
    assert due.revision == waiting.revision + 1
    audited = select(AUDIT.c.user_id, AUDIT.c.details).where(AUDIT.c.event == Event.APPROVED.value)
    rows = await tables.run(lambda connection: connection.execute(audited).all())
    assert [tuple(row) for row in rows] == [("U2", decide(waiting).digest)]


@pytest_asyncio.fixture
async def other(engine: str, tables: Database, request: pytest.FixtureRequest) -> AsyncIterator[Submissions]:
    """Return the tables as another gateway reads them; SQLite has one process."""
    if engine == "sqlite":
        yield Submissions(tables, CHAIN)
        return
    database = PostgresDatabase(request.getfixturevalue("tables_url"), time_limit=timedelta(seconds=10))
    await database.start()
    yield Submissions(database, CHAIN)
    await database.stop()


async def test_two_decisions_at_the_same_instant_are_one(
    tables: Database, submissions: Submissions, other: Submissions, waiting: Submission
) -> None:
    """Each of many pressers gets the same answer: the decision that counts."""
    choices = [
        (gateway, decide(waiting, choice, f"U{number}"))
        for number in range(5)
        for gateway, choice in ((submissions, Choice.APPROVE), (other, Choice.DENY))
    ]
    answers = await asyncio.gather(*(gateway.decide(decision) for gateway, decision in choices))
    counts = await Approvals(tables).find_decision("V1")
    assert [answer.answer for answer in answers].count(Answer.RECORDED) == 1
    assert {answer.decision for answer in answers} == {counts}
    entries = select(AUDIT.c.number).where(AUDIT.c.event.in_([Event.APPROVED.value, Event.DENIED.value]))
    assert len(await tables.run(lambda connection: connection.execute(entries).all())) == 1


@pytest.mark.parametrize("state", ["before", "after"])
async def test_what_does_not_wait_is_not_decided(submissions: Submissions, state: str) -> None:
    """Neither before an approver is asked, nor after the end."""
    await submissions.add(NEW)
    submission = await submissions.find("V1")
    assert submission is not None
    if state == "after":
        await submissions.apply(submission, Move(to=State.FAILED, at=NOW))
    assert (await submissions.decide(decide(submission))).answer is Answer.NOT_WAITING


async def test_a_decision_on_another_token_is_not_taken(submissions: Submissions, waiting: Submission) -> None:
    """A forged digest."""
    forged = replace(decide(waiting), digest="0" * 32).signed_by(AUTHENTICITY)
    assert (await submissions.decide(forged)).answer is Answer.ANOTHER_TOKEN


async def test_the_first_request_stays(tables: Database) -> None:
    """Two workers may both have posted it; both messages have the same id for Slack."""
    approvals = Approvals(tables)
    assert await approvals.find_request("V1") is None
    await approvals.note_request(REQUEST)
    await approvals.note_request(replace(REQUEST, message_ts="1764000000.000200"))
    assert await approvals.find_request("V1") == REQUEST


async def test_they_are_deleted_with_their_submission(
    tables: Database, submissions: Submissions, waiting: Submission
) -> None:
    """And no sooner."""
    approvals = Approvals(tables)
    await approvals.note_request(REQUEST)
    await submissions.decide(decide(waiting))
    limit = HistoryLimit(tables, timedelta(days=1))
    assert await limit.enforce(NOW + timedelta(days=2)) == 0
    assert await approvals.find_request("V1") == REQUEST
    current = await submissions.find("V1")
    assert current is not None
    lease = await submissions.take(current.key)
    [ended] = await submissions.apply(current, Move(to=State.DENIED, at=NOW), lease)
    await submissions.apply(ended, Move(to=State.DENIED, at=NOW, changes=Changes(reported_at=NOW)), lease)
    assert await limit.enforce(NOW + timedelta(days=2)) == 1
    assert await approvals.find_request("V1") is None
    assert await tables.run(lambda connection: connection.execute(select(DECISIONS)).all()) == []
