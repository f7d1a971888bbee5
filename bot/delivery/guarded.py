"""A delivery as both engines call it: any failure is logged, and the bucket is tried again."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.delivery.deliver import AFTER_FAULT
from bot.model.catalog import BucketKey
from bot.model.errors import BotError

AFTER_TROUBLE: Final = timedelta(seconds=1)


class Deliverer(Protocol):
    """Takes every step of a bucket that is due, and returns when the next one is."""

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Return None when nothing is left. Raises DatabaseTrouble."""


_log = structlog.get_logger()


async def deliver_guarded(delivery: Deliverer, key: BucketKey, clock: Callable[[], datetime]) -> datetime | None:
    """Take every step that is due; return when to come back, or None if nothing is left to do."""
    try:
        return await delivery.deliver(key)
    except BotError as error:
        _log.error("delivery_stopped", bucket=key.bucket, error=str(error))
        return clock() + AFTER_TROUBLE
    except Exception as error:  # noqa: BLE001 - a bug must not stop this bucket forever
        _log.critical("delivery_broke", bucket=key.bucket, error=type(error).__name__)
        return clock() + AFTER_FAULT
