"""A rotation from the press to the end of the token before it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest_asyncio

from bot.model.catalog import CredentialStatus
from bot.model.minted import MintedState
from bot.model.submission import State
from bot.storage.database import Database
from tests.clock import Clock
from tests.rotation.rig import Rig

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest_asyncio.fixture
async def rig(tables: Database) -> AsyncIterator[Rig]:
    """Return an account with a catalog `lake`, and the bot."""
    rig = Rig(tables, Clock(START))
    rig.fake.add_bucket("lake")
    yield rig
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
