"""A plan is a tuple of steps: a new one that waits for an outside event works on both engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.exchange import Turn
from bot.delivery.approve import Approve
from bot.delivery.asking import Asking
from bot.delivery.deliver import Delivery
from bot.delivery.enable import Enable
from bot.delivery.permit import Permit
from bot.delivery.plan import PLANS
from bot.delivery.run_inline import InlineDispatcher
from bot.delivery.run_jobs import JobRunner
from bot.delivery.step import MaySend, Step
from bot.delivery.store import Store
from bot.model.catalog import BucketKey
from bot.model.move import Change, Move
from bot.model.secret import Secret
from bot.model.submission import NewSubmission, Pending, Posted, Sealed, State, Submission, Task, TokenKind, Way
from bot.policy.gate import Gate, Home
from bot.policy.rules import Allowlist
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN, FakeCloudflare
from bot.sealing.hpke import KeyRing, generate_private_key, load_private_keys
from bot.slack.memberships import Memberships
from bot.slack.progress_steps import steps_of
from bot.storage.approvals import Approvals
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.jobs import Jobs
from bot.storage.postgres import PostgresDatabase
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.everybody import EVERYBODY
from tests.make import AUTHENTICITY, CHAIN, NobodyAsked

NOW = datetime.now(UTC)  # real, since the server's clock starts the jobs; ours stands still
POND = BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket="pond")
A_HANG = timedelta(seconds=60)
"""Nothing here is timed: the clock stands still, so that nothing can fall due by itself."""


class AwaitWord(Step):
    """Waits until a person has confirmed."""

    name = "await_word"
    label = "Wait for a word"
    given: ClassVar[set[str]] = set()
    asked: ClassVar[asyncio.Queue[str]]

    def is_done(self, submission: Submission, now: datetime) -> bool:
        """Return whether it is confirmed."""
        return submission.id in self.given

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:
        """Wait, for as long as the submission may."""
        self.asked.put_nowait(pending.submission.id)
        return Move(to=pending.submission.state, at=pending.submission.expires_at)


@pytest.mark.parametrize("task", Task)
def test_every_plan_asks_for_the_permit_first(task: Task) -> None:
    """Nothing is sent for a person removed from the allowlist after the Submit, whatever the task."""
    assert PLANS[task][0] is Permit


@dataclass(slots=True)
class Notes:
    """Records what is posted."""

    changes: list[Change] = field(default_factory=list)
    posted: asyncio.Queue[Submission] = field(default_factory=asyncio.Queue)

    async def post_result(self, pending: Pending) -> Posted:
        """Record it."""
        self.posted.put_nowait(pending.submission)
        return Posted(place="C1", way=Way.CHANNEL)


def _delivery(submissions: Submissions, database: Database, client: CloudflareClient, notes: Notes) -> Delivery:
    allowlist = Allowlist(
        users=frozenset({"U1"}), usergroups=frozenset(), channels=frozenset(), buckets=(), may_enable=True
    )
    memberships = Memberships(None, lambda: NOW)  # type: ignore[arg-type]  # a listed user needs no lookup
    return Delivery(
        submissions=submissions,
        catalogs=Catalogs(database, SANDBOX_ACCOUNT_ID),
        cloudflare=client,
        key_ring=KeyRing(*load_private_keys(generate_private_key())),
        gate=Gate(allowlist.rules(), Home(team_id="T1", enterprise_id=None), memberships, EVERYBODY),
        poster=notes,
        asking=Asking(Approvals(database), NobodyAsked(), AUTHENTICITY, lambda: NOW),
        clock=lambda: NOW,
        fresh_token_patience=timedelta(0),
        plans={**PLANS, Task.ENABLE: (Permit, AwaitWord, Enable)},
    )


@asynccontextmanager
async def _inline(path: Path, client: CloudflareClient, notes: Notes) -> AsyncIterator[Submissions]:
    database = SqliteDatabase(path)
    database.start()
    submissions = Submissions(database, CHAIN)
    dispatcher = InlineDispatcher(
        _delivery(submissions, database, client, notes), submissions.unreported_keys, lambda: NOW
    )
    submissions.wake_by(dispatcher.dispatch)
    yield submissions
    await dispatcher.stop()
    database.stop()


@asynccontextmanager
async def _jobs(url: str, client: CloudflareClient, notes: Notes) -> AsyncIterator[Submissions]:
    database = PostgresDatabase(url)
    await database.start()
    jobs = Jobs(database)
    await jobs.prepare()
    submissions = Submissions(database, CHAIN, enqueue=jobs.deliver_in)

    async def nothing(*_: Any) -> None:  # noqa: ANN401 - whatever it is asked for
        return

    runner = JobRunner(
        url=url,
        jobs=jobs,
        find_overdue=submissions.overdue_keys,
        delivery=_delivery(submissions, database, client, notes),
        refresh_catalogs=nothing,
        keep_house=nothing,
        clock=lambda: NOW,
    )
    running = asyncio.create_task(runner.run())
    yield submissions
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await database.stop()


@pytest.mark.parametrize("engine", ["inline", "procrastinate"])
async def test_a_step_that_waits_for_an_event_continues_when_it_comes(
    engine: str, request: pytest.FixtureRequest, database_path: Path
) -> None:
    """Recording the event wakes the bucket, on both engines; no further call is needed."""
    AwaitWord.asked = asyncio.Queue()
    AwaitWord.given.clear()
    notes = Notes()
    async with asyncio.timeout(A_HANG.total_seconds()), AsyncExitStack() as stack:
        small = await stack.enter_async_context(FakeCloudflare())
        small.add_bucket("pond", None)
        client = CloudflareClient(
            account_id=SANDBOX_ACCOUNT_ID, base_url=small.base_url, auth=ApiToken(token=Secret(SANDBOX_API_TOKEN))
        )
        stack.push_async_callback(client.aclose)
        open_engine = (
            _inline(database_path, client, notes)
            if engine == "inline"
            else _jobs(request.getfixturevalue("postgres_url"), client, notes)
        )
        submissions = await stack.enter_async_context(open_engine)
        submissions.watch(notes.changes.append)

        await submissions.add(_enabling("V1"))
        assert await AwaitWord.asked.get() == "V1"
        assert [request.method for request in small.requests] == []

        AwaitWord.given.add("V1")
        while not await submissions.apply(await _read(submissions), Move(to=State.ACCEPTED, at=NOW)):
            pass  # the step's own move came in between
        posted = await notes.posted.get()

    assert posted.state is State.ENABLED
    assert State.ENABLED in {change.submission.state for change in notes.changes if change.is_new_state}


async def _read(submissions: Submissions) -> Submission:
    found = await submissions.find("V1")
    assert found is not None
    return found


def _enabling(view_id: str) -> NewSubmission:
    return NewSubmission(
        id=view_id,
        task=Task.ENABLE,
        team_id="T1",
        user_id="U1",
        key=POND,
        channel_id="C1",
        reason="",
        token_kind=TokenKind.EMPTY,
        last_four="",
        sealed=Sealed(),
        sent_at=NOW,
        accepted_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )


def test_the_progress_is_made_from_the_plan() -> None:
    """The steps are shown in order; one without a label is not shown."""
    assert [step.label for step in steps_of(Task.STORE)] == [
        "Verify the token and the catalog",
        "Wait for an approval",
        "Store it at Cloudflare",
        "Confirm that the stored credential works",
    ]
    assert [[step.state for step in steps_of(task)] for task in Task] == [
        [State.VERIFYING, State.AWAITING_APPROVAL, State.STORING, State.CONFIRMING],
        [State.VERIFYING],
        [State.AWAITING_APPROVAL, State.VERIFYING],
        [State.AWAITING_APPROVAL, State.MINTING, State.VERIFYING, State.STORING, State.CONFIRMING],
    ]


def test_whatever_changes_a_slot_can_need_an_approval() -> None:
    """Every plan with a step that writes asks for the approval before it."""
    for plan in PLANS.values():
        for writes in {Store, Enable} & {*plan}:
            assert plan.index(Permit) < plan.index(Approve) < plan.index(writes)
