"""The work of each minute: finds a restored database, rotates keys and credentials, deletes what is old, reminds."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog

from bot.catalogs.reminders import WATCH_EVERY, CredentialWatch
from bot.model.errors import BotError
from bot.rotation.schedule import RotationSchedule
from bot.storage.opening import Store

OPENINGS_KEPT_FOR: Final = timedelta(minutes=10)
"""Counted from their expiry."""

KeepHouse = Callable[[], Awaitable[None]]
"""Keeps house once, and never fails."""

_log = structlog.get_logger()


async def keep_house_forever(keep: KeepHouse) -> None:
    """Keep house once a minute, until cancelled."""
    while True:
        await keep()
        await asyncio.sleep(WATCH_EVERY.total_seconds())


async def keep_house(store: Store, watch: CredentialWatch, schedule: RotationSchedule) -> None:
    """Find a restored database, rotate the bot's keys, delete what is old, begin rotations, send due reminders.

    Never raises.
    """
    await _try_to(_settle, store)
    await _try_to(_rotate_keys, store)
    await _try_to(_forget_openings, store)
    await _try_to(_limit_history, store)
    await _try_to(_forget_people, store)
    await _try_to(lambda _: schedule.begin_due(), store)
    await watch.announce_due()


async def _settle(store: Store) -> None:
    """Find a database that was restored under the running bot, and note how far other processes have come."""
    await store.lineage.settle()


async def _rotate_keys(store: Store) -> None:
    if store.key_files is not None and store.key_ring is not None:
        destroyed = store.key_files.rotate(store.key_ring, store.clock(), await store.submissions.key_ids_in_use())
        if destroyed:
            _log.info("sealing_keys_destroyed", key_ids=destroyed)


async def _forget_openings(store: Store) -> None:
    await store.submissions.forget_openings(store.clock() - OPENINGS_KEPT_FOR)


async def _limit_history(store: Store) -> None:
    deleted = await store.history.enforce(store.clock())
    if deleted:
        _log.info("history_deleted", submissions=deleted)


async def _forget_people(store: Store) -> None:
    forgotten = await store.people.enforce(store.clock())
    if forgotten:
        _log.info("people_forgotten", entries=forgotten)


async def _try_to(keep: Callable[[Store], Awaitable[None]], store: Store) -> None:
    """Do one task, or leave it for the next minute: its failure must not stop the others."""
    try:
        await keep(store)
    except (BotError, OSError) as error:
        _log.error("housekeeping_failed", error=str(error))
    except Exception as error:  # noqa: BLE001 - an error of ours must not end the bot
        _log.critical("housekeeping_broke", error=type(error).__name__)
