"""A clock that differs from Slack's or Cloudflare's is found, and the operator can set it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from email.utils import format_datetime

import pytest

from bot.model.clock_comparison import ANSWERS, FIRST_ANSWERS_WITHIN, ClockComparison
from bot.model.finding import Mark
from tests.clock import Clock

FAR = timedelta(days=60)
NEAR = timedelta(seconds=30)
ROUGHLY = timedelta(seconds=200)
BOTH = ("Slack", "Cloudflare")
DATES: dict[str, tuple[Iterable[timedelta], Mark]] = {
    "all agree": ([NEAR] * ANSWERS, Mark.OK),
    "all say another time": ([FAR] * ANSWERS, Mark.FAILED),
    "all say an earlier time": ([-FAR] * ANSWERS, Mark.FAILED),
    "some minutes": ([ROUGHLY] * ANSWERS, Mark.WARNING),
    "one comes from a cache": ([NEAR, -FAR, NEAR, -FAR, NEAR], Mark.OK),
    "the latest comes from a cache": ([NEAR, -FAR], Mark.OK),
    "too few": ([FAR] * (ANSWERS - 1), Mark.OK),
    "it was set meanwhile": ([FAR] * ANSWERS + [NEAR], Mark.OK),
}


def _say(comparison: ClockComparison, clock: Clock, ahead: Mapping[str, timedelta], times: int = ANSWERS) -> None:
    """Let services answer with their own time, which is that far ahead of ours."""
    for whose, offset in ahead.items():
        for _ in range(times):
            comparison.note(whose, format_datetime(clock() + offset, usegmt=True))


@pytest.mark.parametrize(("offsets", "mark"), DATES.values(), ids=DATES)
def test_a_lasting_difference_is_found(clock: Clock, offsets: Iterable[timedelta], mark: Mark) -> None:
    """With what to do: not for a single answer, and over as soon as it agrees."""
    comparison = ClockComparison(clock)
    for offset in offsets:
        _say(comparison, clock, {"Slack": offset}, times=1)
    found = comparison.find(refuses=True)
    assert found.mark is mark
    assert found.event == ("clock_right" if mark is Mark.OK else "clock_differs")
    assert bool(found.fix) is (mark is not Mark.OK)
    assert found.blocks is (mark is Mark.FAILED)


def test_the_difference_is_given_in_seconds_for_each_service(clock: Clock) -> None:
    """So that one can be told from the other."""
    comparison = ClockComparison(clock)
    clock.now = clock.now.replace(microsecond=0)
    _say(comparison, clock, {"Slack": timedelta(seconds=600), "Cloudflare": timedelta(seconds=-601)})
    found = comparison.find(refuses=True)
    assert found.text == "this machine's clock is 601 s ahead of Cloudflare's and is 600 s behind Slack's"
    assert found.known == {"slack_seconds": -600, "cloudflare_seconds": 601}


def test_one_service_alone_is_not_believed(clock: Clock) -> None:
    """If the other one agrees with the machine, it may be wrong itself: a warning."""
    comparison = ClockComparison(clock)
    _say(comparison, clock, {"Slack": FAR, "Cloudflare": NEAR})
    found = comparison.find(refuses=True)
    assert (found.mark, found.blocks) == (Mark.WARNING, False)


def test_only_over_http_a_wrong_clock_blocks(clock: Clock) -> None:
    """There it makes the bot take Slack's requests for replayed ones."""
    comparison = ClockComparison(clock)
    _say(comparison, clock, {"Slack": FAR})
    assert [comparison.find(refuses=each).blocks for each in (True, False)] == [True, False]


@pytest.mark.parametrize("date", [None, "", "now", "Thu, 99 Jan 2026 00:00:00 GMT", "\udcff", "1" * 5000])
def test_a_malformed_date_is_ignored(clock: Clock, date: str | None) -> None:
    """A proxy between the bot and Slack can send anything."""
    comparison = ClockComparison(clock, answers=1)
    comparison.note("Slack", date)
    found = comparison.find(refuses=True)
    assert (found.event, found.mark, found.blocks) == ("clock_not_compared", Mark.WARNING, False)


async def test_a_check_waits_for_the_answers_to_the_others(clock: Clock) -> None:
    """All run at once, and this one asks nobody; a command that asks once believes the first answer."""
    comparison = ClockComparison(clock, answers=1)
    examining = asyncio.create_task(_examine(comparison))
    for whose in BOTH:
        await asyncio.sleep(0)
        assert not examining.done()
        _say(comparison, clock, {whose: FAR}, times=1)
    assert await examining == ["clock_differs"]


async def test_a_check_does_not_wait_for_a_service_that_is_away(
    clock: Clock, pass_time: Callable[[timedelta], None]
) -> None:
    """The other one says enough."""
    comparison = ClockComparison(clock)
    _say(comparison, clock, {"Slack": NEAR})
    examining = asyncio.create_task(_examine(comparison))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pass_time(FIRST_ANSWERS_WITHIN)
    assert await examining == ["clock_right"]


async def _examine(comparison: ClockComparison) -> list[str]:
    return [each.event for each in await comparison.check(BOTH, refuses=False).examine()]
