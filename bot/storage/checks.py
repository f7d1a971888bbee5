"""Examines the database and the keys of a running bot: whether a submission can be recorded, and opened later."""

import shutil
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from bot.model.errors import DatabaseTrouble, KeyFileUnusable
from bot.model.finding import Check, Finding, Mark, Part
from bot.sealing.hpke import KeyRing
from bot.sealing.key_files import KeyFiles
from bot.storage.database import Database
from bot.storage.opening import Store
from bot.storage.trouble import DATA_DIR_SETTING, no_room
from bot.storage.workers_keys import SEEN_FOR, find_seen, say_which

SCARCE_BYTES: Final = 64 * 1024 * 1024
NONE_LEFT_BYTES: Final = 1024 * 1024
"""SQLite moves its write-ahead log into the file, and needs room for both."""

_PUT_BACK: Final = "put the key files back that belong to this database"
_KEEP_RUNNING: Final = (
    "put the key files back, or do not stop the bot before what waits has ended; it makes a new key within a minute"
)
_NAME_THE_HALF: Final = (
    "give the workers the private half of each R2_CREDENTIAL_SEALING_PUBLIC_KEY that gateways and minters have, and "
    "keep a replaced key in second place until R2_CREDENTIAL_TTL has passed"
)

_VERSION: Final = text("SHOW server_version")


def storage_checks(store: Store, disk: Path | None) -> list[Check]:
    """Return the checks of an open store; `disk` is the directory of an SQLite file."""
    return [
        Check(part=Part.DATABASE, examine=partial(_examine_database, store, disk), is_quick=True),
        Check(part=Part.KEYS, examine=partial(_examine_keys, store)),
    ]


async def _examine_database(store: Store, disk: Path | None) -> Sequence[Finding]:
    try:
        await store.submissions.ping()
    except DatabaseTrouble:
        return [store.database.trouble.finding()]
    if disk is not None and (found := find_scarcity(disk)):
        return [found]
    return [
        Finding(part=Part.DATABASE, event="database_answers", text=f"{await describe(store.database)}, can be written")
    ]


def find_scarcity(disk: Path) -> Finding | None:
    """Return a finding if little or no room is left for an SQLite file."""
    free = shutil.disk_usage(disk).free
    if free >= SCARCE_BYTES:
        return None
    full = replace(no_room(disk), text=f"{free // 1024} KiB are free for {disk}", known={"free_bytes": free})
    if free < NONE_LEFT_BYTES:
        return full
    return replace(full, event="disk_almost_full", mark=Mark.WARNING, blocks=False)


async def describe(database: Database) -> str:
    """Return the engine and its version; raises DatabaseTrouble."""
    return await database.run(_describe)


def _describe(connection: Connection) -> str:
    if connection.dialect.name == "postgresql":
        return f"PostgreSQL {connection.scalar(_VERSION)}"
    return f"SQLite {sqlite3.sqlite_version}"


async def _examine_keys(store: Store) -> Sequence[Finding]:
    ring = store.sealing
    try:
        if not isinstance(ring, KeyRing):
            return [judge_public_key(ring.sealing_key.key_id, await find_seen(store.database, store.clock()))]
        if store.jobs is not None:
            await say_which(store.database, ring.key_ids, store.clock())
        needed = await store.submissions.key_ids_needed(store.clock())
    except DatabaseTrouble:
        return [Finding(part=Part.KEYS, event="keys_not_compared", text="not compared: no database", mark=Mark.WARNING)]
    found = [judge_keys(ring, needed, is_own=store.key_files is not None)]
    if store.key_files is None or (removed := _find_removed(store.key_files, ring, needed, store.clock())) is None:
        return found
    return [*(each for each in found if each.mark is not Mark.OK), removed]


def _find_removed(files: KeyFiles, ring: KeyRing, needed: frozenset[str], now: datetime) -> Finding | None:
    """Return a finding if only this process still has a key: a restart would lose what it sealed."""
    sealing = ring.sealing_key.key_id
    try:
        on_disk = files.read(now)
    except (KeyFileUnusable, OSError) as error:
        return replace(_removed(f"the files of the sealing keys cannot be read: {error}"), event="keys_unusable")
    removed = sorted((needed & ring.key_ids | {sealing}) - (on_disk.key_ids if on_disk else frozenset()))
    if not removed:
        return None
    text = f"the files of the sealing keys {', '.join(removed)} were removed, and only this process still has them"
    return replace(_removed(text), blocks=sealing in removed, known={"removed": removed})


def _removed(text: str) -> Finding:
    return Finding(
        part=Part.KEYS,
        event="keys_removed",
        text=text,
        mark=Mark.FAILED,
        setting=DATA_DIR_SETTING,
        fix=_KEEP_RUNNING,
    )


def judge_public_key(key_id: str, seen: Collection[str] | None) -> Finding:
    """Return whether a worker has the private half of the key of one who only seals.

    `seen` are the workers' keys, None where the database was not read.
    """
    known = {"key_id": key_id}
    if seen is None:
        text = f"whether a worker has the private half of the public key {key_id} is not known: no database answers"
        return Finding(part=Part.KEYS, event="workers_not_asked", text=text, mark=Mark.WARNING, known=known)
    if key_id in seen:
        text = f"seals with the public key {key_id}, and a worker has its private half"
        return Finding(part=Part.KEYS, event="keys_fit", text=text, known=known)
    if seen:
        return Finding(
            part=Part.KEYS,
            event="private_key_missing",
            text=f"no worker has the private half of the public key {key_id}, with which this process seals",
            mark=Mark.FAILED,
            setting="R2_CREDENTIAL_SEALING_PUBLIC_KEY",
            fix=_NAME_THE_HALF,
            blocks=True,
            known=known,
        )
    return Finding(
        part=Part.KEYS,
        event="workers_not_seen",
        text=f"no worker has used this database in the last {SEEN_FOR // timedelta(minutes=1)} minutes",
        mark=Mark.WARNING,
        fix="start one with `run --role worker`; until then, submissions wait",
        known=known,
    )


def judge_keys(ring: KeyRing | None, needed: frozenset[str], *, is_own: bool, is_running: bool = True) -> Finding:
    """Return whether the ring (None: there is none yet) opens everything that is sealed in the database."""
    key_ids = frozenset[str]() if ring is None else ring.key_ids
    missing = sorted(needed - key_ids)
    known = {"keys": len(key_ids), "key_id": None if ring is None else ring.sealing_key.key_id}
    if not missing:
        text = f"{len(key_ids)} in the ring, the newest is {known['key_id']}; all that is sealed can be opened"
        return Finding(part=Part.KEYS, event="keys_fit", text=text, known=known)
    fix = _PUT_BACK if is_own else _NAME_THE_HALF
    return Finding(
        part=Part.KEYS,
        event="keys_missing",
        text=f"what waits in the database was sealed with {', '.join(missing)}, which this process does not have",
        mark=Mark.FAILED,
        setting=DATA_DIR_SETTING if is_own else "R2_CREDENTIAL_SEALING_KEY",
        fix=fix if is_running else f"before you start the bot, {fix}; else what waits ends as failed",
        blocks=True,
        known={**known, "missing": missing},
    )
