"""The client against the fake Cloudflare, broken transports, and the official SDK."""

import asyncio
import gzip
import io
import json
import logging
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType

import httpx
import pytest
import pytest_asyncio
from cloudflare import AsyncCloudflare

from bot import __version__
from bot.cloudflare import exchange as exchange_module
from bot.cloudflare.answers import TokenStatus, TokenVerification
from bot.cloudflare.auth import ApiKey, ApiToken
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import NOT_OFFERED_FOR, CloudflareClient
from bot.cloudflare.errors import (
    AnswerNotUnderstood,
    BlockedOnTheWay,
    CallerNotAllowed,
    CallerRejected,
    CatalogInactive,
    CatalogNotEnabled,
    ChallengePage,
    CloudflareError,
    CloudflareUnavailable,
    CloudflareUnreachable,
    CredentialRefused,
    NoSuchBucket,
    RequestRejected,
    RouteGone,
    Throttled,
)
from bot.cloudflare.exchange import LARGEST_ANSWER_BYTES, MOST_PARTS, Turn
from bot.cloudflare.pace import LocalPace, Pace
from bot.model.catalog import BucketKey, Catalog, CatalogApi, CatalogStatus, CredentialStatus
from bot.model.errors import BotError, DatabaseUnavailable, LeaseLost
from bot.model.right_of_way import RightOfWay
from bot.model.secret import Secret
from bot.model.submission import TokenKind as PastedKind
from bot.sandbox.cloudflare import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_API_KEY,
    SANDBOX_API_TOKEN,
    SANDBOX_EMAIL,
    FakeCloudflare,
    ReceivedRequest,
)
from bot.sandbox.process import find_free_port
from bot.sandbox.tokens import Behaviour, TokenKind, make_token
from tests.noted_way import NotedWay

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
GOOD = make_token(Behaviour.GOOD)
BEARER = ApiToken(token=Secret(SANDBOX_API_TOKEN))
KEY = ApiKey(email=SANDBOX_EMAIL, key=Secret(SANDBOX_API_KEY))
LAKE = BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket="lake")
HTTPS = "https://api.example.com/client/v4"
Make = Callable[..., CloudflareClient]
Handler = Callable[[httpx.Request], httpx.Response]


def _key(bucket: str) -> BucketKey:
    return replace(LAKE, bucket=bucket)


async def _yes() -> bool:
    """Allow it: the lease still holds."""
    return True


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    """Build clients with made-up credentials, and close them afterwards."""
    clients: list[CloudflareClient] = []

    def build(
        *,
        handler: Handler | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        base_url: str = HTTPS,
        auth: ApiToken | ApiKey = BEARER,
        catalog_api: CatalogApi = CatalogApi.AUTO,
        total_timeout: timedelta = timedelta(seconds=10),
        timer: Callable[[], float] = time.monotonic,
        right_of_way: RightOfWay | None = None,
        pace: Pace | None = None,
    ) -> CloudflareClient:
        clients.append(
            CloudflareClient(
                account_id=SANDBOX_ACCOUNT_ID,
                base_url=base_url,
                auth=auth,
                catalog_api=catalog_api,
                transport=httpx.MockTransport(handler) if handler else transport,
                total_timeout=total_timeout,
                timer=timer,
                right_of_way=right_of_way,
                pace=pace,
            )
        )
        return clients[-1]

    yield build
    for client in clients:
        await client.aclose()


class Held(RightOfWay):
    """Notes who gives way, and lets nobody pass before the test does."""

    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Queue[None]()
        self.let_go = asyncio.Event()

    async def give_way(self, urgency: int = 0) -> None:
        """Wait for the test."""
        self.came.put_nowait(None)
        await self.let_go.wait()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FakeCloudflare]:
    """Start a fake Cloudflare with one bucket of each sort and a stopped clock."""
    async with FakeCloudflare(clock=lambda: NOW) as small:
        small.add_bucket("lake")
        small.add_bucket("swamp", "inactive", GOOD)
        small.add_bucket("pond", None)
        yield small


def _ok(result: object) -> httpx.Response:
    return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": result})


def _no(status: int, code: int, message: str = "made up") -> httpx.Response:
    return httpx.Response(status, json={"success": False, "errors": [{"code": code, "message": message}]})


async def test_list_get_and_store(server: FakeCloudflare, make: Make) -> None:
    """The three calls, over a real socket."""
    client = make(base_url=server.base_url)
    lake = Catalog(key=LAKE, status=CatalogStatus.ACTIVE, credential_status=CredentialStatus.ABSENT)
    swamp = Catalog(key=_key("swamp"), status=CatalogStatus.INACTIVE, credential_status=CredentialStatus.PRESENT)
    assert await client.list_catalogs() == [lake, swamp]

    cf_ray = await client.store_credential(LAKE, Secret(GOOD), _yes)

    assert cf_ray is not None
    assert server.stored_token("lake") == GOOD
    assert await client.get_catalog(LAKE) == replace(lake, credential_status=CredentialStatus.PRESENT)
    assert {request.headers["user-agent"] for request in server.requests} == {f"r2-credential-bot/{__version__}"}


@pytest.mark.parametrize("auth", [BEARER, KEY], ids=["bearer", "e-mail and key"])
@pytest.mark.parametrize("family", [CatalogApi.R2_CATALOG, CatalogApi.BASIN_CATALOG])
@pytest.mark.filterwarnings("ignore:Use `:DeprecationWarning")
async def test_requests_are_those_of_the_official_sdk(
    server: FakeCloudflare, make: Make, auth: ApiToken | ApiKey, family: CatalogApi
) -> None:
    """Method, path, body and credentials of each call are, byte for byte, what the SDK sends."""
    client = make(base_url=server.base_url, auth=auth, catalog_api=family)
    await client.list_catalogs()
    await client.get_catalog(LAKE)
    await client.store_credential(LAKE, Secret(GOOD), _yes)
    ours = [_essence(request) for request in server.requests]
    server.requests.clear()

    options = (
        {"api_token": SANDBOX_API_TOKEN} if auth is BEARER else {"api_email": SANDBOX_EMAIL, "api_key": SANDBOX_API_KEY}
    )
    async with AsyncCloudflare(base_url=server.base_url, max_retries=0, **options) as sdk:  # type: ignore[arg-type]  # chosen above
        resource = sdk.r2_data_catalog if family is CatalogApi.R2_CATALOG else sdk.basin_catalog
        await resource.list(account_id=SANDBOX_ACCOUNT_ID)
        await resource.get("lake", account_id=SANDBOX_ACCOUNT_ID)
        await resource.credentials.create("lake", account_id=SANDBOX_ACCOUNT_ID, token=GOOD)

    assert ours == [_essence(request) for request in server.requests]


@pytest.mark.parametrize("kind", [TokenKind.ACCOUNT, TokenKind.USER])
async def test_requests_about_the_bots_own_token_are_those_of_the_official_sdk(
    server: FakeCloudflare, make: Make, kind: TokenKind
) -> None:
    """To verify it, and to read its policies, at the endpoint of its owner."""
    server.api_token, server.shows_policies = make_token(Behaviour.GOOD, kind=kind), True
    client = make(base_url=server.base_url, auth=ApiToken(token=Secret(server.api_token)))
    owner = PastedKind.USER if kind is TokenKind.USER else PastedKind.ACCOUNT
    verified = await client.verify_own_token(owner)
    assert await client.may_own_token_write(owner, verified.id) is True
    ours = [_essence(request) for request in server.requests]
    server.requests.clear()

    async with AsyncCloudflare(base_url=server.base_url, max_retries=0, api_token=server.api_token) as sdk:
        if kind is TokenKind.USER:
            await sdk.user.tokens.verify()
            await sdk.user.tokens.get(verified.id)
        else:
            await sdk.accounts.tokens.verify(account_id=SANDBOX_ACCOUNT_ID)
            await sdk.accounts.tokens.get(verified.id, account_id=SANDBOX_ACCOUNT_ID)
    assert ours == [_essence(request) for request in server.requests]


@pytest.mark.parametrize("family", [CatalogApi.R2_CATALOG, CatalogApi.BASIN_CATALOG])
@pytest.mark.parametrize("auth", [BEARER, KEY], ids=["bearer", "e-mail and key"])
@pytest.mark.filterwarnings("ignore:Use `:DeprecationWarning")
async def test_requests_with_a_pasted_token_are_those_of_the_official_sdk(
    server: FakeCloudflare, make: Make, auth: ApiToken | ApiKey, family: CatalogApi
) -> None:
    """As if the SDK had that token, whatever the bot's own credentials are; also for enabling."""
    client = make(base_url=server.base_url, auth=auth, catalog_api=family)
    of_user = make_token(Behaviour.GOOD, 1, TokenKind.USER)
    user = await client.verify_token(Secret(of_user), PastedKind.USER, _yes)
    account = await client.verify_token(Secret(GOOD), PastedKind.ACCOUNT, _yes)
    await client.get_catalog_as(LAKE, Secret(GOOD), _yes)
    ours = [_essence(request) for request in server.requests]
    server.requests.clear()

    async with AsyncCloudflare(base_url=server.base_url, max_retries=0, api_token=of_user) as sdk:
        sdk_user = await sdk.user.tokens.verify()
    async with AsyncCloudflare(base_url=server.base_url, max_retries=0, api_token=GOOD) as sdk:
        sdk_account = await sdk.accounts.tokens.verify(account_id=SANDBOX_ACCOUNT_ID)
        resource = sdk.r2_data_catalog if family is CatalogApi.R2_CATALOG else sdk.basin_catalog
        await resource.get("lake", account_id=SANDBOX_ACCOUNT_ID)

    assert ours == [_essence(request) for request in server.requests]
    for expected, found in ((sdk_user, user), (sdk_account, account)):
        assert expected is not None
        assert (expected.id, expected.status, expected.expires_on, expected.not_before) == (
            found.id,
            found.status,
            found.expires_at,
            found.not_before,
        )


@pytest.mark.parametrize("family", [CatalogApi.R2_CATALOG, CatalogApi.BASIN_CATALOG])
@pytest.mark.filterwarnings("ignore:Use `:DeprecationWarning")
async def test_enabling_is_that_of_the_official_sdk(server: FakeCloudflare, make: Make, family: CatalogApi) -> None:
    """The same request, without a body."""
    await make(base_url=server.base_url, catalog_api=family).enable_catalog(_key("pond"), _yes)
    async with AsyncCloudflare(base_url=server.base_url, max_retries=0, api_token=SANDBOX_API_TOKEN) as sdk:
        resource = sdk.r2_data_catalog if family is CatalogApi.R2_CATALOG else sdk.basin_catalog
        await resource.enable("pond", account_id=SANDBOX_ACCOUNT_ID)
    ours, of_the_sdk = map(_essence, server.requests)
    assert ours == of_the_sdk


def _essence(request: ReceivedRequest) -> dict[str, object]:
    names = ("authorization", "x-auth-email", "x-auth-key", "content-type", "content-length", "accept")
    headers = {name: request.headers[name] for name in names if name in request.headers}
    if not request.body:
        headers.pop("content-type", None)
    return {"method": request.method, "path": request.path, "body": request.body, **headers}


@pytest.mark.parametrize(
    ("bucket", "behaviour", "kind"),
    [
        pytest.param("lake", Behaviour.WEAK, CredentialRefused, id="weak"),
        pytest.param("lake", Behaviour.EXPIRED, CredentialRefused, id="expired"),
        pytest.param("lake", Behaviour.CHALLENGED, ChallengePage, id="challenged"),
        pytest.param("lake", Behaviour.RATE_LIMITED, Throttled, id="rate-limited"),
        pytest.param("lake", Behaviour.SERVER_DOWN, CloudflareUnavailable, id="server down"),
        pytest.param("lake", Behaviour.ANSWER_LOST, CloudflareUnreachable, id="answer lost"),
        pytest.param("pond", Behaviour.GOOD, CatalogNotEnabled, id="never enabled"),
        pytest.param("swamp", Behaviour.GOOD, CatalogInactive, id="inactive"),
        pytest.param("nowhere", Behaviour.GOOD, NoSuchBucket, id="no such bucket"),
    ],
)
async def test_refusals_over_a_real_socket(
    server: FakeCloudflare, make: Make, bucket: str, behaviour: Behaviour, kind: type[CloudflareError]
) -> None:
    """The client asks once and never retries, and its error says what is known."""
    with pytest.raises(kind) as caught:
        await make(base_url=server.base_url).store_credential(_key(bucket), Secret(make_token(behaviour)), _yes)
    assert len(server.requests) == 1
    assert caught.value.possibly_landed is (kind in (CloudflareUnavailable, CloudflareUnreachable))
    assert (caught.value.cf_ray is None) == (kind is CloudflareUnreachable)
    assert (caught.value.retry_after is not None) == (kind is Throttled)


@pytest.mark.parametrize(
    "key",
    [
        *map(_key, ["", "..", "ab", "a" * 64, "Lake", "lake/credential", "lake?x", "-lake", "lake-", "läke"]),
        *map(_key, ["lake\n", "l%61ke"]),
        BucketKey(account_id="0" * 32, bucket="lake"),
    ],
    ids=repr,
)
async def test_an_impossible_bucket_is_not_requested(server: FakeCloudflare, make: Make, key: BucketKey) -> None:
    """The name would be part of the path; and another account's bucket is not this one's of the same name."""
    client = make(base_url=server.base_url)
    with pytest.raises(NoSuchBucket):
        await client.store_credential(key, Secret(GOOD), _yes)
    with pytest.raises(NoSuchBucket):
        await client.get_catalog(key)
    with pytest.raises(NoSuchBucket):
        await client.get_catalog_as(key, Secret(GOOD), _yes)
    with pytest.raises(NoSuchBucket):
        await client.test_credential(key)
    with pytest.raises(NoSuchBucket):
        await client.enable_catalog(key, _yes)
    assert server.requests == []


@pytest.mark.parametrize(
    ("failure", "possibly_landed"),
    [
        (httpx.ConnectError("x"), False),
        (httpx.ConnectTimeout("x"), False),
        (httpx.PoolTimeout("x"), False),
        (httpx.ProxyError("x"), False),
        (httpx.LocalProtocolError("x"), False),
        (httpx.UnsupportedProtocol("x"), False),
        (httpx.ReadError("x"), True),
        (httpx.ReadTimeout("x"), True),
        (httpx.WriteError("x"), True),
        (httpx.WriteTimeout("x"), True),
        (httpx.CloseError("x"), True),
        (httpx.RemoteProtocolError("x"), True),
        (httpx.DecodingError("x"), True),
        (OSError("x"), True),
        (TimeoutError("x"), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_transport_failures(make: Make, failure: Exception, *, possibly_landed: bool) -> None:
    """All are the same error; only `possibly_landed` differs, which a read never sets."""

    def handler(request: httpx.Request) -> httpx.Response:
        raise failure

    client = make(handler=handler)
    with pytest.raises(CloudflareUnreachable) as written:
        await client.store_credential(LAKE, Secret(GOOD), _yes)
    with pytest.raises(CloudflareUnreachable) as read:
        await client.list_catalogs()
    assert written.value.possibly_landed is possibly_landed
    assert read.value.possibly_landed is False


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param("407 Proxy Authentication Required", BlockedOnTheWay, id="the proxy wants a password"),
        pytest.param("403 Forbidden", BlockedOnTheWay, id="the proxy does not let the bot through"),
        pytest.param("403", BlockedOnTheWay, id="no reason"),
        pytest.param("502 Bad Gateway", CloudflareUnreachable, id="the proxy does not reach Cloudflare"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel(answer: str, kind: type[CloudflareError]) -> None:
    """For https it refuses before any request; a permanent refusal is for the operator, and nothing landed."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"CONNECT api.example.com:443 ")
        writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        host, port = proxy.sockets[0].getsockname()
        client = CloudflareClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url=HTTPS,
            auth=BEARER,
            transport=httpx.AsyncHTTPTransport(proxy=f"http://{host}:{port}"),
        )
        with pytest.raises(kind) as caught:
            await client.store_credential(LAKE, Secret(GOOD), _yes)
        await client.aclose()
    assert caught.value.possibly_landed is False
    assert caught.value.status == (int(answer[:3]) if kind is BlockedOnTheWay else None)


def _fence(*answers: bool | BotError) -> tuple[list[int], Callable[[], Awaitable[bool]]]:
    """Return a fence with these answers in turn, and the list of its calls."""
    asked: list[int] = []

    async def may_send() -> bool:
        asked.append(len(asked))
        answer = answers[len(asked) - 1]
        if isinstance(answer, BotError):
            raise answer
        return answer

    return asked, may_send


@pytest.mark.parametrize("auth", [BEARER, KEY], ids=["bearer", "e-mail and key"])
@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        pytest.param([False], LeaseLost, id="at the headers"),
        pytest.param([True, False], LeaseLost, id="at the body"),
        pytest.param([DatabaseUnavailable()], DatabaseUnavailable, id="no answer at the headers"),
        pytest.param([True, DatabaseUnavailable()], DatabaseUnavailable, id="no answer at the body"),
    ],
)
@pytest.mark.parametrize("is_connected", [False, True], ids=["first request", "open connection"])
async def test_a_sender_without_permission_sends_nothing(
    server: FakeCloudflare,
    make: Make,
    auth: ApiToken | ApiKey,
    answers: list[bool | BotError],
    kind: type[BotError],
    *,
    is_connected: bool,
) -> None:
    """Cloudflare never sees a whole request, the error keeps no secret, and the client still works afterwards."""
    client = make(base_url=server.base_url, auth=auth)
    if is_connected:
        await client.list_catalogs()
    asked, may_send = _fence(*answers)
    with pytest.raises(kind) as caught:
        await client.store_credential(LAKE, Secret(GOOD), may_send)
    assert len(asked) == len(answers)
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    assert _find_secrets(caught.value.__traceback__) == []
    await client.list_catalogs()
    assert {request.method for request in server.requests} == {"GET"}
    assert server.stored_token("lake") is None
    await client.store_credential(LAKE, Secret(GOOD), _yes)
    assert server.stored_token("lake") == GOOD


async def test_the_fence_is_asked_for_each_request_of_a_call(server: FakeCloudflare, make: Make) -> None:
    """On `auto` a call can be two requests: if the lease is lost in between, the second is not sent."""
    server.families.discard("r2-catalog")
    asked, may_send = _fence(True, True, False)  # noqa: FBT003 - the answers, in their order
    with pytest.raises(LeaseLost):
        await make(base_url=server.base_url).store_credential(LAKE, Secret(GOOD), may_send)
    assert (len(asked), len(server.requests), server.stored_token("lake")) == (3, 1, None)


async def test_reading_asks_no_fence(server: FakeCloudflare, make: Make) -> None:
    """Only a write is dangerous: a confirmation without the lease does no harm."""
    await make(base_url=server.base_url).get_catalog(LAKE)
    assert [request.method for request in server.requests] == ["GET"]


async def test_each_request_gives_way_before_it_is_sent(server: FakeCloudflare, make: Make) -> None:
    """An acknowledgement that is in progress comes first."""
    way = NotedWay(lambda: len(server.requests))
    client = make(base_url=server.base_url, right_of_way=way)
    await client.get_catalog(LAKE)
    await client.store_credential(LAKE, Secret(GOOD), _yes)
    assert way.noted == [0, 1]


async def test_a_refused_connection_has_landed_nothing(make: Make) -> None:
    """With a port that is really closed."""
    async with FakeCloudflare() as small:
        base_url = small.base_url
    with pytest.raises(CloudflareUnreachable) as caught:
        await make(base_url=base_url).store_credential(LAKE, Secret(GOOD), _yes)
    assert caught.value.possibly_landed is False


async def test_a_request_is_logged_without_account_and_bucket(
    server: FakeCloudflare, make: Make, log: io.StringIO
) -> None:
    """Method, path template, status and duration at debug; without a status, the cause."""
    client = make(base_url=server.base_url)
    await client.list_catalogs()
    await client.store_credential(LAKE, Secret(GOOD), _yes)
    await client.verify_token(Secret(GOOD), PastedKind.ACCOUNT, _yes)
    for owner in (PastedKind.ACCOUNT, PastedKind.USER):
        with pytest.raises(CallerRejected):
            await client.may_own_token_write(owner, "0f" * 16)
    with pytest.raises(CloudflareUnreachable):
        await make(base_url=f"http://127.0.0.1:{find_free_port()}").get_catalog(LAKE)

    lines = [json.loads(line) for line in log.getvalue().splitlines() if "cloudflare_request" in line]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "accounts/{account}/r2-catalog", 200),
        ("POST", "accounts/{account}/r2-catalog/{bucket}/credential", 200),
        ("GET", "accounts/{account}/tokens/verify", 200),
        ("GET", "accounts/{account}/tokens/{token}", 403),
        ("GET", "user/tokens/{token}", 403),
        (
            "GET",
            "accounts/{account}/r2-catalog/{bucket}",
            "cloudflare_unreachable cause=ConnectionRefusedError ECONNREFUSED",
        ),
    ]
    assert not any(word in log.getvalue() for word in (GOOD, LAKE.bucket, LAKE.account_id))


async def test_the_total_timeout_ends_a_trickle(server: FakeCloudflare, make: Make) -> None:
    """Each read of a trickling answer is in time, the whole is not; the write may have landed."""

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    client = make(handler=lambda _: httpx.Response(200, content=trickle()), total_timeout=timedelta(seconds=0.1))
    with pytest.raises(CloudflareUnreachable) as caught:
        await client.store_credential(LAKE, Secret(GOOD), _yes)
    assert caught.value.possibly_landed is True


@pytest.mark.parametrize(("gone", "family"), [("r2-catalog", "basin-catalog"), ("basin-catalog", "r2-catalog")])
async def test_auto_uses_the_family_that_is_there_and_remembers(
    server: FakeCloudflare, make: Make, gone: str, family: str
) -> None:
    """r2-catalog is tried first; once it is gone it is not tried again until the other one is gone too."""
    server.families.discard(gone)
    client = make(base_url=server.base_url)
    await client.store_credential(LAKE, Secret(GOOD), _yes)
    await client.list_catalogs()
    assert [write.family for write in server.writes] == [family]
    assert sum(f"/{gone}" in request.path for request in server.requests) == (gone == "r2-catalog")

    server.families.symmetric_difference_update({gone, family})
    await client.get_catalog(LAKE)
    assert server.requests[-1].path.endswith(f"{gone}/lake")


async def test_auto_remembers_the_family_that_refused(server: FakeCloudflare, make: Make) -> None:
    """A refusal about the catalog shows that the family exists."""
    server.families.discard("r2-catalog")
    client = make(base_url=server.base_url)
    for _ in range(2):
        with pytest.raises(CatalogNotEnabled):
            await client.get_catalog(_key("pond"))
    assert [request.path.split("/")[5] for request in server.requests] == [
        "r2-catalog",
        "basin-catalog",
        "basin-catalog",
    ]


@pytest.mark.parametrize("catalog_api", CatalogApi)
async def test_no_family_left(server: FakeCloudflare, make: Make, catalog_api: CatalogApi) -> None:
    """On `auto` both are tried, otherwise only the chosen one."""
    server.families.clear()
    with pytest.raises(RouteGone) as caught:
        await make(base_url=server.base_url, catalog_api=catalog_api).list_catalogs()
    assert caught.value.cloudflare_code == 7003
    assert caught.value.__context__ is None
    assert len(server.requests) == (2 if catalog_api is CatalogApi.AUTO else 1)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(_no(404, 40401), CatalogNotEnabled, id="never enabled"),
        pytest.param(_no(404, 40406), NoSuchBucket, id="no such bucket"),
        pytest.param(_no(403, 10000), CallerRejected, id="caller rejected"),
        pytest.param(_no(400, 99999), RequestRejected, id="unknown no"),
        pytest.param(httpx.Response(503), CloudflareUnavailable, id="503"),
        pytest.param(httpx.Response(307, headers={"location": "/elsewhere"}), AnswerNotUnderstood, id="redirect"),
        pytest.param(
            httpx.Response(200, content=b" " * (LARGEST_ANSWER_BYTES + 1)), AnswerNotUnderstood, id="too large"
        ),
    ],
)
async def test_auto_does_not_switch_on_anything_else(
    make: Make, answer: httpx.Response, kind: type[CloudflareError]
) -> None:
    """Only a missing route makes the client try the other family; a redirect is not followed."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer

    with pytest.raises(kind):
        await make(handler=handler).get_catalog(LAKE)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("result", "statuses"),
    [
        pytest.param(
            {"bucket": "lake", "status": "active", "credential_status": "present"}, ("active", "present"), id="all"
        ),
        pytest.param({"bucket": "lake", "status": "inactive"}, ("inactive", "unknown"), id="no credential status"),
        pytest.param(
            {"bucket": "lake", "status": "frozen", "credential_status": 7}, ("unknown", "unknown"), id="new values"
        ),
        pytest.param({"status": ["active"], "credential_status": None}, ("unknown", "unknown"), id="no bucket named"),
    ],
)
async def test_a_catalog_is_parsed_with_care(make: Make, result: object, statuses: tuple[str, str]) -> None:
    """Missing and new values become `unknown`."""
    catalog = await make(handler=lambda _: _ok(result)).get_catalog(LAKE)
    assert (catalog.bucket, catalog.status, catalog.credential_status) == ("lake", *statuses)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param("lake", id="a text"),
        pytest.param({"bucket": "swamp", "status": "active"}, id="another bucket"),
        pytest.param({"bucket": None}, id="bucket null"),
        pytest.param({"bucket": ""}, id="bucket empty"),
    ],
)
async def test_an_invalid_catalog_is_not_understood(make: Make, result: object) -> None:
    """Above all, one of another bucket."""
    with pytest.raises(AnswerNotUnderstood) as caught:
        await make(handler=lambda _: _ok(result)).get_catalog(LAKE)
    assert caught.value.possibly_landed is False


@pytest.mark.parametrize(
    ("result", "buckets"),
    [
        pytest.param({"warehouses": []}, [], id="none"),
        pytest.param({"warehouses": None}, [], id="null instead of a list"),
        pytest.param(None, [], id="no result"),
        pytest.param([{"bucket": "lake"}], ["lake"], id="a bare list"),
        pytest.param({"warehouses": [{"bucket": "lake"}, None, {}, {"bucket": 7}, "x"]}, ["lake"], id="junk between"),
    ],
)
async def test_a_list_is_parsed_with_care(make: Make, result: object, buckets: list[str]) -> None:
    """One bad entry does not hide the others."""
    assert [catalog.bucket for catalog in await make(handler=lambda _: _ok(result)).list_catalogs()] == buckets


@pytest.mark.parametrize("result", [{"warehouses": {}}, {"warehouses": "x"}, "x", 7])
async def test_an_invalid_list_is_not_understood(make: Make, result: object) -> None:
    """It does not count as an account without catalogs."""
    with pytest.raises(AnswerNotUnderstood):
        await make(handler=lambda _: _ok(result)).list_catalogs()


PACKED = gzip.compress(json.dumps({"success": True, "errors": [], "result": None}).encode())


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "identity, gzip", "deflate", "br", "zstd", "GZIP", "x"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, AnswerNotUnderstood),
        (205, AnswerNotUnderstood),
        (400, AnswerNotUnderstood),
        (403, AnswerNotUnderstood),
        (404, AnswerNotUnderstood),
        (429, Throttled),
        (503, CloudflareUnavailable),
    ],
)
async def test_an_encoded_answer_is_not_read(
    server: FakeCloudflare, make: Make, encoding: str, status: int, kind: type[CloudflareError]
) -> None:
    """It may say anything, so it is neither a success nor a refusal. A passing error is recognized by its status."""
    server.fail_next("credential", status=status, body=PACKED, headers={"Content-Encoding": encoding})
    with pytest.raises(kind) as caught:
        await make(base_url=server.base_url).store_credential(LAKE, Secret(GOOD), _yes)
    assert caught.value.possibly_landed is (kind is not Throttled)
    assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}


async def test_an_answer_that_is_said_not_to_be_encoded_is_read(server: FakeCloudflare, make: Make) -> None:
    """The client asks for `identity`."""
    body = gzip.decompress(PACKED)
    server.fail_next("credential", status=200, body=body, headers={"Content-Encoding": "identity"})
    await make(base_url=server.base_url).store_credential(LAKE, Secret(GOOD), _yes)


TOO_MUCH = {
    "too large": b" " * (LARGEST_ANSWER_BYTES + 1),
    "too many lists": b"[" + b"[]," * (MOST_PARTS // 2) + b"[]]",
    "too many objects": b"[" + b"{}," * (MOST_PARTS // 2) + b"{}]",
    "too many chains": b'{"success": true, "errors": [' + b",".join([b"[" * 500 + b"]" * 500] * 700) + b"]}",
}


@pytest.mark.parametrize("body", TOO_MUCH.values(), ids=TOO_MUCH)
@pytest.mark.parametrize("status", [200, 205, 404])
async def test_an_answer_that_is_too_large_says_nothing(make: Make, status: int, body: bytes) -> None:
    """Neither that a write happened, nor that the route is missing."""
    client = make(handler=lambda _: httpx.Response(status, content=body))
    with pytest.raises(AnswerNotUnderstood) as caught:
        await client.store_credential(LAKE, Secret(GOOD), _yes)
    assert caught.value.possibly_landed


async def test_a_large_list_is_read(make: Make) -> None:
    """If it is no larger than the largest answer."""
    settings = {
        "compaction": {"state": "enabled", "target_size_mb": "128"},
        "snapshot_expiration": {"state": "enabled"},
    }
    described = [
        {
            "id": f"5a4db0c0-0000-4000-8000-{number:012}",
            "bucket": f"bucket-{number}",
            "name": f"{SANDBOX_ACCOUNT_ID}_bucket-{number}",
            "status": "active",
            "credential_status": "present",
            "maintenance_config": settings,
        }
        for number in range(10_000)
    ]
    catalogs = await make(handler=lambda _: _ok({"warehouses": described})).list_catalogs()
    assert len(catalogs) == len(described)


async def test_a_header_that_comes_a_thousand_times_is_one(make: Make) -> None:
    """Among thousands of others; one that cannot be a list is ignored, and nothing breaks."""
    sent = [(f"x-{number}", "1") for number in range(5_000)] + [("cf-ray", "8f00a1b2c3d4e5f6-BOX")] * 1_000
    sent += [("ratelimit", '"default";r=50;t=30')] * 1_000
    client = make(handler=lambda _: httpx.Response(500, headers=sent))
    with pytest.raises(CloudflareUnavailable) as caught:
        await client.get_catalog(LAKE)
    assert caught.value.cf_ray is None


async def test_no_cookie_is_kept(make: Make) -> None:
    """A token echoed in a cookie would be sent with all later requests, of anyone."""
    sent: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.extend(value for name, value in request.headers.multi_items() if name == "cookie")
        response = _ok({"id": "1f" * 16, "status": "active", "bucket": "lake", "warehouses": []})
        response.headers["set-cookie"] = f"echo={GOOD}; Path=/"
        return response

    client = make(handler=handler)
    for _ in range(2):
        await client.verify_token(Secret(GOOD), PastedKind.ACCOUNT, _yes)
        await client.store_credential(LAKE, Secret(GOOD), _yes)
        await client.get_catalog_as(LAKE, Secret(GOOD), _yes)
        await client.list_catalogs()
        await client.get_catalog(LAKE)
        await client.enable_catalog(LAKE, _yes)
    assert sent == []


async def test_a_quoted_token_is_removed_whatever_its_form(make: Make) -> None:
    """Also if its shape is unknown."""
    odd = "future.format/of:a token"
    client = make(handler=lambda _: _no(400, 30005, f"{odd} is not valid"))
    with pytest.raises(CredentialRefused) as caught:
        await client.store_credential(LAKE, Secret(odd), _yes)
    assert caught.value.cloudflare_message == "[removed] is not valid"


@pytest.mark.parametrize("token", ["", "e", "errors", '"\\\n', "\ud800 lone surrogate", "\u202eemoji 🪣" * 100, "\0"])
async def test_any_text_can_be_sent_and_judged(server: FakeCloudflare, make: Make, token: str) -> None:
    """Cloudflare decides; nothing on the way fails."""
    with pytest.raises(CredentialRefused):
        await make(base_url=server.base_url).store_credential(LAKE, Secret(token), _yes)


# Checks of a pasted token.


@pytest.mark.parametrize(
    ("kind", "owner"),
    [
        (TokenKind.USER, PastedKind.USER),
        (TokenKind.UNPREFIXED, PastedKind.USER),
        (TokenKind.ACCOUNT, PastedKind.ACCOUNT),
        (TokenKind.UNPREFIXED_ACCOUNT, PastedKind.ACCOUNT),
    ],
)
async def test_a_token_is_known_to_the_endpoint_of_its_owner_only(
    server: FakeCloudflare, make: Make, kind: TokenKind, owner: PastedKind
) -> None:
    """The other endpoint answers that there is no such token."""
    client, token = make(base_url=server.base_url), Secret(make_token(Behaviour.NEVER_EXPIRES, 5, kind))
    [other] = {PastedKind.USER, PastedKind.ACCOUNT} - {owner}

    found = await client.verify_token(token, owner, _yes)
    with pytest.raises(CallerRejected) as caught:
        await client.verify_token(token, other, _yes)

    assert found == TokenVerification(
        id=found.id,
        status=TokenStatus.ACTIVE,
        expires_at=None,
        not_before=None,
        answered_at=NOW,
        cf_ray=found.cf_ray,
    )
    assert found.cf_ray is not None
    assert (caught.value.cloudflare_code, len(server.requests)) == (1000, 2)


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (Behaviour.GOOD, TokenStatus.ACTIVE),
        (Behaviour.EXPIRED, TokenStatus.EXPIRED),
        (Behaviour.DISABLED, TokenStatus.DISABLED),
        (Behaviour.EXPOSED, TokenStatus.REVOKED),
        (Behaviour.NOT_YET_VALID, TokenStatus.ACTIVE),
        (Behaviour.LACKS_CATALOG, TokenStatus.ACTIVE),
    ],
)
async def test_verifying_returns_a_status_without_judging_it(
    server: FakeCloudflare, make: Make, behaviour: Behaviour, status: TokenStatus
) -> None:
    """It says nothing about the token's permissions."""
    client = make(base_url=server.base_url)
    found = await client.verify_token(Secret(make_token(behaviour)), PastedKind.ACCOUNT, _yes)
    assert found.status is status
    assert (found.not_before is not None) is (behaviour is Behaviour.NOT_YET_VALID)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(lambda _: _no(401, 1000), CallerRejected, id="unknown"),
        pytest.param(lambda _: _no(403, 10000), CallerRejected, id="of another account"),
        pytest.param(lambda _: _no(404, 7003), RouteGone, id="no such route"),
        pytest.param(lambda _: _no(429, 971), Throttled, id="throttled"),
        pytest.param(lambda _: httpx.Response(503), CloudflareUnavailable, id="down"),
        pytest.param(lambda _: _ok(None), AnswerNotUnderstood, id="no result"),
        pytest.param(lambda _: _ok({"id": "1", "status": "paused"}), AnswerNotUnderstood, id="a new status"),
        pytest.param(
            lambda _: httpx.Response(403, headers={"cf-mitigated": "challenge"}), ChallengePage, id="challenged"
        ),
    ],
)
@pytest.mark.parametrize("owner", [PastedKind.USER, PastedKind.ACCOUNT])
async def test_a_verification_is_asked_for_once(
    make: Make, answer: Handler, kind: type[CloudflareError], owner: PastedKind
) -> None:
    """Any failure is raised as for the bot's own credentials, and nothing was written."""
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        return answer(request)

    with pytest.raises(kind) as caught:
        await make(handler=handler).verify_token(Secret(GOOD), owner, _yes)
    assert (seen, caught.value.possibly_landed) == (["GET"], False)


@pytest.mark.parametrize(
    ("bucket", "behaviour", "kind"),
    [
        pytest.param("lake", Behaviour.GOOD, None, id="may"),
        pytest.param("swamp", Behaviour.WEAK, None, id="may, although it may not be stored"),
        pytest.param("lake", Behaviour.LACKS_CATALOG, CallerRejected, id="may not"),
        pytest.param("lake", Behaviour.UNKNOWN, CallerRejected, id="unknown"),
        pytest.param("lake", Behaviour.UNREADABLE, CallerNotAllowed, id="not allowed"),
        pytest.param("pond", Behaviour.GOOD, CatalogNotEnabled, id="never enabled"),
        pytest.param("nowhere", Behaviour.GOOD, NoSuchBucket, id="no such bucket"),
    ],
)
async def test_a_catalog_is_read_with_the_pasted_token(
    server: FakeCloudflare, make: Make, bucket: str, behaviour: Behaviour, kind: type[CloudflareError] | None
) -> None:
    """The answer says whether this token may read it, not whether the bot may."""
    client = make(base_url=server.base_url)
    reading = client.get_catalog_as(_key(bucket), Secret(make_token(behaviour)), _yes)
    if kind is None:
        assert (await reading).bucket == bucket
    else:
        with pytest.raises(kind):
            await reading
    assert [request.method for request in server.requests] == ["GET"]


async def test_reading_with_the_token_finds_the_family_that_is_there(server: FakeCloudflare, make: Make) -> None:
    """As the bot's own reading does."""
    server.families.discard("r2-catalog")
    client = make(base_url=server.base_url)
    assert (await client.get_catalog_as(LAKE, Secret(GOOD), _yes)).bucket == "lake"
    await client.get_catalog(LAKE)
    assert [request.path.split("/")[5] for request in server.requests] == ["r2-catalog", *["basin-catalog"] * 2]


# The test of a stored credential.


@pytest.mark.parametrize("catalog_api", [CatalogApi.AUTO, CatalogApi.BASIN_CATALOG])
@pytest.mark.parametrize(
    ("token", "status"),
    [
        (GOOD, CredentialStatus.VALID),
        (make_token(Behaviour.STORED_INVALID), CredentialStatus.INVALID),
        (None, CredentialStatus.ABSENT),
    ],
    ids=["works", "does not", "none"],
)
async def test_a_stored_credential_is_tested(
    server: FakeCloudflare, make: Make, token: str | None, status: CredentialStatus, catalog_api: CatalogApi
) -> None:
    """By the newer path family, whichever family the other calls use."""
    server.add_bucket("lake", token=token)
    client = make(base_url=server.base_url, catalog_api=catalog_api)
    await client.get_catalog(LAKE)
    assert await client.test_credential(LAKE) is status
    assert server.requests[-1].path.endswith("/basin-catalog/lake/credential/status")


async def test_with_the_older_family_nothing_is_tested(server: FakeCloudflare, make: Make) -> None:
    """It has no test: nothing is sent."""
    client = make(base_url=server.base_url, catalog_api=CatalogApi.R2_CATALOG)
    with pytest.raises(RouteGone):
        await client.test_credential(LAKE)
    assert server.requests == []


async def test_a_missing_test_is_remembered_for_an_hour(server: FakeCloudflare, make: Make) -> None:
    """Then it is tried again, and found once it exists."""
    now = 1000.0
    server.offers_status = False
    client = make(base_url=server.base_url, timer=lambda: now)
    for _ in range(3):
        with pytest.raises(RouteGone):
            await client.test_credential(LAKE)
    assert len(server.requests) == 1

    now += NOT_OFFERED_FOR.total_seconds() - 1
    server.offers_status = True
    with pytest.raises(RouteGone):
        await client.test_credential(_key("swamp"))
    assert len(server.requests) == 1

    now += 1
    assert await client.test_credential(_key("swamp")) is CredentialStatus.VALID
    assert await client.test_credential(LAKE) is CredentialStatus.ABSENT
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: _no(404, 7003), id="7003"),
        pytest.param(lambda _: _no(404, 7000), id="7000"),
        pytest.param(lambda _: httpx.Response(404), id="404"),
        pytest.param(lambda _: httpx.Response(405), id="405"),
        pytest.param(lambda _: httpx.Response(410), id="410"),
    ],
)
async def test_answers_that_mean_no_test_is_offered(make: Make, answer: Handler) -> None:
    """Requested once, and not again by the next call."""
    seen: list[httpx.URL] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url)
        return answer(request)

    client = make(handler=handler)
    for bucket in ("lake", "swamp"):
        with pytest.raises(RouteGone):
            await client.test_credential(_key(bucket))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(lambda _: httpx.Response(503), CloudflareUnavailable, id="down"),
        pytest.param(lambda _: _no(429, 971), Throttled, id="throttled"),
        pytest.param(lambda _: _no(403, 10000), CallerRejected, id="may not"),
        pytest.param(lambda _: _no(404, 40401), CatalogNotEnabled, id="no catalog"),
        pytest.param(lambda _: _no(404, 40406), NoSuchBucket, id="no such bucket"),
        pytest.param(lambda _: _ok({"status": "present"}), AnswerNotUnderstood, id="another word"),
        pytest.param(lambda _: httpx.Response(200, html="<html>"), AnswerNotUnderstood, id="a page"),
    ],
)
async def test_nothing_else_makes_a_test_missing(make: Make, answer: Handler, kind: type[CloudflareError]) -> None:
    """An error that passes, or is about one bucket, does not prevent the next request."""
    answers: list[Handler] = [answer, lambda _: _ok({"status": "valid"})]

    def handler(request: httpx.Request) -> httpx.Response:
        return answers.pop(0)(request)

    client = make(handler=handler)
    with pytest.raises(kind):
        await client.test_credential(LAKE)
    assert await client.test_credential(LAKE) is CredentialStatus.VALID


# Enabling.


@pytest.mark.parametrize("bucket", ["lake", "swamp", "pond"])
@pytest.mark.parametrize("gone", ["none", "r2-catalog", "basin-catalog"])
async def test_a_catalog_is_enabled(server: FakeCloudflare, make: Make, bucket: str, gone: str) -> None:
    """An active one, an inactive one, and one that never was; repeating it changes nothing."""
    server.families.discard(gone)
    client = make(base_url=server.base_url)
    for _ in range(2):
        await client.enable_catalog(_key(bucket), _yes)
    assert (await client.get_catalog(_key(bucket))).status is CatalogStatus.ACTIVE
    assert {request.body for request in server.requests} == {b""}


@pytest.mark.parametrize("status", ["active", "inactive"])
async def test_an_existing_catalog_is_enabled_if_it_is_active(make: Make, status: str) -> None:
    """OpenAPI documents 409 "Catalog already enabled"; whether an inactive one gets it too is not documented."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return _no(409, 40901, "Catalog already enabled")
        return httpx.Response(200, json={"success": True, "errors": [], "result": {"bucket": "lake", "status": status}})

    client = make(handler=handler)
    if status == "active":
        await client.enable_catalog(LAKE, _yes)
    else:
        with pytest.raises(CatalogInactive):
            await client.enable_catalog(LAKE, _yes)


@pytest.mark.parametrize(
    ("answer", "kind", "possibly_landed"),
    [
        pytest.param(lambda _: _no(404, 40406), NoSuchBucket, False, id="no such bucket"),
        pytest.param(lambda _: _no(403, 10000), CallerRejected, False, id="may not"),
        pytest.param(lambda _: _no(403, 10001, "Method not allowed for token"), CallerNotAllowed, False, id="10001"),
        pytest.param(lambda _: _no(400, 123456), RequestRejected, False, id="unknown no"),
        pytest.param(lambda _: _no(429, 971), Throttled, False, id="throttled"),
        pytest.param(lambda _: httpx.Response(503), CloudflareUnavailable, True, id="down"),
        pytest.param(lambda _: httpx.Response(200, html="<html>"), AnswerNotUnderstood, True, id="a page"),
    ],
)
async def test_enabling_that_fails(
    make: Make, answer: Handler, kind: type[CloudflareError], *, possibly_landed: bool
) -> None:
    """It is requested once and never retried."""
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        return answer(request)

    with pytest.raises(kind) as caught:
        await make(handler=handler).enable_catalog(_key("pond"), _yes)
    assert (seen, caught.value.possibly_landed) == (["POST"], possibly_landed)


async def test_without_the_lease_nothing_is_enabled(server: FakeCloudflare, make: Make) -> None:
    """Neither by the first request nor by the one to the other family."""
    client = make(base_url=server.base_url)
    with pytest.raises(LeaseLost):
        await client.enable_catalog(_key("pond"), _fence(False)[1])  # noqa: FBT003 - the answers, in their order
    server.families.discard("r2-catalog")
    with pytest.raises(LeaseLost):
        await client.enable_catalog(_key("pond"), _fence(True, False)[1])  # noqa: FBT003 - the same
    assert server.buckets["pond"].catalog is None


FAILURES: dict[str, Handler | Exception] = {
    "refused": lambda _: _no(400, 30005),
    "down": lambda _: httpx.Response(503, text=GOOD),
    "not understood": lambda _: httpx.Response(200, text=GOOD),
    "gone": lambda _: _no(404, 7003),
    "never sent": httpx.ConnectError("x"),
    "broken": httpx.ReadError("x"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("auth", [BEARER, KEY], ids=["bearer", "e-mail and key"])
async def test_an_error_keeps_no_secret(make: Make, failure: Handler | Exception, auth: ApiToken | ApiKey) -> None:
    """Neither the error, its context, nor a frame of its traceback holds a request, a response or a token."""

    def handler(request: httpx.Request) -> httpx.Response:
        if isinstance(failure, Exception):
            raise failure
        return failure(request)

    with pytest.raises(CloudflareError) as caught:
        await make(handler=handler, auth=auth).store_credential(LAKE, Secret(GOOD), _yes)

    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert _find_secrets(error.__traceback__) == []
    assert not any(secret in pickle.dumps(error) for secret in (GOOD.encode(), SANDBOX_API_TOKEN.encode()))


def _find_secrets(traceback: TracebackType | None) -> list[str]:
    """List the locals, in frames outside this module, that are httpx's or show a secret."""
    secrets = (GOOD, SANDBOX_API_TOKEN, SANDBOX_API_KEY)
    return [
        f"{module}: {name}"
        for module, name, value in _list_locals(traceback)
        if isinstance(value, httpx.Request | httpx.Response | httpx.HTTPError)
        or any(secret in repr(value) for secret in secrets)
        or module.startswith(("httpx", "httpcore"))
    ]


def _list_locals(traceback: TracebackType | None) -> Iterator[tuple[str, str, object]]:
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals["__name__"])
        if module != __name__:
            for name, value in traceback.tb_frame.f_locals.items():
                yield module, name, value
        traceback = traceback.tb_next


async def test_a_cancellation_keeps_no_secret(server: FakeCloudflare, make: Make) -> None:
    """The exception that ends a task at shutdown also drops httpx's frames."""
    server.fail_next("credential", delay=5)
    task = asyncio.create_task(make(base_url=server.base_url).store_credential(LAKE, Secret(GOOD), _yes))
    while not server.requests:  # noqa: ASYNC110 - the server is the one under test's peer; it has no event to wait for
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert task.cancelled()
    assert caught.value.__context__ is None
    assert _find_secrets(caught.value.__traceback__) == []


async def test_the_request_never_holds_the_pasted_token(make: Make) -> None:
    """The body is built while it is sent, so httpx's request object cannot show it."""
    kept: list[httpx.Request] = []

    class Keeping(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            kept.append(request)
            sent = b"".join([part async for part in request.stream])  # type: ignore[union-attr]  # ours is asynchronous
            assert sent == f'{{"token":"{GOOD}"}}'.encode()
            assert request.headers["content-length"] == str(len(sent))
            return _ok(None)

    await make(transport=Keeping()).store_credential(LAKE, Secret(GOOD), _yes)
    assert not hasattr(kept[0], "_content")
    assert GOOD not in repr(vars(kept[0])) + repr(vars(kept[0].stream))


async def test_nothing_is_logged_at_debug(server: FakeCloudflare, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """At any log level, httpx and httpcore stay silent: no header, address or bucket."""
    client = make(base_url=server.base_url)
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    await client.store_credential(LAKE, Secret(GOOD), _yes)
    with pytest.raises(NoSuchBucket):
        await client.get_catalog(_key("nowhere"))
    server.fail_next("list", drop_before_store=True)
    with pytest.raises(CloudflareUnreachable):
        await client.list_catalogs()
    assert [record for record in caplog.records if record.name.startswith(("httpx", "httpcore"))] == []
    assert not any(word in caplog.text for word in (GOOD, SANDBOX_API_TOKEN, SANDBOX_ACCOUNT_ID))


@pytest.mark.parametrize("text", ["", "two words", "line\nbreak", "tab\t", "nul\0", "naïve", "\u2028", "\ud800"])
def test_credentials_that_no_header_can_carry_are_refused_early(text: str) -> None:
    """Unlike ours, the exception of httpx would quote them."""
    makers: list[Callable[[], object]] = [
        lambda: ApiToken(token=Secret(text)),
        lambda: ApiKey(email="operator@example.com", key=Secret(text)),
        lambda: ApiKey(email=text, key=Secret("made-up")),
    ]
    for maker in makers:
        with pytest.raises(ValueError, match="no HTTP header can carry") as caught:
            maker()
        assert not text or text not in str(caught.value)


def test_credentials_are_masked() -> None:
    """In a repr of the dataclasses."""
    assert SANDBOX_API_TOKEN not in repr(BEARER)
    assert SANDBOX_API_KEY not in repr(KEY)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.cloudflare.com/client/v4",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0:80",
        "ftp://api.cloudflare.com",
        "api.cloudflare.com",
        "https://",
        "https://somebody@api.cloudflare.com",
        "https://api.cloudflare.com?x=1",
        "https://api.cloudflare.com#x",
        "",
    ],
)
def test_base_urls_that_would_leak_are_refused(make: Make, base_url: str) -> None:
    """Credentials go out encrypted, or stay on this machine."""
    with pytest.raises(ValueError, match="base URL"):
        make(base_url=base_url)


@pytest.mark.parametrize("base_url", [HTTPS, HTTPS + "/", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"])
def test_base_urls_that_are_accepted(make: Make, base_url: str) -> None:
    """Https anywhere, http on loopback."""
    make(base_url=base_url)


@pytest.mark.parametrize("account_id", ["", "A" * 32, "0" * 31, "../" + "0" * 29, "0" * 32 + "\n"])
def test_a_malformed_account_id_is_refused(account_id: str) -> None:
    """It would be part of every path."""
    with pytest.raises(ValueError, match="account id"):
        CloudflareClient(account_id=account_id, base_url=HTTPS, auth=BEARER)


def test_every_logger_below_is_known() -> None:
    """A new logger of httpcore would not be silenced: this test would name it."""
    names = {name for name in logging.root.manager.loggerDict if name.split(".")[0] in {"httpx", "httpcore"}}
    assert names <= set(exchange_module._TALKATIVE_LOGGERS)


async def test_a_request_gives_way_before_its_turn_and_not_after_it(server: FakeCloudflare, make: Make) -> None:
    """A delivery looks at what is to be sent when it has its turn: nothing may wait between that and the request."""
    held = Held()
    client = make(base_url=server.base_url, right_of_way=held, pace=LocalPace(lambda: NOW))

    taking = asyncio.create_task(client.turn(Urgency.WRITE))
    await held.came.get()
    assert not taking.done()
    held.let_go.set()
    turn = await taking
    assert isinstance(turn, Turn)
    held.let_go.clear()

    await client.list_catalogs(turn)
    assert held.came.empty()
    assert len(server.requests) == 1
