"""Housekeeping compares what Cloudflare lists with what is recorded, and deletes nothing."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bot.metrics import CHANGED_BY_HAND
from bot.model.minted import MintedState
from bot.model.submission import State
from bot.model.token_name import Scope, TokenName
from bot.sandbox.account_tokens import AccountToken
from bot.sandbox.policies import BUCKET_ITEM_WRITE, CATALOG_WRITE
from tests.rotation.rig import Rig
from tests.rotation.test_take_back import rotate

MINUTES = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def add_forgotten(rig: Rig, **fields: object) -> AccountToken:
    """Add a token of ours that no row speaks of."""
    name = str(TokenName.new(rig.chain.authenticity.installation_mark(), "lake"))
    account, bucket = f"com.cloudflare.api.account.{rig.fake.account_id}", "com.cloudflare.edge.r2.bucket"
    return rig.fake.tokens.add(
        name,
        [
            {"effect": "allow", "permission_groups": [{"id": CATALOG_WRITE.id}], "resources": {account: "*"}},
            {
                "effect": "allow",
                "permission_groups": [{"id": BUCKET_ITEM_WRITE.id}],
                "resources": {f"{bucket}.{rig.fake.account_id}_default_lake": "*"},
            },
        ],
        **fields,  # type: ignore[arg-type]  # expires_on
    )


async def test_a_token_that_a_list_lacks_is_looked_up_before_it_counts_as_revoked(rig: Rig) -> None:
    """Pages shift while others create and delete: what is not listed may still be there, and in the slot."""
    token = await rotate(rig)
    await rig.run_for(HOUR)
    token.listed_from = rig.clock() + 100 * HOUR
    with capture_logs() as log:
        await rig.run_for(3 * HOUR)
    assert "token_revoked_by_hand" not in {entry["event"] for entry in log}
    assert [each.state for each in await rig.tokens("lake")] == [MintedState.PROVEN]


async def test_a_token_that_was_revoked_by_hand_is_told_once(rig: Rig) -> None:
    """The catalog's maintenance stops: somebody has to know."""
    token = await rotate(rig)
    rig.fake.tokens.delete_by_hand(token.id)
    with capture_logs() as log:
        await rig.run_for(3 * HOUR)
    assert [entry["event"] for entry in log].count("token_revoked_by_hand") == 1
    assert await rig.tokens("lake") == []


async def test_a_token_in_use_that_comes_back_is_not_taken_from_the_slot(rig: Rig) -> None:
    """Cloudflare said for a while that it is gone: it was sent, so the slot may hold it."""
    token = await rotate(rig)
    token.is_deleted = True
    await rig.run_for(2 * HOUR)
    token.is_deleted = False
    with capture_logs() as log:
        await rig.run_for(3 * HOUR)
    assert [each.state for each in await rig.tokens("lake")] == [MintedState.KEPT]
    assert "token_disabled" not in {entry["event"] for entry in log}
    newer = await rotate(rig)
    await rig.run_for(2 * HOUR)
    assert rig.fake.tokens.list_live() == [newer]


async def test_a_forgotten_token_without_an_expiry_is_taken_back_too(rig: Rig) -> None:
    """Somebody has edited it in the dashboard; the bucket's other tokens do not wait for it either."""
    forgotten = add_forgotten(rig)
    await rig.run_for(2 * HOUR)
    [kept] = await rig.tokens("lake")
    assert (kept.state, kept.token_id) == (MintedState.KEPT, forgotten.id)
    newer = await rotate(rig)
    await rig.run_for(2 * HOUR)
    assert rig.fake.tokens.list_live() == [newer]


async def test_a_forgotten_token_has_the_scope_of_the_settings(rig: Rig) -> None:
    """Disabling it replaces all of it: with other rights, it would not serve once it is enabled again."""
    add_forgotten(rig, expires_on=rig.clock() + 100 * HOUR)
    rig.process.house._scope = Scope.ACCOUNT
    await rig.run_for(MINUTES)
    [kept] = await rig.tokens("lake")
    assert kept.scope == Scope.ACCOUNT


async def test_after_trouble_it_looks_again_in_a_minute(rig: Rig) -> None:
    """One answer that failed must not make everyone think for an hour that nobody can mint."""
    rig.fake.fail_next("list_tokens", status=503)
    await rig.run_for(timedelta(seconds=10))
    standing = await rig.process.installations.standing()
    assert standing is not None
    assert standing.trouble is not None
    await rig.run_for(2 * MINUTES)
    standing = await rig.process.installations.standing()
    assert standing is not None
    assert standing.trouble is None
    assert standing.tokens == 0


async def test_a_minting_token_that_is_refused_is_known_to_all_within_minutes(rig: Rig) -> None:
    """The rotation has failed at once; an alert, *Only look* and the schedule must not go on for an hour."""
    await rig.run_for(10 * MINUTES)
    rig.fake.minting_state = "expired"
    pressed = await rig.press("lake")
    await rig.run_for(2 * MINUTES)
    assert (await rig.find(pressed)).state is State.FAILED
    standing = await rig.process.installations.standing()
    assert standing is not None
    assert standing.trouble is not None
    rig.fake.minting_state = "good"
    await rig.run_for(2 * MINUTES)
    standing = await rig.process.installations.standing()
    assert standing is not None
    assert standing.trouble is None


@pytest.mark.parametrize("how", CHANGED_BY_HAND.labels[0].values)
async def test_what_somebody_does_by_hand_is_counted(rig: Rig, how: str) -> None:
    """Once: an alert is about the one who did it."""
    token = await rotate(rig)
    await rig.run_for(HOUR)
    if how == "deleted":
        rig.fake.tokens.delete_by_hand(token.id)
    else:
        rig.fake.tokens.tokens[token.id].status = "disabled"
    await rig.run_for(4 * HOUR)
    counted = {
        each: rig.process.metrics.registry.get_sample_value(CHANGED_BY_HAND.name, {"how": each})
        for each in CHANGED_BY_HAND.labels[0].values
    }
    assert counted == {each: float(each == how) for each in counted}
