"""What the tests of rotation share: the tables on both engines, as the tests of the storage have them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.storage.database import Database
from tests.clock import Clock
from tests.make import NOW
from tests.rotation.rig import Rig
from tests.rotation.scene import Rotations
from tests.storage.conftest import engine, query, tables, tables_url

__all__ = ["engine", "query", "rotations", "tables", "tables_url"]


@pytest.fixture
def rotations(tables: Database, clock: Clock) -> Rotations:
    """Return a database in which nothing was rotated yet, at NOW."""
    clock.now = NOW
    return Rotations(tables, clock)


@pytest_asyncio.fixture
async def rig(tables: Database, clock: Clock) -> AsyncIterator[Rig]:
    """Return an account with a catalog `lake`, and the bot, at NOW."""
    clock.now = NOW
    rig = Rig(tables, clock)
    rig.fake.add_bucket("lake")
    yield rig
    await rig.process.aclose()
