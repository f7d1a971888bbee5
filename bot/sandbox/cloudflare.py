"""A fake Cloudflare on loopback: the R2 Data Catalog (Basin Catalog) API of one account, with its refusals.

It judges a token by its text alone, keeps everything in memory, and can be made to fail. It is for trying things out.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final, Literal, Self, Unpack, get_args

from aiohttp import web

from bot.sandbox.account_tokens import AccountTokens
from bot.sandbox.buckets import CatalogState, SmallBucket, refuse_bucket
from bot.sandbox.envelopes import accept, accept_token, refuse, show_page, throttle
from bot.sandbox.failures import Dropped, Failure, PlannedFailure, answer_failure, take_failure
from bot.sandbox.limits import NO_LIMIT_TO_SPEAK_OF, Allowance, RateLimit, RequestCounter
from bot.sandbox.routes import FAMILIES, Kind, Route, TokenKind, find_route
from bot.sandbox.standing import (
    FORBIDDEN,
    INVALID_TOKEN,
    MINTING_STANDINGS,
    NOT_ALLOWED,
    UNAUTHORIZED,
    MintingState,
    Standing,
    describe_policies,
    find_standing,
)
from bot.sandbox.tokens import Behaviour, is_account_owned, judge_token

__all__ = [
    "FAMILIES",
    "NO_LIMIT_TO_SPEAK_OF",
    "SANDBOX_ACCOUNT_ID",
    "SANDBOX_API_KEY",
    "SANDBOX_API_TOKEN",
    "SANDBOX_EMAIL",
    "SANDBOX_MINTING_TOKEN",
    "Failure",
    "FakeCloudflare",
    "Kind",
    "ListedToken",
    "RateLimit",
    "ReceivedRequest",
    "Write",
]

SANDBOX_ACCOUNT_ID: Final = "5a4db0c0000000000000000000000001"
SANDBOX_API_TOKEN: Final = "cfat_MADEUPSANDBOXCALLER00000000000000000000000000000"  # noqa: S105 - made up
SANDBOX_MINTING_TOKEN: Final = "cfat_MADEUPSANDBOXMINTER00000000000000000000000000000"  # noqa: S105 - made up
SANDBOX_EMAIL: Final = "operator@example.com"
SANDBOX_API_KEY: Final = "5a4db0cadeadbeef5a4db0cadeadbeef5a4db"

_OPEN_TO_READERS: Final[frozenset[Kind]] = frozenset({"list", "read", "status"})
_TRIES_WHILE_DOWN = 2
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
_BEARER = re.compile(r"Bearer [A-Za-z0-9_-]{40,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One accepted write of a credential."""

    bucket: str
    token: str = field(repr=False)
    family: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request as it came in. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: datetime
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedToken:
    """A token that was created here, for a person who looks at the account. `slots`: the buckets that hold it."""

    id: str
    name: str
    status: str
    expires_on: datetime | None
    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late:
    """A request that is carried out later, when nobody waits for its answer any more."""

    at: datetime
    kind: Kind
    route: Route
    received: ReceivedRequest


class FakeCloudflare:
    """The server; its public attributes may be read and changed at any time.

    Without `offers_status` it has no route that probes a slot. A fresh token is unknown until `fresh_seconds` after its
    first use. A token that causes trouble causes it for each submission: all is forgotten once a write is answered.
    `own_behaviour` is that of the bot's own credentials; they may write if `own_may_write`, and their policies can be
    read with them if `shows_policies`.
    `tokens` are the account's API tokens, which the `minting_token` creates, as far as its `minting_state` lets it.
    Without sockets and in virtual time, `respond()` answers.

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
        minting_token: str = SANDBOX_MINTING_TOKEN,
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
        self.on_request: Callable[[ReceivedRequest], None] = lambda _: None
        self.on_write: Callable[[], None] = lambda: None
        self.slow_delay = 3.0
        self.retry_after = 5
        self.fresh_seconds = 4.0
        self.offers_status = True
        self.own_behaviour = Behaviour.GOOD
        self.own_may_write = True
        self.shows_policies = False
        self.minting_token = minting_token
        self.minting_state: MintingState = "good"
        self.tokens = AccountTokens(account_id, clock)
        self.limit = limit
        self.accepted_at: list[float] = []
        self.throttled_at: list[float] = []
        self._timer = timer
        self._counter = RequestCounter()
        self._port = port
        self._clock = clock
        self._failures: list[PlannedFailure] = []
        self._late: list[_Late] = []
        self._tries: Counter[tuple[str, str]] = Counter()
        self._verifications: Counter[str] = Counter()
        self._revoked: set[str] = set()
        self._first_seen_at: dict[str, float] = {}
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """The base address of the API, known once started."""
        return f"http://127.0.0.1:{self._port}/client/v4"

    def now(self) -> datetime:
        """Return the time here."""
        return self._clock()

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

    def write_by_hand(self, bucket: str, token: str) -> None:
        """Put a token into a slot, as somebody with another tool would."""
        self._write(self.buckets[bucket], token, FAMILIES[0])

    def list_tokens(self) -> list[ListedToken]:
        """Return the tokens that were created here, deleted ones too, each with the slots that hold it."""
        return [
            ListedToken(
                id=token.id,
                name=token.name,
                status="deleted" if token.is_deleted else token.status,
                expires_on=token.expires_on,
                slots=tuple(bucket.name for bucket in self.buckets.values() if bucket.token == token.value),
            )
            for token in self.tokens.tokens.values()
        ]

    def revoke(self, token: str) -> None:
        """Forget a token: from now on it is unknown everywhere, and not valid in a slot that holds it."""
        self._revoked.add(token)

    def fail_next(self, kind: Kind, *, times: int = 1, **failure: Unpack[Failure]) -> PlannedFailure:
        """Let the next `times` requests of this kind fail; several failures happen one after the other."""
        planned = PlannedFailure(kind, failure, times)
        self._failures.append(planned)
        return planned

    def forget_failures(self) -> None:
        """Let all requests succeed again."""
        self._failures.clear()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except ConnectionError:  # the sender died in the middle
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = ReceivedRequest(
            method=request.method,
            path=request.path,
            headers=headers,
            body=body,
            at=self._clock(),
            query=dict(request.query),
        )
        try:
            return await self.respond(received)
        except Dropped:
            # Cutting the connection is the point; what is returned here no longer reaches anyone.
            _cut(request)
            return web.Response()

    async def respond(self, received: ReceivedRequest) -> web.Response:
        """Answer a request that came over a socket, or in any other way; raises Dropped for no answer."""
        await self.land()
        self.on_request(received)
        self.requests.append(received)
        ray = f"{0x5A4D << 48 | len(self.requests):016x}-BOX"
        allowance = self._count(received)
        response = _throttle(allowance) or await self._answer(received)
        response.headers["cf-ray"] = ray
        response.headers["Date"] = format_datetime(self._clock(), usegmt=True)
        if allowance is not None:
            response.headers.update(allowance.headers)
        return response

    async def land(self) -> None:
        """Carry out what was to land late, and is due by now."""
        due = sorted((each for each in self._late if each.at <= self._clock()), key=lambda each: each.at)
        self._late = [each for each in self._late if each not in due]
        for each in due:
            with suppress(Dropped):
                await self._serve(each.kind, each.route, each.received)

    def _count(self, received: ReceivedRequest) -> Allowance | None:
        if self.limit is None:
            return None
        caller, now = received.headers.get("authorization") or received.headers.get("x-auth-key", ""), self._timer()
        allowance = self._counter.count(caller, self.limit, now)
        (self.accepted_at if allowance.is_taken else self.throttled_at).append(now)
        return allowance

    async def _answer(self, received: ReceivedRequest) -> web.Response:
        route = find_route(received.method, received.path)
        if route is None:
            return refuse(HTTPStatus.NOT_FOUND, 7000, "This API has no such route.")
        if route.method != received.method:
            return refuse(HTTPStatus.METHOD_NOT_ALLOWED, None, "This route does not take that method.")
        kind = self._name_kind(route, received.headers)
        failure = take_failure(self._failures, kind)
        if failure is None:
            return await self._serve(kind, route, received)
        await asyncio.sleep(failure.get("delay", 0))
        if "lands_after" in failure:
            at = self._clock() + timedelta(seconds=failure["lands_after"])
            self._late.append(_Late(at=at, kind=kind, route=route, received=received))
            raise Dropped
        if failure.get("drop_before_store"):
            raise Dropped
        response = answer_failure(failure) or await self._serve(kind, route, received)
        if failure.get("drop_after_store"):
            raise Dropped
        return response

    def _name_kind(self, route: Route, headers: Mapping[str, str]) -> Kind:
        if route.kind == "verify":
            return "own" if self._is_own(headers) else "verify"
        if route.kind == "get_token" and not self._is_minter(headers):
            return "token"
        is_read = route.kind == "get" and "authorization" in headers and not self._is_own(headers)
        return "read" if is_read else route.kind

    async def _serve(self, kind: Kind, route: Route, received: ReceivedRequest) -> web.Response:
        if kind in ("verify", "own", "token"):
            return (self._show_policies if kind == "token" else self._verify)(route, received.headers)
        if kind in get_args(TokenKind):
            refusal = self._check_minter(route, received.headers)
            return refusal or self.tokens.serve(kind, route.token_id, received.query, received.body)
        refusal = self._check_caller(kind, route, received.headers) or self._check_route(route)
        return refusal or await self._serve_catalogs(kind, route, received)

    async def _serve_catalogs(self, kind: Kind, route: Route, received: ReceivedRequest) -> web.Response:
        if kind == "list":
            return accept(
                {"warehouses": [each.describe(self.account_id) for each in self.buckets.values() if each.catalog]}
            )
        if kind == "credential":
            return await self._store(route.bucket, route.family, received.body)
        if kind == "enable":
            return self._enable(route.bucket)
        refusal = refuse_bucket(self.buckets.get(route.bucket))
        return refusal or self._answer_of_catalog(kind, self.buckets[route.bucket])

    def _answer_of_catalog(self, kind: Kind, bucket: SmallBucket) -> web.Response:
        if kind == "status":
            return accept({"status": self._probe(bucket)})
        if kind == "disable":
            bucket.catalog = "inactive"
            return accept(None)
        return accept(bucket.describe(self.account_id))

    def _is_minter(self, headers: Mapping[str, str]) -> bool:
        return headers.get("authorization") == f"Bearer {self.minting_token}"

    def _check_minter(self, route: Route, headers: Mapping[str, str]) -> web.Response | None:
        """Refuse all but an API token with the right to write the account's tokens."""
        if route.account != self.account_id:
            return refuse(*NOT_ALLOWED)
        if self._is_minter(headers):
            refusal = MINTING_STANDINGS[self.minting_state].when_read
            return refusal and refuse(*refusal)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        is_known = (self._is_own(headers) and bool(bearer)) or self._find_standing(bearer).is_known
        return refuse(*(FORBIDDEN if is_known else NOT_ALLOWED))

    def _is_own(self, headers: Mapping[str, str]) -> bool:
        """Whether the bot itself asks."""
        if headers.get("authorization") == f"Bearer {self.api_token}":
            return self.api_token not in self._revoked
        return (headers.get("x-auth-email"), headers.get("x-auth-key")) == (self.email, self.api_key)

    def _check_caller(self, kind: Kind, route: Route, headers: Mapping[str, str]) -> web.Response | None:
        bearer = headers.get("authorization")
        if bearer is None and not {"x-auth-email", "x-auth-key"} <= headers.keys():
            return refuse(HTTPStatus.BAD_REQUEST, 9106, "The request does not say who is asking.")
        if self._is_own(headers):
            is_forbidden = kind not in _OPEN_TO_READERS and kind != "get" and not self.own_may_write
            refusal = find_standing(self.own_behaviour).when_read or (FORBIDDEN if is_forbidden else None)
            return refusal and refuse(*refusal)
        if bearer is None or kind not in _OPEN_TO_READERS:
            return refuse(HTTPStatus.UNAUTHORIZED, 10000, "Authentication error")
        refusal = self._find_standing(bearer.removeprefix("Bearer "), route.bucket).when_read
        return refusal and refuse(*refusal)

    def _check_route(self, route: Route) -> web.Response | None:
        is_offered = route.kind != "status" or (self.offers_status and route.family == "basin-catalog")
        if not _ACCOUNT_ID.fullmatch(route.account) or route.family not in self.families or not is_offered:
            return refuse(HTTPStatus.NOT_FOUND, 7003, "There is no route to this address; is the id right?")
        return None if route.account == self.account_id else refuse(*NOT_ALLOWED)

    def _verify(self, route: Route, headers: Mapping[str, str]) -> web.Response:
        """Answer a token that asks about itself; `route` has no account at the endpoint for users' tokens."""
        bearer = headers.get("authorization", "")
        if not _BEARER.fullmatch(bearer):
            cause = (6111, "Invalid format for Authorization header")
            return refuse(HTTPStatus.BAD_REQUEST, 6003, "Invalid request headers", cause)
        token = bearer.removeprefix("Bearer ")
        is_own = self._is_own(headers)
        behaviour = self.own_behaviour if is_own else self._judge(token)
        self._verifications[token] += 1
        if behaviour is Behaviour.VERIFY_DOWN and self._verifications[token] <= _TRIES_WHILE_DOWN:
            return show_page(HTTPStatus.SERVICE_UNAVAILABLE, "503: the server is down")
        standing = find_standing(behaviour) if is_own else self._find_standing(token)
        if standing.when_verified is not None:
            return refuse(*standing.when_verified)
        if not standing.is_known or is_account_owned(token) is not bool(route.account):
            return refuse(*INVALID_TOKEN)
        if route.account and (route.account != self.account_id or not standing.is_of_this_account):
            return refuse(*NOT_ALLOWED)
        return accept_token(standing.describe(token, self._clock()))

    def _show_policies(self, route: Route, headers: Mapping[str, str]) -> web.Response:
        """Answer what a token may do, if the bot's own token asks about itself and may read that."""
        token = headers.get("authorization", "").removeprefix("Bearer ")
        described = find_standing(self.own_behaviour).describe(token, self._clock())
        is_at_home = is_account_owned(token) is bool(route.account) and route.account in ("", self.account_id)
        if not (self._is_own(headers) and self.shows_policies and is_at_home and route.token_id == described["id"]):
            return refuse(*UNAUTHORIZED)
        return accept({**described, **describe_policies(self.account_id, may_write=self.own_may_write)})

    def _find_standing(self, token: str, bucket: str = "") -> Standing:
        """Return how a token stands by now: the minting token, one that was created here, or a made-up one."""
        if token == self.minting_token:
            return MINTING_STANDINGS[self.minting_state]
        created = self.tokens.find(token)
        return find_standing(self._judge(token)) if created is None else self.tokens.judge(created, bucket)

    def _judge(self, token: str) -> Behaviour:
        """Return how a token behaves by now: a revoked one is unknown, and a fresh one is for a while."""
        if token in self._revoked:
            return Behaviour.UNKNOWN
        behaviour = judge_token(token)
        if behaviour is not Behaviour.FRESH:
            return behaviour
        now = self._timer()
        age = now - self._first_seen_at.setdefault(token, now)
        return Behaviour.UNKNOWN if age < self.fresh_seconds else Behaviour.GOOD

    def _probe(self, bucket: SmallBucket) -> Literal["valid", "invalid", "absent"]:
        if bucket.token is None:
            return "absent"
        created = self.tokens.find(bucket.token)
        if created is not None:
            return "valid" if self.tokens.judge(created, bucket.name).is_valid_in_a_slot else "invalid"
        # By its text alone: a fresh token starts over once it is stored, and what a slot holds must not.
        is_known = bucket.token not in self._revoked
        return "valid" if is_known and find_standing(judge_token(bucket.token)).is_valid_in_a_slot else "invalid"

    async def _store(self, name: str, family: str, body: bytes) -> web.Response:
        """Judge the token before the bucket, as Cloudflare does, then fill the slot."""
        token = _read_token(body)
        if token is None:
            return web.Response(status=HTTPStatus.UNPROCESSABLE_ENTITY, text="The JSON body could not be read.")
        behaviour = self._judge(token)
        tried = self._tries[name, token]
        self._tries[name, token] += 1
        bucket = self.buckets.get(name)
        refusal = (
            self._refuse_token(token, name)
            or self._behave(behaviour, tried)
            or refuse_bucket(bucket, must_be_active=True)
        )
        if refusal is not None or bucket is None:
            return refusal or accept(None)
        self._write(bucket, token, family)
        if behaviour is Behaviour.SLOW:
            await asyncio.sleep(self.slow_delay)
        if behaviour is Behaviour.ANSWER_LOST and tried == 0:
            raise Dropped
        self._start_over(name, token)
        return accept(None)

    def _write(self, bucket: SmallBucket, token: str, family: str) -> None:
        bucket.token = token
        self.writes.append(Write(bucket=bucket.name, token=token, family=family, at=self._clock()))
        self.on_write()

    def _start_over(self, name: str, token: str) -> None:
        """Forget what a token has met: anyone who submits it again is to see its trouble again."""
        self._tries.pop((name, token), None)
        self._verifications.pop(token, None)
        self._first_seen_at.pop(token, None)

    def _refuse_token(self, token: str, bucket: str) -> web.Response | None:
        refusal = self._find_standing(token, bucket).when_stored
        return refusal and refuse(*refusal)

    def _behave(self, behaviour: Behaviour, tried: int) -> web.Response | None:
        if behaviour is Behaviour.RATE_LIMITED and tried == 0:
            return throttle(self.retry_after)
        if behaviour is Behaviour.SERVER_DOWN and tried < _TRIES_WHILE_DOWN:
            return show_page(HTTPStatus.SERVICE_UNAVAILABLE, "503: the server is down")
        if behaviour is Behaviour.CHALLENGED:
            response = show_page(HTTPStatus.FORBIDDEN, "Are you human?")
            response.headers["cf-mitigated"] = "challenge"
            return response
        return None

    def _enable(self, name: str) -> web.Response:
        bucket = self.buckets.get(name)
        if bucket is None:
            return refuse(HTTPStatus.NOT_FOUND, 40406, "There is no such bucket.")
        bucket.catalog = "active"
        described = bucket.describe(self.account_id)
        return accept({"id": described["id"], "name": described["name"]})


def _cut(request: web.Request) -> None:
    transport = request.transport
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _throttle(allowance: Allowance | None) -> web.Response | None:
    return None if allowance is None or allowance.is_taken else throttle(allowance.resets_in)


def _read_token(body: bytes) -> str | None:
    try:
        token = json.loads(body)["token"]
    except (ValueError, TypeError, KeyError):
        return None
    return token if isinstance(token, str) else None
