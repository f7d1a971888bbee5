"""A rotation from the press to the end of the token before it."""

from datetime import datetime, timedelta

from bot.model.catalog import CredentialStatus
from bot.model.minted import MintedState
from bot.model.submission import State
from bot.storage.database import Database
from tests.clock import Clock
from tests.make import NOW
from tests.rotation.rig import Rig


class Ticking(Clock):
    """Time passes between two looks at it, as it does in a process."""

    def __call__(self) -> datetime:
        """Return the time, a little later than before."""
        self.advance(timedelta(microseconds=1))
        return super().__call__()


async def test_a_token_is_made_while_time_passes(tables: Database) -> None:
    """What is due at the first look is not taken for something of later by the second one."""
    rig = Rig(tables, Ticking(NOW))
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
