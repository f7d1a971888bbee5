"""How a fleet uses what Cloudflare allows, in virtual time: a small version of `tests.benchmarks.fleet`."""

from pathlib import Path

from bot.model.fleet_sums import REQUESTS_BY_BOT, REQUESTS_BY_MINTER
from bot.sandbox.limits import RateLimit
from tests.benchmarks.fleet import measure
from tests.virtual_time import run_in_virtual_time

BUCKETS = 20
A_FIFTEENTH = RateLimit(requests=80, window_seconds=20)
"""The same rate as Cloudflare's, in shorter windows."""


def test_a_fleet_keeps_to_the_limit_and_to_the_sums(tmp_path: Path) -> None:
    """Everything runs by itself: engine, minter and deliveries, each with its own pace."""
    figures = run_in_virtual_time(measure(BUCKETS, tmp_path / "bot.sqlite", limit=A_FIFTEENTH))
    assert figures.done == figures.live == BUCKETS
    assert figures.refused == 0
    assert figures.by_bot <= REQUESTS_BY_BOT
    assert figures.by_minter <= REQUESTS_BY_MINTER + 0.1  # housekeeping counts the tokens
