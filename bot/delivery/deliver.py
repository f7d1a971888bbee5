"""Brings one bucket's slot to what was submitted: verify, store, confirm, forget, report. Knows no engine.

It never waits for long, and can be killed anywhere and run again: each finished step is recorded, and every call to
Cloudflare is safe to repeat.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.cloudflare.client import CloudflareClient, Turn
from bot.cloudflare.errors import CloudflareError, OperatorError, Refusal, Throttled, TokenRefusal
from bot.delivery.plan import plan_work
from bot.delivery.report import Reporter, Reporting
from bot.delivery.retry import pause_after, pause_for_fresh_token
from bot.delivery.verify import Verification, explain_refusal
from bot.model.catalog import CredentialStatus
from bot.model.errors import (
    AccessRefused,
    BotError,
    DatabaseTrouble,
    DeadlineReached,
    LeaseLost,
    NeverSent,
    SealedValueUnreadable,
    error_of_code,
)
from bot.model.submission import BucketKey, Findings, Lease, State, Submission, Task
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext
from bot.storage.catalogs import Inventory
from bot.storage.submissions import Changes, Records

CONFIRM_PATIENCE: Final = timedelta(seconds=15)
"""How long an empty or broken slot after a success is asked about again before it is told as an alarm."""

CHECK_LIFETIME: Final = timedelta(seconds=60)
"""How long what was found before a write is good for; a write that had to wait for longer is preceded by new checks."""

_CONFIRM_PAUSE: Final = timedelta(seconds=2)
_STALE_AFTER: Final = timedelta(milliseconds=100)
_ALARMS: Final = (CredentialStatus.INVALID, CredentialStatus.ABSENT)

_log = structlog.get_logger()


class Gate(Protocol):
    """Says whether a submission is still allowed."""

    async def check_user(self, user_id: str) -> None:
        """Raise AccessRefused for a user who may not use the bot (any more)."""

    def check_bucket(self, bucket: str) -> None:
        """Raise AccessRefused for a bucket that the bot does not serve (any more)."""

    def check_channel(self, channel_id: str) -> None:
        """Raise AccessRefused for a channel that the bot may not post to (any more)."""

    def check_task(self, task: Task) -> None:
        """Raise AccessRefused for what the bot does not do (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What came of a try to write: a success (no error), or an error and whether the write may have landed."""

    submission_id: str
    attempts: int
    landed: bool
    error: BotError | None = None
    cf_ray: str | None = None

    def is_of(self, submission: Submission) -> bool:
        """Whether it is about the last try of this submission."""
        last_try = (submission.id, submission.attempts, submission.state)
        return (self.submission_id, self.attempts, State.STORING) == last_try


class Delivery:
    """Works off what a bucket has open: the newest submission that is fit to be written, and every unsent result."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        records: Records,
        inventory: Inventory,
        cloudflare: CloudflareClient,
        key_ring: KeyRing,
        gate: Gate,
        reporter: Reporter,
        clock: Callable[[], datetime],
        fresh_token_patience: timedelta,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._records = records
        self._inventory = inventory
        self._cloudflare = cloudflare
        self._verification = Verification(cloudflare, clock)
        self._key_ring = key_ring
        self._gate = gate
        self._reporter = reporter
        self._reporting = Reporting(records, reporter, clock)
        self._clock = clock
        self._fresh_token_patience = fresh_token_patience
        self._jitter = jitter
        self._outcomes: dict[BucketKey, _Outcome] = {}

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Take every step that is due; return when the next one is, or None when nothing is left.

        Whoever calls this takes the bucket over: one who is still at it elsewhere sends and records nothing any more.
        Raises DatabaseTrouble.
        """
        lease = await self._records.take(key)
        try:
            next_at = await self._work_off(lease)
        except LeaseLost:
            _log.warning("lease_lost", bucket=key.bucket)
            next_at = None
        if next_at is None:
            self._outcomes.pop(key, None)
        return next_at

    async def _work_off(self, lease: Lease) -> datetime | None:
        blocked_until: datetime | None = None
        while work := await self._records.work(lease):
            now = self._clock()
            plan = plan_work(work, blocked_until or now)
            due = next((submission for submission, at in plan if at <= now), None)
            if due is None:
                return min(at for _, at in plan)
            known = self._outcomes.get(lease.key)
            if due.is_ended:
                await self._reporting.report(due)
            elif known is not None and known.is_of(due):
                await self._conclude(due, known)
            elif due.state is not State.CONFIRMING and now >= due.expires_at:
                await self._give_up(due)
            else:
                blocked_until = await self._take_turn(lease, due, now)
                if blocked_until is not None:
                    await self._end_if_blocked_too_long(due, blocked_until)
        return None

    async def _end_if_blocked_too_long(self, submission: Submission, until: datetime) -> None:
        """Where nothing may be sent for longer than there is time, the end is known already."""
        if submission.state is not State.CONFIRMING and until >= submission.expires_at:
            await self._end_unwritten(submission, State.FAILED, Throttled())
        elif submission.confirm_until is not None and until > submission.confirm_until:
            await self._end(submission, State.STORED, Changes(confirmation=CredentialStatus.UNKNOWN))

    async def _take_turn(self, lease: Lease, due: Submission, read_at: datetime) -> datetime | None:
        """Wait in line, and then take the step that is due by then; return when to come back if nothing may be sent."""
        turn = await self._cloudflare.turn()
        if isinstance(turn, datetime):
            return turn
        try:
            now = self._clock()
            current: Submission | None = due
            if now - read_at > _STALE_AFTER:  # somebody may have submitted a newer one meanwhile
                plan = plan_work(await self._records.work(lease), now)
                current = next((submission for submission, at in plan if at <= now and not submission.is_ended), None)
            if current is not None and current.state is State.CONFIRMING:
                await self._confirm(current, turn)
            elif current is not None and now < current.expires_at:
                await self._go_on_if_allowed(current, turn)
        finally:
            turn.give_back()
        return None

    async def _go_on_if_allowed(self, submission: Submission, turn: Turn) -> None:
        try:
            self._gate.check_task(submission.task)
            self._gate.check_bucket(submission.key.bucket)
            self._gate.check_channel(submission.channel_id)
            await self._gate.check_user(submission.user_id)
        except AccessRefused as refusal:
            if refusal.retryable:
                await self._try_later(submission, refusal)
            else:
                await self._end_unwritten(submission, State.DENIED, refusal)
        else:
            await self._go_on(submission, turn)

    async def _go_on(self, submission: Submission, turn: Turn) -> None:
        now = self._clock()
        if now >= submission.expires_at:  # again: Slack may have taken its time to say who is allowed
            await self._give_up(submission)
        elif submission.task is Task.ENABLE:
            await self._enable(submission, turn)
        elif submission.checked_at is None or now - submission.checked_at >= CHECK_LIFETIME:
            await self._verify(submission, turn)
        else:
            await self._store(submission, turn)

    async def _verify(self, submission: Submission, turn: Turn) -> None:
        """Find out whether the token may be stored. A token that was made a moment ago gets some patience."""
        now = self._clock()
        patience_until = submission.patience_until or now + self._fresh_token_patience
        try:
            findings = await self._check_token(submission, turn, is_patient=now < patience_until)
        except LeaseLost:
            if self._clock() < submission.expires_at:
                raise
            await self._give_up(submission)
        except TokenRefusal as refusal:
            if refusal.passes and now < patience_until:
                await self._wait_until_known(submission, refusal, patience_until)
            else:
                await self._end_unwritten(submission, State.REFUSED, refusal)
        except (CloudflareError, SealedValueUnreadable, DatabaseTrouble) as error:
            await self._note_trouble(submission, error)
        else:
            await self._note_verified(submission, findings)

    async def _note_verified(self, submission: Submission, findings: Findings) -> None:
        now = self._clock()
        _log.info("token_verified", submission=submission.id, unchecked=sorted(findings.unchecked))
        if submission.task is Task.CHECK:
            await self._end(submission, State.CHECKED, Changes(checked_at=now, findings=findings))
            return
        if submission.possibly_written and submission.findings is not None:  # what is there now may be ours
            findings = replace(findings, credential=submission.findings.credential)
        state = State.VERIFYING if submission.state is State.ACCEPTED else submission.state
        await self._records.move(submission, state, Changes(next_attempt_at=now, checked_at=now, findings=findings))

    async def _wait_until_known(self, submission: Submission, refusal: TokenRefusal, patience_until: datetime) -> None:
        now = self._clock()
        pause = pause_for_fresh_token(now, patience_until, self._fresh_token_patience)
        _log.info("token_not_known_yet", submission=submission.id, error=refusal.code, seconds=pause.total_seconds())
        changes = _changes(refusal, next_attempt_at=now + pause, patience_until=patience_until)
        await self._wait(submission, changes)

    async def _enable(self, submission: Submission, turn: Turn) -> None:
        """Enable the bucket's catalog: safe to repeat, so what is unclear is simply done again."""
        lease = Lease(key=submission.key, epoch=submission.epoch)
        try:
            await self._cloudflare.enable_catalog(
                submission.key.bucket, may_send=lambda: self._may_send(submission, lease), turn=turn
            )
        except LeaseLost:
            if self._clock() < submission.expires_at:
                raise
            await self._give_up(submission)
        except (CloudflareError, DatabaseTrouble) as error:
            await self._note_trouble(submission, error)
        else:
            await self._end(submission, State.ENABLED, Changes())

    async def _store(self, submission: Submission, turn: Turn) -> None:
        """Record that a write may happen, then let it happen: a kill in between must not look like "never sent"."""
        started = await self._records.move(
            submission, State.STORING, Changes(attempts=submission.attempts + 1, possibly_written=True)
        )
        if started is None:
            return  # replaced by a second Submit in this very moment: the next step reads it anew
        self._reporter.show_progress(started)
        outcome = await self._try_to_write(started, turn, landed_before=submission.possibly_written)
        self._outcomes[started.key] = outcome  # where only the noting fails, only that is repeated
        await self._conclude(started, outcome)

    async def _try_to_write(self, submission: Submission, turn: Turn, *, landed_before: bool) -> "_Outcome":
        """Send the token once, and say what came of it: without the frames of an error, which know the token."""
        cf_ray: str | None = None
        error: BotError | None = None
        landed = True
        try:
            cf_ray = await self._send_token(submission, turn)
        except LeaseLost:
            if self._clock() < submission.expires_at:
                raise
            error, landed = DeadlineReached(), landed_before
        except (SealedValueUnreadable, DatabaseTrouble) as stopped:  # before anything was sent
            error, landed = stopped.with_traceback(None), landed_before
        except CloudflareError as answer:
            error = explain_refusal(answer, submission.findings).with_traceback(None)
            landed = landed_before or answer.possibly_landed
        return _Outcome(
            submission_id=submission.id, attempts=submission.attempts, landed=landed, error=error, cf_ray=cf_ray
        )

    async def _conclude(self, submission: Submission, outcome: "_Outcome") -> None:
        """Note what came of a try."""
        if outcome.error is None:
            await self._note_written(submission, outcome.cf_ray)
        else:
            await self._note_trouble(submission, outcome.error, landed=outcome.landed)
        self._outcomes.pop(submission.key, None)

    async def _check_token(self, submission: Submission, turn: Turn, *, is_patient: bool) -> Findings:
        """Open the token, ask about it, let go of it."""
        lease = Lease(key=submission.key, epoch=submission.epoch)
        return await self._verification.verify(
            bucket=submission.key.bucket,
            token=self._key_ring.open(submission.sealed_token or "", self._sealing_context(submission)),
            kind=submission.token_kind,
            may_send=lambda: self._may_send(submission, lease),
            turn=turn,
            is_patient=is_patient,
        )

    async def _send_token(self, submission: Submission, turn: Turn) -> str | None:
        """Open the token, send it, let go of it: no other line of the program holds it in plain on its way out."""
        token = self._key_ring.open(submission.sealed_token or "", self._sealing_context(submission))
        lease = Lease(key=submission.key, epoch=submission.epoch)
        receipt = await self._cloudflare.store_credential(
            submission.key.bucket, token, may_send=lambda: self._may_send(submission, lease), turn=turn
        )
        return receipt.cf_ray

    async def _may_send(self, submission: Submission, lease: Lease) -> bool:
        """Whether nobody has taken over and there is still time: the process may have been frozen until now."""
        return await self._records.holds(lease) and self._clock() < submission.expires_at

    def _sealing_context(self, submission: Submission) -> SealingContext:
        """Return where the token belongs. The account is the one it would be sent to, whatever the row says."""
        return SealingContext(
            purpose=TOKEN,
            team_id=submission.team_id,
            user_id=submission.user_id,
            view_id=submission.id,
            account_id=self._cloudflare.account_id,
            bucket=submission.key.bucket,
        )

    async def _note_written(self, submission: Submission, cf_ray: str | None) -> None:
        _log.info("credential_stored", submission=submission.id, bucket=submission.key.bucket, cf_ray=cf_ray)
        now = self._clock()
        changes = Changes(next_attempt_at=now, confirm_until=now + CONFIRM_PATIENCE, cf_ray=cf_ray)
        confirming = await self._records.note_written(submission, now, changes)
        if confirming is not None:
            self._reporter.show_progress(confirming)

    async def _note_trouble(self, submission: Submission, error: BotError, *, landed: bool | None = None) -> None:
        """Try again later what passes by itself, else end."""
        if error.retryable:
            await self._try_later(submission, error, landed=landed)
        else:
            ending = State.REFUSED if isinstance(error, Refusal) else State.FAILED
            await self._end_unwritten(submission, ending, error, landed=landed)

    async def _try_later(self, submission: Submission, error: BotError, *, landed: bool | None = None) -> None:
        """Note when to go on. Where Cloudflare asks for more time than there is left, the end is known already."""
        landed = submission.possibly_written if landed is None else landed
        now = self._clock()
        at = now + pause_after(error, submission, now, self._jitter())
        if at >= submission.expires_at:
            await self._end_unwritten(submission, State.FAILED, error, landed=landed)
            return
        _log.info("delivery_waits", submission=submission.id, error=error.code, until=at.isoformat())
        await self._wait(submission, _changes(error, next_attempt_at=at, possibly_written=landed))

    async def _wait(self, submission: Submission, changes: Changes) -> None:
        is_first = submission.state is State.ACCEPTED and submission.task is not Task.ENABLE
        waiting = await self._records.move(submission, State.VERIFYING if is_first else submission.state, changes)
        if waiting is not None:
            self._reporter.show_progress(waiting)

    async def _give_up(self, submission: Submission) -> None:
        """End what has no more time, with what it was waiting for."""
        cause = error_of_code(submission.error_code) if submission.error_code else None
        landed = submission.possibly_written
        if submission.attempts == 0 and cause is None:
            await self._end(submission, State.EXPIRED, Changes(error_code=NeverSent.code))
        else:
            is_refused = cause is not None and issubclass(cause, Refusal)
            ending = State.UNCERTAIN if landed else State.REFUSED if is_refused else State.FAILED
            await self._end(submission, ending, Changes(), supersede_older=landed)

    async def _end_unwritten(
        self, submission: Submission, ending: State, error: BotError, *, landed: bool | None = None
    ) -> None:
        """End without a success. Where an earlier request may have landed after all, nobody may say "unchanged"."""
        landed = submission.possibly_written if landed is None else landed
        # An older one that waits may go on where Cloudflare said no to this one, which then is not worth keeping.
        await self._end(
            submission,
            State.UNCERTAIN if landed else ending,
            _changes(error, possibly_written=landed),
            supersede_older=landed and not isinstance(error, Refusal),
        )

    async def _confirm(self, submission: Submission, turn: Turn) -> None:
        """Ask whether the slot's credential works. It cannot turn a success into a failure any more."""
        now, pause, is_tested = self._clock(), _CONFIRM_PAUSE, False
        patience = (submission.confirm_until or now) - now
        is_last = patience <= timedelta(0)
        try:
            status, is_tested = await self._look_into_slot(submission.key.bucket, turn)
        except CloudflareError as error:
            _log.warning("credential_not_confirmed", submission=submission.id, error=str(error))
            pause = max(pause, error.retry_after or pause)
            status = CredentialStatus.UNKNOWN
            is_last = is_last or not error.retryable or pause > max(patience, _CONFIRM_PAUSE)
        else:
            is_last = is_last or status not in _ALARMS
        if is_last:
            changes = Changes(confirmation=status)
            await self._end(submission, State.STORED, changes, tested_at=now if is_tested else None)
        else:
            await self._records.move(submission, State.CONFIRMING, Changes(next_attempt_at=now + pause))

    async def _look_into_slot(self, bucket: str, turn: Turn) -> tuple[CredentialStatus, bool]:
        """Have Cloudflare test what the slot holds or, where it offers no test, say whether it holds anything.

        Return with it whether that was a test.
        """
        try:
            return await self._cloudflare.test_credential(bucket, turn), True
        except OperatorError:
            catalog = await self._cloudflare.get_catalog(bucket, turn)
            await self._inventory.save_catalog(catalog)
            return catalog.credential_status, False

    async def _end(
        self,
        submission: Submission,
        ending: State,
        changes: Changes,
        *,
        supersede_older: bool = False,
        tested_at: datetime | None = None,
    ) -> None:
        ended = await self._records.end(
            submission, ending, self._clock(), changes, supersede_older=supersede_older, tested_at=tested_at
        )
        if ended is None:
            return
        _log.info(
            "submission_ended",
            submission=ended.id,
            bucket=ended.key.bucket,
            ending=ended.state.value,
            error=ended.error_code,
            cloudflare_code=ended.cloudflare_code,
            cf_ray=ended.cf_ray,
        )
        self._reporter.show_progress(ended)


def _changes(
    error: BotError,
    *,
    possibly_written: bool | None = None,
    next_attempt_at: datetime | None = None,
    patience_until: datetime | None = None,
) -> Changes:
    cloudflare = error if isinstance(error, CloudflareError) else None
    return Changes(
        possibly_written=possibly_written,
        next_attempt_at=next_attempt_at,
        patience_until=patience_until,
        error_code=error.code,
        cloudflare_code=cloudflare.cloudflare_code if cloudflare else None,
        cloudflare_message=cloudflare.cloudflare_message if cloudflare else None,
        cf_ray=cloudflare.cf_ray if cloudflare else None,
    )
