"""What every process has, whatever its role: ports, database, conditions, policy, and what runs until it stops."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from bot.clients import services
from bot.cloudflare.pace import LocalPace, SharedPace
from bot.metrics import Metrics
from bot.model.clock import SteadyClock, steady_clock
from bot.model.clock_comparison import ClockComparison
from bot.model.right_of_way import RightOfWay
from bot.model.timetable import Timetable
from bot.operations.changes import count_endings, log_change
from bot.operations.clock_watch import ClockWatch
from bot.operations.conditions import Conditions, is_ready
from bot.operations.metrics import MetricsPort
from bot.operations.network_checks import network_check
from bot.operations.policy_source import PolicySource
from bot.operations.ports import open_ports
from bot.operations.server import Server
from bot.operations.sources import of_audit, of_database, of_process
from bot.operations.start_report import describe_start
from bot.policy.scheduled import Scheduled
from bot.settings import Settings
from bot.storage.audit_watch import AuditWatch
from bot.storage.chain_start import HEAD_FILE
from bot.storage.checks import storage_checks
from bot.storage.minted_tokens import waits_for_a_test
from bot.storage.opening import Store, open_store, settle_at_the_start
from bot.storage.start_clock import not_before_what_is_recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How Slack's payloads reach this process: the name of it, and how many WebSockets are open, if that is how."""

    name: str
    sockets: Callable[[], int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The parts that every process has. `timer` is never set: requests are counted by it."""

    settings: Settings
    policy: PolicySource
    metrics: Metrics
    server: Server
    metrics_port: MetricsPort
    http_address: str
    metrics_address: str | None
    conditions: Conditions
    store: Store
    audit: AuditWatch
    timer: Callable[[], datetime]
    comparison: ClockComparison = field(default_factory=ClockComparison)
    right_of_way: RightOfWay = field(default_factory=RightOfWay)
    background: list[asyncio.Task[None]] = field(default_factory=list)

    def keep_running(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a background task until the bot stops."""
        self.background.append(asyncio.create_task(work))

    @property
    def scheduled(self) -> Scheduled:
        """Which credentials are rotated by themselves, and when."""
        every = self.settings.rotate_every
        return Scheduled(
            timetable=None if every is None else Timetable(every=every),
            globs=self.settings.rotate_buckets,
            rules=lambda: self.policy.rules,
        )

    async def settle(self) -> None:
        """Settle whether the database was restored. What is to be told of it must watch the submissions by then."""
        await settle_at_the_start(self.store, self.conditions.note)

    async def is_ready(self) -> bool:
        """Return whether no finding blocks."""
        return is_ready(await self.conditions.ask())


async def open_base(
    settings: Settings,
    policy: PolicySource,
    clock: Callable[[], datetime] | None,
    port: AsyncExitStack,
    database: AsyncExitStack,
) -> Base:
    """Open the ports and the database; the two stacks close them. Raises StartRefused."""
    metrics, conditions = Metrics(), Conditions()
    server, metrics_port = Server(metrics=metrics), MetricsPort(metrics)
    metrics_port.attach(conditions.ask)
    http_address, metrics_address = await open_ports(server, metrics_port, settings, port)
    conditions.wait_for("the database")
    store = await open_store(settings, database, clock, conditions.note)
    conditions.add(*storage_checks(store, None if store.jobs else settings.database_path.parent))
    store.submissions.watch(log_change)
    store.submissions.watch(count_endings(metrics))
    return Base(
        settings=settings,
        policy=policy,
        metrics=metrics,
        server=server,
        metrics_port=metrics_port,
        http_address=http_address,
        metrics_address=metrics_address,
        conditions=conditions,
        store=store,
        audit=AuditWatch(store.database, store.submissions.chain, store.clock, settings.data_dir / HEAD_FILE),
        timer=clock or steady_clock(),
    )


def keep_watch(base: Base, hang_up: asyncio.Event, stack: AsyncExitStack) -> None:
    """Watch the clock, and read the policy again each time `hang_up` is set; `stack` ends all background tasks."""
    stack.push_async_callback(_cancel, base.background)
    store = base.store
    if isinstance(store.clock, SteadyClock):
        base.keep_running(_clock_watch(store, store.clock).run())
    base.keep_running(base.policy.reload_at(hang_up))


def answer_probes(base: Base, stack: AsyncExitStack) -> Way:
    """Have the HTTP port answer nothing but probes."""
    base.server.attach(None, base.is_ready)
    stack.callback(base.server.begin_stop)
    return Way(name="none")


async def be_ready(base: Base, way: Way, stack: AsyncExitStack) -> None:
    """End the start: examine everything, say that the process is ready, and go on examining."""
    settings, store, conditions = base.settings, base.store, base.conditions
    conditions.add(
        base.comparison.check(services(settings), refuses=way.name == "http"),
        network_check(settings),
        *base.policy.checks(),
        base.audit.check(),
    )
    base.metrics_port.add(
        of_database(store.database, store.catalogs, store.clock, base.scheduled),
        of_audit(base.audit.count),
        of_process(settings, way.name, way.sockets),
    )
    stack.callback(base.metrics_port.begin_stop)
    started = describe_start(
        settings,
        base.policy.rules,
        transport=way.name,
        http_address=base.http_address,
        metrics_address=base.metrics_address,
    )
    await conditions.begin(**started)
    base.server.look_again()
    base.keep_running(conditions.run())


def pace_of(base: Base, *, of_minting: bool = False) -> SharedPace:
    """Count requests of this process, or of all that share a PostgreSQL; those of the minting token apart.

    Cloudflare's limit is for each token.
    """
    if base.store.jobs is None:
        return LocalPace(base.timer)
    from bot.storage.budget import PaceRows  # noqa: PLC0415 - a single process does not need it

    account_id = base.settings.cloudflare_account_id
    return SharedPace(PaceRows(base.store.database, f"{account_id} minting" if of_minting else account_id), base.timer)


def _clock_watch(store: Store, clock: SteadyClock) -> ClockWatch:
    async def is_idle() -> bool:
        is_open = await store.submissions.unreported_keys() or await waits_for_a_test(store.database, clock())
        return not is_open

    return ClockWatch(clock, store.tell_time, partial(not_before_what_is_recorded, store.submissions), is_idle)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
