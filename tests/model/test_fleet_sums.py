"""The sums before many rotations: as docs/rotation.md explains them."""

from datetime import timedelta

import pytest

from bot.model.fleet_sums import Sums

HOUR = timedelta(hours=1)


def _sums(buckets: int, tokens: int | None, *, first: int = 0, quota: int = 500) -> Sums:
    return Sums(buckets=buckets, first=first, tokens=tokens, quota=quota, grace=HOUR)


def test_requests_and_minutes() -> None:
    """Of 500 rotations, whose tokens fit at once."""
    sums = _sums(500, 500, quota=1100)
    assert (sums.requests, sums.takes, sums.fits_at_once, sums.batches) == (5000, timedelta(minutes=12), True, 1)


@pytest.mark.parametrize(
    ("sums", "room", "is_possible", "batches", "missing"),
    [
        (_sums(40, 100), 390, True, 1, 0),
        (_sums(390, 100), 390, True, 1, 0),
        (_sums(391, 100, quota=500), 390, True, 2, 0),
        (_sums(450, 450), 40, True, 12, 0),
        (_sums(480, 490), 0, False, 1, 1),
        (_sums(30, 470, first=10), 20, True, 2, 0),
        (_sums(30, 470, first=20), 20, False, 1, 1),
        (_sums(30, 470, first=30), 20, False, 1, 10),
        (_sums(3, 600), 0, False, 1, 1),
    ],
)
def test_the_quota_decides(sums: Sums, room: int, batches: int, missing: int, *, is_possible: bool) -> None:
    """Each bucket that had no token of ours takes one for good; the others two, until the earlier one is gone."""
    assert (sums.room, sums.is_possible, sums.batches, sums.missing) == (room, is_possible, batches, missing)


def test_parts_wait_for_each_other() -> None:
    """About the grace and four minutes."""
    sums = _sums(450, 450)
    assert sums.takes == timedelta(minutes=11) + 11 * (HOUR + timedelta(minutes=4))


def test_without_a_count_nothing_is_possible() -> None:
    """A quota that nobody knows may be used up."""
    assert not _sums(1, None).is_possible
