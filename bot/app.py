"""The composition root: connects the parts of a running bot. `run` runs the process."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from bot.catalogs.checks import catalogs_check, tell_served_once
from bot.catalogs.refresh import CatalogsByOthers, SnapshotKeeper
from bot.catalogs.reminders import CredentialWatch
from bot.clients import cloudflare_client, open_slack, services, slack_app_token, slack_signers
from bot.cloudflare.access import CloudflareAccess
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.pace import LocalPace, SharedPace
from bot.delivery.asking import Asking
from bot.delivery.deliver import Delivery
from bot.delivery.run_inline import InlineDispatcher
from bot.metrics import ACCESS_REFUSED, Metrics
from bot.model.background import Background
from bot.model.clock import SteadyClock, steady_clock
from bot.model.clock_comparison import ClockComparison
from bot.model.errors import DatabaseTrouble, RecordDamaged
from bot.model.right_of_way import RightOfWay
from bot.model.token_scope import TokenScope
from bot.operations.audit_webhook import AuditWebhook, Receiver, of_audit_webhook
from bot.operations.changes import count_endings, log_change
from bot.operations.checks import jobs_check
from bot.operations.clock_watch import ClockWatch
from bot.operations.conditions import Conditions, is_ready
from bot.operations.descriptors import raise_limit
from bot.operations.housekeeping import keep_house, keep_house_forever
from bot.operations.metrics import MetricsPort
from bot.operations.network_checks import network_check
from bot.operations.policy_source import PolicySource, name_policy
from bot.operations.ports import open_ports
from bot.operations.refused_attempts import RefusedAttempts
from bot.operations.server import Server
from bot.operations.sources import of_audit, of_database, of_pace, of_process
from bot.operations.start_report import describe_start
from bot.operations.stop_budget import LAST_RESORT, Stage, StopBudget
from bot.operations.stop_signals import StopSignals
from bot.policy.attempt import RefusedAttempt
from bot.policy.gate import Gate
from bot.rotation.lifetime import Lifetime
from bot.settings import Settings, SlackSettings
from bot.slack.api import SlackWeb
from bot.slack.channels import Channels
from bot.slack.checks import slack_checks
from bot.slack.checks.people import report_people
from bot.slack.checks.transport import http_check, socket_check
from bot.slack.inbound.bolt import build_bolt_app
from bot.slack.inbound.http import HttpIngress
from bot.slack.inbound.ingress import Ingress
from bot.slack.inbound.owner import Owner
from bot.slack.inbound.routes import Routes
from bot.slack.inbound.socket_mode import SocketModeIngress
from bot.slack.memberships import Memberships
from bot.slack.messages.posting import Poster
from bot.slack.messages.progress import ModalProgress
from bot.slack.profiles import Profiles
from bot.slack.progress_steps import steps_of
from bot.slack.prospect import Terms
from bot.slack.response_url import ResponseUrls, SlackPost
from bot.slack.rotations import Rotations
from bot.slack.startup import identify_home, open_first_connection
from bot.slack.stories.approve import DecideRequest
from bot.slack.stories.enable import EnableCatalog
from bot.slack.stories.help import Help
from bot.slack.stories.history import History
from bot.slack.stories.home import AppHome
from bot.slack.stories.live_table import LiveTables
from bot.slack.stories.masked_reason import MaskedReasons
from bot.slack.stories.open_form import StoreForm
from bot.slack.stories.parts import Parts
from bot.slack.stories.rotate import RotateCredential
from bot.slack.stories.search import BucketSearch
from bot.slack.stories.status import Status
from bot.slack.stories.store import StoreCredential
from bot.slack.stories.try_again import TryAgain
from bot.slack.stories.visibility import Visibility
from bot.slack.traffic import SlackTraffic
from bot.storage.approvals import Approvals
from bot.storage.audit_outbox import AuditOutbox
from bot.storage.audit_watch import AuditWatch
from bot.storage.chain_start import HEAD_FILE
from bot.storage.checks import storage_checks
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens
from bot.storage.opening import Store, open_store, settle_at_the_start
from bot.storage.start_clock import not_before_what_is_recorded

_MOST_MODALS: Final = 50
"""After a restart, so many of the latest submissions have their result shown in their modal, if that is open."""

_log = structlog.get_logger()


async def run(settings: Settings) -> timedelta:
    """Run the bot until SIGTERM or SIGINT, and return how long the process may still take to end.

    Raises StartRefused or a BotError when it cannot start. A stop that takes too long ends the process.
    """
    raise_limit()
    stopped, hang_up, loop, budget = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop(), StopBudget()
    begin, reload = (partial(loop.call_soon_threadsafe, event.set) for event in (stopped, hang_up))
    with StopSignals(budget, begin, hang_up=reload):
        stop, life = asyncio.create_task(stopped.wait()), asyncio.create_task(_live(settings, budget, hang_up))
        await asyncio.wait({stop, life}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            _log.info("stopping")
            life.cancel()  # also during the start, which may be waiting for Slack
        with suppress(asyncio.CancelledError):
            await life
        _log.info("stopped")
    return budget.left(LAST_RESORT)


async def _live(settings: Settings, budget: StopBudget, hang_up: asyncio.Event) -> None:
    async with running(settings, budget=budget, hang_up=hang_up) as bot:
        _collect_only_what_is_new()
        forever = asyncio.ensure_future(asyncio.Event().wait())  # a gateway over HTTP has no background task
        done, _ = await asyncio.wait([forever, *bot.background], return_when=asyncio.FIRST_COMPLETED)
        for broken in done:
            broken.result()  # background tasks end only by failing: this raises the error


def _collect_only_what_is_new() -> None:
    """Take what the start has made, and what stays as long as the process, out of the garbage collector's sight.

    A full collection went through all of it, and delayed acknowledgements by up to 90 ms.
    """
    gc.collect()
    gc.freeze()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBot:
    """A started bot: how Slack reaches it, where it listens, and the tasks that `run` waits for."""

    transport: str
    http_address: str
    metrics_address: str | None
    background: tuple[asyncio.Task[None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """What the bot is watched by."""

    metrics: Metrics
    conditions: Conditions
    right_of_way: RightOfWay
    policy: PolicySource


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """The parts that every role has."""

    settings: SlackSettings
    store: Store
    audit: AuditWatch
    slack: SlackWeb
    web_client: AsyncWebClient
    slack_post: SlackPost
    metrics: Metrics
    traffic: SlackTraffic
    gate: Gate
    channels: Channels
    background: list[asyncio.Task[None]]
    conditions: Conditions
    right_of_way: RightOfWay
    policy: PolicySource
    rotations: Rotations

    @property
    def contact(self) -> str:
        """The contact that refused people are referred to; empty if none is set."""
        return self.settings.contact or ""

    def keep_running(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a background task until the bot stops."""
        self.background.append(asyncio.create_task(work))


@asynccontextmanager
async def running(
    settings: Settings,
    clock: Callable[[], datetime] | None = None,
    budget: StopBudget | None = None,
    hang_up: asyncio.Event | None = None,
) -> AsyncIterator[RunningBot]:
    """Start what the role needs, and stop it in reverse order, each stage within its time of the one budget.

    The port answers from the beginning, "not ready" while the bot waits for the database or Slack. The policy is read
    again each time `hang_up` is set.
    Raises StartRefused, with the fix, before any work is accepted.
    """
    assert isinstance(settings, SlackSettings)  # noqa: S101 - `run` offers no other role
    budget, policy = budget or StopBudget(), PolicySource(settings)
    async with budget.stage(Stage.PORT) as port, budget.stage(Stage.DATABASE) as database:
        metrics, conditions = Metrics(), Conditions()
        right_of_way = RightOfWay()
        watched = _Watched(metrics=metrics, conditions=conditions, right_of_way=right_of_way, policy=policy)
        server, metrics_port = Server(metrics=metrics), MetricsPort(metrics)
        metrics_port.attach(conditions.ask)
        address, metrics_address = await open_ports(server, metrics_port, settings, port)
        conditions.wait_for("the database")
        store = await open_store(settings, database, clock, conditions.note)
        conditions.add(*storage_checks(store, None if store.jobs else settings.database_path.parent))
        conditions.wait_for("Slack")
        is_worker, is_gateway = settings.role.delivers, settings.role.takes_payloads
        comparison = ClockComparison()
        pace = _pace(settings, store, clock)
        cloudflare = cloudflare_client(settings, pace, comparison, metrics, right_of_way) if is_worker else None
        async with (
            budget.stage(Stage.MODALS) as modals,
            budget.stage(Stage.DELIVERIES) as deliveries,
            budget.stage(Stage.ANSWERS) as answers,
        ):
            base = await _begin(settings, store, modals, SlackTraffic(comparison, metrics), watched)
            catalogs = await _start_worker(base, cloudflare, deliveries) if cloudflare else _by_others(store)
            deliveries.push_async_callback(_cancel, base.background)
            if isinstance(store.clock, SteadyClock):
                base.keep_running(_clock_watch(store, store.clock).run())
            base.keep_running(policy.reload_at(hang_up or asyncio.Event()))
            socket = await _start_gateway(base, catalogs, server, answers) if is_gateway else None
            if not is_gateway:
                server.attach(None, partial(_is_ready, conditions))
            if is_gateway and socket is None:
                answers.push_async_callback(server.stop_after_notice)
            else:
                answers.callback(server.begin_stop)
            transport = "socket_mode" if socket else "http" if is_gateway else "none"
            conditions.add(comparison.check(services(settings), refuses=transport == "http"))
            _watch_more(base, transport, socket, pace if is_worker else None, metrics_port)
            if is_worker and settings.audit_webhook is not None:
                _send_audit(base, settings.audit_webhook, metrics_port)
            answers.callback(metrics_port.begin_stop)
            await conditions.begin(
                **describe_start(
                    settings, policy.rules, transport=transport, http_address=address, metrics_address=metrics_address
                )
            )
            server.look_again()
            base.keep_running(conditions.run())
            yield RunningBot(
                transport=transport,
                http_address=address,
                metrics_address=metrics_address,
                background=tuple(base.background),
            )


def _watch_more(
    base: _Base, transport: str, socket: SocketModeIngress | None, pace: SharedPace | None, metrics_port: MetricsPort
) -> None:
    """Examine and show what every role has, in addition to what its parts have added; `pace` is that of a worker."""
    settings, store = base.settings, base.store
    catalogs = catalogs_check(store.catalogs.snapshot, base.gate.serves, store.clock)
    base.conditions.add(
        network_check(settings), name_policy(catalogs, settings), *base.policy.checks(), base.audit.check()
    )
    metrics_port.add(
        of_database(store.database, store.catalogs, store.clock),
        of_audit(base.audit.count),
        of_process(settings, transport, None if socket is None else lambda: socket.open_connections),
    )
    if pace is not None:
        metrics_port.add(of_pace(pace.left))


def _send_audit(base: _Base, url: str, metrics_port: MetricsPort) -> None:
    """Send the audit's entries to the operator's webhook."""
    store = base.store
    outbox = AuditOutbox(store.database, store.clock)
    receiver = Receiver(url, store.submissions.chain.authenticity, base.settings.network, store.clock)
    webhook = AuditWebhook(receiver, outbox, store.clock)
    base.conditions.add(webhook.check())
    metrics_port.add(of_audit_webhook(outbox))
    base.keep_running(webhook.run())


async def _begin(
    settings: SlackSettings, store: Store, stack: AsyncExitStack, traffic: SlackTraffic, watched: _Watched
) -> _Base:
    slack, patient_client, patient_http = await open_slack(settings, stack, traffic, watched.metrics)
    progress = ModalProgress(
        slack,
        store.clock,
        settings.contact or "",
        steps_of,
        may_enable=watched.policy.offers_enabling,
        right_of_way=watched.right_of_way,
    )
    stack.push_async_callback(progress.drain)
    store.submissions.watch(log_change)
    store.submissions.watch(count_endings(watched.metrics))
    store.submissions.watch(progress.watch)
    await settle_at_the_start(store, watched.conditions.note)
    if settings.role.delivers:
        await _catch_up(progress, store, settings.cloudflare_account_id)
    memberships, profiles = Memberships(slack, store.clock), Profiles(slack, store.clock)
    policy = watched.policy
    attempts = RefusedAttempts(store.database, store.submissions.chain, store.clock)

    def note(attempt: RefusedAttempt) -> None:
        watched.metrics.count(ACCESS_REFUSED, attempt.refusal.code)
        attempts.note(attempt)

    gate = Gate(
        policy.rules,
        await identify_home(slack, watched.conditions.note),
        memberships,
        profiles,
        note=note,
    )
    policy.follow_by(gate.follow)
    checks = slack_checks(slack, traffic, memberships, profiles, store.clock, listed=policy.listed)
    watched.conditions.add(*(name_policy(each, settings) for each in checks))
    reporting, listed = Background("start_report_broke"), policy.listed()
    reporting.start(
        report_people(memberships, users=listed.users, usergroups=listed.usergroups)
    )  # the start does not wait for it
    stack.callback(reporting.cancel)
    base = _Base(
        settings=settings,
        audit=AuditWatch(store.database, store.submissions.chain, store.clock, settings.data_dir / HEAD_FILE),
        store=store,
        slack=slack,
        web_client=patient_client,
        slack_post=SlackPost(patient_http, settings.slack_api_url),
        metrics=watched.metrics,
        traffic=traffic,
        gate=gate,
        channels=Channels(slack, gate.allows_channel, store.clock),
        background=[],
        conditions=watched.conditions,
        right_of_way=watched.right_of_way,
        policy=policy,
        rotations=_rotations(settings, store, gate),
    )
    base.keep_running(attempts.run())
    return base


def _rotations(settings: SlackSettings, store: Store, gate: Gate) -> Rotations:
    """Return what Slack's side needs to know of the tokens that the bot makes, perhaps in another process."""
    account_id, chain = settings.cloudflare_account_id, store.submissions.chain
    terms = Terms(
        grace=settings.rotate_grace,
        quota=settings.rotate_quota,
        is_for_account=settings.rotate_scope is TokenScope.ACCOUNT,
    )
    return Rotations(
        gate=gate,
        tokens=MintedTokens(store.database, store.submissions, account_id, store.clock),
        installations=Installations(store.database, chain.authenticity, account_id, store.clock),
        catalogs=store.catalogs,
        lifetime=Lifetime(every=settings.rotate_every, rules=lambda: gate.rules).expires_at,
        terms=terms,
        clock=store.clock,
    )


def _clock_watch(store: Store, clock: SteadyClock) -> ClockWatch:
    async def is_idle() -> bool:
        return not await store.submissions.unreported_keys()

    return ClockWatch(clock, store.tell_time, partial(not_before_what_is_recorded, store.submissions), is_idle)


async def _catch_up(progress: ModalProgress, store: Store, account_id: str) -> None:
    with suppress(DatabaseTrouble, RecordDamaged):  # the results are in the channel, so the start goes on
        progress.catch_up(await store.submissions.history(account_id, None, _MOST_MODALS))


_Refresher = SnapshotKeeper | CatalogsByOthers
"""Refreshes the catalogs from Cloudflare: in this process, or by a job for a worker."""


async def _start_worker(base: _Base, cloudflare: CloudflareClient, stack: AsyncExitStack) -> _Refresher:
    """Start what calls Cloudflare: delivery, the refresh of the catalogs, and housekeeping."""
    settings, store = base.settings, base.store
    assert store.key_ring is not None  # noqa: S101 - only a gateway has none
    stack.push_async_callback(cloudflare.aclose)
    poster = Poster(
        web=base.slack,
        post_by_response_url=ResponseUrls(base.slack_post, store.key_ring, store.clock).post,
        clock=store.clock,
        contact=base.contact,
        may_enable=base.policy.offers_enabling,
        channels=base.channels,
        sees=base.gate.sees,
    )
    delivery = Delivery(
        submissions=store.submissions,
        catalogs=store.catalogs,
        cloudflare=cloudflare,
        key_ring=store.key_ring,
        gate=base.gate,
        poster=poster,
        asking=Asking(Approvals(store.database), poster, store.submissions.chain.authenticity, store.clock),
        clock=store.clock,
        fresh_token_patience=settings.fresh_token_patience,
        metrics=base.metrics,
        right_of_way=base.right_of_way,
    )
    access = CloudflareAccess(cloudflare, clock=store.clock)
    base.conditions.add(access.check())
    tell_served = tell_served_once(base.gate.serves)
    keeper = SnapshotKeeper(cloudflare, store.catalogs, store.clock, tell_served, access.note_list)
    watch = CredentialWatch(
        store.catalogs,
        poster,
        store.clock,
        settings.expiry_reminders,
        serves=base.gate.serves,
        is_authentic=store.submissions.is_stored_by_the_bot,
    )
    if store.jobs is not None and settings.postgres_url is not None:
        from bot.delivery.run_jobs import JobRunner  # noqa: PLC0415 - the extra "postgres"

        runner = JobRunner(
            url=settings.postgres_url.reveal(),
            jobs=store.jobs,
            submissions=store.submissions,
            delivery=delivery,
            refresh_catalogs=lambda tests: keeper.refresh_unless_fresh(tests=tests),
            keep_house=lambda: keep_house(store, watch),
            clock=store.clock,
        )
        base.conditions.add(jobs_check(lambda: runner.is_working))
        base.keep_running(runner.run())
        return _by_others(store)
    dispatcher = InlineDispatcher(delivery, store.submissions, store.clock)
    store.submissions.wake_by(dispatcher.dispatch)
    stack.push_async_callback(dispatcher.stop)
    await dispatcher.start()
    base.keep_running(keeper.run())
    base.keep_running(keep_house_forever(store, watch))
    return keeper


def _by_others(store: Store) -> CatalogsByOthers:
    assert store.jobs is not None  # noqa: S101 - the settings require PostgreSQL for every role but "all"
    return CatalogsByOthers(store.jobs.refresh_catalogs, store.clock)


async def _start_gateway(
    base: _Base, catalogs: _Refresher, server: Server, stack: AsyncExitStack
) -> SocketModeIngress | None:
    """Start what accepts Slack's payloads; return the Socket Mode ingress, or None with HTTP."""
    settings, store = base.settings, base.store
    parts = _parts(base, catalogs)
    tables = LiveTables(parts)
    stack.push_async_callback(tables.stop)
    app = build_bolt_app(_routes(parts, tables), base.gate.home)
    ingress = Ingress(
        app,
        store.sealing,
        settings.cloudflare_account_id,
        store.clock,
        owner=Owner(base.slack),
        fingerprint=store.submissions.chain.authenticity.fingerprint,
        metrics=base.metrics,
        right_of_way=base.right_of_way,
    )
    socket = await _socket_mode(base, ingress)
    if socket is not None:
        stack.push_async_callback(socket.close)
        await socket.connect()
        base.keep_running(socket.watch())
    http = _http_ingress(base, ingress) if socket is None else None
    if socket is None:
        base.conditions.add(http_check(len(settings.slack_signing_secrets)))
    else:
        base.conditions.add(socket_check(socket, base.slack, is_alone=store.jobs is None))
    server.attach(None if http is None else http.handle, partial(_is_ready, base.conditions))
    stack.push_async_callback(ingress.drain)  # answers need the clients, which are closed after this
    if socket is not None:
        stack.push_async_callback(socket.stop_taking)
    return socket


def _parts(base: _Base, catalogs: _Refresher) -> Parts:
    """Return the parts that stories use."""
    return Parts(
        account_id=base.settings.cloudflare_account_id,
        ttl=base.settings.ttl,
        contact=base.contact,
        gate=base.gate,
        submissions=base.store.submissions,
        approvals=Approvals(base.store.database),
        authenticity=base.store.submissions.chain.authenticity,
        catalogs=base.store.catalogs,
        web=base.slack,
        channels=base.channels,
        slack_post=base.slack_post,
        want_snapshot=catalogs.want,
        clock=base.store.clock,
        visibility=Visibility(base.store.catalogs, base.store.clock),
        rotations=base.rotations,
        may_enable=base.policy.offers_enabling,
    )


def _routes(parts: Parts, tables: LiveTables) -> Routes:
    """Return the routes of all stories."""
    routes, opener = Routes(), StoreForm(parts)
    masked_reasons = MaskedReasons(parts.clock)
    StoreCredential(parts, opener, masked_reasons).register(routes)
    RotateCredential(parts, masked_reasons, tables).register(routes)
    BucketSearch(parts).register(routes)
    TryAgain(parts, opener).register(routes)
    EnableCatalog(parts).register(routes)
    DecideRequest(parts).register(routes)
    Status(parts, tables).register(routes)
    History(parts).register(routes)
    AppHome(parts, tables).register(routes)
    Help().register(routes)
    return routes


def _pace(settings: Settings, store: Store, clock: Callable[[], datetime] | None) -> SharedPace:
    """Count requests of this process, or of all that share a PostgreSQL, by a clock that is never set."""
    clock = clock or steady_clock()
    if store.jobs is None:
        return LocalPace(clock)
    from bot.storage.budget import PaceRows  # noqa: PLC0415 - a single process does not need it

    return SharedPace(PaceRows(store.database, settings.cloudflare_account_id), clock)


async def _socket_mode(base: _Base, ingress: Ingress) -> SocketModeIngress | None:
    """Return an ingress that is not connected yet, after checking that Slack accepts the app token."""
    settings = base.settings
    app_token = slack_app_token(settings)
    if app_token is None:
        return None
    address = await open_first_connection(base.slack, app_token, base.conditions.note)
    logger = logging.getLogger("slack_sdk")
    socket = SocketModeIngress(
        ingress,
        app_token=app_token,
        web_client=base.web_client,
        logger=logger,
        network=settings.network,
        is_alone=base.store.jobs is None,
        metrics=base.metrics,
        traffic=base.traffic,
    )
    socket.wss_uri = address
    return socket


def _http_ingress(base: _Base, ingress: Ingress) -> HttpIngress:
    return HttpIngress(ingress, slack_signers(base.settings), metrics=base.metrics)


async def _is_ready(conditions: Conditions) -> bool:
    return is_ready(await conditions.ask())


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
