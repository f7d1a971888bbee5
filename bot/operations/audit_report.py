"""What the commands `audit verify` and `audit export` do: go through all entries, beside a running bot."""

from collections.abc import Callable
from datetime import datetime

from bot.settings import DatabaseSettings
from bot.storage.audit import BEFORE_THE_FIRST, Head
from bot.storage.audit_export import FORMATS
from bot.storage.audit_reading import find_before, read_batches
from bot.storage.audit_verifying import Verification
from bot.storage.beside import open_to_read
from bot.storage.chain_start import read_authenticity


async def verify(settings: DatabaseSettings, expected: Head | None) -> Verification:
    """Verify the whole chain; raises Broken, and StartRefused, also without the key."""
    verification = Verification(read_authenticity(settings), expected=expected)
    async with open_to_read(settings) as database:
        async for entries in read_batches(database):
            for entry in entries:
                verification.examine(entry)
    verification.finish()
    return verification


async def export(
    settings: DatabaseSettings, since: datetime | None, form: str, write: Callable[[str], None]
) -> tuple[int, Head]:
    """Write all entries, or those since a time; return how many, and the last one. Raises StartRefused."""
    beginning, to_text = FORMATS[form]
    count, head = 0, BEFORE_THE_FIRST
    async with open_to_read(settings) as database:
        after = None if since is None else await find_before(database, since)
        write(beginning)
        async for entries in read_batches(database, after):
            write(to_text(entries))
            count += len(entries)
            head = Head(number=entries[-1]["number"], signature=entries[-1]["signature"])
    return count, head


def describe(verification: Verification) -> list[str]:
    """Return a line for what was not verified, and for each remark."""
    unverified = [
        f"not verified: {entries} signed with the key {key_id}, which is not set"
        for key_id, entries in verification.unverified.items()
    ]
    return [*unverified, *(f"remark: {remark}" for remark in verification.remarks())]
