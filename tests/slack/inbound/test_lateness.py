"""Which requests Slack has given up on, even if the clocks differ."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.slack.inbound.lateness import Lateness

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class Clocks:
    """The machine's monotonic clock, its wall clock, and Slack's."""

    def __init__(self, *, wall_is_ahead: float = 0, started: float = 500) -> None:
        self.passed = 0.0
        self._wall_is_ahead = wall_is_ahead
        self._started = started

    def steady(self) -> float:
        """Return the monotonic time, from an arbitrary start."""
        return self._started + self.passed

    def wall(self) -> float:
        """Return the time as the machine's clock is set."""
        return NOW.timestamp() + self.passed + self._wall_is_ahead

    def signed(self, seconds_ago: float) -> datetime:
        """Return the time that Slack signs: whole seconds."""
        return (NOW + timedelta(seconds=self.passed - seconds_ago)).replace(microsecond=0)


def make_lateness(clocks: Clocks) -> Lateness:
    """Return a judge of lateness that uses these clocks."""
    return Lateness(clocks.steady, clocks.wall)


@pytest.mark.parametrize(
    ("seconds_ago", "is_given_up"),
    [
        pytest.param(0, False, id="at once"),
        pytest.param(2.9, False, id="Slack still waits"),
        pytest.param(4, False, id="it may still wait"),
        pytest.param(5.1, True, id="it no longer waits"),
        pytest.param(24, True, id="a gateway that was frozen"),
        pytest.param(299, True, id="as old as a signature may be"),
    ],
)
@pytest.mark.parametrize("wall_is_ahead", [0, 60, -60, 5_000_000])
def test_slack_waits_for_three_seconds(wall_is_ahead: float, seconds_ago: float, *, is_given_up: bool) -> None:
    """The age is relative to a request that came at once, so that a wrong clock does not matter."""
    clocks = Clocks(wall_is_ahead=wall_is_ahead)
    lateness = make_lateness(clocks)
    lateness.is_given_up(clocks.signed(0.1))
    clocks.passed += 7

    assert lateness.is_given_up(clocks.signed(seconds_ago)) is is_given_up


@pytest.mark.parametrize(
    ("seconds_ago", "wall_is_ahead", "is_given_up"),
    [
        pytest.param(20, 0, True, id="a late one"),
        pytest.param(0, 0, False, id="one in time"),
        pytest.param(0, 9, True, id="in time, by a clock that is wrong"),
    ],
)
def test_the_first_request_is_judged_by_the_machines_clock(
    seconds_ago: float, wall_is_ahead: float, *, is_given_up: bool
) -> None:
    """There is nothing to compare it with; if that clock is wrong, the next try gets through."""
    clocks = Clocks(wall_is_ahead=wall_is_ahead)
    lateness = make_lateness(clocks)

    assert lateness.is_given_up(clocks.signed(seconds_ago)) is is_given_up
    assert not lateness.is_given_up(clocks.signed(seconds_ago))


@pytest.mark.parametrize("quiet", [60, 299, 301, 599])
def test_the_fastest_recent_request_counts(quiet: float) -> None:
    """For at least five minutes: a freeze is no longer, since a signature is valid that long."""
    clocks = Clocks(wall_is_ahead=3600)
    lateness = make_lateness(clocks)
    lateness.is_given_up(clocks.signed(0))
    clocks.passed += quiet

    assert lateness.is_given_up(clocks.signed(24))


def test_a_fast_request_of_an_hour_ago_does_not_count() -> None:
    """Two clocks drift apart: in the end no one could submit."""
    clocks = Clocks()
    lateness = make_lateness(clocks)
    for _ in range(24 * 12):
        clocks.passed += 300
        clocks._started += 0.2  # a monotonic clock that gains 58 s a day
        clocks._wall_is_ahead += 0.2
        assert not lateness.is_given_up(clocks.signed(0.5))


def test_a_slow_first_request_does_not_count_for_long() -> None:
    """The fastest one counts, in any order."""
    clocks = Clocks()
    lateness = make_lateness(clocks)
    lateness.is_given_up(clocks.signed(3))
    assert not lateness.is_given_up(clocks.signed(0))
    assert lateness.is_given_up(clocks.signed(6))
