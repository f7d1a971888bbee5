"""Breaks off what can wait as soon as something that cannot has come: a check is asked again from its start."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from bot.model.errors import BotError


class Overtaken(Exception):  # noqa: N818 - not an error: something else comes first
    """Something more urgent is due in the same bucket."""


@asynccontextmanager
async def until_overtaken(is_overtaken: Callable[[], Awaitable[bool]], look_every: timedelta) -> AsyncIterator[None]:
    """Cancel what is waited for inside once `is_overtaken` says so, and raise Overtaken.

    What is not cancelled any more was done, and counts: nothing that was got hold of inside is lost on the way out.
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
        except BotError:  # the bucket was taken, or the database is away: whoever is inside meets that as well
            continue
