"""A small Cloudflare on loopback: the R2 Data Catalog (Basin Catalog) API of one account, with its refusals.

It judges a token by its text alone, keeps everything in memory, and can be told to fail. Not for anything but trying.
"""

import asyncio
import json
import math
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Literal, Self, TypedDict, Unpack
from uuid import NAMESPACE_DNS, uuid5

from aiohttp import web

from bot.sandbox.tokens import Behaviour, judge_token

SANDBOX_ACCOUNT_ID: Final = "5a4db0c0000000000000000000000001"
SANDBOX_API_TOKEN: Final = "cfat_MADEUPSANDBOXCALLER00000000000000000000000000000"  # noqa: S105 - made up
SANDBOX_EMAIL: Final = "operator@example.com"
SANDBOX_API_KEY: Final = "5a4db0cadeadbeef5a4db0cadeadbeef5a4db"
FAMILIES: Final = ("r2-catalog", "basin-catalog")

CatalogState = Literal["active", "inactive"]
Kind = Literal["list", "get", "credential", "enable", "any"]

_ROUTE = re.compile(
    r"/client/v4/accounts/(?P<account>[^/]+)/(?P<family>r2-catalog|basin-catalog)"
    r"(?:/(?P<bucket>[^/]+)(?:/(?P<action>credential|enable))?)?"
)
_KIND_OF: Final[Mapping[tuple[str, bool, str | None], Kind]] = {
    ("GET", False, None): "list",
    ("GET", True, None): "get",
    ("POST", True, "credential"): "credential",
    ("POST", True, "enable"): "enable",
}
_TRIES_WHILE_DOWN = 2
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
_PAGE = "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"


@dataclass(slots=True, kw_only=True)
class SmallBucket:
    """A bucket; `catalog` is None where none was ever enabled."""

    name: str
    catalog: CatalogState | None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One accepted write of a credential."""

    bucket: str
    token: str = field(repr=False)
    family: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How many requests each caller may make in a window, one after the other or sliding."""

    requests: int
    window_seconds: int
    sliding: bool = False


NO_LIMIT_TO_SPEAK_OF: Final = RateLimit(requests=10**8, window_seconds=1)
"""Announced like any limit, so that a caller knows that it may hurry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request as it came in. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: datetime


class Failure(TypedDict, total=False):
    """What goes wrong: a delay (in seconds), an answer (when `status` is set), or a connection that breaks."""

    status: int
    code: int
    message: str
    body: str | bytes
    headers: Mapping[str, str]
    retry_after: int
    delay: float
    drop_before_store: bool
    drop_after_store: bool


@dataclass(slots=True)
class _PlannedFailure:
    kind: Kind
    failure: Failure
    times_left: int


class SmallCloudflare:
    """The server; `buckets`, `families`, `requests`, `writes` and `limit` may be read and changed at any time.

    Under a limit `accepted_at` and `throttled_at` note when requests came, in seconds of `time.monotonic()`; windows
    that do not slide begin at its multiples.

    Use it with `async with`, or `start()` and `stop()`. Port 0 takes a free one.
    """

    def __init__(  # noqa: PLR0913 - the settings of a server, by name
        self,
        *,
        account_id: str = SANDBOX_ACCOUNT_ID,
        api_token: str = SANDBOX_API_TOKEN,
        email: str = SANDBOX_EMAIL,
        api_key: str = SANDBOX_API_KEY,
        port: int = 0,
        limit: RateLimit | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.account_id = account_id
        self.api_token = api_token
        self.email = email
        self.api_key = api_key
        self.buckets: dict[str, SmallBucket] = {}
        self.families: set[str] = set(FAMILIES)
        self.requests: list[ReceivedRequest] = []
        self.writes: list[Write] = []
        self.on_write: Callable[[], None] = lambda: None
        self.slow_delay = 3.0
        self.retry_after = 5
        self.limit = limit
        self.accepted_at: list[float] = []
        self.throttled_at: list[float] = []
        self._timer = timer
        self._counted: defaultdict[str, deque[float]] = defaultdict(deque)
        self._port = port
        self._clock = clock
        self._failures: list[_PlannedFailure] = []
        self._tries: Counter[tuple[str, str]] = Counter()
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """The base address of the API, known once started."""
        return f"http://127.0.0.1:{self._port}/client/v4"

    async def start(self) -> None:
        """Listen on loopback."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; the state remains, and `start()` takes the same port again."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def add_bucket(self, name: str, catalog: CatalogState | None = "active", token: str | None = None) -> SmallBucket:
        """Add or replace a bucket; `catalog` None is a bucket whose catalog was never enabled."""
        self.buckets[name] = SmallBucket(name=name, catalog=catalog, token=token)
        return self.buckets[name]

    def stored_token(self, bucket: str) -> str | None:
        """Return the token that the bucket's slot holds. The real Cloudflare shows it to nobody."""
        return self.buckets[bucket].token

    def fail_next(self, kind: Kind, *, times: int = 1, **failure: Unpack[Failure]) -> None:
        """Let the next `times` requests of this kind fail; several failures happen one after the other."""
        self._failures.append(_PlannedFailure(kind, failure, times))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except ConnectionError:  # whoever sent it died in the middle
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = ReceivedRequest(
            method=request.method, path=request.path, headers=headers, body=body, at=self._clock()
        )
        self.requests.append(received)
        ray = f"{0x5A4D << 48 | len(self.requests):016x}-BOX"
        allowance = self._count(received) if self.limit else None
        try:
            response = _throttle(allowance) or await self._answer(received)
        except _Dropped:
            # Cutting the connection is the point; what is returned here no longer reaches anyone.
            _cut(request)
            response = web.Response()
        response.headers["cf-ray"] = ray
        if allowance is not None:
            response.headers.update(allowance.headers)
        return response

    def _count(self, received: ReceivedRequest) -> "_Allowance":
        """Count a request for its caller, unless that one has no more left."""
        assert self.limit is not None  # noqa: S101 - the caller has looked
        limit, now = self.limit, self._timer()
        counted = self._counted[received.headers.get("authorization") or received.headers.get("x-auth-key", "")]
        began_at = now - limit.window_seconds if limit.sliding else now // limit.window_seconds * limit.window_seconds
        while counted and (counted[0] <= began_at if limit.sliding else counted[0] < began_at):
            counted.popleft()
        first_at = counted[0] if counted else now
        ends_at = (first_at if limit.sliding else began_at) + limit.window_seconds
        is_taken = len(counted) < limit.requests
        if is_taken:
            counted.append(now)
        (self.accepted_at if is_taken else self.throttled_at).append(now)
        return _Allowance(limit, is_taken, limit.requests - len(counted), math.ceil(ends_at - now))

    async def _answer(self, received: ReceivedRequest) -> web.Response:
        route = _ROUTE.fullmatch(received.path)
        if route is None:
            return _refuse(HTTPStatus.NOT_FOUND, 7000, "This API has no such route.")
        kind = _KIND_OF.get((received.method, route["bucket"] is not None, route["action"]))
        if kind is None:
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, None, "This route does not take that method.")
        failure = self._take_failure(kind)
        if failure is None:
            return await self._serve(kind, route, received)
        await asyncio.sleep(failure.get("delay", 0))
        if failure.get("drop_before_store"):
            raise _Dropped
        response = _make_failure(failure) or await self._serve(kind, route, received)
        if failure.get("drop_after_store"):
            raise _Dropped
        return response

    def _take_failure(self, kind: Kind) -> Failure | None:
        planned = next((each for each in self._failures if each.kind in (kind, "any")), None)
        if planned is None:
            return None
        planned.times_left -= 1
        if planned.times_left <= 0:
            self._failures.remove(planned)
        return planned.failure

    async def _serve(self, kind: Kind, route: re.Match[str], received: ReceivedRequest) -> web.Response:
        refusal = self._check_caller(received.headers) or self._check_route(route)
        if refusal is not None:
            return refusal
        if kind == "list":
            return _accept({"warehouses": [self._describe(each) for each in self.buckets.values() if each.catalog]})
        if kind == "credential":
            return await self._store(route["bucket"], route["family"], received.body)
        if kind == "enable":
            return self._enable(route["bucket"])
        bucket = self.buckets.get(route["bucket"])
        return _check_catalog(bucket) or _accept(self._describe(self.buckets[route["bucket"]]))

    def _check_caller(self, headers: Mapping[str, str]) -> web.Response | None:
        bearer, email, key = (headers.get(name) for name in ("authorization", "x-auth-email", "x-auth-key"))
        if bearer is None and (email is None or key is None):
            return _refuse(HTTPStatus.BAD_REQUEST, 9106, "The request says not who asks.")
        if bearer == f"Bearer {self.api_token}" or (email, key) == (self.email, self.api_key):
            return None
        return _refuse(HTTPStatus.UNAUTHORIZED, 10000, "Authentication error")

    def _check_route(self, route: re.Match[str]) -> web.Response | None:
        if not _ACCOUNT_ID.fullmatch(route["account"]) or route["family"] not in self.families:
            return _refuse(HTTPStatus.NOT_FOUND, 7003, "There is no route to this address; is the id right?")
        if route["account"] != self.account_id:
            return _refuse(HTTPStatus.FORBIDDEN, 10000, "Authentication error")
        return None

    async def _store(self, name: str, family: str, body: bytes) -> web.Response:
        """Judge the token before the bucket, as Cloudflare does, then fill the slot."""
        token = _read_token(body)
        if token is None:
            return web.Response(status=HTTPStatus.UNPROCESSABLE_ENTITY, text="The JSON body could not be read.")
        behaviour = judge_token(token)
        tried = self._tries[name, token]
        self._tries[name, token] += 1
        bucket = self.buckets.get(name)
        refusal = self._behave(behaviour, tried) or _check_catalog(bucket, must_be_active=True)
        if refusal is not None or bucket is None:
            return refusal or _accept(None)
        bucket.token = token
        self.writes.append(Write(bucket=name, token=token, family=family, at=self._clock()))
        self.on_write()
        if behaviour is Behaviour.SLOW:
            await asyncio.sleep(self.slow_delay)
        if behaviour is Behaviour.ANSWER_LOST and tried == 0:
            raise _Dropped
        return _accept(None)

    def _behave(self, behaviour: Behaviour, tried: int) -> web.Response | None:
        if behaviour is Behaviour.WEAK:
            return _refuse(HTTPStatus.BAD_REQUEST, 30004, "The token lacks a right that the catalog needs.")
        if behaviour in (Behaviour.UNKNOWN, Behaviour.EXPIRED, Behaviour.DISABLED):
            return _refuse(HTTPStatus.BAD_REQUEST, 30005, "The token is not valid.")
        if behaviour is Behaviour.RATE_LIMITED and tried == 0:
            failure = Failure(status=429, code=971, message="Too many requests.", retry_after=self.retry_after)
            return _make_failure(failure)
        if behaviour is Behaviour.SERVER_DOWN and tried < _TRIES_WHILE_DOWN:
            return _make_failure(Failure(status=503))
        if behaviour is Behaviour.CHALLENGED:
            page = _PAGE.format(title="Are you human?")
            return _make_failure(Failure(status=403, body=page, headers={"cf-mitigated": "challenge"}))
        return None

    def _enable(self, name: str) -> web.Response:
        bucket = self.buckets.get(name)
        if bucket is None:
            return _refuse(HTTPStatus.NOT_FOUND, 40406, "There is no such bucket.")
        bucket.catalog = "active"
        described = self._describe(bucket)
        return _accept({"id": described["id"], "name": described["name"]})

    def _describe(self, bucket: SmallBucket) -> dict[str, object]:
        name = f"{self.account_id}_{bucket.name}"
        return {
            "id": str(uuid5(NAMESPACE_DNS, name)),
            "bucket": bucket.name,
            "name": name,
            "status": bucket.catalog,
            "credential_status": "absent" if bucket.token is None else "present",
        }


@dataclass(frozen=True, slots=True)
class _Allowance:
    """What a request met under a limit, and what is left after it, for how many seconds."""

    limit: RateLimit
    is_taken: bool
    remaining: int
    resets_in: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers that Cloudflare's API has had since 2025-09 (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "Ratelimit": f'"default";r={self.remaining};t={self.resets_in}',
            "Ratelimit-Policy": f'"default";q={self.limit.requests};w={self.limit.window_seconds}',
        }


class _Dropped(Exception):  # noqa: N818 - not an error, an order
    """The connection breaks here."""


def _cut(request: web.Request) -> None:
    transport = request.transport
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _throttle(allowance: _Allowance | None) -> web.Response | None:
    if allowance is None or allowance.is_taken:
        return None
    failure = Failure(status=429, code=971, message="Too many requests.", retry_after=allowance.resets_in)
    return _make_failure(failure)


def _read_token(body: bytes) -> str | None:
    try:
        token = json.loads(body)["token"]
    except (ValueError, TypeError, KeyError):
        return None
    return token if isinstance(token, str) else None


def _check_catalog(bucket: SmallBucket | None, *, must_be_active: bool = False) -> web.Response | None:
    if bucket is None:
        return _refuse(HTTPStatus.NOT_FOUND, 40406, "There is no such bucket.")
    if bucket.catalog is None:
        return _refuse(HTTPStatus.NOT_FOUND, 40401, "There is no catalog on this bucket.")
    if must_be_active and bucket.catalog == "inactive":
        return _refuse(HTTPStatus.CONFLICT, 40402, "The catalog is not active.")
    return None


def _accept(result: object) -> web.Response:
    return web.json_response({"success": True, "errors": [], "messages": [], "result": result})


def _refuse(status: int, code: int | None, message: str) -> web.Response:
    error = {"message": message} if code is None else {"code": code, "message": message}
    return web.json_response({"success": False, "errors": [error], "messages": [], "result": None}, status=status)


def _make_failure(failure: Failure) -> web.Response | None:
    """Return the planned answer: the given body, else a page for a 5xx without code, else an envelope."""
    status = failure.get("status")
    if status is None:
        return None
    body, code = failure.get("body"), failure.get("code")
    if body is None and code is None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        body = _PAGE.format(title=f"{status}: the server is down")
    if body is None:
        response = _refuse(status, code, failure.get("message", "A failure made up for a test."))
    else:
        content = body.encode() if isinstance(body, str) else body
        response = web.Response(status=status, body=content, content_type="text/html")
    response.headers.update(failure.get("headers", {}))
    if "retry_after" in failure:
        response.headers["Retry-After"] = str(failure["retry_after"])
    return response
