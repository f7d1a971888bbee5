"""What a minter starts: all that speaks to Cloudflare about tokens. And how the other processes know of it."""

from contextlib import AsyncExitStack

from bot.clients import minting_client
from bot.cloudflare.minter import MintingClient
from bot.model.catalog import BucketKey
from bot.model.finding import Finding
from bot.operations.rotation_switch import has_own_switch, is_rotation_on, minter_check, rotation_check
from bot.policy.rules import Request, Verb
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


def minted_tokens_of(base: Base) -> MintedTokens:
    """Return the tokens that the bot makes, as they are recorded."""
    store, account_id = base.store, base.settings.cloudflare_account_id
    return MintedTokens(store.database, store.submissions, account_id, store.clock)


def installations_of(base: Base) -> Installations:
    """Return what is recorded of this installation's minter."""
    store, account_id = base.store, base.settings.cloudflare_account_id
    return Installations(store.database, store.submissions.chain.authenticity, account_id, store.clock)


async def start_minter(base: Base, tokens: MintedTokens, stack: AsyncExitStack) -> Minter | None:
    """Start what makes tokens and takes them back, if this process has the token for that; `stack` ends it.

    It waits while no rule grants the verb: the policy can be read again.
    """
    if base.settings.cloudflare_minting_token is None:
        return None
    installations = installations_of(base)
    cloudflare = await _client(base, installations)
    stack.push_async_callback(cloudflare.aclose)
    minter = _minter(base, cloudflare, installations, tokens)
    tokens.wake_minter_by(minter.wake)
    base.store.submissions.watch(lambda change: minter.wake(change.submission.key))
    base.keep_running(minter.run())
    return minter


def watch_minter(base: Base) -> None:
    """Examine whether rotation is on, and where another process mints, whether that one is at work."""
    settings, store = base.settings, base.store

    async def examine_nothing() -> list[Finding]:
        return []

    base.conditions.add(
        rotation_check(settings, lambda: base.policy.rules, examine_nothing)
        if has_own_switch(settings)
        else minter_check(settings, lambda: base.policy.rules, installations_of(base).standing, store.clock)
    )


async def _client(base: Base, installations: Installations) -> MintingClient:
    def serves(key: BucketKey) -> bool:
        request = Request(verb=Verb.ROTATE, key=key)
        return any(rule.refuse_of_anybody(request) is None for rule in base.policy.rules)

    return minting_client(
        base.settings,
        installation=await installations.mark(),
        serves=serves,
        pace=pace_of(base, of_minting=True),
        comparison=base.comparison,
        metrics=base.metrics,
    )


def _minter(base: Base, cloudflare: MintingClient, installations: Installations, tokens: MintedTokens) -> Minter:
    settings, store = base.settings, base.store
    clock, submissions = store.clock, store.submissions
    quota = Quota(
        most=settings.rotate_quota, cloudflare=cloudflare, installations=installations, tokens=tokens, clock=clock
    )
    making = Making(
        cloudflare=cloudflare,
        tokens=tokens,
        scope=settings.rotate_scope,
        sealing_key=lambda: store.sealing.sealing_key,
        lifetime=Lifetime(
            every=settings.rotate_every, rules=lambda: base.policy.rules, globs=settings.rotate_buckets
        ),
        quota=quota,
        clock=clock,
    )
    healing = Healing(submissions, store.catalogs, clock, settings.ttl)
    taking_back = TakingBack(cloudflare=cloudflare, tokens=tokens, heal=healing.heal, clock=clock)
    house = Housekeeping(
        cloudflare=cloudflare,
        tokens=tokens,
        installations=installations,
        quota=quota,
        scope=settings.rotate_scope,
        clock=clock,
    )
    return Minter(
        tokens=tokens,
        making=making,
        taking_back=taking_back,
        house=house,
        is_on=lambda: is_rotation_on(settings, base.policy.rules),
        clock=clock,
        polls=store.jobs is not None,
    )
