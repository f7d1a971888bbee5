"""Typed calls to Cloudflare's API. The only user of httpx; retries nothing and keeps no token.

No exception that leaves this module holds a request, a response or a frame that held one: they all carry secrets.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from http.cookiejar import CookieJar

import httpx

from bot import __version__
from bot.cloudflare.answers import (
    TokenVerification,
    parse_catalog,
    parse_list,
    parse_test,
    parse_verification,
    parse_write_right,
)
from bot.cloudflare.auth import ApiKey, ApiToken, Bearer, CallerAuth, CredentialBody, Fence
from bot.cloudflare.budget import Limits, Urgency, parse_limits
from bot.cloudflare.connections import Connections
from bot.cloudflare.diagnosis import Answer, read_result
from bot.cloudflare.errors import (
    BlockedOnTheWay,
    CatalogInactive,
    CatalogRefusal,
    CloudflareError,
    CloudflareUnreachable,
    NoSuchBucket,
    RequestRejected,
    RouteGone,
    Throttled,
)
from bot.cloudflare.pace import MOST_IN_FLIGHT, Pace
from bot.cloudflare.silence import explain_silence, read_status_of_proxy
from bot.metrics import CLOUDFLARE_DURATION, CLOUDFLARE_REQUESTS, NONE, OTHER, Metrics
from bot.model.catalog import BucketKey, Catalog, CatalogApi, CatalogStatus, CredentialStatus, is_bucket_name
from bot.model.cause import name_cause
from bot.model.clock_comparison import ClockComparison
from bot.model.errors import BotError, DatabaseTrouble, LeaseLost
from bot.model.request_log import start_request
from bot.model.right_of_way import RightOfWay
from bot.model.secret import Secret
from bot.model.submission import TokenKind
from bot.network import DIRECT, Network

CONNECT_TIMEOUT = timedelta(seconds=5)
TOTAL_TIMEOUT = timedelta(seconds=30)
_DEFAULT_RETRY_AFTER = timedelta(seconds=1)
LARGEST_ANSWER_BYTES = 4 * 1024 * 1024
"""A list of 10,000 catalogs takes 3 MB."""
MOST_PARTS = 300_000
"""Lists, objects and commas: 10,000 catalogs have half as many; 4 MB of nothing else take 180 MB when parsed."""
_SMALL_BYTES = 64 * 1024
"""Larger answers are parsed in a thread, so that no acknowledgement to Slack waits for them."""
NOT_OFFERED_FOR = timedelta(hours=1)
"""How long the test of stored credentials counts as not offered before it is tried again."""

_CALLS = {
    ("GET", ""): "get_catalog",
    ("GET", "credential/status"): "test_credential",
    ("POST", "credential"): "store_credential",
    ("POST", "enable"): "enable_catalog",
}
"""The calls about one bucket, by what follows its name."""

_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
_HEADERS = {
    "User-Agent": f"r2-credential-bot/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}
_NO_ENCODING = frozenset({"", "identity"})
# Nothing was sent when one of these was raised, so a write cannot have landed.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
)
# At DEBUG, these log response headers, URLs with the account, and the value of a refused header.
_TALKATIVE_LOGGERS = (
    "httpx",
    "httpcore",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)


class Turn:
    """The right to send one request now. Give it back if it is not used.

    Further requests of the same call have the same urgency.
    """

    def __init__(self, pace: Pace | None, urgency: Urgency) -> None:
        self._pace = pace
        self.urgency = urgency

    def use(self) -> bool:
        """Use it up; return whether it was still unused."""
        pace, self._pace = self._pace, None
        return pace is not None

    def give_back(self) -> None:
        """Return it to the pace, unless it was used."""
        if self._pace is not None:
            self._pace.done(None)
            self._pace = None


class CloudflareClient:
    """A client for one account, with a connection for each request in flight. Close it with `aclose()`.

    For a bucket of another account, nothing is sent and NoSuchBucket is raised.
    Every call raises only `CloudflareError`s, LeaseLost (those with `may_send`) and DatabaseTrouble (where the
    pace is kept in a database), follows no redirect and is safe to repeat; a request takes 30 s at most. On `auto` a
    call can be two requests.
    `may_send` is called when a request is about to go out, and False raises LeaseLost: a process that was frozen before
    that point sends nothing when it wakes up. Errors that it raises pass through.
    Requests with a pasted token take turns like all others. But the limits in their answers are those of that token,
    so they neither correct nor stop the account's pace.
    A compressed or too large answer is not read, and no cookie is kept. Echoes of the pasted token and of the bot's
    own credentials are removed from an answer before any other code sees it.
    TLS certificates are always verified. `network` decides on the proxy and on the certificates that are trusted.
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
        timer: Callable[[], float] = time.monotonic,
        network: Network = DIRECT,
        comparison: ClockComparison | None = None,
        metrics: Metrics | None = None,
        right_of_way: RightOfWay | None = None,
    ) -> None:
        _silence_loggers()
        url = _require_safe_url(base_url)
        if not _ACCOUNT_ID.fullmatch(account_id):
            message = "an account id is 32 lower-case hexadecimal digits"
            raise ValueError(message)
        self.account_id = account_id
        self.credentials = auth
        self._account_path = f"accounts/{account_id}"
        self._catalog_api = catalog_api
        self._pace = pace
        self._preferred = CatalogApi.R2_CATALOG
        self._total_timeout = total_timeout
        self._timer = timer
        self._comparison = comparison or ClockComparison()
        self._metrics = metrics or Metrics()
        self._right_of_way = right_of_way or RightOfWay()
        self._not_offered_until = float("-inf")
        self._caller = CallerAuth(auth)
        proxy = _proxy(network, url)
        self._has_proxy = proxy is not None
        connect, total = CONNECT_TIMEOUT.total_seconds(), total_timeout.total_seconds()
        self._http = httpx.AsyncClient(
            auth=self._caller,
            base_url=url,
            headers=_HEADERS,
            cookies=_NoCookies(),
            timeout=httpx.Timeout(total, connect=connect, pool=connect),
            follow_redirects=False,
            transport=transport or _connections(network, proxy),
            trust_env=False,  # see bot/network.py
        )

    @property
    def catalog_api(self) -> CatalogApi:
        """The path family that the settings name, or on `auto` the one that answered last."""
        return self._list_families()[0]

    @property
    def is_family_chosen(self) -> bool:
        """Whether the settings name the only path family to use."""
        return self._catalog_api is not CatalogApi.AUTO

    async def turn(self, urgency: Urgency) -> Turn | datetime:
        """Wait in the queue and return the right to send a request; or return at once when to ask again.

        A call whose turn was already used waits for another one of the same urgency, and raises Throttled if nothing
        of that urgency may be sent for a while. A call without a turn has the lowest urgency. Raises DatabaseTrouble.
        """
        await self._right_of_way.give_way(urgency)
        if self._pace is None:
            return Turn(None, urgency)
        return await self._pace.turn(urgency) or Turn(self._pace, urgency)

    async def list_catalogs(self, turn: Turn | None = None) -> list[Catalog]:
        """Return all catalogs of the account, in Cloudflare's order; entries without a bucket name are left out."""
        return parse_list(*await self._call("GET", turn=turn), self.account_id)

    async def verify_own_token(self, owner: TokenKind, turn: Turn | None = None) -> TokenVerification:
        """Verify the bot's own token; see `verify_token`. A Global API key cannot be verified."""
        return parse_verification(*await self._request("GET", f"{self._place(owner)}/tokens/verify", turn=turn))

    async def may_own_token_write(self, owner: TokenKind, token_id: str, turn: Turn | None = None) -> bool:
        """Return whether the policies of the bot's own token, whose id is `token_id`, let it write catalogs.

        Few tokens may read policies: the others get a CallerRejected or CallerLacksPermission.
        """
        answered = await self._request("GET", f"{self._place(owner)}/tokens/{token_id}", turn=turn)
        return parse_write_right(*answered, self.account_id)

    async def get_catalog(self, key: BucketKey, turn: Turn | None = None) -> Catalog:
        """Return the catalog of one bucket; raises AnswerNotUnderstood for an answer about another bucket."""
        return await self._get_catalog(key, turn)

    async def verify_token(
        self,
        token: Secret,
        owner: TokenKind,
        may_send: Callable[[], Awaitable[bool]],
        turn: Turn | None = None,
    ) -> TokenVerification:
        """Verify a pasted token, with that token: at the user's endpoint if `owner` is USER, else at the account's.

        This says nothing about the token's permissions. A refusal is raised as CallerRejected, as for the bot's own
        credentials; `bot.delivery.judge` decides what it means for a pasted token.
        """
        url = f"{self._place(owner)}/tokens/verify"
        return parse_verification(*await self._request("GET", url, turn=turn, cargo=Bearer(token, may_send)))

    async def get_catalog_as(
        self, key: BucketKey, token: Secret, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> Catalog:
        """Return the catalog of one bucket, requested with a pasted token, which proves that this token can read it.

        A refusal is raised as for the bot's own credentials; see `verify_token`.
        """
        return await self._get_catalog(key, turn, Bearer(token, may_send))

    async def test_credential(self, key: BucketKey, turn: Turn | None = None) -> CredentialStatus:
        """Have Cloudflare test the slot's credential: VALID, INVALID or ABSENT; raises RouteGone if not offered.

        Only the newer path family has this route. If it was missing within the last hour, nothing is sent.
        """
        bucket = self._require_possible(key)
        if self._catalog_api is CatalogApi.R2_CATALOG or self._timer() < self._not_offered_until:
            raise RouteGone
        try:
            answered = await self._request(
                "GET", self._path(CatalogApi.BASIN_CATALOG, bucket, "credential", "status"), turn=turn
            )
        except RouteGone:
            self._not_offered_until = self._timer() + NOT_OFFERED_FOR.total_seconds()
            raise
        return parse_test(*answered)

    async def enable_catalog(
        self, key: BucketKey, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> None:
        """Give a bucket a catalog, or switch its catalog on again; an active catalog stays as it is.

        A 409 ("Catalog already enabled", OpenAPI) says that it exists; a second request finds out whether it is on.
        """
        bucket = self._require_possible(key)
        try:
            await self._call("POST", bucket, "enable", turn=turn, cargo=Fence(may_send))
        except RequestRejected as answer:
            if answer.status != HTTPStatus.CONFLICT:
                raise
        else:
            return
        catalog = await self._get_catalog(key, turn)
        if catalog.status is not CatalogStatus.ACTIVE:
            raise CatalogInactive(status=HTTPStatus.CONFLICT, cf_ray=catalog.cf_ray)

    async def store_credential(
        self, key: BucketKey, token: Secret, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> str | None:
        """Write `token` into the bucket's slot; return the `cf-ray`, but only after an unambiguous success.

        `may_send` is called twice: before the headers and before the body go out.
        After an error with `possibly_landed`, the slot may or may not hold `token`.
        """
        bucket = self._require_possible(key)
        answer, _ = await self._call("POST", bucket, "credential", turn=turn, cargo=CredentialBody(token, may_send))
        return answer.cf_ray

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _get_catalog(self, key: BucketKey, turn: Turn | None = None, cargo: Fence | None = None) -> Catalog:
        bucket = self._require_possible(key)
        return parse_catalog(*await self._call("GET", bucket, turn=turn, cargo=cargo), key)

    async def _call(
        self, method: str, *path: str, turn: Turn | None = None, cargo: Fence | None = None
    ) -> tuple[Answer, object]:
        """Call the family that answered last and, on `auto`, its twin when that route is gone."""
        gone: RouteGone | None = None
        for family in self._list_families():
            try:
                answered = await self._request(method, self._path(family, *path), turn=turn, cargo=cargo)
            except RouteGone as error:
                gone = gone or error
            except CatalogRefusal:
                self._preferred = family
                raise
            else:
                self._preferred = family
                return answered
        raise gone or RouteGone()

    async def _request(
        self, method: str, url: str, *, turn: Turn | None = None, cargo: Fence | None = None
    ) -> tuple[Answer, object]:
        """Send one request in its turn, and return what its answer says."""
        await self._enter(turn)
        end = start_request("cloudflare_request", method=method, path=_describe_path(url))
        outcome, began = None, time.monotonic()
        try:
            outcome = await self._exchange(method, url, cargo)
        finally:  # also when the caller gave up
            self._count(_name_call(method, url), outcome, time.monotonic() - began)
        end(outcome.status if isinstance(outcome, Answer) else str(outcome))
        # Raised here, outside every `except` block: an exception's context would keep httpx's request alive.
        if isinstance(outcome, BotError):
            raise outcome
        try:
            return outcome, read_result(outcome, is_write=method != "GET")
        except Throttled as error:
            if self._pace is not None and not isinstance(cargo, Bearer):
                await self._pace.block(error.retry_after or _DEFAULT_RETRY_AFTER)
            raise

    def _count(self, call: str, outcome: Answer | BotError | None, seconds: float) -> None:
        if not isinstance(outcome, LeaseLost | DatabaseTrouble):  # those stopped it before anything was sent
            self._metrics.count(CLOUDFLARE_REQUESTS, call, str(outcome.status) if isinstance(outcome, Answer) else NONE)
            self._metrics.observe(CLOUDFLARE_DURATION, seconds, call)

    async def _enter(self, turn: Turn | None) -> None:
        """Use the turn, or take another one of the same urgency: on `auto` a call can be two requests."""
        if turn is not None and turn.use():
            return
        urgency = Urgency.BACKGROUND if turn is None else turn.urgency
        await self._right_of_way.give_way(urgency)
        if self._pace is not None and await self._pace.turn(urgency) is not None:
            raise Throttled

    def _require_possible(self, key: BucketKey) -> str:
        """Return the bucket's name; raises NoSuchBucket for another account and for an impossible name."""
        if key.account_id != self.account_id or not is_bucket_name(key.bucket):
            raise NoSuchBucket
        return key.bucket

    def _place(self, owner: TokenKind) -> str:
        """Return the path below which Cloudflare keeps the tokens of that owner."""
        return "user" if owner is TokenKind.USER else self._account_path

    def _path(self, family: CatalogApi, *path: str) -> str:
        return "/".join([self._account_path, family.value, *path])

    def _list_families(self) -> list[CatalogApi]:
        if self._catalog_api is not CatalogApi.AUTO:
            return [self._catalog_api]
        families = [CatalogApi.R2_CATALOG, CatalogApi.BASIN_CATALOG]
        return sorted(families, key=lambda family: family is not self._preferred)

    async def _exchange(self, method: str, url: str, cargo: Fence | None) -> Answer | BotError:
        """Send one request and read its answer. The frames below hold the secrets and must not outlive it."""
        limits: Limits | None = None
        try:
            async with asyncio.timeout(self._total_timeout.total_seconds()):
                answer = await self._send(method, url, cargo)
                self._comparison.note("Cloudflare", answer.headers.get("date"))
                limits = None if isinstance(cargo, Bearer) else parse_limits(answer.headers)
                return answer
        except (LeaseLost, DatabaseTrouble) as stopped:
            return type(stopped)()
        except (httpx.HTTPError, OSError) as error:  # a TimeoutError is an OSError
            silence = self._describe_silence(error, is_write=method != "GET")
        except asyncio.CancelledError as cancelled:
            cancelled.__context__ = None
            raise cancelled.with_traceback(None) from None
        finally:
            if self._pace is not None:
                self._pace.done(limits)
        return silence

    def _describe_silence(self, error: Exception, *, is_write: bool) -> CloudflareError:
        """Return our error for a missing answer.

        A proxy's 4xx is final: taken for a network failure, it was retried until the deadline, although the operator
        has to configure the proxy's login.
        """
        why, status = explain_silence(error, has_proxy=self._has_proxy), read_status_of_proxy(error)
        if status is not None and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return BlockedOnTheWay(status=status, why=why)
        possibly_landed = is_write and not isinstance(error, _NEVER_SENT)
        return CloudflareUnreachable(possibly_landed=possibly_landed, failure=name_cause(error), why=why)

    async def _send(self, method: str, url: str, cargo: Fence | None) -> Answer:
        body = cargo if isinstance(cargo, CredentialBody) else None
        auth = cargo if isinstance(cargo, Bearer) else httpx.USE_CLIENT_DEFAULT
        headers = {"Content-Type": "application/json", "Content-Length": str(body.length)} if body else {}
        extensions = {"trace": cargo.watch} if cargo else {}
        response: httpx.Response | None = None
        try:
            async with self._http.stream(
                method, url, content=body, headers=headers, auth=auth, extensions=extensions
            ) as response:
                headers_received = response.headers.multi_items()  # each lookup by name would scan them all
                received = await _read_body(response, headers_received)
        finally:
            # An answer and its stream refer to each other: until a collection, they would keep the request's token, and
            # forever if they were frozen meanwhile (bot/app.py).
            if response is not None:
                response.stream = httpx.ByteStream(b"")
        parse = partial(
            Answer.parse,
            status=response.status_code,
            headers=headers_received,
            body=received,
            echo=self._caller.echo(cargo),
        )
        return parse() if len(received or b"") <= _SMALL_BYTES else await asyncio.to_thread(parse)


class _NoCookies(CookieJar):
    """Discards cookies: one that echoes a person's token would be sent with everyone's requests."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Discard them."""


def _describe_path(path: str) -> str:
    """Return the template of a path: user/tokens/verify, accounts/ID/tokens/ID, accounts/ID/FAMILY/BUCKET/..."""
    parts = path.split("/")
    is_of_account = parts[0] == "accounts"
    if is_of_account:
        parts[1] = "{account}"
    head, rest = parts[: 2 + is_of_account], parts[2 + is_of_account :]
    if head[-1] == "tokens" and rest != ["verify"]:
        rest = ["{token}"]
    elif head[-1] != "tokens" and rest:
        rest[0] = "{bucket}"
    return "/".join([*head, *rest])


def _name_call(method: str, path: str) -> str:
    """Return the name of a call: that of the function here that makes it."""
    parts = path.split("/")
    if "tokens" in parts[1:3]:
        return "verify_token" if parts[-1] == "verify" else "get_token"
    place = "/".join(parts[3:]).partition("/")  # the bucket, and what is below it
    return _CALLS.get((method, place[2]), OTHER) if place[0] else "list_catalogs"


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


def _proxy(network: Network, url: httpx.URL) -> httpx.Proxy | None:
    proxy = network.proxy_for(url.scheme, url.host, url.port)
    if proxy is None:
        return None
    context = network.tls_context() if proxy.address.startswith("https:") else None
    return httpx.Proxy(proxy.address, headers=proxy.headers(), ssl_context=context)


def _connections(network: Network, proxy: httpx.Proxy | None) -> Connections:
    make = partial(httpx.AsyncHTTPTransport, verify=network.tls_context(), proxy=proxy, trust_env=False)
    return Connections(make, most_idle=MOST_IN_FLIGHT)  # the pace lets no more be in flight


async def _read_body(response: httpx.Response, headers: Iterable[tuple[str, str]]) -> bytes | None:
    """Read at most LARGEST_ANSWER_BYTES, and nothing compressed: 1 KB of gzip in gzip can be 1 GB of text."""
    encodings = (each for name, value in headers if name == "content-encoding" for each in value.split(","))
    if any(encoding.strip().lower() not in _NO_ENCODING for encoding in encodings):
        return None
    received = bytearray()
    async for part in response.aiter_bytes():
        received += part
        if len(received) > LARGEST_ANSWER_BYTES:
            return None
    parts = sum(received.count(sign) for sign in (b",", b"[", b"{"))
    return bytes(received) if parts <= MOST_PARTS else None
