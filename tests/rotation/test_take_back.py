"""How a token is taken back: what each answer of Cloudflare leads to, and what people are told."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bot.model.minted import MintedState
from bot.model.submission import State
from bot.sandbox.account_tokens import AccountToken
from tests.rotation.rig import GRACE, Rig

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
