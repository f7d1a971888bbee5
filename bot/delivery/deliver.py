"""Delivers what was submitted for one bucket, step by step. Does not know which engine runs it.

It never waits long, and can be killed anywhere and run again: each finished step is recorded, and every call to
Cloudflare is safe to repeat.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CloudflareError, Throttled
from bot.cloudflare.exchange import Turn
from bot.delivery.asking import Asking
from bot.delivery.endings import end_unwritten, give_up
from bot.delivery.kept import KeptMoves
from bot.delivery.opener import Opener
from bot.delivery.overtaking import Overtaken, until_overtaken
from bot.delivery.plan import PLANS, Plan
from bot.delivery.repeated import is_repeated
from bot.delivery.report import Poster, Report
from bot.delivery.retry import Retry
from bot.delivery.schedule import WRITES, schedule, urgency_of
from bot.delivery.step import MaySend, Step, Tools
from bot.delivery.step_log import follow_step, following, log_wait
from bot.metrics import RETRIED, STEPS, Metrics
from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.errors import (
    AccessRefused,
    ApprovalNotAsked,
    BotError,
    DatabaseTrouble,
    LeaseLost,
    NotApproved,
    RecordDamaged,
    SealedValueUnreadable,
)
from bot.model.memory import Memory
from bot.model.move import Changes, Move
from bot.model.reference import about
from bot.model.right_of_way import RightOfWay
from bot.model.submission import ENDINGS, Lease, Pending, State, Submission, Task
from bot.policy.gate import Gate
from bot.sealing.hpke import KeyRing
from bot.storage.catalogs import Catalogs
from bot.storage.submissions import Submissions

AFTER_FAULT: Final = timedelta(seconds=60)
"""How long a submission that raised an unexpected error is left alone, so that it cannot become a busy loop."""

LOOK_EVERY: Final = timedelta(seconds=1)
"""How often a waiting check asks whether a write of its own bucket has become due."""

_STALE_AFTER: Final = timedelta(milliseconds=100)
_FAILURES: Final = (
    AccessRefused,
    NotApproved,
    ApprovalNotAsked,
    CloudflareError,
    SealedValueUnreadable,
    DatabaseTrouble,
)
"""The errors of a step that `Retry` decides on; any other one is a bug."""

_log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class _Held:
    """A bucket while its lease is held. `work` is None once a step was begun that may change it."""

    lease: Lease
    work: Sequence[Pending] | None
    read_at: datetime


class Delivery:
    """Works through a bucket's open submissions: the newest one that may be written, and every unsent result."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        submissions: Submissions,
        catalogs: Catalogs,
        cloudflare: CloudflareClient,
        key_ring: KeyRing,
        gate: Gate,
        poster: Poster,
        asking: Asking,
        clock: Callable[[], datetime],
        fresh_token_patience: timedelta,
        jitter: Callable[[], float] = random.random,
        look_every: timedelta = LOOK_EVERY,
        plans: Mapping[Task, Plan] = PLANS,
        metrics: Metrics | None = None,
        right_of_way: RightOfWay | None = None,
        rotate_grace: Callable[[], timedelta | None] = lambda: None,
    ) -> None:
        self._right_of_way = right_of_way or RightOfWay()
        self._metrics = metrics or Metrics()
        self._submissions = submissions
        self._cloudflare = cloudflare
        self._clock = clock
        self._look_every = look_every
        self._retry = Retry(clock, jitter)
        self._report = Report(poster, clock, asking.close, self._metrics, partial(is_repeated, catalogs))
        tools = Tools(
            gate=gate,
            cloudflare=cloudflare,
            opener=Opener(key_ring, cloudflare.account_id),
            catalogs=catalogs,
            asking=asking,
            retry=self._retry,
            clock=clock,
            fresh_token_patience=fresh_token_patience,
            rotate_grace=rotate_grace,
        )
        self._plans = {task: tuple(kind(tools) for kind in plan) for task, plan in plans.items()}
        self._kept = KeptMoves()
        self._broken = Memory[str, datetime](clock)

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Take every step that is due; return when the next one is, or None when nothing is left.

        A call takes the bucket over: from then on, a delivery that still runs elsewhere can neither send nor record.
        Raises DatabaseTrouble.
        """
        await self._right_of_way.give_way()
        lease, work = await self._submissions.take_and_read(key)
        self._kept.note_taken(lease)
        try:
            next_at = await self._work_off(_Held(lease=lease, work=work, read_at=self._clock()))
        except LeaseLost:
            _log.warning("lease_lost", bucket=key.bucket)
            return None
        if next_at is None:
            self._kept.forget(key)
        return next_at

    async def _work_off(self, held: _Held) -> datetime | None:
        blocked_until: dict[Urgency, datetime] = {}
        while work := await self._take_work(held):
            now = self._clock()
            agenda = self._schedule(work, blocked_until)
            due = _first_due(agenda, now)
            if due is None:
                return min(at for _, at in agenda)
            with following(due.submission, self._clock):
                until = await self._process_guarded(held, due, now)
            if until is not None:
                blocked_until |= {each: until for each in Urgency if each >= _urgency_of(due)}
        return None

    async def _take_work(self, held: _Held) -> Sequence[Pending]:
        """Return the work that was read with the last move, unless there was none, or something else came between.

        That saves a transaction after each move. On PostgreSQL, a good token takes 7 % less of a worker's CPU by that.
        """
        work, held.work = held.work, None
        if work is None or self._clock() - held.read_at > _STALE_AFTER:
            work = await self._submissions.work(held.lease)
            held.read_at = self._clock()
        return work

    async def _process_guarded(self, held: _Held, due: Pending, now: datetime) -> datetime | None:
        """Process one due submission; one that raises an unexpected error must not stop the others."""
        try:
            return await self._process(held, due, now)
        except LeaseLost as error:
            if not await self._submissions.holds(held.lease):
                raise
            self._leave_alone(due, error)  # the lease still holds: only this submission may not be sent
        except RecordDamaged as error:  # changed by somebody else meanwhile: the next read sets it aside
            self._leave_alone(due, error)
        except BotError:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged row or a bug
            self._leave_alone(due, error)
        return None

    def _leave_alone(self, broken: Pending, error: Exception) -> None:
        _log.critical("submission_broke", error=type(error).__name__)
        self._broken.keep(broken.submission.id, self._clock() + AFTER_FAULT, AFTER_FAULT)

    def _schedule(
        self, work: Sequence[Pending], open_from: Mapping[Urgency, datetime]
    ) -> list[tuple[Pending, datetime]]:
        """Return when each is due. A broken one is left alone for a minute, and still holds back the older ones."""
        agenda = schedule(work, open_from)
        return [(each, max(at, self._broken.get(each.submission.id) or at)) for each, at in agenda]

    async def _process(self, held: _Held, due: Pending, now: datetime) -> datetime | None:
        """Process one due submission; return when to come back if nothing may be sent."""
        move = self._kept.find(due.submission, now) or await self._end_or_report(held.lease, due, now)
        if move is not None:
            await self._apply(held, due, move)
            return None
        until = await self._take_turn(held, due)
        if until is not None:
            await self._end_if_blocked_too_long(held, due, until)
        return until

    async def _end_or_report(self, lease: Lease, due: Pending, now: datetime) -> Move | None:
        """End a submission that has run out of time, or report one that has ended; else return None."""
        if not due.submission.is_ended:
            return give_up(due.submission, now) if _is_over(due.submission, now) else None
        await self._right_of_way.give_way()
        if not await self._submissions.holds(lease):
            raise LeaseLost  # the new holder posts it: two posts would be two messages
        move = await self._report.take(due)
        if move.changes.reported_at is not None:
            self._kept.keep_report(due.submission, move)
        return move

    async def _end_if_blocked_too_long(self, held: _Held, pending: Pending, until: datetime) -> None:
        """End it now if the pause is longer than the time it has left: the outcome is already known."""
        submission, now = pending.submission, self._clock()
        if _is_over(submission, until):
            await self._apply(held, pending, end_unwritten(submission, State.FAILED, Throttled(), now))
        elif submission.confirm_until is not None and until > submission.confirm_until:
            changes = Changes(confirmation=CredentialStatus.UNKNOWN)
            await self._apply(held, pending, Move(to=State.STORED, at=now, changes=changes))
        else:
            log_wait(until, error=Throttled.code)

    async def _take_turn(self, held: _Held, due: Pending) -> datetime | None:
        """Wait in line, then take the step that is due by then; return when to come back if nothing may be sent."""
        try:
            async with self._unless_overtaken(held.lease, due):
                turn = await self._wait_in_line(due)
        except Overtaken:
            return None
        if isinstance(turn, datetime):
            return turn
        try:
            now = self._clock()
            current: Pending | None = due
            if now - held.read_at > _STALE_AFTER:  # a newer one may have come: the stale one must not be written
                current = _first_due(self._schedule(await self._submissions.work(held.lease), {}), now)
            if current is not None and not current.submission.is_ended:
                turn.urgency = _urgency_of(current)
                with about(current.submission.id):
                    await self._take_step(held, current, turn)
        except Overtaken:
            return None
        finally:
            turn.give_back()
        return None

    async def _wait_in_line(self, due: Pending) -> Turn | datetime:
        """Take a turn, unless nothing is to be sent: one that is not used is lost to everyone else."""
        steps, now = self._plans[due.submission.task], self._clock()
        if any(step.waits_for_others and not step.is_done(due.submission, now) for step in steps):
            return Turn(None, _urgency_of(due))
        return await self._cloudflare.turn(_urgency_of(due))

    def _unless_overtaken(self, lease: Lease, pending: Pending) -> AbstractAsyncContextManager[None]:
        """Make a check raise Overtaken once a write or a report of its bucket is due, or the check expires.

        Without this, one slow check would hold up a store into the same bucket for as long as Cloudflare takes.
        """
        if _urgency_of(pending) in WRITES:
            return nullcontext()

        async def is_overtaken() -> bool:
            now = self._clock()
            first = _first_due(self._schedule(await self._submissions.work(lease), {}), now)
            is_other = first is not None and (first.submission.is_ended or _urgency_of(first) in WRITES)
            return is_other or _is_over(pending.submission, now)

        return until_overtaken(is_overtaken, self._look_every)

    async def _take_step(self, held: _Held, pending: Pending, turn: Turn) -> None:
        """Take the first step of the plan that is not done; a step that returns no move is followed by the next one."""
        submission = pending.submission
        for step in self._plans[submission.task]:
            if step.is_done(submission, self._clock()):
                continue
            began = time.monotonic()
            move = await follow_step(step, self._try(step, held.lease, pending, turn), self._clock)
            if move is not None:
                await self._apply(held, pending, move)
            self._metrics.observe(STEPS, time.monotonic() - began, step.name)
            if move is not None:
                return
        message = f"no step of the plan moves a submission that is {submission.state}"
        raise RuntimeError(message)  # else it would be processed again at once, forever

    async def _try(self, step: Step, lease: Lease, pending: Pending, turn: Turn) -> Move | None:
        submission = pending.submission
        may_send: MaySend = partial(self._may_send, submission, lease)
        if _is_over(submission, self._clock()):  # again: earlier steps, such as asking Slack, may have taken long
            return give_up(submission, self._clock())
        try:
            async with self._unless_overtaken(lease, pending):
                return await step.take(pending, turn, may_send)
        except LeaseLost:
            if not _is_over(submission, self._clock()):
                raise
            return give_up(submission, self._clock())
        except _FAILURES as error:
            return self._retry.after(submission, error)

    async def _may_send(self, submission: Submission, lease: Lease) -> bool:
        """Return whether the lease still holds and there is still time.

        A frozen process (a paused virtual machine, SIGSTOP) continues where it stopped. By then another process may
        have stored a newer token, which this write would destroy.
        """
        return await self._submissions.holds(lease) and self._clock() < submission.expires_at

    async def _apply(self, held: _Held, pending: Pending, move: Move) -> None:
        """Record a move, then run its effect, which returns the next move.

        The result of a write or a post cannot be asked for again: it is kept in memory until it is recorded, so that a
        database that fails at this moment causes no second write and no second message.
        """
        submission = pending.submission
        changed = await self._record(held, submission, move)
        self._kept.drop(submission)
        if changed and move.because is not None and move.to not in ENDINGS:
            self._metrics.count(RETRIED, move.because.code)
        if changed and move.effect is not None:
            recorded = replace(pending, submission=changed[0])
            self._kept.forget_writes(held.lease.key)  # what an earlier write left in the slot is unknown from here on
            next_move = await move.effect(recorded)
            self._kept.keep_write(held.lease, recorded.submission, next_move)
            await self._apply(held, recorded, next_move)

    async def _record(self, held: _Held, submission: Submission, move: Move) -> list[Submission]:
        """Make a move, and read what is left; an effect is followed by another move, and nothing is read before."""
        if move.effect is not None:
            return await self._submissions.apply(submission, move, held.lease)
        changed, held.work = await self._submissions.apply_and_read(submission, move, held.lease)
        held.read_at = self._clock()
        return changed


def _first_due(agenda: Sequence[tuple[Pending, datetime]], now: datetime) -> Pending | None:
    return next((pending for pending, at in agenda if at <= now), None)


def _urgency_of(pending: Pending) -> Urgency:
    return urgency_of(pending.submission)


def _is_over(submission: Submission, now: datetime) -> bool:
    """Return whether it may no longer be sent. A written one is still confirmed, however late."""
    return submission.state is not State.CONFIRMING and now >= submission.expires_at
