"""The whole of a rotation without sockets: real storage, steps and minter against the fake Cloudflare, in any time.

Nothing runs by itself: a test lets each part take its steps, and time passes only between them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.pace import LocalPace, Pace
from bot.delivery.asking import Asking
from bot.delivery.deliver import Delivery
from bot.delivery.report import Poster
from bot.metrics import Metrics
from bot.model.catalog import BucketKey
from bot.model.errors import BotError
from bot.model.minted import MintedToken
from bot.model.move import Change
from bot.model.secret import Secret
from bot.model.submission import NewSubmission, Pending, Posted, Sealed, SealedToken, Submission, Task, TokenKind, Way
from bot.model.token_name import Scope
from bot.policy.gate import Gate, Home
from bot.policy.rules import People, Rule, Verb
from bot.rotation.ask import new_rotation
from bot.rotation.bucket_work import BucketWork
from bot.rotation.heal import Healing
from bot.rotation.housekeeping import Housekeeping
from bot.rotation.lifetime import Lifetime
from bot.rotation.make import Making
from bot.rotation.minter import Minter
from bot.rotation.quota import Quota
from bot.rotation.slot_test import SlotTests
from bot.rotation.take_back import TakingBack
from bot.sandbox.cloudflare import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_API_TOKEN,
    SANDBOX_MINTING_TOKEN,
    FakeCloudflare,
)
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext, generate_private_key, load_private_keys
from bot.slack.memberships import Memberships
from bot.storage.approvals import Approvals
from bot.storage.audit import AuditChain
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens
from bot.storage.submissions import Submissions
from tests.clock import Clock
from tests.everybody import EVERYBODY
from tests.in_memory import InMemory, Server
from tests.make import CHAIN, NobodyAsked

GRACE: Final = timedelta(hours=1)
TTL: Final = timedelta(hours=1)
URL: Final = "https://cloudflare.example/client/v4"
KEY_RING: Final = KeyRing(*load_private_keys(generate_private_key()))
RULE: Final = Rule(name="rule", who=People(users=frozenset({"U1", "U2"})), verbs=frozenset(Verb))
METRICS: Final = Metrics()
_STEP: Final = timedelta(seconds=1)
_LOOK: Final = timedelta(minutes=1)
_LONG_LOOK: Final = timedelta(minutes=10)
"""How far time goes at once while nothing is under way: an hour of grace need not take sixty steps."""


def key_of(bucket: str) -> BucketKey:
    """Return the slot of a bucket."""
    return BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket=bucket)


@dataclass(slots=True)
class Posts:
    """Keeps what is posted, in order."""

    posted: list[Submission] = field(default_factory=list)

    async def post_result(self, pending: Pending) -> Posted:
        """Keep it."""
        self.posted.append(pending.submission)
        return Posted(place="C1", way=Way.CHANNEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """The ways of a process to the world."""

    database: Database
    server: Server
    poster: Poster
    pace: Callable[[Clock], Pace] | None = None


class Process:
    """A worker and a minter in one process, with memory of their own: another one is another `Process`."""

    def __init__(self, rig: "Rig", ways: Ways | None = None) -> None:
        self.rig = rig
        ways = ways or Ways(database=rig.database, server=rig.fake, poster=rig.posts, pace=LocalPace)
        clock, database, chain = rig.clock, ways.database, rig.chain
        authenticity, pace = chain.authenticity, ways.pace
        self.submissions = Submissions(database, chain)
        self.submissions.watch(rig.changes.append)
        self.tokens = MintedTokens(database, self.submissions, SANDBOX_ACCOUNT_ID, clock)
        self.installations = Installations(database, authenticity, SANDBOX_ACCOUNT_ID, clock)
        catalogs = Catalogs(database, SANDBOX_ACCOUNT_ID)
        self.cloudflare = CloudflareClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url=URL,
            auth=ApiToken(token=Secret(SANDBOX_API_TOKEN)),
            pace=pace and pace(clock),
            metrics=METRICS,
            transport=InMemory(ways.server),
        )
        self.minting = MintingClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url=URL,
            token=Secret(SANDBOX_MINTING_TOKEN),
            installation=authenticity.installation_mark(),
            serves=lambda _: True,
            pace=pace and pace(clock),
            clock=clock,
            metrics=METRICS,
            transport=InMemory(ways.server),
        )
        memberships = Memberships(None, clock)  # type: ignore[arg-type]  # a listed user needs no lookup
        delivery = Delivery(
            submissions=self.submissions,
            catalogs=catalogs,
            cloudflare=self.cloudflare,
            key_ring=KEY_RING,
            gate=Gate([RULE], Home(team_id="T1", enterprise_id=None), memberships, EVERYBODY),
            poster=ways.poster,
            asking=Asking(Approvals(database), NobodyAsked(), authenticity, clock),
            clock=clock,
            fresh_token_patience=timedelta(seconds=60),
            jitter=lambda: 1.0,
            metrics=METRICS,
            rotate_grace=lambda: GRACE,
        )
        self.work = BucketWork(delivery, SlotTests(self.cloudflare, self.tokens, clock), rotates=lambda: True)
        quota = Quota(
            most=rig.quota, cloudflare=self.minting, installations=self.installations, tokens=self.tokens, clock=clock
        )
        self.metrics = Metrics()
        self.house = Housekeeping(
            cloudflare=self.minting,
            tokens=self.tokens,
            installations=self.installations,
            quota=quota,
            scope=Scope.BUCKET,
            clock=clock,
            metrics=self.metrics,
        )
        self.minter = Minter(
            tokens=self.tokens,
            making=Making(
                cloudflare=self.minting,
                tokens=self.tokens,
                scope=Scope.BUCKET,
                sealing_key=lambda: KEY_RING.sealing_key,
                lifetime=Lifetime(every=timedelta(days=30), rules=lambda: [RULE]),
                quota=quota,
                clock=clock,
                on_refusal=self.house.look_again,
            ),
            taking_back=TakingBack(
                cloudflare=self.minting,
                tokens=self.tokens,
                heal=Healing(self.submissions, catalogs, clock, TTL).heal,
                clock=clock,
            ),
            house=self.house,
            is_on=lambda: True,
            clock=clock,
            polls=False,
        )

    async def aclose(self) -> None:
        """Close the clients."""
        await self.cloudflare.aclose()
        await self.minting.aclose()

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Take the worker's steps in a bucket."""
        return await self.work.deliver(key)

    async def mint(self, key: BucketKey) -> datetime | None:
        """Take the minter's steps in a bucket."""
        return await self.minter.work_off(key)


class Rig:
    """An account, a database and one process; others can be added."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        fake: FakeCloudflare | None = None,
        chain: AuditChain = CHAIN,
        quota: int = 500,
    ) -> None:
        self.quota = quota
        self.database = database
        self.clock = clock
        self.chain = chain
        self.fake = fake or FakeCloudflare(clock=clock, timer=lambda: clock().timestamp())
        self.posts = Posts()
        self.changes: list[Change] = []
        self.process = Process(self)
        self._ids = count(1)

    async def press(self, bucket: str, user_id: str = "U1") -> str:
        """Ask for a rotation, and return its id."""
        new = new_rotation(
            submission_id=f"V{next(self._ids)}",
            key=key_of(bucket),
            team_id="T1",
            user_id=user_id,
            channel_id="C1",
            now=self.clock(),
            ttl=TTL,
        )
        await self.process.submissions.add(new)
        return new.id

    async def paste(self, bucket: str, token: str, user_id: str = "U2") -> str:
        """Submit a token, and return the submission's id."""
        now, submission_id, key = self.clock(), f"V{next(self._ids)}", key_of(bucket)
        context = SealingContext(
            purpose=TOKEN,
            task=Task.STORE.value,
            team_id="T1",
            user_id=user_id,
            view_id=submission_id,
            channel_id="C1",
            account_id=key.account_id,
            bucket=bucket,
        )
        new = NewSubmission(
            id=submission_id,
            task=Task.STORE,
            team_id="T1",
            user_id=user_id,
            key=key,
            channel_id="C1",
            reason="",
            token_kind=TokenKind.ACCOUNT,
            last_four=token[-4:],
            sealed=Sealed(token=SealedToken(KEY_RING.sealing_key.seal(token, context))),
            sent_at=now,
            accepted_at=now,
            expires_at=now + TTL,
        )
        await self.process.submissions.add(new)
        return new.id

    async def tokens(self, bucket: str) -> list[MintedToken]:
        """Return what may be left of a bucket's tokens."""
        return await self.process.tokens.of_bucket(key_of(bucket))

    async def find(self, submission_id: str) -> Submission:
        """Return a submission as it is now."""
        found = await self.process.submissions.find(submission_id)
        assert found is not None
        return found

    async def run_for(self, span: timedelta) -> None:
        """Let time pass, and both parts take every step that falls due meanwhile; the house is kept each hour."""
        end = self.clock() + span
        while self.clock() < end:
            next_at = await self.take_steps()
            self.clock.now = min(max(next_at, self.clock() + _STEP), end)
        await self.take_steps()

    async def take_steps(self) -> datetime:
        """Take every step that is due now, and return when the next one is."""
        await self.process.house.look_if_due()
        keys, due_at = await self._keys(), await self.process.tokens.next_due()
        upcoming = [self.clock() + (_LOOK if keys else _LONG_LOOK)]
        upcoming += [due_at] if due_at is not None and due_at > self.clock() else []
        for key in keys:
            upcoming += [at for at in (await self.process.deliver(key), await self.process.mint(key)) if at is not None]
        if await self.process.submissions.overdue_keys(self.clock() + _STEP):  # a token was made for it meanwhile
            return self.clock()
        return min(upcoming)

    async def _keys(self) -> list[BucketKey]:
        process = self.process
        waiting = await process.tokens.due(self.clock())
        return sorted({*waiting, *await process.submissions.unreported_keys(), *await process.tokens.to_test()})


Act = Callable[[], Awaitable[object]]


async def tolerate(act: Act) -> BaseException | None:
    """Do it; return the error that the bot foresees, as the engines log it and go on."""
    try:
        await act()
    except BotError as error:
        return error
    return None
