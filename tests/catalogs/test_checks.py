"""The list of catalogs: how many are served, that none is, and that the list is old."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bot.catalogs.checks import OLD_FROM, catalogs_check, find_in_catalogs, tell_served_once
from bot.catalogs.refresh import REFRESH_EVERY
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot
from bot.model.finding import Finding, Mark
from tests.clock import Clock

MINUTE = timedelta(minutes=1)


def _catalog(
    bucket: str,
    status: CatalogStatus = CatalogStatus.ACTIVE,
    credential_status: CredentialStatus = CredentialStatus.ABSENT,
) -> Catalog:
    key = BucketKey(account_id="0f" * 16, bucket=bucket)
    return Catalog(key=key, status=status, credential_status=credential_status)


ACCOUNT = (
    _catalog("team-a", credential_status=CredentialStatus.VALID),
    _catalog("team-b", credential_status=CredentialStatus.PRESENT),
    _catalog("team-c"),
    _catalog("team-d", CatalogStatus.INACTIVE, CredentialStatus.PRESENT),
    _catalog("lake"),
)
LISTS: dict[str, tuple[Sequence[Catalog], str, str, Mark, str]] = {
    "some are served": (ACCOUNT, "team-", "catalogs_served", Mark.OK, ""),
    "one of one": (ACCOUNT[-1:], "lake", "catalogs_served", Mark.OK, ""),
    "none is served": (
        ACCOUNT,
        "taem-",
        "allowlist_matches_no_bucket",
        Mark.WARNING,
        "R2_CREDENTIAL_ALLOWED_BUCKETS",
    ),
    "there is none": ((), "team-", "no_catalogs", Mark.WARNING, "CLOUDFLARE_ACCOUNT_ID"),
}


@pytest.mark.parametrize(("catalogs", "start", "event", "mark", "setting"), LISTS.values(), ids=LISTS)
def test_what_is_served(*, catalogs: Sequence[Catalog], start: str, event: str, mark: Mark, setting: str) -> None:
    """A list that matches none of the account's catalogs is a mistake, or meant for another account."""
    [found] = find_in_catalogs(catalogs, lambda key: key.bucket.startswith(start))
    assert (found.event, found.mark, found.setting, found.blocks) == (event, mark, setting, False)
    assert bool(found.fix) is (mark is Mark.WARNING)


def test_served_catalogs_are_counted() -> None:
    """Those that are active, and those of them with a credential."""
    [found] = find_in_catalogs(ACCOUNT, lambda key: key.bucket.startswith("team-"))
    assert found.text == "4 of 5 catalogs served; 3 of them active, 2 with a credential"
    assert found.known == {"listed": 5, "served": 4, "active": 3, "with_credential": 2}


def test_the_start_logs_what_is_served_once() -> None:
    """The list is read every five minutes."""
    with capture_logs() as logged:
        tell = tell_served_once(lambda key: key.bucket == "lake")
        tell(ACCOUNT)
        tell(ACCOUNT)
    assert [(line["event"], line["log_level"], line["buckets"], line["of"]) for line in logged] == [
        ("allowlist_serves", "info", 1, 5)
    ]


AGES: dict[str, tuple[timedelta, list[str]]] = {
    "fresh": (timedelta(0), ["catalogs_served"]),
    "one refresh failed": (2 * REFRESH_EVERY, ["catalogs_served"]),
    "two failed": (OLD_FROM + MINUTE, ["catalogs_served", "catalogs_list_old"]),
    "from before the clock was set back": (-OLD_FROM, ["catalogs_served"]),
}


@pytest.mark.parametrize(("age", "events"), AGES.values(), ids=AGES)
async def test_an_old_list_is_doubtful(clock: Clock, age: timedelta, events: list[str]) -> None:
    """People see it in the form, and choose a catalog that is gone."""
    snapshot = Snapshot(catalogs=ACCOUNT, refreshed_at=clock() - age)
    assert [each.event for each in await _examine(snapshot, clock)] == events


async def test_a_list_that_never_came_is_doubtful_only_after_a_while(clock: Clock) -> None:
    """At the start, the first refresh is still under way."""
    timer = Clock()
    check = catalogs_check(_reader(None), lambda _: True, clock, lambda: timer().timestamp())
    [early] = await check.examine()
    timer.advance(OLD_FROM)
    [late] = await check.examine()
    assert [(early.event, early.mark), (late.event, late.mark)] == [
        ("catalogs_not_listed_yet", Mark.OK),
        ("catalogs_not_listed", Mark.WARNING),
    ]


async def _examine(snapshot: Snapshot | None, clock: Clock) -> Sequence[Finding]:
    return await catalogs_check(_reader(snapshot), lambda _: True, clock).examine()


def _reader(snapshot: Snapshot | None) -> Callable[[], Awaitable[Snapshot | None]]:
    async def read() -> Snapshot | None:
        return snapshot

    return read
