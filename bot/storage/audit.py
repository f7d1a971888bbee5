"""Appends to the audit's chain: each entry is signed together with the signature of the one before it.

One chain for all processes of an installation, in the transaction that does what the entry says: what could not be
recorded did not happen.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select

from bot.model.audit import PERSONAL, Entry
from bot.sealing.authenticity import Authenticity, Fields
from bot.storage.lock import lock_name
from bot.storage.schema import AUDIT

AUDIT_KIND: Final = "audit"
"""Keeps a signature of another table from serving here."""

_NAMES: Final = ("event", "submission_id", "task", "outcome", "code", "token_id", "fingerprint", "cf_ray", "details")
_SIGNED: Final = ("number", "at", "account_id", "bucket", *_NAMES, "people_digest", "previous")
_LAST: Final = select(AUDIT.c.number, AUDIT.c.signature).order_by(AUDIT.c.number.desc()).limit(1)
_APPEND: Final = insert(AUDIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last entry of a chain."""

    number: int
    signature: str

    def __str__(self) -> str:
        """Return `NUMBER:` and 16 hex digits of the signature: what a log line takes, and `audit verify --head` reads.

        All 64 digits would look like a token, which no log line may have.
        """
        return f"{self.number}:{self.signature.rpartition('.')[2][:16]}"


BEFORE_THE_FIRST: Final = Head(number=0, signature="")


class AuditChain:
    """The only one that appends to the chain, and what signs for it. Its functions run in the caller's transaction."""

    def __init__(self, authenticity: Authenticity) -> None:
        self.authenticity = authenticity

    def append(self, connection: Connection, entries: Iterable[Entry]) -> None:
        """Append entries, in this order. Call it last in a transaction: others wait from here until its end."""
        waiting = [*entries]
        if not waiting:
            return
        lock_name(connection, AUDIT_KIND)
        head = read_head(connection)
        rows = []
        for entry in waiting:
            rows.append(self._row(entry, head))
            head = Head(number=rows[-1]["number"], signature=rows[-1]["signature"])
        connection.execute(_APPEND, rows)

    def is_authentic(self, row: Row[Any]) -> bool:
        """Return whether an entry is as it was signed, wherever it stands in the chain."""
        return self.authenticity.verifies(AUDIT_KIND, signed_fields(row), row.signature)

    def _row(self, entry: Entry, head: Head) -> dict[str, Any]:
        row: dict[str, Any] = {name: str(getattr(entry, name)) for name in _NAMES}
        row |= {"number": head.number + 1, "at": entry.at, "previous": head.signature}
        row |= {"account_id": entry.key.account_id, "bucket": entry.key.bucket} if entry.key else _NO_BUCKET
        who = dict.fromkeys(PERSONAL) if entry.who is None else asdict(entry.who)
        salt = None if entry.who is None else secrets.token_hex(16)
        row |= who | {"salt": salt, "people_digest": self.authenticity.commit(salt, who) if salt else ""}
        return row | {"signature": self.authenticity.sign(AUDIT_KIND, signed_part(row))}


_NO_BUCKET: Final = {"account_id": "", "bucket": ""}


def read_head(connection: Connection) -> Head:
    """Return the last entry."""
    last = connection.execute(_LAST).one_or_none()
    return Head(number=last.number, signature=last.signature) if last else BEFORE_THE_FIRST


def signed_fields(row: Row[Any]) -> Fields:
    """Return what an entry's signature covers: all of it but the people, of whom it covers a digest."""
    return signed_part(row._mapping)  # noqa: SLF001 - public in SQLAlchemy, with this name


def signed_part(row: Mapping[Any, Any]) -> Fields:
    """Return the same of an entry by the names of its columns, as they are read or exported."""
    return {name: as_text(row[name]) for name in _SIGNED}


def as_text(value: object) -> str | int | None:
    """Return a column's value as a signature covers it: times in UTC, to the microsecond."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value if isinstance(value, str | int) or value is None else repr(value)
