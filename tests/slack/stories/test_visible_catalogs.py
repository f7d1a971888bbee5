"""The order in which people see the catalogs: kept as if it were made anew at each change and at each moment."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus
from bot.model.known_catalogs import KnownCatalogs, ProvenToken
from bot.model.timetable import RotationFailure
from bot.slack.stories.need import Need, find_need, find_next_change
from bot.slack.stories.visible_catalogs import VisibleCatalogs
from tests.make import NOW, TOKEN, make_catalog, make_key, make_stored_credential
from tests.rotation.scene import make_scheduled

DAY = timedelta(days=1)
BUCKETS = ("bog", "lake", "moor", "pond", "secret")

_days = st.integers(-40, 60).map(lambda number: number * DAY)
_change = st.tuples(
    st.sampled_from(BUCKETS),
    st.none() | st.tuples(st.sampled_from(CatalogStatus), st.sampled_from(CredentialStatus), _days),
    st.none() | _days,
    st.booleans(),
    st.none() | _days,
)


def _sees(key: BucketKey) -> bool:
    return key.bucket != "secret"


def _rows(seen: VisibleCatalogs) -> object:
    return seen.rows(0, 99), seen.names, +seen.counts, len(seen)


@given(st.lists(_change | _days, max_size=40))
def test_the_order_is_kept(steps: list[Any]) -> None:
    """Whatever changes, and however the clock jumps; the schedule's buckets have their place by when it is overdue."""
    known, now, scheduled = KnownCatalogs(), NOW, make_scheduled()
    seen = VisibleCatalogs(known, _sees, now, scheduled)
    known.watch(lambda bucket: seen.put(bucket or ""))
    for step in steps:
        if isinstance(step, timedelta):
            now += step
        else:
            bucket, listed, expires, is_ours, failed = step
            catalogs = [] if listed is None else [_catalog(bucket, *listed)]
            credentials = [] if expires is None else [make_stored_credential(bucket, expires_at=NOW + expires)]
            known.replace(
                [bucket], catalogs, credentials, _proven(bucket) if is_ours else [], _failures(bucket, failed)
            )
        seen.advance(now)
        assert _rows(seen) == _rows(VisibleCatalogs(known, _sees, now, scheduled))
        assert "secret" not in seen.names


def _proven(bucket: str) -> list[ProvenToken]:
    return [ProvenToken(bucket=bucket, token_id=TOKEN.id)]


def _failures(bucket: str, at: timedelta | None) -> list[RotationFailure]:
    failed_at = NOW + (at or timedelta(0))
    failure = RotationFailure(bucket=bucket, since=failed_at, failed_at=failed_at, failures=1, code=None)
    return [] if at is None else [failure]


def _catalog(bucket: str, status: CatalogStatus, credential: CredentialStatus, tested: timedelta) -> Catalog:
    return make_catalog(bucket, status=status, credential_status=credential, tested_at=NOW + tested)


def test_what_is_not_seen_is_not_found() -> None:
    """Neither by its name, nor one of another account."""
    known = KnownCatalogs()
    known.replace_all([make_catalog("lake"), make_catalog("secret")], [])
    seen = VisibleCatalogs(known, _sees, NOW)
    assert seen.row(make_key("secret")) is None
    assert seen.row(BucketKey(account_id="0" * 32, bucket="lake")) is None
    assert seen.row(make_key("lake")) is not None
    assert seen.counts == {Need.NOTHING: 1}


@given(_days, st.integers(0, 10**6), st.none() | st.integers(1, 40).map(lambda number: number * DAY))
def test_a_need_changes_only_at_its_next_change(
    expires: timedelta, microseconds: int, before: timedelta | None
) -> None:
    """Until the next one, it stays the same; after the last one, too; `before` the expiry, a rotation is overdue."""
    catalog, expires_at = make_catalog(credential_status=CredentialStatus.PRESENT), NOW + expires
    overdue_at = None if before is None else expires_at - before
    next_change = find_next_change(expires_at, NOW, overdue_at)
    later = NOW + timedelta(days=100) if next_change is None else next_change - timedelta(microseconds=1 + microseconds)
    before_that = find_need(catalog, expires_at, NOW, overdue_at)
    assert find_need(catalog, expires_at, max(NOW, later), overdue_at) is before_that
    if next_change is not None:
        assert find_need(catalog, expires_at, next_change, overdue_at) is not before_that


@pytest.mark.parametrize("expires_at", [None, NOW, NOW.min.replace(tzinfo=NOW.tzinfo)], ids=str)
def test_what_has_expired_does_not_change(expires_at: object) -> None:
    """Nor has what never expires; the earliest time that there is needs no earlier one."""
    find: Callable[..., object] = find_next_change
    assert find(expires_at, NOW) is None
