"""What is left in the memory of the unchanged process, freed blocks included, once submissions have ended."""

import asyncio
import os
import sys

import pytest

from bot.sandbox.process import Transport
from bot.sandbox.workspace import PATIENCE
from tests.benchmarks.memory_copies import middle_of, running_bot, send_all

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="reads /proc; glibc overwrites"
)


@pytest.mark.parametrize("together", [3, pytest.param(20, marks=pytest.mark.thorough)])
async def test_no_copy_of_a_token_is_left_in_memory(transport: Transport, together: int) -> None:
    """Neither in an object nor in freed memory; of the bot's own token there are few, once connections are closed."""
    async with running_bot(transport, {}) as (scene, memory):
        texts = [middle_of(token) for token in await send_all(scene, 2, together)]
        own = scene.environment["SLACK_BOT_TOKEN"]
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while sum((found := memory.count([*texts, own])).values()) > 6:  # noqa: ASYNC110 - memory has no event
                await asyncio.sleep(0.5)
    assert 1 <= found.pop(own) <= 6
    assert found == dict.fromkeys(texts, 0)
