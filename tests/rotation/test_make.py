"""How a token is made: what each failure leaves behind, and what the person is told meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from aiohttp import web
from sqlalchemy import Connection, select

from bot.cloudflare.budget import Urgency
from bot.cloudflare.exchange import Turn
from bot.model.errors import CommitUnknown, DatabaseTrouble, DatabaseUnavailable, LeaseLost
from bot.model.minted import MintedState, MintedToken
from bot.model.submission import State
from bot.sandbox.cloudflare import ReceivedRequest
from bot.storage.damage import SetAside
from bot.storage.database import Database
from bot.storage.minted_rows import read_tokens
from bot.storage.schema import MINTED_TOKENS
from bot.storage.trouble import Trouble
from tests.rotation.rig import Process, Rig, Ways, key_of

MINUTES = timedelta(minutes=1)
SECONDS = timedelta(seconds=1)
LAKE = key_of("lake")
T = TypeVar("T")


async def made_for(rig: Rig, submission_id: str) -> list[MintedToken]:
    """Return the rows of a submission, also of tokens of which nothing is left."""
    its = select(MINTED_TOKENS).where(MINTED_TOKENS.c.submission_id == submission_id)
    return await rig.database.run(lambda connection: read_tokens(connection, rig.chain, its, SetAside()))


class Failing:
    """A database that fails as planned, in the order of the calls; None is a success."""

    def __init__(self, database: Database, pass_time: Callable[[timedelta], None]) -> None:
        self._database = database
        self._pass_time = pass_time
        self.plan: list[tuple[type[DatabaseTrouble], bool] | None] = []

    @property
    def trouble(self) -> Trouble:
        """Return the other database's."""
        return self._database.trouble

    async def run(
        self, work: Callable[[Connection], T], afterwards: Callable[[T, Any], Awaitable[None]] | None = None
    ) -> T:
        """Run it, or fail: before it or, with True, after it."""
        failure = self.plan.pop(0) if self.plan else None
        if failure is not None:  # once the caller sleeps
            asyncio.get_running_loop().call_soon(self._pass_time, 2 * SECONDS)
        if failure is not None and not failure[1]:
            raise failure[0]
        result = await self._database.run(work, afterwards)
        if failure is not None:
            raise failure[0]
        return result


class Interrupted:
    """Cloudflare; the database fails as planned once it has made a token."""

    def __init__(self, rig: Rig, database: Failing, plan: list[tuple[type[DatabaseTrouble], bool] | None]) -> None:
        self._fake = rig.fake
        self._database = database
        self._plan = plan

    def now(self) -> datetime:
        """Return the time there."""
        return self._fake.now()

    async def respond(self, received: ReceivedRequest) -> web.Response:
        """Answer."""
        answer = await self._fake.respond(received)
        if received.method == "POST":
            self._database.plan = self._plan
        return answer


async def until_minting(rig: Rig) -> str:
    """Press, and let the worker ask for a token."""
    pressed = await rig.press("lake")
    await rig.process.deliver(LAKE)
    assert (await rig.find(pressed)).state is State.MINTING
    return pressed


@pytest.mark.parametrize("failure", ["refused", "quota"])
async def test_a_refusal_ends_the_rotation_and_leaves_nothing(rig: Rig, failure: str) -> None:
    """Cloudflare says surely that nothing was made: nobody has to look for it."""
    if failure == "refused":
        rig.fake.minting_state = "lacks the right"
        error = "minting_right_missing"
    else:
        rig.fake.tokens.others, error = 490, "token_quota_reached"
    pressed = await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    found = await rig.find(pressed)
    assert (found.state, found.error_code) == (State.FAILED, error)
    assert await rig.tokens("lake") == []
    assert [posted.id for posted in rig.posts.posted] == [pressed]


async def test_a_refusal_of_the_create_itself_leaves_a_row_that_is_over(rig: Rig) -> None:
    """The name was recorded before it was asked for, and is never used again."""
    rig.fake.fail_next("create_token", status=400, code=1001)
    pressed = await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    assert (await rig.find(pressed)).error_code == "permission_not_grantable"
    assert await rig.tokens("lake") == []
    [row] = await made_for(rig, pressed)
    assert (row.state, row.trouble) == (MintedState.GONE, "permission_not_grantable")


async def test_while_cloudflare_is_down_the_person_is_told_why_it_takes_longer(rig: Rig) -> None:
    """Each try has a name of its own; the waiting grows."""
    rig.fake.fail_next("create_token", times=3, status=429, retry_after=5)
    pressed = await until_minting(rig)
    await rig.process.mint(LAKE)
    waiting = await rig.find(pressed)
    assert (waiting.state, waiting.error_code) == (State.MINTING, "throttled")
    await rig.run_for(2 * MINUTES)
    assert (await rig.find(pressed)).state is State.STORED
    names = [row.name for row in await made_for(rig, pressed)]
    assert len(set(names)) == len(names) == 4


async def test_two_lost_answers_hold_up_a_third_create(rig: Rig) -> None:
    """Each may have made a token; at the deadline, the person hears of it."""
    rig.fake.fail_next("create_token", times=99, drop_after_store=True)
    pressed = await rig.press("lake")
    await rig.run_for(14 * MINUTES)
    assert [token.state for token in await rig.tokens("lake")] == [MintedState.LOST, MintedState.LOST]
    assert len(rig.fake.tokens.list_live()) == 2
    await rig.run_for(80 * MINUTES)
    found = await rig.find(pressed)
    assert (found.state, found.error_code) == (State.FAILED, "create_unanswered")
    assert rig.fake.tokens.list_live() == []


async def test_a_submission_that_ends_while_its_create_is_out_leaves_a_token_to_take_back(rig: Rig) -> None:
    """It gets the value of a token that nobody will ever store: nobody keeps it."""
    pressed = await until_minting(rig)
    tokens = rig.process.tokens
    work = await tokens.take(LAKE)
    assert work is not None
    assert work.waiting is not None
    making = rig.process.minter._making
    token = making._intend(work, work.waiting)
    await tokens.intend(work.lease, token, work.waiting)
    rig.clock.advance(timedelta(hours=2))
    await rig.process.deliver(LAKE)
    assert (await rig.find(pressed)).state is State.EXPIRED
    turn = await rig.process.minting.turn(Urgency.WRITE)
    assert isinstance(turn, Turn)
    await making._create(work, work.waiting, token, turn)
    [left] = await rig.tokens("lake")
    assert (left.state, left.was_sent) == (MintedState.RETIRED, False)
    await tokens.let_go(work.lease)
    await rig.run_for(10 * MINUTES)
    assert rig.fake.tokens.list_live() == []


async def test_a_turn_that_comes_later_is_waited_for(rig: Rig) -> None:
    """Nothing is recorded or sent before."""
    await until_minting(rig)
    pace = rig.process.minting._exchange.pace
    assert pace is not None
    await pace.block(30 * SECONDS)
    resume_at = await rig.process.mint(LAKE)
    assert resume_at is not None
    assert await rig.tokens("lake") == []
    await rig.run_for(2 * MINUTES)
    assert len(await rig.tokens("lake")) == 1


async def test_a_name_that_was_not_recorded_is_not_sent(rig: Rig) -> None:
    """Somebody else took the bucket, or nobody waits any more."""
    pressed = await until_minting(rig)
    work = await rig.process.tokens.take(LAKE)
    assert work is not None
    assert work.waiting is not None
    await rig.process.tokens.take(LAKE)
    with pytest.raises(LeaseLost):
        await rig.process.minter._making.make(work, work.waiting)
    again = await rig.process.tokens.take(LAKE)
    assert again is not None
    rig.clock.advance(timedelta(hours=2))
    await rig.process.deliver(LAKE)
    assert (await rig.find(pressed)).is_ended
    with pytest.raises(LeaseLost):
        await rig.process.minter._making.make(again, work.waiting)
    assert await made_for(rig, pressed) == []
    assert rig.fake.tokens.tokens == {}


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("failure", [(DatabaseUnavailable, False), (CommitUnknown, False)], ids=["down", "unknown"])
async def test_what_cloudflare_has_shown_once_is_recorded_insistently(
    rig: Rig, pass_time: Callable[[timedelta], None], failure: tuple[type[DatabaseTrouble], bool], times: int
) -> None:
    """The database fails when the answer is there: the value would be lost."""
    failing = Failing(rig.database, pass_time)
    server = Interrupted(rig, failing, [failure] * times)
    process = Process(rig, Ways(database=failing, server=server, poster=rig.posts))
    await until_minting(rig)
    await process.mint(LAKE)
    [token] = await rig.tokens("lake")
    assert token.state is MintedState.CREATED
    assert len(rig.fake.tokens.tokens) == 1
    await process.aclose()


async def test_what_was_recorded_unknowingly_is_not_recorded_twice(
    rig: Rig, pass_time: Callable[[timedelta], None]
) -> None:
    """The commit succeeded, and its answer was lost: the submission has its token, and keeps it."""
    failing = Failing(rig.database, pass_time)
    server = Interrupted(rig, failing, [(CommitUnknown, True)])
    process = Process(rig, Ways(database=failing, server=server, poster=rig.posts))
    pressed = await until_minting(rig)
    with pytest.raises(LeaseLost):  # nobody waits any more
        await process.mint(LAKE)
    [token] = await rig.tokens("lake")
    assert token.state is MintedState.CREATED
    await rig.run_for(3 * MINUTES)
    assert (await rig.find(pressed)).state is State.STORED
    assert len(rig.fake.tokens.tokens) == 1
    await process.aclose()


async def test_a_value_that_cannot_be_recorded_is_lost_and_the_token_found(
    rig: Rig, pass_time: Callable[[timedelta], None]
) -> None:
    """Another name is tried; the first token is taken back once it is settled."""
    failing = Failing(rig.database, pass_time)
    server = Interrupted(rig, failing, [(DatabaseUnavailable, False)] * 5)
    process = Process(rig, Ways(database=failing, server=server, poster=rig.posts))
    pressed = await until_minting(rig)
    with pytest.raises(DatabaseTrouble):
        await process.mint(LAKE)
    await rig.run_for(30 * MINUTES)
    assert (await rig.find(pressed)).state is State.STORED
    [left] = await rig.tokens("lake")
    assert left.state is MintedState.PROVEN
    assert [token.name for token in rig.fake.tokens.list_live()] == [left.name]
    await process.aclose()


async def test_a_bucket_that_is_not_served_gets_no_token(rig: Rig) -> None:
    """The client refuses it before anything is sent; the rotation says so."""
    rig.process.minting._serves = lambda _: False
    pressed = await rig.press("lake")
    await rig.run_for(2 * MINUTES)
    assert (await rig.find(pressed)).error_code == "token_not_ours"
    assert rig.fake.tokens.tokens == {}
    [row] = await made_for(rig, pressed)
    assert row.state is MintedState.GONE
