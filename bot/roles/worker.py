"""What a worker starts: delivery, the refresh of the catalogs, housekeeping, and the audit's webhook."""

from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial

from bot.catalogs.checks import tell_served_once
from bot.catalogs.refresh import CatalogsByOthers, SnapshotKeeper
from bot.catalogs.reminders import CredentialWatch
from bot.clients import cloudflare_client
from bot.cloudflare.access import CloudflareAccess
from bot.cloudflare.client import CloudflareClient
from bot.delivery.asking import Asking
from bot.delivery.deliver import Delivery
from bot.delivery.run_inline import InlineDispatcher
from bot.model.catalog import BucketKey
from bot.operations.audit_webhook import AuditWebhook, Receiver, of_audit_webhook
from bot.operations.checks import jobs_check
from bot.operations.housekeeping import KeepHouse, keep_house, keep_house_forever
from bot.operations.sources import of_pace
from bot.policy.rules import Verb, grants
from bot.roles.base import Base, pace_of
from bot.roles.fleet import start_fleets
from bot.roles.minter import installations_of
from bot.roles.slack_side import SlackSide
from bot.rotation.bucket_work import BucketWork
from bot.rotation.schedule import RotationSchedule
from bot.rotation.slot_test import SlotTests
from bot.sealing.hpke import KeyRing
from bot.slack.messages.posting import Poster
from bot.slack.response_url import ResponseUrls
from bot.storage.approvals import Approvals
from bot.storage.audit_outbox import AuditOutbox
from bot.storage.fleets import Fleets
from bot.storage.minted_tokens import MintedTokens
from bot.storage.opening import Store

Refresher = SnapshotKeeper | CatalogsByOthers
"""Refreshes the catalogs from Cloudflare: in this process, or by a job for a worker."""


async def start_worker(
    base: Base, side: SlackSide, tokens: MintedTokens, fleets: Fleets, stack: AsyncExitStack
) -> Refresher:
    """Start what calls Cloudflare with the bot's own credentials; `stack` ends it."""
    store = base.store
    assert store.key_ring is not None  # noqa: S101 - only those who do not deliver have none
    pace = pace_of(base)
    base.metrics_port.add(of_pace(pace.left))
    cloudflare = cloudflare_client(base.settings, pace, base.comparison, base.metrics, base.right_of_way)
    stack.push_async_callback(cloudflare.aclose)
    poster = Poster(
        web=side.slack,
        post_by_response_url=ResponseUrls(side.slack_post, store.key_ring, store.clock).post,
        clock=store.clock,
        contact=side.contact,
        may_enable=base.policy.offers_enabling,
        find_predecessor=tokens.predecessor_of,
        may_rotate=side.rotations.is_offered,
        channels=side.channels,
        sees=side.gate.sees,
    )
    delivery = BucketWork(
        _delivery(base, side, cloudflare, store.key_ring, poster),
        SlotTests(cloudflare, tokens, store.clock),
        rotates=partial(_rotates, base),
    )
    access = CloudflareAccess(cloudflare, clock=store.clock)
    base.conditions.add(access.check())
    keeper = SnapshotKeeper(
        cloudflare, store.catalogs, store.clock, tell_served_once(side.gate.serves), access.note_list
    )
    watch = CredentialWatch(
        store.catalogs,
        poster,
        store.clock,
        base.settings.expiry_reminders,
        serves=side.gate.serves,
        is_authentic=store.submissions.is_stored_by_the_bot,
        scheduled=base.scheduled,
    )
    start_fleets(base, fleets, tokens, poster)
    keep = partial(keep_house, store, watch, _schedule(base, side, tokens))
    if base.settings.audit_webhook is not None:
        _send_audit(base, base.settings.audit_webhook)
    if base.settings.postgres_url is not None:
        return _run_jobs(base, base.settings.postgres_url.reveal(), tokens, delivery, keeper, keep)
    dispatcher = InlineDispatcher(delivery, partial(_find_unfinished, base, tokens), store.clock)
    store.submissions.wake_by(dispatcher.dispatch)
    stack.push_async_callback(dispatcher.stop)
    await dispatcher.start()
    base.keep_running(dispatcher.look_forever())
    base.keep_running(keeper.run())
    base.keep_running(keep_house_forever(keep))
    return keeper


def catalogs_by_others(store: Store) -> CatalogsByOthers:
    """Return what asks a worker for a refresh of the catalogs."""
    assert store.jobs is not None  # noqa: S101 - the settings require PostgreSQL for every role but "all"
    return CatalogsByOthers(store.jobs.refresh_catalogs, store.clock)


def _delivery(base: Base, side: SlackSide, cloudflare: CloudflareClient, key_ring: KeyRing, poster: Poster) -> Delivery:
    store = base.store
    return Delivery(
        submissions=store.submissions,
        catalogs=store.catalogs,
        cloudflare=cloudflare,
        key_ring=key_ring,
        gate=side.gate,
        poster=poster,
        asking=Asking(Approvals(store.database), poster, store.submissions.chain.authenticity, store.clock),
        clock=store.clock,
        fresh_token_patience=base.settings.fresh_token_patience,
        metrics=base.metrics,
        right_of_way=base.right_of_way,
        rotate_grace=lambda: base.settings.rotate_grace if _rotates(base) else None,
    )


def _schedule(base: Base, side: SlackSide, tokens: MintedTokens) -> RotationSchedule:
    store = base.store
    return RotationSchedule(
        scheduled=base.scheduled,
        catalogs=store.catalogs,
        submissions=store.submissions,
        tokens=tokens,
        installations=installations_of(base),
        is_authentic=store.submissions.is_stored_by_the_bot,
        team_id=side.gate.home.team_id,
        ttl=base.settings.ttl,
        clock=store.clock,
    )


def _rotates(base: Base) -> bool:
    """Return whether any rule lets anyone rotate; which process makes the tokens does not matter here."""
    return grants(base.policy.rules, Verb.ROTATE)


async def _find_unfinished(base: Base, tokens: MintedTokens) -> list[BucketKey]:
    """Return the buckets with submissions that are not reported or, where rotation is on, with slots to be tested."""
    to_test = await tokens.to_test() if _rotates(base) else ()
    return sorted({*await base.store.submissions.unreported_keys(), *to_test})


async def _find_overdue(base: Base, tokens: MintedTokens, due_before: datetime) -> list[BucketKey]:
    """Return those that had something due before that time."""
    to_test = await tokens.to_test(due_before) if _rotates(base) else ()
    return sorted({*await base.store.submissions.overdue_keys(due_before), *to_test})


def _run_jobs(  # noqa: PLR0913, PLR0917 - what `start_worker` has built
    base: Base, url: str, tokens: MintedTokens, delivery: BucketWork, keeper: SnapshotKeeper, keep: KeepHouse
) -> Refresher:
    from bot.delivery.run_jobs import JobRunner  # noqa: PLC0415 - the extra "postgres"

    store = base.store
    assert store.jobs is not None  # noqa: S101 - it is PostgreSQL
    runner = JobRunner(
        url=url,
        jobs=store.jobs,
        find_overdue=partial(_find_overdue, base, tokens),
        delivery=delivery,
        refresh_catalogs=lambda tests: keeper.refresh_unless_fresh(tests=tests),
        keep_house=keep,
        clock=store.clock,
    )
    base.conditions.add(jobs_check(lambda: runner.is_working))
    base.keep_running(runner.run())
    return catalogs_by_others(store)


def _send_audit(base: Base, url: str) -> None:
    """Send the audit's entries to the operator's webhook."""
    store = base.store
    outbox = AuditOutbox(store.database, store.clock)
    receiver = Receiver(url, store.submissions.chain.authenticity, base.settings.network, store.clock)
    webhook = AuditWebhook(receiver, outbox, store.clock)
    base.conditions.add(webhook.check())
    base.metrics_port.add(of_audit_webhook(outbox))
    base.keep_running(webhook.run())
