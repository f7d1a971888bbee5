"""Records of the account's catalogs: Cloudflare's list, its test results, and what the bot stored in the slots."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    not_,
    null,
    or_,
    select,
    update,
)

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot, StoredCredential
from bot.model.known_catalogs import KnownCatalogs
from bot.storage.catalog_rows import OF_CREDENTIAL
from bot.storage.database import Database
from bot.storage.known_catalogs import CatalogReader
from bot.storage.rotation_failures import forget_failures
from bot.storage.rows import is_its, names_of
from bot.storage.schema import CATALOGS, CREDENTIALS, SNAPSHOTS
from bot.storage.upsert import insert_into, upsert

_KEY: Final = ("account_id", "bucket")
_MOST_AT_ONCE: Final = 500
_SLOWEST_ANSWER: Final = timedelta(minutes=5)
"""An answer that seems older than this was timed by a clock that was set back: then it is the newest one."""


class Catalogs:
    """The catalogs of one account. Every method raises DatabaseTrouble when the database fails."""

    def __init__(self, database: Database, account_id: str) -> None:
        self._database = database
        self.account_id = account_id
        self._reader = CatalogReader(database, account_id)

    @property
    def known(self) -> KnownCatalogs:
        """What `catch_up` returned last."""
        return self._reader.known

    async def catch_up(self) -> KnownCatalogs:
        """Return what the database knows of the catalogs now, including what another process has committed.

        The same object each time: after the next `await`, it may know more.
        """
        return await self._reader.catch_up()

    async def snapshot(self) -> Snapshot | None:
        """Return all catalogs in order, or None before the first refresh. Who needs a few only calls `catch_up`."""
        known = await self.catch_up()
        if known.refreshed_at is None:  # or damaged: the next refresh writes it anew
            return None
        catalogs = tuple(known.catalogs[bucket] for bucket in sorted(known.catalogs))
        return Snapshot(catalogs=catalogs, refreshed_at=known.refreshed_at, tested_at=known.tested_at)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Save the list, and delete the catalogs that are no longer in it; test results stay."""
        await self._database.run(lambda connection: _save_snapshot(connection, self.account_id, snapshot))

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
        statement = update(SNAPSHOTS).where(SNAPSHOTS.c.account_id == self.account_id).values(tested_at=tested_at)
        await self._database.run(lambda connection: connection.execute(statement).rowcount)

    async def stored_credentials(self) -> list[StoredCredential]:
        """Return the last credential that the bot stored in each slot, in order."""
        known = await self.catch_up()
        return [known.credentials[bucket] for bucket in sorted(known.credentials)]

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
    """Record what the slot holds now, and drop what is known of the credential before it.

    Every transaction changes the catalog's table first: in different orders, two transactions could deadlock.
    """
    untested = {"credential_status": CredentialStatus.PRESENT.value, "tested": None, "tested_at": None}
    connection.execute(_CHANGE_CATALOG, names_of(stored.key) | untested)
    row = {name: getattr(stored, name) for name in OF_CREDENTIAL}
    upsert(connection, CREDENTIALS, asdict(stored.key) | row, _KEY)
    forget_failures(connection, stored.key)


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
    return {  # not by `asdict`, which took 80 ms for 10,000
        "account_id": catalog.key.account_id,
        "bucket": catalog.bucket,
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
    known = {row.bucket: row for row in connection.execute(_WHAT_IS_LISTED, {"its_account_id": account_id})}
    gone = sorted(known.keys() - listed.keys())
    for start in range(0, len(gone), _MOST_AT_ONCE):
        some = CATALOGS.c.bucket.in_(gone[start : start + _MOST_AT_ONCE])
        connection.execute(delete(CATALOGS).where(CATALOGS.c.account_id == account_id, some))
    news = [listed[bucket] for bucket in sorted(listed) if not _is_recorded(listed[bucket], known.get(bucket))]
    if news:  # mostly a few: writing all 10,000 took 150 ms, and each process would read them all
        _save_catalogs(connection, news)


_WHAT_IS_LISTED: Final = select(
    CATALOGS.c.bucket, CATALOGS.c.status, CATALOGS.c.credential_status, CATALOGS.c.tested
).where(CATALOGS.c.account_id == bindparam("its_account_id"))


def _is_recorded(listed: dict[str, str], row: Row[str, str, str, str | None] | None) -> bool:
    """Return whether `_save_catalogs` would change nothing."""
    if row is None or (row.status, row.credential_status) != (listed["status"], listed["credential_status"]):
        return False
    absent, unknown = CredentialStatus.ABSENT.value, CredentialStatus.UNKNOWN.value
    return row.tested is None or row.credential_status == unknown or absent not in {row.tested, row.credential_status}


def _filled_since(connection: Connection, account_id: str, asked_at: datetime) -> set[str]:
    """Return the slots that the bot filled during the request: the answer may not reflect that."""
    its = CREDENTIALS.c
    is_since = and_(its.stored_at > asked_at, its.stored_at < asked_at + _SLOWEST_ANSWER)
    return set(connection.scalars(select(its.bucket).where(its.account_id == account_id, is_since)))


def _is_overtaken(asked_at: datetime, *, by: datetime | None) -> bool:
    return by is not None and timedelta(0) < by - asked_at < _SLOWEST_ANSWER
