"""The account's tokens are counted now and then, and those made since are added."""

from datetime import timedelta

import pytest

from bot.cloudflare.errors import CloudflareUnavailable
from bot.cloudflare.minting_errors import TokenQuotaReached
from bot.model.minted import HEADROOM
from bot.rotation.quota import Quota
from tests.rotation.rig import Rig

MOST = 20
MINUTE = timedelta(minutes=1)


def quota_of(rig: Rig) -> Quota:
    """Return the quota of an account that may have twenty tokens."""
    process = rig.process
    return Quota(
        most=MOST,
        cloudflare=process.minting,
        installations=process.installations,
        tokens=process.tokens,
        clock=rig.clock,
    )


async def test_others_keep_their_headroom(rig: Rig) -> None:
    """The last ten are not the bot's."""
    rig.fake.tokens.others = MOST - HEADROOM - 1
    await quota_of(rig).require_room()
    rig.clock.advance(2 * timedelta(hours=1))
    rig.fake.tokens.others += 1
    with pytest.raises(TokenQuotaReached):
        await quota_of(rig).require_room()


async def test_what_was_made_since_the_count_is_added(rig: Rig) -> None:
    """Cloudflare is not asked before each one."""
    rig.fake.tokens.others = MOST - HEADROOM - 2
    quota = quota_of(rig)
    await rig.process.installations.note_seen()
    await quota.require_room()
    asked = len(rig.fake.requests)
    await rig.press("lake")
    await rig.run_for(5 * MINUTE)
    lists = [each for each in rig.fake.requests[asked:] if each.query.get("per_page") == "5"]
    await quota.require_room()
    assert len(rig.fake.tokens.list_live()) == 1
    assert len(lists) <= 1
    rig.fake.tokens.others += 1
    await quota.count()
    with pytest.raises(TokenQuotaReached):
        await quota.require_room()


async def test_where_there_was_no_room_it_is_counted_again(rig: Rig) -> None:
    """Somebody may have deleted some: but not at every try."""
    rig.fake.tokens.others, quota = MOST, quota_of(rig)
    await rig.process.installations.note_seen()
    with pytest.raises(TokenQuotaReached):
        await quota.require_room()
    asked = len(rig.fake.requests)
    rig.fake.tokens.others = 0
    with pytest.raises(TokenQuotaReached):
        await quota.require_room()
    assert len(rig.fake.requests) == asked
    rig.clock.advance(MINUTE)
    await quota.require_room()


async def test_a_count_from_the_future_is_none(rig: Rig) -> None:
    """The clock was set back since."""
    quota = quota_of(rig)
    await rig.process.installations.note_seen()
    rig.clock.advance(timedelta(hours=5))
    await quota.require_room()
    rig.clock.advance(-timedelta(hours=5))
    rig.fake.tokens.others = MOST
    with pytest.raises(TokenQuotaReached):
        await quota.require_room()


async def test_what_cannot_be_counted_is_not_exceeded(rig: Rig) -> None:
    """Without a count there is no room."""
    rig.fake.fail_next("list_tokens", status=503)
    with pytest.raises(CloudflareUnavailable):
        await quota_of(rig).require_room()
