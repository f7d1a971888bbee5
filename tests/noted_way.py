"""A right of way that lets everything pass, and notes what asked for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bot.model.right_of_way import RightOfWay


class NotedWay(RightOfWay):
    """Notes what `look` returns each time that something gives way, and whether an acknowledgement is in progress."""

    def __init__(self, look: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._look = look
        self.noted: list[object] = []
        self.is_acknowledging = False

    @contextmanager
    def acknowledging(self) -> Iterator[None]:
        """Note it meanwhile."""
        self.is_acknowledging = True
        try:
            with super().acknowledging():
                yield
        finally:
            self.is_acknowledging = False

    async def give_way(self, urgency: int = 0) -> None:
        """Note it, and let it pass."""
        self.noted.append(self._look())
