"""Goes through many items without holding up other work: what people wait for has its turn in between."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

AT_ONCE: Final = 250
"""Items between two turns of others: a few milliseconds."""

_T = TypeVar("_T")


async def in_turns(items: Iterable[_T]) -> AsyncIterator[_T]:
    """Yield each of the items that there are now."""
    for number, item in enumerate([*items]):
        if number and number % AT_ONCE == 0:
            await asyncio.sleep(0)
        yield item
