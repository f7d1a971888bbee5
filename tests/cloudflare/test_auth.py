"""A secret goes where it must and nowhere else: with every call, through every ending."""

import asyncio
import gc
import json
import logging
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType

import httpx
import pytest
import pytest_asyncio

from bot.cloudflare.auth import ApiKey, ApiToken, Bearer, CallerAuth, CredentialBody, Fence
from bot.cloudflare.budget import Limits, Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import AnswerNotUnderstood, CloudflareError, RouteGone, Throttled, TokenMalformed
from bot.cloudflare.exchange import Turn
from bot.cloudflare.pace import LocalPace
from bot.model.catalog import BucketKey
from bot.model.errors import BotError, DatabaseUnavailable, LeaseLost
from bot.model.secret import Secret
from bot.model.submission import TokenKind
from bot.sandbox.cloudflare import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_API_KEY,
    SANDBOX_API_TOKEN,
    SANDBOX_EMAIL,
    FakeCloudflare,
)
from bot.sandbox.tokens import Behaviour, make_token
from tests.leaks import find_leaks

TOKEN = make_token(Behaviour.GOOD, 4242)
BEARER = ApiToken(token=Secret(SANDBOX_API_TOKEN))
KEY = ApiKey(email=SANDBOX_EMAIL, key=Secret(SANDBOX_API_KEY))
LAKE = BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket="lake")
OWN_HEADERS = {"authorization", "x-auth-email", "x-auth-key"}
Handler = Callable[[httpx.Request], httpx.Response]
Call = Callable[[CloudflareClient, str], Awaitable[object]]


async def _yes() -> bool:
    return True


async def _no_more() -> bool:
    return False


async def _no_answer() -> bool:
    raise DatabaseUnavailable


CALLS_WITH_TOKEN: dict[str, Call] = {
    "verify, of a user": lambda client, token: client.verify_token(Secret(token), TokenKind.USER, _yes),
    "verify, of the account": lambda client, token: client.verify_token(Secret(token), TokenKind.ACCOUNT, _yes),
    "read": lambda client, token: client.get_catalog_as(LAKE, Secret(token), _yes),
    "store": lambda client, token: client.store_credential(LAKE, Secret(token), _yes),
}
AS_HEADER = ["verify, of a user", "verify, of the account", "read"]
OTHER_CALLS: dict[str, Call] = {
    "list": lambda client, _: client.list_catalogs(),
    "get": lambda client, _: client.get_catalog(LAKE),
    "test": lambda client, _: client.test_credential(LAKE),
    "enable": lambda client, _: client.enable_catalog(LAKE, _yes),
}


@dataclass(slots=True)
class PaceNotes:
    """A pace that lets every request go, and records its calls."""

    done_with: list[Limits | None] = field(default_factory=list)
    blocked_for: list[timedelta] = field(default_factory=list)
    turns: int = 0
    urgencies: list[Urgency] = field(default_factory=list)
    stopped_until: datetime | None = None

    async def turn(self, urgency: Urgency) -> datetime | None:
        """Let it go, unless stopped."""
        self.turns += self.stopped_until is None
        self.urgencies.append(urgency)
        return self.stopped_until

    def done(self, limits: Limits | None) -> None:
        """Record it."""
        self.done_with.append(limits)

    async def block(self, retry_after: timedelta) -> None:
        """Record it."""
        self.blocked_for.append(retry_after)


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Callable[..., CloudflareClient]]:
    """Build clients, and close them afterwards."""
    clients: list[CloudflareClient] = []

    def build(
        handler: Handler | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        base_url: str = "https://api.example.com/client/v4",
        auth: ApiToken | ApiKey = BEARER,
        pace: PaceNotes | LocalPace | None = None,
    ) -> CloudflareClient:
        clients.append(
            CloudflareClient(
                account_id=SANDBOX_ACCOUNT_ID,
                base_url=base_url,
                auth=auth,
                pace=pace,
                transport=httpx.MockTransport(handler) if handler else transport,
            )
        )
        return clients[-1]

    yield build
    for client in clients:
        await client.aclose()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FakeCloudflare]:
    """Start a fake Cloudflare with one bucket."""
    async with FakeCloudflare() as small:
        small.add_bucket("lake")
        yield small


Make = Callable[..., CloudflareClient]


def _ok(result: object, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": result}, headers=named)


def _no(status: int, code: int, message: str = "made up", **headers: str) -> httpx.Response:
    envelope = {"success": False, "errors": [{"code": code, "message": message}]}
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.Response(status, json=envelope, headers=named)


def _anything(**headers: str) -> httpx.Response:
    """Return a body that every call here accepts as a success."""
    result = {"id": "1f" * 16, "status": "active", "bucket": "lake", "warehouses": []}
    return _ok(result, **headers)


def _find_any(text: str, *secrets: str) -> list[str]:
    return [found for secret in secrets for found in find_leaks(text.encode(), secret)]


# Where a secret is in a request.


@pytest.mark.parametrize("auth", [BEARER, KEY], ids=["bearer", "e-mail and key"])
@pytest.mark.parametrize("name", AS_HEADER)
async def test_a_pasted_token_goes_alone_in_one_header_of_its_own_request(
    server: FakeCloudflare, make: Make, name: str, auth: ApiToken | ApiKey
) -> None:
    """Instead of the bot's own credentials, never with them, and not in the path, the body or another header."""
    token = make_token(Behaviour.GOOD, 7, "cfut_") if name == "verify, of a user" else TOKEN  # type: ignore[arg-type]  # its value
    await CALLS_WITH_TOKEN[name](make(base_url=server.base_url, auth=auth), token)

    [request] = server.requests
    headers = dict(request.headers)
    assert headers.pop("authorization") == f"Bearer {token}"
    assert OWN_HEADERS.isdisjoint(headers)
    elsewhere = repr([request.method, request.path, headers, request.body])
    assert [find_leaks(elsewhere.encode(), secret) for secret in (token, SANDBOX_API_TOKEN, SANDBOX_API_KEY)] == [
        []
    ] * 3


@pytest.mark.parametrize("auth", [BEARER, KEY], ids=["bearer", "e-mail and key"])
async def test_a_stored_token_goes_in_the_body_only(
    server: FakeCloudflare, make: Make, auth: ApiToken | ApiKey
) -> None:
    """Next to the bot's own credentials, which are only in the headers."""
    await CALLS_WITH_TOKEN["store"](make(base_url=server.base_url, auth=auth), TOKEN)

    [request] = server.requests
    assert json.loads(request.body) == {"token": TOKEN}
    assert find_leaks(repr([request.path, dict(request.headers)]).encode(), TOKEN) == []
    assert find_leaks(request.body, SANDBOX_API_TOKEN) == []


@pytest.mark.parametrize("name", OTHER_CALLS)
async def test_no_later_request_carries_an_earlier_token(server: FakeCloudflare, make: Make, name: str) -> None:
    """The connection is the same, but the credentials are the bot's own again."""
    client = make(base_url=server.base_url)
    for call in CALLS_WITH_TOKEN.values():
        with suppress(CloudflareError):  # not a user's token
            await call(client, TOKEN)
    server.requests.clear()

    await OTHER_CALLS[name](client, TOKEN)

    [request] = server.requests
    assert request.headers["authorization"] == f"Bearer {SANDBOX_API_TOKEN}"
    assert find_leaks(repr([request.path, dict(request.headers), request.body]).encode(), TOKEN) == []


@pytest.mark.parametrize("name", CALLS_WITH_TOKEN)
async def test_no_redirect_carries_a_token_elsewhere(make: Make, name: str) -> None:
    """A redirect to another host is not understood and not followed."""
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://elsewhere.example.com/"})

    with pytest.raises(AnswerNotUnderstood):
        await CALLS_WITH_TOKEN[name](make(handler), TOKEN)
    assert seen == ["api.example.com"]


# What remains of it afterwards.


def _break(kind: Callable[[str], Exception], message: str = TOKEN) -> Handler:
    """Raise a new exception each time: httpx attaches the request to it."""

    def handler(request: httpx.Request) -> httpx.Response:
        raise kind(message)

    return handler


QUOTES: dict[str, Handler] = {
    "refused": lambda _: _no(401, 1000, f"no such token: {TOKEN}"),
    "refused without a known code": lambda _: _no(403, 99, TOKEN),
    "quoted in a page": lambda _: httpx.Response(503, text=f"<b>{TOKEN}</b>"),
    "quoted as a result": lambda _: _ok({"id": TOKEN, "status": TOKEN, "bucket": TOKEN}),
    "quoted as the ray": lambda _: httpx.Response(500, headers={"cf-ray": TOKEN}),
    "quoted as a date": lambda _: httpx.Response(429, headers={"retry-after": TOKEN, "date": TOKEN}),
    "gone": lambda _: _no(404, 7003, TOKEN),
    "throttled": lambda _: _no(429, 971, TOKEN, retry_after="5"),
    "never sent": _break(httpx.ConnectError),
    "broken": _break(httpx.ReadError),
    "refused by the library": _break(httpx.LocalProtocolError, f"Illegal header value b'Bearer {TOKEN}'"),
}


@pytest.mark.parametrize("answer", QUOTES.values(), ids=QUOTES)
@pytest.mark.parametrize("name", CALLS_WITH_TOKEN)
async def test_no_ending_keeps_the_token(
    make: Make, caplog: pytest.LogCaptureFixture, name: str, answer: Handler
) -> None:
    """No error, cause, frame, log line at DEBUG, or request that is still referenced."""
    caplog.set_level(logging.DEBUG)
    try:
        kept: object = await CALLS_WITH_TOKEN[name](make(answer), TOKEN)
    except CloudflareError as error:
        assert (error.__context__, error.__cause__) == (None, None)  # noqa: PT017 - some answers are a success of some call
        assert _find_secrets(error.__traceback__) == []  # noqa: PT017 - the same
        kept = error
    shown = [repr(kept), str(kept), repr(getattr(kept, "__dict__", "")), caplog.text]
    assert find_leaks("\n".join(shown).encode() + pickle.dumps(kept), TOKEN) == []
    assert [request for request in _requests_in_memory() if TOKEN in repr(request.headers.raw)] == []


def _requests_in_memory() -> list[httpx.Request]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, httpx.Request)]


def _find_secrets(traceback: TracebackType | None) -> list[str]:
    """List the locals, in frames outside this module, that are httpx's or show a secret."""
    return [
        f"{module}: {name}"
        for module, name, value in _list_locals(traceback)
        if isinstance(value, httpx.Request | httpx.Response | httpx.HTTPError)
        or any(secret in repr(value) for secret in (TOKEN, SANDBOX_API_TOKEN, SANDBOX_API_KEY))
        or module.startswith(("httpx", "httpcore"))
    ]


def _list_locals(traceback: TracebackType | None) -> Iterator[tuple[str, str, object]]:
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals["__name__"])
        if module != __name__:
            for name, value in traceback.tb_frame.f_locals.items():
                yield module, name, value
        traceback = traceback.tb_next


@pytest.mark.parametrize("name", AS_HEADER)
async def test_a_cancellation_keeps_no_token(server: FakeCloudflare, make: Make, name: str) -> None:
    """The exception that ends a task at shutdown drops httpx's frames."""
    server.fail_next("any", delay=5)
    task = asyncio.ensure_future(CALLS_WITH_TOKEN[name](make(base_url=server.base_url), TOKEN))
    while not server.requests:  # noqa: ASYNC110 - the server is the one under test's peer; it has no event to wait for
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.__context__ is None
    assert _find_secrets(caught.value.__traceback__) == []


@pytest.mark.parametrize("name", CALLS_WITH_TOKEN)
async def test_nothing_is_logged_at_debug(
    server: FakeCloudflare, make: Make, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Over a real socket, where httpcore would log each header that it sends and receives."""
    client = make(base_url=server.base_url)
    caplog.set_level(logging.DEBUG)
    with suppress(CloudflareError):
        await CALLS_WITH_TOKEN[name](client, TOKEN)
    assert [record.name for record in caplog.records if record.name.startswith("http")] == []
    assert find_leaks(caplog.text.encode(), TOKEN) == []


# What Cloudflare quotes.


@pytest.mark.parametrize("name", CALLS_WITH_TOKEN)
@pytest.mark.parametrize(
    "token",
    [
        pytest.param(TOKEN, id="of a known shape"),
        pytest.param("future.format:a+token=of/2031", id="of no known shape"),
        pytest.param("x" * 12, id="the shortest that is taken out"),
    ],
)
async def test_a_quoted_token_is_removed(make: Make, name: str, token: str) -> None:
    """However often it occurs, before anything reads the answer."""
    with pytest.raises(CloudflareError) as caught:
        await CALLS_WITH_TOKEN[name](make(lambda _: _no(400, 30005, f"{token}: bad ({token})")), token)
    assert caught.value.cloudflare_message == "[removed]: bad ([removed])"


def _escape(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in text)


ECHOES: dict[str, Callable[[str], httpx.Response]] = {
    "in escapes, as words": lambda secret: _raw(
        400, f'{{"errors": [{{"code": 30005, "message": "{_escape(secret)}"}}]}}'
    ),
    "with slashes, as words": lambda secret: _no(400, 1000, "/".join((secret[:14], secret[14:]))),
    "in pieces, as words": lambda secret: _no(400, 1000, f"{secret[:13]} and {secret[13:]}"),
    "in the chain": lambda secret: _raw(
        400, f'{{"errors": [{{"code": 6003, "error_chain": [{{"code": 6111, "message": "{secret[:13]}"}}]}}]}}'
    ),
    "as an id": lambda secret: _result(f'{{"id": "{_escape(secret[5:37])}", "status": "active"}}'),
    "as a bucket": lambda secret: _result(f'{{"bucket": "{_escape(secret.lower())}", "status": "active"}}'),
    "as buckets": lambda secret: _result(f'{{"warehouses": [{{"bucket": "{secret.lower()}"}}]}}'),
    "as keys": lambda secret: _raw(500, f'{{"{secret}": "{secret}", "errors": [{{"{secret}": 1}}]}}'),
    "as the ray": lambda secret: httpx.Response(500, headers={"cf-ray": secret[:31]}),
    "as several rays": lambda secret: httpx.Response(500, headers=[("cf-ray", secret[:12]), ("cf-ray", secret[12:])]),
    "as a wait": lambda secret: httpx.Response(429, headers={"retry-after": secret, "date": secret}),
    "as limits": lambda secret: httpx.Response(429, headers={"ratelimit": secret, "ratelimit-policy": secret}),
    "as a reason": lambda secret: httpx.Response(500, extensions={"reason_phrase": secret.encode()}),
}


def _raw(status: int, body: str) -> httpx.Response:
    return httpx.Response(status, content=body.encode(), headers={"content-type": "application/json"})


def _result(result: str) -> httpx.Response:
    return _raw(200, f'{{"success": true, "errors": [], "result": {result}}}')


SECRET = "cfut_MADEUPq7Rk2Zt9Wv4Xb1Nc8Lp3Hs6Jd5Fg0YaTmd41d8c9f"  # made up
HEX_SECRET = "5a4db0c3f19e7d2b8a6c4e0f1d3b5a7c9e2f4"  # made up, of the shape of an API key


@pytest.mark.parametrize("secret", [SECRET, HEX_SECRET], ids=["of a known shape", "of hex digits"])
@pytest.mark.parametrize("owner", ["pasted", "the bot's token", "the bot's key"])
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
async def test_no_echo_leaves_the_client(
    make: Make, echo: Callable[[str], httpx.Response], owner: str, secret: str
) -> None:
    """Whatever an answer repeats, and wherever: no call returns or raises twelve characters of it."""
    auth = {"the bot's token": ApiToken(token=Secret(secret)), "the bot's key": ApiKey(email="a@b", key=Secret(secret))}
    client = make(lambda _: echo(secret), auth=auth.get(owner, BEARER))
    token = secret if owner == "pasted" else TOKEN
    calls = [*CALLS_WITH_TOKEN.values(), *OTHER_CALLS.values()] if owner != "pasted" else [*CALLS_WITH_TOKEN.values()]
    for call in calls:
        kept: object
        try:
            kept = await call(client, token)
        except CloudflareError as error:
            kept = (str(error), vars(error))
        shown = repr(kept).lower()
        assert [piece for piece in _pieces(secret) if piece in shown] == []


def _pieces(secret: str) -> list[str]:
    return [secret[start : start + 12].lower() for start in range(len(secret) - 11)]


async def test_a_token_that_is_a_word_of_the_envelope_changes_no_answer(make: Make) -> None:
    """A short one could be any word, and Cloudflare's are never that short."""
    cf_ray = await make(lambda _: _ok(None, cf_ray="8f00a1b2c3d4e5f6-BOX")).store_credential(
        LAKE, Secret("success"), _yes
    )
    assert cf_ray == "8f00a1b2c3d4e5f6-BOX"


@pytest.mark.parametrize(
    "text", ["", "two words", "line\nbreak", "tab\t", "nul\0", "na\u00efve", "\u2028", "\ud800"], ids=ascii
)
async def test_a_token_that_no_header_can_carry_is_not_sent(server: FakeCloudflare, make: Make, text: str) -> None:
    """Unlike ours, the exception of httpx would quote it."""
    for name in AS_HEADER:
        with pytest.raises(TokenMalformed) as caught:
            await CALLS_WITH_TOKEN[name](make(base_url=server.base_url), text)
        assert (caught.value.__context__, str(caught.value)) == (None, "token_malformed")
    assert server.requests == []


def test_every_carrier_hides_its_secret() -> None:
    """In its repr, and by refusing to be pickled."""
    for carrier in (Bearer(Secret(TOKEN), _yes), CredentialBody(Secret(TOKEN), _yes), CallerAuth(BEARER), BEARER, KEY):
        shown = repr(carrier) + repr(getattr(carrier, "__dict__", ""))
        assert [find_leaks(shown.encode(), secret) for secret in (TOKEN, SANDBOX_API_TOKEN, SANDBOX_API_KEY)] == [
            []
        ] * 3
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            pickle.dumps(carrier)


# The fence.

FENCED: dict[str, Callable[[CloudflareClient, Callable[[], Awaitable[bool]]], Awaitable[object]]] = {
    "verify": lambda client, may_send: client.verify_token(Secret(TOKEN), TokenKind.ACCOUNT, may_send),
    "read": lambda client, may_send: client.get_catalog_as(LAKE, Secret(TOKEN), may_send),
    "store": lambda client, may_send: client.store_credential(LAKE, Secret(TOKEN), may_send),
    "enable": lambda client, may_send: client.enable_catalog(LAKE, may_send),
}


@pytest.mark.parametrize("name", FENCED)
@pytest.mark.parametrize(
    ("may_send", "kind"), [(_no_more, LeaseLost), (_no_answer, DatabaseUnavailable)], ids=["no", "no answer"]
)
@pytest.mark.parametrize("is_connected", [False, True], ids=["first request", "open connection"])
async def test_a_sender_without_permission_sends_nothing(
    server: FakeCloudflare,
    make: Make,
    name: str,
    may_send: Callable[[], Awaitable[bool]],
    kind: type[BotError],
    *,
    is_connected: bool,
) -> None:
    """Not even a header line, and the error keeps no secret; the client still works afterwards."""
    client = make(base_url=server.base_url)
    if is_connected:
        await client.list_catalogs()
    with pytest.raises(kind) as caught:
        await FENCED[name](client, may_send)
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    assert _find_secrets(caught.value.__traceback__) == []
    assert [request.path.rpartition("/")[2] for request in server.requests] == ["r2-catalog"] * is_connected
    await FENCED[name](client, _yes)


@pytest.mark.parametrize(("name", "questions"), [("verify", 1), ("read", 1), ("store", 2), ("enable", 1)])
async def test_the_fence_is_asked_as_each_request_goes_out(
    server: FakeCloudflare, make: Make, name: str, questions: int
) -> None:
    """Once before its headers, and again before a body."""
    asked: list[None] = []

    async def may_send() -> bool:
        asked.append(None)
        return True

    await FENCED[name](make(base_url=server.base_url), may_send)
    assert len(asked) == questions


async def test_a_fence_watches_the_headers_only() -> None:
    """It ignores httpcore's other events."""
    fence = Fence(_no_more)
    for event in ("connection.connect_tcp.started", "http11.send_request_headers.complete", "http11.response_closed"):
        await fence.watch(event, None)
    for event in ("http11.send_request_headers.started", "http2.send_request_headers.started"):
        with pytest.raises(LeaseLost):
            await fence.watch(event, None)


# The account's pace.

OTHERS_LIMITS = {"ratelimit": '"default";r=1;t=300', "ratelimit_policy": '"burst";q=10;w=60'}


@pytest.mark.parametrize("name", AS_HEADER)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(lambda _: _anything(**OTHERS_LIMITS), None, id="a low limit"),
        pytest.param(lambda _: _no(429, 971, retry_after="300", **OTHERS_LIMITS), Throttled, id="429"),
        pytest.param(lambda _: _no(200, 971, retry_after="300", **OTHERS_LIMITS), Throttled, id="throttled with 200"),
        pytest.param(lambda _: _no(401, 1000, **OTHERS_LIMITS), CloudflareError, id="a refusal"),
    ],
)
async def test_a_pasted_tokens_limits_do_not_affect_the_account(
    make: Make, name: str, answer: Handler, kind: type[CloudflareError] | None
) -> None:
    """Its requests take turns like all others, but neither correct nor stop the account's pace."""
    pace = PaceNotes()
    client = make(answer, pace=pace)
    if kind is None:
        await CALLS_WITH_TOKEN[name](client, TOKEN)
    else:
        with pytest.raises(kind):
            await CALLS_WITH_TOKEN[name](client, TOKEN)
    assert (pace.turns, pace.done_with, pace.blocked_for) == (1, [None], [])


@pytest.mark.parametrize("name", [*OTHER_CALLS, "store"])
async def test_the_limits_of_the_bots_own_requests_count(make: Make, name: str) -> None:
    """The same answers to the bot's own credentials correct and stop it."""
    call = {**CALLS_WITH_TOKEN, **OTHER_CALLS}[name]
    pace = PaceNotes()
    heard = Limits(quota=10, window=timedelta(seconds=60), remaining=1, resets_in=timedelta(seconds=300))
    with suppress(AnswerNotUnderstood):  # no single answer suits all calls
        await call(make(lambda _: _anything(**OTHERS_LIMITS), pace=pace), TOKEN)
    with pytest.raises(Throttled):
        await call(make(lambda _: _no(429, 971, retry_after="300", **OTHERS_LIMITS), pace=pace), TOKEN)
    assert (pace.done_with, pace.blocked_for) == ([heard, heard], [timedelta(seconds=300)])


async def test_a_throttled_token_leaves_the_account_free() -> None:
    """With the bot's real pace: its own next request goes at once."""
    pace = LocalPace(lambda: datetime(2026, 11, 20, tzinfo=UTC))

    def handler(request: httpx.Request) -> httpx.Response:
        is_own = request.headers["authorization"] == f"Bearer {SANDBOX_API_TOKEN}"
        return _anything() if is_own else _no(429, 971, retry_after="300", **OTHERS_LIMITS)

    client = CloudflareClient(
        account_id=SANDBOX_ACCOUNT_ID,
        base_url="https://api.example.com/client/v4",
        auth=BEARER,
        pace=pace,
        transport=httpx.MockTransport(handler),
    )
    with pytest.raises(Throttled) as caught:
        await client.get_catalog_as(LAKE, Secret(TOKEN), _yes)
    assert caught.value.retry_after == timedelta(seconds=300)
    assert (await client.get_catalog(LAKE)).bucket == "lake"
    await client.aclose()


@pytest.mark.parametrize("name", CALLS_WITH_TOKEN)
async def test_a_stopped_account_sends_no_token_either(make: Make, name: str) -> None:
    """Nothing goes out before the stop is over, and no turn is left unreturned."""
    pace = PaceNotes(stopped_until=datetime(2026, 11, 20, tzinfo=UTC))
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return _anything()

    with pytest.raises(Throttled):
        await CALLS_WITH_TOKEN[name](make(handler, pace=pace), TOKEN)
    assert (seen, pace.done_with) == ([], [])


async def test_a_test_that_is_known_to_be_missing_leaves_the_turn_to_the_next_request(make: Make) -> None:
    """One turn is one request: taken once, used once and given back once."""
    pace = PaceNotes()
    client = make(lambda request: _no(404, 7003) if request.url.path.endswith("status") else _anything(), pace=pace)
    for expected in (2, 1):  # the first time, the test itself is a request
        pace.turns, pace.done_with = 0, []
        turn = await client.turn(Urgency.CHECK)
        assert isinstance(turn, Turn)
        with pytest.raises(RouteGone):
            await client.test_credential(LAKE, turn)
        await client.get_catalog(LAKE, turn)
        turn.give_back()
        assert (pace.turns, pace.done_with) == (expected, [None] * expected)


CALLS_WITH_TURN: dict[str, Callable[[CloudflareClient, Turn], Awaitable[object]]] = {
    "verify, of a user": lambda client, turn: client.verify_token(Secret(TOKEN), TokenKind.USER, _yes, turn),
    "verify, of the account": lambda client, turn: client.verify_token(Secret(TOKEN), TokenKind.ACCOUNT, _yes, turn),
    "read": lambda client, turn: client.get_catalog_as(LAKE, Secret(TOKEN), _yes, turn),
    "store": lambda client, turn: client.store_credential(LAKE, Secret(TOKEN), _yes, turn),
    "get": lambda client, turn: client.get_catalog(LAKE, turn),
    "test": lambda client, turn: client.test_credential(LAKE, turn),
    "enable": lambda client, turn: client.enable_catalog(LAKE, _yes, turn),
}


@pytest.mark.parametrize("urgency", Urgency)
@pytest.mark.parametrize("name", CALLS_WITH_TURN)
async def test_later_requests_of_a_call_are_as_urgent_as_its_turn(make: Make, name: str, urgency: Urgency) -> None:
    """A turn is for one request; the others of a write do not wait behind checks."""
    pace = PaceNotes()
    client = make(lambda _: _anything(), pace=pace)
    turn = await client.turn(urgency)
    assert isinstance(turn, Turn)
    for _ in range(2):
        with suppress(CloudflareError):  # not every call understands this answer
            await CALLS_WITH_TURN[name](client, turn)
    assert pace.urgencies == [urgency] * 2


@pytest.mark.parametrize("name", ["list", "get", "test"])
async def test_a_request_that_no_one_waits_for_is_not_urgent(make: Make, name: str) -> None:
    """A refresh of the catalogs passes no turn."""
    pace = PaceNotes()
    with suppress(CloudflareError):
        await OTHER_CALLS[name](make(lambda _: _anything(), pace=pace), TOKEN)
    assert pace.urgencies == [Urgency.BACKGROUND]
