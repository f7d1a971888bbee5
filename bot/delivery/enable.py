"""Enables a bucket's catalog: safe to repeat, so an unclear outcome is simply tried again."""

from bot.cloudflare.exchange import Turn
from bot.delivery.step import MaySend, Step
from bot.model.move import Move
from bot.model.submission import Pending, State


class Enable(Step):
    """Gives the bucket a catalog, or switches its catalog on again."""

    name = "enable"
    label = "Enable the catalog at Cloudflare"

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:
        """Enable it, and record that: the form behind the result's button would otherwise still show no catalog."""
        key = pending.submission.key
        await self._tools.cloudflare.enable_catalog(key, may_send=may_send, turn=turn)
        await self._tools.catalogs.note_enabled(key)
        return Move(to=State.ENABLED, at=self._tools.clock())
