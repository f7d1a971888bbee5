"""Any history of rotations, pastes, kills, freezes, lost and late answers: the invariants of docs/decisions hold."""

import asyncio
from datetime import timedelta
from typing import Any, Final, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from bot.model.minted import HEADROOM
from bot.model.origin import id_of_scheduled
from bot.rotation.ask import new_rotation
from bot.sandbox.tokens import Behaviour, make_token
from bot.sealing.authenticity import Authenticity
from bot.storage.audit import AuditChain
from bot.storage.database import Database
from tests.make import CHAIN
from tests.rotation.points import Event, JumpingLoop, Steady, waiting
from tests.rotation.rest import find_problems
from tests.rotation.rig import TTL, key_of
from tests.rotation.witness import ROOM
from tests.rotation.world import SECOND, Installation, World

BUCKETS: Final = ("lake", "pond")
A_BUCKET: Final = st.sampled_from(["lake", "lake", "lake", "pond"])
OTHER_CHAIN: Final = AuditChain(Authenticity(["another-made-up-key-that-is-long-enough-here"]))
BROKEN: Final = frozenset(
    {"submission_broke", "minting_broke", "delivery_broke", "record_damaged", "transaction_broke", "row_set_aside"}
)
SPANS: Final = [timedelta(seconds=each) for each in (2, 20, 100, 400, 1300, 4000, 8000)]
FREEZES: Final = [timedelta(seconds=each) for each in (5, 70, 200, 600)]
PLACES: Final = [
    f"{moment} {kind}"
    for moment in ("wire", "answer")
    for kind in (
        "create_token",
        "credential",
        "status",
        "update_token",
        "get_token",
        "delete_token",
        "list_tokens",
        "post",
    )
]
REST: Final = timedelta(hours=2)
LATE: Final = 150.0
LAG: Final = 60.0
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "lost before": {"drop_before_store": True},
    "lost after": {"drop_after_store": True},
    "lands late": {"lands_after": LATE},
    "lands a bit late": {"lands_after": 20.0},
    "down": {"status": 503},
    "throttled": {"status": 429, "retry_after": 5},
    "refused": {"status": 403, "code": 10000, "message": "Authentication error"},
}
KINDS: Final = (
    "create_token",
    "create_token",
    "list_tokens",
    "get_token",
    "update_token",
    "delete_token",
    "credential",
    "status",
    "verify",
    "read",
)


class Engine(Protocol):
    """Opens two empty databases for one history, and closes them."""

    async def open(self, number: int) -> Database:
        """Return the first or the second, ready."""
        ...

    async def close(self) -> None:
        """Close what is open, and remove its files."""
        ...


class Rotating(RuleBasedStateMachine):
    """Histories of two buckets."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._runner = asyncio.Runner(loop_factory=JumpingLoop)
        self._capturing = capture_logs()
        self._log = self._capturing.__enter__()
        self._numbers = 0
        self._world: World = self._run(self._open())

    def _run(self, work: Any) -> Any:  # noqa: ANN401 - whatever it returns
        return self._runner.run(work)

    async def _open(self) -> World:
        with waiting():
            database = await self._engine.open(0)
        world = World(Steady(database), CHAIN)
        for bucket in BUCKETS:
            world.fake.add_bucket(bucket)
        return world

    @initialize(
        processes=st.sampled_from([1, 2]),
        offers_status=st.sampled_from([True] * 7 + [False]),
        others=st.sampled_from([0, 0, 485]),
    )
    def begin(self, processes: int, *, offers_status: bool, others: int) -> None:
        """Start the processes."""
        self._world.ours.begin(processes)
        self._world.fake.offers_status = offers_status
        self._world.fake.tokens.others = others

    # What people do.

    @rule(bucket=A_BUCKET, user=st.sampled_from(["U1", "U2"]))
    def press(self, bucket: str, user: str) -> None:
        """Ask for a rotation."""
        self._world.clock.advance(SECOND)
        self._run(self._world.ours.rig.press(bucket, user))

    @rule(bucket=A_BUCKET)
    def come_due(self, bucket: str) -> None:
        """Let the schedule ask for a rotation."""
        self._world.clock.advance(SECOND)
        self._numbers += 1
        new = new_rotation(
            submission_id=id_of_scheduled(bucket, self._numbers),
            key=key_of(bucket),
            team_id="T1",
            user_id="U1",
            channel_id="C1",
            now=self._world.clock(),
            ttl=TTL,
        )
        self._run(self._world.ours.rig.process.submissions.add(new))

    @rule(
        bucket=A_BUCKET,
        behaviour=st.sampled_from([Behaviour.GOOD, Behaviour.GOOD, Behaviour.WEAK, Behaviour.STORED_INVALID]),
    )
    def paste(self, bucket: str, behaviour: Behaviour) -> None:
        """Submit a token, which may not serve."""
        self._world.clock.advance(SECOND)
        self._numbers += 1
        self._run(self._world.ours.rig.paste(bucket, make_token(behaviour, self._numbers)))

    @rule(bucket=A_BUCKET)
    def write_from_elsewhere(self, bucket: str) -> None:
        """Let somebody else write the slot."""
        self._world.clock.advance(SECOND)
        self._numbers += 1
        self._world.fake.buckets[bucket].token = make_token(Behaviour.GOOD, self._numbers)
        self._world.note_foreign(bucket, self._world.clock())

    @rule(data=st.data(), deletes=st.booleans())
    def revoke_by_hand(self, data: st.DataObject, *, deletes: bool) -> None:
        """Delete or disable a token of ours in the dashboard."""
        live = [token for bucket in BUCKETS for token in self._world.ours.witness.live(bucket)]
        if live:
            token = live[data.draw(st.integers(0, len(live) - 1))]
            self._world.ours.witness.by_hand.add(token.id)
            (self._world.fake.tokens.delete_by_hand if deletes else self._world.fake.tokens.disable_by_hand)(token.id)

    @rule(bucket=A_BUCKET)
    def rotate_elsewhere(self, bucket: str) -> None:
        """Let another installation rotate the same bucket."""
        self._world.clock.advance(SECOND)
        self._run(self._rotate_elsewhere(bucket))

    async def _rotate_elsewhere(self, bucket: str) -> None:
        world = self._world
        if not world.others:
            with waiting():
                database = await self._engine.open(1)
            world.others.append(Installation(Steady(database), world.clock, world.fake, OTHER_CHAIN))
            world.others[0].begin(1)
        await world.others[0].rig.press(bucket)
        world.note_foreign(bucket, world.clock() + timedelta(days=1))  # each writes again and again
        world.ours.witness.may_exceed = ROOM  # neither counts what the other makes within the hour
        world.others[0].witness.may_exceed = ROOM

    # What Cloudflare does.

    @rule(
        kind=st.sampled_from(KINDS),
        how=st.sampled_from(sorted(ANSWERS)),
        times=st.sampled_from([1, 1, 2, 4]),
        begins=st.sampled_from([None, "lake"]),
    )
    def answer_badly(self, kind: str, how: str, times: int, begins: str | None) -> None:
        """Let the next requests of a kind fail."""
        if begins:
            self.press(begins, "U1")
        self._world.fake.fail_next(kind, times=times, **ANSWERS[how])  # type: ignore[arg-type]  # listed above

    @rule(known=st.sampled_from([0.0, LAG]), unknown=st.sampled_from([0.0, LAG]), listed=st.sampled_from([0.0, LAG]))
    def lag(self, known: float, unknown: float, listed: float) -> None:
        """Let changes be known everywhere only after a while."""
        tokens = self._world.fake.tokens
        tokens.known_after, tokens.unknown_after, tokens.listed_after = known, unknown, listed
        if listed:  # those that are not listed are not counted either: others' headroom is for that too
            self._world.ours.witness.may_exceed = HEADROOM

    @rule(flaw=st.sampled_from(["useless", "refused", "invalid"]))
    def create_badly(self, flaw: Any) -> None:  # noqa: ANN401 - a literal
        """Let the next token be one that does not serve."""
        self._world.fake.tokens.flaws.append(flaw)

    @rule(bucket=A_BUCKET, is_on=st.booleans())
    def switch(self, bucket: str, *, is_on: bool) -> None:
        """Switch a catalog off, or on."""
        self._world.fake.buckets[bucket].catalog = "active" if is_on else "inactive"

    # What the bot does, and what happens to it.

    @rule(span=st.sampled_from(SPANS))
    def go_on(self, span: timedelta) -> None:
        """Let time pass, undisturbed."""
        self._run(self._world.pass_time(span))

    @rule(
        span=st.sampled_from(SPANS),
        event=st.sampled_from(sorted(Event)),
        after=st.integers(1, 100),
        freeze_for=st.sampled_from(FREEZES),
        begins=st.sampled_from([None, "lake", "lake"]),
    )
    def go_on_disturbed(
        self, span: timedelta, event: Event, after: int, freeze_for: timedelta, begins: str | None
    ) -> None:
        """Let time pass; after so many points of a process, something happens to it."""
        if begins:
            self.press(begins, "U1")
        self._world.ours.plan(event, after, "", freeze_for)
        self._run(self._world.pass_time(span))

    @rule(
        span=st.sampled_from(SPANS),
        event=st.sampled_from([Event.KILL, Event.FREEZE, Event.FREEZE]),
        where=st.sampled_from(PLACES),
        after=st.sampled_from([1, 1, 2]),
        freeze_for=st.sampled_from(FREEZES),
        begins=st.sampled_from([None, "lake", "lake"]),
    )
    def stop_at(
        self, *, span: timedelta, event: Event, where: str, after: int, freeze_for: timedelta, begins: str | None
    ) -> None:
        """Let time pass; the processes that come to a place are killed, or frozen there."""
        if begins:
            self.press(begins, "U1")
        self._world.ours.plan(event, after, where, freeze_for)
        self._run(self._world.pass_time(span))

    @rule(bucket=A_BUCKET, first=st.sampled_from([timedelta(seconds=20), timedelta(seconds=60)]))
    def overwrite_late(self, bucket: str, first: timedelta) -> None:
        """Let the write of a token land when a newer one is in the slot."""
        self._world.fake.fail_next("credential", lands_after=LATE)
        self.press(bucket, "U1")
        self._run(self._world.pass_time(first))
        self.press(bucket, "U2")
        self._run(self._world.pass_time(timedelta(minutes=4)))

    @rule(flaw=st.sampled_from(["useless", "refused", "invalid"]))
    def follow_badly(self, flaw: Any) -> None:  # noqa: ANN401 - a literal
        """Let a good token be followed by one that does not serve."""
        self.press("lake", "U1")
        self._run(self._world.pass_time(timedelta(minutes=5)))
        self.create_badly(flaw)
        self.press("lake", "U2")
        self._run(self._world.pass_time(timedelta(minutes=5)))

    @rule()
    def back_up(self) -> None:
        """Copy the database."""
        self._run(self._world.ours.back_up())

    @precondition(lambda self: self._world.ours.has_backup)
    @rule()
    def set_back(self) -> None:
        """Put the copy back."""
        self._run(self._world.ours.set_back())

    # Invariants.

    @invariant()
    def look(self) -> None:
        """Look at what was noted meanwhile."""
        for installation in self._world.installations:
            assert not installation.problems, installation.problems
        broken = [entry for entry in self._log if entry["event"] in BROKEN]
        assert not broken, broken

    def teardown(self) -> None:
        """Let everything come to rest, and check the result."""
        try:
            self._run(self._finish())
        finally:
            self._capturing.__exit__(None, None, None)
            self._run(self._close())
            self._runner.close()

    async def _finish(self) -> None:
        world = self._world
        world.fake.forget_failures()
        world.fake.tokens.flaws.clear()
        for bucket in world.fake.buckets.values():
            bucket.catalog = "active"
        for installation in world.installations:
            await installation.wake_all()
        for _ in range(6):
            await world.pass_time(REST)
            self.look()
            if all([await installation.is_at_rest() for installation in world.installations]):
                break
        await world.pass_time(REST)  # housekeeping has the last word
        self.look()
        for installation in world.installations:
            problems = await find_problems(world, installation)
            assert not problems, problems

    async def _close(self) -> None:
        for installation in self._world.installations:
            await installation.end_all()
        with waiting():
            await self._engine.close()
