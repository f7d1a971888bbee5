"""Trying out rotation: each answer, each failure, and that nothing is left behind wherever it ends."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.minter import MintingClient
from bot.model.catalog import BucketKey
from bot.model.finding import Finding, Mark
from bot.model.minted import PROBE_AFTER
from bot.model.secret import Secret
from bot.model.token_name import APPLICATION, TRIAL, Scope, TokenName
from bot.rotation.trial import LIVES_FOR, Trial
from bot.rotation.trial_questions import PATIENCE, Questions
from bot.rotation.trial_slot import TrialSlot
from bot.sandbox.account_tokens import Flaw
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN, SANDBOX_MINTING_TOKEN, FakeCloudflare
from bot.sandbox.failures import Failure
from bot.sandbox.policies import BUCKET_ITEM_WRITE, STORAGE_WRITE
from bot.sandbox.routes import Kind
from bot.sandbox.standing import MintingState
from tests.clock import Clock
from tests.in_memory import InMemory

NOW = datetime(2026, 11, 24, 8, 30, 0, 123, tzinfo=UTC)
LAKE = BucketKey(account_id=SANDBOX_ACCOUNT_ID, bucket="lake")


class Laboratory:
    """A trial in virtual time, against a fake Cloudflare without sockets."""

    def __init__(self, *, stores: bool = False, may_overwrite: bool = False, scope: Scope = Scope.BUCKET) -> None:
        self.clock = Clock(NOW)
        self.server = FakeCloudflare(clock=self.clock, timer=self._timer)
        self.server.add_bucket("lake")
        self.found: list[Finding] = []
        self.when_asked: Callable[[httpx.Request], object] = lambda _: None
        transport = _Watched(self)
        url = "http://127.0.0.1:1/client/v4"
        self.minting = MintingClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url=url,
            token=Secret(SANDBOX_MINTING_TOKEN),
            installation=TRIAL,
            serves=lambda key: key == LAKE,
            transport=transport,
            clock=self.clock,
        )
        self.catalogs = CloudflareClient(
            account_id=SANDBOX_ACCOUNT_ID,
            base_url=url,
            auth=ApiToken(token=Secret(SANDBOX_API_TOKEN)),
            transport=transport,
            timer=self._timer,
        )
        questions = Questions(self.found.append, timer=self._timer, sleep=self._sleep)
        self.trial = Trial(
            minting=self.minting,
            catalogs=self.catalogs,
            key=LAKE,
            scope=scope,
            quota=500,
            slot=TrialSlot(self.catalogs, LAKE, questions, may_overwrite=may_overwrite) if stores else None,
            questions=questions,
            clock=self.clock,
        )

    async def run(self) -> None:
        """Walk and clean up."""
        await self.trial.walk()
        await self.trial.clean_up()
        await self.server.land()

    def said(self, mark: Mark) -> list[str]:
        """Return the sentences of this mark."""
        return [finding.text for finding in self.found if finding.mark is mark]

    def failure(self) -> Finding:
        """Return the only failure."""
        [failed] = [finding for finding in self.found if finding.mark is Mark.FAILED]
        return failed

    def leftovers(self) -> list[str]:
        """Return the names of the live tokens."""
        return [token.name for token in self.server.tokens.list_live()]

    def _timer(self) -> float:
        return self.clock().timestamp()

    async def _sleep(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)


class _Watched(httpx.AsyncBaseTransport):
    def __init__(self, laboratory: Laboratory) -> None:
        self._laboratory = laboratory
        self._inner = InMemory(laboratory.server)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._laboratory.when_asked(request)
        await asyncio.sleep(0)
        return await self._inner.handle_async_request(request)


def _texts(laboratory: Laboratory, question: str) -> str:
    return " ".join(each.text for each in laboratory.found if each.known["question"] == question)


async def test_a_trial_without_a_slot() -> None:
    """Every question has its answer with the seconds that were measured, and nothing is left."""
    laboratory = Laboratory()
    laboratory.server.tokens.known_after, laboratory.server.tokens.unknown_after = 12, 30
    laboratory.server.tokens.listed_after = 50
    await laboratory.run()
    assert laboratory.said(Mark.FAILED) == laboratory.said(Mark.WARNING) == []
    assert "active and expires on" in _texts(laboratory, "minting token")
    assert "Workers R2 Data Catalog Write and Workers R2 Storage Bucket Item Write" in _texts(laboratory, "permissions")
    assert "500 API tokens allowed - 0 there - 10 kept free = 490 left for the bot" in _texts(laboratory, "quota")
    assert "two policies" in _texts(laboratory, "create")
    assert "active after 12 s" in _texts(laboratory, "propagation")
    assert "part of a token's name" in _texts(laboratory, "list")
    assert "refused after 30 s" in _texts(laboratory, "disable")
    assert "worked after 12 s" in _texts(laboratory, "enable")
    assert "it is gone" in _texts(laboratory, "delete again")
    assert laboratory.leftovers() == []
    assert laboratory.server.writes == []
    [created] = laboratory.server.tokens.tokens.values()
    assert created.expires_on == NOW.replace(microsecond=0) + timedelta(hours=1)
    name = TokenName.parse(created.name)
    assert name is not None
    assert name.is_ours(TRIAL)


@pytest.mark.parametrize("scope", Scope)
async def test_a_trial_with_a_slot(scope: Scope) -> None:
    """It is stored and tested, and the end says what the slot holds: it cannot be emptied."""
    laboratory = Laboratory(stores=True, scope=scope)
    laboratory.server.tokens.unknown_after = 40
    await laboratory.run()
    assert laboratory.said(Mark.FAILED) == []
    [warning] = [finding for finding in laboratory.found if finding.mark is Mark.WARNING]
    assert "the slot of lake holds a token that is deleted now" in warning.text
    assert "/r2-credential lake" in warning.fix
    assert "said valid" in _texts(laboratory, "test")
    assert "the test of the slot said so 0 s later" in _texts(laboratory, "disable")
    assert len(laboratory.server.writes) == 1
    assert laboratory.leftovers() == []


async def test_the_page_explains_each_question() -> None:
    """And no other one; with the times that the bot really waits."""
    laboratory = Laboratory(stores=True)
    laboratory.server.tokens.add(str(TokenName.new("4f3a9c1e", "lake")), [])
    await laboratory.run()
    page = (Path(__file__).parents[2] / "docs" / "rotation.md").read_text()
    table = page.partition("| question |")[2].partition("###")[0]
    rows = re.findall(r"^\| ([a-z, ]+?)(?: \(with `--store`\))? \|", table, re.MULTILINE)
    explained = {question for row in rows for question in row.split(", ")}
    asked = {str(finding.known["question"]) for finding in laboratory.found} - {"slot"}
    assert explained == asked
    assert (timedelta(minutes=3), timedelta(seconds=90), timedelta(hours=1)) == (PATIENCE, PROBE_AFTER, LIVES_FOR)
    for words in (
        "the bot waits for three",
        "waits 90 seconds",
        "expires an hour after",
        f"`{APPLICATION} {TRIAL} BUCKET`",
    ):
        assert words in page


async def test_a_full_slot_is_refused_before_anything_is_created() -> None:
    """Its credential would be lost."""
    laboratory = Laboratory(stores=True)
    laboratory.server.add_bucket("lake", token="somebody's")
    await laboratory.run()
    assert "holds a credential" in laboratory.failure().text
    assert "--overwrite" in laboratory.failure().fix
    assert laboratory.server.tokens.tokens == {}
    assert laboratory.server.writes == []


async def test_a_full_slot_is_overwritten_only_if_told_so() -> None:
    """Explicitly."""
    laboratory = Laboratory(stores=True, may_overwrite=True)
    laboratory.server.add_bucket("lake", token="somebody's")
    await laboratory.run()
    assert laboratory.said(Mark.FAILED) == []
    assert len(laboratory.server.writes) == 1


async def test_without_a_test_of_slots_a_present_credential_counts() -> None:
    """And the trial says that nothing will be revoked."""
    laboratory = Laboratory(stores=True)
    laboratory.server.offers_status = False
    await laboratory.run()
    assert laboratory.said(Mark.FAILED) == []
    assert any("revokes nothing by itself" in text for text in laboratory.said(Mark.WARNING))
    again = Laboratory(stores=True)
    again.server.offers_status = False
    again.server.add_bucket("lake", token="somebody's")
    await again.run()
    assert "holds a credential" in again.failure().text


STATES: dict[MintingState, str] = {
    "unknown": "did not accept the token",
    "expired": "has expired",
    "disabled": "is disabled or revoked",
    "lacks the right": "lacks the right",
    "limited to addresses": "certain IP addresses",
}


@pytest.mark.parametrize(("state", "said"), STATES.items(), ids=STATES)
async def test_a_minting_token_that_cannot_be_used(state: MintingState, said: str) -> None:
    """With the setting and the fix; nothing is created."""
    laboratory = Laboratory()
    laboratory.server.minting_state = state
    await laboratory.run()
    failed = laboratory.failure()
    assert said in failed.text
    assert failed.setting == "CLOUDFLARE_MINTING_TOKEN"
    assert failed.fix
    assert laboratory.server.tokens.tokens == {}


async def test_a_permission_that_cannot_be_granted() -> None:
    """It says which, and what that means for either scope."""
    laboratory = Laboratory()
    laboratory.server.tokens.not_selectable.add(STORAGE_WRITE.id)
    await laboratory.run()
    assert laboratory.said(Mark.FAILED) == []
    assert "scope account: not Workers R2 Storage Write" in _texts(laboratory, "permissions")

    laboratory = Laboratory()
    laboratory.server.tokens.missing.add(BUCKET_ITEM_WRITE.id)
    await laboratory.run()
    assert "Bucket Item Write" in laboratory.failure().text
    assert "check --mint" not in laboratory.failure().fix
    assert laboratory.server.tokens.tokens == {}


async def test_a_quota_that_is_reached() -> None:
    """The sum is written out."""
    laboratory = Laboratory()
    laboratory.server.tokens.others = 490
    await laboratory.run()
    assert "500 API tokens allowed - 490 there - 10 kept free = 0 left for the bot" in laboratory.failure().text
    assert laboratory.server.tokens.tokens == {}


async def test_other_installations_and_other_trials_are_named() -> None:
    """Of the former only the number; of the latter each, since it may be a leftover."""
    laboratory = Laboratory()
    left = TokenName.new(TRIAL, "pond")
    for name in (TokenName.new("4f3a9c1e", "lake"), TokenName.new("4f3a9c1e", "pond"), left):
        laboratory.server.tokens.add(str(name), [])
    await laboratory.run()
    assert "the installation 4f3a9c1e has created 2 of them" in _texts(laboratory, "installations")
    [warning] = laboratory.said(Mark.WARNING)
    assert str(left) in warning
    assert str(left) in laboratory.leftovers()
    assert len(laboratory.leftovers()) == 3


FLAWS: dict[Flaw, tuple[bool, str]] = {
    "useless": (False, "does not read the catalog of lake"),
    "refused": (True, "does not take a token like this"),
    "invalid": (True, "did not say valid"),
}


@pytest.mark.parametrize("flaw", FLAWS)
async def test_a_token_that_does_not_serve_is_deleted(flaw: Flaw) -> None:
    """The fix is the other scope, and not to run this very command."""
    stores, said = FLAWS[flaw]
    laboratory = Laboratory(stores=stores)
    laboratory.server.tokens.flaws.append(flaw)
    await laboratory.run()
    assert said in laboratory.failure().text
    assert "R2_CREDENTIAL_ROTATE_SCOPE" in laboratory.failure().fix
    assert "check --mint" not in laboratory.failure().fix
    assert laboratory.leftovers() == []
    assert "was deleted" in _texts(laboratory, "cleaned up")
    holds = [text for text in laboratory.said(Mark.WARNING) if "the slot of lake holds" in text]
    assert len(holds) == (1 if flaw == "invalid" else 0)


async def test_a_token_that_stays_unknown_is_deleted() -> None:
    """After three minutes."""
    laboratory = Laboratory()
    laboratory.server.tokens.known_after = 3600
    await laboratory.run()
    assert "not known to Cloudflare in time" in laboratory.failure().text
    assert laboratory.leftovers() == []


async def test_a_token_that_is_known_late_is_a_warning() -> None:
    """The bot waits for longer than documented."""
    laboratory = Laboratory()
    laboratory.server.tokens.known_after = 100
    await laboratory.run()
    assert laboratory.said(Mark.FAILED) == []
    assert "longer than documented" in laboratory.said(Mark.WARNING)[0]


@pytest.mark.parametrize("stores", [False, True])
async def test_a_disabled_token_that_works_for_too_long_is_a_failure(*, stores: bool) -> None:
    """The bot would delete it before anybody could see that it is in use."""
    laboratory = Laboratory(stores=stores)
    laboratory.server.tokens.unknown_after = 100
    await laboratory.run()
    assert "worked for longer than 90 s" in laboratory.failure().text
    assert laboratory.leftovers() == []


async def test_a_token_that_cannot_be_enabled_again_is_a_failure() -> None:
    """The bot could not undo a revocation."""
    laboratory = Laboratory()

    def slow_down(_: httpx.Request) -> None:
        if "disabled" in [token.status for token in laboratory.server.tokens.list_live()]:
            laboratory.server.tokens.known_after = 3600

    laboratory.when_asked = slow_down
    await laboratory.run()
    assert "enabled again does not work" in laboratory.failure().text
    assert laboratory.leftovers() == []


@pytest.mark.parametrize(
    ("catalog", "said"),
    [(None, "was switched off"), ("inactive", "is switched off"), ("gone", "no bucket of this name")],
)
@pytest.mark.parametrize("stores", [False, True])
async def test_a_bucket_without_an_active_catalog(catalog: Any, said: str, *, stores: bool) -> None:  # noqa: ANN401 - one more than there are
    """It says so at once, and does not wait for the token to reach it."""
    laboratory = Laboratory(stores=stores)
    laboratory.server.buckets.clear()
    if catalog != "gone":
        laboratory.server.add_bucket("lake", catalog)
    await laboratory.run()
    assert said in laboratory.failure().text or "no catalog" in laboratory.failure().text
    assert laboratory.failure().fix
    assert laboratory.leftovers() == []
    assert (laboratory.server.tokens.tokens == {}) is stores
    assert laboratory.clock() - NOW < timedelta(seconds=10)


@pytest.mark.parametrize("name_filter", ["whole", "ignored"])
async def test_what_the_filter_of_lists_does(name_filter: Any) -> None:  # noqa: ANN401 - a literal
    """Either is fine, and is said."""
    laboratory = Laboratory()
    laboratory.server.tokens.name_filter = name_filter
    await laboratory.run()
    assert laboratory.said(Mark.FAILED) == []
    [told] = [each for each in laboratory.found if each.known["question"] == "list"]
    assert told.known["filter"] == name_filter


REFUSED = Failure(status=403, code=77, message="made up")
LOST_BEFORE, LOST_AFTER, LATE = Failure(drop_before_store=True), Failure(drop_after_store=True), Failure(lands_after=20)


@pytest.mark.parametrize(
    ("kind", "failure", "is_a_failure"),
    [
        *((kind, REFUSED, True) for kind in ("create_token", "update_token", "delete_token", "groups", "list_tokens")),
        ("create_token", LOST_BEFORE, True),
        ("create_token", LOST_AFTER, True),
        ("create_token", LATE, True),
        *((kind, lost, False) for kind in ("update_token", "delete_token") for lost in (LOST_BEFORE, LOST_AFTER)),
        ("get_token", REFUSED, True),
        ("get_token", LOST_BEFORE, False),
        ("list_tokens", Failure(status=503), False),
        ("groups", Failure(status=429, retry_after=30), False),
        ("read", LOST_BEFORE, False),
        ("verify", Failure(status=503), False),
        ("credential", REFUSED, True),
        ("credential", LOST_AFTER, False),
        ("status", REFUSED, True),
    ],
)
async def test_a_request_that_fails_once(kind: Kind, failure: Failure, *, is_a_failure: bool) -> None:
    """Trouble is waited for, a refusal ends the trial, and a create is never repeated; nothing is left."""
    laboratory = Laboratory(stores=True)
    laboratory.server.fail_next(kind, **failure)
    await laboratory.run()
    failures = [each for each in laboratory.found if each.mark is Mark.FAILED]
    assert bool(failures) is is_a_failure
    assert (
        len([each for each in laboratory.server.requests if each.method == "POST" and each.path.endswith("tokens")])
        <= 1
    )
    if failure is LOST_BEFORE and kind == "create_token":
        assert [each.event for each in failures] == ["mint_check_failed", "mint_check_left_behind"]
        assert "was not found in Cloudflare's lists" in failures[-1].text
    assert laboratory.leftovers() == []


@pytest.mark.parametrize("fault", ["refused", "no answer"])
async def test_a_token_that_cannot_be_deleted_is_named(fault: str) -> None:
    """With its name, where to delete it, and when it expires by itself."""
    laboratory = Laboratory()
    failure = REFUSED if fault == "refused" else LOST_BEFORE
    laboratory.server.fail_next("delete_token", times=1000, **failure)
    await laboratory.run()
    *_, left = laboratory.found
    assert (left.event, left.mark) == ("mint_check_left_behind", Mark.FAILED)
    [name] = laboratory.leftovers()
    assert name in left.text
    assert "2026-11-24 09:30" in left.text
    assert "Account API Tokens" in left.fix


async def test_a_token_that_is_not_there_yet_is_not_taken_for_gone() -> None:
    """It is a moment old, and not every server of Cloudflare's has it when the trial is stopped."""
    laboratory = Laboratory()
    laboratory.server.tokens.there_after, laboratory.server.tokens.known_after = 50, 60
    walk = asyncio.create_task(laboratory.trial.walk())
    laboratory.when_asked = lambda _: walk.cancel() if laboratory.leftovers() else None
    await asyncio.wait([walk])
    laboratory.when_asked = lambda _: None
    await laboratory.trial.clean_up()
    assert laboratory.leftovers() == []
    assert "was deleted" in _texts(laboratory, "cleaned up")


async def test_somebody_deletes_the_token_meanwhile() -> None:
    """It is a failure with a fix, and no traceback."""
    laboratory = Laboratory()

    def delete(request: httpx.Request) -> None:
        if request.method == "PUT":
            for token in laboratory.server.tokens.list_live():
                laboratory.server.tokens.delete_by_hand(token.id)

    laboratory.when_asked = delete
    await laboratory.run()
    assert "that it is gone" in laboratory.failure().text
    assert laboratory.leftovers() == []


async def test_a_trial_that_is_stopped_anywhere_leaves_nothing_behind() -> None:
    """A signal cancels it at each of its requests in turn, before and after that reaches Cloudflare."""
    whole = Laboratory(stores=True)
    await whole.run()
    requests = len(whole.server.requests)
    assert requests > 20
    for number in range(requests):
        laboratory = Laboratory(stores=True)
        walk = asyncio.create_task(laboratory.trial.walk())
        countdown = iter(range(number, -1, -1))

        def stop(_: httpx.Request, walk: asyncio.Task[None] = walk, countdown: Any = countdown) -> None:  # noqa: ANN401 - an iterator
            if next(countdown, None) == 0:
                walk.cancel()

        laboratory.when_asked = stop
        await asyncio.wait([walk])
        assert walk.cancelled()
        await laboratory.trial.clean_up()
        assert laboratory.leftovers() == [], number
        assert "mint_check_left_behind" not in [each.event for each in laboratory.found], number
        holds = any("the slot of lake holds" in text for text in laboratory.said(Mark.WARNING))
        assert holds or laboratory.server.writes == [], number


async def test_no_finding_shows_a_value() -> None:
    """Neither a sentence nor what is known besides."""
    laboratory = Laboratory(stores=True)
    laboratory.server.fail_next("update_token", status=400, code=77, message=f"bad {SANDBOX_MINTING_TOKEN}")
    await laboratory.run()
    shown = repr(laboratory.found)
    [created] = laboratory.server.tokens.tokens.values()
    assert created.value not in shown
    assert SANDBOX_MINTING_TOKEN not in shown
