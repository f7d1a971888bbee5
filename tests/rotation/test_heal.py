"""A slot that needs a token which was to be taken back gets a new one, in the name of who stored the last one."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bot.model.minted import MintedState, MintedToken
from bot.model.origin import Origin, origin_of
from bot.model.submission import State
from bot.sandbox.account_tokens import AccountToken
from tests.rotation.rig import GRACE, Rig
from tests.rotation.test_take_back import rotate

MINUTES = timedelta(minutes=1)


async def overwrite(rig: Rig) -> tuple[AccountToken, AccountToken]:
    """Rotate twice, and let the write of the first token land after that of the second."""
    first = await rotate(rig)
    second = await rotate(rig)
    rig.fake.buckets["lake"].token = first.value
    return first, second


async def row_of(rig: Rig, token: AccountToken) -> MintedToken:
    """Return the token's row."""
    [row] = await rig.process.tokens.named([token.name])
    return row


async def test_it_is_enabled_again_and_replaced(rig: Rig) -> None:
    """The slot was down for the minutes of the test, and works with a token of its own then."""
    first, second = await overwrite(rig)
    await rig.run_for(GRACE + 20 * MINUTES)
    held = rig.fake.stored_token("lake")
    assert held not in {first.value, second.value}
    healed = rig.posts.posted[-1]
    assert (origin_of(healed.id), healed.state, healed.user_id) == (Origin.HEALING, State.STORED, "U1")
    await rig.run_for(GRACE + 20 * MINUTES)
    assert [token.value for token in rig.fake.tokens.list_live()] == [held]
    assert len(rig.posts.posted) == 3


async def test_a_slot_that_nobody_is_known_to_have_filled_is_left_to_people(rig: Rig) -> None:
    """Without the record of who stored the last one there is nobody to tell: the token is kept, and an alarm raised."""
    first, _ = await overwrite(rig)
    await rig.database.run(lambda connection: connection.exec_driver_sql("DELETE FROM credentials").rowcount)
    with capture_logs() as log:
        await rig.run_for(GRACE + 20 * MINUTES)
    assert (await row_of(rig, first)).state is MintedState.KEPT
    assert first.status == "active"
    assert [entry["event"] for entry in log].count("token_kept") == 1
    assert len(rig.posts.posted) == 2


@pytest.mark.parametrize("change", ["channel_id = 'C9'", "stored_by = 'U9'", "submission_id = 'V1'"])
async def test_a_record_of_somebody_else_leads_to_no_rotation(rig: Rig, change: str) -> None:
    """Else a writer of the database would choose where its result is posted, and in whose name it is."""
    await overwrite(rig)
    statement = f"UPDATE credentials SET {change}"  # noqa: S608 - our own words
    await rig.database.run(lambda connection: connection.exec_driver_sql(statement).rowcount)
    with capture_logs() as log:
        await rig.run_for(GRACE + 20 * MINUTES)
    assert len(rig.posts.posted) == 2
    events = [entry["event"] for entry in log]
    assert (events.count("token_kept"), events.count("record_not_authentic")) == (1, 1)


async def test_a_slot_that_never_works_is_not_healed_for_ever(rig: Rig) -> None:
    """After three times the token is kept, and people are told: each new one would end like that."""
    await rotate(rig)
    await rotate(rig)
    with capture_logs() as log:
        for _ in range(40):
            rig.fake.buckets["lake"].token = next(iter(rig.fake.tokens.tokens.values())).value
            await rig.run_for(30 * MINUTES)
    assert [entry["event"] for entry in log].count("token_kept") >= 1
    [first] = [each for each in await rig.tokens("lake") if each.undone]
    assert first.undone <= 5
