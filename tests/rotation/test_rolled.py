"""A person gives a token of ours a new value in Cloudflare's dashboard, and pastes it."""

from datetime import timedelta

from bot.model.minted import MintedState
from bot.model.submission import State
from tests.rotation.rig import GRACE, Rig

MINUTES = timedelta(minutes=1)


async def test_a_token_of_ours_that_is_pasted_is_not_taken_back(rig: Rig) -> None:
    """It is the one in the slot, which would not work while it is disabled; the schedule leaves it alone."""
    await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    [ours] = await rig.tokens("lake")
    [listed] = rig.fake.tokens.list_live()
    pasted = await rig.paste("lake", listed.value)
    await rig.run_for(GRACE + 30 * MINUTES)
    assert (await rig.find(pasted)).state is State.STORED
    assert [state for _, state in listed.changes] == ["active"]
    [left] = await rig.tokens("lake")
    assert (left.name, left.state) == (ours.name, MintedState.KEPT)
