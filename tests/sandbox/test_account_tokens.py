"""The account's API tokens of the fake Cloudflare, judged by the official SDK, and in virtual time without sockets."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import cloudflare
import httpx
import pytest
import pytest_asyncio
from cloudflare import AsyncCloudflare

from bot.sandbox.account_tokens import AccountToken, Flaw
from bot.sandbox.cloudflare import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_API_KEY,
    SANDBOX_API_TOKEN,
    SANDBOX_EMAIL,
    SANDBOX_MINTING_TOKEN,
    FakeCloudflare,
    RateLimit,
)
from bot.sandbox.policies import BUCKET_ITEM_WRITE, CATALOG_WRITE, STORAGE_WRITE
from bot.sandbox.standing import MintingState
from tests.clock import Clock
from tests.in_memory import InMemory

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
ACCOUNT = f"com.cloudflare.api.account.{SANDBOX_ACCOUNT_ID}"
LAKE = f"com.cloudflare.edge.r2.bucket.{SANDBOX_ACCOUNT_ID}_default_lake"
NAME = "r2-credential-bot 4f3a9c1e lake 9k2m4p7q1x"
EXPIRES = "2027-01-12T00:00:00Z"


def _policy(resource: str, *groups: str) -> dict[str, Any]:
    return {"effect": "allow", "permission_groups": [{"id": group} for group in groups], "resources": {resource: "*"}}


TWO: Any = [_policy(ACCOUNT, CATALOG_WRITE.id), _policy(LAKE, BUCKET_ITEM_WRITE.id)]
WHOLE: Any = [_policy(ACCOUNT, CATALOG_WRITE.id, STORAGE_WRITE.id)]


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock(NOW)


@pytest_asyncio.fixture
async def server(clock: Clock) -> FakeCloudflare:
    """Return a fake Cloudflare that needs no socket and no time."""
    small = FakeCloudflare(clock=clock, timer=lambda: clock().timestamp())
    small.add_bucket("lake")
    small.add_bucket("pond")
    return small


def _sdk(server: FakeCloudflare, token: str = SANDBOX_MINTING_TOKEN) -> AsyncCloudflare:
    http = httpx.AsyncClient(transport=InMemory(server))
    return AsyncCloudflare(api_token=token, base_url=server.base_url, max_retries=0, http_client=http)


@pytest_asyncio.fixture
async def sdk(server: FakeCloudflare) -> AsyncIterator[AsyncCloudflare]:
    """Point the official SDK at it, with the minting token."""
    async with _sdk(server) as client:
        yield client


async def _create(sdk: AsyncCloudflare, name: str = NAME, policies: Any = TWO, expires: str | None = EXPIRES) -> Any:  # noqa: ANN401 - the SDK's type
    more = {} if expires is None else {"expires_on": expires}
    return await sdk.accounts.tokens.create(
        account_id=SANDBOX_ACCOUNT_ID,
        name=name,
        policies=policies,
        **more,  # type: ignore[arg-type]  # a dict, so that it can be missing
    )


async def _verify(server: FakeCloudflare, token: str) -> str:
    async with _sdk(server, token) as client:
        try:
            verified = await client.accounts.tokens.verify(account_id=SANDBOX_ACCOUNT_ID)
        except cloudflare.APIStatusError as error:
            return f"{error.status_code} {error.errors[0].code}"
    assert verified is not None
    return verified.status


async def _reads(server: FakeCloudflare, token: str, bucket: str) -> bool:
    async with _sdk(server, token) as client:
        try:
            await client.basin_catalog.get(bucket, account_id=SANDBOX_ACCOUNT_ID)
        except cloudflare.APIStatusError:
            return False
    return True


async def _store(server: FakeCloudflare, token: str, bucket: str = "lake") -> int | None:
    """Return the code of the refusal, or None."""
    async with _sdk(server, SANDBOX_API_TOKEN) as client:
        try:
            await client.basin_catalog.credentials.create(bucket, account_id=SANDBOX_ACCOUNT_ID, token=token)
        except cloudflare.APIStatusError as error:
            return error.errors[0].code
    return None


async def _probe(server: FakeCloudflare, bucket: str = "lake") -> str:
    path = f"/accounts/{SANDBOX_ACCOUNT_ID}/basin-catalog/{bucket}/credential/status"
    async with _sdk(server, SANDBOX_API_TOKEN) as client:
        answer: Any = await client.get(path, cast_to=object)
    return str(answer["result"]["status"])


async def test_the_official_sdk_creates_lists_gets_changes_and_deletes(
    server: FakeCloudflare, sdk: AsyncCloudflare
) -> None:
    """All calls of a token's life, over a real socket too; the value is shown only when it is created."""
    async with (
        server,
        AsyncCloudflare(api_token=SANDBOX_MINTING_TOKEN, base_url=server.base_url, max_retries=0) as real,
    ):
        created = await _create(real)
        assert created.value.startswith("cfat_")
        assert (created.name, created.status) == (NAME, "active")
        assert created.expires_on == datetime(2027, 1, 12, tzinfo=UTC)

    got = await sdk.accounts.tokens.get(created.id, account_id=SANDBOX_ACCOUNT_ID)
    assert got is not None
    assert got.policies is not None
    assert [group.id for policy in got.policies for group in policy.permission_groups] == [
        CATALOG_WRITE.id,
        BUCKET_ITEM_WRITE.id,
    ]
    listed = [token async for token in sdk.accounts.tokens.list(account_id=SANDBOX_ACCOUNT_ID)]
    assert [token.id for token in listed] == [created.id]
    assert not hasattr(listed[0], "value")

    changed = await sdk.accounts.tokens.update(
        created.id, account_id=SANDBOX_ACCOUNT_ID, name=NAME, policies=TWO, status="disabled"
    )
    assert changed is not None
    assert changed.status == "disabled"
    assert changed.expires_on is None, "what is not sent is gone"
    deleted = await sdk.accounts.tokens.delete(created.id, account_id=SANDBOX_ACCOUNT_ID)
    assert deleted is not None
    assert deleted.id == created.id
    with pytest.raises(cloudflare.NotFoundError) as gone:
        await sdk.accounts.tokens.delete(created.id, account_id=SANDBOX_ACCOUNT_ID)
    assert gone.value.errors[0].code == 1003
    assert created.value not in repr(server.tokens.tokens)


async def test_the_official_sdk_lists_permission_groups(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """With their scopes, and whether they can be granted."""
    server.tokens.not_selectable.add(STORAGE_WRITE.id)
    server.tokens.missing.add(BUCKET_ITEM_WRITE.id)
    groups = [group async for group in sdk.accounts.tokens.permission_groups.list(account_id=SANDBOX_ACCOUNT_ID)]
    selectable = {group.id: group.is_selectable for group in groups}
    assert selectable[CATALOG_WRITE.id] is True
    assert selectable[STORAGE_WRITE.id] is False
    assert BUCKET_ITEM_WRITE.id not in selectable


async def test_a_list_has_pages_a_filter_and_expired_tokens(
    server: FakeCloudflare, sdk: AsyncCloudflare, clock: Clock
) -> None:
    """The SDK pages through them; expired ones only if asked for."""
    for number in range(7):
        server.tokens.add(f"token {number}", TWO, NOW + timedelta(days=number))
    clock.advance(timedelta(days=1))
    tokens = sdk.accounts.tokens
    assert len([each async for each in tokens.list(account_id=SANDBOX_ACCOUNT_ID, per_page=5)]) == 5
    assert len([each async for each in tokens.list(account_id=SANDBOX_ACCOUNT_ID, include_expired=True)]) == 7
    counts = {}
    for server.tokens.name_filter in ("part", "whole", "ignored"):
        for name in ("token", "token 3"):
            page = await tokens.list(account_id=SANDBOX_ACCOUNT_ID, extra_query={"name": name})
            counts[server.tokens.name_filter, name] = len(page.result)
    assert counts == {
        ("part", "token"): 5,
        ("part", "token 3"): 1,
        ("whole", "token"): 0,
        ("whole", "token 3"): 1,
        ("ignored", "token"): 5,
        ("ignored", "token 3"): 5,
    }
    for per_page in (4, 51):
        with pytest.raises(cloudflare.BadRequestError):
            await tokens.list(account_id=SANDBOX_ACCOUNT_ID, per_page=per_page)


@pytest.mark.parametrize(
    ("name", "policies", "says"),
    [
        ("", TWO, "name must have a length"),
        ("n" * 121, TWO, "name must have a length"),
        (NAME, [], "policies"),
        (NAME, [_policy(ACCOUNT, "0" * 32)], "Permission group"),
        (NAME, [_policy(ACCOUNT)], "permission groups"),
        (NAME, [{**_policy(ACCOUNT, CATALOG_WRITE.id), "effect": "maybe"}], "allow or deny"),
    ],
)
async def test_bad_descriptions_are_refused(sdk: AsyncCloudflare, name: str, policies: Any, says: str) -> None:  # noqa: ANN401 - what a caller may send
    """To create one, and to change one."""
    created = await _create(sdk)
    with pytest.raises(cloudflare.BadRequestError, match=says):
        await _create(sdk, name, policies)
    with pytest.raises(cloudflare.BadRequestError, match=says):
        await sdk.accounts.tokens.update(created.id, account_id=SANDBOX_ACCOUNT_ID, name=name, policies=policies)


async def test_names_of_resources_are_not_validated(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """A token for a bucket of another jurisdiction is created without an error, and can do nothing."""
    created = await _create(sdk, policies=[TWO[0], _policy(LAKE.replace("default", "eu"), BUCKET_ITEM_WRITE.id)])
    assert await _verify(server, created.value) == "active"
    assert not await _reads(server, created.value, "lake")
    assert await _store(server, created.value) == 30004


async def test_rights_follow_from_the_policies(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """A token for one bucket reaches that catalog only; one for the account reaches all."""
    one, every = await _create(sdk), await _create(sdk, policies=WHOLE)
    assert [await _reads(server, one.value, bucket) for bucket in ("lake", "pond")] == [True, False]
    assert [await _reads(server, every.value, bucket) for bucket in ("lake", "pond")] == [True, True]
    assert [await _store(server, one.value, bucket) for bucket in ("lake", "pond")] == [None, 30004]
    assert await _store(server, every.value, "pond") is None
    assert [await _probe(server, bucket) for bucket in ("lake", "pond")] == ["valid", "valid"]
    holders = {each.id: each.slots for each in server.list_tokens()}
    assert holders == {one.id: ("lake",), every.id: ("pond",)}


async def test_what_a_token_may_do_is_known_later_in_both_directions(
    server: FakeCloudflare, sdk: AsyncCloudflare, clock: Clock
) -> None:
    """New tokens, disabled ones, and ones that are enabled again; lists are late too."""
    server.tokens.known_after, server.tokens.unknown_after, server.tokens.listed_after = 40, 30, 20
    created = await _create(sdk)
    states = []

    async def look(seconds: float) -> None:
        clock.advance(timedelta(seconds=seconds))
        states.append(await _verify(server, created.value))

    await look(0)
    assert len([each async for each in sdk.accounts.tokens.list(account_id=SANDBOX_ACCOUNT_ID)]) == 0
    assert await _store(server, created.value) == 30005
    await look(39)
    await look(1)
    assert len([each async for each in sdk.accounts.tokens.list(account_id=SANDBOX_ACCOUNT_ID)]) == 1
    assert await _store(server, created.value) is None
    update = {"account_id": SANDBOX_ACCOUNT_ID, "name": NAME, "policies": TWO}
    await sdk.accounts.tokens.update(created.id, status="disabled", **update)
    await look(29)
    assert await _probe(server) == "valid"
    await look(1)
    assert await _probe(server) == "invalid"
    await sdk.accounts.tokens.update(created.id, status="active", **update)
    await look(40)
    assert await _probe(server) == "valid"
    await sdk.accounts.tokens.delete(created.id, account_id=SANDBOX_ACCOUNT_ID)
    await look(29)
    await look(1)
    assert states == ["401 1000", "401 1000", "active", "active", "disabled", "active", "active", "401 1000"]
    assert await _probe(server) == "invalid"


async def test_a_new_token_may_not_be_there_yet(server: FakeCloudflare, sdk: AsyncCloudflare, clock: Clock) -> None:
    """For a call about it, whatever the lists and the requests with it say."""
    server.tokens.there_after = 10
    created = await _create(sdk)
    with pytest.raises(cloudflare.NotFoundError):
        await sdk.accounts.tokens.get(created.id, account_id=SANDBOX_ACCOUNT_ID)
    assert await _verify(server, created.value) == "active"
    clock.advance(timedelta(seconds=10))
    assert await sdk.accounts.tokens.get(created.id, account_id=SANDBOX_ACCOUNT_ID)


async def test_an_expired_token_opens_nothing(server: FakeCloudflare, sdk: AsyncCloudflare, clock: Clock) -> None:
    """Nor does a slot that holds it."""
    created = await _create(sdk, expires="2026-11-24T08:31:00Z")
    assert await _store(server, created.value) is None
    clock.advance(timedelta(minutes=1))
    assert await _verify(server, created.value) == "expired"
    assert await _probe(server) == "invalid"
    assert server.tokens.list_live() == []


@pytest.mark.parametrize(
    ("flaw", "reads", "stored", "probed"),
    [
        ("useless", False, 30004, "absent"),
        ("refused", True, 30004, "absent"),
        ("invalid", True, None, "invalid"),
        (None, True, None, "valid"),
    ],
)
async def test_tokens_that_do_not_serve(
    *, server: FakeCloudflare, sdk: AsyncCloudflare, flaw: Flaw | None, reads: bool, stored: int | None, probed: str
) -> None:
    """Each is created without an error, and is verified as active."""
    server.tokens.flaws.append(flaw)
    created = await _create(sdk)
    assert await _verify(server, created.value) == "active"
    assert await _reads(server, created.value, "lake") is reads
    assert await _store(server, created.value) == stored
    assert await _probe(server) == probed


async def test_the_quota(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """Of this account's live tokens, and those of others that a test only counts."""
    server.tokens.quota, server.tokens.others = 10, 8
    created = [await _create(sdk) for _ in range(2)]
    with pytest.raises(cloudflare.BadRequestError, match="maximum number of tokens"):
        await _create(sdk)
    server.tokens.delete_by_hand(created[0].id)
    await _create(sdk)
    page = await sdk.accounts.tokens.list(account_id=SANDBOX_ACCOUNT_ID)
    assert (await page._client.get(f"/accounts/{SANDBOX_ACCOUNT_ID}/tokens", cast_to=object))["result_info"] == {  # type: ignore[index]  # the raw envelope
        "page": 1,
        "per_page": 20,
        "count": 2,
        "total_count": 10,
    }


@pytest.mark.parametrize(
    ("state", "verified", "refused"),
    [
        ("good", "active", None),
        ("unknown", "401 1000", "403 10000"),
        ("expired", "expired", "403 10000"),
        ("disabled", "disabled", "403 10000"),
        ("lacks the right", "active", "403 10000"),
        ("limited to addresses", "403 9109", "403 9109"),
    ],
)
async def test_how_the_minting_token_stands(
    server: FakeCloudflare, sdk: AsyncCloudflare, state: MintingState, verified: str, refused: str | None
) -> None:
    """What verifying it says, and what it meets."""
    server.minting_state = state
    assert await _verify(server, SANDBOX_MINTING_TOKEN) == verified
    met = None
    try:
        await _create(sdk)
    except cloudflare.APIStatusError as error:
        met = f"{error.status_code} {error.errors[0].code}"
    assert met == refused


async def test_nobody_else_may_touch_tokens(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """Not the bot's own token, not a created one, not a made-up one, and no e-mail with a key."""
    created = await _create(sdk)
    for token in (SANDBOX_API_TOKEN, created.value, "cfat_" + "0" * 48):
        async with _sdk(server, token) as client:
            with pytest.raises(cloudflare.PermissionDeniedError):
                await _create(client)
            with pytest.raises(cloudflare.PermissionDeniedError):
                await client.accounts.tokens.delete(created.id, account_id=SANDBOX_ACCOUNT_ID)
    http = httpx.AsyncClient(transport=InMemory(server))
    async with AsyncCloudflare(
        api_email=SANDBOX_EMAIL, api_key=SANDBOX_API_KEY, base_url=server.base_url, max_retries=0, http_client=http
    ) as client:
        with pytest.raises(cloudflare.PermissionDeniedError):
            await _create(client)
    with pytest.raises(cloudflare.PermissionDeniedError):
        await sdk.accounts.tokens.create(account_id="0" * 32, name=NAME, policies=TWO)


async def _live(server: FakeCloudflare) -> list[AccountToken]:
    await server.land()
    return server.tokens.list_live()


async def test_answers_are_lost_before_after_and_long_before_the_request_lands(
    server: FakeCloudflare, sdk: AsyncCloudflare, clock: Clock
) -> None:
    """Three ways to know nothing, and one name for each."""
    server.fail_next("create_token", drop_before_store=True)
    server.fail_next("create_token", drop_after_store=True)
    server.fail_next("create_token", lands_after=150)
    counts = []
    for name in ("before", "after", "late"):
        with pytest.raises(cloudflare.APIConnectionError):
            await _create(sdk, name)
        counts.append(len(await _live(server)))
    clock.advance(timedelta(seconds=149))
    counts.append(len(await _live(server)))
    clock.advance(timedelta(seconds=1))
    assert [token.name for token in await _live(server)] == ["after", "late"]
    assert counts == [0, 1, 1, 1]


async def test_a_late_deletion_finds_what_is_there_by_then(
    server: FakeCloudflare, sdk: AsyncCloudflare, clock: Clock
) -> None:
    """Requests land in the order of their moments, before anything that comes later."""
    created = await _create(sdk)
    server.fail_next("delete_token", lands_after=60)
    server.fail_next("update_token", lands_after=30)
    with pytest.raises(cloudflare.APIConnectionError):
        await sdk.accounts.tokens.delete(created.id, account_id=SANDBOX_ACCOUNT_ID)
    with pytest.raises(cloudflare.APIConnectionError):
        await sdk.accounts.tokens.update(
            created.id, account_id=SANDBOX_ACCOUNT_ID, name=NAME, policies=TWO, status="disabled"
        )
    clock.advance(timedelta(minutes=2))
    with pytest.raises(cloudflare.NotFoundError):
        await sdk.accounts.tokens.get(created.id, account_id=SANDBOX_ACCOUNT_ID)
    assert server.tokens.tokens[created.id].status == "disabled"


async def test_somebody_disables_and_deletes_by_hand(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """As in the dashboard."""
    created = await _create(sdk)
    server.tokens.disable_by_hand(created.id)
    assert await _verify(server, created.value) == "disabled"
    server.tokens.delete_by_hand(created.id)
    assert [each.status for each in server.list_tokens()] == ["deleted"]


async def test_each_token_has_a_budget_of_its_own(server: FakeCloudflare, sdk: AsyncCloudflare) -> None:
    """The minting token's requests do not use up those of the bot's own."""
    server.limit = RateLimit(requests=2, window_seconds=300)
    for _ in range(2):
        await sdk.accounts.tokens.list(account_id=SANDBOX_ACCOUNT_ID)
    with pytest.raises(cloudflare.RateLimitError) as limited:
        await sdk.accounts.tokens.list(account_id=SANDBOX_ACCOUNT_ID)
    assert limited.value.response.headers["Ratelimit-Policy"] == '"default";q=2;w=300'
    async with _sdk(server, SANDBOX_API_TOKEN) as client:
        await client.basin_catalog.list(account_id=SANDBOX_ACCOUNT_ID)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null"])
async def test_a_body_that_is_no_description_is_refused(server: FakeCloudflare, body: bytes) -> None:
    """And creates nothing."""
    async with httpx.AsyncClient(transport=InMemory(server)) as client:
        url = f"{server.base_url}/accounts/{SANDBOX_ACCOUNT_ID}/tokens"
        answer = await client.post(url, content=body, headers={"Authorization": f"Bearer {SANDBOX_MINTING_TOKEN}"})
    assert answer.status_code == 400
    assert server.tokens.list_live() == []
