"""Scenes as fixtures: one for each module, or what makes one."""

from collections.abc import AsyncIterator
from typing import get_args

import pytest
import pytest_asyncio

from bot.sandbox.process import Transport
from tests.scene import Scene, SetScene, open_scene


@pytest.fixture(scope="session")
def set_scene() -> SetScene:
    """Return what makes a scene, for a test that needs one of its own."""
    return open_scene


ONE_WAY = pytest.mark.parametrize(
    "transport", ["socket", pytest.param("http", marks=pytest.mark.thorough)], indirect=True, scope="module"
)
"""For what lies behind both ways: it is looked at over one of them, and over the other one when there is time."""


@pytest.fixture(scope="module", params=get_args(Transport))
def transport(request: pytest.FixtureRequest) -> Transport:
    """Take both ways in turn."""
    chosen: Transport = request.param
    return chosen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(transport: Transport, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Share one running bot among the tests of a module; each of them takes a bucket of its own."""
    async with open_scene(transport, tmp_path_factory.mktemp("scene")) as scene:
        await scene.start_ready_bot()
        yield scene
