"""What the minter finds to do, and leaves alone."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.model.catalog import BucketKey
from bot.model.errors import DatabaseUnavailable, LeaseLost
from bot.model.minted import SETTLE_AFTER, MintedState, MintingWork
from bot.model.submission import State
from bot.rotation.minter import POLL, Minter
from bot.sandbox.workspace import PATIENCE
from bot.storage.minted_tokens import MintedTokens
from tests.clock import Clock
from tests.rotation.rig import Rig, key_of
from tests.rotation.test_make import Failing

LAKE = key_of("lake")
MINUTES = timedelta(minutes=1)


async def test_a_create_whose_answer_was_lost_is_settled_when_it_is_due(rig: Rig) -> None:
    """A person who presses again must not wait for the hourly look: two unknown ones hold up a third."""
    rig.fake.fail_next("create_token", times=2, drop_after_store=True)
    pressed = await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    assert [token.state for token in await rig.tokens("lake")] == [MintedState.LOST, MintedState.LOST]
    await rig.run_for(SETTLE_AFTER)
    assert (await rig.find(pressed)).state is State.STORED
    await rig.run_for(5 * MINUTES)
    assert [token.state for token in await rig.tokens("lake")] == [MintedState.PROVEN]
    assert len(rig.fake.tokens.list_live()) == 1


async def test_a_create_that_never_arrived_is_settled_too(rig: Rig) -> None:
    """Cloudflare has no token of that name: there is nothing to take back."""
    rig.fake.fail_next("create_token", drop_before_store=True)
    await rig.press("lake")
    await rig.run_for(20 * MINUTES)
    [left] = await rig.tokens("lake")
    assert left.state is MintedState.PROVEN


async def test_a_bucket_whose_tokens_wait_for_others_is_not_due(rig: Rig) -> None:
    """Else its lease would be taken each second, for as long as a token is checked or a create is not settled."""
    rig.fake.tokens.known_after = 60.0
    rig.fake.fail_next("create_token", drop_before_store=True)
    await rig.press("lake")
    await rig.run_for(10 * timedelta(seconds=1))
    states = {token.state for token in await rig.tokens("lake")}
    assert states == {MintedState.LOST, MintedState.CREATED}
    assert await rig.process.tokens.due(rig.clock()) == []
    await rig.run_for(SETTLE_AFTER)
    assert await rig.process.tokens.due(rig.clock()) == []
    assert await rig.process.tokens.busy_until(key_of("lake")) is None


class WokenAtWork:
    """Stands for the tables, and for housekeeping: a bucket is always due, and woken while it is worked off first."""

    def __init__(self) -> None:
        self.taken_again = asyncio.Event()
        self.minter: Minter | None = None

    async def due(self, _: datetime) -> list[BucketKey]:
        """Return the bucket."""
        return [key_of("lake")]

    async def next_due(self) -> None:
        """Return that nothing is due by its time."""

    async def look_if_due(self) -> None:
        """Do nothing."""

    async def take(self, key: BucketKey) -> None:
        """Wake the bucket; the second time, note that it was taken again."""
        if self.minter is None:
            self.taken_again.set()
            return
        minter, self.minter = self.minter, None
        minter.wake(key)


async def test_a_bucket_that_is_woken_at_work_is_taken_again_at_once() -> None:
    """Else a rotation that the bot asks for when it takes a token back waits for a minute."""
    woken: Any = WokenAtWork()
    nothing: Any = None
    woken.minter = Minter(
        tokens=woken, making=nothing, taking_back=nothing, house=woken, is_on=lambda: True, clock=Clock(), polls=False
    )
    running = asyncio.create_task(woken.minter.run())
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await woken.taken_again.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class Making:
    """Stands for what makes tokens: raises what it was given, once for each bucket that it is asked about."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]

    def due_at(self, work: MintingWork, now: datetime) -> datetime | None:
        """Raise the next error, or have nothing to do."""
        if self.errors:
            raise self.errors.pop(0)
        return None


def minter_of(
    rig: Rig, *, making: Making | None = None, tokens: MintedTokens | None = None, is_on: bool = True
) -> Minter:
    """Return a minter with parts of the rig's."""
    process = rig.process
    return Minter(
        tokens=tokens or process.tokens,
        making=making or process.minter._making,  # type: ignore[arg-type]  # what a minter calls of it
        taking_back=process.minter._taking_back,
        house=process.house,
        is_on=lambda: is_on,
        clock=rig.clock,
        polls=True,
    )


async def ask_for_a_token(rig: Rig) -> str:
    """Press, and let the worker come to the step that waits for a token."""
    pressed = await rig.press("lake")
    await rig.process.deliver(LAKE)
    return pressed


async def test_while_rotation_is_off_nothing_is_asked(rig: Rig) -> None:
    """Not even who is there: the setting alone must not send a request to the account's tokens."""
    pressed = await ask_for_a_token(rig)
    running = asyncio.create_task(minter_of(rig, is_on=False).run())
    await rig.database.run(lambda _: 0)
    running.cancel()
    await asyncio.wait([running])
    assert rig.fake.requests == []
    assert (await rig.find(pressed)).state is State.MINTING


async def test_it_finds_its_work_and_stops_when_it_is_told(rig: Rig) -> None:
    """A token is made, and its submission goes on; a running step is finished before the end."""
    pressed, minted = await ask_for_a_token(rig), asyncio.Event()
    rig.process.submissions.watch(lambda _: minted.set())
    minter = minter_of(rig)
    running = asyncio.create_task(minter.run())
    minter.wake(LAKE)
    await minted.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert (await rig.find(pressed)).state is State.MINTED
    assert [token.state for token in await rig.tokens("lake")] == [MintedState.CREATED]


@pytest.mark.parametrize(
    ("error", "event", "pause"),
    [
        (LeaseLost(), "minting_lease_lost", timedelta(seconds=1)),
        (DatabaseUnavailable(), "minting_stopped", timedelta(seconds=1)),
        (ValueError("secret"), "minting_broke", timedelta(seconds=60)),
    ],
    ids=["lost", "database", "bug"],
)
async def test_a_bucket_that_fails_stops_no_other(rig: Rig, error: Exception, event: str, pause: timedelta) -> None:
    """It is left alone for a while, and the log says why, without what the error says."""
    await ask_for_a_token(rig)
    minter = minter_of(rig, making=Making(error))
    with capture_logs() as log:
        await minter._work_guarded(LAKE)
        assert minter._resume_at == {LAKE: rig.clock() + pause}
        await minter._work_guarded(LAKE)
    assert [entry["event"] for entry in log] == [event]
    assert "secret" not in str(log)
    assert minter._resume_at[LAKE] <= rig.clock() + POLL


async def test_without_its_database_it_looks_again_in_a_second(
    rig: Rig, pass_time: Callable[[timedelta], None]
) -> None:
    """What is due is not known then."""
    failing = Failing(rig.database, pass_time)
    tokens = MintedTokens(failing, rig.process.submissions, LAKE.account_id, rig.clock)
    failing.plan = [(DatabaseUnavailable, False)]
    minter = minter_of(rig, tokens=tokens)
    with capture_logs() as log:
        assert await minter._look() == rig.clock() + timedelta(seconds=1)
        await minter._tasks.drain()
    assert "minting_stopped" in [entry["event"] for entry in log]


async def test_a_bucket_of_another_process_is_tried_again(rig: Rig) -> None:
    """It holds the lease until it lets go."""
    await ask_for_a_token(rig)
    other = MintedTokens(rig.database, rig.process.submissions, LAKE.account_id, rig.clock)
    assert await other.take(LAKE) is not None
    assert await rig.process.mint(LAKE) == rig.clock() + POLL
    assert await rig.tokens("lake") == []


async def test_a_name_that_a_killed_process_left_is_lost(rig: Rig) -> None:
    """The request may have been out: the value, if any, is lost, and another name is tried at once."""
    pressed = await ask_for_a_token(rig)
    work = await rig.process.tokens.take(LAKE)
    assert work is not None
    assert work.waiting is not None
    killed = rig.process.minter._making._intend(work, work.waiting)
    await rig.process.tokens.intend(work.lease, killed, work.waiting)
    with capture_logs() as log:
        await rig.process.mint(LAKE)
    assert {token.state for token in await rig.tokens("lake")} == {MintedState.LOST, MintedState.CREATED}
    assert "token_lost" in [entry["event"] for entry in log]
    assert (await rig.find(pressed)).state is State.MINTED
