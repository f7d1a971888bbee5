"""The pulse: a standstill of the process is noticed before any payload is processed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from bot.slack.inbound.pulse import Pulse


@pytest.mark.parametrize(
    ("seconds", "stood_still"),
    [(0.25, False), (3.0, False), (3.1, True), (24.0, True), (3600.0, True)],
)
def test_more_than_three_seconds_without_a_beat_are_a_standstill(seconds: float, *, stood_still: bool) -> None:
    """Slack gives up after the same time. A standstill is reported once."""
    now, reported = [100.0], list[str]()
    pulse = Pulse(lambda: reported.append("still"), lambda: now[0])
    now[0] += seconds

    pulse.feel()
    pulse.feel()

    assert reported == ["still"] * stood_still


async def test_it_beats_on_its_own(pass_time: Callable[[timedelta], None]) -> None:
    """So a quiet hour is no standstill, and a standstill is noticed without a frame."""
    now, noticed = [100.0], asyncio.Event()
    pulse = Pulse(noticed.set, lambda: now[0])
    beating = asyncio.create_task(pulse.beat())
    for _ in range(9):
        now[0] += 1
        pass_time(timedelta(milliseconds=250))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not noticed.is_set()

    now[0] += 4
    pass_time(timedelta(milliseconds=250))
    async with asyncio.timeout(60):
        await noticed.wait()
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating
