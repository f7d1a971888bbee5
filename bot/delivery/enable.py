"""Enables a bucket's catalog: safe to repeat, so what is unclear is simply done again."""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from bot.cloudflare.client import CloudflareClient, Turn
from bot.delivery.step import MaySend
from bot.model.move import Move
from bot.model.submission import Pending, State, Submission


class Enable:
    """Gives the bucket a catalog, or switches its catalog on again."""

    state: ClassVar = State.VERIFYING
    label: ClassVar = "Enable the catalog at Cloudflare"

    def __init__(self, cloudflare: CloudflareClient, clock: Callable[[], datetime]) -> None:
        self._cloudflare = cloudflare
        self._clock = clock

    def is_done(self, _: Submission, __: datetime) -> bool:
        """Not before it has ended."""
        return False

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:
        """Enable it."""
        await self._cloudflare.enable_catalog(pending.submission.key.bucket, may_send=may_send, turn=turn)
        return Move(to=State.ENABLED, at=self._clock())
