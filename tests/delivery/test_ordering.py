"""Any history of submissions, troubles, kills and takeovers: the slot ends with the newest token fit to be written.

A soak run takes other histories each time (as many take 15 min):
ORDERING_EXAMPLES=5000 pytest tests/delivery/test_ordering.py
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, select
from structlog.testing import capture_logs

from bot.cloudflare.answers import TokenStatus, TokenVerification
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import (
    CallerRejected,
    CloudflareError,
    CloudflareUnavailable,
    CloudflareUnreachable,
    CredentialRefused,
    Refusal,
    RouteGone,
    Throttled,
)
from bot.cloudflare.exchange import Turn
from bot.delivery.asking import Asking
from bot.delivery.deliver import Delivery
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus
from bot.model.errors import (
    AccessRefused,
    CommitUnknown,
    DatabaseTrouble,
    DatabaseUnavailable,
    LeaseLost,
    MembershipUnknown,
    NotAllowed,
    SlackUnavailable,
    error_of_code,
)
from bot.model.move import Move
from bot.model.secret import Secret
from bot.model.submission import (
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
    TokenKind,
    Way,
)
from bot.policy.gate import Gate, Home
from bot.policy.rules import Person, Rule, Verb, Who
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext, generate_private_key, load_private_keys
from bot.storage.accepting import Verdict
from bot.storage.approvals import Approvals
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.postgres import PostgresDatabase
from bot.storage.schema import METADATA, SUBMISSIONS
from bot.storage.sqlite import SqliteDatabase
from bot.storage.start_clock import latest_time
from bot.storage.submissions import Submissions
from bot.storage.trouble import Trouble
from tests.everybody import EVERYBODY
from tests.make import AUTHENTICITY, CHAIN, NobodyAsked
from tests.postgres import execute

EXAMPLES = int(os.environ.get("ORDERING_EXAMPLES", "0"))
START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TTL = timedelta(minutes=10)
MOMENT = SECOND = timedelta(seconds=1)

PATIENCE = timedelta(seconds=60)
TICK = timedelta(milliseconds=1)
"""No two people press Submit at exactly the same moment: their order would be undefined."""

AT_ONCE = timedelta(0)
LATEST_RECORDING = timedelta(seconds=2)
LONGEST_WAY = timedelta(seconds=4)
"""A Submit that takes longer from Slack is not recorded."""

LONGEST_FREEZE = timedelta(seconds=60)
KEY_RING = KeyRing(*load_private_keys(generate_private_key()))
BUCKETS = ("lake", "pond")
A_BUCKET = st.sampled_from(["lake", "lake", "lake", "pond"])  # most events in one bucket, so that they interact
PEOPLE = ("U1", "U2", "U3")
UNTOUCHED = frozenset({State.REFUSED, State.DENIED, State.FAILED, State.EXPIRED})
"""Endings whose result says that nothing was changed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one write: whether it lands, and the answer; None is a success."""

    lands: bool
    error: type[CloudflareError] | None
    retry_after: int | None = None


OUTCOMES = {
    "answer lost": Outcome(lands=True, error=CloudflareUnreachable),
    "request lost": Outcome(lands=False, error=CloudflareUnreachable),
    "down": Outcome(lands=False, error=CloudflareUnavailable),
    "down for 5 min": Outcome(lands=False, error=CloudflareUnavailable, retry_after=300),
    "down, landed": Outcome(lands=True, error=CloudflareUnavailable),
    "down for 5 min, landed": Outcome(lands=True, error=CloudflareUnavailable, retry_after=300),
    "throttled": Outcome(lands=False, error=Throttled, retry_after=5),
    "throttled for an hour": Outcome(lands=False, error=Throttled, retry_after=3600),
    "caller rejected": Outcome(lands=False, error=CallerRejected),
}


@dataclass(slots=True, kw_only=True)
class Pasted:
    """What the model knows of a submission."""

    id: str
    user_id: str
    bucket: str
    token: str
    sent: timedelta
    arrived: timedelta
    recorded: int
    is_fit: bool = True
    is_known: bool = True
    writes: int = 0
    landed: int = 0
    is_confirmed: bool = False
    reports: list[Submission] = field(default_factory=list)
    reports_cut_short: int = 0

    @property
    def place(self) -> tuple[timedelta, timedelta, int]:
        """Return its order within the bucket: by Slack's time, then by arrival, then by recording."""
        return (self.sent, self.arrived, self.recorded)


class Killed(Exception):  # noqa: N818 - what happened
    """Marks a kill in the log of a history; the process itself gets a CancelledError."""


class World:
    """Cloudflare, Slack, the allowlist and the clocks; and the event at any point of a delivery."""

    def __init__(self) -> None:
        self.real = timedelta(0)
        self.started_at = -LONGEST_FREEZE
        self.offset = timedelta(0)
        self.is_signed = False
        self.pasted: dict[str, Pasted] = {}
        self.replaced: list[Pasted] = []
        self.slots: dict[str, str | None] = dict.fromkeys(BUCKETS)
        self.accepted: list[Pasted] = []
        self.planned: list[Outcome] = []
        self.looks: list[CredentialStatus | type[CloudflareError]] = []
        self.checks: list[type[CloudflareError]] = []
        self.blocked_until: datetime | None = None
        self.slack_failures = 0
        self.membership_failures = 0
        self.denied: set[str] = set()
        self.known: dict[str, set[str]] = {}
        self.in_flight: set[str] = set()
        self.points_left: int | None = None
        self.surprise: Callable[[], Awaitable[object]] | None = None
        self.of_database: type[DatabaseTrouble] | None = None
        self.is_taking = False
        self.is_at_the_door = False
        self.is_overtaken = False

    @property
    def is_past_recall(self) -> bool:
        """Return whether a request has passed its last check and has not arrived."""
        return self.is_at_the_door and self.of_database is not DatabaseUnavailable

    def as_sent(self, arrived: timedelta, way: timedelta = AT_ONCE) -> timedelta:
        """Return when Slack sent what arrived then, as far as that is signed: by Slack's clock, to the second."""
        return (arrived - way) // SECOND * SECOND if self.is_signed else arrived

    def clock(self) -> datetime:
        """Return the time of the clock, which may have been set."""
        return START + self.real + self.offset

    async def point(self) -> None:
        """Make the planned event happen, if it was planned for this point."""
        if self.surprise is None or self.points_left is None:
            return
        self.points_left -= 1
        if self.points_left > 0:
            return
        surprise, self.surprise, self.points_left = self.surprise, None, None
        await surprise()

    def of_token(self, token: str) -> Pasted:
        """Return the owner of a token; there is exactly one. A check of it may be under way when it is replaced."""
        [found] = [pasted for pasted in (*self.pasted.values(), *self.replaced) if pasted.token == token]
        return found


class InterruptedDatabase:
    """Runs its calls on another database; something may happen before and after each."""

    def __init__(self, database: Database, world: World) -> None:
        self._database = database
        self._world = world

    @property
    def trouble(self) -> Trouble:
        """Return the other database's."""
        return self._database.trouble

    async def run(
        self, work: Callable[[Connection], T], afterwards: Callable[[T, Any], Awaitable[None]] | None = None
    ) -> T:
        """Run it, or fail as planned: before it with nothing done, or after it with the outcome unknown."""
        await self._pass(DatabaseUnavailable)
        result = await self._database.run(work, afterwards)
        await self._pass(CommitUnknown)
        return result

    async def _pass(self, kind: type[DatabaseTrouble]) -> None:
        self._world.of_database = kind
        try:
            await self._world.point()
        finally:
            self._world.of_database = None


class WatchedSubmissions(Submissions):
    """Records what a delivery could know when it chose its next step."""

    def __init__(self, database: Database, world: World, plain: Submissions) -> None:
        super().__init__(database, CHAIN)
        self._world = world
        self._plain = plain

    async def take_and_read(self, key: BucketKey) -> tuple[Lease, list[Pending] | None]:
        """Take the lease, and read the work."""
        await self._note_known(key.bucket, self._world.pasted)
        self._world.is_taking = True
        try:
            return await super().take_and_read(key)
        finally:
            self._world.is_taking = False

    async def apply_and_read(
        self, submission: Submission, move: Move, lease: Lease
    ) -> tuple[list[Submission], list[Pending] | None]:
        """Make a move, and read the work: what was pasted by then, and the move has not ended."""
        pasted = list(self._world.pasted)
        result = await super().apply_and_read(submission, move, lease)
        await self._note_known(lease.key.bucket, pasted)
        return result

    async def work(self, lease: Lease) -> list[Pending]:
        """Read the work."""
        await self._note_known(lease.key.bucket, self._world.pasted)
        return await super().work(lease)

    async def _note_known(self, bucket: str, pasted: Iterable[str]) -> None:
        names = [name for name in pasted if self._world.pasted[name].bucket == bucket]
        self._world.known[bucket] = {name for name in names if await may_be_sent(self._plain, name)}


async def read_sealed(submissions: Submissions, submission_id: str) -> Sealed:
    """Return the sealed values of a submission."""
    columns = (SUBMISSIONS.c.sealed_token, SUBMISSIONS.c.sealed_response_url)
    query = select(*columns).where(SUBMISSIONS.c.id == submission_id)
    row = await submissions._database.run(lambda connection: connection.execute(query).one())
    return Sealed(token=row.sealed_token, response_url=row.sealed_response_url)


async def may_be_sent(submissions: Submissions, submission_id: str) -> bool:
    """Return whether a submission holds back the older ones: not ended and not written."""
    found = await submissions.find(submission_id)
    assert found is not None
    return not found.is_ended and found.state is not State.CONFIRMING


class ScriptedCloudflare(CloudflareClient):
    """Answers as planned, and checks that each write may be sent now."""

    account_id = "account"

    def __init__(self, world: World, submissions: Submissions) -> None:
        self._world = world
        self._submissions = submissions

    async def verify_token(
        self,
        token: Secret,
        owner: TokenKind,
        may_send: Callable[[], Awaitable[bool]],
        turn: Turn | None = None,
    ) -> TokenVerification:
        """Know a token, or not (yet), or fail as planned."""
        await self._ask_about(token, may_send)
        if self._world.checks:
            raise self._world.checks.pop(0)(status=503)
        if not self._world.of_token(token.reveal()).is_known:
            raise CallerRejected(status=401, cloudflare_code=1000)
        return TokenVerification(
            id="id", status=TokenStatus.ACTIVE, expires_at=None, not_before=None, answered_at=None, cf_ray=None
        )

    async def get_catalog_as(
        self, key: BucketKey, token: Secret, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> Catalog:
        """Show the catalog to every token."""
        await self._ask_about(token, may_send)
        return Catalog(key=key, status=CatalogStatus.ACTIVE, credential_status=CredentialStatus.UNKNOWN)

    async def test_credential(self, key: BucketKey, turn: Turn | None = None) -> CredentialStatus:
        """Offer no test."""
        await self._world.point()
        raise RouteGone

    async def _ask_about(self, token: Secret, may_send: Callable[[], Awaitable[bool]]) -> None:
        """Let a check of a token go out while it may be sent."""
        submission = await self._read(self._world.of_token(token.reveal()))  # before: time may pass in the database
        if not await may_send():
            raise LeaseLost
        assert self._world.clock() < submission.expires_at, "asked about after its deadline"
        await self._world.point()

    async def store_credential(
        self, key: BucketKey, token: Secret, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> str:
        """Ask the fence as often as the real client does, then judge the token."""
        if not await may_send():
            raise LeaseLost
        self._world.is_at_the_door, self._world.is_overtaken = True, False
        try:
            if not await may_send():
                raise LeaseLost
            pasted = self._world.of_token(token.reveal())
            if not self._world.is_overtaken:
                await self._check_sending(key.bucket, pasted)
            pasted.writes += 1
            await self._world.point()
        finally:
            self._world.is_at_the_door = False
        outcome = self._world.planned.pop(0) if self._world.planned else Outcome(lands=True, error=None)
        if not pasted.is_fit and (outcome.error is None or outcome.lands):
            outcome = Outcome(lands=False, error=CredentialRefused)
        return await self._finish(key.bucket, pasted, outcome)

    async def turn(self, urgency: Urgency) -> Turn | datetime:
        """Let one request go, or return when to come back."""
        await self._world.point()
        if self._world.blocked_until is not None and self._world.blocked_until > self._world.clock():
            return self._world.blocked_until
        return Turn(None, urgency)

    async def get_catalog(self, key: BucketKey, turn: Turn | None = None) -> Catalog:
        """Show the slot, or the planned answer."""
        await self._world.point()
        slot = CredentialStatus.ABSENT if self._world.slots[key.bucket] is None else CredentialStatus.PRESENT
        look = self._world.looks.pop(0) if self._world.looks else slot
        if not isinstance(look, CredentialStatus):
            raise look(status=503)
        return Catalog(key=key, status=CatalogStatus.ACTIVE, credential_status=look)

    async def _finish(self, bucket: str, pasted: Pasted, outcome: Outcome) -> str:
        if outcome.lands:
            self._world.slots[bucket] = pasted.token
            pasted.landed += 1
        if outcome.error is None:
            self._world.accepted.append(pasted)
        await self._world.point()
        if outcome.error is not None:
            retry_after = None if outcome.retry_after is None else timedelta(seconds=outcome.retry_after)
            is_unclear = issubclass(outcome.error, CloudflareUnavailable | CloudflareUnreachable)
            raise outcome.error(status=500, retry_after=retry_after, possibly_landed=is_unclear)
        return "ray"

    async def _check_sending(self, bucket: str, pasted: Pasted) -> None:
        """Check the rule at the moment when the token goes out."""
        submission = await self._read(pasted)
        assert pasted not in self._world.replaced, "sent after it was replaced"
        assert pasted.bucket == bucket
        assert not submission.is_ended
        assert (await read_sealed(self._submissions, pasted.id)).token is not None
        assert self._world.clock() < submission.expires_at, "sent after its deadline"
        newer = [each for each in self._world.pasted.values() if each.bucket == bucket and each.place > pasted.place]
        held_by = [each.id for each in newer if each.id in self._world.known[bucket]]
        assert not held_by, f"{pasted.id} is sent although {held_by} are newer and have not ended"
        for each in newer:
            if each in self._world.accepted or (await self._read(each)).state is State.UNCERTAIN:
                lets_go_on = await self._lets_older_ones_go_on(each)
                assert lets_go_on, f"{pasted.id} is sent although the slot may hold {each.id}"

    async def _read(self, pasted: Pasted) -> Submission:
        found = await self._submissions.find(pasted.id)
        assert found is not None
        return found

    async def _lets_older_ones_go_on(self, newer: Pasted) -> bool:
        """Return whether a newer one ended so that older ones go on, although it may have landed."""
        found = await self._read(newer)
        error = None if found.error_code is None else error_of_code(found.error_code)
        is_no = error is not None and issubclass(error, Refusal)
        return found.state is State.UNCERTAIN and is_no


class Slack(Who):
    """Accepts messages, knows the members of a user group, and says of whom the rule speaks."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def post_result(self, pending: Pending) -> Posted:
        """Record the message, or fail as planned."""
        submission = pending.submission
        await self._world.point()
        if self._world.slack_failures:
            self._world.slack_failures -= 1
            raise SlackUnavailable
        self._world.pasted[submission.id].reports.append(submission)
        await self._world.point()
        return Posted(place=submission.channel_id, way=Way.CHANNEL)

    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:
        """Request a lookup."""
        return frozenset({"S1"})

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Fail as planned, else return no members."""
        await self._world.point()
        if self._world.membership_failures:
            self._world.membership_failures -= 1
            raise MembershipUnknown
        return frozenset()

    def refuse(self, person: Person | None) -> AccessRefused | None:
        """Refuse as planned."""
        if person is not None and person.unknown_usergroups:
            return MembershipUnknown()
        is_denied = person is not None and person.user_id in self._world.denied
        return NotAllowed() if is_denied else None


class Engine(Protocol):
    """Opens an empty database for one history, and closes it."""

    async def open(self) -> Database:
        """Return it, ready."""
        ...

    async def close(self) -> None:
        """Close it, and remove its files."""
        ...


SURPRISES = (
    "kill",
    "database",
    "take",
    "takeover",
    "takeover with a newer one",
    "accept",
    "repeat",
    "a moment",
    "frozen",
)


class Ordering(RuleBasedStateMachine):
    """Histories of two buckets."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._runner = asyncio.Runner()
        self._world = World()
        self._run(self._open())

    async def _open(self) -> None:
        self._next_at: datetime | None = None
        self._taken_at: object = None
        self._database = await self._engine.open()
        self._submissions = Submissions(self._database, CHAIN)
        self._delivery = self._make_delivery()

    def _run(self, work: Any) -> Any:  # noqa: ANN401 - whatever it returns
        return self._runner.run(work)

    def _make_delivery(self) -> Delivery:
        """Return a delivery without memory, as in another process."""
        world, slack = self._world, Slack(self._world)
        database = InterruptedDatabase(self._database, world)
        return Delivery(
            submissions=WatchedSubmissions(database, world, self._submissions),
            catalogs=Catalogs(database, "account"),
            fresh_token_patience=PATIENCE,
            cloudflare=ScriptedCloudflare(world, self._submissions),
            key_ring=KEY_RING,
            gate=Gate(
                [Rule(name="slack", who=slack, verbs=frozenset(Verb))],
                Home(team_id="T1", enterprise_id=None),
                slack,
                EVERYBODY,
            ),
            poster=slack,
            asking=Asking(Approvals(database), NobodyAsked(), AUTHENTICITY, world.clock),
            clock=world.clock,
            jitter=lambda: 1.0,
        )

    # What people and the two services do.

    @initialize(bucket=A_BUCKET, user=st.sampled_from(PEOPLE), is_signed=st.booleans())
    def begin(self, bucket: str, user: str, *, is_signed: bool) -> None:
        """Every history has a submission. Over HTTP, Slack signs the time of sending, to the second."""
        self._world.is_signed = is_signed
        self._run(self._submit(bucket, user, is_fit=True))

    @rule(
        bucket=A_BUCKET,
        user=st.sampled_from(PEOPLE),
        late=st.sampled_from([AT_ONCE, AT_ONCE, LATEST_RECORDING / 4, LATEST_RECORDING]),
        is_fit=st.sampled_from([True, True, False]),
        ttl=st.sampled_from([TTL, 3 * TTL]),
    )
    def accept(self, bucket: str, user: str, late: timedelta, ttl: timedelta, *, is_fit: bool) -> None:
        """Record what a person pasted a moment ago; the allowlist may have changed."""
        self._run(self._submit(bucket, user, late, ttl, is_fit=is_fit))

    @rule(
        bucket=A_BUCKET,
        user=st.sampled_from(PEOPLE),
        way=st.sampled_from([LONGEST_WAY / 4, LONGEST_WAY / 2, LONGEST_WAY]),
        newer_by=st.sampled_from([None, *PEOPLE]),
    )
    def arrive_late(self, bucket: str, user: str, way: timedelta, newer_by: str | None) -> None:
        """Deliver a Submit that Slack sent a while ago: others may have been sent and written since."""
        self._run(self._store_meanwhile(bucket, newer_by))
        self._run(self._submit(bucket, user, way=way))

    @rule(
        bucket=A_BUCKET,
        user=st.sampled_from(PEOPLE),
        frozen=st.sampled_from([LONGEST_FREEZE / 6, LONGEST_FREEZE / 2, LONGEST_FREEZE]),
        newer_by=st.sampled_from([None, *PEOPLE]),
    )
    def wake_a_frozen_gateway(self, bucket: str, user: str, frozen: timedelta, newer_by: str | None) -> None:
        """Record what a gateway had read before it froze, whatever the others did meanwhile."""
        self._run(self._store_meanwhile(bucket, newer_by))
        self._run(self._submit(bucket, user, frozen))

    @rule(data=st.data(), is_fit=st.booleans())
    def repeat(self, data: st.DataObject, *, is_fit: bool) -> None:
        """Submit again in the same form, with another token."""
        again = data.draw(st.sampled_from(sorted(self._world.pasted)))
        self._run(self._submit_again(again, is_fit=is_fit))

    @rule(outcomes=st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=3))
    def trouble_at_cloudflare(self, outcomes: list[str]) -> None:
        """Plan the outcomes of the next writes."""
        self._world.planned += [OUTCOMES[name] for name in outcomes]

    @rule(
        look=st.sampled_from([None, CredentialStatus.ABSENT, CredentialStatus.ABSENT, CloudflareUnavailable]),
        check=st.sampled_from([None, None, CloudflareUnavailable, Throttled]),
        posts=st.sampled_from([0, 0, 2]),
        memberships=st.sampled_from([0, 0, 2]),
        no_turn=st.sampled_from([0, 0, 2, 300]),
    )
    def trouble_elsewhere(
        self,
        look: CredentialStatus | type[CloudflareError] | None,
        check: type[CloudflareError] | None,
        posts: int,
        memberships: int,
        no_turn: int,
    ) -> None:
        """Make the next test of the slot show something else, calls to Slack fail, or the pace be used up."""
        world = self._world
        world.looks += [] if look is None else [look]
        world.checks += [] if check is None else [check]
        world.slack_failures, world.membership_failures = posts, memberships
        world.blocked_until = world.clock() + timedelta(seconds=no_turn)

    @rule(user=st.sampled_from(PEOPLE), is_denied=st.sampled_from([True, False, False]))
    def change_the_allowlist(self, user: str, *, is_denied: bool) -> None:
        """Remove a person from the allowlist, or add one again."""
        (self._world.denied.add if is_denied else self._world.denied.discard)(user)

    @rule(seconds=st.sampled_from([None, None, 1.0, 5.0, 300.0, 601.0]))
    def wait(self, seconds: float | None) -> None:
        """Let some seconds pass, or wait until the next step is due."""
        until_next = self._next_at - self._world.clock() if self._next_at else AT_ONCE
        self._world.real += max(until_next, AT_ONCE) if seconds is None else timedelta(seconds=seconds)

    # What the bot does, and what happens to it.

    @rule(bucket=A_BUCKET)
    def step(self, bucket: str) -> None:
        """Deliver once, undisturbed."""
        self._run(self._deliver_to_rest(bucket))

    @rule(
        bucket=A_BUCKET,
        at=st.integers(1, 40) | st.integers(8, 22),  # the second range is around the sending of a token
        what=st.sampled_from(SURPRISES),
        is_fresh=st.sampled_from([True, True, False]),
        user=st.sampled_from(PEOPLE),
        late=st.sampled_from([AT_ONCE, LATEST_RECORDING / 2]),
    )
    def step_with_a_surprise(
        self, bucket: str, at: int, what: str, user: str, late: timedelta, *, is_fresh: bool
    ) -> None:
        """Deliver once, mostly a new submission; at one of the calls something happens."""
        if is_fresh:
            self._run(self._submit(bucket, "U1"))
        surprises: dict[str, Callable[[], Awaitable[object]]] = {
            "kill": lambda: self._kill(bucket),
            "database": self._fail_database,
            "take": lambda: self._take(bucket),
            "takeover": lambda: self._take_over(bucket),
            "takeover with a newer one": lambda: self._take_over(bucket, newer_of=user),
            "accept": lambda: self._submit(bucket, user, late),
            "repeat": lambda: self._submit_again(
                max(each.id for each in self._of(bucket) or self._world.pasted.values())
            ),
            "a moment": lambda: self._wait(MOMENT / 2),
            "frozen": lambda: self._wait(TTL),
        }
        self._world.points_left, self._world.surprise = at, surprises[what]
        self._taken_at = None
        outcome = self._run(self._deliver(bucket))
        self._world.points_left = self._world.surprise = None
        if outcome == "killed":
            self._delivery = self._make_delivery()
        if self._taken_at is not None:
            assert self._taken_at == self._run(self._trace(bucket)), "a bucket of another process was worked on"

    @rule(hours=st.sampled_from([0, 0, -1, 1]))
    def restart(self, hours: int) -> None:
        """End the process between two steps; the clock may differ when it comes back."""
        self._run(self._cut_short(None))
        self._delivery = self._make_delivery()
        self._world.offset += timedelta(hours=hours)
        began_at = self._run(latest_time(self._submissions, self._world.clock()))
        self._world.offset += began_at - self._world.clock()
        self._world.started_at = self._world.real
        self._world.blocked_until = None

    @precondition(lambda self: not self._world.planned)
    @rule(bucket=A_BUCKET)
    def two_at_once(self, bucket: str) -> None:
        """Let two processes deliver the same bucket concurrently."""
        self._run(self._cut_short(bucket))
        self._run(self._deliver_twice(bucket))

    # The steps themselves.

    async def _submit(
        self,
        bucket: str,
        user: str,
        late: timedelta = AT_ONCE,
        ttl: timedelta = TTL,
        *,
        way: timedelta = AT_ONCE,
        is_fit: bool = True,
    ) -> None:
        name = f"V{len(self._world.pasted):03d}"
        late = min(late, self._world.real - self._world.started_at)  # what a process did not record is lost with it
        self._world.real += TICK
        arrived = self._world.real - late
        pasted = Pasted(
            id=name,
            user_id=user,
            bucket=bucket,
            token=f"token-{name}-0",
            sent=self._world.as_sent(arrived, way),
            arrived=arrived,
            recorded=len(self._world.pasted),
            is_fit=is_fit,
            is_known=is_fit or len(self._world.pasted) % 2 == 0,
        )
        opening = Opening(nonce=name, team_id="T1", user_id=user, expires_at=self._world.clock() + 99 * TTL)
        await self._submissions.add_opening(opening)
        acceptance = await self._submissions.accept(self._new(pasted, late, ttl), name)
        assert acceptance.verdict is Verdict.RECORDED
        self._world.pasted[name] = pasted
        recorded = await self._read(pasted)
        assert recorded.next_attempt_at <= self._world.clock(), "does not start at once"
        assert acceptance.submission in {None, recorded}
        if recorded.is_ended:
            assert recorded.state is State.SUPERSEDED
            newer = [each for each in self._of(bucket) if each.place > pasted.place]
            uncertain = [each for each in newer if (await self._read(each)).state is State.UNCERTAIN]
            by = [*uncertain, *(each for each in newer if each in self._world.accepted)]
            assert recorded.superseded_by in {each.user_id for each in by}

    async def _store_meanwhile(self, bucket: str, newer_by: str | None) -> None:
        """Let a person submit, and deliver it."""
        if newer_by is not None:
            await self._submit(bucket, newer_by)
            await self._deliver_to_rest(bucket)

    async def _submit_again(self, name: str, *, is_fit: bool = True) -> None:
        pasted = self._world.pasted[name]
        self._world.real += TICK
        token, number = pasted.token.rpartition("-")[::2]
        again = Pasted(
            id=name,
            user_id=pasted.user_id,
            bucket=pasted.bucket,
            token=f"{token}-{int(number) + 1}",
            sent=self._world.as_sent(self._world.real),
            arrived=self._world.real,
            recorded=pasted.recorded,
            is_fit=is_fit,
            is_known=is_fit or int(number) % 2 == 0,
        )
        acceptance = await self._submissions.accept(self._new(again), name)
        if acceptance.verdict is Verdict.REPLACED:
            assert pasted.writes == 0, "replaced after it was sent"
            self._world.replaced.append(pasted)
            self._world.pasted[name] = again
        else:
            assert acceptance.verdict is Verdict.ALREADY_UNDER_WAY
            assert acceptance.submission is not None
            assert acceptance.submission.state not in {State.ACCEPTED, State.VERIFYING}

    def _new(self, pasted: Pasted, late: timedelta = AT_ONCE, ttl: timedelta = TTL) -> NewSubmission:
        arrived_at = self._world.clock() - late
        key = BucketKey(account_id="account", bucket=pasted.bucket)
        context = SealingContext(
            purpose=TOKEN,
            task="store",
            team_id="T1",
            channel_id="C1",
            user_id=pasted.user_id,
            view_id=pasted.id,
            account_id=key.account_id,
            bucket=key.bucket,
        )
        return NewSubmission(
            id=pasted.id,
            team_id="T1",
            user_id=pasted.user_id,
            key=key,
            channel_id="C1",
            reason="",
            token_kind=TokenKind.ACCOUNT,
            last_four="four",
            sealed=Sealed(
                token=SealedToken(KEY_RING.sealing_key.seal(pasted.token, context)),
                response_url=SealedResponseUrl("sealed.v1.madeup.madeup"),
            ),
            sent_at=START + pasted.sent if self._world.is_signed else arrived_at,
            accepted_at=arrived_at,
            expires_at=arrived_at + ttl,
        )

    async def _deliver(self, bucket: str) -> str:
        try:
            self._next_at = await self._delivery.deliver(BucketKey(account_id="account", bucket=bucket))
        except asyncio.CancelledError:
            await self._end_orphans()
            return "killed"
        except DatabaseTrouble:
            return "stopped"
        return "done"

    async def _end_orphans(self) -> None:
        """End the concurrent tasks of the killed process: they die with it."""
        orphans = asyncio.all_tasks() - {asyncio.current_task()}
        for orphan in orphans:
            orphan.cancel()
        await asyncio.gather(*orphans, return_exceptions=True)

    async def _deliver_twice(self, bucket: str) -> None:
        key = BucketKey(account_id="account", bucket=bucket)
        await asyncio.gather(self._delivery.deliver(key), self._make_delivery().deliver(key))

    async def _kill(self, bucket: str) -> NoReturn:
        await self._cut_short(bucket)
        raise asyncio.CancelledError from Killed()

    async def _fail_database(self) -> None:
        if self._world.of_database is not None:
            raise self._world.of_database

    async def _take(self, bucket: str) -> None:
        """Let another process take the lease and do nothing: any later move is a mistake of the first."""
        await self._cut_short(bucket)
        await self._submissions.take(BucketKey(account_id="account", bucket=bucket))
        is_first = self._world.is_taking and self._world.of_database is DatabaseUnavailable
        if not self._world.is_past_recall and not is_first:
            self._taken_at = await self._trace(bucket)

    async def _trace(self, bucket: str) -> list[tuple[Submission, int]]:
        """Return the changes by the work on a bucket, except for messages: one may be on its way to Slack already."""
        return [(await self._read(pasted), pasted.writes) for pasted in self._of(bucket)]

    async def _take_over(self, bucket: str, newer_of: str | None = None) -> None:
        """Let another process do all the work, and then the first one continue where it was."""
        await self._cut_short(bucket)
        is_past_recall = self._world.is_past_recall
        if is_past_recall:
            self._world.in_flight.add(bucket)  # a sent request cannot be recalled
        if newer_of is not None:
            await self._submit(bucket, newer_of)
        of_database, is_at_the_door = self._world.of_database, self._world.is_at_the_door
        known = self._world.known.get(bucket, set())
        await self._make_delivery().deliver(BucketKey(account_id="account", bucket=bucket))
        self._world.of_database, self._world.is_at_the_door = of_database, is_at_the_door
        self._world.is_overtaken = is_past_recall
        self._world.known[bucket] = known

    async def _wait(self, how_long: timedelta) -> None:
        self._world.real += how_long

    async def _cut_short(self, bucket: str | None) -> None:
        """Note whose message may come twice: Slack may have it, but it is not recorded yet."""
        for pasted in self._world.pasted.values():
            found = await self._submissions.find(pasted.id)
            assert found is not None
            if bucket in {None, pasted.bucket} and found.reported_at is None:
                pasted.reports_cut_short += found.is_ended

    # Invariants.

    async def _check_settled(self, bucket: str) -> None:
        """Check after a whole delivery that nothing is overdue, and that the time of the next step is right."""
        rows = [await self._read(pasted) for pasted in self._of(bucket)]
        waiting = [row for row in rows if row.reported_at is None]
        assert (self._next_at is None) == (not waiting)
        assert self._next_at is None or self._next_at > self._world.clock()
        for row in rows:
            assert row.is_ended or row.state is State.CONFIRMING or row.expires_at > self._world.clock()
            assert row.is_ended == ((await read_sealed(self._submissions, row.id)).token is None)
        for pasted, row in zip(self._of(bucket), rows, strict=True):
            self._check_told(pasted, row)

    def _check_told(self, pasted: Pasted, row: Submission) -> None:
        assert len(pasted.reports) <= 1 + pasted.reports_cut_short, f"{pasted.id} is reported too often"
        assert row.reported_at is None or pasted.reports, f"{pasted.id} is recorded as reported, and was not"
        assert {report.state for report in pasted.reports} <= {row.state}
        is_untouched = row.state in UNTOUCHED or (row.state is State.SUPERSEDED and not row.possibly_written)
        if row.is_ended and is_untouched:
            assert not pasted.landed, f"{pasted.id} is reported as unchanged, and landed"
        pasted.is_confirmed = pasted.is_confirmed or row.state is State.CONFIRMING
        assert not (pasted.is_confirmed and row.is_ended) or row.state is State.STORED
        if row.state is State.STORED:
            assert pasted in self._world.accepted
        if row.state is State.EXPIRED:
            assert not pasted.writes

    def _of(self, bucket: str) -> list[Pasted]:
        return [pasted for pasted in self._world.pasted.values() if pasted.bucket == bucket]

    async def _read(self, pasted: Pasted) -> Submission:
        found = await self._submissions.find(pasted.id)
        assert found is not None
        return found

    def teardown(self) -> None:
        """Finish everything, and check the result."""
        try:
            self._run(self._finish())
        finally:
            self._run(self._engine.close())
            self._runner.close()

    async def _finish(self) -> None:
        world = self._world
        world.planned, world.looks, world.checks = [], [], []
        world.slack_failures = world.membership_failures = 0
        world.blocked_until = world.surprise = None
        hopeful = [bucket for bucket in BUCKETS if await self._must_be_stored(bucket)]
        for _ in range(300):
            next_at = [at for bucket in BUCKETS if (at := await self._deliver_to_rest(bucket)) is not None]
            if not next_at:
                break
            world.real += min(next_at) - world.clock()
        else:
            message = "no end in sight"
            raise AssertionError(message)
        for bucket in BUCKETS:
            await self._check_end(bucket, is_hopeful=bucket in hopeful)

    async def _deliver_to_rest(self, bucket: str) -> datetime | None:
        assert await self._deliver(bucket) == "done"
        await self._check_settled(bucket)
        return self._next_at

    async def _must_be_stored(self, bucket: str) -> bool:
        """Return whether the newest one must be stored, now that all trouble is over."""
        newest = max(self._of(bucket), key=lambda pasted: pasted.place, default=None)
        if newest is None or not newest.is_fit or newest.user_id in self._world.denied:
            return False
        row = await self._read(newest)
        due_at = max(row.next_attempt_at, self._world.clock())
        return not row.is_ended and row.state is not State.CONFIRMING and due_at < row.expires_at

    async def _check_end(self, bucket: str, *, is_hopeful: bool) -> None:
        rows = {pasted.id: await self._read(pasted) for pasted in self._of(bucket)}
        for pasted in self._of(bucket):
            row = rows[pasted.id]
            assert row.is_ended
            assert row.reported_at is not None
            assert await read_sealed(self._submissions, row.id) == Sealed()
            assert pasted.reports
            self._check_told(pasted, row)
            if row.state is State.SUPERSEDED:
                newer = [each for each in self._of(bucket) if each.place > pasted.place]
                by = [each for each in newer if rows[each.id].state in {State.STORED, State.UNCERTAIN}]
                assert row.superseded_by in {each.user_id for each in by}
        if is_hopeful:
            newest = max(self._of(bucket), key=lambda pasted: pasted.place)
            assert rows[newest.id].state is State.STORED
        self._check_slot(bucket, rows)

    def _check_slot(self, bucket: str, rows: dict[str, Submission]) -> None:
        """Check that the slot holds the newest stored one, or a newer one with an unknown outcome."""
        stored = [pasted for pasted in self._of(bucket) if rows[pasted.id].state is State.STORED]
        if bucket in self._world.in_flight or not stored:
            return
        token = self._world.slots[bucket]
        assert token is not None
        holder = self._world.of_token(token)
        assert rows[holder.id].state in {State.STORED, State.UNCERTAIN, State.SUPERSEDED}
        for pasted in stored:
            assert pasted.place <= holder.place, f"{holder.id} overwrote {pasted.id}"


class SqliteFile:
    """A file for each history, copied from one with tables; in memory where possible."""

    def __init__(self, directory: Path) -> None:
        self._template = directory / "template.sqlite"
        self._directory = directory / "history"
        first = SqliteDatabase(self._template)
        first.start()
        first.stop()
        self._database: SqliteDatabase | None = None

    async def open(self) -> Database:
        """Start on a fresh copy."""
        self._directory.mkdir()
        shutil.copy(self._template, self._directory / "bot.sqlite")
        self._database = SqliteDatabase(self._directory / "bot.sqlite")
        self._database.start()
        return self._database

    async def close(self) -> None:
        """Stop, and delete the copy."""
        assert self._database is not None
        self._database.stop()
        shutil.rmtree(self._directory)


class Postgres:
    """One database, emptied for each history."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: PostgresDatabase | None = None

    async def open(self) -> Database:
        """Connect, and empty the tables."""
        self._database = PostgresDatabase(self._url, time_limit=timedelta(seconds=10))
        await self._database.start()
        execute(self._url, f"TRUNCATE {', '.join(METADATA.tables)}")
        return self._database

    async def close(self) -> None:
        """Disconnect."""
        assert self._database is not None
        await self._database.stop()


@pytest.fixture
def sqlite_file() -> Iterator[SqliteFile]:
    """Return a directory for files, where fsync costs nothing."""
    memory = Path("/dev/shm")  # noqa: S108 - only its speed matters; the directory in it is our own
    with TemporaryDirectory(prefix="ordering-", dir=memory if memory.is_dir() else None) as directory:
        yield SqliteFile(Path(directory))


@pytest.fixture
def postgres(postgres_url: str) -> Postgres:
    """Return an empty database of the server."""
    return Postgres(urlsplit(postgres_url).geturl())


def _explore(engine: Engine, examples: int) -> None:
    chosen = settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=30,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],  # shrinking takes minutes
    )
    with capture_logs():
        run_state_machine_as_test(
            lambda: Ordering(engine),  # type: ignore[arg-type]  # hypothesis means whatever makes a machine
            settings=chosen,
        )


@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.thorough)])
def test_the_slot_ends_with_the_newest_fit_token_on_sqlite(sqlite_file: SqliteFile, examples: int) -> None:
    """Whatever happens in between, on a real file."""
    _explore(sqlite_file, examples)


@pytest.mark.parametrize("examples", [5, pytest.param(50, marks=pytest.mark.thorough)])
def test_the_slot_ends_with_the_newest_fit_token_on_postgresql(postgres: Postgres, examples: int) -> None:
    """The same on a real server, where a transaction takes longer: fewer histories."""
    _explore(postgres, examples)
