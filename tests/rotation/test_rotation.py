"""A rotation from the press to the end of the token before it."""

from datetime import timedelta

from bot.cloudflare.pace import LocalPace
from bot.model.catalog import CredentialStatus
from bot.model.minted import MintedState
from bot.model.submission import State
from bot.sandbox.cloudflare import SANDBOX_MINTING_TOKEN
from bot.storage.database import Database
from tests.clock import Clock, PassingClock
from tests.make import NOW
from tests.rotation.rig import Process, Rig, Ways, key_of


async def test_a_token_is_made_while_time_passes(tables: Database) -> None:
    """What is due at the first look is not taken for something of later by the second one."""
    rig = Rig(tables, PassingClock(NOW))
    rig.fake.add_bucket("lake")
    pressed = await rig.press("lake")

    await rig.run_for(timedelta(minutes=5))

    assert (await rig.find(pressed)).state is State.STORED
    await rig.process.aclose()


async def test_two_presses_leave_one_live_token(rig: Rig) -> None:
    """The first one is revoked after the grace, once the slot has worked without it."""
    first = await rig.press("lake")
    await rig.run_for(timedelta(minutes=5))
    assert (await rig.find(first)).state is State.STORED
    assert (await rig.find(first)).confirmation is CredentialStatus.VALID
    assert [token.state for token in await rig.tokens("lake")] == [MintedState.PROVEN]
    second = await rig.press("lake")
    await rig.run_for(timedelta(hours=2))
    assert (await rig.find(second)).state is State.STORED
    [left] = await rig.tokens("lake")
    assert left.state is MintedState.PROVEN
    assert [token.name for token in rig.fake.tokens.list_live()] == [left.name]
    assert [posted.id for posted in rig.posts.posted] == [first, second]


async def test_a_token_is_made_at_the_first_look(tables: Database) -> None:
    """The time passes between two looks at a clock: who waits is due by the first of them."""
    rig = Rig(tables, PassingClock(NOW))
    rig.fake.add_bucket("lake")
    submission_id = await rig.press("lake")
    await rig.process.deliver(key_of("lake"))
    await rig.process.mint(key_of("lake"))
    assert (await rig.find(submission_id)).state is State.MINTED
    await rig.process.aclose()


async def test_no_turn_is_taken_for_nothing(rig: Rig) -> None:
    """What is counted against Cloudflare's limit and not sent is lost to everyone else."""
    paces = list[LocalPace]()

    def make(clock: Clock) -> LocalPace:
        paces.append(LocalPace(clock))
        return paces[-1]

    rig.process = Process(rig, Ways(database=rig.database, server=rig.fake, poster=rig.posts, pace=make))
    rig.fake.tokens.known_after = 3
    await rig.press("lake")
    await rig.run_for(timedelta(minutes=2))
    minting = f"Bearer {SANDBOX_MINTING_TOKEN}"
    by_minter = sum(request.headers.get("authorization") == minting for request in rig.fake.requests)
    sent = {"bot": len(rig.fake.requests) - by_minter, "minter": by_minter}
    most = 1200 * 97 // 100
    assert {name: most - (await pace.left())[0] for name, pace in zip(sent, paces, strict=True)} == sent
