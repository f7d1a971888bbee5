"""Tokens of the bot's own as rows, signed: who can write to the database cannot have a token made, changed or deleted.

Each change compares the revision, and is part of the transaction that makes it necessary.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, insert, select, update

from bot.model.audit import Entry, Event
from bot.model.catalog import BucketKey
from bot.model.errors import RecordDamaged, RecordForged
from bot.model.minted import COLUMNS, MintedState, MintedToken
from bot.sealing.authenticity import Authenticity, Fields
from bot.storage.audit import AuditChain, as_text
from bot.storage.damage import SetAside, require_shape
from bot.storage.schema import IS_LEFT, MINTED_TOKENS

_KIND: Final = "minted_token"
_ROW: Final = MINTED_TOKENS.c
_INSERT: Final = insert(MINTED_TOKENS)


def select_left(key: BucketKey | None = None) -> Select[Any]:
    """Return the query of what may be left at Cloudflare, of a bucket or of all, the oldest first."""
    query = select(MINTED_TOKENS).where(IS_LEFT).order_by(_ROW.intended_at, _ROW.name)
    return query if key is None else query.where(_ROW.account_id == key.account_id, _ROW.bucket == key.bucket)


def read_tokens(
    connection: Connection, chain: AuditChain, query: Select[Any], set_aside: SetAside
) -> list[MintedToken]:
    """Return the tokens that the query finds; a damaged or forged row is left alone, and reported."""
    rows = connection.execute(query).all()
    return set_aside.read_each(rows, lambda row: read_token(row, chain.authenticity))


def read_token(row: Row[Any], authenticity: Authenticity) -> MintedToken:
    """Read a row; raises RecordDamaged, also if the bot has not written it."""
    token = _as_token(row)
    if not authenticity.verifies(_KIND, _fields(token), row.signature):
        raise RecordForged(MINTED_TOKENS.name, row.name, "signature")
    return token


def sign_row(authenticity: Authenticity, row: Row[Any]) -> str:
    """Return the signature of a row as it is; raises RecordDamaged."""
    return authenticity.sign(_KIND, _fields(_as_token(row)))


def add_token(connection: Connection, chain: AuditChain, token: MintedToken) -> None:
    """Record a token before it is asked for."""
    connection.execute(_INSERT, _values(token, chain.authenticity))


def change_token(
    connection: Connection, chain: AuditChain, token: MintedToken, to: MintedToken, now: datetime
) -> MintedToken | None:
    """Change a token that is as it was read; return it as it is then, or None if something else has changed it."""
    changed = replace(to, changed_at=now, revision=token.revision + 1)
    its_row = _ROW.name == token.name, _ROW.revision == token.revision
    statement = update(MINTED_TOKENS).where(*its_row).values(_values(changed, chain.authenticity))
    return changed if connection.execute(statement).rowcount else None


def entry_of_token(token: MintedToken, event: Event, at: datetime) -> Entry:
    """Return what the audit says of a token that was made or deleted."""
    return Entry(
        event=event,
        at=at,
        key=token.key,
        submission_id=token.submission_id or "",
        token_id=token.token_id or "",
        details=token.name,
    )


def _as_token(row: Row[Any]) -> MintedToken:
    require_shape(row, MINTED_TOKENS)
    key = BucketKey(account_id=row.account_id, bucket=row.bucket)
    values = {name: getattr(row, name) for name in COLUMNS}
    try:
        return MintedToken(key=key, **values | {"state": MintedState(row.state)})
    except ValueError:
        raise RecordDamaged(MINTED_TOKENS.name, row.name, "state") from None


def _values(token: MintedToken, authenticity: Authenticity) -> dict[str, Any]:
    return {**_plain(token), "signature": authenticity.sign(_KIND, _fields(token))}


def _plain(token: MintedToken) -> dict[str, Any]:
    plain = {name: getattr(token, name) for name in COLUMNS}
    return plain | {"account_id": token.key.account_id, "bucket": token.key.bucket, "state": token.state.value}


def _fields(token: MintedToken) -> Fields:
    return {name: as_text(value) for name, value in _plain(token).items()}
