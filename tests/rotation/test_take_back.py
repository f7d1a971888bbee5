"""How a token is taken back: what each answer of Cloudflare leads to, and what people are told."""

from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bot.model.minted import TEST_LIFETIME, MintedState, MintedToken
from bot.model.submission import State
from bot.rotation.take_back import AFTER_REFUSAL, AFTER_TROUBLE
from bot.sandbox.account_tokens import AccountToken
from bot.sandbox.failures import Failure
from tests.rotation.rig import GRACE, Rig, key_of

LAKE = key_of("lake")
MINUTES = timedelta(minutes=1)
SECONDS = timedelta(seconds=1)


async def rotate(rig: Rig) -> AccountToken:
    """Rotate, and return the token that the slot holds then."""
    pressed = await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    assert (await rig.find(pressed)).state is State.STORED
    value = rig.fake.stored_token("lake")
    assert value is not None
    token = rig.fake.tokens.find(value)
    assert token is not None
    return token


async def test_a_token_that_cloudflare_has_refused_for_the_slot_is_taken_back(rig: Rig) -> None:
    """Else each press under a wrong scope would leave one more live token behind."""
    for _ in range(2):
        rig.fake.tokens.flaws.append("refused")
        pressed = await rig.press("lake")
        await rig.run_for(20 * MINUTES)
        assert (await rig.find(pressed)).state is State.FAILED
    assert rig.fake.tokens.list_live() == []
    assert await rig.tokens("lake") == []


async def test_one_that_may_have_been_stored_is_kept_until_a_newer_one_is_proven(rig: Rig) -> None:
    """Its answer was lost, and then it was refused: the slot may hold it."""
    rig.fake.fail_next("credential", drop_after_store=True)
    rig.fake.fail_next("credential", times=99, status=400, code=30004)
    pressed = await rig.press("lake")
    await rig.run_for(30 * MINUTES)
    assert (await rig.find(pressed)).state is State.UNCERTAIN
    [left] = await rig.tokens("lake")
    assert (left.state, left.was_sent) == (MintedState.SENT, True)
    rig.fake.forget_failures()
    await rotate(rig)
    await rig.run_for(GRACE + 10 * MINUTES)
    assert len(rig.fake.tokens.list_live()) == 1


async def test_an_expired_token_is_deleted(rig: Rig) -> None:
    """It says "expired" for ever, and not "disabled"."""
    first = await rotate(rig)
    rig.clock.advance(timedelta(days=40))
    await rotate(rig)
    rig.clock.advance(timedelta(days=6))
    assert first.is_expired(rig.clock())
    await rig.run_for(10 * MINUTES)
    assert first.is_deleted
    assert first.name not in {token.name for token in await rig.tokens("lake")}


@pytest.mark.parametrize("moment", ["before it is enabled", "after it was enabled"])
async def test_a_slot_whose_token_somebody_deleted_meanwhile_gets_a_new_one(rig: Rig, moment: str) -> None:
    """The slot needs the token that was about to be taken back, and nobody can enable it again."""
    first = await rotate(rig)
    second = await rotate(rig)
    rig.fake.buckets["lake"].token = first.value  # an old write landed late
    await rig.run_for(GRACE - 4 * MINUTES)
    states = (MintedState.UNDONE,) if moment.startswith("after") else (MintedState.DISABLED,)
    for _ in range(600):
        if [token.state for token in await rig.tokens("lake") if token.name == first.name] in (
            [state] for state in states
        ):
            break
        await rig.run_for(SECONDS)
    rig.fake.tokens.delete_by_hand(first.id)
    await rig.run_for(20 * MINUTES)
    held = rig.fake.stored_token("lake")
    assert held not in {None, first.value, second.value}
    await rig.run_for(GRACE + 20 * MINUTES)
    assert [token.value for token in rig.fake.tokens.list_live()] == [held]


async def test_without_a_test_any_more_nothing_is_made_anew(rig: Rig) -> None:
    """That the slot works cannot be seen then: the token is kept, and the slot is left alone."""
    first = await rotate(rig)
    second = await rotate(rig)
    rig.fake.offers_status = False
    with capture_logs() as log:
        await rig.run_for(GRACE + 30 * MINUTES)
    assert rig.fake.stored_token("lake") == second.value
    assert {token.name: token.state for token in await rig.tokens("lake")} == {
        first.name: MintedState.KEPT,
        second.name: MintedState.PROVEN,
    }
    assert len(rig.fake.writes) == 2
    assert not first.is_deleted
    assert first.status == "active"
    assert "rotation_asked_again" not in {entry["event"] for entry in log}


async def retire(rig: Rig) -> AccountToken:
    """Rotate twice, let the grace pass, and return the first token: it is to be taken back."""
    first = await rotate(rig)
    await rotate(rig)
    rig.clock.advance(GRACE)
    return first


async def state_of(rig: Rig, token: AccountToken) -> MintedState:
    """Return how far a token has come."""
    [row] = await rig.process.tokens.named([token.name])
    return row.state


async def change(rig: Rig, token: AccountToken, **fields: object) -> MintedToken:
    """Change a token's row as the bot would."""
    [row] = await rig.process.tokens.named([token.name])
    changed = await rig.process.tokens.change(row, replace(row, **fields))  # type: ignore[arg-type]  # its fields
    assert changed is not None
    return changed


async def test_a_token_that_somebody_deleted_first_is_done(rig: Rig) -> None:
    """It is what was wanted."""
    first = await retire(rig)
    rig.fake.tokens.delete_by_hand(first.id)
    await rig.process.mint(LAKE)
    assert await state_of(rig, first) is MintedState.DEAD


async def test_a_token_that_is_gone_once_it_is_tested_is_done(rig: Rig) -> None:
    """No DELETE is needed."""
    first = await retire(rig)
    await rig.process.mint(LAKE)
    await change(rig, first, state=MintedState.TESTED, tested_at=rig.clock(), due_at=rig.clock())
    rig.fake.tokens.delete_by_hand(first.id)
    await rig.process.mint(LAKE)
    assert await state_of(rig, first) is MintedState.DEAD
    assert "DELETE" not in {request.method for request in rig.fake.requests}


async def test_a_token_that_is_active_after_all_begins_anew(rig: Rig) -> None:
    """What the database says is old, or somebody has enabled it by hand."""
    first = await retire(rig)
    await change(rig, first, state=MintedState.TESTED, tested_at=rig.clock(), due_at=rig.clock())
    await rig.process.mint(LAKE)
    assert await state_of(rig, first) is MintedState.DISABLED
    assert first.status == "disabled"
    assert not first.is_deleted


async def test_an_old_test_is_repeated(rig: Rig) -> None:
    """The slot may have been written since."""
    first = await retire(rig)
    await rig.process.mint(LAKE)
    now = rig.clock()
    await change(rig, first, state=MintedState.TESTED, tested_at=now - 2 * TEST_LIFETIME, due_at=now)
    await rig.process.mint(LAKE)
    assert await state_of(rig, first) is MintedState.DISABLED


async def test_a_deletion_that_another_process_began_starts_over(rig: Rig) -> None:
    """Nobody knows how long ago that was."""
    first = await retire(rig)
    await rig.process.mint(LAKE)
    await change(rig, first, state=MintedState.DELETING, due_at=rig.clock(), epoch=1)
    await rig.process.mint(LAKE)
    assert await state_of(rig, first) is MintedState.DISABLED
    assert not first.is_deleted
    await rig.run_for(10 * MINUTES)
    assert await state_of(rig, first) is MintedState.DEAD


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        pytest.param({"status": 429, "retry_after": 5}, MintedState.TESTED, id="throttled"),
        pytest.param({"drop_after_store": True}, MintedState.DELETING, id="no answer"),
    ],
)
async def test_a_deletion_that_was_surely_not_done_needs_no_new_test(
    rig: Rig, failure: Failure, state: MintedState
) -> None:
    """One that may have been done starts over."""
    first = await retire(rig)
    await rig.process.mint(LAKE)
    await change(rig, first, state=MintedState.TESTED, tested_at=rig.clock(), due_at=rig.clock())
    rig.fake.fail_next("delete_token", **failure)
    await rig.process.mint(LAKE)
    assert await state_of(rig, first) is state
    await rig.run_for(10 * MINUTES)
    assert await state_of(rig, first) is MintedState.DEAD


async def test_a_late_disable_is_undone_too(rig: Rig) -> None:
    """It arrived after the token was enabled again."""
    first = await retire(rig)
    await rig.process.mint(LAKE)
    now = rig.clock()
    await change(rig, first, state=MintedState.UNDONE, undone=1, tested_at=now, due_at=now)
    assert first.status == "disabled"
    await rig.process.mint(LAKE)
    assert await state_of(rig, first) is MintedState.UNDONE
    assert first.status == "active"


@pytest.mark.parametrize(
    ("failure", "pause", "code"),
    [
        ({"status": 503}, AFTER_TROUBLE, "cloudflare_unavailable"),
        ({"status": 429, "retry_after": 77}, 77 * SECONDS, "throttled"),
        ({"status": 400, "code": 4711}, AFTER_REFUSAL, "revocation_refused"),
    ],
    ids=["down", "throttled", "refused"],
)
async def test_a_step_that_fails_is_taken_later(rig: Rig, failure: dict[str, int], pause: timedelta, code: str) -> None:
    """The row says why, until it is done."""
    first = await retire(rig)
    rig.fake.fail_next("update_token", **failure)  # type: ignore[arg-type]  # listed above
    await rig.process.mint(LAKE)
    [row] = await rig.process.tokens.named([first.name])
    assert (row.state, row.due_at, row.trouble) == (MintedState.DISABLING, rig.clock() + pause, code)
    await rig.run_for(30 * MINUTES)
    assert await state_of(rig, first) is MintedState.DEAD


async def test_a_token_with_another_name_is_left_alone(rig: Rig) -> None:
    """Somebody has renamed it, or the row speaks of another one: nothing is changed."""
    first = await retire(rig)
    [row] = await rig.process.tokens.named([first.name])
    first.name = "somebody's own"
    with capture_logs() as log:
        await rig.run_for(5 * MINUTES)
    [after] = await rig.process.tokens.named([row.name])
    assert (after.state, after.trouble) == (MintedState.DISABLING, "token_not_ours")
    assert first.status == "active"
    assert "token_not_taken_back" in [entry["event"] for entry in log]


async def test_a_damaged_row_holds_up_no_other(rig: Rig) -> None:
    """It has no id: nothing can be asked about it."""
    first = await retire(rig)
    await change(rig, first, token_id=None)
    third = await rotate(rig)
    rig.clock.advance(GRACE)
    await rig.run_for(10 * MINUTES)
    [row] = await rig.process.tokens.named([first.name])
    assert (row.state, row.trouble) == (MintedState.DISABLING, "record_damaged")
    live = {token.name for token in rig.fake.tokens.list_live()}
    assert live == {first.name, third.name}


async def test_where_the_pace_is_used_up_it_is_done_later(rig: Rig) -> None:
    """People's requests go first."""
    first = await retire(rig)
    pace = rig.process.minting._exchange.pace
    assert pace is not None
    await pace.block(40 * SECONDS)
    await rig.process.mint(LAKE)
    [row] = await rig.process.tokens.named([first.name])
    assert row.state is MintedState.RETIRED
    assert row.due_at > rig.clock()
    await rig.run_for(10 * MINUTES)
    assert await state_of(rig, first) is MintedState.DEAD
