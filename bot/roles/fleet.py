"""What rotating many buckets at once needs, in a worker, where its engine runs, and in a gateway."""

from bot.roles.base import Base
from bot.roles.minter import installations_of
from bot.rotation.fleet import FleetEngine, FleetPoster
from bot.rotation.fleet_room import FleetRoom
from bot.storage.fleets import Fleets
from bot.storage.minted_tokens import MintedTokens


def fleets_of(base: Base) -> Fleets:
    """Return the fleets, as they are recorded."""
    store, account_id = base.store, base.settings.cloudflare_account_id
    return Fleets(store.database, store.submissions, account_id, store.clock)


def room_of(base: Base, tokens: MintedTokens) -> FleetRoom:
    """Return what knows how many more tokens the account may have."""
    return FleetRoom(tokens, installations_of(base), base.settings.rotate_quota, base.store.clock)


def start_fleets(base: Base, fleets: Fleets, tokens: MintedTokens, poster: FleetPoster) -> None:
    """Work on what was begun, in one process at a time, until the bot stops."""
    engine = FleetEngine(
        fleets=fleets,
        room=room_of(base, tokens),
        poster=poster,
        clock=base.store.clock,
        ttl=base.settings.ttl,
        polls=base.store.jobs is not None,
    )
    fleets.wake_by(engine.wake)
    base.keep_running(engine.run())
