"""The few calls that the bot makes to Cloudflare, typed. The only user of httpx; retries nothing and keeps no token.

No exception that leaves this module holds a request, a response or a frame that knew one: all of them carry secrets.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

import httpx

from bot import __version__
from bot.budget import Limits, parse_limits
from bot.catalog import Catalog, CatalogApi, CatalogStatus, CredentialStatus
from bot.cloudflare.diagnosis import Answer, not_understood, read_result
from bot.errors import (
    BotError,
    CatalogRefusal,
    CloudflareUnreachable,
    DatabaseTrouble,
    LeaseLost,
    NoSuchBucket,
    RouteGone,
    Throttled,
)
from bot.pace import MOST_IN_FLIGHT, Pace
from bot.secret import Secret

CONNECT_TIMEOUT = timedelta(seconds=5)
TOTAL_TIMEOUT = timedelta(seconds=30)
_UNTOLD_RETRY_AFTER = timedelta(seconds=1)
LARGEST_ANSWER_BYTES = 16 * 1024 * 1024

_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_SHORTEST_ECHO = 16
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
_Status = TypeVar("_Status", bound=StrEnum)
# Nothing was sent when one of these was raised, so a write cannot have landed.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
)
# At DEBUG these write response headers, URLs with the account, and, inside the text of a refused header, its value.
_TALKATIVE_LOGGERS = (
    "httpx",
    "httpcore",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReceipt:
    """What remains of an accepted write: Cloudflare's id of the request."""

    cf_ray: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """The bot's own credentials, as an API token."""

    token: Secret

    def __post_init__(self) -> None:
        _require_header_value(self.token, "the API token")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The bot's own credentials, as an e-mail address and a Global API key: the older scheme."""

    email: str
    key: Secret

    def __post_init__(self) -> None:
        _require_header_value(Secret(self.email), "the e-mail address")
        _require_header_value(self.key, "the API key")


class Turn:
    """The right to send one request now; whoever does not use it gives it back."""

    def __init__(self, pace: Pace | None) -> None:
        self._pace = pace

    def use(self) -> bool:
        """Say whether it was still to be had."""
        pace, self._pace = self._pace, None
        return pace is not None

    def give_back(self) -> None:
        """Let somebody else have it, unless it was used."""
        if self._pace is not None:
            self._pace.done(None)
            self._pace = None


class CloudflareClient:
    """Speaks for one account, over one pool of connections. Close it with `aclose()`.

    Every call raises nothing but `CloudflareError`s, LeaseLost (`store_credential`) and DatabaseTrouble (where the pace
    is kept in a database), follows no redirect and is safe to repeat; a request takes 30 s at most. On `auto` a call
    can be two requests.
    TLS certificates are always verified. The environment's proxies and CA bundle (HTTPS_PROXY, NO_PROXY,
    SSL_CERT_FILE) hold for https, where a proxy sees ciphertext only; plain http is for loopback and uses no proxy.
    """

    def __init__(  # noqa: PLR0913 - the settings of a client, by name
        self,
        *,
        account_id: str,
        base_url: str,
        auth: ApiToken | ApiKey,
        catalog_api: CatalogApi = CatalogApi.AUTO,
        pace: Pace | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        total_timeout: timedelta = TOTAL_TIMEOUT,
    ) -> None:
        _silence_loggers()
        url = _require_safe_url(base_url)
        if not _ACCOUNT_ID.fullmatch(account_id):
            message = "an account id is 32 lower-case hexadecimal digits"
            raise ValueError(message)
        self._account_path = f"accounts/{account_id}"
        self._catalog_api = catalog_api
        self._pace = pace
        self._preferred = CatalogApi.R2_CATALOG
        self._total_timeout = total_timeout
        connect, total = CONNECT_TIMEOUT.total_seconds(), total_timeout.total_seconds()
        self._http = httpx.AsyncClient(
            auth=_CallerAuth(auth),
            base_url=url,
            headers={"User-Agent": f"r2-credential-bot/{__version__}", "Accept": "application/json"},
            timeout=httpx.Timeout(total, connect=connect, pool=connect),
            limits=httpx.Limits(max_keepalive_connections=MOST_IN_FLIGHT),  # the pace limits how many there are
            follow_redirects=False,
            transport=transport,
            trust_env=url.scheme == "https",
        )

    async def turn(self) -> Turn | datetime:
        """Wait in line for a request, and return the right to send it; or, at once, when to ask again.

        A call that is given no turn waits for its own, and raises Throttled when nothing may be sent for a while.
        Raises DatabaseTrouble.
        """
        if self._pace is None:
            return Turn(None)
        return await self._pace.turn() or Turn(self._pace)

    async def list_catalogs(self) -> list[Catalog]:
        """Return all catalogs of the account, in Cloudflare's order; entries without a bucket name are left out."""
        answer, result = await self._call("GET")
        warehouses = result.get("warehouses") if isinstance(result, dict) else result
        if warehouses is None:
            return []
        if not isinstance(warehouses, list):
            raise not_understood(answer, is_write=False)
        return [catalog for entry in warehouses if (catalog := _parse_catalog(entry)) is not None]

    async def get_catalog(self, bucket: str, turn: Turn | None = None) -> Catalog:
        """Return the catalog of one bucket. An answer that speaks of another bucket is not understood."""
        _require_possible(bucket)
        answer, result = await self._call("GET", bucket, turn=turn)
        catalog = _parse_catalog(result, asked_bucket=bucket)
        if catalog is None or catalog.bucket != bucket:
            raise not_understood(answer, is_write=False)
        return catalog

    async def store_credential(
        self, bucket: str, token: Secret, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> StoreReceipt:
        """Write `token` into the bucket's slot; returning means that Cloudflare said so without any doubt.

        `may_send` is asked twice, as the headers and as the body are about to go out, and a no raises LeaseLost: a
        process that was frozen anywhere before that sends nothing when it wakes. What it raises passes through.
        An error with `possibly_landed` leaves open whether the slot now holds `token`.
        """
        _require_possible(bucket)
        body = _CredentialBody(token, _Fence(may_send))
        answer, _ = await self._call("POST", bucket, "credential", body=body, turn=turn)
        return StoreReceipt(cf_ray=answer.cf_ray)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(
        self, method: str, *path: str, body: "_CredentialBody | None" = None, turn: Turn | None = None
    ) -> tuple[Answer, object]:
        """Call the family that answered last and, on `auto`, its twin when that route is gone."""
        gone: RouteGone | None = None
        for family in self._list_families():
            await self._enter(turn)
            try:
                answered = await self._call_family(family, method, *path, body=body)
            except RouteGone as error:
                gone = gone or error
            except CatalogRefusal:
                self._preferred = family
                raise
            else:
                self._preferred = family
                return answered
        raise gone or RouteGone()

    async def _enter(self, turn: Turn | None) -> None:
        """Use the turn, else take another one: on `auto` a call can be two requests."""
        if self._pace is None or (turn is not None and turn.use()):
            return
        if await self._pace.turn() is not None:
            raise Throttled

    def _list_families(self) -> list[CatalogApi]:
        if self._catalog_api is not CatalogApi.AUTO:
            return [self._catalog_api]
        families = [CatalogApi.R2_CATALOG, CatalogApi.BASIN_CATALOG]
        return sorted(families, key=lambda family: family is not self._preferred)

    async def _call_family(
        self, family: CatalogApi, method: str, *path: str, body: "_CredentialBody | None"
    ) -> tuple[Answer, object]:
        url = "/".join([self._account_path, family.value, *path])
        outcome = await self._exchange(method, url, body)
        # Raised here, outside of every `except` block: an exception's context would keep httpx's request alive.
        if isinstance(outcome, BotError):
            raise outcome
        try:
            return outcome, read_result(outcome, is_write=method != "GET")
        except Throttled as error:
            if self._pace is not None:
                await self._pace.block(error.retry_after or _UNTOLD_RETRY_AFTER)
            raise

    async def _exchange(self, method: str, url: str, body: "_CredentialBody | None") -> Answer | BotError:
        """Send one request and read its answer. The frames below this one, which know the secrets, end here."""
        limits: Limits | None = None
        try:
            async with asyncio.timeout(self._total_timeout.total_seconds()):
                answer = await self._send(method, url, body)
                limits = parse_limits(answer.headers)
                return answer
        except (LeaseLost, DatabaseTrouble) as stopped:
            return type(stopped)()
        except _NEVER_SENT:
            never_sent = True
        except (httpx.HTTPError, OSError):  # a TimeoutError is an OSError
            never_sent = False
        except asyncio.CancelledError as cancelled:
            cancelled.__context__ = None
            raise cancelled.with_traceback(None) from None
        finally:
            if self._pace is not None:
                self._pace.done(limits)
        return CloudflareUnreachable(possibly_landed=method != "GET" and not never_sent)

    async def _send(self, method: str, url: str, body: "_CredentialBody | None") -> Answer:
        headers, extensions = {}, {}
        if body is not None:
            headers = {"Content-Type": "application/json", "Content-Length": str(body.length)}
            extensions = {"trace": body.fence.watch}
        async with self._http.stream(method, url, content=body, headers=headers, extensions=extensions) as response:
            received = await _read_body(response)
        if body is not None:
            received = body.remove_echo(received)
        return Answer(status=response.status_code, headers=dict(response.headers), body=received)


class _CallerAuth(httpx.Auth):
    """Adds the bot's own credentials to each request at the last moment."""

    def __init__(self, credentials: ApiToken | ApiKey) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if isinstance(self._credentials, ApiToken):
            request.headers["Authorization"] = f"Bearer {self._credentials.token.reveal()}"
        else:
            request.headers["X-Auth-Email"] = self._credentials.email
            request.headers["X-Auth-Key"] = self._credentials.key.reveal()
        yield request


class _Fence:
    """Stops a request at the last moment when its sender may not send it any more."""

    def __init__(self, may_send: Callable[[], Awaitable[bool]]) -> None:
        self._may_send = may_send

    async def check(self) -> None:
        if not await self._may_send():
            raise LeaseLost

    async def watch(self, event: str, _: object) -> None:
        """Check as the headers are about to go out (httpx's extension "trace")."""
        if event.endswith(".send_request_headers.started"):
            await self.check()


class _CredentialBody(httpx.AsyncByteStream):
    """The body with the pasted token, made while it is being sent, so that no request object ever holds it."""

    def __init__(self, token: Secret, fence: _Fence) -> None:
        self._token = token
        self.fence = fence
        self.length = len(self._encode())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self.fence.check()
        yield self._encode()

    def remove_echo(self, answer: bytes) -> bytes:
        """Take the token out of an answer that quotes it; a short one could be a word of the envelope, and stays."""
        plain = self._token.reveal().encode("utf-8", "surrogatepass")
        return answer.replace(plain, b"[removed]") if len(plain) >= _SHORTEST_ECHO else answer

    def _encode(self) -> bytes:
        # ASCII with escapes: a lone surrogate would raise an encoding error that quotes the whole body.
        return json.dumps({"token": self._token.reveal()}, separators=(",", ":")).encode("ascii")


def _silence_loggers() -> None:
    for name in _TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _require_safe_url(base_url: str) -> httpx.URL:
    url = httpx.URL(base_url)
    is_private = url.scheme == "https" or (url.scheme == "http" and url.host in _LOOPBACK_HOSTS)
    if not is_private or not url.host or url.userinfo or url.query or url.fragment:
        message = "the base URL must be https://HOST/PATH, or http:// on loopback"
        raise ValueError(message)
    return url


def _require_header_value(secret: Secret, name: str) -> None:
    """Refuse early what no header can carry: the libraries below quote such a value in their exceptions."""
    if not _HEADER_VALUE.fullmatch(secret.reveal()):
        message = f"{name} is empty or has a character that no HTTP header can carry"
        raise ValueError(message)


def _require_possible(bucket: str) -> None:
    """Refuse a name that no bucket can have, before it becomes a part of a path."""
    if not _BUCKET_NAME.fullmatch(bucket):
        raise NoSuchBucket


async def _read_body(response: httpx.Response) -> bytes:
    """Read at most the largest answer; what is cut off there is no JSON any more and so not understood."""
    received = bytearray()
    async for part in response.aiter_bytes():
        received += part
        if len(received) > LARGEST_ANSWER_BYTES:
            return b""
    return bytes(received)


def _parse_catalog(entry: object, *, asked_bucket: str | None = None) -> Catalog | None:
    if not isinstance(entry, dict):
        return None
    bucket = entry.get("bucket", asked_bucket)
    if not isinstance(bucket, str) or not _BUCKET_NAME.fullmatch(bucket):
        return None
    return Catalog(
        bucket=bucket,
        status=_match(entry.get("status"), CatalogStatus.UNKNOWN),
        credential_status=_match(entry.get("credential_status"), CredentialStatus.UNKNOWN),
    )


def _match(value: object, unknown: _Status) -> _Status:
    """Return the member with this value, or `unknown` for one that does not exist (yet)."""
    return next((member for member in type(unknown) if member == value), unknown)
