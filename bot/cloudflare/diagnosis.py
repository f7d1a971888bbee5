"""Interprets an answer of Cloudflare: returns its result, or raises one of our errors. Pure and stateless.

Only `success` and `errors` decide, never `messages`, where even a success of Cloudflare carries code 10000.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import chain
from typing import Self

from bot.cloudflare.echo import REMOVED, Echo
from bot.cloudflare.errors import (
    DOCUMENTATION_URL,
    AnswerNotUnderstood,
    BlockedOnTheWay,
    CallerLacksPermission,
    CallerNotAllowed,
    CallerRejected,
    ChallengePage,
    CloudflareError,
    CloudflareTrouble,
    CloudflareUnavailable,
    EdgeRefused,
    RequestRejected,
    RouteGone,
    Throttled,
)
from bot.model.errors import leaves
from bot.model.foreign_text import one_line
from bot.model.secret import Secret

ERROR_OF_CODE: Mapping[int, type[CloudflareError]] = {
    code: leaf for leaf in leaves(CloudflareError) for code in leaf.cloudflare_codes
}
ERROR_OF_CLIENT_CODE: Mapping[int, type[CloudflareError]] = {
    code: leaf for leaf in leaves(CloudflareError) for code in leaf.client_codes
}
ERROR_OF_STATUS: Mapping[int, type[CloudflareError]] = {
    status: leaf for leaf in leaves(CloudflareError) for status in leaf.statuses
}
LONGEST_WAIT = timedelta(days=1)
LONGEST_MESSAGE = 200

_AMBIGUOUS_CODE = 10001
_AUTHENTICATION_CODE = 10000
_FORBIDDEN = "forbidden"
"""The whole text of code 10000, since 2026-08-20, if known credentials lack a permission."""
_TRANSIENT_TEXT = re.compile(r"internal|try again|tempora|unavailable", re.IGNORECASE)
_PERMANENT_TEXT = re.compile(r"not allowed|token|permission", re.IGNORECASE)
_EDGE_CODES = range(1001, 2000)
_EDGE_STATUSES = (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_EDGE_PAGE = re.compile(rb"error code:\s*(1\d{3})\b", re.IGNORECASE)
_EDGE_PAGE_BYTES = 65_536
_CHALLENGE_PAGE = re.compile(rb"<title>\s*Just a moment", re.IGNORECASE)
_HEADERS = frozenset({"cf-mitigated", "cf-ray", "date", "ratelimit", "ratelimit-policy", "retry-after"})
_RAY = re.compile(r"[0-9a-f]{16,20}(-[A-Z]{3,4})?")  # 64 bits, and the airport of the data center
# Every token, key or id that Cloudflare issues is at least 32 of these characters long.
_TOKEN_SHAPED = re.compile(r"[A-Za-z0-9_-]{32,}|cf[a-z]{1,4}_[A-Za-z0-9_-]+")
_LONGEST_URL = 150
_LARGEST_CODE = 999_999_999
_MOST_SECONDS = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer, parsed once, with echoes of the request removed. `headers`: the relevant ones, in lower case.

    `document` is None for a body that is not JSON. `is_read` is False for a body that was compressed or too large.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    document: object = field(repr=False)
    is_read: bool
    is_empty: bool
    is_page: bool
    is_edge_page: bool
    is_challenge_page: bool

    @classmethod
    def parse(
        cls,
        *,
        status: int,
        headers: Iterable[tuple[str, str]],
        body: bytes | None,
        echo: Echo,
        secret_names: Collection[str] = (),
    ) -> Self:
        """Parse an answer; header names are in lower case, `body` is None if it was not read.

        In the document, the strings with one of the `secret_names` are `Secret`s from the beginning.
        """
        document, beginning = _parse_json(body or b"", echo, secret_names), (body or b"")[:_EDGE_PAGE_BYTES]
        return cls(
            status=status,
            headers=_keep_headers(headers, echo),
            document=document,
            is_read=body is not None,
            is_empty=body is not None and not body.strip(),
            is_page=document is None and bool(beginning.strip()),
            is_edge_page=_EDGE_PAGE.search(beginning) is not None,
            is_challenge_page=_CHALLENGE_PAGE.search(beginning) is not None,
        )

    @property
    def cf_ray(self) -> str | None:
        """The Ray ID of this request, which Cloudflare's support asks for."""
        ray = self.headers.get("cf-ray", "")
        return ray if _RAY.fullmatch(ray) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One entry of the envelope's `errors`."""

    code: int | None
    message: str
    documentation_url: str = ""


def read_result(answer: Answer, *, is_write: bool) -> object:
    """Return the envelope's `result` (None for an empty 204 or 205), or raise the error that the answer stands for.

    With `is_write`, an unclear answer may mean that something was written. Raises only `CloudflareError`s.
    """
    if is_success(answer):
        return result_of(answer)
    fault = choose_fault(answer.document)
    kind = classify(answer, fault)
    raise make_error(kind, answer, fault, possibly_landed=is_write and is_unclear(kind, answer.status))


def is_success(answer: Answer) -> bool:
    """Return whether the answer is an unambiguous success."""
    if answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT):
        return answer.is_empty or _says_success(answer.document)
    return _is_2xx(answer.status) and _says_success(answer.document)


def result_of(answer: Answer) -> object:
    """Return the `result` of a success."""
    return answer.document.get("result") if isinstance(answer.document, dict) else None


def make_error(kind: type[CloudflareError], answer: Answer, fault: Fault, *, possibly_landed: bool) -> CloudflareError:
    """Return an error of this kind with what is known of the answer."""
    return kind(
        status=answer.status,
        cloudflare_code=fault.code,
        cloudflare_message=_describe(fault),
        cf_ray=answer.cf_ray,
        retry_after=_find_retry_after(answer),
        possibly_landed=possibly_landed,
    )


def not_understood(answer: Answer, *, is_write: bool) -> AnswerNotUnderstood:
    """Return the error for a successful answer whose `result` does not have the expected shape."""
    return AnswerNotUnderstood(status=answer.status, cf_ray=answer.cf_ray, possibly_landed=is_write)


def _keep_headers(headers: Iterable[tuple[str, str]], echo: Echo) -> Mapping[str, str]:
    """Keep the relevant headers; repeated ones are joined into a list (RFC 9110, 5.3)."""
    kept: dict[str, list[str]] = {}
    for name, value in headers:
        if name in _HEADERS:
            kept.setdefault(name, []).append(value)
    return {name: echo.remove(", ".join(values)) for name, values in kept.items()}


def _parse_json(body: bytes, echo: Echo, secret_names: Collection[str]) -> object:
    """Parse, then remove echoes: JSON escapes would hide them before."""

    def seal(parsed: dict[str, object]) -> dict[str, object]:
        return {
            name: Secret(part) if name in secret_names and isinstance(part, str) else part
            for name, part in parsed.items()
        }

    try:
        return echo.clean(json.loads(body, object_hook=seal if secret_names else None))
    except (ValueError, RecursionError):
        return None


def _says_success(document: object) -> bool:
    return isinstance(document, dict) and document.get("success") is True and not document.get("errors")


def _is_2xx(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def choose_fault(document: object) -> Fault:
    """Return the first fault with a known code, else the first one, else the edge's, else an empty one."""
    if not isinstance(document, dict):
        return Fault(code=None, message="")
    faults = list(_list_faults(document.get("errors")))
    known = [fault for fault in faults if fault.code in ERROR_OF_CODE or fault.code in ERROR_OF_CLIENT_CODE]
    edge = Fault(code=_read_code(document.get("error_code")), message="")
    return next(chain(known, faults), edge)


def _list_faults(errors: object, *, is_chain: bool = False) -> Iterator[Fault]:
    """Yield the faults, each with those of its `error_chain`, which holds the cause of a 6003."""
    for entry in errors if isinstance(errors, list) else []:
        if not isinstance(entry, dict):
            continue
        message = entry.get("message")
        yield Fault(
            code=_read_code(entry.get("code")),
            message=message if isinstance(message, str) else "",
            documentation_url=_read_documentation_url(entry.get("documentation_url")),
        )
        if not is_chain:
            yield from _list_faults(entry.get("error_chain"), is_chain=True)


def _read_code(value: object) -> int | None:
    """Read a code given as a number or as digits; return None for anything larger than a code."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _LARGEST_CODE else None


def classify(answer: Answer, fault: Fault) -> type[CloudflareError]:
    """Decide by the most specific sign: a challenge, the code, the edge, the status."""
    if answer.headers.get("cf-mitigated") == "challenge":
        return ChallengePage
    if not answer.is_read:
        return _classify_unread(answer.status)
    if _is_2xx(answer.status):
        return _classify_2xx(answer.document, fault)
    kind = _classify_code(answer.status, fault)
    return kind or _classify_page(answer, fault) or _classify_status(answer.status, answer.document, fault)


def _classify_page(answer: Answer, fault: Fault) -> type[CloudflareError] | None:
    """Classify an answer that does not come from the API."""
    if _is_from_edge(answer, fault):
        return EdgeRefused
    if answer.is_challenge_page:
        return ChallengePage
    return BlockedOnTheWay if answer.status == HTTPStatus.FORBIDDEN and answer.is_page else None


def _classify_unread(status: int) -> type[CloudflareError]:
    """Trust an unread answer's status only where it is transient: an unread 404 may mean anything."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled
    return CloudflareUnavailable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else AnswerNotUnderstood


def _classify_2xx(document: object, fault: Fault) -> type[CloudflareError]:
    """Treat a 2xx as a refusal only when `success` is false and a code says which; else the outcome is unknown."""
    says_no = isinstance(document, dict) and document.get("success") is False
    if fault.code is None or not says_no:
        return Throttled if fault.code in Throttled.cloudflare_codes else AnswerNotUnderstood
    return _classify_code(HTTPStatus.OK, fault) or RequestRejected


def _classify_code(status: int, fault: Fault) -> type[CloudflareError] | None:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled
    if fault.code == _AMBIGUOUS_CODE:
        return _classify_ambiguous(status, fault.message)
    if fault.code is None:
        return None
    is_client_code = status < HTTPStatus.INTERNAL_SERVER_ERROR
    if fault.code == _AUTHENTICATION_CODE and is_client_code and fault.message.strip().lower() == _FORBIDDEN:
        return CallerLacksPermission
    return ERROR_OF_CODE.get(fault.code) or (ERROR_OF_CLIENT_CODE.get(fault.code) if is_client_code else None)


def _classify_ambiguous(status: int, message: str) -> type[CloudflareError]:
    """Code 10001 means "internal error" or "Method not allowed for token": its text decides, then its status."""
    if _TRANSIENT_TEXT.search(message):
        return CloudflareUnavailable
    is_permanent = _PERMANENT_TEXT.search(message) or status < HTTPStatus.INTERNAL_SERVER_ERROR
    return CallerNotAllowed if is_permanent else CloudflareUnavailable


def _is_from_edge(answer: Answer, fault: Fault) -> bool:
    """Distinguish the edge from the API by the envelope, which the edge lacks: the API uses codes of that range too."""
    has_envelope = isinstance(answer.document, dict) and "success" in answer.document
    is_edge_code = answer.status in _EDGE_STATUSES and fault.code in _EDGE_CODES
    return answer.is_edge_page or (is_edge_code and not has_envelope)


def _classify_status(status: int, document: object, fault: Fault) -> type[CloudflareError]:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return CloudflareUnavailable
    if status < HTTPStatus.BAD_REQUEST:
        return AnswerNotUnderstood
    kind = ERROR_OF_STATUS.get(status)
    if kind is None and fault.code is None:
        kind = _classify_without_code(status, document)
    return kind or RequestRejected


def _classify_without_code(status: int, document: object) -> type[CloudflareError] | None:
    """Distinguish a bare 404 (no such route) and a 403 of the API itself from others, such as a proxy's page."""
    if status == HTTPStatus.NOT_FOUND:
        return RouteGone
    is_from_api = isinstance(document, dict) and "success" in document
    return CallerRejected if status == HTTPStatus.FORBIDDEN and is_from_api else None


def is_unclear(kind: type[CloudflareError], status: int) -> bool:
    """Return whether a write may have happened although no success was reported."""
    if kind is EdgeRefused and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return False
    return issubclass(kind, CloudflareTrouble) and kind.leaves_open


def _describe(fault: Fault) -> str:
    """Return Cloudflare's own text, followed by the page of its documentation that it names, if any."""
    url = fault.documentation_url
    return f"{_clean(fault.message, LONGEST_MESSAGE - len(url) - 1)} {url}".strip() if url else _clean(fault.message)


def _clean(message: str, longest: int = LONGEST_MESSAGE) -> str:
    """Make Cloudflare's own text safe to keep: remove tokens before cutting it, so that no half of one remains."""
    return _TOKEN_SHAPED.sub(REMOVED, one_line(message))[:longest].strip()


def _read_documentation_url(value: object) -> str:
    """Return the URL if it is of Cloudflare's documentation, else "": a forged answer could lead people elsewhere."""
    if not isinstance(value, str) or len(value) > _LONGEST_URL or not DOCUMENTATION_URL.fullmatch(value):
        return ""
    return value


def _find_retry_after(answer: Answer) -> timedelta | None:
    """Read Retry-After (RFC 9110, 10.2.3), else `retry_after` in the body of an edge error; at most a day."""
    header = answer.headers.get("retry-after", "").strip()
    seconds = _read_seconds(header) if header else None
    if header and seconds is None:
        seconds = _read_date(header, answer.headers.get("date", ""))
    if seconds is None and isinstance(answer.document, dict):
        seconds = _read_seconds(answer.document.get("retry_after"))
    return None if seconds is None else timedelta(seconds=min(seconds, LONGEST_WAIT.total_seconds()))


def _read_seconds(value: object) -> float | None:
    """Read a number of seconds as a float; return None for anything else, including a negative number and NaN."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(value, _MOST_SECONDS)) if value >= 0 else None


def _read_date(until: str, now: str) -> float | None:
    """Read an HTTP date against the answer's own Date, so that a wrong clock here does no harm."""
    try:
        return max(0.0, (parsedate_to_datetime(until) - parsedate_to_datetime(now)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
