"""What anyone can cause is logged by count."""

import asyncio
import io
import json
from collections.abc import Callable
from datetime import timedelta

from bot.model.tally import PAUSE, Tally

PassTime = Callable[[timedelta], None]


def _told(log: io.StringIO) -> list[dict[str, int]]:
    return [json.loads(line)["reasons"] for line in log.getvalue().splitlines()]


async def _after_a_pause(pass_time: PassTime) -> None:
    pass_time(PAUSE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_flood_is_a_line_a_second(log: io.StringIO, pass_time: PassTime) -> None:
    """The first is told at once, a thousand others with their counts; a quiet second is not worth a line."""
    tally = Tally("refused")
    tally.count("a")
    assert _told(log) == [{"a": 1}]

    for _ in range(1000):
        tally.count("a")
    tally.count("b")
    assert len(_told(log)) == 1
    await _after_a_pause(pass_time)
    assert _told(log)[1:] == [{"a": 1000, "b": 1}]

    await _after_a_pause(pass_time)
    await _after_a_pause(pass_time)
    assert len(_told(log)) == 2
    tally.count("a")
    assert _told(log)[2:] == [{"a": 1}]
