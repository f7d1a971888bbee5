"""What the minter finds to do, and leaves alone."""

from datetime import timedelta

from bot.model.minted import SETTLE_AFTER, MintedState
from bot.model.submission import State
from tests.rotation.rig import Rig, key_of

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
