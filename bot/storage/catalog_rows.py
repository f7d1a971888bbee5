"""Catalogs and stored credentials as they are read from rows."""

from dataclasses import fields
from enum import StrEnum
from sys import intern
from typing import Any, Final, TypeVar

from sqlalchemy import Row

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, StoredCredential
from bot.model.errors import RecordDamaged
from bot.model.known_catalogs import ProvenToken
from bot.storage.damage import require_shape
from bot.storage.schema import CATALOGS, CREDENTIALS, MINTED_TOKENS

_Word = TypeVar("_Word", bound=StrEnum)

OF_CREDENTIAL: Final = tuple(field.name for field in fields(StoredCredential) if field.name != "key")
"""The columns of a stored credential, but for its key."""


def read_catalog(row: Row[Any]) -> Catalog:
    """Read a row; a status that this version does not know is read as UNKNOWN. Raises RecordDamaged."""
    require_shape(row, CATALOGS)
    return Catalog(
        key=_read_key(row),
        status=_word_of(CatalogStatus, row.status, CatalogStatus.UNKNOWN),
        credential_status=_word_of(CredentialStatus, row.tested or row.credential_status, CredentialStatus.UNKNOWN),
        tested_at=row.tested_at,
    )


def read_credential(row: Row[Any]) -> StoredCredential:
    """Read a row; raises RecordDamaged."""
    require_shape(row, CREDENTIALS)
    values = {name: getattr(row, name) for name in OF_CREDENTIAL}
    # One text for all rows that say the same: a process keeps 10,000 of them.
    values |= {name: intern(values[name]) for name in ("stored_by", "channel_id")}
    return StoredCredential(key=_read_key(row), **values)


def read_proven(row: Row[Any]) -> ProvenToken:
    """Read a row of what the bot made itself; raises RecordDamaged."""
    if not isinstance(row.bucket, str) or not isinstance(row.token_id, str):
        raise RecordDamaged(MINTED_TOKENS.name, str(row.bucket), "bucket or token_id")
    return ProvenToken(bucket=intern(row.bucket), token_id=row.token_id)


def _read_key(row: Row[Any]) -> BucketKey:
    return BucketKey(account_id=intern(row.account_id), bucket=intern(row.bucket))


def _word_of(words: type[_Word], text: str, otherwise: _Word) -> _Word:
    return next((word for word in words if word == text), otherwise)
