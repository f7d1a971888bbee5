"""A clock that differs from Slack's or Cloudflare's is reported to the operator, who can set it."""

import io
import json
from collections.abc import Iterable
from datetime import timedelta
from email.utils import format_datetime

import pytest

from bot.model.clock_comparison import ANSWERS, ClockComparison
from tests.clock import Clock

FAR = timedelta(days=60)
NEAR = timedelta(seconds=30)
DATES: dict[str, tuple[Iterable[timedelta], int]] = {
    "all agree": ([NEAR] * ANSWERS, 0),
    "all say another time": ([FAR] * ANSWERS, 1),
    "all say an earlier time": ([-FAR] * ANSWERS, 1),
    "one comes from a cache": ([NEAR, -FAR, NEAR, -FAR, NEAR], 0),
    "too few": ([FAR] * (ANSWERS - 1), 0),
    "a thousand": ([FAR] * 1000, 1),
}


@pytest.mark.parametrize(("offsets", "expected"), DATES.values(), ids=DATES)
def test_a_lasting_difference_is_reported(
    clock: Clock, log: io.StringIO, offsets: Iterable[timedelta], expected: int
) -> None:
    """As an error with what to do, once: not for a single answer, and not for each."""
    comparison = ClockComparison(clock)
    for offset in offsets:
        comparison.note("Slack", format_datetime(clock() + offset, usegmt=True))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["event"], line["level"], line["whose"]) for line in lines] == [
        ("clock_differs", "error", "Slack")
    ] * expected
    assert all(abs(abs(line["seconds"]) - FAR.total_seconds()) <= 1 and line["fix"] for line in lines)


def test_it_is_reported_again_after_an_hour(clock: Clock, log: io.StringIO) -> None:
    """While it lasts; also if the clock was set back meanwhile."""
    comparison = ClockComparison(clock)
    for step in (timedelta(0), timedelta(hours=1), timedelta(days=-5)):
        clock.advance(step)
        for _ in range(ANSWERS):
            comparison.note("Cloudflare", format_datetime(clock() + FAR, usegmt=True))
    assert log.getvalue().count("clock_differs") == 3


@pytest.mark.parametrize("date", [None, "", "now", "Thu, 99 Jan 2026 00:00:00 GMT", "\udcff", "1" * 5000])
def test_a_malformed_date_is_ignored(clock: Clock, log: io.StringIO, date: str | None) -> None:
    """A proxy between the bot and Slack can send anything."""
    for _ in range(ANSWERS):
        ClockComparison(clock).note("Slack", date)
    assert log.getvalue() == ""
