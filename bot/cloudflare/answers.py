"""Parses the results in Cloudflare's answers into our types; raises AnswerNotUnderstood. Pure."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TypeVar

from bot.cloudflare.diagnosis import Answer, not_understood
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, is_bucket_name

_TOKEN_ID = re.compile(r"[0-9A-Fa-f]{32}")  # also the S3 access key id
_CATALOG_WRITE = "d229766a2f7f4d299f20eaa8c9b1fde9"
"""The permission group "Workers R2 Data Catalog Write"; its name may follow the product's one day."""
_CATALOG_WRITE_NAME = re.compile(r"catalog write", re.IGNORECASE)
_TESTED = (CredentialStatus.VALID, CredentialStatus.INVALID, CredentialStatus.ABSENT)
_Status = TypeVar("_Status", bound=StrEnum)


class TokenStatus(StrEnum):
    """Cloudflare's word for a token's state."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    REVOKED = "revoked"
    """Cloudflare adds the reason: "revoked (exposed)" is a token that was found in public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenVerification:
    """What Cloudflare says about a token (API page "Verify Token"); `answered_at` is its own time, from `Date`."""

    id: str
    status: TokenStatus
    expires_at: datetime | None
    not_before: datetime | None
    answered_at: datetime | None
    cf_ray: str | None


def parse_list(answer: Answer, result: object, account_id: str) -> list[Catalog]:
    """Read all catalogs of the account; entries without a bucket name are left out. Raises AnswerNotUnderstood."""
    warehouses = result.get("warehouses") if isinstance(result, dict) else result
    if warehouses is None:
        return []
    if not isinstance(warehouses, list):
        raise not_understood(answer, is_write=False)
    return [catalog for entry in warehouses if (catalog := _parse_catalog(entry, account_id)) is not None]


def parse_catalog(answer: Answer, result: object, asked: BucketKey) -> Catalog:
    """Read one catalog. Raises AnswerNotUnderstood, also if the answer is about another bucket."""
    catalog = _parse_catalog(result, asked.account_id, asked_bucket=asked.bucket)
    if catalog is None or catalog.key != asked:
        raise not_understood(answer, is_write=False)
    return replace(catalog, cf_ray=answer.cf_ray)


def parse_test(answer: Answer, result: object) -> CredentialStatus:
    """Read the result of a test of the stored credential. Raises AnswerNotUnderstood."""
    status = result.get("status") if isinstance(result, dict) else None
    tested = next((each for each in _TESTED if each == status), None)
    if tested is None:
        raise not_understood(answer, is_write=False)
    return tested


def parse_write_right(answer: Answer, result: object, account_id: str) -> bool:
    """Read from a token's details whether it may write the account's catalogs. Raises AnswerNotUnderstood."""
    policies = result.get("policies") if isinstance(result, dict) else None
    if not isinstance(policies, list) or not all(isinstance(policy, dict) for policy in policies):
        raise not_understood(answer, is_write=False)
    effects = {policy.get("effect") for policy in policies if _covers(policy, account_id)}
    return "allow" in effects and "deny" not in effects


def _covers(policy: dict[str, object], account_id: str) -> bool:
    """Return whether a policy is about the right to write catalogs, and about the account or all accounts."""
    groups, resources = policy.get("permission_groups"), policy.get("resources")
    names = resources if isinstance(resources, dict) else {}
    accounts = {f"com.cloudflare.api.account.{each}" for each in (account_id, "*")}
    is_about_writing = any(_writes_catalogs(group) for group in groups) if isinstance(groups, list) else False
    return is_about_writing and not accounts.isdisjoint(names)


def _writes_catalogs(group: object) -> bool:
    if not isinstance(group, dict):
        return False
    return group.get("id") == _CATALOG_WRITE or _CATALOG_WRITE_NAME.search(str(group.get("name"))) is not None


def _parse_catalog(entry: object, account_id: str, *, asked_bucket: str | None = None) -> Catalog | None:
    if not isinstance(entry, dict):
        return None
    bucket = entry.get("bucket", asked_bucket)
    if not isinstance(bucket, str) or not is_bucket_name(bucket):
        return None
    return Catalog(
        key=BucketKey(account_id=account_id, bucket=bucket),
        status=_match(entry.get("status"), CatalogStatus.UNKNOWN),
        credential_status=_match(entry.get("credential_status"), CredentialStatus.UNKNOWN),
    )


def _match(value: object, unknown: _Status) -> _Status:
    """Return the member with this value, or `unknown` for a value that this version does not know."""
    return next((member for member in type(unknown) if member == value), unknown)


def parse_verification(answer: Answer, result: object) -> TokenVerification:
    """Read a verification. Raises AnswerNotUnderstood if any part of it is unclear."""
    found = result if isinstance(result, dict) else {}
    status = parse_status(found.get("status"))
    token_id = found.get("id")
    try:
        expires_at, not_before = (parse_time(found.get(name)) for name in ("expires_on", "not_before"))
    except ValueError:
        status = None
    if status is None or not isinstance(token_id, str) or not is_token_id(token_id):
        raise not_understood(answer, is_write=False)
    return TokenVerification(
        id=token_id,
        status=status,
        expires_at=expires_at,
        not_before=not_before,
        answered_at=_parse_date(answer),
        cf_ray=answer.cf_ray,
    )


def is_token_id(text: str) -> bool:
    """Return whether a token can have this id."""
    return _TOKEN_ID.fullmatch(text) is not None


def parse_status(value: object) -> TokenStatus | None:
    """Read a token's state; None for one that this version does not know."""
    word = value.partition(" ")[0] if isinstance(value, str) else None
    return next((status for status in TokenStatus if status == word), None)


def parse_time(value: object) -> datetime | None:
    """Read an RFC 3339 time, or None if it is missing or empty; raises ValueError for anything else."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - the same error as for an invalid time
    return _in_utc(datetime.fromisoformat(value))


def _parse_date(answer: Answer) -> datetime | None:
    """Read the answer's Date header (RFC 9110, 6.6.1)."""
    try:
        return _in_utc(parsedate_to_datetime(answer.headers.get("date", "")))
    except (ValueError, TypeError, OverflowError):
        return None


def _in_utc(time: datetime) -> datetime:
    """Convert to UTC; a naive time counts as UTC, since Python cannot compare the two. Raises ValueError."""
    try:
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError:  # in the years 1 and 9999
        raise ValueError from None
