"""The client for tokens that the bot creates itself, against the fake Cloudflare and unusual answers."""

import asyncio
import copy
import json
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cloudflare import AsyncCloudflare
from hypothesis import given
from hypothesis import strategies as st

from bot.cloudflare.answers import TokenStatus
from bot.cloudflare.auth import ApiToken
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import (
    AnswerNotUnderstood,
    BlockedOnTheWay,
    CatalogInactive,
    CatalogNotEnabled,
    CatalogOutOfReach,
    ChallengePage,
    CloudflareError,
    CloudflareUnavailable,
    CloudflareUnreachable,
    CredentialRefused,
    EdgeRefused,
    NoSuchBucket,
    Throttled,
    TokenInvalid,
)
from bot.cloudflare.exchange import Turn
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.minting_answers import ListedToken, Minted
from bot.cloudflare.minting_errors import (
    CatalogSwitchedOff,
    MintedTokenGone,
    MintedTokenRefused,
    MintedTokenUseless,
    MintingRefused,
    MintingRightMissing,
    MintingTokenDisabled,
    MintingTokenExpired,
    MintingTokenLimitedToAddresses,
    MintingTokenRejected,
    PermissionNotGrantable,
    RevocationRefused,
    TokenNotOurs,
    TokenQuotaReached,
    as_minted,
)
from bot.cloudflare.minting_policies import BUCKET_ITEM_WRITE, CATALOG_WRITE, STORAGE_WRITE
from bot.cloudflare.pace import LocalPace, Pace
from bot.model.catalog import BucketKey
from bot.model.errors import BotError, DatabaseUnavailable, LeaseLost
from bot.model.secret import Secret
from bot.model.token_name import Scope, TokenName
from bot.sandbox.account_tokens import NameFilter
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_MINTING_TOKEN, FakeCloudflare
from bot.sandbox.standing import MintingState
from tests.clock import Clock
from tests.in_memory import InMemory

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
EXPIRES = datetime(2027, 1, 12, tzinfo=UTC)
MARK, OTHER_MARK = "4f3a9c1e", "4f3a9c1f"
NAME = TokenName(installation=MARK, bucket="lake", random="9k2m4p7q1x")
FOREIGN = TokenName(installation=OTHER_MARK, bucket="lake", random="9k2m4p7q1x")
ID = "0f" * 16
VALUE = "cfat_MADEUPmarkedvalue00000000000000000000000deadbeef"
Make = Callable[..., MintingClient]
Handler = Callable[[httpx.Request], httpx.Response]


async def _yes() -> bool:
    """Allow it: the lease still holds."""
    return True


async def _no() -> bool:
    """Forbid it: the lease is lost."""
    return False


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock(NOW)


@pytest.fixture
def server(clock: Clock) -> FakeCloudflare:
    """Return a fake Cloudflare that needs no socket."""
    small = FakeCloudflare(clock=clock, timer=lambda: clock().timestamp())
    small.add_bucket("lake")
    return small


@pytest_asyncio.fixture
async def make(server: FakeCloudflare, clock: Clock) -> AsyncIterator[Make]:
    """Build clients, and close them afterwards."""
    clients: list[MintingClient] = []

    def build(handler: Handler | None = None, *, pace: Pace | None = None) -> MintingClient:
        clients.append(
            MintingClient(
                account_id=SANDBOX_ACCOUNT_ID,
                base_url="http://127.0.0.1:1/client/v4",
                token=Secret(SANDBOX_MINTING_TOKEN),
                installation=MARK,
                serves=lambda key: key.bucket != "reserved",
                pace=pace,
                clock=clock,
                transport=httpx.MockTransport(handler) if handler else InMemory(server),
            )
        )
        return clients[-1]

    yield build
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(make: Make) -> MintingClient:
    """Return a client of the fake Cloudflare."""
    return make()


async def _create(client: MintingClient, name: TokenName = NAME, scope: Scope = Scope.BUCKET) -> Minted:
    return await client.create(name, scope, EXPIRES, _yes)


def _fault(status: int, code: int | None, message: str = "made up") -> httpx.Response:
    error: dict[str, object] = {"message": message} if code is None else {"code": code, "message": message}
    return httpx.Response(status, json={"success": False, "errors": [error], "messages": [], "result": None})


def _ok(result: object, **more: object) -> httpx.Response:
    return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": result, **more})


def _there(answer: httpx.Response) -> Handler:
    """Return what says that the token is there, and to a change, this."""
    token = {"id": ID, "name": str(NAME), "status": "active"}
    return lambda request: _ok(token) if request.method == "GET" else copy.copy(answer)


async def test_the_life_of_a_token(server: FakeCloudflare, client: MintingClient) -> None:
    """Created, found, disabled, enabled and deleted; each end is told apart from its absence."""
    minted = await _create(client)
    listed = ListedToken(id=minted.id, name=NAME, status=TokenStatus.ACTIVE, expires_at=EXPIRES)
    assert server.tokens.tokens[minted.id].value == minted.value.reveal()
    assert minted.expires_at == EXPIRES
    assert await client.get(minted.id, NAME) == await client.find(NAME) == listed
    assert await client.list_bots() == [listed]
    assert await client.count_all() == 1

    change = (minted.id, NAME, Scope.BUCKET, EXPIRES, _yes)
    assert await client.set_status(*change, is_active=False) is True
    off = await client.get(minted.id, NAME)
    assert off is not None
    assert (off.status, off.expires_at) == (TokenStatus.DISABLED, EXPIRES)
    assert await client.set_status(*change, is_active=True) is True
    assert server.tokens.tokens[minted.id].status == "active"

    assert await client.delete(minted.id, NAME, _yes) is True
    assert await client.delete(minted.id, NAME, _yes) is False
    assert await client.set_status(*change, is_active=False) is False
    assert await client.get(minted.id, NAME) is None
    assert await client.find(NAME) is None
    assert await client.list_bots() == []


@pytest.mark.parametrize("scope", Scope)
async def test_the_minted_token_serves(server: FakeCloudflare, client: MintingClient, scope: Scope) -> None:
    """Either scope reads the catalog and is taken for its slot; a change keeps what it may do."""
    minted = await _create(client, scope=scope)
    await client.set_status(minted.id, NAME, scope, EXPIRES, _yes, is_active=True)
    worker = CloudflareClient(
        account_id=SANDBOX_ACCOUNT_ID,
        base_url=server.base_url,
        auth=ApiToken(token=Secret(server.api_token)),
        transport=InMemory(server),
    )
    key = NAME.key(SANDBOX_ACCOUNT_ID)
    await worker.get_catalog_as(key, minted.value, _yes)
    await worker.store_credential(key, minted.value, _yes)
    assert await worker.test_credential(key) == "valid"
    await worker.aclose()


async def test_requests_are_those_of_the_official_sdk(server: FakeCloudflare, client: MintingClient) -> None:
    """Method, path, query and body of each call; the SDK has no filter by name yet."""
    policies = [
        {
            "effect": "allow",
            "permission_groups": [{"id": CATALOG_WRITE.id}],
            "resources": {f"com.cloudflare.api.account.{SANDBOX_ACCOUNT_ID}": "*"},
        },
        {
            "effect": "allow",
            "permission_groups": [{"id": BUCKET_ITEM_WRITE.id}],
            "resources": {f"com.cloudflare.edge.r2.bucket.{SANDBOX_ACCOUNT_ID}_default_lake": "*"},
        },
    ]
    described: Any = {"name": str(NAME), "policies": policies, "expires_on": "2027-01-12T00:00:00Z"}
    minted = await _create(client)
    await client.find(NAME)
    await client.get(minted.id, NAME)
    await client.set_status(minted.id, NAME, Scope.BUCKET, EXPIRES, _yes, is_active=False)
    await client.permission_groups()
    await client.verify_own()
    await client.delete(minted.id, NAME, _yes)
    ours = [_essence(request) for request in server.requests]
    server.requests.clear()

    http = httpx.AsyncClient(transport=InMemory(server))
    options: Any = {"api_token": SANDBOX_MINTING_TOKEN, "max_retries": 0, "http_client": http}
    async with AsyncCloudflare(base_url=server.base_url, **options) as sdk:
        tokens: Any = sdk.accounts.tokens
        account = {"account_id": SANDBOX_ACCOUNT_ID}
        created = await tokens.create(**account, **described)
        await tokens.list(**account, page=1, per_page=50, include_expired=True, extra_query={"name": str(NAME)})
        await tokens.get(created.id, **account)
        await tokens.get(created.id, **account)
        await tokens.update(created.id, **account, **described, status="disabled")
        await tokens.permission_groups.list(**account)
        await tokens.verify(**account)
        await tokens.get(created.id, **account)
        await tokens.delete(created.id, **account)
        theirs = [_essence(request, created.id, minted.id) for request in server.requests]
    assert ours == theirs


def _essence(request: Any, *ids: str) -> object:  # noqa: ANN401 - ReceivedRequest
    path = request.path.replace(*ids) if ids else request.path
    return request.method, path, dict(request.query), json.loads(request.body or b"null")


@pytest.mark.parametrize("foreign", ["terraform", str(FOREIGN), f"{NAME} 2", str(NAME).upper()])
async def test_a_row_with_the_id_of_a_foreign_token_changes_nothing(
    server: FakeCloudflare, client: MintingClient, foreign: str
) -> None:
    """A gateway that is taken over can sign such a row. A change would give the token our name, and then delete it."""
    victim = server.tokens.add(foreign, [], EXPIRES)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.set_status(victim.id, NAME, Scope.BUCKET, EXPIRES, _yes, is_active=False),
        lambda: client.delete(victim.id, NAME, _yes),
    ]

    for call in calls:
        with pytest.raises(TokenNotOurs):
            await call()

    assert {request.method for request in server.requests} == {"GET"}
    assert (victim.name, victim.status, victim.is_deleted) == (foreign, "active", False)


@pytest.mark.parametrize("name", [FOREIGN, TokenName(installation=MARK, bucket="reserved", random="0" * 10)])
async def test_what_is_not_ours_is_not_created(server: FakeCloudflare, client: MintingClient, name: TokenName) -> None:
    """Another installation's mark, or a bucket that is not served: nothing is sent."""
    with pytest.raises(TokenNotOurs):
        await _create(client, name)
    assert server.requests == []


@pytest.mark.parametrize(
    ("token_id", "name"),
    [(ID, FOREIGN), ("verify", NAME), ("permission_groups", NAME), ("../x", NAME), ("", NAME), (ID + "/value", NAME)],
)
async def test_what_is_not_ours_is_not_touched(
    server: FakeCloudflare, client: MintingClient, token_id: str, name: TokenName
) -> None:
    """No call is sent about another's token, or with an id that is none and would be another path."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.get(token_id, name),
        lambda: client.set_status(token_id, name, Scope.BUCKET, EXPIRES, _yes, is_active=False),
        lambda: client.delete(token_id, name, _yes),
    ]
    for call in calls:
        with pytest.raises(TokenNotOurs):
            await call()
    if name is FOREIGN:
        with pytest.raises(TokenNotOurs):
            await client.find(name)
    assert server.requests == []


@pytest.mark.parametrize("name", ["somebody's", str(FOREIGN)])
async def test_a_token_with_another_name_at_cloudflare_is_not_ours(
    server: FakeCloudflare, client: MintingClient, name: str
) -> None:
    """A row may be forged, or somebody renamed the token: its own name decides."""
    server.tokens.add(name, [])
    token_id = next(iter(server.tokens.tokens))
    with pytest.raises(TokenNotOurs):
        await client.get(token_id, NAME)


@pytest.mark.parametrize("name_filter", ["part", "whole", "ignored"])
async def test_tokens_are_listed_whatever_the_filter_does(
    server: FakeCloudflare, client: MintingClient, name_filter: NameFilter
) -> None:
    """Over several pages, expired ones too, and never those of others or of another name that begins alike."""
    server.tokens.name_filter = name_filter
    names = [TokenName.new(MARK, "lake") for _ in range(60)]
    for name in names:
        server.tokens.add(str(name), [], NOW - timedelta(days=1))
        server.tokens.add(f"somebody's {name.random}", [])
    for other in (str(FOREIGN), f"{NAME} ", f"{NAME}0", "r2-credential-bot", f"x {NAME}", str(NAME).upper()):
        server.tokens.add(other, [])

    for _ in range(2):  # the client has learnt what the filter does
        listed = await client.list_bots()
        assert {token.name for token in listed} == {*names, FOREIGN}
        assert {token.name for token in listed if token.status is TokenStatus.EXPIRED} == set(names)
    server.requests.clear()
    found = await client.find(names[-1])
    assert found is not None
    assert found.name == names[-1]
    assert len(server.requests) == (1 if name_filter != "ignored" else 3)


@pytest.mark.parametrize("name_filter", ["part", "whole", "ignored"])
async def test_what_the_filter_does_can_be_found_out(
    server: FakeCloudflare, client: MintingClient, name_filter: NameFilter
) -> None:
    """With a token that is listed; for one that is not, nothing is found."""
    server.tokens.name_filter = name_filter
    server.tokens.add("somebody's", [])
    expected = name_filter if name_filter == "ignored" else "broken"
    assert await client.examine_filter(NAME) == expected
    await _create(client)
    assert await client.examine_filter(NAME) == name_filter


async def test_a_list_without_tokens_of_the_bots(server: FakeCloudflare, client: MintingClient) -> None:
    """Nothing found says nothing of the filter, so all are read."""
    server.tokens.add("somebody's", [])
    assert await client.list_bots() == []
    assert [request.query.get("name") for request in server.requests] == ["r2-credential-bot", None]


async def test_a_list_that_shifts_shows_no_token_twice(make: Make) -> None:
    """Another token is created while the pages are read."""
    entries = [
        {"id": f"{number:032x}", "name": str(TokenName.new(MARK, "lake")), "status": "active"} for number in range(60)
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        return _ok(entries[:50] if request.url.params["page"] == "1" else entries[45:])

    assert len(await make(answer).list_bots()) == 60


async def test_a_page_may_have_fewer_than_were_asked_for(make: Make) -> None:
    """What is on the next one would count as gone."""
    entries = [
        {"id": f"{number:032x}", "name": str(TokenName.new(MARK, "lake")), "status": "active"} for number in range(60)
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        start = 20 * (int(request.url.params["page"]) - 1)
        info = {"total_count": len(entries)}
        return _ok(entries[start : start + 20], result_info=info)

    assert len(await make(answer).list_bots()) == 60


async def test_a_list_that_does_not_end_is_no_list(make: Make) -> None:
    """A server that ignores the page always has another one, and what it does not show would count as gone."""
    calls = []
    entry = {"id": ID, "name": str(NAME), "status": "active"}

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return _ok([entry] * 50)

    with pytest.raises(AnswerNotUnderstood):
        await make(answer).list_bots()
    assert len(calls) == 200


async def test_each_request_of_a_list_takes_its_turn(server: FakeCloudflare, make: Make, clock: Clock) -> None:
    """The pace is the minting token's own."""
    for _ in range(60):
        server.tokens.add(str(TokenName.new(MARK, "lake")), [])
    pace = LocalPace(clock)
    client = make(pace=pace)
    turn = await client.turn(Urgency.WRITE)
    assert isinstance(turn, Turn)
    await client.list_bots(turn)
    left, quota = await pace.left()
    assert (quota, left) == (1200, 1164 - 2)


async def test_permission_groups(server: FakeCloudflare, client: MintingClient) -> None:
    """What cannot be granted, for each scope."""
    grantable = await client.permission_groups()
    assert [grantable.refused(scope) for scope in Scope] == [[], []]
    server.tokens.not_selectable.add(STORAGE_WRITE.id)
    server.tokens.missing.add(BUCKET_ITEM_WRITE.id)
    grantable = await client.permission_groups()
    assert grantable.refused(Scope.BUCKET) == [BUCKET_ITEM_WRITE]
    assert grantable.refused(Scope.ACCOUNT) == [STORAGE_WRITE]
    assert (grantable.missing, grantable.not_selectable) == (
        frozenset({BUCKET_ITEM_WRITE}),
        frozenset({STORAGE_WRITE}),
    )


@pytest.mark.parametrize(
    ("entry", "is_missing"),
    [
        ({"id": CATALOG_WRITE.id}, False),
        ({"id": CATALOG_WRITE.id, "scopes": None}, False),
        ({"id": CATALOG_WRITE.id, "scopes": [CATALOG_WRITE.scope, "other"]}, False),
        ({"id": CATALOG_WRITE.id, "scopes": ["com.cloudflare.edge.r2.bucket"]}, True),
        ({"id": "0" * 32, "name": CATALOG_WRITE.name}, True),
        ({"id": [CATALOG_WRITE.id]}, True),
        ({}, True),
        ("made up", True),
    ],
)
async def test_a_permission_without_our_scope_is_missing(make: Make, entry: object, *, is_missing: bool) -> None:
    """Cloudflare may leave out the scopes."""
    grantable = await make(lambda _: _ok([entry])).permission_groups()
    assert (CATALOG_WRITE in grantable.missing) is is_missing


@pytest.mark.parametrize(
    ("state", "verify", "create"),
    [
        ("unknown", MintingTokenRejected, MintingTokenRejected),
        ("expired", MintingTokenExpired, MintingTokenRejected),
        ("disabled", MintingTokenDisabled, MintingTokenRejected),
        ("lacks the right", None, MintingRightMissing),
        ("limited to addresses", MintingTokenLimitedToAddresses, MintingTokenLimitedToAddresses),
    ],
)
async def test_a_minting_token_that_cannot_be_used(
    server: FakeCloudflare,
    client: MintingClient,
    state: MintingState,
    verify: type[CloudflareError] | None,
    create: type[CloudflareError],
) -> None:
    """Verifying it says why it is refused; nothing was created."""
    server.minting_state = state
    if verify is None:
        await client.verify_own()
    else:
        with pytest.raises(verify):
            await client.verify_own()
    with pytest.raises(create) as caught:
        await _create(client)
    assert caught.value.possibly_landed is False


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"status": "active"}, None),
        ({"status": "active", "expires_on": "2026-11-24T08:30:00Z"}, MintingTokenExpired),
        ({"status": "active", "not_before": "2026-11-24T08:30:01Z"}, MintingTokenRejected),
        ({"status": "revoked (exposed)"}, MintingTokenDisabled),
        ({"status": "of tomorrow"}, AnswerNotUnderstood),
    ],
)
async def test_what_verifying_the_minting_token_means(
    make: Make, told: dict[str, str], kind: type[CloudflareError] | None
) -> None:
    """By Cloudflare's time, else by ours."""
    client = make(lambda _: _ok({"id": ID, **told}))
    if kind is None:
        assert (await client.verify_own()).id == ID
        return
    with pytest.raises(kind):
        await client.verify_own()


REFUSED = [
    (_fault(400, None, "name must have a length between 1 and 120"), MintingRefused),
    (_fault(400, 1001, "name must have a length between 1 and 120"), MintingRefused),
    (_fault(400, 1001), PermissionNotGrantable),
    (_fault(403, 1001), PermissionNotGrantable),
    (_fault(400, 1001, "Token quota exceeded"), TokenQuotaReached),
    (_fault(403, 77, "maximum number of tokens"), TokenQuotaReached),
    (_fault(404, 1003), MintingRefused),
    (_fault(404, 7003), MintingRefused),
    (_fault(400, 77), MintingRefused),
    (_fault(200, 77), MintingRefused),
    (_fault(400, 30004), MintingRefused),
    (_fault(404, 40401), MintingRefused),
    (_fault(403, 10042), MintingRefused),
    (_fault(401, 1000), MintingTokenRejected),
    (_fault(403, 10000, "Authentication error"), MintingTokenRejected),
    (_fault(400, 6003), MintingTokenRejected),
    (_fault(403, None), MintingTokenRejected),
    (_fault(403, 10000, "Forbidden"), MintingRightMissing),
    (_fault(403, 9109, "Unauthorized to access requested resource"), MintingRightMissing),
    (_fault(403, 10001, "Method not allowed for token"), MintingRightMissing),
    (_fault(403, 9109, "Cannot use the access token from location: 192.0.2.7"), MintingTokenLimitedToAddresses),
    (_fault(429, 971), Throttled),
    (httpx.Response(429), Throttled),
    (httpx.Response(403, text="error code: 1020"), EdgeRefused),
    (httpx.Response(403, json={"error_code": 1010}), EdgeRefused),
    (httpx.Response(403, text="made up", headers={"cf-mitigated": "challenge"}), ChallengePage),
]
UNCLEAR = [
    (_fault(500, 1001), CloudflareUnavailable),
    (_fault(503, None), CloudflareUnavailable),
    (_fault(408, None), CloudflareUnavailable),
    (_fault(500, 10001, "internal error"), CloudflareUnavailable),
    (_fault(400, 10001, "internal error"), CloudflareUnavailable),
    (_fault(200, None), AnswerNotUnderstood),
    (httpx.Response(502, text="<html>made up</html>"), CloudflareUnavailable),
    (httpx.Response(520, text="error code: 1033"), EdgeRefused),
    (httpx.Response(302, headers={"location": "https://example.com"}), AnswerNotUnderstood),
    (httpx.Response(403, text="<html>blocked: the answer held a secret</html>"), BlockedOnTheWay),
    (httpx.Response(451), BlockedOnTheWay),
    (httpx.Response(403), MintingRefused),
    (httpx.Response(401), MintingTokenRejected),
    (httpx.Response(404), MintingRefused),
    (httpx.Response(404, json={"made": "up"}), MintingRefused),
    (httpx.Response(200, text="made up"), AnswerNotUnderstood),
    (_ok(None), AnswerNotUnderstood),
    (_ok({"id": ID, "name": str(NAME), "status": "active"}), AnswerNotUnderstood),
    (_ok({"id": ID, "name": str(NAME), "status": "active", "value": 7}), AnswerNotUnderstood),
    (_ok({"id": "x", "name": str(NAME), "status": "active", "value": VALUE}), AnswerNotUnderstood),
    (_ok({"id": ID, "name": str(FOREIGN), "status": "active", "value": VALUE}), AnswerNotUnderstood),
    (_ok({"id": ID, "name": str(NAME), "status": "active", "value": VALUE, "expires_on": "?"}), AnswerNotUnderstood),
    (httpx.Response(200, content=b"x", headers={"content-encoding": "gzip"}), AnswerNotUnderstood),
]


@pytest.mark.parametrize(
    ("answer", "kind", "possibly_landed"),
    [
        *(pytest.param(answer, kind, False, id=f"refused {n}") for n, (answer, kind) in enumerate(REFUSED)),
        *(pytest.param(answer, kind, True, id=f"unclear {n}") for n, (answer, kind) in enumerate(UNCLEAR)),
    ],
)
async def test_whether_a_create_may_have_landed(
    make: Make, answer: httpx.Response, kind: type[CloudflareError], *, possibly_landed: bool
) -> None:
    """Only the API's own no, or one from before it, says that there is no token."""
    with pytest.raises(CloudflareError) as caught:
        await _create(make(lambda _: copy.copy(answer)))
    assert (type(caught.value), caught.value.possibly_landed) == (kind, possibly_landed)


@pytest.mark.parametrize(
    ("failure", "possibly_landed"),
    [
        (httpx.ConnectError("made up"), False),
        (httpx.ConnectTimeout("made up"), False),
        (httpx.ProxyError("503 made up"), False),
        (httpx.ReadError("made up"), True),
        (httpx.ReadTimeout("made up"), True),
        (httpx.WriteError("made up"), True),
        (httpx.RemoteProtocolError("made up"), True),
        (OSError("made up"), True),
        (TimeoutError(), True),
    ],
)
async def test_whether_a_create_without_an_answer_may_have_landed(
    make: Make, failure: Exception, *, possibly_landed: bool
) -> None:
    """Not where no connection was made."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(CloudflareUnreachable) as caught:
        await _create(make(fail))
    assert caught.value.possibly_landed is possibly_landed


async def test_a_lost_lease_sends_nothing(server: FakeCloudflare, client: MintingClient) -> None:
    """A process that was frozen creates, changes and deletes nothing when it wakes up."""
    minted = await _create(client)
    before = len(server.requests)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.create(TokenName.new(MARK, "lake"), Scope.BUCKET, EXPIRES, _no),
        lambda: client.set_status(minted.id, NAME, Scope.BUCKET, EXPIRES, _no, is_active=False),
        lambda: client.delete(minted.id, NAME, _no),
    ]
    for call in calls:
        with pytest.raises(LeaseLost):
            await call()
    assert [request.method for request in server.requests[before:]] == ["GET", "GET"]


async def test_a_lease_that_is_lost_between_headers_and_body_creates_nothing(
    server: FakeCloudflare, client: MintingClient
) -> None:
    """A request without its body changes nothing."""
    answers = [True, False]

    async def may_send() -> bool:
        return answers.pop(0)

    with pytest.raises(LeaseLost):
        await client.create(NAME, Scope.BUCKET, EXPIRES, may_send)
    assert server.requests == []


async def test_a_database_that_fails_at_the_last_moment_sends_nothing(
    server: FakeCloudflare, client: MintingClient
) -> None:
    """Its error passes through."""

    async def may_send() -> bool:
        raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        await client.create(NAME, Scope.BUCKET, EXPIRES, may_send)
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "is_gone"),
    [
        (_fault(404, 1003), True),
        (_fault(403, 1003), True),
        (_fault(400, 1003), True),
        (_fault(404, 7003), True),
        (_fault(400, 7003), False),
        (_fault(404, None), False),
        (_fault(404, 77), False),
        (_fault(500, 1003), False),
        (httpx.Response(404), False),
        (_fault(403, 10000, "Forbidden"), False),
    ],
)
async def test_what_says_that_a_token_is_gone(make: Make, answer: httpx.Response, *, is_gone: bool) -> None:
    """Nothing but the API's codes for it: a wrong path must not look like a deletion."""
    client = make(lambda _: copy.copy(answer))
    calls: list[tuple[Callable[[], Awaitable[object]], object]] = [
        (lambda: client.get(ID, NAME), None),
        (lambda: client.set_status(ID, NAME, Scope.BUCKET, EXPIRES, _yes, is_active=False), False),
        (lambda: client.delete(ID, NAME, _yes), False),
    ]
    for call, gone in calls:
        if is_gone:
            assert await call() is gone
            continue
        with pytest.raises(CloudflareError):
            await call()


@pytest.mark.parametrize("answer", [_fault(400, 77), _fault(400, 1001)])
async def test_a_refusal_to_take_back_says_so(make: Make, answer: httpx.Response) -> None:
    """It is no refusal to create."""
    client = make(_there(answer))
    with pytest.raises(RevocationRefused) as caught:
        await client.set_status(ID, NAME, Scope.BUCKET, EXPIRES, _yes, is_active=False)
    assert caught.value.cloudflare_code in (77, 1001)


async def test_a_refusal_to_delete_says_so(make: Make) -> None:
    """The token is disabled by then."""
    with pytest.raises(RevocationRefused):
        await make(_there(_fault(400, 77))).delete(ID, NAME, _yes)


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        {"id": "1f" * 16, "name": str(NAME), "status": "disabled"},
        {"id": ID, "name": str(NAME), "status": "active"},
        {"id": ID, "name": str(NAME), "status": "of tomorrow"},
        {"id": ID, "name": 7, "status": "disabled"},
    ],
)
async def test_a_change_that_is_not_confirmed_is_unclear(make: Make, result: object) -> None:
    """Only an answer about this token with the new status is a success."""
    with pytest.raises(AnswerNotUnderstood) as caught:
        await make(_there(_ok(result))).set_status(ID, NAME, Scope.BUCKET, EXPIRES, _yes, is_active=False)
    assert caught.value.possibly_landed


@pytest.mark.parametrize(
    "answer",
    [
        _ok(None),
        _ok({}),
        _ok(["made up"]),
        _ok([{"id": "x", "name": str(NAME), "status": "active"}]),
        _ok([{"id": ID, "name": str(NAME), "status": "of tomorrow"}]),
        _ok([{"id": ID, "name": str(NAME), "status": "active", "expires_on": 7}]),
    ],
)
async def test_a_list_that_cannot_be_read_is_not_understood(make: Make, answer: httpx.Response) -> None:
    """A token of ours that was left out of it would count as gone."""
    with pytest.raises(AnswerNotUnderstood):
        await make(lambda _: copy.copy(answer)).list_bots()


@pytest.mark.parametrize(
    "more", [{}, {"result_info": None}, {"result_info": {"total_count": "1"}}, {"result_info": {"total_count": True}}]
)
async def test_a_count_that_is_missing_is_not_understood(make: Make, more: dict[str, object]) -> None:
    """The quota must not be taken for free."""
    with pytest.raises(AnswerNotUnderstood):
        await make(lambda _: _ok([], **more)).count_all()


async def test_groups_that_are_no_list_are_not_understood(make: Make) -> None:
    """Nor taken for missing."""
    with pytest.raises(AnswerNotUnderstood):
        await make(lambda _: _ok({})).permission_groups()


def _frames(trace: TracebackType | None) -> str:
    found = ""
    while trace is not None:
        found += str([repr(value) for value in trace.tb_frame.f_locals.values()])
        trace = trace.tb_next
    return found


@pytest.mark.parametrize(
    "result",
    [
        {"id": ID, "name": str(FOREIGN), "status": "active", "value": VALUE},
        {"id": "x", "name": str(NAME), "status": "active", "value": VALUE},
        {"id": ID, "name": str(NAME), "status": "active", "value": VALUE, "expires_on": "?"},
    ],
)
async def test_an_error_after_the_answer_keeps_no_value(make: Make, result: object) -> None:
    """Nor does any frame that it leads to, as error trackers keep them."""
    with pytest.raises(AnswerNotUnderstood) as caught:
        await _create(make(lambda _: _ok(result)))
    shown = "".join(traceback.format_exception(caught.value)) + _frames(caught.value.__traceback__)
    shown += repr(vars(caught.value)) + str(pickle.dumps(caught.value))
    assert "made_up" in shown or "answer_not_understood" in shown
    assert "MADEUPmarkedvalue" not in shown.replace(repr(result), "")
    assert SANDBOX_MINTING_TOKEN not in shown


async def test_a_refusal_that_quotes_a_value_is_cleaned(make: Make) -> None:
    """Whatever Cloudflare's text quotes."""
    client = make(lambda _: _fault(400, 77, f"bad {VALUE} by {SANDBOX_MINTING_TOKEN}"))
    with pytest.raises(MintingRefused) as caught:
        await _create(client)
    assert caught.value.cloudflare_message == "bad [removed] by [removed]"


async def test_a_minted_value_is_masked(client: MintingClient) -> None:
    """In a repr, and it can be neither copied nor pickled."""
    minted = await _create(client)
    assert minted.value.reveal() not in repr(minted)
    with pytest.raises(TypeError):
        pickle.dumps(minted)


@pytest.mark.parametrize("mark", ["", "4f3a9c1", "4F3A9C1E", "4f3a9c1e\n"])
def test_a_mark_that_is_none_is_refused(mark: str) -> None:
    """It would match nothing, or too much."""
    with pytest.raises(ValueError, match="mark of an installation"):
        MintingClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url="https://api.example.com",
            token=Secret(SANDBOX_MINTING_TOKEN),
            installation=mark,
            serves=lambda _: True,
        )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TokenInvalid(cf_ray="0" * 16), MintedTokenGone),
        (CatalogOutOfReach(), MintedTokenUseless),
        (CredentialRefused(cloudflare_code=30004), MintedTokenRefused),
        (CatalogInactive(), CatalogSwitchedOff),
        (CatalogNotEnabled(), CatalogSwitchedOff),
        (NoSuchBucket(), NoSuchBucket),
        (Throttled(), Throttled),
        (LeaseLost(), LeaseLost),
    ],
)
def test_what_a_refusal_means_about_a_minted_token(error: BotError, kind: type[BotError]) -> None:
    """Nobody can copy it again; what is known of the answer is kept."""
    meant = as_minted(error)
    assert type(meant) is kind
    if isinstance(error, CloudflareError):
        assert isinstance(meant, CloudflareError)
        assert (meant.cf_ray, meant.cloudflare_code) == (error.cf_ray, error.cloudflare_code)


def test_a_key_names_the_account() -> None:
    """The client serves one."""
    assert NAME.key(SANDBOX_ACCOUNT_ID) == BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket="lake")


_SCALARS = st.none() | st.booleans() | st.integers(-10, 10**12) | st.sampled_from([ID, str(NAME), VALUE, "active"])
_NAMES = st.sampled_from(["id", "name", "status", "value", "expires_on", "scopes", "x"])
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=6), max_leaves=12
)
_RESULTS = _JSON | st.lists(st.dictionaries(_NAMES, _JSON, max_size=6), max_size=3)
_ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "success": st.booleans(),
        "result": _RESULTS,
        "errors": st.lists(
            st.fixed_dictionaries({"code": st.sampled_from([1001, 1003, 7003, 9109, 10000, 77, "x"]), "message": _JSON})
        ),
        "result_info": st.fixed_dictionaries({"total_count": _JSON}),
    },
)


@given(st.sampled_from([200, 201, 204, 400, 401, 403, 404, 429, 500]), _ENVELOPES | _JSON)
def test_whatever_is_answered_only_our_errors_are_raised(status: int, document: object) -> None:
    """And a create that is not a clear no may have landed."""

    async def ask() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(status, json=document))
        client = MintingClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url="https://api.example.com",
            token=Secret(SANDBOX_MINTING_TOKEN),
            installation=MARK,
            serves=lambda _: True,
            transport=transport,
        )
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.find(NAME),
            client.list_bots,
            client.count_all,
            client.permission_groups,
            client.verify_own,
            lambda: client.get(ID, NAME),
            lambda: client.set_status(ID, NAME, Scope.BUCKET, EXPIRES, _yes, is_active=False),
            lambda: client.delete(ID, NAME, _yes),
        ]
        for call in calls:
            with suppress(CloudflareError, TokenNotOurs):
                await call()
        says_no = isinstance(document, dict) and document.get("success") is False
        outcome: Minted | CloudflareError
        try:
            outcome = await _create(client)
        except CloudflareError as error:
            outcome = error
        assert isinstance(outcome, Minted) or outcome.possibly_landed or says_no or status == 429
        await client.aclose()

    asyncio.run(ask())
