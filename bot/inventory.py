"""What is known of the account's catalogs: Cloudflare's list, its tests, and what the bot has put into their slots."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, case, delete, null, select, update

from bot.catalog import Catalog, CatalogStatus, CredentialStatus, Snapshot, StoredCredential
from bot.database import Database
from bot.database.schema import CATALOGS, CREDENTIALS, SNAPSHOTS
from bot.database.upsert import insert_into
from bot.submission import BucketKey

_KEY: Final = ("account_id", "bucket")
_MOST_AT_ONCE: Final = 500


class Inventory:
    """Reads and keeps it for one account. Every method raises DatabaseTrouble when the database fails."""

    def __init__(self, database: Database, account_id: str) -> None:
        self._database = database
        self._account_id = account_id

    async def snapshot(self) -> Snapshot | None:
        """Return the catalogs, or None when nobody has asked Cloudflare yet."""
        return await self._database.run(lambda connection: _read_snapshot(connection, self._account_id))

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep what Cloudflare listed, and forget what it listed no more; what its tests gave stays."""
        await self._database.run(lambda connection: _save_snapshot(connection, self._account_id, snapshot))

    async def save_catalog(self, catalog: Catalog) -> None:
        """Correct one catalog."""
        row = _catalog_row(self._account_id, catalog)
        await self._database.run(lambda connection: _save_catalogs(connection, [row]))

    async def save_test(self, bucket: str, status: CredentialStatus, tested_at: datetime) -> None:
        """Keep what a test of the stored credential gave; one that turned from valid to invalid is to be announced."""
        key = BucketKey(account_id=self._account_id, bucket=bucket)
        await self._database.run(lambda connection: _save_test(connection, key, status, tested_at))

    async def note_all_tested(self, tested_at: datetime) -> None:
        """Note that all tests that were due have been made."""
        statement = update(SNAPSHOTS).where(SNAPSHOTS.c.account_id == self._account_id).values(tested_at=tested_at)
        await self._database.run(lambda connection: connection.execute(statement) and None)

    async def stored_credentials(self) -> list[StoredCredential]:
        """Return what the bot has stored last in each slot."""
        query = select(CREDENTIALS).where(CREDENTIALS.c.account_id == self._account_id).order_by(CREDENTIALS.c.bucket)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [_read_credential(row) for row in rows]

    async def note_reminded(self, credential: StoredCredential, reminded_at: datetime) -> None:
        """Note that people were reminded of the expiry of this credential, if it is still the one."""
        await self._change_credential(credential, {"reminded_at": reminded_at})

    async def note_announced(self, credential: StoredCredential) -> None:
        """Note that people were told that this credential stopped working, if it is still the one."""
        await self._change_credential(credential, {"broken_at": None})

    async def _change_credential(self, credential: StoredCredential, values: dict[str, Any]) -> None:
        its = CREDENTIALS.c
        statement = (
            update(CREDENTIALS)
            .where(
                its.account_id == self._account_id,
                its.bucket == credential.bucket,
                its.submission_id == credential.submission_id,
            )
            .values(values)
        )
        await self._database.run(lambda connection: connection.execute(statement) and None)


def _catalog_row(account_id: str, catalog: Catalog) -> dict[str, str]:
    return {
        "account_id": account_id,
        "bucket": catalog.bucket,
        "status": catalog.status.value,
        "credential_status": catalog.credential_status.value,
    }


def _save_catalogs(connection: Connection, rows: Sequence[dict[str, str]]) -> None:
    """Keep what was listed; where the slot is empty, earlier tests of what it held say nothing any more."""
    statement = insert_into(connection, CATALOGS)
    listed = statement.excluded
    is_empty = listed.credential_status == CredentialStatus.ABSENT.value
    statement = statement.on_conflict_do_update(
        index_elements=_KEY,
        set_={
            "status": listed.status,
            "credential_status": listed.credential_status,
            "tested": case((is_empty, null()), else_=CATALOGS.c.tested),
        },
    )
    connection.execute(statement, rows)


def _save_snapshot(connection: Connection, account_id: str, snapshot: Snapshot) -> None:
    rows = [_catalog_row(account_id, catalog) for catalog in snapshot.catalogs]
    known = connection.scalars(select(CATALOGS.c.bucket).where(CATALOGS.c.account_id == account_id))
    gone = sorted(set(known) - {row["bucket"] for row in rows})
    for start in range(0, len(gone), _MOST_AT_ONCE):
        some = CATALOGS.c.bucket.in_(gone[start : start + _MOST_AT_ONCE])
        connection.execute(delete(CATALOGS).where(CATALOGS.c.account_id == account_id, some))
    if rows:
        _save_catalogs(connection, rows)
    _upsert(connection, SNAPSHOTS, {"account_id": account_id, "refreshed_at": snapshot.refreshed_at}, ["account_id"])


def _save_test(connection: Connection, key: BucketKey, status: CredentialStatus, tested_at: datetime) -> None:
    its = CATALOGS.c
    before = connection.scalar(select(its.tested).where(its.account_id == key.account_id, its.bucket == key.bucket))
    is_empty = status is CredentialStatus.ABSENT
    row = {
        "account_id": key.account_id,
        "bucket": key.bucket,
        "status": CatalogStatus.ACTIVE.value,  # no other is tested
        "credential_status": (CredentialStatus.ABSENT if is_empty else CredentialStatus.PRESENT).value,
        "tested": status.value,
        "tested_at": tested_at,
    }
    _upsert(connection, CATALOGS, row, _KEY)
    broke = before == CredentialStatus.VALID and status is CredentialStatus.INVALID
    if broke or status is CredentialStatus.VALID:
        its_credential = (CREDENTIALS.c.account_id == key.account_id, CREDENTIALS.c.bucket == key.bucket)
        broken_at = tested_at if broke else None
        connection.execute(update(CREDENTIALS).where(*its_credential).values(broken_at=broken_at))


def _upsert(connection: Connection, table: Table, row: dict[str, Any], key: Sequence[str]) -> None:
    connection.execute(insert_into(connection, table).values(row).on_conflict_do_update(index_elements=key, set_=row))


def _read_snapshot(connection: Connection, account_id: str) -> Snapshot | None:
    taken = connection.execute(select(SNAPSHOTS).where(SNAPSHOTS.c.account_id == account_id)).one_or_none()
    if taken is None:
        return None
    rows = connection.execute(select(CATALOGS).where(CATALOGS.c.account_id == account_id).order_by(CATALOGS.c.bucket))
    catalogs = tuple(_read_catalog(row) for row in rows)
    return Snapshot(catalogs=catalogs, refreshed_at=taken.refreshed_at, tested_at=taken.tested_at)


def _read_catalog(row: Row[Any]) -> Catalog:
    return Catalog(
        bucket=row.bucket,
        status=CatalogStatus(row.status),
        credential_status=CredentialStatus(row.tested or row.credential_status),
        tested_at=row.tested_at if row.tested else None,
    )


def _read_credential(row: Row[Any]) -> StoredCredential:
    return StoredCredential(
        bucket=row.bucket,
        submission_id=row.submission_id,
        stored_by=row.stored_by,
        stored_at=row.stored_at,
        channel_id=row.channel_id,
        token_id=row.token_id,
        expires_at=row.expires_at,
        reminded_at=row.reminded_at,
        broken_at=row.broken_at,
    )
