"""The composition root: connects the parts of a running bot. `run` runs the process; `bot.roles` has the parts."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from bot.operations.descriptors import raise_limit
from bot.operations.policy_source import PolicySource
from bot.operations.rotation_switch import require_grant
from bot.operations.stop_budget import LAST_RESORT, Stage, StopBudget
from bot.operations.stop_signals import StopSignals
from bot.roles.base import Base, Way, answer_probes, be_ready, keep_watch, open_base
from bot.roles.fleet import fleets_of
from bot.roles.gateway import start_gateway
from bot.roles.minter import minted_tokens_of, show_rotation, start_minter
from bot.roles.slack_side import open_slack_side
from bot.roles.worker import catalogs_by_others, start_worker
from bot.settings import Settings, SlackSettings

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
class _Stacks:
    """What is stopped in each stage, in the reverse order of its start: `answers` first."""

    modals: AsyncExitStack
    deliveries: AsyncExitStack
    answers: AsyncExitStack


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
    budget, policy = budget or StopBudget(), PolicySource(settings)
    require_grant(settings, policy.rules)
    async with budget.stage(Stage.PORT) as port, budget.stage(Stage.DATABASE) as database:
        base = await open_base(settings, policy, clock, port, database)
        async with (
            budget.stage(Stage.MODALS) as modals,
            budget.stage(Stage.DELIVERIES) as deliveries,
            budget.stage(Stage.ANSWERS) as answers,
        ):
            stacks = _Stacks(modals=modals, deliveries=deliveries, answers=answers)
            way = await _start(base, settings, hang_up or asyncio.Event(), stacks)
            await be_ready(base, way, answers)
            yield RunningBot(
                transport=way.name,
                http_address=base.http_address,
                metrics_address=base.metrics_address,
                background=tuple(base.background),
            )


async def _start(base: Base, settings: Settings, hang_up: asyncio.Event, stacks: _Stacks) -> Way:
    """Start what the role does, and return how Slack's payloads reach it."""
    tokens = minted_tokens_of(base)
    show_rotation(base, tokens)
    if not isinstance(settings, SlackSettings):
        await base.settle()
        await start_minter(base, tokens, stacks.deliveries)
        keep_watch(base, hang_up, stacks.deliveries)
        return answer_probes(base, stacks.answers)
    fleets, role, side = fleets_of(base), settings.role, await open_slack_side(base, settings, tokens, stacks.modals)
    catalogs = (
        await start_worker(base, side, tokens, fleets, stacks.deliveries)
        if role.delivers
        else catalogs_by_others(base.store)
    )
    await start_minter(base, tokens, stacks.deliveries)
    keep_watch(base, hang_up, stacks.deliveries)
    if role.takes_payloads:
        return await start_gateway(base, side, catalogs, fleets, stacks.answers)
    return answer_probes(base, stacks.answers)
