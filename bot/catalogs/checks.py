"""Examines the list of the account's catalogs: how many are served, and how old it is."""

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.catalogs.refresh import REFRESH_EVERY
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot
from bot.model.finding import Check, Finding, Mark, Part

OLD_FROM: Final = 2 * REFRESH_EVERY + timedelta(minutes=1)
"""When at least two refreshes in a row have failed."""

_WITH_CREDENTIAL: Final = frozenset({CredentialStatus.VALID, CredentialStatus.INVALID, CredentialStatus.PRESENT})
_BUCKETS: Final = "R2_CREDENTIAL_ALLOWED_BUCKETS"

_log = structlog.get_logger()

Serves = Callable[[BucketKey], bool]
"""Whether the allowlist has this bucket."""


def catalogs_check(
    read: Callable[[], Awaitable[Snapshot | None]],
    serves: Serves,
    clock: Callable[[], datetime],
    timer: Callable[[], float] = time.monotonic,
    *,
    patience: timedelta = OLD_FROM,
) -> Check:
    """Return the check of the list that `read` returns, or None if there is none, which is a warning after a while."""
    began = timer()

    async def examine() -> Sequence[Finding]:
        snapshot = await read()
        if snapshot is None:
            return [_describe_missing(is_late=timer() - began >= patience.total_seconds())]
        return [*find_in_catalogs(snapshot.catalogs, serves), *_find_age(snapshot.refreshed_at, clock())]

    return Check(part=Part.CATALOGS, examine=examine)


def find_in_catalogs(catalogs: Collection[Catalog], serves: Serves) -> Iterator[Finding]:
    """Yield how many catalogs are served, or that none is."""
    served = [each for each in catalogs if serves(each.key)]
    active = [each for each in served if each.status is CatalogStatus.ACTIVE]
    filled = [each for each in active if each.credential_status in _WITH_CREDENTIAL]
    known = {"listed": len(catalogs), "served": len(served), "active": len(active), "with_credential": len(filled)}
    if not catalogs:
        yield _doubt(
            "no_catalogs",
            "the account has no catalog",
            "CLOUDFLARE_ACCOUNT_ID",
            "enable R2 Data Catalog (Basin Catalog) on a bucket, or set the id of the account that has catalogs",
        )
    elif not served:
        yield _doubt(
            "allowlist_matches_no_bucket",
            f"{_BUCKETS} matches none of the account's {_count(len(catalogs))}",
            _BUCKETS,
            "check its names, and that CLOUDFLARE_ACCOUNT_ID is the right account",
        )
    else:
        text = (
            f"{len(served)} of {_count(len(catalogs))} served; {len(active)} of them active, {len(filled)} with a "
            "credential"
        )
        yield Finding(part=Part.CATALOGS, event="catalogs_served", text=text, known=known)


def tell_served_once(serves: Serves) -> Callable[[Sequence[Catalog]], None]:
    """Return a callback that logs how many catalogs are served, the first time that it gets a list of them."""
    is_told = False

    def tell(listed: Sequence[Catalog]) -> None:
        nonlocal is_told
        if not is_told:
            _log.info("allowlist_serves", buckets=sum(serves(each.key) for each in listed), of=len(listed))
        is_told = True

    return tell


def _find_age(refreshed_at: datetime, now: datetime) -> Iterator[Finding]:
    """Yield a warning for an old list; a time in the future was recorded before the clock was set back."""
    age = now - refreshed_at
    if age > OLD_FROM:
        yield _doubt(
            "catalogs_list_old",
            f"the list of catalogs is {age // timedelta(minutes=1)} minutes old, since every refresh failed",
            "",
            "find the cause at the parts cloudflare, database and jobs",
        )


def _describe_missing(*, is_late: bool) -> Finding:
    if not is_late:
        text = "the account's catalogs are about to be listed"
        return Finding(part=Part.CATALOGS, event="catalogs_not_listed_yet", text=text)
    text = "there is no list of the account's catalogs"
    return _doubt("catalogs_not_listed", text, "", "find the cause at the parts cloudflare, database and jobs")


def _count(catalogs: int) -> str:
    return f"{catalogs} {'catalog' if catalogs == 1 else 'catalogs'}"


def _doubt(event: str, text: str, setting: str, fix: str) -> Finding:
    return Finding(part=Part.CATALOGS, event=event, mark=Mark.WARNING, text=text, setting=setting, fix=fix)
