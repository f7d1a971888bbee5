"""A database that is older than what was done with it, or whose key was lost, still knows the tokens that it made."""

from datetime import timedelta

import pytest

from bot.model.errors import LeaseLost
from bot.model.minted import MintedState
from bot.model.submission import State
from bot.sealing.authenticity import Authenticity
from bot.storage.audit import AuditChain
from bot.storage.high_water_mark import HighWaterMark
from bot.storage.lineage import Lineage
from tests.rotation.rig import GRACE, Rig, key_of

MINUTES = timedelta(minutes=1)
SECONDS = timedelta(seconds=1)


def lineage_of(rig: Rig) -> Lineage:
    """Return what the operator tells that the database was restored, or its key lost."""
    return Lineage(rig.process.submissions, HighWaterMark(None, is_expected=False), rig.clock)


async def test_a_token_that_was_not_sent_before_the_backup_may_be_in_the_slot(rig: Rig) -> None:
    """Nobody takes it back before a newer one is proven; then it is, as any other."""
    rig.fake.tokens.known_after = 60.0
    pressed = await rig.press("lake")
    await rig.run_for(10 * SECONDS)
    [before] = await rig.tokens("lake")
    assert before.state is MintedState.CREATED
    await lineage_of(rig).settle(is_told=True)
    await rig.run_for(30 * MINUTES)
    assert (await rig.find(pressed)).state is State.EXPIRED
    [after] = await rig.tokens("lake")
    assert (after.state, after.was_sent, after.name) == (MintedState.KEPT, True, before.name)
    await rig.press("lake")
    await rig.run_for(GRACE + 30 * MINUTES)
    [left] = await rig.tokens("lake")
    assert left.state is MintedState.PROVEN
    assert [token.name for token in rig.fake.tokens.list_live()] == [left.name]


async def test_no_minter_keeps_its_lease_through_a_restore(rig: Rig) -> None:
    """It may run on, and its epoch may be one that the older database has not reached yet."""
    work = await rig.process.tokens.take(key_of("lake"))
    assert work is not None
    await lineage_of(rig).settle(is_told=True)
    assert not await rig.process.tokens.holds(work.lease)
    with pytest.raises(LeaseLost):
        await rig.process.tokens.work(work.lease)


async def test_the_tokens_are_still_ours_after_the_audit_key_was_lost(rig: Rig) -> None:
    """The mark stays, and what is left is signed with the new key: else nobody would ever take it back."""
    await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    [before], mark = await rig.tokens("lake"), await rig.process.installations.mark()
    other = AuditChain(Authenticity(["another-made-up-key-that-is-long-enough-here"]))
    later = Rig(rig.database, rig.clock, rig.fake, other)
    await lineage_of(later).begin_chain()
    assert await later.process.installations.mark() == mark
    assert [token.name for token in await later.tokens("lake")] == [before.name]
    await later.process.aclose()
