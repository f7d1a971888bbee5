"""What tests of rotation share: a schedule over a real database, in virtual time, and rotations that end at once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from bot.catalogs.authentic import IsAuthentic
from bot.cloudflare.errors import Throttled
from bot.model.catalog import BucketKey, CredentialStatus, StoredCredential
from bot.model.errors import BotError
from bot.model.minted import MintedState, MintedToken
from bot.model.move import Changes, Move
from bot.model.submission import Findings, State, Submission, Task, TokenFacts, TokenKind
from bot.model.timetable import Timetable
from bot.model.token_name import TokenName
from bot.policy.rules import People, Rule, Verb
from bot.policy.scheduled import Scheduled
from bot.rotation.schedule import RotationSchedule
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.installations import Installations
from bot.storage.minted_rows import add_token
from bot.storage.minted_tokens import MintedTokens
from bot.storage.submissions import Submissions
from tests.clock import Clock
from tests.make import ACCOUNT, AUTHENTICITY, CHAIN, at, make_key, make_new_submission

DAY = timedelta(days=1)
EVERY = 30 * DAY
TTL = timedelta(hours=1)
GRANT = Rule(name="all", who=People(), verbs=frozenset({Verb.ROTATE, Verb.STORE}))


def make_scheduled(*rules: Rule, every: timedelta | None = EVERY, globs: tuple[str, ...] = ()) -> Scheduled:
    """Return the schedule; without rules, one grants everything."""
    timetable = None if every is None else Timetable(every=every)
    return Scheduled(timetable=timetable, globs=globs, rules=lambda: rules or (GRANT,))


def make_schedule(
    database: Database,
    submissions: Submissions,
    clock: Callable[[], datetime],
    *,
    scheduled: Scheduled | None = None,
    catalogs: Catalogs | None = None,
    is_authentic: IsAuthentic | None = None,
) -> RotationSchedule:
    """Return what begins rotations in one process."""
    return RotationSchedule(
        scheduled=scheduled or make_scheduled(),
        catalogs=catalogs or Catalogs(database, ACCOUNT),
        submissions=submissions,
        tokens=MintedTokens(database, submissions, ACCOUNT, clock),
        installations=Installations(database, AUTHENTICITY, ACCOUNT, clock),
        is_authentic=is_authentic or submissions.is_stored_by_the_bot,
        team_id="T0SANDBOX",
        ttl=TTL,
        clock=clock,
    )


class Rotations:
    """A database in which buckets are rotated, without Slack and Cloudflare: a minter and a worker in one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.submissions = Submissions(database, CHAIN)
        self.catalogs = Catalogs(database, ACCOUNT)
        self.tokens = MintedTokens(database, self.submissions, ACCOUNT, clock)
        self.installations = Installations(database, AUTHENTICITY, ACCOUNT, clock)
        self.schedule = self.new_schedule()
        self._number = 0

    def new_schedule(self, scheduled: Scheduled | None = None) -> RotationSchedule:
        """Return that of another process."""
        return make_schedule(self.database, self.submissions, self.clock, scheduled=scheduled, catalogs=self.catalogs)

    async def press(self, bucket: str = "lake", channel_id: str = "C0DATAPLT") -> Submission:
        """Rotate a bucket as a person does, well."""
        self._number += 1
        new = make_new_submission(
            id=f"V{self._number}",
            task=Task.ROTATE,
            key=make_key(bucket),
            channel_id=channel_id,
            expires_at=self.clock() + TTL,
            **at(self.clock()),
        )
        await self.submissions.add(new)
        return await self.end_well(new.key)

    async def paste(self, bucket: str = "lake") -> None:
        """Store a token that a person has pasted."""
        self._number += 1
        new = make_new_submission(id=f"V{self._number}", key=make_key(bucket), **at(self.clock()))
        await self.submissions.add(new)
        await self._store(new.key, "ab" * 16)

    async def open_ones(self) -> list[BucketKey]:
        """Return the buckets in which something is under way."""
        return await self.submissions.unreported_keys()

    async def end_well(self, key: BucketKey) -> Submission:
        """Do what a minter and a worker do for the newest submission of a bucket."""
        self._number += 1
        [pending] = await self.submissions.work(await self.submissions.take(key))
        token = await self._mint(pending.submission)
        return await self._store(key, token.token_id or "")

    async def end_badly(self, key: BucketKey, to: State = State.FAILED, because: BotError | None = None) -> None:
        """End the newest submission of a bucket with this error, and report it."""
        lease = await self.submissions.take(key)
        [pending] = await self.submissions.work(lease)
        now = self.clock()
        move = Move(to=to, at=now, because=because or Throttled())
        [ended] = await self.submissions.apply(pending.submission, move, lease)
        await self.submissions.apply(ended, Move(to=to, at=now, changes=Changes(reported_at=now)), lease)

    async def retire(self, key: BucketKey) -> None:
        """Leave an earlier token of a bucket that is still to be taken back."""
        self._number += 1
        earlier = self._token(key, None, MintedState.RETIRED)
        await self.database.run(lambda connection: add_token(connection, CHAIN, replace(earlier, was_sent=True)))

    async def stored(self, bucket: str = "lake") -> StoredCredential:
        """Return what the slot holds."""
        return (await self.catalogs.catch_up()).credentials[bucket]

    async def be_there(self, trouble: str | None = None) -> None:
        """Say that a minter is there."""
        await self.installations.note_seen(trouble)

    async def _mint(self, submission: Submission) -> MintedToken:
        token = self._token(submission.key, submission.id, MintedState.CREATED)
        await self.database.run(lambda connection: add_token(connection, CHAIN, token))
        return token

    def _token(self, key: BucketKey, submission_id: str | None, state: MintedState) -> MintedToken:
        now = self.clock()
        return MintedToken(
            name=str(TokenName.new("4f3a9c1e", key.bucket)),
            key=key,
            submission_id=submission_id,
            state=state,
            token_id=f"{self._number:032x}",
            scope="bucket",
            epoch=1,
            intended_at=now,
            due_at=now,
            changed_at=now,
            expires_at=now + EVERY * 1.5,
        )

    async def _store(self, key: BucketKey, token_id: str) -> Submission:
        """Take it through the steps of a worker, and report it."""
        now = self.clock()
        facts = TokenFacts(id=token_id, owner=TokenKind.ACCOUNT, expires_at=now + EVERY * 1.5)
        findings = Findings(token=facts, unchecked=frozenset(), credential=CredentialStatus.VALID)
        lease = await self.submissions.take(key)
        [pending] = await self.submissions.work(lease)
        submission, is_ours = pending.submission, pending.submission.task is Task.ROTATE
        before = (State.MINTING, State.MINTED) if is_ours else ()
        proven = Changes(confirmation=CredentialStatus.VALID)
        for move in (
            *(Move(to=state, at=now) for state in before),
            Move(to=State.VERIFYING, at=now, changes=Changes(findings=findings, checked_at=now)),
            Move(to=State.STORING, at=now, changes=Changes(possibly_written=True)),
            Move(to=State.CONFIRMING, at=now, changes=Changes(confirm_until=now + TTL)),
            Move(to=State.STORED, at=now, changes=proven, tested_at=now, retires_at=now + TTL),
            Move(to=State.STORED, at=now, changes=Changes(reported_at=now)),
        ):
            submission, *_ = await self.submissions.apply(submission, move, lease)
        await self._take_back(key)
        return submission

    async def _take_back(self, key: BucketKey) -> None:
        for token in await self.tokens.of_bucket(key):
            if token.state is MintedState.RETIRED:
                await self.tokens.change(token, replace(token, state=MintedState.DEAD))
