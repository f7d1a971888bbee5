"""Interprets the answers of the account's token endpoints, which have a table of codes of their own. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from bot.cloudflare.answers import TokenStatus, TokenVerification, is_token_id, parse_status, parse_time
from bot.cloudflare.diagnosis import (
    Answer,
    Fault,
    choose_fault,
    classify,
    is_success,
    is_unclear,
    make_error,
    not_understood,
    result_of,
)
from bot.cloudflare.errors import (
    BlockedOnTheWay,
    CallerLacksPermission,
    CallerNotAllowed,
    CallerRejected,
    ChallengePage,
    CloudflareError,
    CloudflareTrouble,
    EdgeRefused,
    Throttled,
)
from bot.cloudflare.minting_errors import (
    MintingError,
    MintingRefused,
    MintingRightMissing,
    MintingTokenDisabled,
    MintingTokenExpired,
    MintingTokenLimitedToAddresses,
    MintingTokenRejected,
    PermissionNotGrantable,
    TokenQuotaReached,
)
from bot.model.secret import Secret
from bot.model.token_name import TokenName

PERMISSION_GROUP_CODE: Final = 1001
NO_SUCH_TOKEN_CODE: Final = 1003
NO_SUCH_OBJECT_CODE: Final = 7003
_UNAUTHORIZED_CODE: Final = 9109
_QUOTA: Final = re.compile(r"quota|maximum (?:number|amount)|limit (?:reached|exceeded)|too many tokens", re.IGNORECASE)
"""No document names the code of the refusal, so its text decides."""
_NAME: Final = re.compile(r"name must have a length", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A token that was just created. Its value is shown only this once."""

    id: str
    value: Secret
    expires_at: datetime | None
    cf_ray: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedToken:
    """A token of the account with a name that an installation of the bot gave."""

    id: str
    name: TokenName
    status: TokenStatus
    expires_at: datetime | None


def read_minting_result(answer: Answer, *, is_write: bool) -> object:
    """Return the envelope's `result`, or raise the error that the answer stands for; see `diagnosis.read_result`.

    `possibly_landed` is False only for a refusal that is the API's own, or that surely came before the API: a filter
    on the way that blocks the answer, because it sees a secret in it, looks like one that blocked the request.
    """
    if is_success(answer):
        return result_of(answer)
    fault = choose_fault(answer.document)
    kind = _classify(answer, fault)
    raise make_error(kind, answer, fault, possibly_landed=is_write and _may_have_landed(answer, kind))


def means_gone(error: CloudflareError) -> bool:
    """Return whether the answer about one token says that there is no such token: what a deletion wants."""
    is_no_object = error.cloudflare_code == NO_SUCH_OBJECT_CODE and error.status == HTTPStatus.NOT_FOUND
    return isinstance(error, MintingRefused) and (error.cloudflare_code == NO_SUCH_TOKEN_CODE or is_no_object)


def require_active(verified: TokenVerification, now: datetime) -> TokenVerification:
    """Return it, or raise what is wrong with the minting token; `now` counts if the answer has no time of its own."""
    now = verified.answered_at or now
    if verified.status in (TokenStatus.DISABLED, TokenStatus.REVOKED):
        raise MintingTokenDisabled(cf_ray=verified.cf_ray)
    if verified.status is TokenStatus.EXPIRED or (verified.expires_at is not None and verified.expires_at <= now):
        raise MintingTokenExpired(cf_ray=verified.cf_ray)
    if verified.not_before is not None and now < verified.not_before:
        raise MintingTokenRejected(cf_ray=verified.cf_ray)
    return verified


def parse_minted(answer: Answer, result: object, name: TokenName) -> Minted:
    """Read the answer to a create. Raises AnswerNotUnderstood, `possibly_landed`: then there may well be a token."""
    found = result if isinstance(result, dict) else {}
    value = found.get("value")
    listed = _parse_token(found)
    if listed is None or listed.name != name or not isinstance(value, Secret):
        raise not_understood(answer, is_write=True)
    return Minted(id=listed.id, value=value, expires_at=listed.expires_at, cf_ray=answer.cf_ray)


def parse_token(answer: Answer, result: object, token_id: str, *, is_write: bool) -> ListedToken | None:
    """Read the answer about one token; None if its name is not the bot's. Raises AnswerNotUnderstood."""
    found = result if isinstance(result, dict) else {}
    if found.get("id") != token_id or not isinstance(found.get("name"), str):
        raise not_understood(answer, is_write=is_write)
    if TokenName.parse(found["name"]) is None:
        return None
    token = _parse_token(found)
    if token is None:
        raise not_understood(answer, is_write=is_write)
    return token


def parse_page(answer: Answer, result: object) -> tuple[list[ListedToken], int]:
    """Read one page of the account's tokens: those with names of the bot's, and how many it has.

    Raises AnswerNotUnderstood, also if a token with such a name cannot be read: nobody could take it back.
    """
    if not isinstance(result, list) or not all(isinstance(entry, dict) for entry in result):
        raise not_understood(answer, is_write=False)
    tokens = [_parse_token(entry) for entry in result if TokenName.parse(str(entry.get("name")))]
    if not all(tokens):
        raise not_understood(answer, is_write=False)
    return [token for token in tokens if token is not None], len(result)


def parse_total(answer: Answer) -> int:
    """Read how many tokens a list has in all. Raises AnswerNotUnderstood."""
    total = find_total(answer, default=-1)
    if total < 0:
        raise not_understood(answer, is_write=False)
    return total


def find_total(answer: Answer, default: int = 0) -> int:
    """Return how many tokens a list has in all, or `default` where the answer does not say."""
    info = answer.document.get("result_info") if isinstance(answer.document, dict) else None
    total = info.get("total_count") if isinstance(info, dict) else None
    return default if isinstance(total, bool) or not isinstance(total, int) else total


def _parse_token(found: dict[str, object]) -> ListedToken | None:
    token_id, name, status = found.get("id"), TokenName.parse(str(found.get("name"))), parse_status(found.get("status"))
    if not isinstance(token_id, str) or not is_token_id(token_id) or name is None or status is None:
        return None
    try:
        expires_at = parse_time(found.get("expires_on"))
    except ValueError:
        return None
    return ListedToken(id=token_id, name=name, status=status, expires_at=expires_at)


def _classify(answer: Answer, fault: Fault) -> type[CloudflareError]:
    """Translate what the answer means for any call into what it means here."""
    kind = classify(answer, fault)
    if issubclass(kind, CloudflareTrouble | ChallengePage | BlockedOnTheWay):
        return kind
    if kind in (CallerLacksPermission, CallerNotAllowed):
        return MintingRightMissing
    if kind is CallerRejected:
        return _classify_rejected(answer, fault)
    return _classify_refused(fault)


def _classify_rejected(answer: Answer, fault: Fault) -> type[MintingError]:
    if make_error(CallerRejected, answer, fault, possibly_landed=False).is_about_addresses:
        return MintingTokenLimitedToAddresses
    return MintingRightMissing if fault.code == _UNAUTHORIZED_CODE else MintingTokenRejected


def _classify_refused(fault: Fault) -> type[MintingError]:
    """Code 1001 has other meanings too, so a text that says more comes first."""
    if _QUOTA.search(fault.message):
        return TokenQuotaReached
    is_about_groups = fault.code == PERMISSION_GROUP_CODE and not _NAME.search(fault.message)
    return PermissionNotGrantable if is_about_groups else MintingRefused


def _may_have_landed(answer: Answer, kind: type[CloudflareError]) -> bool:
    if issubclass(kind, Throttled | ChallengePage):
        return False
    if issubclass(kind, EdgeRefused):
        return is_unclear(kind, answer.status)
    says_no = isinstance(answer.document, dict) and answer.document.get("success") is False
    return not says_no or issubclass(kind, CloudflareTrouble) or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
