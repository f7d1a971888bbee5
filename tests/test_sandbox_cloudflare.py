"""The small Cloudflare, judged by the official SDK and by its raw answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Literal

import cloudflare
import httpx
import pytest
import pytest_asyncio
from cloudflare import AsyncCloudflare

from bot.sandbox.cloudflare import (
    NO_LIMIT_TO_SPEAK_OF,
    SANDBOX_ACCOUNT_ID,
    SANDBOX_API_KEY,
    SANDBOX_API_TOKEN,
    SANDBOX_EMAIL,
    RateLimit,
    SmallCloudflare,
)
from bot.sandbox.tokens import READY_MADE_TOKENS, Behaviour, TokenKind, judge_token, make_token

GOOD = make_token(Behaviour.GOOD)
BEARER = {"Authorization": f"Bearer {SANDBOX_API_TOKEN}"}
OTHER_ACCOUNT = "0" * 32
# The SDK warns that r2-catalog has a newer name; the sandbox speaks both.
pytestmark = pytest.mark.filterwarnings("ignore:Use `:DeprecationWarning")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SmallCloudflare]:
    """Start a small Cloudflare with one bucket of each sort."""
    async with SmallCloudflare() as small:
        small.add_bucket("lake")
        small.add_bucket("swamp", "inactive")
        small.add_bucket("pond", None)
        yield small


@pytest_asyncio.fixture
async def sdk(server: SmallCloudflare) -> AsyncIterator[AsyncCloudflare]:
    """Point the official SDK at the small Cloudflare."""
    async with AsyncCloudflare(api_token=SANDBOX_API_TOKEN, base_url=server.base_url, max_retries=0) as client:
        yield client


def _raw(server: SmallCloudflare) -> httpx.AsyncClient:
    base_url = f"{server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}/r2-catalog"
    return httpx.AsyncClient(base_url=base_url, trust_env=False)


@pytest_asyncio.fixture
async def raw(server: SmallCloudflare) -> AsyncIterator[httpx.AsyncClient]:
    """Speak to the small Cloudflare without any client that knows it."""
    async with _raw(server) as client:
        yield client


async def test_the_official_sdk_lists_gets_enables_and_stores(server: SmallCloudflare, sdk: AsyncCloudflare) -> None:
    """All four calls of the SDK are understood, and their answers fit the SDK's types."""
    listed = await sdk.r2_data_catalog.list(account_id=SANDBOX_ACCOUNT_ID)
    assert listed is not None
    assert [(entry.bucket, entry.status) for entry in listed.warehouses] == [("lake", "active"), ("swamp", "inactive")]

    enabled = await sdk.r2_data_catalog.enable("pond", account_id=SANDBOX_ACCOUNT_ID)
    await sdk.r2_data_catalog.credentials.create("pond", account_id=SANDBOX_ACCOUNT_ID, token=GOOD)
    got = await sdk.r2_data_catalog.get("pond", account_id=SANDBOX_ACCOUNT_ID)

    assert enabled is not None
    assert got is not None
    assert (got.id, got.name, got.credential_status) == (enabled.id, enabled.name, "present")
    assert server.stored_token("pond") == GOOD
    assert [(write.bucket, write.token, write.family) for write in server.writes] == [("pond", GOOD, "r2-catalog")]


async def test_the_official_sdk_speaks_the_new_name_as_well(server: SmallCloudflare, sdk: AsyncCloudflare) -> None:
    """The twin routes lead to the same state."""
    await sdk.basin_catalog.credentials.create("lake", account_id=SANDBOX_ACCOUNT_ID, token=GOOD)
    got = await sdk.basin_catalog.get("lake", account_id=SANDBOX_ACCOUNT_ID)
    assert got is not None
    assert got.credential_status == "present"
    assert server.writes[0].family == "basin-catalog"


async def test_the_official_sdk_may_use_the_older_scheme(server: SmallCloudflare) -> None:
    """An e-mail address with a Global API key is as good as a token."""
    headers = {"X-Auth-Email": SANDBOX_EMAIL, "X-Auth-Key": SANDBOX_API_KEY}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        answer = await client.get(f"{server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}/r2-catalog/lake")
    assert answer.status_code == 200


async def test_the_official_sdk_sees_a_refusal(server: SmallCloudflare, sdk: AsyncCloudflare) -> None:
    """A refused token is an API error with Cloudflare's code, and changes nothing."""
    server.add_bucket("lake", token=GOOD)
    with pytest.raises(cloudflare.BadRequestError) as caught:
        await sdk.basin_catalog.credentials.create(
            "lake", account_id=SANDBOX_ACCOUNT_ID, token=make_token(Behaviour.WEAK)
        )
    assert [error.code for error in caught.value.errors] == [30004]
    assert server.stored_token("lake") == GOOD
    assert server.writes == []


@pytest.mark.parametrize(
    ("bucket", "behaviour", "expected"),
    [
        pytest.param("lake", Behaviour.WEAK, (400, 30004), id="weak"),
        pytest.param("lake", Behaviour.UNKNOWN, (400, 30005), id="unknown"),
        pytest.param("lake", Behaviour.EXPIRED, (400, 30005), id="expired"),
        pytest.param("lake", Behaviour.DISABLED, (400, 30005), id="disabled"),
        pytest.param("nowhere", Behaviour.WEAK, (400, 30004), id="the token is judged before the bucket"),
        pytest.param("nowhere", Behaviour.GOOD, (404, 40406), id="no such bucket"),
        pytest.param("pond", Behaviour.GOOD, (404, 40401), id="never enabled"),
        pytest.param("swamp", Behaviour.GOOD, (409, 40402), id="inactive"),
    ],
)
async def test_refusals_of_a_credential(
    server: SmallCloudflare, raw: httpx.AsyncClient, bucket: str, behaviour: Behaviour, expected: tuple[int, int]
) -> None:
    """Each refusal has its code, and nothing is written."""
    answer = await raw.post(f"/{bucket}/credential", json={"token": make_token(behaviour)}, headers=BEARER)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == expected
    assert answer.json()["success"] is False
    assert answer.headers["cf-ray"]
    assert server.writes == []


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        pytest.param("/lake", {}, (400, 9106), id="nobody asks"),
        pytest.param("/lake", {"X-Auth-Email": SANDBOX_EMAIL}, (400, 9106), id="half of the older scheme"),
        pytest.param("/lake", {"Authorization": "Bearer made-up"}, (401, 10000), id="wrong token"),
        pytest.param("/lake", {"X-Auth-Email": SANDBOX_EMAIL, "X-Auth-Key": "made-up"}, (401, 10000), id="wrong key"),
        pytest.param("/nowhere", BEARER, (404, 40406), id="no such bucket"),
        pytest.param("/pond", BEARER, (404, 40401), id="never enabled"),
        pytest.param("/lake/nothing", BEARER, (404, 7000), id="no such route"),
    ],
)
async def test_refusals_of_a_look(
    raw: httpx.AsyncClient, path: str, headers: dict[str, str], expected: tuple[int, int]
) -> None:
    """Who may not ask, and what is not there, is told by its code."""
    answer = await raw.get(path, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == expected


@pytest.mark.parametrize(
    ("account", "family", "expected"),
    [
        pytest.param(OTHER_ACCOUNT, "r2-catalog", (403, 10000), id="another account"),
        pytest.param("not-an-id", "r2-catalog", (404, 7003), id="malformed account"),
        pytest.param(SANDBOX_ACCOUNT_ID, "basin-catalog", (404, 7003), id="family switched off"),
    ],
)
async def test_refusals_of_a_route(
    server: SmallCloudflare, raw: httpx.AsyncClient, account: str, family: str, expected: tuple[int, int]
) -> None:
    """An account that is not ours and a family that is gone are told apart."""
    server.families.discard("basin-catalog")
    answer = await raw.get(f"{server.base_url}/accounts/{account}/{family}", headers=BEARER)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == expected


async def test_a_wrong_method_is_405_without_code(raw: httpx.AsyncClient) -> None:
    """Nothing of the catalog's codes is in the answer."""
    answer = await raw.delete("/lake", headers=BEARER)
    assert answer.status_code == 405
    assert "code" not in answer.json()["errors"][0]


async def test_enabling_a_bucket_that_is_not_there(raw: httpx.AsyncClient) -> None:
    """Only an existing bucket can get a catalog."""
    answer = await raw.post("/nowhere/enable", headers=BEARER)
    assert answer.json()["errors"][0]["code"] == 40406


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="no token"),
        pytest.param(b'{"token": 7}', id="a number"),
    ],
)
async def test_a_malformed_body_is_a_plain_text_422(raw: httpx.AsyncClient, body: bytes) -> None:
    """As from the real one: no envelope."""
    answer = await raw.post("/lake/credential", content=body, headers=BEARER)
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/plain")


async def test_rate_limited_once(server: SmallCloudflare, raw: httpx.AsyncClient) -> None:
    """The first try is told when to come back; the next one works."""
    body = {"token": make_token(Behaviour.RATE_LIMITED)}
    answers = [await raw.post("/lake/credential", json=body, headers=BEARER) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 200]
    assert answers[0].headers["retry-after"] == str(server.retry_after)


async def test_server_down_twice(raw: httpx.AsyncClient) -> None:
    """Two pages of a broken server, then it works."""
    body = {"token": make_token(Behaviour.SERVER_DOWN)}
    answers = [await raw.post("/lake/credential", json=body, headers=BEARER) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["content-type"].startswith("text/html")


async def test_slow_stores_first_and_answers_later(server: SmallCloudflare, raw: httpx.AsyncClient) -> None:
    """The write is there before the answer."""
    server.slow_delay = 0.3
    started = time.monotonic()
    post = asyncio.create_task(raw.post("/lake/credential", json={"token": make_token(Behaviour.SLOW)}, headers=BEARER))
    await asyncio.sleep(0.05)
    assert server.stored_token("lake") is not None
    assert not post.done()
    assert (await post).status_code == 200
    assert time.monotonic() - started >= 0.3


async def test_answer_lost_stores_and_breaks(server: SmallCloudflare, raw: httpx.AsyncClient) -> None:
    """The token is stored although nobody hears of it; the second try is answered."""
    body = {"token": make_token(Behaviour.ANSWER_LOST)}
    with pytest.raises(httpx.TransportError):
        await raw.post("/lake/credential", json=body, headers=BEARER)
    assert server.stored_token("lake") == body["token"]
    assert (await raw.post("/lake/credential", json=body, headers=BEARER)).status_code == 200


async def test_challenged(raw: httpx.AsyncClient) -> None:
    """A page instead of an answer, marked as Cloudflare marks it."""
    body = {"token": make_token(Behaviour.CHALLENGED)}
    answer = await raw.post("/lake/credential", json=body, headers=BEARER)
    assert (answer.status_code, answer.headers["cf-mitigated"]) == (403, "challenge")


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_broken_connection(
    server: SmallCloudflare, raw: httpx.AsyncClient, drop: Literal["before", "after"]
) -> None:
    """Dropped before the store nothing is written, dropped after it the slot is filled."""
    if drop == "before":
        server.fail_next("credential", drop_before_store=True)
    else:
        server.fail_next("credential", drop_after_store=True)
    with pytest.raises(httpx.TransportError):
        await raw.post("/lake/credential", json={"token": GOOD}, headers=BEARER)
    assert server.stored_token("lake") == (None if drop == "before" else GOOD)


async def test_planned_failures_come_in_order_and_only_for_their_kind(
    server: SmallCloudflare, raw: httpx.AsyncClient
) -> None:
    """One kind's failures leave the other kinds alone, and end."""
    server.fail_next("get", status=500, times=2)
    server.fail_next("any", status=200, code=971, message="slow down", retry_after=7)
    listed = await raw.get(f"{server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}/r2-catalog", headers=BEARER)
    looks = [await raw.get("/lake", headers=BEARER) for _ in range(3)]
    assert (listed.json()["errors"], listed.headers["retry-after"]) == ([{"code": 971, "message": "slow down"}], "7")
    assert [look.status_code for look in looks] == [500, 500, 200]


async def test_a_planned_body_is_sent_as_it_is(server: SmallCloudflare, raw: httpx.AsyncClient) -> None:
    """Empty, text and bytes, with any header."""
    server.fail_next("get", status=204, body=b"")
    server.fail_next("get", status=403, body="error code: 1020", headers={"Content-Type": "text/plain"})
    empty, page = [await raw.get("/lake", headers=BEARER) for _ in range(2)]
    assert (empty.status_code, empty.content) == (204, b"")
    assert (page.status_code, page.text, page.headers["content-type"]) == (403, "error code: 1020", "text/plain")


async def test_a_planned_delay_alone_is_answered_as_usual(server: SmallCloudflare, raw: httpx.AsyncClient) -> None:
    """A delay needs no failure."""
    server.fail_next("get", delay=0.05)
    started = time.monotonic()
    assert (await raw.get("/lake", headers=BEARER)).status_code == 200
    assert time.monotonic() - started >= 0.05


async def test_requests_are_kept_as_they_came(server: SmallCloudflare, raw: httpx.AsyncClient) -> None:
    """Method, path, headers and body of each, also of a refused one; nothing secret in their repr."""
    await raw.post("/lake/credential", content=b"{", headers={"X-Auth-Key": "made-up-key"})
    (received,) = server.requests
    assert (received.method, received.body) == ("POST", b"{")
    assert received.path.endswith("/r2-catalog/lake/credential")
    assert received.headers["x-auth-key"] == "made-up-key"
    assert "made-up-key" not in repr(received)


@pytest.mark.parametrize(
    ("sliding", "later", "status", "left", "resets_in"),
    [
        pytest.param(False, 7.5, 429, "0", "1", id="the same window"),
        pytest.param(False, 8.5, 200, "2", "10", id="the next window, 10 s after the one before began"),
        pytest.param(True, 9.5, 429, "0", "1", id="sliding: within 10 s of the first"),
        pytest.param(True, 10.5, 200, "2", "10", id="sliding: 10 s after the first"),
    ],
)
async def test_above_the_limit_nothing_is_taken(
    sliding: bool,  # noqa: FBT001 - a table
    later: float,
    status: int,
    left: str,
    resets_in: str,
) -> None:
    """Every answer tells what is left; a refusal says when to come back. The first request came at second 2."""
    now = 102.0
    limit = RateLimit(requests=3, window_seconds=10, sliding=sliding)
    async with SmallCloudflare(limit=limit, timer=lambda: now) as small, _raw(small) as client:
        first = [await client.get("/lake", headers=BEARER) for _ in range(4)]
        now += later
        last = await client.get("/lake", headers=BEARER)
    assert [answer.status_code for answer in first] == [404, 404, 404, 429]
    assert first[3].json()["errors"][0]["code"] == 971
    assert first[3].headers["retry-after"] == ("10" if sliding else "8")
    assert first[0].headers["ratelimit"] == f'"default";r=2;t={"10" if sliding else "8"}'
    assert last.headers["ratelimit-policy"] == '"default";q=3;w=10'
    assert last.status_code == (404 if status == 200 else status)
    assert last.headers["ratelimit"] == f'"default";r={left};t={resets_in}'
    assert (len(small.accepted_at), len(small.throttled_at)) == ((4, 1) if status == 200 else (3, 2))


async def test_each_caller_has_a_limit_of_its_own(server: SmallCloudflare, raw: httpx.AsyncClient) -> None:
    """A limit can be set while it runs, and another token is not held up."""
    server.limit = RateLimit(requests=1, window_seconds=3600)
    callers = [BEARER, BEARER, {"Authorization": "Bearer of another token"}]
    answers = [await raw.get("/lake", headers=caller) for caller in callers]
    assert [answer.status_code for answer in answers] == [200, 429, 401]


async def test_a_limit_can_be_announced_that_nobody_meets(server: SmallCloudflare, raw: httpx.AsyncClient) -> None:
    """For benchmarks of something else; without any limit there are no headers."""
    assert "ratelimit" not in (await raw.get("/lake", headers=BEARER)).headers
    server.limit = NO_LIMIT_TO_SPEAK_OF
    assert (await raw.get("/lake", headers=BEARER)).headers["ratelimit-policy"] == '"default";q=100000000;w=1'


async def test_stop_and_start_keep_the_state_and_the_address() -> None:
    """A server that comes back is the same one; stopping one that never ran does nothing."""
    small = SmallCloudflare()
    await small.stop()
    async with small:
        small.add_bucket("lake", token=GOOD)
        base_url = small.base_url
    async with small:
        assert small.base_url == base_url
        assert small.stored_token("lake") == GOOD


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("behaviour", Behaviour)
def test_every_made_token_is_recognised(behaviour: Behaviour, kind: TokenKind) -> None:
    """What is made with a behaviour is judged to have it, in each kind, at the real length."""
    token = make_token(behaviour, 12345, kind)
    assert judge_token(token) is behaviour
    assert len(token) == (40 if kind is TokenKind.UNPREFIXED else 53)


@pytest.mark.parametrize("token", ["", "MADEUP", "MADEUPNONSENSE0001", "cfat_real", GOOD + " ", "x" + GOOD])
def test_any_other_token_is_unknown(token: str) -> None:
    """Only a whole made-up token is good."""
    assert judge_token(token) is Behaviour.UNKNOWN


def test_the_ready_made_tokens_cover_every_behaviour() -> None:
    """Each ending can be tried, each label is there once, and no repr shows a token."""
    assert {judge_token(offer.token) for offer in READY_MADE_TOKENS} == set(Behaviour)
    assert len({offer.label for offer in READY_MADE_TOKENS}) == len(READY_MADE_TOKENS)
    assert GOOD not in repr(READY_MADE_TOKENS)
