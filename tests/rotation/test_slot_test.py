"""Tests of the slot while a token is disabled: what each answer means for that token."""

from datetime import timedelta

from bot.model.submission import State
from bot.sandbox.tokens import Behaviour, make_token
from tests.rotation.rig import Rig, key_of

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
