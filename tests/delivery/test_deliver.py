"""Deliveries with a fake Cloudflare and a real database: every ending, every wait, and a kill at every point."""

import asyncio
import io
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any, TypeVar, cast

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import Connection, select
from structlog.testing import capture_logs

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CatalogRefusal, CloudflareTrouble, LacksStorageRights, OperatorError
from bot.cloudflare.pace import LocalPace
from bot.delivery.asking import Asker, Asking
from bot.delivery.confirm import CONFIRM_PATIENCE
from bot.delivery.deliver import AFTER_FAULT, LOOK_EVERY, Delivery, _Held
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot
from bot.model.errors import (
    AccessRefused,
    BotError,
    BucketNotAllowed,
    ChannelNotAllowed,
    DatabaseUnavailable,
    EnablingNotAllowed,
    MembershipUnknown,
    NotAllowed,
    NotAMember,
    Outsider,
    PersonUnknown,
    SlackUnavailable,
    error_of_code,
)
from bot.model.move import Change, Move
from bot.model.pasted_token import classify
from bot.model.right_of_way import RightOfWay
from bot.model.secret import Secret
from bot.model.submission import (
    ENDINGS,
    RESPONSE_URL_LIFETIME,
    Check,
    Findings,
    Lease,
    NewSubmission,
    Opening,
    Pending,
    Posted,
    Sealed,
    SealedResponseUrl,
    SealedToken,
    State,
    Submission,
    Task,
    TokenKind,
    Way,
)
from bot.policy.gate import Gate, Home
from bot.policy.profile import Flaw, Profile
from bot.policy.rules import People, Person, Rule, Verb, Who
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN, Failure, FakeCloudflare, Kind
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.tokens import TokenKind as SandboxKind
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext, generate_private_key, load_private_keys
from bot.slack.api import SlackWeb
from bot.slack.memberships import MEMBERSHIP_LIFETIME, Memberships
from bot.slack.messages.redacted import RedactedResult
from bot.slack.messages.render import result_message
from bot.storage.accepting import Verdict
from bot.storage.approvals import Approvals
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.schema import AUDIT
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import AUTHENTICITY, CHAIN, NobodyAsked, at
from tests.noted_way import NotedWay

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TTL = timedelta(minutes=10)
PATIENCE = timedelta(seconds=60)
LAKE = BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket="lake")
OLD = make_token(Behaviour.GOOD, 999)
GOOD = make_token(Behaviour.GOOD)
T = TypeVar("T")


def _seconds(*numbers: float) -> list[timedelta]:
    return [timedelta(seconds=number) for number in numbers]


@dataclass(slots=True)
class Clock:
    """Stands still until it is advanced."""

    now: datetime = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@dataclass(slots=True)
class Death:
    """Cancels the task that reaches the n-th step, or does something else there; with None it does nothing."""

    at_step: int | None = None
    steps: int = 0
    instead: Callable[[], Awaitable[object]] | None = None

    async def step(self) -> None:
        """Die here, or continue."""
        self.steps += 1
        task = asyncio.current_task()
        if self.steps != self.at_step or task is None:
            return
        if self.instead is not None:
            await self.instead()
        else:
            task.cancel()
            await asyncio.sleep(0)


class MortalDatabase(SqliteDatabase):
    """The database, with a chance to die before and after each call."""

    death = Death()

    async def run(
        self, work: Callable[[Connection], T], afterwards: Callable[[T, Any], Awaitable[None]] | None = None
    ) -> T:
        """Run as usual, with a chance to die before and after."""
        await self.death.step()
        result = await super().run(work, afterwards)
        await self.death.step()
        return result


class MortalTransport(httpx.AsyncHTTPTransport):
    """The network, with a chance to die before each request and after its answer.

    `after_answer` is for answers to writes.
    """

    death = Death()
    after_answer: Callable[[], Awaitable[object]] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send as usual, with a chance to die before and after."""
        await self.death.step()
        response = await super().handle_async_request(request)
        await response.aread()
        if self.after_answer is not None and request.method == "POST":
            await self.after_answer()
        await self.death.step()
        return response


OF_GROUP = Rule(name="of a group", who=People(usergroups=frozenset({"S1"})))
_OF_PLACES = (BucketNotAllowed, ChannelNotAllowed, EnablingNotAllowed)


@dataclass(slots=True)
class Doorman(Who):
    """Allows everyone, except for the given refusals; each is used once, `always` forever.

    It is the one who knows the members of user groups as well: there one can be interrupted.
    """

    refusals: list[AccessRefused] = field(default_factory=list)
    always: AccessRefused | None = None
    before_check: Callable[[], Awaitable[object]] | None = None
    checks_before: int = 0
    profile: Profile | None = None
    is_silent: bool = False
    """Whether Slack says nothing about the person."""

    async def profile_of(self, user_id: str) -> Profile | None:
        """Return what Slack says of the person."""
        if self.is_silent:
            raise PersonUnknown
        return self.profile

    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:
        """Request a lookup."""
        return frozenset({"S1"})

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Do what is ordered in the middle of it, or say that it is unknown."""
        if self.before_check is not None and self.checks_before == 0:
            await self.before_check()
            self.before_check = None
        self.checks_before = max(0, self.checks_before - 1)
        refusal = self._next(MembershipUnknown)
        if refusal is not None:
            raise refusal
        return frozenset()

    def refuse(self, person: Person | None) -> AccessRefused | None:
        """Refuse as ordered, a place before anyone is asked about; in doubt as People do."""
        if person is not None and person.unknown_usergroups:
            return MembershipUnknown()
        return self._next(_OF_PLACES if person is None else (NotAllowed, Outsider))

    def _next(self, kind: type[AccessRefused] | tuple[type[AccessRefused], ...]) -> AccessRefused | None:
        if isinstance(self.always, kind):
            return self.always
        return self.refusals.pop(0) if self.refusals and isinstance(self.refusals[0], kind) else None


@dataclass(slots=True)
class Notes:
    """Records the modal's progress and the posted results; the given failures come first."""

    death: Death
    shown: list[Submission] = field(default_factory=list)
    posted: list[Submission] = field(default_factory=list)
    failures: list[SlackUnavailable] = field(default_factory=list)

    def watch(self, change: Change) -> None:
        """Record the modal's progress."""
        if change.is_new_state or not change.submission.is_ended:
            self.shown.append(change.submission)

    async def post_result(self, pending: Pending) -> Posted:
        """Record it, with a chance to die before and after, or fail as ordered."""
        if self.failures:
            raise self.failures.pop(0)
        await self.death.step()
        self.posted.append(pending.submission)
        await self.death.step()
        return Posted(place=pending.submission.channel_id, way=Way.CHANNEL)


@dataclass(slots=True, kw_only=True)
class House:
    """A delivery with everything that it needs."""

    submissions: Submissions
    catalogs: Catalogs
    cloudflare: FakeCloudflare
    client: CloudflareClient
    transport: MortalTransport
    database: MortalDatabase
    database_path: Path
    death: Death
    reporter: Notes
    gate: Doorman = field(default_factory=Doorman)
    asker: Asker = field(default_factory=NobodyAsked)
    real_gate: Gate | None = None
    clock: Clock = field(default_factory=Clock)
    key_ring: KeyRing = field(default_factory=lambda: KeyRing(*load_private_keys(generate_private_key())))
    jitter: float = 1.0
    patience: timedelta = PATIENCE
    max_token_lifetime: timedelta | None = None
    look_every: timedelta = LOOK_EVERY
    right_of_way: RightOfWay | None = None

    @property
    def delivery(self) -> Delivery:
        """A delivery without memory, as after a restart."""
        rule = Rule(name="doorman", who=self.gate, verbs=frozenset(Verb), max_token_lifetime=self.max_token_lifetime)
        return Delivery(
            submissions=self.submissions,
            catalogs=self.catalogs,
            fresh_token_patience=self.patience,
            cloudflare=self.client,
            key_ring=self.key_ring,
            gate=self.real_gate or Gate([rule], Home(team_id="T1", enterprise_id=None), self.gate, self.gate),
            poster=self.reporter,
            asking=Asking(Approvals(self.database), self.asker, AUTHENTICITY, self.clock),
            clock=self.clock,
            jitter=lambda: self.jitter,
            look_every=self.look_every,
            right_of_way=self.right_of_way,
        )

    def make_submission(
        self,
        token: str = GOOD,
        view_id: str = "V1",
        bucket: str = "lake",
        user_id: str = "U1",
        **changes: Any,  # noqa: ANN401 - each field has its own type
    ) -> NewSubmission:
        """Return what the ingress and the listener build from a pasted token."""
        context = SealingContext(
            purpose=TOKEN,
            task=changes.get("task", Task.STORE),
            team_id="T1",
            channel_id="C1",
            user_id=user_id,
            view_id=view_id,
            account_id=SANDBOX_ACCOUNT_ID,
            bucket=bucket,
        )
        new = NewSubmission(
            id=view_id,
            team_id="T1",
            user_id=user_id,
            key=replace(LAKE, bucket=bucket),
            channel_id="C1",
            reason="",
            token_kind=TokenKind.ACCOUNT,
            last_four="four",
            sealed=Sealed(
                token=SealedToken(self.key_ring.sealing_key.seal(token, context)),
                response_url=SealedResponseUrl("sealed.v1.madeup.madeup"),
            ),
            sent_at=self.clock.now,
            accepted_at=self.clock.now,
            expires_at=self.clock.now + TTL,
        )
        return replace(new, **changes)

    async def submit(
        self,
        token: str = GOOD,
        view_id: str = "V1",
        bucket: str = "lake",
        user_id: str = "U1",
        **changes: Any,  # noqa: ANN401 - each field has its own type
    ) -> None:
        """Record a Submit."""
        nonce = f"nonce of {view_id}"
        opening = Opening(nonce=nonce, team_id="T1", user_id=user_id, expires_at=self.clock.now + TTL)
        await self.submissions.add_opening(opening)
        acceptance = await self.submissions.accept(
            self.make_submission(token, view_id, bucket, user_id, **changes), nonce
        )
        assert acceptance.verdict is Verdict.RECORDED

    async def accept_late(self, token: str, view_id: str, *, by: timedelta, ttl: timedelta = TTL) -> None:
        """Record a Submit that was sent a while ago."""
        nonce = f"nonce of {view_id}"
        await self.submissions.add_opening(Opening(nonce=nonce, team_id="T1", user_id="U1", expires_at=START + 2 * TTL))
        arrived_at = self.clock.now - by
        new = replace(self.make_submission(token, view_id), **at(arrived_at), expires_at=arrived_at + ttl)
        assert (await self.submissions.accept(new, nonce)).verdict is Verdict.RECORDED

    async def paste_again(self, token: str, view_id: str = "V1") -> None:
        """Submit again in the same view, with another token."""
        acceptance = await self.submissions.accept(self.make_submission(token, view_id), f"nonce of {view_id}")
        assert acceptance.verdict is Verdict.REPLACED

    async def deliver(self, key: BucketKey = LAKE) -> timedelta | None:
        """Take the due steps; return how long to wait for the next one."""
        due = await self.delivery.deliver(key)
        return None if due is None else due - self.clock.now

    async def deliver_all(self, key: BucketKey = LAKE) -> list[timedelta]:
        """Deliver until nothing is left, advancing the clock; return the waits."""
        waits: list[timedelta] = []
        while (wait := await self.deliver(key)) is not None:
            assert wait > timedelta(0)
            waits.append(wait)
            self.clock.now += wait
        return waits

    async def read(self, view_id: str = "V1") -> Submission:
        """Return a submission as recorded."""
        found = await self.submissions.find(view_id)
        assert found is not None
        return found

    def read_sealed(self, view_id: str = "V1") -> Sealed:
        """Return the sealed values of a submission."""
        query = "SELECT sealed_token, sealed_response_url FROM submissions WHERE id = ?"
        with closing(sqlite3.connect(self.database_path)) as connection:
            token, response_url = connection.execute(query, (view_id,)).fetchone()
        return Sealed(token=token, response_url=response_url)

    async def states(self) -> list[State]:
        """Return the states of V1, V2 and so on."""
        found = [await self.submissions.find(f"V{number}") for number in range(1, 9)]
        return [submission.state for submission in found if submission is not None]

    @property
    def sent(self) -> list[str]:
        """The tokens that reached Cloudflare, in order, stored or not."""
        return [json.loads(request.body)["token"] for request in self.cloudflare.requests if request.method == "POST"]

    @property
    def shown(self) -> list[State]:
        """The changes passed to the modal, in order."""
        return [submission.state for submission in self.reporter.shown]

    @property
    def reported(self) -> list[tuple[str, State]]:
        """The final messages."""
        return [(posted.id, posted.state) for posted in self.reporter.posted]

    @property
    def posts(self) -> list[str]:
        """The writes that reached Cloudflare, whatever their outcome."""
        return [request.method for request in self.cloudflare.requests if request.method == "POST"]

    @property
    def asked(self) -> list[str]:
        """The requests to Cloudflare, without the account; sorted where their order is random."""
        return [
            f"{each.method} {each.path.partition(f'/{SANDBOX_ACCOUNT_ID}/')[2]}" for each in self.cloudflare.requests
        ]


@pytest.fixture
def database(migrated_path: Path) -> Iterator[MortalDatabase]:
    """Start a database in which a test can die."""
    database = MortalDatabase(migrated_path)
    database.start()
    yield database
    database.stop()


@pytest_asyncio.fixture
async def house(database: MortalDatabase, database_path: Path) -> AsyncIterator[House]:
    """Build a delivery, and an account with one bucket of each sort; the slot of `lake` holds an older token."""
    transport = MortalTransport(verify=SSLContext(PROTOCOL_TLS_CLIENT))  # loopback: loading the CAs is slow
    database.death = transport.death = death = Death()
    clock = Clock()
    async with FakeCloudflare(clock=clock, timer=lambda: clock().timestamp()) as small:
        small.add_bucket("lake", token=OLD)
        small.add_bucket("swamp", "inactive")
        small.add_bucket("pond", None)
        client = CloudflareClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url=small.base_url,
            auth=ApiToken(token=Secret(SANDBOX_API_TOKEN)),
            transport=transport,
        )
        submissions, notes = Submissions(database, CHAIN), Notes(death)
        submissions.watch(notes.watch)
        yield House(
            submissions=submissions,
            catalogs=Catalogs(database, SANDBOX_ACCOUNT_ID),
            cloudflare=small,
            client=client,
            transport=transport,
            database=database,
            database_path=database_path,
            death=death,
            reporter=notes,
            clock=clock,
        )
        await client.aclose()


def _test_answer(status: str | None) -> Failure:
    return Failure(status=200, body=json.dumps({"success": True, "errors": [], "result": {"status": status}}))


def _catalog_answer(credential_status: str | None) -> Failure:
    result = {"bucket": "lake", "status": "active", "credential_status": credential_status}
    return Failure(status=200, body=json.dumps({"success": True, "errors": [], "result": result}))


def _assert_reported_once(house: House, ended: Submission) -> None:
    """Whatever the ending: one message, no secret left, and the modal shows the same."""
    assert [posted.id for posted in house.reporter.posted] == [ended.id]
    assert house.reporter.shown[-1].state is house.reporter.posted[0].state is ended.state
    assert house.read_sealed(ended.id) == Sealed()
    assert ended.reported_at is not None


async def test_a_good_token_is_stored_confirmed_and_reported(house: House) -> None:
    """The normal case: all checks, one write, one test, one message, and the progress in order."""
    catalog = Catalog(key=LAKE, status=CatalogStatus.ACTIVE, credential_status=CredentialStatus.PRESENT)
    await house.catalogs.save_snapshot(Snapshot(catalogs=(catalog,), refreshed_at=START))
    await house.submit()
    assert await house.deliver() is None
    ended = await house.read()
    assert (ended.state, ended.confirmation, ended.error_code) == (State.STORED, CredentialStatus.VALID, None)
    assert (ended.attempts, ended.possibly_written) == (1, True)
    assert ended.cf_ray is not None
    assert [(write.bucket, write.token) for write in house.cloudflare.writes] == [("lake", GOOD)]
    checks, write_and_after = house.asked[:3], house.asked[3:]
    assert sorted(checks) == [
        "GET basin-catalog/lake/credential/status",
        "GET r2-catalog/lake",
        "GET tokens/verify",
    ]
    assert write_and_after == ["POST r2-catalog/lake/credential", "GET basin-catalog/lake/credential/status"]
    assert house.shown == [State.VERIFYING, State.STORING, State.CONFIRMING, State.STORED]
    _assert_reported_once(house, ended)


async def test_work_is_read_together_with_the_lease_and_the_moves(house: House) -> None:
    """Where nothing comes between, no step needs a query for what is left to do."""
    read: list[Lease] = []

    class Watched(Submissions):
        async def work(self, lease: Lease) -> list[Pending]:
            read.append(lease)
            return await super().work(lease)

    await house.submit()
    house.submissions = Watched(house.database, CHAIN)
    house.submissions.watch(house.reporter.watch)
    assert await house.deliver() is None
    assert read == []
    _assert_reported_once(house, await house.read())


class Counting:
    """A database that counts its transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.transactions = 0

    async def run(self, work: Callable[[Connection], Any], afterwards: Any = None) -> Any:  # noqa: ANN401 - as the real one
        """Count it, and run it."""
        self.transactions += 1
        return await self._database.run(work, afterwards)

    @property
    def trouble(self) -> Any:  # noqa: ANN401 - as the real one
        """What is wrong with the database."""
        return self._database.trouble


async def test_the_audit_adds_no_transaction_to_a_delivery(house: House) -> None:
    """The write, what was written and the ending are recorded by the moves themselves, which were as many before."""
    await house.submit()
    counting = Counting(house.database)
    house.submissions = Submissions(counting, CHAIN)
    house.submissions.watch(house.reporter.watch)
    assert await house.deliver() is None
    assert counting.transactions == 11
    query = select(AUDIT.c.event).order_by(AUDIT.c.number)
    events = await house.database.run(lambda connection: connection.scalars(query).all())
    assert events == ["submitted", "write_sent", "written", "ended"]


async def test_work_that_was_read_a_while_ago_is_read_again(house: House) -> None:
    """A delivery that had to wait since its last move must not miss what was submitted meanwhile."""
    await house.submit(FIRST)
    lease, work = await house.submissions.take_and_read(LAKE)
    held = _Held(lease=lease, work=work, read_at=house.clock.now)
    await house.submit(SECOND, "V2")
    house.clock.now += timedelta(milliseconds=101)
    found = await house.delivery._take_work(held)
    assert {each.submission.id for each in found} == {"V1", "V2"}
    assert held.work is None  # what a step changes is never taken from an earlier reading


async def test_a_bucket_without_submissions_is_left_alone(house: House) -> None:
    """Without work, nothing is sent."""
    assert await house.deliver() is None
    assert house.asked == []


async def test_the_snapshot_records_what_the_confirmation_found(house: House) -> None:
    """The next form shows that the slot holds a credential."""
    await house.catalogs.save_snapshot(Snapshot(catalogs=(), refreshed_at=START))
    await house.submit()
    await house.deliver_all()
    snapshot = await house.catalogs.snapshot()
    assert snapshot is not None
    assert [catalog.credential_status for catalog in snapshot.catalogs] == [CredentialStatus.VALID]


NO_TEST = Failure(status=404, code=7003)


@pytest.mark.parametrize(
    ("kind", "answers", "waits", "confirmation"),
    [
        pytest.param("status", [], [], CredentialStatus.VALID, id="it works"),
        pytest.param(
            "status", [_test_answer("absent")] * 2, _seconds(2, 2), CredentialStatus.VALID, id="absent, then it works"
        ),
        pytest.param(
            "status", [_test_answer("invalid")] * 2, _seconds(2, 2), CredentialStatus.VALID, id="invalid, then it works"
        ),
        pytest.param(
            "status", [_test_answer("absent")] * 99, _seconds(*[2] * 8), CredentialStatus.ABSENT, id="absent for 15 s"
        ),
        pytest.param(
            "status",
            [_test_answer("invalid")] * 99,
            _seconds(*[2] * 8),
            CredentialStatus.INVALID,
            id="invalid for 15 s",
        ),
        pytest.param("status", [_test_answer("odd")], _seconds(2), CredentialStatus.VALID, id="a word that is new"),
        pytest.param("status", [_test_answer(None)] * 99, _seconds(*[2] * 8), CredentialStatus.UNKNOWN, id="no word"),
        pytest.param("status", [NO_TEST], [], CredentialStatus.PRESENT, id="no test is offered"),
        pytest.param("status", [Failure(status=405)], [], CredentialStatus.PRESENT, id="no test by this method"),
        pytest.param("status", [Failure(status=403, code=10000)], [], CredentialStatus.PRESENT, id="may not test"),
        pytest.param("status", [Failure(status=404, code=40401)], [], CredentialStatus.UNKNOWN, id="catalog gone"),
        pytest.param("status", [Failure(status=503)] * 2, _seconds(2, 2), CredentialStatus.VALID, id="down, then up"),
        pytest.param(
            "status", [Failure(status=503)] * 99, _seconds(*[2] * 8), CredentialStatus.UNKNOWN, id="down for 15 s"
        ),
        pytest.param(
            "status", [Failure(status=429, retry_after=7)], _seconds(7), CredentialStatus.VALID, id="throttled for 7 s"
        ),
        pytest.param(
            "status", [Failure(status=429, retry_after=1)], _seconds(2), CredentialStatus.VALID, id="throttled for 1 s"
        ),
        pytest.param(
            "status", [Failure(status=429, retry_after=16)], [], CredentialStatus.UNKNOWN, id="throttled for too long"
        ),
        pytest.param("get", [], [], CredentialStatus.PRESENT, id="present"),
        pytest.param(
            "get", [_catalog_answer("absent")] * 2, _seconds(2, 2), CredentialStatus.PRESENT, id="absent, then present"
        ),
        pytest.param(
            "get", [_catalog_answer("absent")] * 99, _seconds(*[2] * 8), CredentialStatus.ABSENT, id="still absent"
        ),
        pytest.param(
            "get",
            [Failure(status=503, retry_after=15), _catalog_answer("absent")],
            _seconds(15),
            CredentialStatus.ABSENT,
            id="absent in the last moment",
        ),
        pytest.param(
            "get",
            [Failure(status=503, retry_after=15), Failure(status=503)],
            _seconds(15),
            CredentialStatus.UNKNOWN,
            id="down in the last moment",
        ),
        pytest.param("get", [_catalog_answer(None)], [], CredentialStatus.UNKNOWN, id="not said"),
        pytest.param("get", [_catalog_answer("odd")], [], CredentialStatus.UNKNOWN, id="a status that is new"),
        pytest.param("get", [Failure(status=403, code=10000)], [], CredentialStatus.UNKNOWN, id="may not look"),
    ],
)
async def test_a_success_stays_one_whatever_the_slot_shows(
    house: House, kind: Kind, answers: list[Failure], waits: list[timedelta], confirmation: CredentialStatus
) -> None:
    """An unconfirmed success is reported as stored, with what is known of the slot."""

    def plan_answers() -> None:
        for answer in answers:
            house.cloudflare.fail_next(kind, **answer)

    house.cloudflare.offers_status = kind == "status"
    house.cloudflare.on_write = plan_answers
    await house.submit()
    assert await house.deliver_all() == waits
    ended = await house.read()
    assert (ended.state, ended.confirmation) == (State.STORED, confirmation)
    assert len(house.cloudflare.writes) == 1
    assert house.clock.now - START <= CONFIRM_PATIENCE + timedelta(seconds=2)
    _assert_reported_once(house, ended)


def _leaves(error: type[BotError]) -> set[type[BotError]]:
    return {error} if not error.__subclasses__() else set().union(*map(_leaves, error.__subclasses__()))


DEFINITE_NOES = {
    "weak token": (Failure(status=400, code=30004), State.REFUSED, "lacks_storage_rights"),
    "bad token": (Failure(status=403, code=30005), State.REFUSED, "lacks_storage_rights"),
    "no catalog": (Failure(status=404, code=40401), State.REFUSED, "catalog_not_enabled"),
    "catalog switched off": (Failure(status=409, code=40402), State.REFUSED, "catalog_inactive"),
    "no such bucket": (Failure(status=404, code=40406), State.REFUSED, "no_such_bucket"),
    "no such bucket, says R2": (Failure(status=404, code=10006), State.REFUSED, "no_such_bucket"),
    "the bot is unknown": (Failure(status=401, code=10000), State.FAILED, "caller_rejected"),
    "the bot may not": (
        Failure(status=403, code=10001, message="Method not allowed for token"),
        State.FAILED,
        "caller_not_allowed",
    ),
    "the bot lacks a permission": (
        Failure(status=403, code=10000, message="Forbidden"),
        State.FAILED,
        "caller_lacks_permission",
    ),
    "no such route": (Failure(status=404, code=7003), State.FAILED, "route_gone"),
    "no R2": (Failure(status=403, code=10042), State.FAILED, "r2_not_enabled"),
    "a challenge": (
        Failure(status=403, body="Are you human?", headers={"cf-mitigated": "challenge"}),
        State.FAILED,
        "challenge_page",
    ),
    "a page of a firewall": (Failure(status=403, body="<html>Blocked</html>"), State.FAILED, "blocked_on_the_way"),
    "a code of no table": (Failure(status=400, code=123456), State.FAILED, "request_rejected"),
}


def test_the_table_of_definite_noes_is_complete() -> None:
    """Every error that is not retried has a row."""
    codes = {code for _, _, code in DEFINITE_NOES.values()}
    assert codes == {error.code for error in _leaves(CatalogRefusal) | _leaves(OperatorError) | {LacksStorageRights}}


@pytest.mark.parametrize("name", DEFINITE_NOES)
async def test_a_definite_no_ends_at_once_and_changes_nothing(house: House, name: str) -> None:
    """One request (two if the route has a twin), no write, and the old credential stays."""
    failure, ending, code = DEFINITE_NOES[name]
    house.cloudflare.fail_next("credential", times=2, **failure)
    await house.submit()
    assert await house.deliver_all() == []
    ended = await house.read()
    assert (ended.state, ended.error_code, ended.possibly_written) == (ending, code, False)
    assert ended.cloudflare_code == failure.get("code")
    assert ended.cf_ray is not None
    assert house.posts == ["POST"] * (2 if code == "route_gone" else 1)
    assert house.cloudflare.stored_token("lake") == OLD
    assert house.shown == [State.VERIFYING, State.STORING, ending]
    _assert_reported_once(house, ended)


ACCOUNT, USER, OLDER, OLDER_ACCOUNT = (
    SandboxKind.ACCOUNT,
    SandboxKind.USER,
    SandboxKind.UNPREFIXED,
    SandboxKind.UNPREFIXED_ACCOUNT,
)
PATIENT = _seconds(1, 1, 2, 4, 8, 16, 28)


@pytest.mark.parametrize(
    ("behaviour", "kinds", "code", "waits"),
    [
        pytest.param(Behaviour.EXPIRED, SandboxKind, "token_expired", [], id="expired"),
        pytest.param(Behaviour.DISABLED, SandboxKind, "token_disabled", [], id="disabled"),
        pytest.param(Behaviour.EXPOSED, SandboxKind, "token_exposed", [], id="exposed"),
        pytest.param(Behaviour.NOT_YET_VALID, SandboxKind, "token_not_yet_valid", [], id="not yet valid"),
        pytest.param(Behaviour.UNKNOWN, SandboxKind, "token_invalid", PATIENT, id="unknown"),
        pytest.param(Behaviour.LACKS_CATALOG, [ACCOUNT, OLDER_ACCOUNT], "lacks_catalog_rights", PATIENT, id="no right"),
        pytest.param(Behaviour.LACKS_CATALOG, [USER, OLDER], "catalog_out_of_reach", PATIENT, id="no right, of a user"),
        pytest.param(
            Behaviour.OTHER_ACCOUNT, [ACCOUNT, OLDER_ACCOUNT], "token_of_another_account", PATIENT, id="elsewhere"
        ),
        pytest.param(Behaviour.OTHER_ACCOUNT, [USER, OLDER], "catalog_out_of_reach", PATIENT, id="of a user elsewhere"),
    ],
)
async def test_a_bad_token_is_refused_before_anything_is_written(
    house: House, behaviour: Behaviour, kinds: Iterable[SandboxKind], code: str, waits: list[timedelta]
) -> None:
    """By the checks, after a minute of patience if it could just be new; the slot keeps its credential."""
    for number, kind in enumerate(kinds):
        token = make_token(behaviour, number, kind)
        await house.submit(token, f"V{number}", token_kind=classify(token))
        assert await house.deliver_all() == waits
        ended = await house.read(f"V{number}")
        assert (ended.state, ended.error_code, ended.attempts) == (State.REFUSED, code, 0), kind
        assert ended.cf_ray is not None
        assert (house.read_sealed(ended.id).token, ended.possibly_written) == (None, False)
    assert house.posts == []
    assert house.cloudflare.stored_token("lake") == OLD


LIVES_TOO_LONG = (State.REFUSED, "token_lives_too_long")


@pytest.mark.parametrize(
    ("behaviour", "limit_days", "is_good"),
    [
        pytest.param(Behaviour.EXPIRES_SOON, 11, True, id="expires within the limit"),
        pytest.param(Behaviour.EXPIRES_SOON, 9, False, id="expires later"),
        pytest.param(Behaviour.NEVER_EXPIRES, 3650, False, id="never expires"),
        pytest.param(Behaviour.NEVER_EXPIRES, None, True, id="never expires, no limit"),
    ],
)
@pytest.mark.parametrize("task", [Task.STORE, Task.CHECK])
async def test_a_token_that_lives_longer_than_allowed_is_refused(
    house: House, task: Task, behaviour: Behaviour, limit_days: int | None, *, is_good: bool
) -> None:
    """Before anything is written, and the result shows its expiry; a check ends in the same way."""
    house.max_token_lifetime = None if limit_days is None else timedelta(days=limit_days)
    await house.submit(make_token(behaviour), task=task)

    await house.deliver_all()

    ended = await house.read()
    good = (State.STORED if task is Task.STORE else State.CHECKED, None)
    assert (ended.state, ended.error_code) == (good if is_good else LIVES_TOO_LONG)
    assert ended.findings is not None
    assert ended.findings.token is not None
    assert (ended.findings.token.expires_at is None) is (behaviour is Behaviour.NEVER_EXPIRES)
    if not is_good:
        assert (house.posts, house.read_sealed().token) == ([], None)
        assert house.cloudflare.stored_token("lake") == OLD
        _assert_reported_once(house, ended)


async def test_a_token_of_unknown_expiry_is_refused_if_there_is_a_limit(house: House) -> None:
    """Otherwise the limit would not apply to a token about which Cloudflare says nothing."""
    house.max_token_lifetime = timedelta(days=3650)
    refused = "Method not allowed for token"
    house.cloudflare.fail_next("verify", times=8, status=403, code=10001, message=refused)
    await house.submit()

    await house.deliver_all()

    ended = await house.read()
    assert (ended.state, ended.error_code) == LIVES_TOO_LONG
    assert house.posts == []


async def test_a_new_token_that_cloudflare_does_not_know_yet_is_stored_a_little_later(house: House) -> None:
    """Meanwhile the modal shows the cause of the wait."""
    await house.submit(make_token(Behaviour.FRESH))
    assert await house.deliver_all() == _seconds(1, 1, 2)
    assert (await house.read()).state is State.STORED
    shown = [(each.state, each.error_code) for each in house.reporter.shown[:2]]
    assert shown == [(State.VERIFYING, "token_invalid")] * 2


@pytest.mark.parametrize(
    ("patience", "waits"),
    [
        pytest.param(0, [], id="none"),
        pytest.param(1, _seconds(1), id="a second"),
        pytest.param(10, _seconds(1, 1, 2, 4, 2), id="ten seconds"),
        pytest.param(60, PATIENT, id="a minute"),
        pytest.param(300, _seconds(1, 1, 2, 4, 8, 16, 32, 64, 128, 44), id="five minutes"),
    ],
)
async def test_the_patience_is_what_the_setting_says(house: House, patience: int, waits: list[timedelta]) -> None:
    """With growing pauses, the last of which ends with it; then Cloudflare's no is final, and nothing was written."""
    house.patience = timedelta(seconds=patience)
    await house.submit(make_token(Behaviour.UNKNOWN))
    assert await house.deliver_all() == waits
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (State.REFUSED, "token_invalid", [])
    _assert_reported_once(house, ended)


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.EXPIRED, Behaviour.DISABLED, Behaviour.EXPOSED, Behaviour.NOT_YET_VALID],
    ids=lambda each: each.value,
)
async def test_a_permanent_refusal_gets_no_patience(house: House, behaviour: Behaviour) -> None:
    """Waiting would not make the token valid."""
    await house.submit(make_token(behaviour))
    assert await house.deliver_all() == []
    assert house.asked.count("GET tokens/verify") == 1


async def test_the_patience_is_counted_from_the_first_no(house: House) -> None:
    """Neither trouble nor a restart extends it."""
    house.cloudflare.fail_next("any", status=503, retry_after=100, times=4)
    await house.submit(make_token(Behaviour.UNKNOWN))
    assert await house.deliver() == timedelta(seconds=100)
    house.clock.now += timedelta(seconds=100)
    assert await house.deliver() == timedelta(seconds=1)
    began_at = house.clock.now
    house.clock.now += timedelta(seconds=1)
    house.cloudflare.fail_next("any", status=503, retry_after=30, times=4)
    assert await house.deliver() == timedelta(seconds=30)
    house.clock.now += timedelta(seconds=30)
    await house.deliver_all()
    assert house.clock.now - began_at == PATIENCE


@pytest.mark.parametrize("task", [Task.STORE, Task.CHECK])
async def test_a_fresh_token_is_waited_for_whatever_the_task(house: House, task: Task) -> None:
    """Also for a check."""
    await house.submit(make_token(Behaviour.FRESH), task=task)
    assert await house.deliver_all() == _seconds(1, 1, 2)
    assert (await house.read()).state is (State.STORED if task is Task.STORE else State.CHECKED)


UNCLEAR: dict[str, list[tuple[Kind, Failure, Check]]] = {
    "verifying is forbidden": [("verify", Failure(status=403), Check.TOKEN)],
    "reading is forbidden": [("read", Failure(status=403), Check.REACH)],
}


@pytest.mark.parametrize("unclear", UNCLEAR.values(), ids=UNCLEAR)
async def test_an_unclear_no_is_stored_after_the_patience(
    house: House, unclear: list[tuple[Kind, Failure, Check]]
) -> None:
    """It could be a new token; if not, only that check has no answer, and the result says so."""
    for kind, failure, _ in unclear:
        house.cloudflare.fail_next(kind, times=999, **failure)
    await house.submit()
    assert await house.deliver_all() == PATIENT
    ended = await house.read()
    assert (ended.state, house.cloudflare.stored_token("lake")) == (State.STORED, GOOD)
    assert ended.findings is not None
    assert ended.findings.unchecked == {check for _, _, check in unclear}


async def test_a_token_that_is_unknown_is_not_written_although_it_reads_the_catalog(house: House) -> None:
    """It may just have been revoked: after the patience a clear no is final, and the slot keeps its credential."""
    house.cloudflare.fail_next("verify", times=999, status=401, code=1000)
    await house.submit()
    assert await house.deliver_all() == PATIENT
    ended = await house.read()
    assert (ended.state, ended.error_code) == (State.REFUSED, "token_invalid")
    assert (house.posts, house.cloudflare.stored_token("lake")) == ([], OLD)


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param({"verify": Failure(status=401, body="<html>Sign in</html>")}, id="verifying meets a sign-in page"),
        pytest.param({"read": Failure(status=400, body="<html>")}, id="reading meets a page"),
        pytest.param({"verify": Failure(status=503), "read": Failure(status=503)}, id="both are down"),
    ],
)
async def test_a_missing_answer_neither_refuses_nor_writes(house: House, failures: dict[Kind, Failure]) -> None:
    """The question is repeated until the deadline, and the slot keeps its credential."""
    for kind, failure in {"read": Failure(status=503), **failures}.items():
        house.cloudflare.fail_next(kind, times=999, **failure)
    await house.submit()
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, house.posts, house.cloudflare.stored_token("lake")) == (State.FAILED, [], OLD)
    assert house.clock.now - START > TTL - timedelta(seconds=61)
    _assert_reported_once(house, ended)


def _task_that_asks(kind: Kind) -> Task:
    """Return a task that always asks this: a store asks with the bot's own credentials only if something is open."""
    return Task.CHECK if kind == "get" else Task.STORE


@pytest.mark.parametrize("kind", ["verify", "get", "read", "credential"])
@pytest.mark.parametrize("code", [1001, 1003, 1038, 123456])
async def test_a_no_of_the_api_ends_it_at_once_whatever_its_code(house: House, kind: Kind, code: int) -> None:
    """In an envelope it is no error of the edge, which would pass: the same would be answered for the whole time."""
    house.cloudflare.fail_next(kind, times=999, status=400, code=code)
    await house.submit(task=_task_that_asks(kind))
    assert await house.deliver_all() == []
    ended = await house.read()
    assert (ended.state, ended.error_code) == (State.FAILED, "request_rejected")
    assert (ended.cloudflare_code, house.cloudflare.stored_token("lake")) == (code, OLD)
    _assert_reported_once(house, ended)


_BARE: dict[str, Failure] = {
    "401": Failure(status=401, body=""),
    "403": Failure(status=403, body=""),
    "a sign-in page": Failure(status=401, body="<html>Sign in</html>"),
    "a code that is new": Failure(status=403, code=123456),
}


@pytest.mark.parametrize("kinds", [("verify", "read"), ("read",), ("get",), ("any",)], ids="+".join)
@pytest.mark.parametrize("failure", _BARE.values(), ids=_BARE)
async def test_a_bare_no_that_lasts_ends_long_before_the_deadline(
    house: House, failure: Failure, kinds: tuple[Kind, ...]
) -> None:
    """After the patience for a new token at the latest; the slot keeps its credential."""
    for kind in kinds:
        house.cloudflare.fail_next(kind, times=999, **failure)
    await house.submit(task=_task_that_asks(kinds[0]))
    await house.deliver_all()
    ended = await house.read()
    assert ended.state in {State.FAILED, State.REFUSED}
    assert ended.error_code in {"unexplained_refusal", "caller_rejected", "credential_refused", "lacks_catalog_rights"}
    assert house.clock.now - START <= PATIENCE
    assert (house.posts, house.cloudflare.stored_token("lake")) == ([], OLD)
    _assert_reported_once(house, ended)


async def test_a_bare_no_after_a_lost_answer_leaves_it_uncertain(house: House) -> None:
    """The write may have landed: no later refusal changes that."""
    house.cloudflare.fail_next("credential", status=503, retry_after=61)
    await house.submit()
    await house.deliver()
    house.clock.now += timedelta(seconds=61)
    for kind in ("verify", "read"):
        house.cloudflare.fail_next(kind, times=999, status=403, body="")
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code) == (State.UNCERTAIN, "unexplained_refusal")
    assert house.clock.now - START <= timedelta(seconds=61) + PATIENCE
    _assert_reported_once(house, ended)


@pytest.mark.parametrize(
    ("failures", "ending", "code"),
    [
        pytest.param({}, State.CHECKED, None, id="good"),
        pytest.param({"verify": Failure(status=503)}, State.CHECKED, None, id="after trouble"),
        pytest.param(
            {"get": Failure(status=404, code=40401), "read": Failure(status=404, code=40401)},
            State.REFUSED,
            "catalog_not_enabled",
            id="no catalog",
        ),
        pytest.param(
            {"get": Failure(status=403, code=10000)}, State.FAILED, "caller_rejected", id="the bot may not look"
        ),
    ],
)
async def test_a_check_ends_as_a_write_would(
    house: House, failures: dict[Kind, Failure], ending: State, code: str | None
) -> None:
    """Except for the write."""
    for kind, failure in failures.items():
        house.cloudflare.fail_next(kind, **failure)
    await house.submit(task=Task.CHECK)
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (ending, code, [])
    assert house.cloudflare.stored_token("lake") == OLD
    _assert_reported_once(house, ended)


async def test_a_store_that_the_bot_may_not_do_ends_as_its_dry_run(house: House) -> None:
    """The pasted token sees the catalog, so the bot does not ask itself; the write tells the same."""
    for kind in ("get", "credential"):
        house.cloudflare.fail_next(kind, times=999, status=403, code=10000)
    await house.submit()
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code) == (State.FAILED, "caller_rejected")
    assert house.cloudflare.stored_token("lake") == OLD
    _assert_reported_once(house, ended)


async def test_a_delivery_gives_way_before_it_begins_and_before_its_message(house: House) -> None:
    """Between them its requests do so (see the client)."""
    house.right_of_way = way = NotedWay(lambda: (len(house.cloudflare.requests), len(house.reporter.posted)))
    await house.submit()
    await house.deliver_all()
    assert way.noted == [(0, 0), (len(house.cloudflare.requests), 0)]


@pytest.mark.parametrize(("seconds", "checks"), [(59, 1), (60, 2), (61, 2)])
async def test_findings_are_valid_for_a_minute(house: House, seconds: int, checks: int) -> None:
    """To the second: a write that had to wait longer is checked again."""
    house.cloudflare.fail_next("credential", status=503, retry_after=seconds)
    await house.submit()
    await house.deliver_all()
    assert (await house.read()).state is State.STORED
    assert house.asked.count("GET tokens/verify") == checks


@pytest.mark.parametrize(
    ("bucket", "code"), [("pond", "catalog_not_enabled"), ("swamp", "catalog_inactive"), ("desert", "no_such_bucket")]
)
async def test_a_bucket_that_takes_no_credential_is_found_out_before_the_write(
    house: House, bucket: str, code: str
) -> None:
    """At once, whatever the token is."""
    await house.submit(bucket=bucket)
    assert await house.deliver_all(replace(LAKE, bucket=bucket)) == []
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (State.REFUSED, code, [])


@pytest.mark.parametrize(
    ("behaviour", "unchecked"),
    [
        pytest.param(Behaviour.GOOD, [], id="all is checked"),
        pytest.param(Behaviour.UNREADABLE, [Check.REACH], id="it may not ask for the catalog"),
        pytest.param(Behaviour.VERIFY_DOWN, [], id="after trouble"),
    ],
)
async def test_skipped_checks_are_recorded(house: House, behaviour: Behaviour, unchecked: list[Check]) -> None:
    """With Cloudflare's facts about the token, none of which is secret."""
    await house.submit(make_token(behaviour))
    await house.deliver_all()
    ended = await house.read()
    assert ended.state is State.STORED
    assert ended.findings is not None
    assert ended.findings.token is not None
    assert ended.findings.token.expires_at == ended.checked_at + timedelta(days=90) if ended.checked_at else False
    assert ended.findings == Findings(
        token=ended.findings.token, unchecked=frozenset(unchecked), credential=CredentialStatus.VALID
    )


@pytest.mark.parametrize(
    ("before", "offered", "status"),
    [
        pytest.param(OLD, True, CredentialStatus.VALID, id="it works"),
        pytest.param(make_token(Behaviour.STORED_INVALID), True, CredentialStatus.INVALID, id="it does not work"),
        pytest.param(None, True, CredentialStatus.ABSENT, id="there is none"),
        pytest.param(OLD, False, CredentialStatus.PRESENT, id="there is one, and no test"),
        pytest.param(None, False, CredentialStatus.ABSENT, id="there is none, and no test"),
    ],
)
async def test_the_replaced_credential_is_known_beforehand(
    house: House, before: str | None, status: CredentialStatus, *, offered: bool
) -> None:
    """It is requested together with the checks."""
    house.cloudflare.add_bucket("lake", token=before)
    house.cloudflare.offers_status = offered
    await house.submit()
    await house.deliver_all()
    findings = (await house.read()).findings
    assert findings is not None
    assert findings.credential is status


async def test_trouble_with_the_checks_until_the_deadline_is_reported(house: House) -> None:
    """Certainly nothing was written, and the cause is known."""
    house.cloudflare.fail_next("verify", status=503, times=999)
    await house.submit()
    waits = await house.deliver_all()
    assert waits[:6] == _seconds(1, 1, 2, 4, 8, 16)
    assert max(waits) == timedelta(seconds=60)
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (State.FAILED, "cloudflare_unavailable", [])
    _assert_reported_once(house, ended)


async def test_a_deadline_before_the_end_of_the_patience_is_a_refusal(house: House) -> None:
    """Cloudflare refused it to the end."""
    await house.submit(make_token(Behaviour.UNKNOWN), expires_at=house.clock.now + timedelta(seconds=30))
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code) == (State.REFUSED, "token_invalid")
    _assert_reported_once(house, ended)


async def test_checking_only_writes_nothing(house: House) -> None:
    """It ends before the write, with the same findings, and the token is erased."""
    await house.submit(task=Task.CHECK)
    assert await house.deliver_all() == []
    ended = await house.read()
    assert (ended.state, ended.attempts, house.posts) == (State.CHECKED, 0, [])
    assert ended.findings is not None
    assert house.shown == [State.CHECKED]
    _assert_reported_once(house, ended)


async def test_a_check_supersedes_nothing(house: House) -> None:
    """A person who only checks does not replace another one's submission."""
    await house.submit(FIRST)
    await house.submit(SECOND, "V2", task=Task.CHECK)
    await house.deliver_all()
    assert house.sent == [FIRST]
    assert sorted(house.reported) == [("V1", State.STORED), ("V2", State.CHECKED)]


async def test_a_newer_one_does_not_end_an_older_check(house: House) -> None:
    """The slot does not depend on it."""
    await house.submit(FIRST, task=Task.CHECK)
    await house.submit(SECOND, "V2")
    await house.deliver_all()
    assert sorted(house.reported) == [("V1", State.CHECKED), ("V2", State.STORED)]


class _Turnstile(LocalPace):
    """Makes something happen while a first check waits in line, or tells all checks when to come back."""

    meanwhile: Callable[[], Awaitable[object]] | None = None
    checks_closed_until: datetime | None = None

    async def turn(self, urgency: Urgency) -> datetime | None:
        """Make a check wait, and let everything else go."""
        if urgency is Urgency.CHECK and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        if urgency is Urgency.CHECK and self.checks_closed_until is not None:
            return self.checks_closed_until
        return await super().turn(urgency)


@pytest.mark.parametrize("where", ["in line", "at Cloudflare"])
@pytest.mark.parametrize("task", [Task.STORE, Task.ENABLE])
async def test_a_check_steps_aside_wherever_it_waits(house: House, where: str, task: Task) -> None:
    """Changes to the same bucket overtake it; the check is made afterwards."""
    others = {} if task is Task.STORE else _enabling("lake")

    async def come_and_hang() -> None:
        await house.submit(SECOND, "V2", **({"task": task} | others))
        await asyncio.Event().wait()

    house.look_every = timedelta(milliseconds=1)
    pace = house.client._exchange.pace = _Turnstile(house.clock)
    if where == "in line":
        pace.meanwhile = come_and_hang
    else:
        house.transport.death = Death(at_step=1, instead=come_and_hang)
    await house.submit(FIRST, task=Task.CHECK)
    await house.deliver_all()
    done = State.STORED if task is Task.STORE else State.ENABLED
    assert house.reported == [("V2", done), ("V1", State.CHECKED)]
    assert pace._in_flight == 0


async def test_a_result_is_posted_before_a_waiting_check(house: House) -> None:
    """Slack did not accept it at once; when it does, the result waits for no check."""
    house.look_every = timedelta(milliseconds=1)
    pace = house.client._exchange.pace = _Turnstile(house.clock)

    async def come_and_hang() -> None:
        house.clock.now += timedelta(minutes=1)
        await asyncio.Event().wait()

    pace.meanwhile = come_and_hang
    house.reporter.failures = [SlackUnavailable()]
    await house.submit(FIRST)
    await house.submit(SECOND, "V2", task=Task.CHECK)
    await house.deliver_all()
    assert house.reported == [("V1", State.STORED), ("V2", State.CHECKED)]


async def test_a_check_that_expires_in_line_is_reported(house: House) -> None:
    """However long the writes before it take: it ends at its deadline, with nothing sent."""
    house.look_every = timedelta(milliseconds=1)
    pace = house.client._exchange.pace = _Turnstile(house.clock)

    async def hang_until_it_is_over() -> None:
        house.clock.now += TTL
        await asyncio.Event().wait()

    pace.meanwhile = hang_until_it_is_over
    await house.submit(task=Task.CHECK)
    await house.deliver_all()
    assert (house.reported, house.asked) == ([("V1", State.EXPIRED)], [])


async def test_a_check_for_which_no_room_is_left_holds_up_no_write(house: House) -> None:
    """It comes back later; if it would expire before, it ends at once."""
    pace = house.client._exchange.pace = _Turnstile(house.clock)
    pace.checks_closed_until = START + timedelta(minutes=5)
    await house.submit(FIRST, task=Task.CHECK)
    assert await house.deliver() == timedelta(minutes=5)
    await house.submit(SECOND, "V2")
    assert await house.deliver() == timedelta(minutes=5)
    assert house.reported == [("V2", State.STORED)]
    pace.checks_closed_until = START + timedelta(hours=1)
    await house.deliver()
    assert house.reported == [("V2", State.STORED), ("V1", State.FAILED)]


@pytest.mark.parametrize("task", [Task.CHECK, Task.ENABLE])
async def test_only_stores_hold_back_others(house: House, task: Task) -> None:
    """A check or an enabling without an answer from Cloudflare does not delay a good token."""
    kind: Kind = "verify" if task is Task.CHECK else "enable"
    house.cloudflare.fail_next("credential", status=503, retry_after=10)
    await house.submit(FIRST)
    await house.delivery.deliver(LAKE)  # it waits
    others = {} if task is Task.CHECK else _enabling("lake")
    await house.submit(SECOND, "V2", **({"task": task} | others))
    house.cloudflare.fail_next(kind, times=999, status=503, retry_after=60)

    house.clock.now += timedelta(seconds=10)
    await house.delivery.deliver(LAKE)
    await house.delivery.deliver(LAKE)

    assert ((await house.read("V1")).state, house.cloudflare.stored_token("lake")) == (State.STORED, FIRST)
    assert not (await house.read("V2")).is_ended
    await house.deliver_all()
    assert sorted(house.reported) == [("V1", State.STORED), ("V2", State.FAILED)]


async def test_a_catalog_is_enabled_before_anything_is_stored_in_it(house: House) -> None:
    """A person who presses the button and then submits again is not refused."""
    lake = replace(LAKE, bucket="pond")
    await house.submit(**_enabling("pond"))
    await house.submit(SECOND, "V2", "pond")
    await house.deliver_all(lake)
    assert sorted(house.reported) == [("V1", State.ENABLED), ("V2", State.STORED)]


def _enabling(bucket: str) -> dict[str, Any]:
    return {"bucket": bucket, "task": Task.ENABLE, "sealed": Sealed(), "token_kind": TokenKind.EMPTY}


@pytest.mark.parametrize("bucket", ["pond", "swamp", "lake"])
async def test_a_catalog_is_enabled(house: House, bucket: str) -> None:
    """One never enabled, an inactive one and an active one; it is recorded at once."""
    key = replace(LAKE, bucket=bucket)
    await house.catalogs.save_snapshot(Snapshot(catalogs=(), refreshed_at=house.clock.now))
    await house.submit(**_enabling(bucket))
    assert await house.deliver_all(key) == []
    known = await house.catalogs.snapshot()
    assert known is not None
    assert [(each.key, each.status) for each in known.catalogs] == [(key, CatalogStatus.ACTIVE)]
    ended = await house.read()
    assert (ended.state, house.asked) == (State.ENABLED, [f"POST r2-catalog/{bucket}/enable"])
    assert house.cloudflare.buckets[bucket].catalog == "active"
    _assert_reported_once(house, ended)


@pytest.mark.parametrize(
    ("failures", "waits", "ending", "code"),
    [
        pytest.param([Failure(status=503)] * 2, _seconds(1, 1), State.ENABLED, None, id="down, then up"),
        pytest.param([Failure(drop_after_store=True)], _seconds(1), State.ENABLED, None, id="answer lost"),
        pytest.param([Failure(status=404, code=40406)], [], State.REFUSED, "no_such_bucket", id="no such bucket"),
        pytest.param(
            [Failure(status=403, code=10000)], [], State.FAILED, "caller_rejected", id="the bot may not do that"
        ),
        pytest.param(
            [Failure(status=429, retry_after=3600)], [], State.FAILED, "throttled", id="throttled for too long"
        ),
    ],
)
async def test_enabling_that_fails(
    house: House, failures: list[Failure], waits: list[timedelta], ending: State, code: str | None
) -> None:
    """An error that passes is retried, which is safe; any other is reported."""
    for failure in failures:
        house.cloudflare.fail_next("enable", **failure)
    await house.submit(**_enabling("pond"))
    assert await house.deliver_all(replace(LAKE, bucket="pond")) == waits
    ended = await house.read()
    assert (ended.state, ended.error_code) == (ending, code)
    _assert_reported_once(house, ended)


async def test_enabling_is_denied_after_the_setting_was_removed(house: House) -> None:
    """The setting of the process that talks to Cloudflare counts."""
    house.gate.refusals.append(EnablingNotAllowed())
    await house.submit(**_enabling("pond"))
    await house.deliver_all(replace(LAKE, bucket="pond"))
    assert ((await house.read()).state, house.asked) == (State.DENIED, [])


@pytest.mark.parametrize(
    ("losers", "state"), [(1, State.ACCEPTED), (0, State.ACCEPTED)], ids=["taken over", "too late"]
)
async def test_enabling_that_was_frozen_sends_nothing(house: House, losers: int, state: State) -> None:
    """After its time is over, or if another process has taken over."""

    class Frozen(Submissions):
        async def holds(self, lease: Lease) -> bool:
            if losers:
                await self.take(lease.key)
            else:
                house.clock.now = START + TTL
            return await super().holds(lease)

    await house.submit(**_enabling("pond"))
    submissions, house.submissions = house.submissions, Frozen(house.database, CHAIN)
    await house.deliver(replace(LAKE, bucket="pond"))
    house.submissions = submissions
    assert house.asked == []
    await house.deliver_all(replace(LAKE, bucket="pond"))
    assert (await house.read()).state is (State.ENABLED if losers else State.EXPIRED)


async def test_a_write_that_had_to_wait_is_preceded_by_new_checks(house: House) -> None:
    """The token was revoked while Cloudflare asked to wait: it is not written, and no one reads "unchanged"."""
    house.cloudflare.fail_next("credential", **DENIED_FOR_NOW)
    await house.submit(FIRST)
    assert await house.deliver() == timedelta(seconds=300)
    house.cloudflare.revoke(FIRST)
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (State.UNCERTAIN, "token_invalid", ["POST"])
    assert ended.findings is not None
    assert ended.findings.credential is CredentialStatus.VALID


async def test_a_landed_write_is_not_taken_for_the_earlier_credential(house: House) -> None:
    """The first write landed without an answer: new checks find our own token in a slot that was empty."""
    pond = replace(LAKE, bucket="pond")
    house.cloudflare.add_bucket(pond.bucket)
    house.cloudflare.fail_next("credential", **DENIED_FOR_NOW)
    await house.submit(FIRST, bucket=pond.bucket)
    assert await house.deliver(pond) == timedelta(seconds=300)
    house.cloudflare.add_bucket(pond.bucket, token=FIRST)
    await house.deliver_all(pond)
    ended = await house.read()
    assert ended.state is State.STORED
    assert house.asked.count("GET tokens/verify") == 2
    assert ended.findings is not None
    assert ended.findings.credential is CredentialStatus.ABSENT


async def test_a_write_that_waited_a_moment_is_not_checked_again(house: House) -> None:
    """Findings are valid for a minute."""
    house.cloudflare.fail_next("credential", status=503, retry_after=59)
    await house.submit(FIRST)
    await house.deliver_all()
    assert house.asked.count("GET tokens/verify") == 1


async def test_an_unrecorded_answer_keeps_no_token(house: House) -> None:
    """The database is down after the write: what is kept in memory has no frame that holds the token."""
    token = make_token(Behaviour.WEAK, 4)
    await house.submit(token)
    house.submissions = forgetful = Forgetful(house.database, CHAIN)
    forgetful.watch(house.reporter.watch)
    forgetful.fails = 1
    delivery = house.delivery
    with pytest.raises(DatabaseUnavailable):
        await delivery.deliver(LAKE)
    [kept] = delivery._kept._of_bucket[LAKE].values()
    move = kept.move
    assert move.because is not None
    assert move.because.__traceback__ is None
    await house.deliver_all()  # another process has taken over the bucket and finished it
    assert await delivery.deliver(LAKE) is None
    assert delivery._kept._of_bucket == {}


async def test_a_token_that_does_not_open_is_never_sent(house: House) -> None:
    """Its key is gone: the ending says so, and nothing goes to Cloudflare."""
    await house.submit()
    house.key_ring.forget(house.key_ring.sealing_key.key_id)
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code) == (State.FAILED, "sealed_value_unreadable")
    assert house.asked == []
    _assert_reported_once(house, ended)


@pytest.mark.parametrize("refusal", [NotAllowed(), Outsider(), BucketNotAllowed(), ChannelNotAllowed()], ids=repr)
async def test_who_is_no_longer_allowed_is_denied(house: House, refusal: AccessRefused) -> None:
    """The allowlist changed after the Submit: nothing is sent."""
    await house.submit()
    house.gate.refusals.append(refusal)
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code, ended.attempts) == (State.DENIED, refusal.code, 0)
    assert house.asked == []
    _assert_reported_once(house, ended)


class UserGroups:
    """Slack, as far as it says who is in a group."""

    def __init__(self) -> None:
        self.members = {"U1"}

    async def usergroup_members(self, _: str) -> frozenset[str]:
        """Return the members."""
        return frozenset(self.members)


REMOVALS: dict[str, Callable[[Gate, UserGroups], None]] = {
    "from the policy": lambda gate, _: gate.follow([replace(OF_GROUP, who=People(users=frozenset({"U2"})))]),
    "from the user group": lambda _, groups: groups.members.clear(),
    "the channel": lambda gate, _: gate.follow([replace(OF_GROUP, channels=frozenset({"C2"}))]),
    "the bucket": lambda gate, _: gate.follow([replace(OF_GROUP, buckets=("pond",))]),
    "the verb": lambda gate, _: gate.follow([replace(OF_GROUP, verbs=frozenset({Verb.STATUS}))]),
}


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
async def test_what_waits_is_denied_once_it_is_not_allowed(
    house: House, remove: Callable[[Gate, UserGroups], None]
) -> None:
    """A removed person is out within the minute for which memberships are remembered; the token is erased unsent."""
    groups = UserGroups()
    memberships = Memberships(cast("SlackWeb", groups), house.clock)
    house.real_gate = gate = Gate([OF_GROUP], Home(team_id="T1", enterprise_id=None), memberships, house.gate)
    await house.submit()
    house.cloudflare.fail_next("verify", status=503, retry_after=50)
    assert await house.deliver() == timedelta(seconds=50)
    asked = len(house.asked)

    remove(gate, groups)
    house.clock.now += MEMBERSHIP_LIFETIME
    await house.deliver_all()

    ended = await house.read()
    assert ended.state is State.DENIED
    assert (house.read_sealed().token, len(house.asked), house.posts) == (None, asked, [])
    _assert_reported_once(house, ended)


async def test_the_limit_of_a_tokens_life_is_that_of_the_rule_at_the_delivery(house: House) -> None:
    """Not that of the Submit, and not that of another rule."""
    limited = replace(OF_GROUP, who=People(users=frozenset({"U1"})), max_token_lifetime=timedelta(days=1))
    memberships = Memberships(cast("SlackWeb", UserGroups()), house.clock)
    house.real_gate = gate = Gate([OF_GROUP], Home(team_id="T1", enterprise_id=None), memberships, house.gate)
    await house.submit()
    gate.follow([replace(limited, buckets=("pond",)), limited, OF_GROUP])
    await house.deliver_all()
    assert ((await house.read()).state, (await house.read()).error_code) == LIVES_TOO_LONG


async def test_it_waits_when_slack_does_not_say_who_is_allowed(house: House) -> None:
    """In doubt nothing is sent, and nothing is discarded."""
    await house.submit()
    house.gate.refusals.append(MembershipUnknown())
    house.gate.refusals += [MembershipUnknown()] * 6
    assert await house.deliver() == timedelta(seconds=2)
    assert (house.posts, (await house.read()).state) == ([], State.VERIFYING)
    assert await house.deliver_all() == _seconds(2, 2, 4, 8, 16, 32, 60)
    assert (await house.read()).state is State.STORED


@pytest.mark.parametrize("flaw", Flaw)
async def test_who_is_no_member_any_more_is_denied(house: House, flaw: Flaw) -> None:
    """A person who was deactivated or made a guest after the Submit: the token is not sent, though the id is listed."""
    await house.submit()
    house.gate.profile = Profile(team_id="T1", flaws=frozenset({flaw}))
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code, ended.attempts) == (State.DENIED, NotAMember.code, 0)
    assert house.asked == []
    _assert_reported_once(house, ended)


async def test_it_waits_when_slack_does_not_say_whether_the_person_is_a_member(house: House) -> None:
    """In doubt nothing is sent; once Slack answers, it goes on."""
    await house.submit()
    house.gate.is_silent = True
    assert await house.deliver() == timedelta(seconds=2)
    assert (house.posts, (await house.read()).error_code) == ([], PersonUnknown.code)
    house.gate.is_silent = False
    await house.deliver_all()
    assert (await house.read()).state is State.STORED


async def test_a_membership_that_stays_unknown_ends_at_the_deadline(house: House) -> None:
    """Never sent, so nothing can have changed."""
    await house.submit()
    house.gate.always = MembershipUnknown()
    house.clock.now += TTL - timedelta(seconds=30)
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (State.FAILED, "membership_unknown", [])
    _assert_reported_once(house, ended)


@pytest.mark.parametrize(
    ("failure", "wait"),
    [
        pytest.param(Failure(status=429, code=971, retry_after=5), 5, id="a moment"),
        pytest.param(Failure(status=429, code=971, retry_after=299), 299, id="five minutes"),
        pytest.param(Failure(status=200, code=971, retry_after=31), 31, id="inside a 200"),
        pytest.param(Failure(status=503, retry_after=45), 45, id="of a server that is down"),
        pytest.param(Failure(status=429, code=971, retry_after=0), 2, id="0 is no time"),
        pytest.param(Failure(status=429, headers={"Retry-After": "0.001"}), 0.1, id="hardly a time"),
    ],
)
async def test_retry_after_is_honoured_in_full(house: House, failure: Failure, wait: float) -> None:
    """No request goes out before that, and then the token is stored."""
    house.cloudflare.fail_next("credential", **failure)
    await house.submit()
    assert await house.deliver() == timedelta(seconds=wait)
    house.clock.now += timedelta(seconds=wait) - timedelta(milliseconds=1)
    assert await house.deliver() == timedelta(milliseconds=1)
    assert house.posts == ["POST"]
    house.clock.now += timedelta(milliseconds=1)
    assert await house.deliver() is None
    assert (await house.read()).state is State.STORED


@pytest.mark.parametrize(
    ("jitter", "waits"),
    [
        pytest.param(1.0, _seconds(2, 4, 8, 16, 32, 60, 60), id="the longest"),
        pytest.param(0.5, _seconds(1, 2, 4, 8, 16, 30, 30), id="in the middle"),
        pytest.param(0.0, _seconds(*[0.1] * 7), id="the shortest"),
    ],
)
async def test_without_retry_after_the_waits_grow_with_jitter(
    house: House, jitter: float, waits: list[timedelta]
) -> None:
    """Exponential, at most a minute, randomized, and never zero."""
    house.jitter = jitter
    house.cloudflare.fail_next("credential", status=503, times=len(waits))
    await house.submit()
    assert await house.deliver_all() == waits
    ended = await house.read()
    assert (ended.state, ended.attempts) == (State.STORED, len(waits) + 1)


async def test_the_backoff_has_an_end_for_any_number_of_attempts(house: House) -> None:
    """A very long TTL does not cause an overflow."""
    house.cloudflare.fail_next("credential", status=503, times=12)
    await house.submit()
    waits = await house.deliver_all()
    assert max(waits) == timedelta(seconds=60)


@pytest.mark.parametrize(
    "behaviour", [Behaviour.SERVER_DOWN, Behaviour.RATE_LIMITED, Behaviour.ANSWER_LOST], ids=lambda each: each.value
)
async def test_passing_trouble_ends_in_a_success(house: House, behaviour: Behaviour) -> None:
    """A lost answer costs a second write of the same token, which does no harm."""
    await house.submit(make_token(behaviour))
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.confirmation) == (State.STORED, CredentialStatus.VALID)
    assert {write.token for write in house.cloudflare.writes} == {make_token(behaviour)}
    _assert_reported_once(house, ended)


async def test_a_submission_whose_time_is_over_is_never_sent(house: House) -> None:
    """Also if the bot was down all the time."""
    await house.submit()
    house.clock.now += TTL
    assert await house.deliver() is None
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (State.EXPIRED, "expired", [])
    _assert_reported_once(house, ended)


async def test_a_submission_that_expired_while_slack_was_asked_is_not_sent(house: House) -> None:
    """Slack's answer may take a while: the moment before the token goes out counts."""
    await house.submit()

    async def take_long() -> None:
        house.clock.now += TTL

    house.gate.before_check = take_long
    assert await house.deliver() is None
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (State.EXPIRED, "expired", [])
    _assert_reported_once(house, ended)


async def test_a_retry_that_expired_while_slack_was_asked_stays_uncertain(house: House) -> None:
    """The first request may have landed, so no one reads that nothing was sent."""
    house.cloudflare.fail_next("credential", **DOWN)
    await house.submit()
    wait = await house.deliver()
    assert wait is not None
    house.clock.now += wait

    async def take_long() -> None:
        house.clock.now += TTL

    house.gate.before_check = take_long
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, house.posts) == (State.UNCERTAIN, ["POST"])
    _assert_reported_once(house, ended)


THROTTLED = Failure(status=429, code=971)
DOWN = Failure(status=503)
REFUSED = Failure(status=400, code=30004)
LOST = Failure(drop_after_store=True)


@pytest.mark.parametrize(
    ("failures", "ending", "code"),
    [
        pytest.param([THROTTLED] * 999, State.FAILED, "throttled", id="throttled forever"),
        pytest.param([THROTTLED, REFUSED], State.REFUSED, "lacks_storage_rights", id="throttled, then refused"),
        pytest.param([DOWN] * 999, State.UNCERTAIN, "cloudflare_unavailable", id="down forever"),
        pytest.param([Failure(drop_before_store=True)] * 999, State.UNCERTAIN, "cloudflare_unreachable", id="cut off"),
        pytest.param([LOST] * 999, State.UNCERTAIN, "cloudflare_unreachable", id="answers lost forever"),
        pytest.param(
            [Failure(status=200, body="what?")] * 999, State.UNCERTAIN, "answer_not_understood", id="never understood"
        ),
        pytest.param([DOWN, *[THROTTLED] * 999], State.UNCERTAIN, "throttled", id="down once, then throttled"),
        pytest.param([DOWN, THROTTLED, REFUSED], State.UNCERTAIN, "lacks_storage_rights", id="down once, then refused"),
        pytest.param([LOST, REFUSED], State.UNCERTAIN, "lacks_storage_rights", id="answer lost, then refused"),
        pytest.param(
            [LOST, Failure(status=403, code=10000)], State.UNCERTAIN, "caller_rejected", id="answer lost, then rejected"
        ),
    ],
)
async def test_no_result_says_unchanged_if_a_request_may_have_landed(
    house: House, failures: list[Failure], ending: State, code: str
) -> None:
    """A later no does not undo an earlier request: it is a refusal only if every attempt certainly failed."""
    for failure in failures:
        house.cloudflare.fail_next("credential", **failure)
    await house.submit()
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code) == (ending, code)
    assert ended.possibly_written is (ending is State.UNCERTAIN)
    assert house.cloudflare.stored_token("lake") == OLD or ending is State.UNCERTAIN
    assert START < house.clock.now <= START + TTL
    _assert_reported_once(house, ended)


def test_every_trouble_is_retryable() -> None:
    """Every error that passes is retried, no other is."""
    assert all(error.retryable for error in _leaves(CloudflareTrouble))
    assert not any(error.retryable for error in _leaves(CatalogRefusal) | _leaves(OperatorError))


async def test_a_wait_beyond_the_deadline_ends_at_once(house: House) -> None:
    """No one has to watch a modal for an hour in vain."""
    house.cloudflare.fail_next("credential", status=429, code=971, retry_after=3600)
    await house.submit()
    assert await house.deliver() is None
    ended = await house.read()
    assert (ended.state, ended.error_code, ended.cloudflare_code) == (State.FAILED, "throttled", 971)
    _assert_reported_once(house, ended)


async def test_the_code_of_an_earlier_answer_is_not_shown_with_a_later_one(house: House) -> None:
    """Throttled first, cut off last: code 971 and its Ray ID would mislead support."""
    house.cloudflare.fail_next("credential", status=429, code=971)
    house.cloudflare.fail_next("credential", drop_before_store=True, times=999)
    await house.submit()
    await house.deliver_all()
    ended = await house.read()
    assert (ended.error_code, ended.cloudflare_code, ended.cf_ray) == ("cloudflare_unreachable", None, None)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        pytest.param("deadline", "cloudflare_unavailable", id="the deadline passed while the bot was down"),
        pytest.param("denied", "not_allowed", id="then the allowlist changed"),
        pytest.param("key gone", "sealed_value_unreadable", id="then the key was gone"),
        pytest.param("membership", "membership_unknown", id="then Slack was down forever"),
    ],
)
async def test_an_unclear_first_attempt_keeps_every_ending_uncertain(house: House, after: str, code: str) -> None:
    """Whatever ends it later, Cloudflare may hold the token."""
    house.cloudflare.fail_next("credential", status=503)
    await house.submit()
    assert await house.deliver() == timedelta(seconds=2)
    house.clock.now += TTL if after == "deadline" else timedelta(seconds=2)
    house.gate.always = {"denied": NotAllowed(), "membership": MembershipUnknown()}.get(after)
    if after == "key gone":
        house.key_ring.forget(house.key_ring.sealing_key.key_id)
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code, ended.possibly_written) == (State.UNCERTAIN, code, True)
    assert house.posts == ["POST"]
    _assert_reported_once(house, ended)


async def test_certainly_unsent_and_too_late_is_failed(house: House) -> None:
    """The bot was down when the throttling ended: the last known answer says that nothing was changed."""
    house.cloudflare.fail_next("credential", **THROTTLED)
    await house.submit()
    await house.deliver()
    house.clock.now += TTL
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code) == (State.FAILED, "throttled")
    assert house.cloudflare.stored_token("lake") == OLD


@pytest.mark.parametrize("kind", SandboxKind)
async def test_the_token_in_the_request_is_exactly_the_pasted_one(house: House, kind: SandboxKind) -> None:
    """The body holds it and nothing else, and so does the header of each check."""
    token = make_token(Behaviour.GOOD, 7, kind)
    await house.submit(token, token_kind=classify(token))
    await house.deliver_all()
    [body] = [request.body for request in house.cloudflare.requests if request.method == "POST"]
    assert json.loads(body) == {"token": token}
    bearers = {request.headers["authorization"] for request in house.cloudflare.requests}
    assert bearers == {f"Bearer {token}", f"Bearer {SANDBOX_API_TOKEN}"}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param('made"up\\token\n\t', id="quotes, backslash and newline"),
        pytest.param("madeup-\u20ac-\U0001f600-\x00", id="beyond ASCII"),
        pytest.param("madeup-\ud800", id="half a character"),
        pytest.param("m" * 3000, id="as long as Slack lets it be"),
    ],
)
async def test_an_impossible_token_is_refused_without_a_write(house: House, token: str) -> None:
    """However it got past the form."""
    await house.submit(token)
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, house.posts) == (State.REFUSED, [])
    assert ended.error_code in ("token_malformed", "token_invalid")
    _assert_reported_once(house, ended)


async def test_of_several_submissions_of_one_bucket_the_newest_is_stored(house: House) -> None:
    """The older one is not sent: the slot would only be written twice."""
    first, second = make_token(Behaviour.RATE_LIMITED), make_token(Behaviour.GOOD, 2)
    await house.submit(first, "V1")
    await house.submit(second, "V2")
    await house.deliver_all()
    assert [write.token for write in house.cloudflare.writes] == [second]
    assert [(posted.id, posted.state) for posted in house.reporter.posted] == [
        ("V1", State.SUPERSEDED),
        ("V2", State.STORED),
    ]


async def test_a_result_that_waits_for_slack_does_not_hold_the_next_submission(house: House) -> None:
    """The second is stored while the first one's message is still unsent."""
    await house.submit(view_id="V1")
    house.reporter.failures.append(SlackUnavailable())
    assert await house.deliver() == timedelta(seconds=2)
    await house.submit(make_token(Behaviour.GOOD, 2), "V2")
    assert await house.deliver() == timedelta(seconds=2)
    assert [posted.id for posted in house.reporter.posted] == ["V2"]
    await house.deliver_all()
    assert [posted.id for posted in house.reporter.posted] == ["V2", "V1"]


FIRST, SECOND, THIRD = (make_token(Behaviour.GOOD, number) for number in (1, 2, 3))
DENIED_FOR_NOW = Failure(status=503, retry_after=300)


async def test_a_newer_one_starts_at_once_while_an_older_one_waits_five_minutes(house: House) -> None:
    """A Retry-After holds back only the one that received it."""
    house.cloudflare.fail_next("credential", **DENIED_FOR_NOW)
    await house.submit(FIRST)
    assert await house.deliver() == timedelta(seconds=300)
    house.clock.now += timedelta(seconds=1)
    await house.submit(SECOND, "V2", user_id="U2")
    assert await house.deliver() is None
    assert house.sent == [FIRST, SECOND]
    assert house.cloudflare.stored_token("lake") == SECOND
    assert sorted(house.reported) == [("V1", State.SUPERSEDED), ("V2", State.STORED)]


@pytest.mark.parametrize(
    ("landed", "fate"),
    [
        pytest.param(False, "This token was never stored.", id="never sent"),
        pytest.param(True, "An earlier request with this token got no clear answer", id="sent before"),
    ],
)
async def test_a_superseded_result_says_by_whom_and_when(house: House, fate: str, *, landed: bool) -> None:
    """One message, which needs no other one to be understood; and nothing remains of the token."""
    if landed:
        house.cloudflare.fail_next("credential", **DENIED_FOR_NOW)
    await house.submit(FIRST)
    if landed:
        await house.deliver()
    house.clock.now += timedelta(seconds=90)
    await house.submit(SECOND, "V2", user_id="U2")
    await house.deliver_all()
    superseded = await house.read()
    assert (superseded.state, superseded.superseded_by, superseded.error_code) == (State.SUPERSEDED, "U2", None)
    assert house.read_sealed(superseded.id) == Sealed()
    assert superseded.ended_at == START + timedelta(seconds=90)
    [result] = [posted for posted in house.reporter.posted if posted.id == "V1"]
    text = result_message(RedactedResult.of(result), contact="")["text"]
    assert "<@U2> submitted a newer one" in text
    assert f"<!date^{int(superseded.ended_at.timestamp())}^" in text
    assert fate in text


async def test_an_older_one_is_held_while_the_newer_one_waits(house: House) -> None:
    """Both have to wait; the older one's time comes first, and passes."""
    house.cloudflare.fail_next("credential", status=503, retry_after=60)
    await house.submit(FIRST)
    await house.deliver()
    house.cloudflare.fail_next("credential", status=503, retry_after=120)
    await house.submit(SECOND, "V2")
    assert await house.deliver() == timedelta(seconds=120)
    house.clock.now += timedelta(seconds=119)
    assert await house.deliver() == timedelta(seconds=1)
    assert house.sent == [FIRST, SECOND]
    await house.deliver_all()
    assert house.sent == [FIRST, SECOND, SECOND]
    assert await house.states() == [State.SUPERSEDED, State.STORED]


@pytest.mark.parametrize("name", DEFINITE_NOES)
async def test_after_a_definite_no_to_the_newer_one_the_older_one_goes_on(house: House, name: str) -> None:
    """A mis-pasted token does not end a good one that waits: it is stored at its own time."""
    house.cloudflare.fail_next("credential", **DENIED_FOR_NOW)
    await house.submit(FIRST)
    await house.deliver()
    house.clock.now += timedelta(seconds=10)
    failure, ending, code = DEFINITE_NOES[name]
    house.cloudflare.fail_next("credential", times=2 if code == "route_gone" else 1, **failure)
    await house.submit(SECOND, "V2")
    assert await house.deliver() == timedelta(seconds=290)
    assert house.reported == [("V2", ending)]
    assert await house.deliver_all() == _seconds(290)
    assert house.cloudflare.stored_token("lake") == FIRST
    assert house.reported == [("V2", ending), ("V1", State.STORED)]


@pytest.mark.parametrize("refusal", [NotAllowed(), BucketNotAllowed(), ChannelNotAllowed()], ids=repr)
async def test_after_a_denial_of_the_newer_one_the_older_one_goes_on(house: House, refusal: AccessRefused) -> None:
    """A submission of a person who is not allowed counts as never made."""
    await house.submit(FIRST)
    await house.submit(SECOND, "V2")
    house.gate.refusals.append(refusal)
    await house.deliver_all()
    assert house.sent == [FIRST]
    assert sorted(house.reported) == [("V1", State.STORED), ("V2", State.DENIED)]


async def test_after_the_newer_one_certainly_failed_the_older_one_goes_on(house: House) -> None:
    """It had to wait longer than it had time, and was certainly not written."""
    await house.submit(FIRST)
    house.cloudflare.fail_next("credential", status=429, code=971, retry_after=3600)
    await house.submit(SECOND, "V2")
    assert await house.deliver() is None
    assert house.sent == [SECOND, FIRST]
    assert sorted(house.reported) == [("V1", State.STORED), ("V2", State.FAILED)]


async def test_a_newer_uncertain_one_supersedes_the_older_one(house: House) -> None:
    """At its deadline the slot may hold it: nothing older may be written over it."""
    await house.submit(FIRST)
    house.cloudflare.fail_next("credential", drop_after_store=True, times=999)
    await house.submit(SECOND, "V2", user_id="U2")
    await house.deliver_all()
    assert set(house.sent) == {SECOND}
    assert house.cloudflare.stored_token("lake") == SECOND
    assert sorted(house.reported) == [("V1", State.SUPERSEDED), ("V2", State.UNCERTAIN)]
    assert (await house.read()).superseded_by == "U2"


async def test_a_newer_one_that_expired_while_the_bot_was_down_supersedes_the_older_one(
    house: House,
) -> None:
    """Even if the older one has time left: its deadline is a separate one."""
    house.cloudflare.fail_next("credential", **DOWN)
    await house.submit(SECOND, "V2", user_id="U2")
    await house.deliver()
    await house.accept_late(FIRST, "V1", by=timedelta(seconds=2), ttl=2 * TTL)
    house.clock.now += TTL
    await house.deliver_all()
    assert house.sent == [SECOND]
    assert sorted(house.reported) == [("V1", State.SUPERSEDED), ("V2", State.UNCERTAIN)]


async def test_a_newer_one_frozen_past_its_deadline_supersedes_the_older_one(house: House) -> None:
    """Its first request may have landed; its second one was stopped by the fence. The older one has time left."""

    class Frozen(Submissions):
        async def holds(self, lease: Lease) -> bool:
            house.clock.now = START + TTL
            return await super().holds(lease)

    house.cloudflare.fail_next("credential", **LOST)
    await house.submit(SECOND, "V2", user_id="U2")
    assert await house.deliver() == timedelta(seconds=2)
    house.clock.now += timedelta(seconds=2)
    await house.accept_late(FIRST, "V1", by=timedelta(seconds=2, milliseconds=1), ttl=2 * TTL)
    submissions, house.submissions = house.submissions, Frozen(house.database, CHAIN)
    await house.deliver()
    house.submissions = submissions
    await house.deliver_all()
    assert house.sent == [SECOND]
    assert await house.states() == [State.SUPERSEDED, State.UNCERTAIN]


async def test_a_newer_one_that_cloudflare_now_refuses_lets_the_older_one_go_on(house: House) -> None:
    """Its first request may have landed, but a token that Cloudflare refuses now need not be preserved."""
    await house.submit(FIRST)
    house.cloudflare.fail_next("credential", **LOST)
    house.cloudflare.fail_next("credential", **REFUSED)
    await house.submit(SECOND, "V2")
    await house.deliver_all()
    assert house.sent == [SECOND, SECOND, FIRST]
    assert house.cloudflare.stored_token("lake") == FIRST
    assert await house.states() == [State.STORED, State.UNCERTAIN]
    assert sorted(house.reported) == [("V1", State.STORED), ("V2", State.UNCERTAIN)]


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        pytest.param("success", State.STORED, id="stored"),
        pytest.param("no", State.REFUSED, id="refused"),
        pytest.param("none", State.SUPERSEDED, id="no answer"),
    ],
)
async def test_a_third_one_that_comes_while_the_second_one_is_sent(house: House, answer: str, ending: State) -> None:
    """However the second one ends, the slot ends with the third, and each is reported once."""
    await house.submit(FIRST)
    await house.submit(SECOND, "V2", user_id="U2")
    if answer != "success":
        house.cloudflare.fail_next("credential", **(REFUSED if answer == "no" else LOST))

    async def submit_third() -> None:
        house.transport.after_answer = None
        await house.submit(THIRD, "V3", user_id="U3")

    if answer == "none":
        house.gate.before_check = submit_third
    else:
        house.transport.after_answer = submit_third
    await house.deliver_all()
    assert house.cloudflare.stored_token("lake") == THIRD
    assert await house.states() == [State.SUPERSEDED, ending, State.STORED]
    assert (await house.read()).superseded_by == ("U2" if answer == "success" else "U3")
    assert sorted(name for name, _ in house.reported) == ["V1", "V2", "V3"]


async def test_one_that_is_being_confirmed_is_not_disturbed_by_a_newer_one(house: House) -> None:
    """It was written: that is reported, while the newer one is written at once."""
    house.cloudflare.on_write = lambda: house.cloudflare.fail_next("status", **_test_answer("absent"))
    await house.submit(FIRST)
    assert await house.deliver() == timedelta(seconds=2)
    await house.submit(SECOND, "V2")
    assert await house.deliver() == timedelta(seconds=2)
    assert await house.states() == [State.CONFIRMING, State.CONFIRMING]
    assert house.sent == [FIRST, SECOND]
    await house.deliver_all()
    assert house.reported == [("V1", State.STORED), ("V2", State.STORED)]


@pytest.mark.parametrize(
    ("failure", "ending"),
    [
        pytest.param(None, State.EXPIRED, id="never sent"),
        pytest.param(Failure(status=429, code=971, retry_after=300), State.FAILED, id="surely not written"),
        pytest.param(DENIED_FOR_NOW, State.UNCERTAIN, id="perhaps written"),
    ],
)
async def test_one_held_back_ends_at_its_own_deadline(house: House, failure: Failure | None, ending: State) -> None:
    """Another person's submission does not extend the promised time."""
    if failure is not None:
        house.cloudflare.fail_next("credential", **failure)
    await house.submit(FIRST)
    if failure is not None:
        await house.deliver()
    house.clock.now += timedelta(minutes=5) - timedelta(seconds=1)
    house.cloudflare.fail_next("credential", status=503, retry_after=540)
    await house.submit(SECOND, "V2")
    assert await house.deliver() == timedelta(minutes=5, seconds=1)
    house.clock.now = START + TTL
    wait = await house.deliver()
    assert wait is not None
    assert house.reported == [("V1", ending)]
    assert (await house.read()).ended_at == START + TTL
    await house.deliver_all()
    assert await house.states() == [ending, State.STORED]
    assert house.cloudflare.stored_token("lake") == SECOND


async def test_hundreds_for_one_bucket_end_with_the_newest(house: House) -> None:
    """One write, and a message for each."""
    await asyncio.gather(*(house.submit(FIRST, f"older {number}") for number in range(250)))
    await house.submit(SECOND, "V1")
    await house.deliver_all()
    assert house.sent == [SECOND]
    assert len({posted.id for posted in house.reporter.posted}) == len(house.reporter.posted) == 251


async def test_a_delivery_that_lost_its_lease_at_any_point_does_nothing_more(house: House) -> None:
    """Another process takes the bucket before or after each call, and finishes it, once.

    Only a request that had just passed the fence still goes out, and only a message that was on its way to Slack at
    that moment comes twice.
    """
    let_out, reported_twice = 0, 0
    for step in count(2):  # 1 is before it takes its lease
        name = f"lake-{step}"
        older, newer = make_token(Behaviour.GOOD, 2 * step), make_token(Behaviour.GOOD, 2 * step + 1)
        house.cloudflare.add_bucket(name, token=OLD)
        key = replace(LAKE, bucket=name)
        await house.submit(older, f"{name} older", name)
        await house.submit(newer, f"{name} newer", name)
        house.reporter.posted.clear()
        seen: list[tuple[int, int, list[Submission]]] = []

        async def take(key: BucketKey = key, name: str = name, seen: Any = seen) -> None:  # noqa: ANN401 - see above
            house.death.at_step = None
            await house.submissions.take(key)
            rows = [await house.read(f"{name} {which}") for which in ("older", "newer")]
            seen.append((len(house.cloudflare.requests), len(house.reported), rows))

        house.death.steps, house.death.at_step, house.death.instead = 0, step, take
        assert await house.delivery.deliver(key) is None
        house.death.at_step = None
        if not seen:
            assert step > 20
            assert (let_out, reported_twice) == (1, 4)  # just before and in the call to Slack, for both messages
            return
        [(requests, reported, rows)] = seen
        by_loser = len(house.reported) - reported
        assert by_loser <= 1, step
        reported_twice += by_loser
        let_out += sum(request.method != "GET" for request in house.cloudflare.requests[requests:])
        assert [await house.read(row.id) for row in rows] == rows, step
        is_unnoted = any(row.reported_at is None and row.id in dict(house.reported) for row in rows)
        await house.deliver_all(key)
        assert house.cloudflare.stored_token(name) == newer, step
        assert len(house.reported) == 2 + is_unnoted, step
        assert dict(house.reported) == {f"{name} older": State.SUPERSEDED, f"{name} newer": State.STORED}, step


_QUESTIONS = ["of a check", "of the other check", "at the headers of the write", "at its body"]


@pytest.mark.parametrize("question", [1, 2, 3, 4], ids=_QUESTIONS)
async def test_a_lease_lost_while_a_request_goes_out_stops_it(house: House, question: int) -> None:
    """A frozen process wakes up: the fence stops it, the row stays unchanged, and the other process goes on."""
    asked = 0

    class TakenMeanwhile(Submissions):
        async def holds(self, lease: Lease) -> bool:
            nonlocal asked
            asked += 1
            if asked == question:
                await self.take(lease.key)
            return await super().holds(lease)

    await house.submit(FIRST)
    submissions, house.submissions = house.submissions, TakenMeanwhile(house.database, CHAIN)
    assert await house.deliver() is None
    house.submissions = submissions
    once_more = 1  # to find out whether another process holds it, or only the deadline forbids sending
    assert (max(asked, 3 if question < 3 else 0), house.posts, house.reported) == (max(question, 2) + once_more, [], [])
    assert (await house.read()).state is (State.ACCEPTED if question < 3 else State.STORING)
    await house.deliver_all()
    assert house.sent == [FIRST]
    _assert_reported_once(house, await house.read())


@pytest.mark.parametrize("question", [1, 2, 3, 4], ids=_QUESTIONS)
async def test_a_database_that_does_not_answer_the_fence_lets_nothing_out(house: House, question: int) -> None:
    """In doubt nothing is sent; once it is back, the delivery goes on."""
    asked = 0

    class Unavailable(Submissions):
        async def holds(self, lease: Lease) -> bool:
            nonlocal asked
            asked += 1
            if asked == question:
                raise DatabaseUnavailable
            return await super().holds(lease)

    await house.submit(FIRST)
    submissions, house.submissions = house.submissions, Unavailable(house.database, CHAIN)
    assert await house.deliver() is not None
    house.submissions = submissions
    assert (max(asked, 2), house.posts, house.reported) == (max(question, 2), [], [])
    assert not (await house.read()).possibly_written
    await house.deliver_all()
    assert house.sent == [FIRST]
    _assert_reported_once(house, await house.read())


class Forgetful(Submissions):
    """Cannot record what comes after a sent request, for a while."""

    fails = 3

    async def apply_and_read(
        self, submission: Submission, move: Move, lease: Lease
    ) -> tuple[list[Submission], list[Pending] | None]:
        """Fail for everything except the start, for as many calls as ordered."""
        if self.fails and (submission.state is State.STORING or move.to in ENDINGS):
            self.fails -= 1
            raise DatabaseUnavailable
        return await super().apply_and_read(submission, move, lease)


@pytest.mark.parametrize(
    ("token", "ending"), [(make_token(Behaviour.WEAK), State.REFUSED), (FIRST, State.STORED)], ids=["no", "yes"]
)
async def test_an_answer_that_cannot_be_recorded_is_not_requested_again(
    house: House, token: str, ending: State
) -> None:
    """A clear no stays one, and a success is not written twice, however long the database is down."""
    await house.submit(token)
    house.submissions = Forgetful(house.database, CHAIN)
    house.submissions.watch(house.reporter.watch)
    delivery = house.delivery
    for _ in range(Forgetful.fails):
        with pytest.raises(DatabaseUnavailable):
            await delivery.deliver(LAKE)
    assert await delivery.deliver(LAKE) is None
    assert (await house.read()).state is ending
    assert house.sent == [token]
    _assert_reported_once(house, await house.read())


async def test_an_unrecorded_success_does_not_outlive_a_newer_request(house: House) -> None:
    """The newer one may have landed before it was refused: the slot is written again, not just reported."""
    await house.submit(FIRST)
    house.submissions = Forgetful(house.database, CHAIN)
    house.submissions.fails = 1
    house.submissions.watch(house.reporter.watch)
    delivery = house.delivery
    with pytest.raises(DatabaseUnavailable):
        await delivery.deliver(LAKE)
    house.cloudflare.fail_next("credential", drop_after_store=True)
    house.cloudflare.fail_next("credential", status=400, code=30004)
    await house.submit(SECOND, "V2")
    while (next_at := await delivery.deliver(LAKE)) is not None:
        house.clock.now = next_at
    assert house.reported == [("V1", State.STORED), ("V2", State.UNCERTAIN)]
    assert house.sent == [FIRST, SECOND, SECOND, FIRST]
    assert house.cloudflare.stored_token("lake") == FIRST


async def test_a_success_recorded_late_is_confirmed_with_its_full_time(house: House) -> None:
    """A database outage must not make the first look at the slot the last."""
    await house.submit(FIRST)
    house.submissions = Forgetful(house.database, CHAIN)
    house.submissions.fails = 1
    house.submissions.watch(house.reporter.watch)
    delivery = house.delivery
    with pytest.raises(DatabaseUnavailable):
        await delivery.deliver(LAKE)
    house.clock.now += 2 * CONFIRM_PATIENCE
    house.cloudflare.fail_next("status", status=503)
    next_at = await delivery.deliver(LAKE)
    assert (await house.read()).confirm_until == house.clock.now + CONFIRM_PATIENCE
    assert next_at is not None
    house.clock.now = next_at
    assert await delivery.deliver(LAKE) is None
    assert (await house.read()).confirmation is CredentialStatus.VALID


async def test_a_bucket_that_is_not_served_is_denied_without_slack(house: House) -> None:
    """A bucket that was removed from the list needs no lookup of a person."""
    await house.submit()
    house.gate.always = MembershipUnknown()
    house.gate.refusals.append(BucketNotAllowed())
    await house.deliver_all()
    assert (await house.read()).state is State.DENIED


async def test_a_plan_without_a_move_is_no_busy_loop(house: House) -> None:
    """It is a bug, which is logged, and retried in a minute."""
    await house.submit()
    delivery = house.delivery
    delivery._plans = dict.fromkeys(Task, ())
    with capture_logs() as logs:
        assert await delivery.deliver(LAKE) == house.clock.now + AFTER_FAULT
    assert [(line["event"], line["error"]) for line in logs] == [("submission_broke", "RuntimeError")]


IMPOSSIBLE = {
    "sent, and never tried": ("store", "storing", 0, False),
    "a dry run that is sent": ("check", "storing", 1, True),
    "a dry run that is confirmed": ("check", "confirming", 1, True),
    "an enabling that is verified": ("enable", "verifying", 0, False),
    "an enabling that is confirmed": ("enable", "confirming", 0, True),
}


@pytest.mark.parametrize(("task", "state", "attempts", "landed"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_one_that_no_step_leads_on_from_holds_up_no_other(
    house: House, task: str, state: str, attempts: int, *, landed: bool
) -> None:
    """A damaged row fails at each attempt; a newer submission of its bucket is stored all the same."""
    await house.submit(FIRST, "V1")
    row = f"task = '{task}', state = '{state}', attempts = {attempts}, possibly_written = {landed}, sealed_token = NULL"
    with closing(sqlite3.connect(house.database_path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE submissions SET {row} WHERE id = 'V1'")  # noqa: S608 - our own words
    house.clock.now += TTL
    await house.submit(SECOND, "V2")
    delivery = house.delivery
    for _ in range(9):
        house.clock.now = await delivery.deliver(LAKE) or house.clock.now
    assert (await house.read("V2")).state is State.STORED
    assert "V2" in [each.id for each in house.reporter.posted]


async def test_one_blocked_for_longer_than_it_may_wait_ends_at_once(house: House) -> None:
    """The account is stopped for an hour, and the submission has ten minutes: the cause is known now."""
    house.client._exchange.pace = LocalPace(house.clock)
    house.cloudflare.fail_next("credential", status=429, code=971, retry_after=3600)
    await house.submit(FIRST)
    await house.deliver_all()
    await house.submit(SECOND, "V2")
    await house.deliver_all()
    assert [(name, state) for name, state in house.reported] == [("V1", State.FAILED), ("V2", State.FAILED)]
    assert house.cloudflare.stored_token("lake") != SECOND


async def test_a_wait_for_the_account_is_logged(house: House, log: io.StringIO) -> None:
    """Nothing was sent for this one: an answer to another one has stopped the account for a minute."""
    house.client._exchange.pace = LocalPace(house.clock)
    house.cloudflare.fail_next("credential", status=429, code=971, retry_after=60)
    await house.submit(FIRST)
    await house.deliver()
    await house.submit(SECOND, "V2", bucket="pond")
    await house.delivery.deliver(replace(LAKE, bucket="pond"))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    first, second = (line for line in lines if line["event"] == "submission_postponed")
    assert (first["reference"], first["step"], first["until"]) == ("V1", "store", second["until"])
    assert (second["reference"], second["step"], second["error"]) == ("V2", None, "throttled")


async def test_each_line_of_a_delivery_has_its_own_submissions_reference(house: House, log: io.StringIO) -> None:
    """Also where one submission supersedes another, or is submitted while another one is being worked on."""
    house.cloudflare.fail_next("credential", **DENIED_FOR_NOW)
    await house.submit(FIRST)
    await house.deliver()

    async def submit_second() -> None:
        await house.submit(SECOND, "V2")

    house.gate.before_check = submit_second
    await house.deliver_all()

    lines = [json.loads(line) for line in log.getvalue().splitlines() if '"level": "info"' in line]
    assert [(line["reference"], line["event"], line.get("step") or line["ending"]) for line in lines] == [
        ("V1", "step_taken", "verify"),
        ("V1", "submission_postponed", "store"),
        ("V1", "step_taken", "verify"),  # once more: the wait was long
        ("V2", "step_taken", "verify"),
        ("V2", "step_taken", "store"),
        ("V2", "step_taken", "confirm"),
        ("V1", "result_posted", "superseded"),
        ("V2", "result_posted", "stored"),
    ]


async def test_one_that_is_overtaken_in_line_gets_no_line_of_the_other(house: House, log: io.StringIO) -> None:
    """The turn that a check has waited for goes to the write that came meanwhile."""
    pace = house.client._exchange.pace = _Turnstile(house.clock)

    async def come_and_go() -> None:
        await house.submit(SECOND, "V2")
        house.clock.now += timedelta(seconds=1)

    pace.meanwhile = come_and_go
    await house.submit(FIRST, task=Task.CHECK)
    await house.deliver_all()
    lines = [json.loads(line) for line in log.getvalue().splitlines() if '"level": "info"' in line]
    told = [(line["reference"], line.get("step") or line["ending"]) for line in lines]
    writes = [("V2", "verify"), ("V2", "store"), ("V2", "confirm"), ("V2", "stored")]
    assert told == [*writes, ("V1", "verify"), ("V1", "checked")]


async def test_a_lost_lease_is_logged_and_nothing_else(house: House, log: io.StringIO) -> None:
    """Which submission was being worked on, and which bucket is another process's now."""
    await house.submit(FIRST)

    async def take() -> None:
        await house.submissions.take(LAKE)

    house.gate.before_check = take
    assert await house.deliver() is None
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["event"] for line in lines if line["level"] != "debug"] == ["submission_interrupted", "lease_lost"]
    assert (lines[-2]["reference"], lines[-2]["error"], lines[-1]["bucket"]) == ("V1", "lease_lost", "lake")


async def test_a_clock_that_was_set_back_does_not_delay_the_newest(house: House) -> None:
    """The older one was recorded with a clock days ahead; the newer one is stored at once."""
    house.clock.now += timedelta(days=9)
    house.cloudflare.fail_next("credential", **DENIED_FOR_NOW)
    await house.submit(FIRST)
    await house.deliver()
    house.clock.now = START
    await house.submit(SECOND, "V2")
    assert await house.deliver() is None
    assert house.sent == [FIRST, SECOND]
    assert house.cloudflare.stored_token("lake") == SECOND
    assert sorted(house.reported) == [("V1", State.SUPERSEDED), ("V2", State.STORED)]


async def test_a_clock_that_was_set_forward_expires_what_is_older(house: House) -> None:
    """And the newer one is stored."""
    await house.submit(FIRST)
    house.clock.now += timedelta(hours=1)
    await house.submit(SECOND, "V2")
    assert await house.deliver() is None
    assert house.sent == [SECOND]
    assert [name for name, _ in house.reported] == ["V1", "V2"]


async def test_a_process_that_was_frozen_past_the_deadline_sends_nothing(house: House) -> None:
    """A laptop was closed in the middle: no other process took the bucket, but the time is over."""

    class Frozen(Submissions):
        async def holds(self, lease: Lease) -> bool:
            house.clock.now = START + TTL
            return await super().holds(lease)

    await house.submit(FIRST)
    house.submissions = Frozen(house.database, CHAIN)
    await house.deliver_all()
    assert house.sent == []


async def test_one_that_was_overtaken_by_a_stored_one_is_not_sent(house: House) -> None:
    """Pasted first, recorded last: a stale token never overwrites a newer one."""
    await house.submit(SECOND, "V2")
    await house.deliver_all()
    await house.accept_late(FIRST, "V1", by=timedelta(seconds=1))
    await house.deliver_all()
    assert house.sent == [SECOND]


async def test_a_second_submit_in_the_very_moment_of_sending_wins(house: House) -> None:
    """The delivery had read the first token; its copy is stale, so it sends the second one."""
    other = make_token(Behaviour.GOOD, 2)
    await house.submit()
    house.gate.before_check = lambda: house.paste_again(other)
    await house.deliver_all()
    assert [write.token for write in house.cloudflare.writes] == [other]
    _assert_reported_once(house, await house.read())


async def test_a_second_submit_in_the_very_moment_of_a_denial_is_judged_anew(house: House) -> None:
    """The denial was for the first; the second one is checked separately."""
    other = make_token(Behaviour.GOOD, 2)
    await house.submit()
    house.gate.before_check = lambda: house.paste_again(other)
    house.gate.refusals.append(NotAllowed())
    await house.deliver_all()
    assert (await house.read()).state is State.STORED
    assert [write.token for write in house.cloudflare.writes] == [other]
    assert house.shown == [State.VERIFYING, State.STORING, State.CONFIRMING, State.STORED]


async def test_a_delivery_that_lost_its_submission_reports_nothing(house: House) -> None:
    """Another process ended it while the request was out: the success is not reported over that."""

    async def end_it() -> None:
        lease = await house.submissions.take(LAKE)
        await house.submissions.apply(await house.read(), Move(to=State.UNCERTAIN, at=house.clock.now), lease)

    house.transport.after_answer = end_it
    await house.submit()
    await house.deliver_all()
    assert house.reported == []
    await house.deliver_all()
    ended = await house.read()
    assert ended.state is State.UNCERTAIN
    assert [posted.state for posted in house.reporter.posted] == [State.UNCERTAIN]


@pytest.mark.parametrize(
    ("retry_after", "waits"),
    [
        pytest.param([None, None, None, None], _seconds(2, 2, 4, 8), id="as long as it has waited"),
        pytest.param([timedelta(seconds=30)], _seconds(30), id="as long as Slack says"),
        pytest.param([timedelta(seconds=0)], _seconds(2), id="0 is no time"),
        pytest.param([*[None] * 9, None], _seconds(2, 2, 4, 8, 16, 32, 64, 128, 256, 300), id="five minutes at most"),
    ],
)
async def test_the_message_comes_once_when_slack_is_back(
    house: House, retry_after: list[timedelta | None], waits: list[timedelta]
) -> None:
    """Posting is retried less and less often, and Cloudflare is not asked."""
    house.reporter.failures = [SlackUnavailable(pause) for pause in retry_after]
    await house.submit()
    assert await house.deliver_all() == waits
    assert house.posts == ["POST"]
    _assert_reported_once(house, await house.read())


async def test_a_message_is_posted_once_although_that_cannot_be_recorded(house: House, database_path: Path) -> None:
    """A database outage causes no second message: only the recording is repeated."""
    delivery = house.delivery
    await house.submit()
    with closing(sqlite3.connect(database_path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE UPDATE OF reported_at ON submissions BEGIN SELECT RAISE(ABORT, 'made up'); END"
        )
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await delivery.deliver(LAKE)
        other.execute("DROP TRIGGER full")
    assert await delivery.deliver(LAKE) is None
    assert house.posts == ["POST"]
    assert delivery._kept._of_bucket == {}
    _assert_reported_once(house, await house.read())


async def test_a_message_that_slack_refused_does_not_count_as_posted(house: House) -> None:
    """Only what Slack accepted is remembered as posted."""
    delivery = house.delivery
    house.reporter.failures = [SlackUnavailable()]
    await house.submit()
    next_at = await delivery.deliver(LAKE)
    assert next_at is not None
    assert house.reporter.posted == []
    house.clock.now = next_at
    assert await delivery.deliver(LAKE) is None
    _assert_reported_once(house, await house.read())


async def test_a_response_url_is_not_kept_longer_than_it_lives(house: House) -> None:
    """Slack is down for more than half an hour: the URL is useless and is erased."""
    house.reporter.failures = [SlackUnavailable(timedelta(minutes=10)) for _ in range(4)]
    await house.submit()
    kept = []
    while (wait := await house.deliver()) is not None:
        kept.append(house.read_sealed().response_url is not None)
        house.clock.now += wait
    assert kept == [True, True, False, False]
    assert house.clock.now - START > RESPONSE_URL_LIFETIME
    _assert_reported_once(house, await house.read())


async def _die_at(house: House, step: int, key: BucketKey) -> bool:
    """Deliver, advancing the clock, and die at a step; return whether there was such a step."""
    house.death.steps, house.death.at_step = 0, step
    task = asyncio.create_task(house.deliver_all(key))
    await asyncio.wait([task])
    house.death.at_step = None
    if task.cancelled():
        return True
    task.result()
    return False


@pytest.mark.parametrize(
    ("behaviour", "endings"),
    [
        pytest.param(Behaviour.GOOD, {State.STORED}, id="good"),
        pytest.param(Behaviour.ANSWER_LOST, {State.STORED}, id="answer lost"),
        pytest.param(Behaviour.RATE_LIMITED, {State.STORED}, id="rate-limited once", marks=pytest.mark.thorough),
        # Killed while a request may have been out, the bot cannot know that this very request was refused.
        pytest.param(Behaviour.WEAK, {State.REFUSED, State.UNCERTAIN}, id="refused"),
    ],
)
async def test_a_kill_at_any_point_loses_and_doubles_nothing(
    house: House, behaviour: Behaviour, endings: set[State]
) -> None:
    """Killed before or after each call to the database, Cloudflare or Slack, and restarted, it ends as it should.

    A message is doubled only by a kill between Slack's acceptance and our record of it.
    """
    for step in count(1):
        token, name = make_token(behaviour, step), f"lake-{step}"
        house.cloudflare.add_bucket(name, token=OLD)
        await house.submit(token, name, name)
        key = replace(LAKE, bucket=name)
        house.reporter.posted.clear()
        has_died = await _die_at(house, step, key)
        posted_before, is_marked = len(house.reporter.posted), (await house.read(name)).reported_at is not None
        await house.deliver_all(key)
        ended, slot = await house.read(name), house.cloudflare.stored_token(name)
        assert ended.state in endings, step
        assert slot == (token if ended.state is State.STORED else OLD), step
        assert {write.token for write in house.cloudflare.writes if write.bucket == name} <= {token}, step
        assert house.read_sealed(ended.id) == Sealed(), step
        assert len(house.reporter.posted) == posted_before + (0 if is_marked else 1), step
        assert {posted.state for posted in house.reporter.posted} == {ended.state}, step
        if not has_died:
            assert step > 15
            return


async def test_killed_before_the_answer_and_late_it_is_uncertain(house: House) -> None:
    """The request was out when the bot died, and the time was over at its restart: the outcome is unknown."""
    await house.submit()
    house.transport.after_answer = _die
    with pytest.raises(asyncio.CancelledError):
        await house.deliver()
    house.transport.after_answer = None
    assert (await house.read()).possibly_written
    house.clock.now += TTL
    await house.deliver_all()
    ended = await house.read()
    assert (ended.state, ended.error_code, house.posts) == (State.UNCERTAIN, None, ["POST"])
    _assert_reported_once(house, ended)


async def _die() -> None:
    raise asyncio.CancelledError


async def test_killed_while_storing_a_denial_is_not_reported_as_unchanged(house: House) -> None:
    """What the allowlist says now does not undo a request that may have landed."""
    await house.submit()
    house.transport.after_answer = _die
    with pytest.raises(asyncio.CancelledError):
        await house.deliver()
    house.transport.after_answer = None
    house.gate.always = NotAllowed()
    await house.deliver_all()
    assert (await house.read()).state is State.UNCERTAIN
    assert house.posts == ["POST"]


def test_every_ending_is_reached_by_a_test_here() -> None:
    """A new ending needs its test."""
    reached: set[Any] = {ending for _, ending, _ in DEFINITE_NOES.values()}
    reached |= {State.STORED, State.CHECKED, State.ENABLED, State.DENIED}
    assert reached | {State.UNCERTAIN, State.SUPERSEDED, State.EXPIRED} == ENDINGS
    assert all(error_of_code(code) for _, _, code in DEFINITE_NOES.values())
