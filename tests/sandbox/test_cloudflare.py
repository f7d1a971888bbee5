"""The fake Cloudflare, tested with the official SDK and by its raw answers."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import cloudflare
import httpx
import pytest
import pytest_asyncio
from cloudflare import AsyncCloudflare

from bot.model.pasted_token import MASK, mask_tokens
from bot.sandbox.cloudflare import (
    NO_LIMIT_TO_SPEAK_OF,
    SANDBOX_ACCOUNT_ID,
    SANDBOX_API_KEY,
    SANDBOX_API_TOKEN,
    SANDBOX_EMAIL,
    FakeCloudflare,
    RateLimit,
)
from bot.sandbox.routes import Kind
from bot.sandbox.tokens import READY_MADE_TOKENS, Behaviour, TokenKind, is_account_owned, judge_token, make_token

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
GOOD = make_token(Behaviour.GOOD)
HOUR = timedelta(hours=1)
PassTime = Callable[[timedelta], None]
BEARER = {"Authorization": f"Bearer {SANDBOX_API_TOKEN}"}
OTHER_ACCOUNT = "0" * 32
CATALOGS = f"accounts/{SANDBOX_ACCOUNT_ID}/basin-catalog"
# The SDK warns that r2-catalog has a newer name; the sandbox supports both.
pytestmark = pytest.mark.filterwarnings("ignore:Use `:DeprecationWarning")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FakeCloudflare]:
    """Start a fake Cloudflare with buckets in each state."""
    async with FakeCloudflare(clock=lambda: NOW) as small:
        small.add_bucket("lake")
        small.add_bucket("swamp", "inactive")
        small.add_bucket("pond", None)
        yield small


@pytest_asyncio.fixture
async def sdk(server: FakeCloudflare) -> AsyncIterator[AsyncCloudflare]:
    """Point the official SDK at the fake Cloudflare."""
    async with AsyncCloudflare(api_token=SANDBOX_API_TOKEN, base_url=server.base_url, max_retries=0) as client:
        yield client


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _verify_path(server: FakeCloudflare, account: str | None = None) -> str:
    owner = "user" if account is None else f"accounts/{account}"
    return f"{server.base_url}/{owner}/tokens/verify"


def _own_verify_path(server: FakeCloudflare, token: str) -> str:
    return _verify_path(server, SANDBOX_ACCOUNT_ID if is_account_owned(token) else None)


def _probe_path(server: FakeCloudflare, bucket: str, family: str = "basin-catalog") -> str:
    return f"{server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}/{family}/{bucket}/credential/status"


def _outcome(answer: httpx.Response) -> tuple[int, int | None]:
    """Return the status and the code of the first error, or None if there is none."""
    return answer.status_code, next((error["code"] for error in answer.json()["errors"]), None)


def _raw(server: FakeCloudflare) -> httpx.AsyncClient:
    base_url = f"{server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}/r2-catalog"
    return httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=None)  # noqa: S113 - a test may turn the time on


@pytest_asyncio.fixture
async def raw(server: FakeCloudflare) -> AsyncIterator[httpx.AsyncClient]:
    """Talk to the fake Cloudflare with a plain HTTP client."""
    async with _raw(server) as client:
        yield client


async def test_the_official_sdk_lists_gets_enables_and_stores(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """The sandbox understands all four calls of the SDK, and its answers fit the SDK's types."""
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


async def test_the_official_sdk_can_use_the_new_name_as_well(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """Both routes lead to the same state."""
    await sdk.basin_catalog.credentials.create("lake", account_id=SANDBOX_ACCOUNT_ID, token=GOOD)
    got = await sdk.basin_catalog.get("lake", account_id=SANDBOX_ACCOUNT_ID)
    assert got is not None
    assert got.credential_status == "present"
    assert server.writes[0].family == "basin-catalog"


async def test_the_official_sdk_switches_a_catalog_off_and_on(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """An inactive catalog still exists, with the credential in its slot."""
    server.add_bucket("lake", token=GOOD)
    states = []
    for switch in (sdk.r2_data_catalog.disable, sdk.basin_catalog.disable, sdk.r2_data_catalog.enable):
        await switch("lake", account_id=SANDBOX_ACCOUNT_ID)
        got = await sdk.basin_catalog.get("lake", account_id=SANDBOX_ACCOUNT_ID)
        assert got is not None
        states.append((got.status, got.credential_status))
    assert states == [("inactive", "present"), ("inactive", "present"), ("active", "present")]


@pytest.mark.parametrize(
    "kind", [pytest.param(TokenKind.USER, id="user"), pytest.param(TokenKind.UNPREFIXED, id="older token of a user")]
)
async def test_the_official_sdk_verifies_a_token_of_a_user(server: FakeCloudflare, kind: TokenKind) -> None:
    """The user's endpoint knows it, and the account's does not."""
    token = make_token(Behaviour.EXPIRES_SOON, kind=kind)
    async with AsyncCloudflare(api_token=token, base_url=server.base_url, max_retries=0) as client:
        verified = await client.user.tokens.verify()
        with pytest.raises(cloudflare.AuthenticationError) as caught:
            await client.accounts.tokens.verify(account_id=SANDBOX_ACCOUNT_ID)
    assert verified is not None
    assert (verified.status, verified.expires_on, verified.not_before) == ("active", NOW + timedelta(days=10), None)
    assert [error.code for error in caught.value.errors] == [1000]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(TokenKind.ACCOUNT, id="account"),
        pytest.param(TokenKind.UNPREFIXED_ACCOUNT, id="older token of the account"),
    ],
)
async def test_the_official_sdk_verifies_a_token_of_the_account(server: FakeCloudflare, kind: TokenKind) -> None:
    """The account's endpoint knows it, and the user's does not."""
    token = make_token(Behaviour.NOT_YET_VALID, kind=kind)
    async with AsyncCloudflare(api_token=token, base_url=server.base_url, max_retries=0) as client:
        verified = await client.accounts.tokens.verify(account_id=SANDBOX_ACCOUNT_ID)
        with pytest.raises(cloudflare.AuthenticationError) as caught:
            await client.user.tokens.verify()
    assert verified is not None
    assert (verified.status, verified.not_before) == ("active", NOW + timedelta(days=1))
    assert [error.code for error in caught.value.errors] == [1000]


OWN_KINDS = [TokenKind.ACCOUNT, TokenKind.USER, TokenKind.UNPREFIXED, TokenKind.UNPREFIXED_ACCOUNT]


@pytest.mark.parametrize("kind", OWN_KINDS, ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize(("may_write", "group"), [(True, "Write"), (False, "Read")])
async def test_the_official_sdk_reads_what_the_bots_own_token_may_do(
    server: FakeCloudflare, kind: TokenKind, group: str, *, may_write: bool
) -> None:
    """Once it may read policies: its own details, at the endpoint of its owner, fit the SDK's types."""
    server.api_token, server.own_may_write = make_token(Behaviour.GOOD, kind=kind), may_write
    server.shows_policies = True
    async with AsyncCloudflare(api_token=server.api_token, base_url=server.base_url, max_retries=0) as client:
        if is_account_owned(server.api_token):
            verified = await client.accounts.tokens.verify(account_id=SANDBOX_ACCOUNT_ID)
            assert verified is not None
            found = await client.accounts.tokens.get(verified.id, account_id=SANDBOX_ACCOUNT_ID)
            elsewhere = client.user.tokens.get(verified.id)
        else:
            verified_user = await client.user.tokens.verify()
            assert verified_user is not None
            found = await client.user.tokens.get(verified_user.id)
            elsewhere = client.accounts.tokens.get(verified_user.id, account_id=SANDBOX_ACCOUNT_ID)
        with pytest.raises(cloudflare.PermissionDeniedError) as caught:
            await elsewhere
    assert found is not None
    assert found.policies is not None
    [policy] = found.policies
    assert policy.effect == "allow"
    assert [each.name for each in policy.permission_groups] == [f"Workers R2 Data Catalog {group}"]
    assert list(policy.resources) == [f"com.cloudflare.api.account.{SANDBOX_ACCOUNT_ID}"]
    assert [error.code for error in caught.value.errors] == [9109]


async def test_most_tokens_may_not_read_policies(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """Code 9109, unless the test says otherwise."""
    verified = await sdk.accounts.tokens.verify(account_id=SANDBOX_ACCOUNT_ID)
    assert verified is not None
    with pytest.raises(cloudflare.PermissionDeniedError) as caught:
        await sdk.accounts.tokens.get(verified.id, account_id=SANDBOX_ACCOUNT_ID)
    assert [error.code for error in caught.value.errors] == [9109]


async def test_the_official_sdk_may_use_the_older_authentication(server: FakeCloudflare) -> None:
    """An e-mail address with a Global API key is as good as a token."""
    headers = {"X-Auth-Email": SANDBOX_EMAIL, "X-Auth-Key": SANDBOX_API_KEY}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        answer = await client.get(f"{server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}/r2-catalog/lake")
    assert answer.status_code == 200


async def test_the_official_sdk_sees_a_refusal(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
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
        pytest.param("lake", Behaviour.EXPOSED, (400, 30005), id="exposed"),
        pytest.param("lake", Behaviour.NOT_YET_VALID, (400, 30005), id="not yet valid"),
        pytest.param("lake", Behaviour.OTHER_ACCOUNT, (400, 30005), id="of another account"),
        pytest.param("lake", Behaviour.LACKS_CATALOG, (400, 30004), id="lacks the catalog"),
        pytest.param("lake", Behaviour.FRESH, (400, 30005), id="fresh"),
        pytest.param("nowhere", Behaviour.WEAK, (400, 30004), id="the token is judged before the bucket"),
        pytest.param("nowhere", Behaviour.GOOD, (404, 40406), id="no such bucket"),
        pytest.param("pond", Behaviour.GOOD, (404, 40401), id="never enabled"),
        pytest.param("swamp", Behaviour.GOOD, (409, 40402), id="inactive"),
    ],
)
async def test_refusals_of_a_credential(
    server: FakeCloudflare, raw: httpx.AsyncClient, bucket: str, behaviour: Behaviour, expected: tuple[int, int]
) -> None:
    """Each refusal has its code, and nothing is written."""
    answer = await raw.post(f"/{bucket}/credential", json={"token": make_token(behaviour)}, headers=BEARER)
    assert _outcome(answer) == expected
    assert answer.json()["success"] is False
    assert answer.headers["cf-ray"]
    assert server.writes == []


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        pytest.param("/lake", {}, (400, 9106), id="no authentication"),
        pytest.param("/lake", {"X-Auth-Email": SANDBOX_EMAIL}, (400, 9106), id="half of the older scheme"),
        pytest.param("/lake", {"Authorization": "Bearer made-up"}, (403, 10000), id="wrong token"),
        pytest.param("/lake", {"X-Auth-Email": SANDBOX_EMAIL, "X-Auth-Key": "made-up"}, (401, 10000), id="wrong key"),
        pytest.param("/nowhere", BEARER, (404, 40406), id="no such bucket"),
        pytest.param("/pond", BEARER, (404, 40401), id="never enabled"),
        pytest.param("/lake/nothing", BEARER, (404, 7000), id="no such route"),
        pytest.param("/lake/maintenance-configs", BEARER, (404, 7000), id="a route that the bot never uses"),
    ],
)
async def test_refusals_of_a_read(
    raw: httpx.AsyncClient, path: str, headers: dict[str, str], expected: tuple[int, int]
) -> None:
    """The code distinguishes a caller without rights from a missing catalog."""
    answer = await raw.get(path, headers=headers)
    assert _outcome(answer) == expected


@pytest.mark.parametrize(
    ("account", "family", "expected"),
    [
        pytest.param(OTHER_ACCOUNT, "r2-catalog", (403, 10000), id="another account"),
        pytest.param("not-an-id", "r2-catalog", (404, 7003), id="malformed account"),
        pytest.param(SANDBOX_ACCOUNT_ID, "basin-catalog", (404, 7003), id="family switched off"),
    ],
)
async def test_refusals_of_a_route(
    server: FakeCloudflare, raw: httpx.AsyncClient, account: str, family: str, expected: tuple[int, int]
) -> None:
    """Another account and a removed family of routes are distinguished."""
    server.families.discard("basin-catalog")
    answer = await raw.get(f"{server.base_url}/accounts/{account}/{family}", headers=BEARER)
    assert _outcome(answer) == expected


async def test_a_wrong_method_is_405_without_code(raw: httpx.AsyncClient) -> None:
    """The answer has none of the catalog's codes."""
    answer = await raw.delete("/lake", headers=BEARER)
    assert answer.status_code == 405
    assert "code" not in answer.json()["errors"][0]


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        pytest.param("/nowhere/enable", BEARER, (404, 40406), id="enable without a bucket"),
        pytest.param("/nowhere/disable", BEARER, (404, 40406), id="disable without a bucket"),
        pytest.param("/pond/disable", BEARER, (404, 40401), id="disable a catalog never enabled"),
        pytest.param("/lake/enable", _bearer(GOOD), (401, 10000), id="enable with another token"),
        pytest.param("/lake/disable", _bearer(GOOD), (401, 10000), id="disable with another token"),
        pytest.param("/lake/credential", _bearer(GOOD), (401, 10000), id="store with another token"),
    ],
)
async def test_refusals_of_a_change(
    server: FakeCloudflare, raw: httpx.AsyncClient, path: str, headers: dict[str, str], expected: tuple[int, int]
) -> None:
    """Only an existing bucket can get a catalog, and only the bot's token changes anything."""
    answer = await raw.post(path, headers=headers)
    assert _outcome(answer) == expected
    assert [bucket.catalog for bucket in server.buckets.values()] == ["active", "inactive", None]


@pytest.mark.parametrize(
    ("behaviour", "status", "days"),
    [
        pytest.param(Behaviour.GOOD, "active", {"expires_on": 90}, id="good"),
        pytest.param(Behaviour.NEVER_EXPIRES, "active", {}, id="never expires"),
        pytest.param(Behaviour.EXPIRES_SOON, "active", {"expires_on": 10}, id="expires soon"),
        pytest.param(Behaviour.EXPIRED, "expired", {"expires_on": -1}, id="expired"),
        pytest.param(Behaviour.DISABLED, "disabled", {"expires_on": 90}, id="disabled"),
        pytest.param(Behaviour.EXPOSED, "revoked (exposed)", {"expires_on": 90}, id="exposed"),
        pytest.param(Behaviour.NOT_YET_VALID, "active", {"expires_on": 90, "not_before": 1}, id="not yet valid"),
        pytest.param(Behaviour.LACKS_CATALOG, "active", {"expires_on": 90}, id="lacks the catalog"),
        pytest.param(Behaviour.WEAK, "active", {"expires_on": 90}, id="weak"),
        pytest.param(Behaviour.UNREADABLE, "active", {"expires_on": 90}, id="unreadable"),
        pytest.param(Behaviour.SLOW, "active", {"expires_on": 90}, id="slow"),
        pytest.param(Behaviour.RATE_LIMITED, "active", {"expires_on": 90}, id="rate-limited"),
        pytest.param(Behaviour.SERVER_DOWN, "active", {"expires_on": 90}, id="server down"),
        pytest.param(Behaviour.ANSWER_LOST, "active", {"expires_on": 90}, id="answer lost"),
        pytest.param(Behaviour.STORED_INVALID, "active", {"expires_on": 90}, id="stored, then invalid"),
        pytest.param(Behaviour.CHALLENGED, "active", {"expires_on": 90}, id="challenged"),
    ],
)
@pytest.mark.parametrize("kind", TokenKind)
async def test_verifying_describes_a_token(
    *,
    server: FakeCloudflare,
    raw: httpx.AsyncClient,
    behaviour: Behaviour,
    kind: TokenKind,
    status: str,
    days: dict[str, int],
) -> None:
    """Its state and times, in UTC; the answer for an active one carries a message in the format of an error's."""
    token = make_token(behaviour, kind=kind)
    answer = await raw.get(_own_verify_path(server, token), headers=_bearer(token))
    body = answer.json()
    times = {name: f"{NOW + timedelta(days=distance):%Y-%m-%dT%H:%M:%SZ}" for name, distance in days.items()}
    message = {"code": 10000, "message": "This API Token is valid and active", "type": None}
    assert (answer.status_code, body["success"], body["errors"]) == (200, True, [])
    assert body["messages"] == ([message] if status == "active" else [])
    assert body["result"] == {"id": body["result"]["id"], "status": status, **times}


async def test_a_tokens_id_is_constant_and_grants_nothing(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """32 hexadecimal digits, and no part of the hash that would be the S3 secret key."""
    other = make_token(Behaviour.GOOD, 1)
    answers = [await raw.get(_own_verify_path(server, token), headers=_bearer(token)) for token in (GOOD, GOOD, other)]
    first, again, of_the_other = [answer.json()["result"]["id"] for answer in answers]
    assert first == again != of_the_other
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first not in hashlib.sha256(GOOD.encode()).hexdigest()


@pytest.mark.parametrize(
    ("token", "account", "expected"),
    [
        pytest.param(make_token(Behaviour.UNKNOWN), SANDBOX_ACCOUNT_ID, (401, 1000), id="unknown, of the account"),
        pytest.param(make_token(Behaviour.UNKNOWN, kind=TokenKind.USER), None, (401, 1000), id="unknown, of a user"),
        pytest.param(make_token(Behaviour.FRESH), SANDBOX_ACCOUNT_ID, (401, 1000), id="fresh"),
        pytest.param("x" * 40, None, (401, 1000), id="never made"),
        pytest.param("x" * 40, SANDBOX_ACCOUNT_ID, (401, 1000), id="never made, at the account"),
        pytest.param(GOOD, None, (401, 1000), id="an account's at the user's endpoint"),
        pytest.param(GOOD, OTHER_ACCOUNT, (403, 10000), id="at another account"),
        pytest.param(make_token(Behaviour.OTHER_ACCOUNT), SANDBOX_ACCOUNT_ID, (403, 10000), id="of another account"),
        pytest.param(make_token(Behaviour.OTHER_ACCOUNT), None, (401, 1000), id="of another account, at the user's"),
        pytest.param(
            make_token(Behaviour.OTHER_ACCOUNT, kind=TokenKind.UNPREFIXED_ACCOUNT),
            SANDBOX_ACCOUNT_ID,
            (403, 10000),
            id="of another account, older kind",
        ),
        pytest.param("made-up", None, (400, 6003), id="too short to be a token"),
        pytest.param("x" * 40 + "?", None, (400, 6003), id="characters of no token"),
    ],
)
async def test_refusals_of_a_verification(
    server: FakeCloudflare, raw: httpx.AsyncClient, token: str, account: str | None, expected: tuple[int, int]
) -> None:
    """Unknown tokens, the wrong endpoint, other accounts and malformed tokens are distinguished."""
    answer = await raw.get(_verify_path(server, account), headers=_bearer(token))
    assert _outcome(answer) == expected
    chain = [cause["code"] for cause in answer.json()["errors"][0].get("error_chain", [])]
    assert chain == ([6111] if expected == (400, 6003) else [])


@pytest.mark.parametrize("kind", [TokenKind.USER, TokenKind.UNPREFIXED])
async def test_a_user_without_rights_here_is_still_a_valid_user(
    server: FakeCloudflare, raw: httpx.AsyncClient, kind: TokenKind
) -> None:
    """Verifying proves nothing about permissions."""
    token = make_token(Behaviour.OTHER_ACCOUNT, kind=kind)
    verified = await raw.get(_verify_path(server), headers=_bearer(token))
    assert verified.json()["result"]["status"] == "active"
    assert _outcome(await raw.get("/lake", headers=_bearer(token))) == (403, 10000)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no authentication"),
        pytest.param({"Authorization": GOOD}, id="no scheme"),
        pytest.param({"Authorization": f"Basic {GOOD}"}, id="another scheme"),
        pytest.param({"X-Auth-Email": SANDBOX_EMAIL, "X-Auth-Key": SANDBOX_API_KEY}, id="a Global API key"),
    ],
)
async def test_only_a_bearer_token_can_be_verified(
    server: FakeCloudflare, raw: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    """Without one there is no token to describe."""
    answer = await raw.get(_verify_path(server, SANDBOX_ACCOUNT_ID), headers=headers)
    assert _outcome(answer) == (400, 6003)


async def test_the_bots_own_token_can_be_verified(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """It is an account token like any other."""
    answer = await raw.get(_verify_path(server, SANDBOX_ACCOUNT_ID), headers=BEARER)
    assert answer.json()["result"]["status"] == "active"


async def test_verify_down_twice(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """Two error pages, then it is verified; everything else works from the start."""
    token = make_token(Behaviour.VERIFY_DOWN)
    assert _outcome(await raw.get("/lake", headers=_bearer(token))) == (200, None)
    answers = [await raw.get(_own_verify_path(server, token), headers=_bearer(token)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["content-type"].startswith("text/html")


MAY_READ = (200, None)
MAY_NOT_READ = (403, 10000)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        pytest.param(Behaviour.GOOD, MAY_READ, id="good"),
        pytest.param(Behaviour.NEVER_EXPIRES, MAY_READ, id="never expires"),
        pytest.param(Behaviour.EXPIRES_SOON, MAY_READ, id="expires soon"),
        pytest.param(Behaviour.UNKNOWN, MAY_NOT_READ, id="unknown"),
        pytest.param(Behaviour.EXPIRED, MAY_NOT_READ, id="expired"),
        pytest.param(Behaviour.DISABLED, MAY_NOT_READ, id="disabled"),
        pytest.param(Behaviour.EXPOSED, MAY_NOT_READ, id="exposed"),
        pytest.param(Behaviour.NOT_YET_VALID, MAY_NOT_READ, id="not yet valid"),
        pytest.param(Behaviour.OTHER_ACCOUNT, MAY_NOT_READ, id="of another account"),
        pytest.param(Behaviour.LACKS_CATALOG, MAY_NOT_READ, id="lacks the catalog"),
        pytest.param(Behaviour.WEAK, MAY_READ, id="weak"),
        pytest.param(Behaviour.FRESH, MAY_NOT_READ, id="fresh"),
        pytest.param(Behaviour.UNREADABLE, (403, 10001), id="unreadable"),
        pytest.param(Behaviour.VERIFY_DOWN, MAY_READ, id="verify down"),
        pytest.param(Behaviour.SLOW, MAY_READ, id="slow"),
        pytest.param(Behaviour.RATE_LIMITED, MAY_READ, id="rate-limited"),
        pytest.param(Behaviour.SERVER_DOWN, MAY_READ, id="server down"),
        pytest.param(Behaviour.ANSWER_LOST, MAY_READ, id="answer lost"),
        pytest.param(Behaviour.STORED_INVALID, MAY_READ, id="stored, then invalid"),
        pytest.param(Behaviour.CHALLENGED, MAY_READ, id="challenged"),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param("", id="list"),
        pytest.param("/lake", id="get"),
        pytest.param("/lake/credential/status", id="probe"),
    ],
)
async def test_a_token_reads_what_its_rights_allow(
    server: FakeCloudflare, raw: httpx.AsyncClient, path: str, behaviour: Behaviour, expected: tuple[int, int | None]
) -> None:
    """With a pasted token as Bearer, the catalog's answer depends on the permissions of that token."""
    url = f"{server.base_url}/{CATALOGS}{path}"
    assert _outcome(await raw.get(url, headers=_bearer(make_token(behaviour)))) == expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(None, "absent", id="empty"),
        pytest.param(GOOD, "valid", id="good"),
        pytest.param(make_token(Behaviour.UNREADABLE), "valid", id="unreadable"),
        pytest.param(make_token(Behaviour.SLOW), "valid", id="slow"),
        pytest.param(make_token(Behaviour.STORED_INVALID), "invalid", id="stored, then invalid"),
        pytest.param(make_token(Behaviour.EXPIRED), "invalid", id="expired since"),
        pytest.param(make_token(Behaviour.WEAK), "invalid", id="lost a right since"),
        pytest.param("never made", "invalid", id="unknown"),
    ],
)
async def test_a_slot_is_probed(
    server: FakeCloudflare, raw: httpx.AsyncClient, stored: str | None, expected: str
) -> None:
    """The answer is about the token in the slot, however it was stored."""
    server.add_bucket("lake", token=stored)
    answer = await raw.get(_probe_path(server, "lake"), headers=BEARER)
    assert answer.json()["result"] == {"status": expected}


async def test_a_token_can_be_stored_and_then_be_invalid(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """Each check before passes, and so does the write."""
    token = make_token(Behaviour.STORED_INVALID)
    assert _outcome(await raw.post("/lake/credential", json={"token": token}, headers=BEARER)) == (200, None)
    answer = await raw.get(_probe_path(server, "lake"), headers=BEARER)
    assert answer.json()["result"] == {"status": "invalid"}


@pytest.mark.parametrize(
    ("bucket", "family", "offers_status", "expected"),
    [
        pytest.param("nowhere", "basin-catalog", True, (404, 40406), id="no such bucket"),
        pytest.param("pond", "basin-catalog", True, (404, 40401), id="never enabled"),
        pytest.param("lake", "r2-catalog", True, (404, 7003), id="by the older name"),
        pytest.param("lake", "basin-catalog", False, (404, 7003), id="not offered"),
    ],
)
async def test_refusals_of_a_probe(
    *,
    server: FakeCloudflare,
    raw: httpx.AsyncClient,
    bucket: str,
    family: str,
    offers_status: bool,
    expected: tuple[int, int],
) -> None:
    """There is nothing to probe, or no route for it."""
    server.offers_status = offers_status
    answer = await raw.get(_probe_path(server, bucket, family), headers=BEARER)
    assert _outcome(answer) == expected


async def test_a_fresh_token_is_unknown_for_a_while(server: FakeCloudflare) -> None:
    """From its first request on, each endpoint refuses it for seconds, then accepts it; other tokens do not wait."""
    now = 100.0
    fresh, later_one = make_token(Behaviour.FRESH), make_token(Behaviour.FRESH, 1)
    async with FakeCloudflare(timer=lambda: now) as small, _raw(small) as client:
        small.add_bucket("lake")

        async def try_all(token: str) -> list[tuple[int, int | None]]:
            return [
                _outcome(await client.get(_own_verify_path(small, token), headers=_bearer(token))),
                _outcome(await client.get("/lake", headers=_bearer(token))),
                _outcome(await client.post("/lake/credential", json={"token": token}, headers=BEARER)),
            ]

        refused = [(401, 1000), (403, 10000), (400, 30005)]
        assert await try_all(fresh) == refused
        now += small.fresh_seconds - 0.1
        assert await try_all(fresh) == refused
        now += 0.1
        assert await try_all(fresh) == [(200, None)] * 3
        assert await try_all(later_one) == refused
        assert small.stored_token("lake") == fresh


async def test_a_revoked_token_is_unknown_everywhere(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """It is, even in the slot that holds it, where it stays; no other token is affected."""
    server.add_bucket("lake", token=GOOD)
    server.revoke(GOOD)
    answers = [
        await raw.get(_own_verify_path(server, GOOD), headers=_bearer(GOOD)),
        await raw.get("/lake", headers=_bearer(GOOD)),
        await raw.post("/lake/credential", json={"token": GOOD}, headers=BEARER),
    ]
    probe = await raw.get(_probe_path(server, "lake"), headers=BEARER)
    assert [_outcome(answer) for answer in answers] == [(401, 1000), (403, 10000), (400, 30005)]
    assert probe.json()["result"] == {"status": "invalid"}
    assert server.stored_token("lake") == GOOD
    other = make_token(Behaviour.GOOD, 1)
    assert _outcome(await raw.get("/lake", headers=_bearer(other))) == (200, None)


async def test_the_bots_own_token_can_be_revoked(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """Afterwards it may neither read nor store."""
    server.revoke(SANDBOX_API_TOKEN)
    look = await raw.get("/lake", headers=BEARER)
    write = await raw.post("/lake/credential", json={"token": GOOD}, headers=BEARER)
    assert [_outcome(answer) for answer in (look, write)] == [(403, 10000), (401, 10000)]


async def test_the_bots_own_token_can_be_disabled_and_enabled(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """Its status says so, and it opens nothing meanwhile."""
    seen = []
    for server.own_behaviour in (Behaviour.DISABLED, Behaviour.GOOD):
        verified = await raw.get(_verify_path(server, SANDBOX_ACCOUNT_ID), headers=BEARER)
        read = await raw.get("/lake", headers=BEARER)
        write = await raw.post("/lake/credential", json={"token": GOOD}, headers=BEARER)
        seen.append((verified.json()["result"]["status"], _outcome(read), _outcome(write)))
    assert seen == [("disabled", (403, 10000), (403, 10000)), ("active", (200, None), (200, None))]


async def test_the_bots_own_token_can_be_limited_to_reading(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """It is forbidden to change anything."""
    server.own_may_write = False
    read = await raw.get("/lake", headers=BEARER)
    writes = [
        await raw.post(f"/lake/{what}", json={"token": GOOD}, headers=BEARER) for what in ("credential", "enable")
    ]
    assert [_outcome(answer) for answer in (read, *writes)] == [(200, None), (403, 10000), (403, 10000)]
    assert server.stored_token("lake") is None


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
    """As with the real Cloudflare: no envelope."""
    answer = await raw.post("/lake/credential", content=body, headers=BEARER)
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/plain")


async def test_rate_limited_once(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """The first answer says when to come back; the next try works."""
    body = {"token": make_token(Behaviour.RATE_LIMITED)}
    answers = [await raw.post("/lake/credential", json=body, headers=BEARER) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 200]
    assert answers[0].headers["retry-after"] == str(server.retry_after)


async def test_server_down_twice(raw: httpx.AsyncClient) -> None:
    """Two error pages, then it works."""
    body = {"token": make_token(Behaviour.SERVER_DOWN)}
    answers = [await raw.post("/lake/credential", json=body, headers=BEARER) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["content-type"].startswith("text/html")


async def test_slow_stores_first_and_answers_later(
    server: FakeCloudflare, raw: httpx.AsyncClient, pass_time: PassTime
) -> None:
    """The write takes effect before the answer."""
    server.slow_delay, written = 3600, asyncio.Event()
    server.on_write = written.set
    post = asyncio.create_task(raw.post("/lake/credential", json={"token": make_token(Behaviour.SLOW)}, headers=BEARER))
    await written.wait()
    assert server.stored_token("lake") is not None
    assert not post.done()
    pass_time(HOUR)
    assert (await post).status_code == 200


async def test_answer_lost_stores_and_breaks(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """The token is stored although the answer is lost; the second try is answered."""
    body = {"token": make_token(Behaviour.ANSWER_LOST)}
    with pytest.raises(httpx.TransportError):
        await raw.post("/lake/credential", json=body, headers=BEARER)
    assert server.stored_token("lake") == body["token"]
    assert (await raw.post("/lake/credential", json=body, headers=BEARER)).status_code == 200


TROUBLED: dict[Behaviour, list[int | None]] = {
    Behaviour.RATE_LIMITED: [429, 200],
    Behaviour.SERVER_DOWN: [503, 503, 200],
    Behaviour.ANSWER_LOST: [None, 200],
    Behaviour.CHALLENGED: [403],
}


@pytest.mark.parametrize(("behaviour", "met"), TROUBLED.items(), ids=str)
async def test_trouble_recurs_with_each_submission(
    raw: httpx.AsyncClient, behaviour: Behaviour, met: list[int | None]
) -> None:
    """A token that was stored in the end meets the same trouble when submitted again. None: no answer at all."""
    answers: list[int | None] = []
    for _ in range(3 * len(met)):
        try:
            answer = await raw.post("/lake/credential", json={"token": make_token(behaviour)}, headers=BEARER)
        except httpx.TransportError:
            answers.append(None)
        else:
            answers.append(answer.status_code)
    assert answers == 3 * met


async def test_verification_and_freshness_recur_with_each_submission(server: FakeCloudflare) -> None:
    """Not for the slot that holds a fresh token: it stays valid there."""
    now = 100.0
    down, fresh = make_token(Behaviour.VERIFY_DOWN), make_token(Behaviour.FRESH)
    async with FakeCloudflare(timer=lambda: now) as small, _raw(small) as client:
        small.add_bucket("lake")
        for _ in range(2):
            verified = [await client.get(_own_verify_path(small, down), headers=_bearer(down)) for _ in range(3)]
            assert [answer.status_code for answer in verified] == [503, 503, 200]
            await client.post("/lake/credential", json={"token": down}, headers=BEARER)
            assert _outcome(await client.post("/lake/credential", json={"token": fresh}, headers=BEARER))[1] == 30005
            now += small.fresh_seconds
            assert _outcome(await client.post("/lake/credential", json={"token": fresh}, headers=BEARER))[0] == 200
            answer = await client.get(_probe_path(small, "lake"), headers=BEARER)
            assert answer.json()["result"] == {"status": "valid"}


async def test_challenged(raw: httpx.AsyncClient) -> None:
    """A page instead of an answer, marked as Cloudflare marks it."""
    body = {"token": make_token(Behaviour.CHALLENGED)}
    answer = await raw.post("/lake/credential", json=body, headers=BEARER)
    assert (answer.status_code, answer.headers["cf-mitigated"]) == (403, "challenge")


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_broken_connection(
    server: FakeCloudflare, raw: httpx.AsyncClient, drop: Literal["before", "after"]
) -> None:
    """If it drops before the store, nothing is written; if it drops afterwards, the slot is filled."""
    if drop == "before":
        server.fail_next("credential", drop_before_store=True)
    else:
        server.fail_next("credential", drop_after_store=True)
    with pytest.raises(httpx.TransportError):
        await raw.post("/lake/credential", json={"token": GOOD}, headers=BEARER)
    assert server.stored_token("lake") == (None if drop == "before" else GOOD)


async def test_planned_failures_come_in_order_and_for_their_request_only(
    server: FakeCloudflare, raw: httpx.AsyncClient
) -> None:
    """Failures of one sort of request do not affect the others, and end."""
    server.fail_next("get", status=500, times=2)
    server.fail_next("any", status=200, code=971, message="slow down", retry_after=7)
    listed = await raw.get(f"{server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}/r2-catalog", headers=BEARER)
    looks = [await raw.get("/lake", headers=BEARER) for _ in range(3)]
    assert (listed.json()["errors"], listed.headers["retry-after"]) == ([{"code": 971, "message": "slow down"}], "7")
    assert [look.status_code for look in looks] == [500, 500, 200]


@pytest.mark.parametrize(
    ("kind", "method", "path", "caller"),
    [
        pytest.param("verify", "GET", f"accounts/{SANDBOX_ACCOUNT_ID}/tokens/verify", GOOD, id="verify"),
        pytest.param(
            "own", "GET", f"accounts/{SANDBOX_ACCOUNT_ID}/tokens/verify", SANDBOX_API_TOKEN, id="verify the bot's own"
        ),
        pytest.param("list", "GET", CATALOGS, SANDBOX_API_TOKEN, id="list"),
        pytest.param("get", "GET", f"{CATALOGS}/lake", SANDBOX_API_TOKEN, id="a read with the bot's token"),
        pytest.param("read", "GET", f"{CATALOGS}/lake", GOOD, id="a read with another token"),
        pytest.param("status", "GET", f"{CATALOGS}/lake/credential/status", SANDBOX_API_TOKEN, id="probe"),
        pytest.param("credential", "POST", f"{CATALOGS}/lake/credential", SANDBOX_API_TOKEN, id="store"),
        pytest.param("enable", "POST", f"{CATALOGS}/lake/enable", SANDBOX_API_TOKEN, id="enable"),
        pytest.param("disable", "POST", f"{CATALOGS}/lake/disable", SANDBOX_API_TOKEN, id="disable"),
    ],
)
async def test_a_failure_meets_its_own_sort_of_request(
    *, server: FakeCloudflare, raw: httpx.AsyncClient, kind: Kind, method: str, path: str, caller: str
) -> None:
    """Failures of all other sorts are skipped, and each request is kept."""
    for other in get_args(Kind):
        if other not in (kind, "any"):
            server.fail_next(other, status=500)
    answers = []
    for planned in (None, kind, "any"):
        if planned is not None:
            server.fail_next(planned, status=418, code=77)
        url = f"{server.base_url}/{path}"
        answers.append(await raw.request(method, url, headers=_bearer(caller), json={"token": GOOD}))
    assert [_outcome(answer) for answer in answers] == [(200, None), (418, 77), (418, 77)]
    assert [received.path for received in server.requests] == [f"/client/v4/{path}"] * 3


async def test_a_planned_body_is_sent_as_it_is(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """Empty, text or bytes, with any header."""
    server.fail_next("get", status=204, body=b"")
    server.fail_next("get", status=403, body="error code: 1020", headers={"Content-Type": "text/plain"})
    empty, page = [await raw.get("/lake", headers=BEARER) for _ in range(2)]
    assert (empty.status_code, empty.content) == (204, b"")
    assert (page.status_code, page.text, page.headers["content-type"]) == (403, "error code: 1020", "text/plain")


async def test_a_planned_delay_alone_is_answered_as_usual(
    server: FakeCloudflare, raw: httpx.AsyncClient, pass_time: PassTime
) -> None:
    """A delay needs no failure."""
    server.fail_next("get", delay=3600)
    get = asyncio.create_task(raw.get("/lake", headers=BEARER))
    while not server.requests:  # noqa: ASYNC110 - nothing announces a request
        await asyncio.sleep(0)
    assert not get.done()
    pass_time(HOUR)
    assert (await get).status_code == 200


async def test_requests_are_kept_as_they_came(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """Method, path, headers and body of each, even of a refused one; nothing secret in their repr."""
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
async def test_above_the_limit_requests_are_refused(
    sliding: bool,  # noqa: FBT001 - a table
    later: float,
    status: int,
    left: str,
    resets_in: str,
) -> None:
    """Every answer says what is left; a refusal says when to come back. The first request came at second 2."""
    now = 102.0
    limit = RateLimit(requests=3, window_seconds=10, sliding=sliding)
    async with FakeCloudflare(limit=limit, timer=lambda: now) as small, _raw(small) as client:
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


async def test_each_token_has_a_separate_limit(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """A limit can be set while the server runs, and another token is not held up."""
    server.limit = RateLimit(requests=1, window_seconds=3600)
    callers = [BEARER, BEARER, {"Authorization": "Bearer of another token"}]
    answers = [await raw.get("/lake", headers=caller) for caller in callers]
    assert [answer.status_code for answer in answers] == [200, 429, 403]


async def test_a_limit_can_be_announced_that_is_never_reached(server: FakeCloudflare, raw: httpx.AsyncClient) -> None:
    """For benchmarks of something else; without any limit there are no headers."""
    assert "ratelimit" not in (await raw.get("/lake", headers=BEARER)).headers
    server.limit = NO_LIMIT_TO_SPEAK_OF
    assert (await raw.get("/lake", headers=BEARER)).headers["ratelimit-policy"] == '"default";q=100000000;w=1'


async def test_stop_and_start_keep_the_state_and_the_address() -> None:
    """A restarted server keeps its state; stopping one that never ran does nothing."""
    small = FakeCloudflare()
    await small.stop()
    async with small:
        small.add_bucket("lake", token=GOOD)
        base_url = small.base_url
    async with small:
        assert small.base_url == base_url
        assert small.stored_token("lake") == GOOD


SHAPES = {
    TokenKind.ACCOUNT: r"cfat_[A-Za-z0-9]{40}[0-9a-f]{8}",
    TokenKind.USER: r"cfut_[A-Za-z0-9]{40}[0-9a-f]{8}",
}


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("behaviour", Behaviour)
def test_every_made_token_is_recognised(behaviour: Behaviour, kind: TokenKind) -> None:
    """A token made with a behaviour is recognised by it, in each kind and in the real format."""
    token = make_token(behaviour, 12345, kind)
    shape = SHAPES.get(kind, r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9])[A-Za-z0-9]{40}")
    assert judge_token(token) is behaviour
    assert re.fullmatch(shape, token)
    assert is_account_owned(token) is (kind in (TokenKind.ACCOUNT, TokenKind.UNPREFIXED_ACCOUNT))
    assert mask_tokens(f"it is {token}") == f"it is {MASK}"


@pytest.mark.parametrize("token", ["", "MADEUP", "MADEUPNONSENSE0001", "cfat_real", GOOD + " ", "x" + GOOD])
def test_any_other_token_is_unknown(token: str) -> None:
    """Only a complete made-up token is good."""
    assert judge_token(token) is Behaviour.UNKNOWN


def test_the_ready_made_tokens_cover_every_behaviour() -> None:
    """Each ending can be tried, each label is unique, and no repr shows a token."""
    assert {judge_token(offer.token) for offer in READY_MADE_TOKENS} == set(Behaviour)
    assert len({offer.label for offer in READY_MADE_TOKENS}) == len(READY_MADE_TOKENS)
    assert GOOD not in repr(READY_MADE_TOKENS)


def test_the_ready_made_tokens_are_in_order() -> None:
    """First those that are stored, then those that are refused, then trouble; one line for each."""
    order = list(Behaviour)
    positions = [order.index(judge_token(offer.token)) for offer in READY_MADE_TOKENS]
    assert positions == sorted(positions)
    assert [offer.label for offer in READY_MADE_TOKENS if len(offer.explanation) > 100] == []
