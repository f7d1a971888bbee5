"""What the bot's own credentials may do at Cloudflare: each bad state has its finding, and a check only reads."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from bot.cloudflare.access import ANSWER_WITHIN, LIST_EVERY, TRY_AGAIN_AFTER, TURN_WITHIN, CloudflareAccess
from bot.cloudflare.auth import ApiKey, ApiToken
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.pace import FEW_IN_FLIGHT, LocalPace, Pace
from bot.model.catalog import CatalogApi
from bot.model.errors import DatabaseUnavailable
from bot.model.finding import Finding, Mark
from bot.model.secret import Secret
from bot.network import Network, read_network
from bot.operations.examiner import PATIENCE
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_KEY, SANDBOX_EMAIL, FakeCloudflare, RateLimit
from bot.sandbox.failures import Failure
from bot.sandbox.process import find_free_port
from bot.sandbox.routes import Kind
from bot.sandbox.tokens import Behaviour, TokenKind, make_token
from tests.clock import Clock
from tests.tls import make_authority, open_proxy, terminate_tls

OTHER_ACCOUNT = "0" * 32
MINUTE = timedelta(minutes=1)
ALWAYS = 1000
PassTime = Callable[[timedelta], None]
FINE = ["cloudflare_token_active", "cloudflare_account_answers", "cloudflare_write_unknown"]


@dataclass(slots=True, kw_only=True)
class Scene:
    """A Cloudflare, and the settings of a check of it; `timer` is what the check measures time with."""

    cloudflare: FakeCloudflare
    token: str = ""
    account_id: str = SANDBOX_ACCOUNT_ID
    catalog_api: CatalogApi = CatalogApi.AUTO
    base_url: str = ""
    network: Network = field(default_factory=Network)
    pace: Pace | None = None
    timer: Clock = field(default_factory=Clock)
    in_pause: Callable[[], None] = lambda: None
    pauses: int = 0
    clients: list[CloudflareClient] = field(default_factory=list)
    made: CloudflareAccess | None = None

    async def examine(self) -> list[Finding]:
        """Examine with the scene's one check; the pause before the second try takes no time."""
        self.made = self.made or self._make()
        return list(await self.made.examine())

    def _make(self) -> CloudflareAccess:
        token = self.token or self.cloudflare.api_token
        key = ApiKey(email=SANDBOX_EMAIL, key=Secret(SANDBOX_API_KEY))
        client = CloudflareClient(
            account_id=self.account_id,
            base_url=self.base_url or self.cloudflare.base_url,
            auth=key if token == SANDBOX_API_KEY else ApiToken(token=Secret(token)),
            catalog_api=self.catalog_api,
            network=self.network,
            pace=self.pace,
        )
        self.clients.append(client)
        return CloudflareAccess(client, timer=lambda: self.timer().timestamp(), sleep=self._pause)

    async def _pause(self, _: float) -> None:
        self.pauses += 1
        self.in_pause()

    def asked(self) -> list[str]:
        """Return what was asked since the last call, with ID for each id."""
        paths = [re.sub(r"[0-9a-f]{32}", "ID", each.path[len("/client/v4") :]) for each in self.cloudflare.requests]
        self.cloudflare.requests.clear()
        return paths


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    """Start a Cloudflare with one catalog."""
    async with FakeCloudflare() as cloudflare:
        cloudflare.add_bucket("lake")
        scene = Scene(cloudflare=cloudflare)
        yield scene
        for client in scene.clients:
            await client.aclose()


def _events(found: list[Finding]) -> list[str]:
    return [each.event for each in found]


def _failing(status: int, code: int | None = None, *kinds: Kind, message: str = "made up") -> Callable[[Scene], object]:
    """Return what makes requests of these kinds fail from now on."""
    failure: Failure = {"status": status, "message": message} | ({} if code is None else {"code": code})  # type: ignore[assignment]

    def apply(scene: Scene) -> None:
        for kind in kinds or ("list",):
            scene.cloudflare.fail_next(kind, times=ALWAYS, **failure)

    return apply


def _with(**changes: object) -> Callable[[Scene], object]:
    """Return what changes the settings of the check."""

    def apply(scene: Scene) -> None:
        for name, value in changes.items():
            setattr(scene, name, value)

    return apply


def _own(**changes: object) -> Callable[[Scene], object]:
    """Return what changes how Cloudflare treats the bot."""

    def apply(scene: Scene) -> None:
        for name, value in changes.items():
            setattr(scene.cloudflare, name, value)

    return apply


def _page(scene: Scene) -> None:
    scene.cloudflare.fail_next("any", times=ALWAYS, status=403, body="<html>Blocked by the firewall</html>")


def _challenge(scene: Scene) -> None:
    scene.cloudflare.fail_next("any", times=ALWAYS, status=403, body="x", headers={"cf-mitigated": "challenge"})


USERS = make_token(Behaviour.GOOD, 7, TokenKind.USER)
OLD = make_token(Behaviour.GOOD, 7, TokenKind.UNPREFIXED)
OLD_OF_ACCOUNT = make_token(Behaviour.GOOD, 7, TokenKind.UNPREFIXED_ACCOUNT)
GOOD_STATES: dict[str, tuple[Callable[[Scene], object], list[str]]] = {
    "an account token": (_own(), FINE),
    "a user's token": (_own(api_token=USERS), FINE),
    "an older token of a user": (_own(api_token=OLD), FINE),
    "an older token of the account": (_own(api_token=OLD_OF_ACCOUNT), FINE),
    "it never expires": (_own(own_behaviour=Behaviour.NEVER_EXPIRES), FINE),
    "it expires in ten days": (
        _own(own_behaviour=Behaviour.EXPIRES_SOON),
        ["cloudflare_token_expires_soon", *FINE[1:]],
    ),
    "a Global API key": (_with(token=SANDBOX_API_KEY), ["cloudflare_token_not_verified", *FINE[1:]]),
    "only the newer path family": (_own(families={"basin-catalog"}), FINE),
    "its policies let it write": (_own(shows_policies=True), [*FINE[:2], "cloudflare_token_may_write"]),
    "a gateway answers that no token can be verified": (
        _failing(404, None, "own"),
        ["cloudflare_token_not_verified", *FINE[1:]],
    ),
    "verifying is refused, but not the list": (
        _failing(401, 1000, "own"),
        ["cloudflare_token_not_verified", *FINE[1:]],
    ),
}


@pytest.mark.parametrize(("set_up", "events"), GOOD_STATES.values(), ids=GOOD_STATES)
async def test_credentials_that_work_block_nothing(
    scene: Scene, set_up: Callable[[Scene], object], events: list[str]
) -> None:
    """Whatever their kind; only an early expiry is a warning, which says what to do."""
    set_up(scene)
    found = await scene.examine()
    assert _events(found) == events
    assert not any(each.blocks for each in found)
    assert [each.event for each in found if each.mark is not Mark.OK] == [
        event for event in events if event == "cloudflare_token_expires_soon"
    ]
    assert all(bool(each.fix) is bool(each.setting) is (each.mark is not Mark.OK) for each in found)


TOKEN_SETTING = "CLOUDFLARE_API_TOKEN"
ACCOUNT_SETTING = "CLOUDFLARE_ACCOUNT_ID"
BAD_STATES: dict[str, tuple[Callable[[Scene], object], list[str], str, str]] = {
    "disabled": (
        _own(own_behaviour=Behaviour.DISABLED),
        ["cloudflare_token_disabled"],
        TOKEN_SETTING,
        "enable it again",
    ),
    "expired": (_own(own_behaviour=Behaviour.EXPIRED), ["cloudflare_token_expired"], TOKEN_SETTING, "create another"),
    "found in public": (
        _own(own_behaviour=Behaviour.EXPOSED),
        ["cloudflare_token_exposed"],
        TOKEN_SETTING,
        "where it was published",
    ),
    "not yet valid": (
        _own(own_behaviour=Behaviour.NOT_YET_VALID),
        ["cloudflare_token_not_yet_valid"],
        TOKEN_SETTING,
        "wait until then",
    ),
    "deleted": (
        lambda scene: scene.cloudflare.revoke(scene.cloudflare.api_token),
        ["cloudflare_token_unknown"],
        TOKEN_SETTING,
        "copy the whole token again",
    ),
    "an older token, deleted": (
        _with(token=make_token(Behaviour.UNKNOWN, 7, TokenKind.UNPREFIXED)),
        ["cloudflare_token_unknown"],
        TOKEN_SETTING,
        "copy the whole token again",
    ),
    "cut off": (
        _with(token="cfat_0123456789abcdefghij"),
        ["cloudflare_token_malformed"],
        TOKEN_SETTING,
        "copy the whole token again",
    ),
    "a Global API key in its place": (
        _with(token=SANDBOX_API_KEY[::-1]),
        ["cloudflare_token_malformed"],
        TOKEN_SETTING,
        "create an API token instead",
    ),
    "an S3 secret in its place": (
        _with(token="5a4db0ca" * 8),
        ["cloudflare_token_malformed"],
        TOKEN_SETTING,
        "set the API token that it came from",
    ),
    "from elsewhere only": (
        _failing(403, 9109, "own", "list", message="Cannot use the access token from location: 192.0.2.7"),
        ["cloudflare_token_limited_to_addresses"],
        TOKEN_SETTING,
        "IP address filter",
    ),
    "an account token of another account": (
        _with(account_id=OTHER_ACCOUNT),
        ["cloudflare_token_of_another_account"],
        ACCOUNT_SETTING,
        "set CLOUDFLARE_ACCOUNT_ID",
    ),
    "a user's token, and another account": (
        lambda scene: (_own(api_token=USERS)(scene), _with(account_id=OTHER_ACCOUNT)(scene))[0],
        ["cloudflare_token_active", "cloudflare_caller_rejected"],
        ACCOUNT_SETTING,
        "check that CLOUDFLARE_ACCOUNT_ID is the account that the token is for",
    ),
    "a token without rights": (
        _own(own_behaviour=Behaviour.LACKS_CATALOG),
        ["cloudflare_token_active", "cloudflare_caller_rejected"],
        ACCOUNT_SETTING,
        "Workers R2 Data Catalog Write",
    ),
    "forbidden": (
        _failing(403, 10000, message="Forbidden"),
        ["cloudflare_token_active", "cloudflare_caller_lacks_permission"],
        TOKEN_SETTING,
        "Workers R2 Data Catalog Write",
    ),
    "a method that is not allowed": (
        _failing(403, 10001, message="Method not allowed for token"),
        ["cloudflare_token_active", "cloudflare_caller_not_allowed"],
        TOKEN_SETTING,
        "Workers R2 Data Catalog Write",
    ),
    "no R2": (
        _failing(403, 10042),
        ["cloudflare_token_active", "cloudflare_r2_not_enabled"],
        ACCOUNT_SETTING,
        "enable it",
    ),
    "no catalogs in the account": (
        _failing(404, 7003),
        ["cloudflare_token_active", "cloudflare_route_gone"],
        ACCOUNT_SETTING,
        "check the account id",
    ),
    "the path family that is set is gone": (
        lambda scene: (
            _own(families={"basin-catalog"})(scene),
            _with(catalog_api=CatalogApi.R2_CATALOG)(scene),
        )[0],
        ["cloudflare_token_active", "cloudflare_route_gone"],
        "R2_CREDENTIAL_CATALOG_API",
        "set it to auto",
    ),
    "a Global API key that was rolled": (
        lambda scene: (_with(token=SANDBOX_API_KEY)(scene), _own(api_key="another")(scene))[0],
        ["cloudflare_caller_rejected"],
        TOKEN_SETTING,
        "check that it is valid",
    ),
    "a code that the bot does not know": (
        _failing(400, 12345),
        ["cloudflare_token_active", "cloudflare_request_rejected"],
        "",
        "Ray ID",
    ),
    "a page of a firewall": (_page, ["cloudflare_blocked_on_the_way"], "HTTPS_PROXY", "proxy, filter or firewall"),
    "a challenge": (_challenge, ["cloudflare_challenge_page"], "", "from another address"),
    "it may not write": (
        _own(shows_policies=True, own_may_write=False),
        ["cloudflare_token_active", "cloudflare_account_answers", "cloudflare_token_may_not_write"],
        TOKEN_SETTING,
        "Workers R2 Data Catalog Write",
    ),
}


@pytest.mark.parametrize(("set_up", "events", "setting", "fix"), BAD_STATES.values(), ids=BAD_STATES)
async def test_each_bad_state_is_named_with_its_fix(
    scene: Scene, set_up: Callable[[Scene], object], events: list[str], setting: str, fix: str
) -> None:
    """It is said once, without a consequence as a second failure; nothing is written to find it out."""
    set_up(scene)
    found = await scene.examine()
    assert _events(found) == events
    [bad] = [each for each in found if each.mark is Mark.FAILED]
    assert bad.setting == setting
    assert fix in bad.fix
    assert bad.blocks is (bad.event != "cloudflare_token_may_not_write")
    assert {request.method for request in scene.cloudflare.requests} == {"GET"}
    assert scene.pauses == 0
    said = str(found)
    assert "MADEUP" not in said
    assert "made up" not in said
    assert "192.0.2.7" not in said


async def test_a_whole_check_only_reads_and_uses_few_requests(scene: Scene) -> None:
    """A minute later, the list still counts; hidden policies are not asked for again, and neither endpoint is tried."""
    scene.cloudflare.api_token = OLD_OF_ACCOUNT
    assert _events(await scene.examine()) == FINE
    assert {request.method for request in scene.cloudflare.requests} == {"GET"}
    verify = "/accounts/ID/tokens/verify"
    assert scene.asked() == ["/user/tokens/verify", verify, "/accounts/ID/r2-catalog", "/accounts/ID/tokens/ID"]

    scene.timer.advance(MINUTE)
    assert _events(await scene.examine()) == FINE
    assert scene.asked() == [verify]

    scene.timer.advance(LIST_EVERY)
    assert _events(await scene.examine()) == FINE
    assert scene.asked() == [verify, "/accounts/ID/r2-catalog"]


async def test_the_refresh_of_the_catalogs_saves_a_request(scene: Scene) -> None:
    """A list that was just read counts; one that failed is asked for again, and the cause is said."""
    await scene.examine()
    scene.timer.advance(LIST_EVERY)
    assert scene.made is not None
    scene.made.note_list(5)
    scene.asked()
    account = (await scene.examine())[1]
    assert (scene.asked(), account.known["catalogs"]) == (["/accounts/ID/tokens/verify"], 5)

    scene.cloudflare.fail_next("list", status=403, code=10042)
    scene.made.note_list(None)
    assert "cloudflare_r2_not_enabled" in _events(await scene.examine())
    assert _events(await scene.examine()) == FINE


async def test_a_token_that_was_deleted_is_noticed_at_once(scene: Scene) -> None:
    """A list that was read a moment before the deletion does not count for minutes."""
    await scene.examine()
    deleted, scene.cloudflare.api_token = scene.cloudflare.api_token, OLD_OF_ACCOUNT
    [found] = await scene.examine()
    assert (found.event, found.blocks) == ("cloudflare_token_unknown", True)
    scene.cloudflare.api_token = deleted
    assert _events(await scene.examine()) == FINE


async def test_one_slow_answer_changes_nothing(scene: Scene) -> None:
    """The question is asked again in the same examination."""
    scene.cloudflare.fail_next("own", drop_before_store=True)
    assert _events(await scene.examine()) == FINE
    assert scene.pauses == 1


OUTAGES: dict[str, tuple[Callable[[Scene], object], str]] = {
    "down": (_failing(503, None, "any"), "cloudflare_unavailable"),
    "breaks off": (
        lambda scene: scene.cloudflare.fail_next("any", times=ALWAYS, drop_before_store=True),
        "cloudflare_unreachable",
    ),
    "answers nonsense": (
        lambda scene: scene.cloudflare.fail_next("any", times=ALWAYS, status=200, body="nonsense"),
        "cloudflare_answer_not_understood",
    ),
    "blocked at the edge": (
        lambda scene: scene.cloudflare.fail_next("any", times=ALWAYS, status=403, body="error code: 1020"),
        "cloudflare_edge_refused",
    ),
}


@pytest.mark.parametrize(("break_down", "event"), OUTAGES.values(), ids=OUTAGES)
async def test_an_outage_blocks_only_if_it_lasts(
    scene: Scene, break_down: Callable[[Scene], object], event: str
) -> None:
    """The first examination without an answer is a warning, the next one a failure; both end by themselves."""
    assert _events(await scene.examine()) == FINE
    scene.timer.advance(MINUTE)
    break_down(scene)
    [first] = await scene.examine()
    assert (first.event, first.mark, first.blocks) == (event, Mark.WARNING, False)

    scene.timer.advance(MINUTE)
    [second] = await scene.examine()
    assert (second.event, second.mark, second.blocks) == (event, Mark.FAILED, True)

    scene.cloudflare.forget_failures()
    assert _events(await scene.examine()) == FINE


async def test_a_cloudflare_that_never_answered_blocks_at_once(scene: Scene) -> None:
    """At the start, and for the command that examines once."""
    scene.base_url = f"http://127.0.0.1:{find_free_port()}/client/v4"
    [found] = await scene.examine()
    assert (found.event, found.blocks, found.setting) == ("cloudflare_unreachable", True, "")
    assert "no connection is made (ECONNREFUSED)" in found.text
    assert "allow outgoing HTTPS to Cloudflare's hosts" in found.fix


async def test_a_silent_cloudflare_is_not_waited_for_longer_than_a_check_may_take(
    scene: Scene, pass_time: PassTime
) -> None:
    """Both tries are cut off."""
    scene.cloudflare.fail_next("own", times=ALWAYS, delay=3600)
    examining = asyncio.create_task(scene.examine())
    for _ in range(2):
        asked = len(scene.cloudflare.requests)
        while len(scene.cloudflare.requests) == asked:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)
        pass_time(ANSWER_WITHIN)
    [found] = await examining
    assert (found.event, found.known) == ("cloudflare_unreachable", {"cause": "TimeoutError"})
    assert 2 * ANSWER_WITHIN + TRY_AGAIN_AFTER < PATIENCE


@pytest.mark.parametrize("failure", [Failure(status=503), Failure(status=200, body='{"success": true}')], ids=str)
async def test_policies_that_are_not_understood_change_nothing(scene: Scene, failure: Failure) -> None:
    """The other answers say that Cloudflare works."""
    scene.cloudflare.fail_next("token", **failure)
    assert _events(await scene.examine()) == FINE


async def test_policies_are_asked_for_again_after_a_failure(scene: Scene) -> None:
    """A moment without an answer must not hide for good that the token may not write."""
    _own(shows_policies=True, own_may_write=False)(scene)
    scene.cloudflare.fail_next("token", status=503)
    assert _events(await scene.examine()) == FINE
    assert _events(await scene.examine()) == [*FINE[:2], "cloudflare_token_may_not_write"]


async def test_what_is_known_to_be_wrong_stays_said_during_an_outage(scene: Scene) -> None:
    """A disabled token is not fine because Cloudflare does not answer."""
    scene.cloudflare.own_behaviour = Behaviour.DISABLED
    await scene.examine()
    scene.cloudflare.fail_next("any", times=ALWAYS, status=503)
    assert _events(await scene.examine()) == ["cloudflare_token_disabled", "cloudflare_unavailable"]


async def test_a_token_that_is_enabled_again_is_noticed(scene: Scene) -> None:
    """Without a restart."""
    scene.cloudflare.own_behaviour = Behaviour.DISABLED
    assert _events(await scene.examine()) == ["cloudflare_token_disabled"]
    scene.cloudflare.own_behaviour = Behaviour.GOOD
    assert _events(await scene.examine()) == FINE


@pytest.mark.parametrize("retry_after", [7, None])
async def test_a_rate_limit_is_a_warning_that_blocks_nothing(scene: Scene, retry_after: int | None) -> None:
    """What was found before still holds, and the question is not repeated at once."""
    scene.pace = LocalPace(Clock())
    assert _events(await scene.examine()) == FINE
    limit: Failure = {"status": 429} if retry_after is None else {"status": 429, "retry_after": retry_after}
    scene.cloudflare.fail_next("own", times=ALWAYS, **limit)
    scene.asked()
    found = await scene.examine()
    assert _events(found) == [*FINE, "cloudflare_throttled"]
    assert (found[-1].mark, found[-1].blocks, "until" in found[-1].known) == (Mark.WARNING, False, retry_after == 7)
    assert len(scene.asked()) == 1


async def test_a_check_never_uses_what_is_left_for_stores(scene: Scene) -> None:
    """While the allowance is scarce, it sends nothing and says until when."""
    clock, even_pace = Clock(), timedelta(seconds=16)
    scene.pace = LocalPace(clock)
    scene.cloudflare.limit = RateLimit(requests=20, window_seconds=300, sliding=True)
    for _ in range(16):
        found = await scene.examine()
        clock.advance(even_pace)
    assert _events(found) == [*FINE, "cloudflare_throttled"]
    assert scene.asked()
    assert _events(await scene.examine()) == [*FINE, "cloudflare_throttled"]
    assert scene.asked() == []
    assert await scene.pace.turn(Urgency.WRITE) is None


async def test_a_check_does_not_wait_behind_a_queue(scene: Scene, pass_time: PassTime) -> None:
    """While stores take every place, what was found before still holds."""
    scene.pace = LocalPace(Clock())
    for _ in range(FEW_IN_FLIGHT):
        assert await scene.pace.turn(Urgency.WRITE) is None
    examining = asyncio.create_task(scene.examine())
    for _ in range(10):
        await asyncio.sleep(0)
    pass_time(TURN_WITHIN)
    assert _events(await examining) == ["cloudflare_throttled"]
    assert scene.asked() == []


class BrokenPace(LocalPace):
    """A pace whose database is away."""

    async def turn(self, urgency: Urgency) -> datetime | None:
        """Fail."""
        raise DatabaseUnavailable


async def test_a_missing_database_is_not_cloudflares_failure(scene: Scene) -> None:
    """The database's own finding says what to do."""
    scene.pace = BrokenPace(Clock())
    [found] = await scene.examine()
    assert (found.event, found.mark, found.blocks) == ("cloudflare_not_asked", Mark.WARNING, False)


REFUSED_TUNNELS: dict[str, tuple[bytes, str, str, str]] = {
    "407": (
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        "cloudflare_blocked_on_the_way",
        "HTTPS_PROXY",
        "USER:PASSWORD@HOST:PORT",
    ),
    "403": (
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "cloudflare_blocked_on_the_way",
        "HTTPS_PROXY",
        "allow Cloudflare's hosts in the proxy",
    ),
    "502": (
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        "cloudflare_unreachable",
        "HTTPS_PROXY",
        "allow Cloudflare's hosts in the proxy",
    ),
}


@pytest.mark.parametrize(("refusal", "event", "setting", "fix"), REFUSED_TUNNELS.values(), ids=REFUSED_TUNNELS)
async def test_a_proxy_that_opens_no_tunnel_is_named(
    scene: Scene, refusal: bytes, event: str, setting: str, fix: str
) -> None:
    """Its login is not."""
    async with open_proxy() as proxy:
        proxy.refusal = refusal
        scene.network = read_network({"HTTPS_PROXY": f"http://ops:MARKED@127.0.0.1:{proxy.port}"})
        scene.base_url = "https://localhost:1/client/v4"
        [found] = await scene.examine()
    assert (found.event, found.setting) == (event, setting)
    assert fix in found.fix
    assert "MARKED" not in str(found)


async def test_a_proxy_that_is_away_is_named(scene: Scene) -> None:
    """It is not Cloudflare that refuses the connection."""
    scene.network = read_network({"HTTPS_PROXY": f"http://127.0.0.1:{find_free_port()}"})
    scene.base_url = "https://localhost:1/client/v4"
    [found] = await scene.examine()
    assert (found.event, found.setting) == ("cloudflare_unreachable", "HTTPS_PROXY")
    assert "the proxy is not reached (ConnectionRefusedError ECONNREFUSED)" in found.text


async def test_a_certificate_of_an_unknown_authority_is_named(scene: Scene, tmp_path: Path) -> None:
    """A proxy that inspects TLS needs its authority in SSL_CERT_FILE."""
    authority = make_authority(tmp_path)
    plain_port = httpx.URL(scene.cloudflare.base_url).port or 0
    async with terminate_tls(authority, plain_port) as port:
        scene.base_url = f"https://localhost:{port}/client/v4"
        [found] = await scene.examine()
        assert (found.event, found.setting, found.blocks) == ("cloudflare_unreachable", "SSL_CERT_FILE", True)
        assert "the certificate there is not trusted" in found.text

        scene.network, scene.made = read_network({"SSL_CERT_FILE": str(authority.ca_file)}), None
        assert _events(await scene.examine()) == FINE


async def test_an_unknown_host_is_a_matter_of_dns(scene: Scene) -> None:
    """A name that cannot exist is resolved by nobody."""
    scene.base_url = "https://api.cloudflare.invalid/client/v4"
    [found] = await scene.examine()
    assert found.event == "cloudflare_unreachable"
    assert "DNS" in found.fix
