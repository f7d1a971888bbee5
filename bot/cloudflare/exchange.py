"""Sends one request to Cloudflare in its turn and reads its answer: what all clients share.

Retries nothing. No exception that leaves this module holds a request, a response or a frame that held one: they all
carry secrets.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from http.cookiejar import CookieJar
from typing import Final, Protocol

import httpx

from bot import __version__
from bot.cloudflare.auth import ApiKey, ApiToken, Bearer, Body, CallerAuth, Fence
from bot.cloudflare.budget import Limits, Urgency, parse_limits
from bot.cloudflare.calls import describe_path, name_call
from bot.cloudflare.connections import Connections
from bot.cloudflare.diagnosis import Answer, read_result
from bot.cloudflare.errors import BlockedOnTheWay, CloudflareError, CloudflareUnreachable, Throttled
from bot.cloudflare.pace import MOST_IN_FLIGHT, Pace
from bot.cloudflare.silence import explain_silence, read_status_of_proxy
from bot.metrics import CLOUDFLARE_DURATION, CLOUDFLARE_REQUESTS, NONE, Metrics
from bot.model.cause import name_cause
from bot.model.clock_comparison import ClockComparison
from bot.model.errors import BotError, DatabaseTrouble, LeaseLost
from bot.model.request_log import start_request
from bot.model.right_of_way import RightOfWay
from bot.network import DIRECT, Network

CONNECT_TIMEOUT: Final = timedelta(seconds=5)
TOTAL_TIMEOUT: Final = timedelta(seconds=30)
_DEFAULT_RETRY_AFTER: Final = timedelta(seconds=1)
LARGEST_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""A list of 10,000 catalogs takes 3 MB."""
MOST_PARTS: Final = 300_000
"""Lists, objects and commas: 10,000 catalogs have half as many; 4 MB of nothing else take 180 MB when parsed."""
_SMALL_BYTES: Final = 64 * 1024
"""Larger answers are parsed in a thread, so that no acknowledgement to Slack waits for them."""

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


class Reader(Protocol):
    """Returns what an answer says, or raises the error that it stands for."""

    def __call__(self, answer: Answer, *, is_write: bool) -> object:
        """With `is_write`, an unclear answer may mean that something was written. Raises only `CloudflareError`s."""
        ...


class Exchange:
    """The way to Cloudflare with one set of credentials, in one pace. Close it with `aclose()`.

    It has a connection for each request in flight. `send` raises only what `read` raises, CloudflareUnreachable,
    BlockedOnTheWay, Throttled, LeaseLost (with a cargo) and DatabaseTrouble (where the pace is kept in a database),
    follows no redirect, and takes 30 s at most.
    Strings with one of the `secret_names` in an answer are `Secret`s as soon as it is parsed.
    The limits in the answer to a pasted token are those of that token: they neither correct nor stop the pace.
    A compressed or too large answer is not read, and no cookie is kept. Echoes of the request's secrets are removed
    from an answer before any other code sees it.
    TLS certificates are always verified. `network` decides on the proxy and on the certificates that are trusted.
    """

    def __init__(  # noqa: PLR0913 - the settings of a connection, by name
        self,
        *,
        base_url: str,
        auth: ApiToken | ApiKey,
        read: Reader = read_result,
        secret_names: Collection[str] = (),
        pace: Pace | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        total_timeout: timedelta = TOTAL_TIMEOUT,
        network: Network = DIRECT,
        comparison: ClockComparison | None = None,
        metrics: Metrics | None = None,
        right_of_way: RightOfWay | None = None,
    ) -> None:
        _silence_loggers()
        url = _require_safe_url(base_url)
        self.pace = pace
        self._read = read
        self._secret_names = secret_names
        self._total_timeout = total_timeout
        self._comparison = comparison or ClockComparison()
        self._metrics = metrics or Metrics()
        self._right_of_way = right_of_way or RightOfWay()
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

    async def turn(self, urgency: Urgency) -> Turn | datetime:
        """Wait in the queue and return the right to send a request; or return at once when to ask again.

        A call whose turn was already used waits for another one of the same urgency, and raises Throttled if nothing
        of that urgency may be sent for a while. A call without a turn has the lowest urgency. Raises DatabaseTrouble.
        """
        await self._right_of_way.give_way(urgency)
        if self.pace is None:
            return Turn(None, urgency)
        return await self.pace.turn(urgency) or Turn(self.pace, urgency)

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        turn: Turn | None = None,
        cargo: Fence | None = None,
    ) -> tuple[Answer, object]:
        """Send one request in its turn, and return its answer and what that says."""
        await self._enter(turn)
        end = start_request("cloudflare_request", method=method, path=describe_path(path))
        outcome, began = None, time.monotonic()
        try:
            outcome = await self._exchange(method, path, query, cargo)
        finally:  # also when the caller gave up
            self._count(name_call(method, path), outcome, time.monotonic() - began)
        end(outcome.status if isinstance(outcome, Answer) else str(outcome))
        # Raised here, outside every `except` block: an exception's context would keep httpx's request alive.
        if isinstance(outcome, BotError):
            raise outcome
        try:
            return outcome, self._read(outcome, is_write=method != "GET")
        except Throttled as error:
            if self.pace is not None and not isinstance(cargo, Bearer):
                await self.pace.block(error.retry_after or _DEFAULT_RETRY_AFTER)
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

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
        if self.pace is not None and await self.pace.turn(urgency) is not None:
            raise Throttled

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, cargo: Fence | None
    ) -> Answer | BotError:
        """Send one request and read its answer. The frames below hold the secrets and must not outlive it."""
        limits: Limits | None = None
        try:
            async with asyncio.timeout(self._total_timeout.total_seconds()):
                answer = await self._send(method, path, query, cargo)
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
            if self.pace is not None:
                self.pace.done(limits)
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

    async def _send(self, method: str, path: str, query: Mapping[str, str] | None, cargo: Fence | None) -> Answer:
        body = cargo if isinstance(cargo, Body) else None
        auth = cargo if isinstance(cargo, Bearer) else httpx.USE_CLIENT_DEFAULT
        headers = {"Content-Type": "application/json", "Content-Length": str(body.length)} if body else {}
        extensions = {"trace": cargo.watch} if cargo else {}
        response: httpx.Response | None = None
        try:
            async with self._http.stream(
                method, path, params=query, content=body, headers=headers, auth=auth, extensions=extensions
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
            secret_names=self._secret_names,
        )
        return parse() if len(received or b"") <= _SMALL_BYTES else await asyncio.to_thread(parse)


class _NoCookies(CookieJar):
    """Discards cookies: one that echoes a person's token would be sent with everyone's requests."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Discard them."""


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
