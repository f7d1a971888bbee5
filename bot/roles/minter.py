"""What a minter starts, and how the other processes know of it."""

from collections.abc import Sequence

from bot.model.finding import Finding
from bot.operations.rotation_switch import has_own_switch, minter_check, rotation_check
from bot.roles.base import Base
from bot.storage.installations import Installations


def watch_minter(base: Base) -> None:
    """Examine whether another process mints, or what keeps this one from it: it has no token to do so."""
    settings, store = base.settings, base.store
    chain = store.submissions.chain
    installations = Installations(store.database, chain.authenticity, settings.cloudflare_account_id, store.clock)

    async def examine_nothing() -> Sequence[Finding]:
        return []

    base.conditions.add(
        rotation_check(settings, lambda: base.policy.rules, examine_nothing)
        if has_own_switch(settings)
        else minter_check(settings, lambda: base.policy.rules, installations.standing, store.clock)
    )
