"""What a minter starts: all that speaks to Cloudflare about tokens. And how the other processes know of it."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

from bot.clients import minting_client
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.minting_access import MintingAccess
from bot.model.catalog import BucketKey
from bot.model.errors import DatabaseTrouble, RecordForged, StartRefused
from bot.model.finding import Check
from bot.operations.rotation_gauges import of_rotation
from bot.operations.rotation_switch import has_own_switch, is_rotation_on, minter_check, rotation_check
from bot.operations.sources import of_pace
from bot.policy.rules import Request, Verb, find_fitting
from bot.roles.base import Base, pace_of
from bot.rotation.heal import Healing
from bot.rotation.housekeeping import Housekeeping
from bot.rotation.lifetime import Lifetime
from bot.rotation.make import Making
from bot.rotation.minter import Minter
from bot.rotation.quota import Quota
from bot.rotation.take_back import TakingBack
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens
from bot.storage.trouble import DATABASE_SETTING

_PAUSE: Final = timedelta(seconds=1)
_FORGED: Final = (
    "what marks the bot's tokens at Cloudflare was not recorded by the bot, so it could take those of others for its "
    "own; find out who writes to this database, and run `r2-credential-bot audit verify`"
)


def minted_tokens_of(base: Base) -> MintedTokens:
    """Return the tokens that the bot makes, as they are recorded."""
    store, account_id = base.store, base.settings.cloudflare_account_id
    return MintedTokens(store.database, store.submissions, account_id, store.clock)


def installations_of(base: Base) -> Installations:
    """Return what is recorded of this installation's minter."""
    store, account_id = base.store, base.settings.cloudflare_account_id
    return Installations(store.database, store.submissions.chain.authenticity, account_id, store.clock)


def lifetime_of(base: Base) -> Lifetime:
    """Return how long a token lives that a minter makes: the settings are those of every process."""
    settings = base.settings
    return Lifetime(every=settings.rotate_every, rules=lambda: base.policy.rules, globs=settings.rotate_buckets)


async def start_minter(base: Base, tokens: MintedTokens, stack: AsyncExitStack) -> None:
    """Start what makes tokens and takes them back, if this process has the token for that; `stack` ends it.

    It waits while no rule grants the verb: the policy can be read again. Without the token, it is examined whether
    another process mints.
    """
    if base.settings.cloudflare_minting_token is None:
        base.conditions.add(_watch_others(base))
        return
    installations = installations_of(base)
    cloudflare = await _client(base, installations)
    stack.push_async_callback(cloudflare.aclose)
    base.conditions.add(_watch(base, cloudflare))
    minter = _minter(base, cloudflare, installations, tokens)
    tokens.wake_minter_by(minter.wake)
    base.store.submissions.watch(lambda change: minter.wake(change.submission.key))
    base.keep_running(minter.run())


def show_rotation(base: Base, tokens: MintedTokens) -> None:
    """Show in every process what is known of the bot's own tokens."""
    store = base.store
    base.metrics_port.add(of_rotation(tokens, installations_of(base), store.catalogs, base.scheduled, store.clock))


def _watch(base: Base, cloudflare: MintingClient) -> Check:
    settings = base.settings
    access = MintingAccess(
        cloudflare,
        settings.rotate_scope,
        base.store.clock,
        quota=settings.rotate_quota,
        blocks=not settings.role.delivers,
    )
    return rotation_check(settings, lambda: base.policy.rules, access.examine)


def _watch_others(base: Base) -> Check:
    if has_own_switch(base.settings):
        return rotation_check(base.settings, lambda: base.policy.rules)
    standing = installations_of(base).standing
    return minter_check(base.settings, lambda: base.policy.rules, standing, base.store.clock)


async def _client(base: Base, installations: Installations) -> MintingClient:
    def serves(key: BucketKey) -> bool:
        return bool(find_fitting(base.policy.rules, Request(verb=Verb.ROTATE, key=key)))

    pace = pace_of(base, of_minting=True)
    if not base.settings.role.delivers:
        base.metrics_port.add(of_pace(pace.left))  # of one that delivers, it is that of its own token
    return minting_client(
        base.settings,
        installation=await _find_mark(
            installations, lambda: base.conditions.note(base.store.database.trouble.finding())
        ),
        serves=serves,
        pace=pace,
        comparison=base.comparison,
        metrics=base.metrics,
    )


async def _find_mark(installations: Installations, note_trouble: Callable[[], None]) -> str:
    """Return the mark of this installation's tokens; waits for a database in trouble. Raises StartRefused."""
    while True:
        try:
            return await installations.mark()
        except DatabaseTrouble:
            note_trouble()
            await asyncio.sleep(_PAUSE.total_seconds())
        except RecordForged:
            message = f"{DATABASE_SETTING}: {_FORGED}"
            raise StartRefused(message) from None


def _minter(base: Base, cloudflare: MintingClient, installations: Installations, tokens: MintedTokens) -> Minter:
    settings, store = base.settings, base.store
    clock, submissions = store.clock, store.submissions
    quota = Quota(
        most=settings.rotate_quota, cloudflare=cloudflare, installations=installations, tokens=tokens, clock=clock
    )
    house = Housekeeping(
        cloudflare=cloudflare,
        tokens=tokens,
        installations=installations,
        quota=quota,
        scope=settings.rotate_scope,
        clock=clock,
        metrics=base.metrics,
    )
    making = Making(
        cloudflare=cloudflare,
        tokens=tokens,
        scope=settings.rotate_scope,
        sealing_key=lambda: store.sealing.sealing_key,
        lifetime=lifetime_of(base),
        quota=quota,
        clock=clock,
        on_refusal=house.look_again,
    )
    healing = Healing(submissions, store.catalogs, clock, settings.ttl)
    taking_back = TakingBack(cloudflare=cloudflare, tokens=tokens, heal=healing.heal, clock=clock)
    return Minter(
        tokens=tokens,
        making=making,
        taking_back=taking_back,
        house=house,
        is_on=lambda: is_rotation_on(settings, base.policy.rules),
        clock=clock,
        polls=store.jobs is not None,
    )
