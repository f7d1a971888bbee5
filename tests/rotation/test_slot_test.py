"""Tests of the slot while a token is disabled: what each answer means for that token."""

from datetime import timedelta

import pytest

from bot.model.minted import PROBE_AFTER, MintedState
from bot.model.submission import State
from bot.sandbox.account_tokens import AccountToken
from bot.sandbox.tokens import Behaviour, make_token
from bot.storage.minted_tokens import waits_for_a_test
from tests.rotation.rig import GRACE, Rig, key_of
from tests.rotation.test_take_back import rotate, state_of

LAKE = key_of("lake")
SECONDS = timedelta(seconds=1)
MINUTES = timedelta(minutes=1)


async def test_a_token_that_was_never_sent_is_not_needed_by_a_broken_slot(rig: Rig) -> None:
    """Whatever somebody else has stored there, it is no reason to make a new token, or to keep this one."""
    rig.fake.buckets["lake"].token = make_token(Behaviour.STORED_INVALID)
    rig.fake.tokens.flaws.append("useless")
    pressed = await rig.press("lake")
    await rig.run_for(20 * MINUTES)
    assert (await rig.find(pressed)).state is State.FAILED
    assert await rig.tokens("lake") == []
    assert rig.fake.tokens.list_live() == []
    assert await rig.process.submissions.unreported_keys() == []
    assert [posted.id for posted in rig.posts.posted] == [pressed]
    assert await rig.process.tokens.busy_until(key_of("lake")) is None


async def disabled(rig: Rig) -> AccountToken:
    """Rotate twice, and return the first token, which is disabled: the slot is to be tested."""
    first = await rotate(rig)
    await rotate(rig)
    rig.clock.advance(GRACE)
    await rig.process.mint(LAKE)
    assert await state_of(rig, first) is MintedState.DISABLED
    return first


async def test_nothing_is_tested_before_cloudflare_knows(rig: Rig) -> None:
    """A slot that holds the token would still seem to work."""
    first = await disabled(rig)
    assert await rig.process.deliver(LAKE) == rig.clock() + PROBE_AFTER
    assert await state_of(rig, first) is MintedState.DISABLED


@pytest.mark.parametrize("status", ["valid", "absent", "no bucket"])
async def test_a_slot_that_does_not_need_it_lets_it_go(rig: Rig, status: str) -> None:
    """An empty slot holds nothing of ours, and a bucket that is gone has no slot."""
    first = await disabled(rig)
    if status == "absent":
        rig.fake.buckets["lake"].token = None
    elif status == "no bucket":
        del rig.fake.buckets["lake"]
    rig.clock.advance(PROBE_AFTER)
    await rig.process.deliver(LAKE)
    assert await state_of(rig, first) is MintedState.TESTED
    await rig.process.mint(LAKE)
    assert first.is_deleted


async def test_a_catalog_that_is_switched_off_is_tested_once_it_is_on(rig: Rig) -> None:
    """Until then the token stays disabled, which harms nobody; the pauses grow."""
    first = await disabled(rig)
    rig.fake.buckets["lake"].catalog = None
    rig.clock.advance(PROBE_AFTER)
    assert await rig.process.deliver(LAKE) == rig.clock() + 10 * SECONDS
    rig.clock.advance(timedelta(hours=9))
    assert await rig.process.deliver(LAKE) == rig.clock() + 10 * MINUTES
    assert await state_of(rig, first) is MintedState.DISABLED
    rig.fake.buckets["lake"].catalog = "active"
    await rig.run_for(30 * MINUTES)
    assert first.is_deleted


async def test_cloudflares_own_pause_is_kept(rig: Rig) -> None:
    """It says when to come back."""
    await disabled(rig)
    rig.clock.advance(PROBE_AFTER)
    rig.fake.fail_next("status", status=503, retry_after=123)
    assert await rig.process.deliver(LAKE) == rig.clock() + 123 * SECONDS


async def test_where_the_pace_is_used_up_it_is_tested_later(rig: Rig) -> None:
    """Nothing is asked meanwhile."""
    first = await disabled(rig)
    rig.clock.advance(PROBE_AFTER)
    pace = rig.process.cloudflare._exchange.pace
    assert pace is not None
    await pace.block(40 * SECONDS)
    later = await rig.process.deliver(LAKE)
    assert later is not None
    assert later > rig.clock()
    assert await state_of(rig, first) is MintedState.DISABLED


async def test_the_clock_is_not_set_while_a_slot_must_not_be_tested_yet(rig: Rig) -> None:
    """The wait would be over before Cloudflare knows that the token is disabled. Later, it holds up nothing."""
    await disabled(rig)
    assert await waits_for_a_test(rig.database, rig.clock())
    assert not await waits_for_a_test(rig.database, rig.clock() - SECONDS)
    assert not await waits_for_a_test(rig.database, rig.clock() + PROBE_AFTER)
    await rig.run_for(10 * MINUTES)
    assert not await waits_for_a_test(rig.database, rig.clock())
