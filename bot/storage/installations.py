"""Stores what marks the tokens of this installation at Cloudflare, and what the minter last found there."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select, update

from bot.model.errors import RecordForged
from bot.model.minted import Standing
from bot.sealing.authenticity import Authenticity
from bot.storage.database import Database
from bot.storage.schema import INSTALLATIONS
from bot.storage.upsert import insert_into

_KIND: Final = "installation"
_ROW: Final = INSTALLATIONS.c


class Installations:
    """The one row of this account. Every method raises DatabaseTrouble."""

    def __init__(
        self, database: Database, authenticity: Authenticity, account_id: str, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._authenticity = authenticity
        self._account_id = account_id
        self._clock = clock

    async def mark(self) -> str:
        """Return the mark, made of the audit key at the first call; raises RecordForged if the bot did not record it.

        It stays when the key is replaced: else the tokens of before would be nobody's.
        """
        return await self._database.run(self._find_or_make)

    async def standing(self) -> Standing | None:
        """Return what a minter last found, or None if there was never one."""
        return await self._database.run(lambda connection: read_standing(connection, self._account_id))

    async def note_seen(self, trouble: str | None = None, *, has_groups: bool | None = None) -> None:
        """Note that a minter is there, and what keeps it from minting, if anything does."""
        values: dict[str, Any] = {"seen_at": self._clock(), "trouble": trouble}
        await self._note(values if has_groups is None else values | {"has_groups": has_groups})

    async def note_count(self, tokens: int, asked_at: datetime) -> None:
        """Note how many tokens the account had."""
        await self._note({"tokens": tokens, "checked_at": asked_at})

    async def _note(self, values: dict[str, Any]) -> None:
        def note(connection: Connection) -> None:
            self._find_or_make(connection)
            connection.execute(update(INSTALLATIONS).where(_ROW.account_id == self._account_id).values(values))

        await self._database.run(note)

    def _find_or_make(self, connection: Connection) -> str:
        mark = self._authenticity.installation_mark()
        new = {"account_id": self._account_id, "mark": mark}
        new |= {"signature": sign_mark(self._authenticity, self._account_id, mark)}
        connection.execute(insert_into(connection, INSTALLATIONS).on_conflict_do_nothing(), new)
        row = connection.execute(select(INSTALLATIONS).where(_ROW.account_id == self._account_id)).one()
        known = {"account_id": row.account_id, "mark": row.mark}
        if not self._authenticity.verifies(_KIND, known, row.signature):
            raise RecordForged(INSTALLATIONS.name, self._account_id, "signature")
        return str(row.mark)


def sign_mark(authenticity: Authenticity, account_id: str, mark: str) -> str:
    """Return the signature of an account's mark."""
    return authenticity.sign(_KIND, {"account_id": account_id, "mark": mark})


def read_standing(connection: Connection, account_id: str) -> Standing | None:
    """Return what a minter last found, or None if there was never one."""
    row = connection.execute(select(INSTALLATIONS).where(_ROW.account_id == account_id)).one_or_none()
    if row is None or row.seen_at is None:
        return None
    return Standing(
        seen_at=row.seen_at,
        checked_at=row.checked_at,
        tokens=row.tokens,
        has_groups=row.has_groups,
        trouble=row.trouble,
    )
