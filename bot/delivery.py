"""Brings one bucket's slot to what was submitted: store, confirm, forget, report. Knows no engine and never waits long.

It can be killed anywhere and run again: each finished step is recorded, and every call to Cloudflare is safe to repeat.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.catalog import CredentialStatus
from bot.cloudflare.client import CloudflareClient, Turn
from bot.errors import (
    AccessRefused,
    BotError,
    CatalogRefusal,
    CloudflareError,
    DatabaseTrouble,
    DeadlineReached,
    LeaseLost,
    NeverSent,
    SealedValueUnreadable,
    SlackUnavailable,
    Throttled,
)
from bot.records import Changes, Records
from bot.sealing import TOKEN, KeyRing, SealingContext
from bot.submission import RESPONSE_URL_LIFETIME, BucketKey, Confirmation, Lease, State, Submission

CONFIRM_PATIENCE: Final = timedelta(seconds=15)
"""How long an empty slot after a success is asked about again before it is told as an alarm."""

_CONFIRM_PAUSE: Final = timedelta(seconds=2)
_STALE_AFTER: Final = timedelta(milliseconds=100)
_SHORTEST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_BACKOFF: Final = timedelta(seconds=60)
_SHORTEST_SLACK_PAUSE: Final = timedelta(seconds=2)
_LONGEST_SLACK_PAUSE: Final = timedelta(minutes=5)

_log = structlog.get_logger()


class Gate(Protocol):
    """Says whether a submission is still allowed."""

    async def check_user(self, user_id: str) -> None:
        """Raise AccessRefused for a user who may not use the bot (any more)."""

    def check_bucket(self, bucket: str) -> None:
        """Raise AccessRefused for a bucket that the bot does not serve (any more)."""

    def check_channel(self, channel_id: str) -> None:
        """Raise AccessRefused for a channel that the bot may not post to (any more)."""


class Reporter(Protocol):
    """Tells people."""

    def show_progress(self, submission: Submission) -> None:
        """Show where it stands; returns at once and never fails."""

    async def post_result(self, submission: Submission) -> None:
        """Post the final message; raises SlackUnavailable when it has to be tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What came of a try to write: a success (no error), or an error and whether the write may have landed."""

    attempts: int
    landed: bool
    error: BotError | None = None
    cf_ray: str | None = None


class Delivery:
    """Works off what a bucket has open: the newest submission that is fit to be written, and every unsent result."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        records: Records,
        cloudflare: CloudflareClient,
        key_ring: KeyRing,
        gate: Gate,
        reporter: Reporter,
        clock: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._records = records
        self._cloudflare = cloudflare
        self._key_ring = key_ring
        self._gate = gate
        self._reporter = reporter
        self._clock = clock
        self._jitter = jitter
        self._posted: set[str] = set()
        self._outcomes: dict[str, _Outcome] = {}

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Take every step that is due; return when the next one is, or None when nothing is left.

        Whoever calls this takes the bucket over: one who is still at it elsewhere sends and records nothing any more.
        Raises DatabaseTrouble.
        """
        lease = await self._records.take(key)
        try:
            return await self._work_off(lease)
        except LeaseLost:
            _log.warning("lease_lost", bucket=key.bucket)
            return None

    async def _work_off(self, lease: Lease) -> datetime | None:
        blocked_until: datetime | None = None
        while work := await self._records.work(lease):
            now = self._clock()
            plan = _plan(work, blocked_until or now)
            due = next((submission for submission, at in plan if at <= now), None)
            if due is None:
                return min(at for _, at in plan)
            known = self._outcomes.get(due.id)
            if due.is_ended:
                await self._report(due)
            elif known is not None and (known.attempts, State.STORING) == (due.attempts, due.state):
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
            await self._end(submission, State.STORED, Changes(confirmation=Confirmation.UNKNOWN))

    async def _take_turn(self, lease: Lease, due: Submission, read_at: datetime) -> datetime | None:
        """Wait in line, and then take the step that is due by then; return when to come back if nothing may be sent."""
        turn = await self._cloudflare.turn()
        if isinstance(turn, datetime):
            return turn
        try:
            now = self._clock()
            current: Submission | None = due
            if now - read_at > _STALE_AFTER:  # somebody may have submitted a newer one meanwhile
                plan = _plan(await self._records.work(lease), now)
                current = next((submission for submission, at in plan if at <= now and not submission.is_ended), None)
            if current is not None and current.state is State.CONFIRMING:
                await self._confirm(current, turn)
            elif current is not None and now < current.expires_at:
                await self._store_if_allowed(current, turn)
        finally:
            turn.give_back()
        return None

    async def _store_if_allowed(self, submission: Submission, turn: Turn) -> None:
        try:
            await self._gate.check_user(submission.user_id)
            self._gate.check_bucket(submission.key.bucket)
            self._gate.check_channel(submission.channel_id)
        except AccessRefused as refusal:
            if refusal.retryable:
                await self._try_later(submission, refusal)
            else:
                await self._end_unwritten(submission, State.DENIED, refusal)
        else:
            await self._store(submission, turn)

    async def _store(self, submission: Submission, turn: Turn) -> None:
        """Record that a write may happen, then let it happen: a kill in between must not look like "never sent"."""
        if self._clock() >= submission.expires_at:  # again: Slack may have taken its time to say who is allowed
            await self._give_up(submission)
            return
        started = await self._records.move(
            submission,
            State.STORING,
            Changes(
                attempts=submission.attempts + 1,
                possibly_written=True,
                credential_before=await self._credential_before(submission),
            ),
        )
        if started is None:
            return  # replaced by a second Submit in this very moment: the next step reads it anew
        self._reporter.show_progress(started)
        outcome = await self._try_to_write(started, turn, landed_before=submission.possibly_written)
        self._outcomes[started.id] = outcome  # where only the noting fails, only that is repeated
        await self._conclude(started, outcome)

    async def _try_to_write(self, submission: Submission, turn: Turn, *, landed_before: bool) -> "_Outcome":
        """Send the token once, and say what came of it."""
        try:
            cf_ray = await self._send_token(submission, turn)
        except LeaseLost:
            if self._clock() < submission.expires_at:
                raise
            return _Outcome(attempts=submission.attempts, landed=landed_before, error=DeadlineReached())
        except (SealedValueUnreadable, DatabaseTrouble) as error:  # before anything was sent
            return _Outcome(attempts=submission.attempts, landed=landed_before, error=error)
        except CloudflareError as error:
            landed = landed_before or error.possibly_landed
            return _Outcome(attempts=submission.attempts, landed=landed, error=error)
        return _Outcome(attempts=submission.attempts, landed=True, cf_ray=cf_ray)

    async def _conclude(self, submission: Submission, outcome: "_Outcome") -> None:
        """Note what came of a try."""
        error = outcome.error
        if error is None:
            await self._note_written(submission, outcome.cf_ray)
        elif error.retryable:
            await self._try_later(submission, error, landed=outcome.landed)
        else:
            ending = State.REFUSED if isinstance(error, CatalogRefusal) else State.FAILED
            await self._end_unwritten(submission, ending, error, landed=outcome.landed)
        self._outcomes.pop(submission.id, None)

    async def _send_token(self, submission: Submission, turn: Turn) -> str | None:
        """Open the token, send it, let go of it: no other line of the program holds it in plain on its way out."""
        token = self._key_ring.open(submission.sealed_token or "", _sealing_context(submission))
        lease = Lease(key=submission.key, epoch=submission.epoch)
        receipt = await self._cloudflare.store_credential(
            submission.key.bucket, token, may_send=lambda: self._may_send(submission, lease), turn=turn
        )
        return receipt.cf_ray

    async def _may_send(self, submission: Submission, lease: Lease) -> bool:
        """Whether nobody has taken over and there is still time: the process may have been frozen until now."""
        return await self._records.holds(lease) and self._clock() < submission.expires_at

    async def _note_written(self, submission: Submission, cf_ray: str | None) -> None:
        _log.info("credential_stored", submission=submission.id, bucket=submission.key.bucket, cf_ray=cf_ray)
        now = self._clock()
        changes = Changes(next_attempt_at=now, confirm_until=now + CONFIRM_PATIENCE, cf_ray=cf_ray)
        confirming = await self._records.move(submission, State.CONFIRMING, changes, supersede_older_at=now)
        if confirming is not None:
            self._reporter.show_progress(confirming)

    async def _try_later(self, submission: Submission, error: BotError, *, landed: bool | None = None) -> None:
        """Note when to go on. Where Cloudflare asks for more time than there is left, the end is known already."""
        landed = submission.possibly_written if landed is None else landed
        at = self._clock() + self._pause(submission, error)
        if at >= submission.expires_at:
            await self._end_unwritten(submission, State.FAILED, error, landed=landed)
            return
        _log.info("delivery_waits", submission=submission.id, error=error.code, until=at.isoformat())
        await self._records.move(
            submission, submission.state, _changes(error, next_attempt_at=at, possibly_written=landed)
        )

    def _pause(self, submission: Submission, error: BotError) -> timedelta:
        """Retry-After in full, else exponential backoff with full jitter; Slack is asked again less and less often."""
        if isinstance(error, CloudflareError) and error.retry_after:  # "0" says nothing: it must not become a busy loop
            return max(error.retry_after, _SHORTEST_PAUSE)
        if isinstance(error, AccessRefused):  # no attempt that could be counted: the longer it waits, the longer
            waited = self._clock() - submission.accepted_at
            return min(max(waited, _SHORTEST_SLACK_PAUSE), _LONGEST_BACKOFF)
        ceiling = min(timedelta(seconds=2 ** min(submission.attempts, 10)), _LONGEST_BACKOFF)
        return max(ceiling * self._jitter(), _SHORTEST_PAUSE)

    async def _give_up(self, submission: Submission) -> None:
        if submission.attempts == 0:
            await self._end(submission, State.EXPIRED, Changes(error_code=NeverSent.code))
        else:
            landed = submission.possibly_written
            await self._end(submission, State.UNCERTAIN if landed else State.FAILED, Changes(), supersede_older=landed)

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
            supersede_older=landed and not isinstance(error, CatalogRefusal),
        )

    async def _confirm(self, submission: Submission, turn: Turn) -> None:
        """Ask whether the slot shows the credential. It cannot turn a success into a failure any more."""
        now, pause = self._clock(), _CONFIRM_PAUSE
        patience = (submission.confirm_until or now) - now
        is_last = patience <= timedelta(0)
        try:
            catalog = await self._cloudflare.get_catalog(submission.key.bucket, turn)
        except CloudflareError as error:
            _log.warning("credential_not_confirmed", submission=submission.id, error=str(error))
            pause = max(pause, error.retry_after or pause)
            confirmation = Confirmation.UNKNOWN
            is_last = is_last or not error.retryable or pause > max(patience, _CONFIRM_PAUSE)
        else:
            await self._records.save_catalog(submission.key.account_id, catalog)
            confirmation = Confirmation(catalog.credential_status)
            is_last = is_last or confirmation is not Confirmation.ABSENT
        if is_last:
            await self._end(submission, State.STORED, Changes(confirmation=confirmation))
        else:
            await self._records.move(submission, State.CONFIRMING, Changes(next_attempt_at=now + pause))

    async def _end(
        self, submission: Submission, ending: State, changes: Changes, *, supersede_older: bool = False
    ) -> None:
        ended = await self._records.end(submission, ending, self._clock(), changes, supersede_older=supersede_older)
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

    async def _report(self, submission: Submission) -> None:
        """Post the result, then note that; where only the noting fails, only that is repeated."""
        if submission.id not in self._posted:
            if not await self._records.holds(Lease(key=submission.key, epoch=submission.epoch)):
                raise LeaseLost  # somebody else posts it
            try:
                await self._reporter.post_result(submission)
            except SlackUnavailable as error:
                await self._report_later(submission, error.retry_after)
                return
            self._posted.add(submission.id)
        await self._records.mark_reported(submission, self._clock())
        self._posted.discard(submission.id)

    async def _report_later(self, submission: Submission, retry_after: timedelta | None) -> None:
        now = self._clock()
        waited = now - (submission.ended_at or now)
        pause = retry_after or min(max(waited, _SHORTEST_SLACK_PAUSE), _LONGEST_SLACK_PAUSE)
        is_url_dead = now + pause - submission.accepted_at >= RESPONSE_URL_LIFETIME
        _log.warning("report_waits", submission=submission.id, seconds=pause.total_seconds())
        await self._records.postpone_report(submission, now + pause, forget_response_url=is_url_dead)

    async def _credential_before(self, submission: Submission) -> CredentialStatus:
        catalog = await self._records.catalog(submission.key)
        return submission.credential_before or (catalog.credential_status if catalog else CredentialStatus.UNKNOWN)


def _plan(work: list[Submission], open_from: datetime) -> list[tuple[Submission, datetime]]:
    """Return when each is due, in the order in which they are done: the slot first, messages last.

    Of those that may still be sent the newest one holds all others: they only wait for it, or for their own end.
    Nothing goes to Cloudflare before `open_from`.
    """
    ended = [submission for submission in work if submission.is_ended]
    confirming = [submission for submission in work if submission.state is State.CONFIRMING]
    sendable = [submission for submission in work if submission not in (*ended, *confirming)]
    held, newest = sendable[:-1], sendable[-1:]
    return [
        *(
            (submission, min(max(submission.next_attempt_at, open_from), submission.expires_at))
            for submission in newest
        ),
        *((submission, max(submission.next_attempt_at, open_from)) for submission in confirming),
        *((submission, submission.expires_at) for submission in held),
        *((submission, submission.next_attempt_at) for submission in ended),
    ]


def _sealing_context(submission: Submission) -> SealingContext:
    return SealingContext(
        purpose=TOKEN,
        team_id=submission.team_id,
        user_id=submission.user_id,
        view_id=submission.id,
        account_id=submission.key.account_id,
        bucket=submission.key.bucket,
    )


def _changes(
    error: BotError, *, possibly_written: bool | None = None, next_attempt_at: datetime | None = None
) -> Changes:
    cloudflare = error if isinstance(error, CloudflareError) else None
    return Changes(
        possibly_written=possibly_written,
        next_attempt_at=next_attempt_at,
        error_code=error.code,
        cloudflare_code=cloudflare.cloudflare_code if cloudflare else None,
        cf_ray=cloudflare.cf_ray if cloudflare else None,
    )
