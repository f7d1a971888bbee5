"""What the hourly look at Cloudflare's list may conclude from it, and what it may not."""

import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from bot.model.minted import MintedState
from bot.model.token_name import TRIAL, TokenName
from bot.sandbox.cloudflare import ReceivedRequest
from bot.storage.database import Database
from tests.clock import Clock
from tests.rotation.rig import Rig

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest_asyncio.fixture
async def rig(tables: Database) -> AsyncIterator[Rig]:
    """Return an account with a catalog `lake`, whose list has a full page of another installation's tokens first."""
    rig = Rig(tables, Clock(START))
    rig.fake.add_bucket("lake")
    for _ in range(50):
        rig.fake.tokens.add(str(TokenName.new("4f3a9c1f", "pond")), [])
    yield rig
    await rig.process.aclose()


def _shift_pages(rig: Rig) -> None:
    """Let somebody delete a token of the first page each time before the second one is read."""

    def delete(request: ReceivedRequest) -> None:
        if request.query.get("page") == "2":
            first = rig.fake.tokens.list_live()[0]
            assert "4f3a9c1f" in first.name
            rig.fake.tokens.delete_by_hand(first.id)

    rig.fake.on_request = delete


def _lines(log: io.StringIO) -> list[Any]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def _events(log: io.StringIO) -> list[str]:
    return [line["event"] for line in _lines(log)]


async def test_a_token_in_use_that_a_list_missed_is_still_in_use(rig: Rig) -> None:
    """Taken for deleted, it would be found again an hour later as nobody's, and be revoked while the slot holds it."""
    await rig.press("lake")
    await rig.run_for(timedelta(minutes=5))
    _shift_pages(rig)
    await rig.run_for(timedelta(hours=3))
    [token] = await rig.tokens("lake")
    assert token.state is MintedState.PROVEN
    assert rig.fake.stored_token("lake") == rig.fake.tokens.tokens[token.token_id or ""].value
    assert rig.fake.tokens.tokens[token.token_id or ""].status == "active"


async def test_a_lost_token_that_a_list_missed_is_found_by_its_name(rig: Rig) -> None:
    """Taken for never made, it would stay until the next list."""
    rig.fake.fail_next("create_token", drop_after_store=True)
    await rig.press("lake")
    await rig.run_for(timedelta(minutes=10))
    [lost] = [token for token in await rig.tokens("lake") if token.state is MintedState.LOST]
    _shift_pages(rig)
    rig.clock.advance(timedelta(minutes=50))
    await rig.process.house.look()
    [found] = await rig.process.tokens.named([lost.name])
    assert found.state is not MintedState.GONE


async def test_a_token_that_is_gone_is_told_of(rig: Rig, log: io.StringIO) -> None:
    """By itself it is asked for too, and is not there."""
    await rig.press("lake")
    await rig.run_for(timedelta(minutes=5))
    [token] = await rig.tokens("lake")
    rig.fake.tokens.delete_by_hand(token.token_id or "")
    await rig.run_for(timedelta(hours=2))
    assert "token_revoked_by_hand" in _events(log)


async def test_a_token_that_somebody_renamed_is_left_alone(rig: Rig, log: io.StringIO) -> None:
    """It is not ours any more, and it works."""
    await rig.press("lake")
    await rig.run_for(timedelta(minutes=5))
    [token] = await rig.tokens("lake")
    rig.fake.tokens.tokens[token.token_id or ""].name = "somebody's"
    await rig.run_for(timedelta(hours=2))
    assert "token_revoked_by_hand" not in _events(log)
    assert [each.state for each in await rig.tokens("lake")] == [MintedState.PROVEN]


@pytest.mark.parametrize(("mark", "is_told"), [(TRIAL, False), ("4f3a9c1d", True)])
async def test_a_trial_is_no_second_installation(rig: Rig, log: io.StringIO, mark: str, *, is_told: bool) -> None:
    """Its token is there for some minutes."""
    rig.fake.tokens.add(str(replace(TokenName.new(TRIAL, "lake"), installation=mark)), [])
    await rig.process.house.look()
    told = [line["installation"] for line in _lines(log) if line["event"] == "second_installation"]
    assert (mark in told) is is_told
