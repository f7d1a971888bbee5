"""Begins the audit's chain, and signs as it is what was open before the present key signed anything."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update

from bot.model.audit import Entry, Event, Who
from bot.model.catalog import BucketKey
from bot.model.submission import State, Task
from bot.storage.audit import AuditChain, read_head
from bot.storage.authentic import ADOPTED, FINAL_STATES, SEALED, entry_of, sign_submission, text_of
from bot.storage.minted_doubt import sign_again
from bot.storage.schema import CREDENTIALS, SUBMISSIONS


def adopt_unsigned(connection: Connection, chain: AuditChain, at: datetime) -> None:
    """Begin the chain; sign what was open before there were signatures, in the very start that adds them."""
    is_first = read_head(connection).number == 0
    entries = [Entry(event=Event.CHAIN_BEGUN, at=at, details=chain.authenticity.key_id)] if is_first else []
    adopt(connection, chain, at, entries, SUBMISSIONS.c.signature.is_(None))  # another process may have recorded more


def adopt(
    connection: Connection,
    chain: AuditChain,
    at: datetime,
    entries: list[Entry],
    *which: ColumnElement[bool],
) -> None:
    """Append these entries; then vouch for submissions whose results are not posted, as they are now.

    A chain that begins with them vouches for the credentials in the slots too, and for the bot's own tokens.
    """
    stored = connection.execute(select(CREDENTIALS)).all() if entries else []
    if entries:
        sign_again(connection, chain.authenticity)
    entries += map(_adopted, stored)
    for row in connection.execute(select(SUBMISSIONS).where(SUBMISSIONS.c.reported_at.is_(None), *which)).all():
        signed = sign_submission(chain.authenticity, dict(row._mapping) | {"nonce": ADOPTED})  # noqa: SLF001 - public in SQLAlchemy, with this name
        names = ("nonce", "signature", "progress", *SEALED.values())
        is_it = SUBMISSIONS.c.sequence == row.sequence
        connection.execute(update(SUBMISSIONS).where(is_it).values({name: signed[name] for name in names}))
        entries += [entry_of(row, event, at) for event in _events_of(row)]
    chain.append(connection, entries)


def _adopted(stored: Row[Any]) -> Entry:
    """Return the entry of a write from before there was an audit: its expiry is still to be reminded of."""
    return Entry(
        event=Event.WRITTEN,
        at=stored.stored_at,
        key=BucketKey(account_id=stored.account_id, bucket=stored.bucket),
        submission_id=stored.submission_id,
        task=Task.STORE.value,
        token_id=stored.token_id or "",
        details=text_of(stored.expires_at),
        who=Who(user_id=stored.stored_by, channel_id=stored.channel_id),
    )


def _events_of(row: Row[Any]) -> list[Event]:
    if row.state in FINAL_STATES:
        return [Event.ENDED]
    return [Event.WRITTEN] if row.state == State.CONFIRMING else []
