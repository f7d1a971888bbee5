"""Fixtures of scenes: one shared by a module, or a factory."""

from collections.abc import AsyncIterator
from typing import get_args

import pytest
import pytest_asyncio

from bot.sandbox.process import Transport
from tests.scene import Scene, SetScene, open_scene


@pytest.fixture(scope="session")
def set_scene() -> SetScene:
    """Return a factory of scenes, for a test that needs its own."""
    return open_scene


ONE_WAY = pytest.mark.parametrize(
    "transport", ["socket", pytest.param("http", marks=pytest.mark.thorough)], indirect=True, scope="module"
)
"""For behaviour behind the transports: tested over one of them, and over the other only in the thorough run."""


@pytest.fixture(scope="module", params=get_args(Transport))
def transport(request: pytest.FixtureRequest) -> Transport:
    """Parametrize over both transports."""
    chosen: Transport = request.param
    return chosen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(transport: Transport, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Share one running bot among the tests of a module; each test uses a different bucket."""
    async with open_scene(transport, tmp_path_factory.mktemp("scene")) as scene:
        await scene.start_ready_bot()
        yield scene
