"""Events that anyone can cause are logged by count."""

import asyncio
import io
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from bot.model.tally import LONGEST_PAUSE, PAUSE, Tally

PassTime = Callable[[timedelta], None]


def _logged(log: io.StringIO) -> list[dict[str, int]]:
    return [json.loads(line)["reasons"] for line in log.getvalue().splitlines()]


async def _after_a_pause(pass_time: PassTime, pause: timedelta = PAUSE) -> None:
    pass_time(pause)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_flood_is_counted(log: io.StringIO, pass_time: PassTime) -> None:
    """The first of each reason is logged at once, a thousand others with their count; silence is not logged."""
    tally = Tally("refused")
    tally.count("a")
    assert _logged(log) == [{"a": 1}]

    for _ in range(1000):
        tally.count("a")
    assert len(_logged(log)) == 1
    tally.count("b")
    assert _logged(log)[1:] == [{"a": 1000, "b": 1}]
    tally.count("b")
    await _after_a_pause(pass_time)
    assert _logged(log)[2:] == [{"b": 1}]

    for _ in range(60):
        await _after_a_pause(pass_time, 2 * PAUSE)
    assert len(_logged(log)) == 3
    tally.count("a")
    assert _logged(log)[3:] == [{"a": 1}]


@pytest.mark.parametrize("each_second", [1, 50])
async def test_a_lasting_flood_is_one_line_a_minute(log: io.StringIO, pass_time: PassTime, each_second: int) -> None:
    """Hours of it, fast or slow, do not fill a disk, and each event is counted."""
    tally = Tally("refused")
    hours = 2
    for _ in range(hours * 3600):
        for _ in range(each_second):
            tally.count("a")
        await _after_a_pause(pass_time)
    await _after_a_pause(pass_time, LONGEST_PAUSE)

    assert len(_logged(log)) < hours * 60 + 10
    assert sum(reasons["a"] for reasons in _logged(log)) == hours * 3600 * each_second
