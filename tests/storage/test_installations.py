"""What marks the tokens of an installation, and what its minter found last: one signed row for each account."""

from datetime import timedelta

import pytest

from bot.model.errors import RecordForged
from bot.model.minted import PRESENT_FOR, Standing, is_minter_present
from bot.sealing.authenticity import Authenticity
from bot.storage.database import Database
from bot.storage.installations import Installations
from tests.clock import Clock
from tests.make import ACCOUNT, AUDIT_KEY, AUTHENTICITY, NOW
from tests.storage.conftest import Query

OTHER_KEY = "another-made-up-key-that-is-long-enough-here"


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands at NOW."""
    return Clock(NOW)


def installations_of(database: Database, clock: Clock, authenticity: Authenticity = AUTHENTICITY) -> Installations:
    """Return the row as one process has it."""
    return Installations(database, authenticity, ACCOUNT, clock)


async def test_the_mark_outlives_a_key_that_is_replaced(tables: Database, clock: Clock) -> None:
    """Else the tokens of before would be nobody's."""
    mark = await installations_of(tables, clock).mark()
    assert mark == AUTHENTICITY.installation_mark()
    later = Authenticity([OTHER_KEY, AUDIT_KEY])
    assert later.installation_mark() != mark
    assert await installations_of(tables, clock, later).mark() == mark


async def test_a_mark_that_somebody_else_wrote_is_not_used(tables: Database, clock: Clock, query: Query) -> None:
    """By another mark, the bot would take other tokens for its own."""
    await installations_of(tables, clock).mark()
    query("UPDATE installations SET mark = '0123abcd'")
    for act in (installations_of(tables, clock).mark(), installations_of(tables, clock).note_seen()):
        with pytest.raises(RecordForged):
            await act


async def test_nothing_is_known_before_a_minter_was_there(tables: Database, clock: Clock) -> None:
    """Neither without a row, nor with the mark alone."""
    installations = installations_of(tables, clock)
    assert await installations.standing() is None
    await installations.mark()
    assert await installations.standing() is None
    assert not is_minter_present(await installations.standing(), clock())


async def test_every_process_reads_what_the_minter_found(tables: Database, clock: Clock) -> None:
    """What it does not say this time stays as it was, but for the trouble."""
    minter, gateway = installations_of(tables, clock), installations_of(tables, clock)
    await minter.note_count(17, NOW - timedelta(minutes=1))
    await minter.note_seen("minting_token_expired", has_groups=True)
    known = {"seen_at": NOW, "checked_at": NOW - timedelta(minutes=1), "tokens": 17}
    assert await gateway.standing() == Standing(**known, has_groups=True, trouble="minting_token_expired")  # type: ignore[arg-type]  # its fields
    await minter.note_seen()
    assert await gateway.standing() == Standing(**known, has_groups=True, trouble=None)  # type: ignore[arg-type]  # its fields


async def test_a_minter_that_is_silent_counts_as_stopped(tables: Database, clock: Clock) -> None:
    """It says each minute that it is there."""
    installations = installations_of(tables, clock)
    await installations.note_seen()
    clock.advance(PRESENT_FOR - timedelta(seconds=1))
    assert is_minter_present(await installations.standing(), clock())
    clock.advance(timedelta(seconds=1))
    assert not is_minter_present(await installations.standing(), clock())
