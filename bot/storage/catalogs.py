"""Records of the account's catalogs: Cloudflare's list, its test results, and what the bot stored in the slots."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from sqlalchemy import (
    Connection,
    Row,
    and_,
    case,
    delete,
    not_,
    null,
    or_,
    select,
    update,
)

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot, StoredCredential
from bot.storage.damage import SetAside, require_shape
from bot.storage.database import Database
from bot.storage.rows import is_its, names_of
from bot.storage.schema import CATALOGS, CREDENTIALS, SNAPSHOTS
from bot.storage.upsert import insert_into, upsert

_Word = TypeVar("_Word", bound=StrEnum)

_KEY: Final = ("account_id", "bucket")
_OF_CREDENTIAL: Final = tuple(field.name for field in fields(StoredCredential) if field.name != "key")
_MOST_AT_ONCE: Final = 500
_SLOWEST_ANSWER: Final = timedelta(minutes=5)
"""An answer that seems older than this was timed by a clock that was set back: then it is the newest one."""


class Catalogs:
    """The catalogs of one account. Every method raises DatabaseTrouble when the database fails."""

    def __init__(self, database: Database, account_id: str) -> None:
        self._database = database
        self._account_id = account_id
        self._set_aside = SetAside()

    async def snapshot(self) -> Snapshot | None:
        """Return the catalogs, or None before the first refresh."""
        taken, rows = await self._database.run(lambda connection: _find_snapshot(connection, self._account_id))
        if taken is None or taken.refreshed_at is None:  # damaged: the next refresh writes it anew
            return None
        catalogs = tuple(self._set_aside.read_each(rows, read_catalog))
        return Snapshot(catalogs=catalogs, refreshed_at=taken.refreshed_at, tested_at=taken.tested_at)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Save the list, and delete the catalogs that are no longer in it; test results stay."""
        await self._database.run(lambda connection: _save_snapshot(connection, self._account_id, snapshot))

    async def save_catalog(self, catalog: Catalog) -> None:
        """Update one catalog."""
        await self._database.run(lambda connection: _save_catalogs(connection, [_catalog_row(catalog)]))

    async def note_enabled(self, key: BucketKey) -> None:
        """Record that the catalog is on, until the next refresh; what is known of its slot stays."""
        await self._database.run(lambda connection: _note_enabled(connection, key))

    async def save_test(self, key: BucketKey, status: CredentialStatus, asked_at: datetime) -> None:
        """Save the result of a test; a credential that turned from valid to invalid is to be announced.

        A test that started before the credential was stored, or before the last test, is ignored: its answer is
        about another credential, and would raise a false alarm.
        """
        await self._database.run(lambda connection: note_test(connection, key, status, asked_at))

    async def note_all_tested(self, tested_at: datetime) -> None:
        """Note that all tests that were due are done."""
        statement = update(SNAPSHOTS).where(SNAPSHOTS.c.account_id == self._account_id).values(tested_at=tested_at)
        await self._database.run(lambda connection: connection.execute(statement).rowcount)

    async def stored_credentials(self) -> list[StoredCredential]:
        """Return the last credential that the bot stored in each slot."""
        query = select(CREDENTIALS).where(CREDENTIALS.c.account_id == self._account_id).order_by(CREDENTIALS.c.bucket)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return self._set_aside.read_each(rows, read_credential)

    async def note_reminded(self, credential: StoredCredential, reminded_at: datetime) -> None:
        """Record that the expiry reminder was posted, if this credential is still the stored one."""
        await self._change_credential(credential, {"reminded_at": reminded_at})

    async def note_announced(self, credential: StoredCredential) -> None:
        """Record that the failure was announced, if this credential is still the stored one."""
        await self._change_credential(credential, {"broken_at": None})

    async def _change_credential(self, credential: StoredCredential, values: dict[str, Any]) -> None:
        statement = _CHANGE_CREDENTIAL.where(CREDENTIALS.c.submission_id == credential.submission_id)
        row = names_of(credential.key) | values
        await self._database.run(lambda connection: connection.execute(statement, row).rowcount)


def note_stored(connection: Connection, stored: StoredCredential) -> None:
    """Record what the slot holds now, and drop the test result of the credential before it.

    Every transaction changes the catalog's table first: in different orders, two transactions could deadlock.
    """
    untested = {"credential_status": CredentialStatus.PRESENT.value, "tested": None, "tested_at": None}
    connection.execute(_CHANGE_CATALOG, names_of(stored.key) | untested)
    row = {name: getattr(stored, name) for name in _OF_CREDENTIAL}
    upsert(connection, CREDENTIALS, asdict(stored.key) | row, _KEY)


def note_test(connection: Connection, key: BucketKey, status: CredentialStatus, asked_at: datetime) -> None:
    """Do what `Catalogs.save_test` does, inside a transaction."""
    its = names_of(key)
    before = connection.execute(_LOCK_CATALOG, its).one_or_none()
    stored_at = connection.scalar(_STORED_AT, its)
    if _is_overtaken(asked_at, by=stored_at) or _is_overtaken(asked_at, by=before.tested_at if before else None):
        return
    is_empty = status is CredentialStatus.ABSENT
    row = asdict(key) | {
        "status": CatalogStatus.ACTIVE.value,  # no other is tested
        "credential_status": (CredentialStatus.ABSENT if is_empty else CredentialStatus.PRESENT).value,
        "tested": status.value,
        "tested_at": asked_at,
    }
    upsert(connection, CATALOGS, row, _KEY)
    was_valid = before is not None and before.tested == CredentialStatus.VALID
    if status is CredentialStatus.VALID or (was_valid and status is CredentialStatus.INVALID):
        broken_at = None if status is CredentialStatus.VALID else asked_at
        connection.execute(_CHANGE_CREDENTIAL, its | {"broken_at": broken_at})


# Statements that run for each submission are built once: building and hashing them took longer than running them.
_CHANGE_CATALOG: Final = update(CATALOGS).where(is_its(CATALOGS))
_CHANGE_CREDENTIAL: Final = update(CREDENTIALS).where(is_its(CREDENTIALS))
_LOCK_CATALOG: Final = select(CATALOGS).where(is_its(CATALOGS)).with_for_update()
_STORED_AT: Final = select(CREDENTIALS.c.stored_at).where(is_its(CREDENTIALS))


def _catalog_row(catalog: Catalog) -> dict[str, str]:
    return asdict(catalog.key) | {
        "status": catalog.status.value,
        "credential_status": catalog.credential_status.value,
    }


def _save_catalogs(connection: Connection, rows: Sequence[dict[str, str]]) -> None:
    """Save the list; if a slot was emptied or filled since its last test, drop the result."""
    statement = insert_into(connection, CATALOGS)
    listed = statement.excluded
    absent, unknown = CredentialStatus.ABSENT.value, CredentialStatus.UNKNOWN.value
    was_or_is_empty = or_(CATALOGS.c.tested == absent, listed.credential_status == absent)
    still_holds = or_(listed.credential_status == unknown, not_(was_or_is_empty))
    statement = statement.on_conflict_do_update(
        index_elements=_KEY,
        set_={
            "status": listed.status,
            "credential_status": listed.credential_status,
            "tested": case((still_holds, CATALOGS.c.tested), else_=null()),
            "tested_at": case((still_holds, CATALOGS.c.tested_at), else_=null()),
        },
    )
    connection.execute(statement, rows)


def _note_enabled(connection: Connection, key: BucketKey) -> None:
    unknown = Catalog(key=key, status=CatalogStatus.ACTIVE, credential_status=CredentialStatus.UNKNOWN)
    statement = insert_into(connection, CATALOGS)
    statement = statement.on_conflict_do_update(index_elements=_KEY, set_={"status": statement.excluded.status})
    connection.execute(statement, _catalog_row(unknown))


def _save_snapshot(connection: Connection, account_id: str, snapshot: Snapshot) -> None:
    row = {"account_id": account_id, "refreshed_at": snapshot.refreshed_at}
    upsert(connection, SNAPSHOTS, row, ("account_id",))  # first, so that concurrent refreshes wait here
    filled = _filled_since(connection, account_id, snapshot.refreshed_at)
    listed = {catalog.bucket: _catalog_row(catalog) for catalog in snapshot.catalogs}
    for bucket in listed.keys() & filled:
        listed[bucket]["credential_status"] = CredentialStatus.PRESENT.value
    known = connection.scalars(select(CATALOGS.c.bucket).where(CATALOGS.c.account_id == account_id))
    gone = sorted(set(known) - listed.keys())
    for start in range(0, len(gone), _MOST_AT_ONCE):
        some = CATALOGS.c.bucket.in_(gone[start : start + _MOST_AT_ONCE])
        connection.execute(delete(CATALOGS).where(CATALOGS.c.account_id == account_id, some))
    if listed:
        _save_catalogs(connection, [listed[bucket] for bucket in sorted(listed)])


def _filled_since(connection: Connection, account_id: str, asked_at: datetime) -> set[str]:
    """Return the slots that the bot filled during the request: the answer may not reflect that."""
    its = CREDENTIALS.c
    is_since = and_(its.stored_at > asked_at, its.stored_at < asked_at + _SLOWEST_ANSWER)
    return set(connection.scalars(select(its.bucket).where(its.account_id == account_id, is_since)))


def _is_overtaken(asked_at: datetime, *, by: datetime | None) -> bool:
    return by is not None and timedelta(0) < by - asked_at < _SLOWEST_ANSWER


def _find_snapshot(connection: Connection, account_id: str) -> tuple[Row[Any] | None, Sequence[Row[Any]]]:
    taken = connection.execute(select(SNAPSHOTS).where(SNAPSHOTS.c.account_id == account_id)).one_or_none()
    query = select(CATALOGS).where(CATALOGS.c.account_id == account_id).order_by(CATALOGS.c.bucket)
    return taken, connection.execute(query).all()


def read_catalog(row: Row[Any]) -> Catalog:
    """Read a row; a status that this version does not know is read as UNKNOWN. Raises RecordDamaged."""
    require_shape(row, CATALOGS)
    return Catalog(
        key=BucketKey(account_id=row.account_id, bucket=row.bucket),
        status=_word_of(CatalogStatus, row.status, CatalogStatus.UNKNOWN),
        credential_status=_word_of(CredentialStatus, row.tested or row.credential_status, CredentialStatus.UNKNOWN),
        tested_at=row.tested_at,
    )


def _word_of(words: type[_Word], text: str, otherwise: _Word) -> _Word:
    return next((word for word in words if word == text), otherwise)


def read_credential(row: Row[Any]) -> StoredCredential:
    """Read a row; raises RecordDamaged."""
    require_shape(row, CREDENTIALS)
    key = BucketKey(account_id=row.account_id, bucket=row.bucket)
    return StoredCredential(key=key, **{name: getattr(row, name) for name in _OF_CREDENTIAL})
