"""An answer that may be asked for at any rate, and is found out at most once a second."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, Generic, TypeVar

from bot.model.background import Background

OLDEST: Final = timedelta(seconds=1)
"""Anyone may ask at any rate, and each fresh answer costs a commit."""

_T = TypeVar("_T")


class Recent(Generic[_T]):
    """Asks at most once a second, however many clients ask; those who ask meanwhile share the answer."""

    def __init__(self, find_out: Callable[[], Awaitable[_T]], unknown: _T) -> None:
        """Take the question, and the answer that is valid for a second if asking fails."""
        self._find_out = find_out
        self._unknown = unknown
        self._asking = Background("question_broke")
        self._asked_at = -OLDEST.total_seconds()
        self._answer = unknown

    def forget(self) -> None:
        """Find it out again when it is next asked for: something has changed it."""
        self._asked_at = -OLDEST.total_seconds()

    async def ask(self) -> _T:
        """Return an answer that is less than a second old; raises what asking raises."""
        age = asyncio.get_running_loop().time() - self._asked_at
        if age < OLDEST.total_seconds() and not self._asking.tasks:
            return self._answer
        return await self._asking.shield(self._ask, name="ask")

    async def _ask(self) -> _T:
        self._asked_at, self._answer = asyncio.get_running_loop().time(), self._unknown
        self._answer = await self._find_out()
        return self._answer
