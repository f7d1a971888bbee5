"""A scripted delivery, for the tests of both dispatchers."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from bot.delivery.deliver import Delivery
from bot.model.catalog import BucketKey

PATIENCE = timedelta(seconds=60)
Answer = datetime | timedelta | Exception | None
"""When to come back (a timedelta counts from the answer), an error to raise, or None if nothing is left."""


class ScriptedDelivery(Delivery):
    """Records each start, and follows the test's script."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[BucketKey] = asyncio.Queue()
        self.running: list[BucketKey] = []
        self.most_of_one_bucket = 0
        self.answers: list[Answer] = []
        self.act: Callable[[BucketKey], Awaitable[None]] | None = None

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Act, then return or raise the next answer; None if there is no other."""
        self.running.append(key)
        self.most_of_one_bucket = max(self.most_of_one_bucket, self.running.count(key))
        self.started.put_nowait(key)
        try:
            if self.act is not None:
                await self.act(key)
            answer = self.answers.pop(0) if self.answers else None
        finally:
            self.running.remove(key)
        if isinstance(answer, Exception):
            raise answer
        return datetime.now(UTC) + answer if isinstance(answer, timedelta) else answer

    async def next_start(self) -> BucketKey:
        """Wait for the next start."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await self.started.get()
