"""A database that is older than what was done with it, or whose key was lost, still knows the tokens that it made."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import Connection, delete, insert, select

from bot.model.errors import LeaseLost
from bot.model.minted import MintedState
from bot.model.submission import State
from bot.sandbox.cloudflare import ReceivedRequest
from bot.sealing.authenticity import Authenticity
from bot.storage.audit import AuditChain
from bot.storage.high_water_mark import HighWaterMark
from bot.storage.lineage import Lineage
from bot.storage.schema import MINTED_TOKENS
from tests.rotation.rig import GRACE, Process, Rig, Ways, key_of

MINUTES = timedelta(minutes=1)
SECONDS = timedelta(seconds=1)


def lineage_of(rig: Rig) -> Lineage:
    """Return what the operator tells that the database was restored, or its key lost."""
    return Lineage(rig.process.submissions, HighWaterMark(None, is_expected=False), rig.clock)


@dataclass
class CopiesAtTheCreate:
    """A Cloudflare that is asked for a token while a backup is made."""

    rig: Rig
    rows: list[dict[str, Any]] = field(default_factory=list)

    def now(self) -> datetime:
        """Return its time."""
        return self.rig.fake.now()

    async def respond(self, received: ReceivedRequest) -> web.Response:
        """Answer, after the backup."""
        if received.method == "POST" and received.path.endswith("/tokens"):
            rows = await self.rig.database.run(lambda connection: connection.execute(select(MINTED_TOKENS)).all())
            self.rows = [dict(row._mapping) for row in rows]
        return await self.rig.fake.respond(received)

    async def put_back(self) -> None:
        """Put the rows of the tokens back."""

        def put_back(connection: Connection) -> int:
            connection.execute(delete(MINTED_TOKENS))
            return connection.execute(insert(MINTED_TOKENS), self.rows).rowcount

        await self.rig.database.run(put_back)


async def test_a_token_that_was_not_sent_before_the_backup_may_be_in_the_slot(rig: Rig) -> None:
    """Nobody takes it back before a newer one is proven; then it is, as any other."""
    rig.fake.tokens.known_after = 60.0
    pressed = await rig.press("lake")
    await rig.run_for(10 * SECONDS)
    [before] = await rig.tokens("lake")
    assert before.state is MintedState.CREATED
    await lineage_of(rig).settle(is_told=True)
    await rig.run_for(30 * MINUTES)
    assert (await rig.find(pressed)).state is State.EXPIRED
    [after] = await rig.tokens("lake")
    assert (after.state, after.was_sent, after.name) == (MintedState.KEPT, True, before.name)
    await rig.press("lake")
    await rig.run_for(GRACE + 30 * MINUTES)
    [left] = await rig.tokens("lake")
    assert left.state is MintedState.PROVEN
    assert [token.name for token in rig.fake.tokens.list_live()] == [left.name]


async def test_no_minter_keeps_its_lease_through_a_restore(rig: Rig) -> None:
    """It may run on, and its epoch may be one that the older database has not reached yet."""
    work = await rig.process.tokens.take(key_of("lake"))
    assert work is not None
    await lineage_of(rig).settle(is_told=True)
    assert not await rig.process.tokens.holds(work.lease)
    with pytest.raises(LeaseLost):
        await rig.process.tokens.work(work.lease)


async def test_the_tokens_are_still_ours_after_the_audit_key_was_lost(rig: Rig) -> None:
    """The mark stays, and what is left is signed with the new key: else nobody would ever take it back."""
    await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    [before], mark = await rig.tokens("lake"), await rig.process.installations.mark()
    other = AuditChain(Authenticity(["another-made-up-key-that-is-long-enough-here"]))
    later = Rig(rig.database, rig.clock, rig.fake, other)
    await lineage_of(later).begin_chain()
    assert await later.process.installations.mark() == mark
    assert [token.name for token in await later.tokens("lake")] == [before.name]
    await later.process.aclose()


async def test_a_token_whose_create_was_out_at_the_backup_may_be_in_the_slot(rig: Rig) -> None:
    """Its row says that nobody has its value; since then, the slot may have got it: it is not taken back for that."""
    server = CopiesAtTheCreate(rig)
    await rig.process.aclose()
    rig.process = Process(rig, Ways(database=rig.database, server=server, poster=rig.posts))
    await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    [in_use] = await rig.tokens("lake")
    assert in_use.state is MintedState.PROVEN
    await server.put_back()
    await lineage_of(rig).settle(is_told=True)
    await rig.run_for(timedelta(hours=2))
    assert [token.id for token in rig.fake.tokens.list_live()] == [in_use.token_id]
    [after] = await rig.tokens("lake")
    assert (after.state, after.was_sent, after.token_id) == (MintedState.KEPT, True, in_use.token_id)
