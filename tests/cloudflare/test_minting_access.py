"""Whether tokens can be made with the minting token: each bad state has its finding, and none is made to find out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
import pytest_asyncio

from bot.cloudflare.access import ANSWER_WITHIN
from bot.cloudflare.answers import TokenStatus, TokenVerification
from bot.cloudflare.budget import Urgency
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.minting_access import LOOK_AT_RIGHTS_EVERY, MintingAccess, _describe_token
from bot.cloudflare.minting_policies import BUCKET_ITEM_WRITE, STORAGE_WRITE
from bot.cloudflare.pace import LocalPace, Pace
from bot.model.errors import DatabaseUnavailable
from bot.model.finding import Finding, Mark, Part
from bot.model.secret import Secret
from bot.model.token_name import Scope
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, FakeCloudflare
from bot.sandbox.process import find_free_port
from bot.sandbox.standing import MintingState
from tests.clock import Clock
from tests.make import NOW

FINE = ["minting_token_active", "minting_rights_enough", "room_for_tokens"]


@dataclass(slots=True, kw_only=True)
class Scene:
    """A Cloudflare, and the settings of a check of it; `timer` is what the check measures time with."""

    cloudflare: FakeCloudflare
    base_url: str = ""
    scope: Scope = Scope.BUCKET
    blocks: bool = False
    quota: int = 500
    pace: Pace | None = None
    timer: Clock = field(default_factory=Clock)
    client: MintingClient | None = None
    made: MintingAccess | None = None

    async def examine(self) -> list[Finding]:
        """Examine with the scene's one check."""
        self.made = self.made or self._make()
        return list(await self.made.examine())

    def _make(self) -> MintingAccess:
        self.client = MintingClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url=self.base_url or self.cloudflare.base_url,
            token=Secret(self.cloudflare.minting_token),
            installation="4f3a9c1e",
            serves=lambda _: False,
            pace=self.pace,
        )
        clock = Clock()
        return MintingAccess(
            self.client,
            self.scope,
            clock,
            quota=self.quota,
            blocks=self.blocks,
            timer=lambda: self.timer().timestamp(),
        )

    def asked(self) -> list[str]:
        """Return the last part of each path that was asked for since the last call."""
        paths = [request.path.rpartition("/")[2] for request in self.cloudflare.requests]
        assert {request.method for request in self.cloudflare.requests} <= {"GET"}
        self.cloudflare.requests.clear()
        return paths


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    """Start a Cloudflare that lets tokens be made."""
    async with FakeCloudflare() as cloudflare:
        scene = Scene(cloudflare=cloudflare)
        yield scene
        if scene.client is not None:
            await scene.client.aclose()


def events(found: list[Finding]) -> list[str]:
    """Return their events."""
    return [each.event for each in found]


async def test_a_token_that_can_mint_is_fine_and_makes_nothing(scene: Scene) -> None:
    """It is asked about each time, and what it may grant once an hour: that list is long."""
    found = await scene.examine()

    assert events(found) == FINE
    assert {each.part for each in found} == {Part.ROTATION}
    assert {each.mark for each in found} == {Mark.OK}
    assert scene.asked() == ["verify", "permission_groups", "tokens"]
    scene.timer.advance(LOOK_AT_RIGHTS_EVERY - timedelta(seconds=1))
    assert events(await scene.examine()) == FINE
    assert scene.asked() == ["verify"]
    scene.timer.advance(timedelta(seconds=1))
    assert events(await scene.examine()) == FINE
    assert scene.asked() == ["verify", "permission_groups", "tokens"]
    assert scene.cloudflare.tokens.tokens == {}


STATES: dict[MintingState, str] = {
    "unknown": "check that it is whole and of CLOUDFLARE_ACCOUNT_ID",
    "expired": "create another API token of the account",
    "disabled": "find out who did it and why",
    "limited to addresses": "in Cloudflare, add the address from which the minter calls",
}


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize(("state", "fix"), STATES.items(), ids=STATES)
async def test_a_token_that_cannot_be_used_is_a_failure(
    scene: Scene, state: MintingState, fix: str, *, blocks: bool
) -> None:
    """With the setting and the fix. A process with other work is ready all the same."""
    scene.cloudflare.minting_state, scene.blocks = state, blocks

    [found] = await scene.examine()

    assert (found.event, found.mark, found.setting) == (
        "minting_token_unusable",
        Mark.FAILED,
        "CLOUDFLARE_MINTING_TOKEN",
    )
    assert found.fix.startswith(fix)
    assert found.blocks is blocks
    assert str(found.known["error"]).startswith("minting_")


async def test_a_token_without_the_right_is_a_failure(scene: Scene) -> None:
    """It is active, and may not even list what it could grant."""
    scene.cloudflare.minting_state = "lacks the right"

    [found] = await scene.examine()

    assert (found.event, found.mark) == ("minting_token_unusable", Mark.FAILED)
    assert "lacks the right" in found.text
    assert "Account API Tokens Write" in found.fix


@pytest.mark.parametrize(
    ("scope", "group", "is_enough"),
    [
        (Scope.BUCKET, BUCKET_ITEM_WRITE, False),
        (Scope.BUCKET, STORAGE_WRITE, True),
        (Scope.ACCOUNT, STORAGE_WRITE, False),
        (Scope.ACCOUNT, BUCKET_ITEM_WRITE, True),
    ],
)
@pytest.mark.parametrize("way", ["missing", "not_selectable"])
async def test_a_permission_that_cannot_be_granted_is_named(
    scene: Scene, scope: Scope, group: object, way: str, *, is_enough: bool
) -> None:
    """Only those of the scope that is set; it is asked about again at once, since somebody is at it."""
    scene.scope, refused = scope, getattr(scene.cloudflare.tokens, way)
    refused.add(group.id)  # type: ignore[attr-defined]  # a PermissionGroup

    active, rights, _ = await scene.examine()

    assert active.event == "minting_token_active"
    assert rights.event == ("minting_rights_enough" if is_enough else "minting_rights_missing")
    assert (group.name in rights.text) is not is_enough  # type: ignore[attr-defined]  # a PermissionGroup
    refused.clear()
    assert events(await scene.examine()) == FINE


@pytest.mark.parametrize(("there", "fits"), [(489, True), (490, False), (500, False)])
async def test_an_account_without_room_is_a_failure(scene: Scene, there: int, *, fits: bool) -> None:
    """With the sum; the process stays ready, since it still takes tokens back. It is looked at again at once."""
    scene.cloudflare.tokens.others, scene.blocks = there, True

    *_, room = await scene.examine()

    assert room.event == ("room_for_tokens" if fits else "no_room_for_tokens")
    assert f"{there} of 500 API tokens of the account are there, and the last 10 are left to others" in room.text
    assert (room.mark is Mark.OK, room.setting) == (fits, "" if fits else "R2_CREDENTIAL_ROTATE_QUOTA")
    assert not room.blocks
    scene.cloudflare.tokens.others = 0
    assert events(await scene.examine()) == FINE


@pytest.mark.parametrize(
    ("left", "event", "words"),
    [
        (None, "minting_token_active", "never expires, although its holder administers the account"),
        (timedelta(days=31), "minting_token_active", "expires on 2026-12-21"),
        (timedelta(days=30), "minting_token_expires_soon", "expires on 2026-12-20, in 30 days"),
    ],
)
def test_a_token_that_expires_soon_is_a_warning(left: timedelta | None, event: str, words: str) -> None:
    """One that never does is worth a word: an administrator's token should."""
    verified = TokenVerification(
        id="0f" * 16,
        status=TokenStatus.ACTIVE,
        expires_at=None if left is None else NOW + left,
        not_before=None,
        answered_at=NOW,
        cf_ray=None,
    )

    found = _describe_token(verified, NOW + timedelta(days=1))

    assert (found.event, found.mark is Mark.WARNING) == (event, event.endswith("soon"))
    assert words in found.text


async def test_cloudflare_that_is_away_is_a_warning_with_the_cause(scene: Scene) -> None:
    """The minter tries again by itself."""
    scene.base_url = f"http://127.0.0.1:{find_free_port()}"

    [found] = await scene.examine()

    assert (found.event, found.mark, found.blocks) == ("minting_not_checked", Mark.WARNING, False)
    assert "no connection is made (ECONNREFUSED)" in found.text


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_trouble_of_cloudflares_is_a_warning(scene: Scene, status: int) -> None:
    """As is a 429: whether tokens can be made is not known now."""
    scene.cloudflare.fail_next("verify", status=status, message="made up")

    [found] = await scene.examine()

    assert (found.event, found.mark) == ("minting_not_checked", Mark.WARNING)
    assert events(await scene.examine()) in (FINE, ["minting_not_checked"])


class Broken(LocalPace):
    """A pace whose database is away, whose budget is used up, or that never gives a turn."""

    def __init__(self, answer: Callable[[], datetime | None] | None) -> None:
        super().__init__(Clock())
        self._answer = answer

    async def turn(self, urgency: Urgency) -> datetime | None:
        """Answer as told, or never."""
        if self._answer is None:
            await asyncio.Event().wait()
            raise AssertionError
        return self._answer()


def _fail() -> datetime | None:
    raise DatabaseUnavailable


REASONS: dict[str, tuple[Callable[[], datetime | None], str]] = {
    "no database": (_fail, "the database that counts the requests does not answer"),
    "no request left": (lambda: Clock()() + timedelta(minutes=5), "the minting token has used up its requests"),
}


@pytest.mark.parametrize(("answer", "why"), REASONS.values(), ids=REASONS)
async def test_what_cannot_be_asked_is_not_known(scene: Scene, answer: Callable[[], datetime | None], why: str) -> None:
    """Nothing is sent, and nothing is claimed."""
    scene.pace = Broken(answer)

    [found] = await scene.examine()

    assert (found.event, found.mark) == ("minting_not_checked", Mark.WARNING)
    assert why in found.text
    assert scene.asked() == []


async def test_an_examination_takes_no_longer_than_its_patience(
    scene: Scene, pass_time: Callable[[timedelta], None]
) -> None:
    """A queue that never moves ends it."""
    scene.pace = Broken(None)
    examining = asyncio.create_task(scene.examine())
    await asyncio.sleep(0.05)  # no event says that it waits
    pass_time(ANSWER_WITHIN)

    [found] = await examining

    assert (found.event, "in time" in found.text) == ("minting_not_checked", True)
