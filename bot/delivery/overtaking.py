"""Interrupts a check as soon as something more urgent is due in its bucket; the check starts again later."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from bot.model.errors import BotError


class Overtaken(Exception):  # noqa: N818 - not an error: something else comes first
    """Something more urgent is due in the same bucket."""


@asynccontextmanager
async def until_overtaken(is_overtaken: Callable[[], Awaitable[bool]], look_every: timedelta) -> AsyncIterator[None]:
    """Cancel the body once `is_overtaken` returns true, and raise Overtaken.

    A body that finishes before the cancellation reaches it counts as finished, so what it acquired is not lost.
    """
    try:
        async with asyncio.timeout(None) as scope:
            watcher = asyncio.create_task(_watch(scope, is_overtaken, look_every))
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError:
        if scope.expired():
            raise Overtaken from None
        raise


async def _watch(scope: asyncio.Timeout, is_overtaken: Callable[[], Awaitable[bool]], look_every: timedelta) -> None:
    while True:
        await asyncio.sleep(look_every.total_seconds())
        try:
            if await is_overtaken():
                scope.reschedule(asyncio.get_running_loop().time())
                return
        except BotError:  # lease lost or database down: the body gets the same error
            continue
