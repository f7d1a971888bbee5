"""All that a worker does for a bucket: what was submitted, and the test of the slot while a token is disabled."""

from collections.abc import Callable
from datetime import datetime

from bot.delivery.deliver import Delivery
from bot.model.catalog import BucketKey
from bot.rotation.slot_test import SlotTests


class BucketWork:
    """What both engines run for a bucket. Without rotation, looking for a slot to test would cost a transaction."""

    def __init__(self, delivery: Delivery, slot_tests: SlotTests, *, rotates: Callable[[], bool]) -> None:
        self._delivery = delivery
        self._slot_tests = slot_tests
        self._rotates = rotates

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Take every step that is due; return when the next one is, or None. Raises DatabaseTrouble."""
        next_step = await self._delivery.deliver(key)
        next_test = await self._slot_tests.deliver(key) if self._rotates() else None
        return min((at for at in (next_step, next_test) if at is not None), default=None)
