"""Brings one bucket's slot to what was submitted: store, confirm, forget, report. Knows no engine and never waits long.

It can be killed anywhere and run again: each finished step is recorded, and every call to Cloudflare is safe to repeat.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.catalog import CredentialStatus
from bot.cloudflare.client import CloudflareClient
from bot.errors import (
    AccessRefused,
    BotError,
    CatalogRefusal,
    CloudflareError,
    NeverSent,
    SealedValueUnreadable,
    SlackUnavailable,
)
from bot.records import Changes, Records
from bot.sealing import TOKEN, KeyRing, SealingContext
from bot.submission import RESPONSE_URL_LIFETIME, BucketKey, Confirmation, State, Submission

CONFIRM_PATIENCE: Final = timedelta(seconds=15)
"""How long an empty slot after a success is asked about again before it is told as an alarm."""

_CONFIRM_PAUSE: Final = timedelta(seconds=2)
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


class Delivery:
    """Works off what a bucket has open: one unended submission at a time, oldest first, and every unsent result."""

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

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Take every step that is due; return when the next one is, or None when nothing is left.

        Must not run twice at once for the same bucket. Raises DatabaseUnavailable.
        """
        while work := await self._records.runnable(key):
            now = self._clock()
            due = next((submission for submission in work if submission.next_attempt_at <= now), None)
            if due is None:
                return min(submission.next_attempt_at for submission in work)
            await self._step(due)
        return None

    async def _step(self, submission: Submission) -> None:
        if submission.is_ended:
            await self._report(submission)
        elif submission.state is State.CONFIRMING:
            await self._confirm(submission)
        elif self._clock() >= submission.expires_at:
            await self._give_up(submission)
        else:
            await self._store_if_allowed(submission)

    async def _store_if_allowed(self, submission: Submission) -> None:
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
            await self._store(submission)

    async def _store(self, submission: Submission) -> None:
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
        try:
            cf_ray = await self._send_token(started)
        except SealedValueUnreadable as error:
            await self._end_unwritten(started, State.FAILED, error, landed=submission.possibly_written)
        except CloudflareError as error:
            await self._handle_no(started, error, landed=submission.possibly_written or error.possibly_landed)
        else:
            await self._note_written(started, cf_ray)

    async def _send_token(self, submission: Submission) -> str | None:
        """Open the token, send it, let go of it: no other line of the program holds it in plain on its way out."""
        token = self._key_ring.open(submission.sealed_token or "", _sealing_context(submission))
        receipt = await self._cloudflare.store_credential(submission.key.bucket, token)
        return receipt.cf_ray

    async def _note_written(self, submission: Submission, cf_ray: str | None) -> None:
        _log.info("credential_stored", submission=submission.id, bucket=submission.key.bucket, cf_ray=cf_ray)
        now = self._clock()
        changes = Changes(next_attempt_at=now, confirm_until=now + CONFIRM_PATIENCE, cf_ray=cf_ray)
        confirming = await self._records.move(submission, State.CONFIRMING, changes)
        if confirming is not None:
            self._reporter.show_progress(confirming)

    async def _handle_no(self, submission: Submission, error: CloudflareError, *, landed: bool) -> None:
        if error.retryable:
            await self._try_later(submission, error, landed=landed)
        else:
            ending = State.REFUSED if isinstance(error, CatalogRefusal) else State.FAILED
            await self._end_unwritten(submission, ending, error, landed=landed)

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
            ending = State.UNCERTAIN if submission.possibly_written else State.FAILED
            await self._end(submission, ending, Changes())

    async def _end_unwritten(
        self, submission: Submission, ending: State, error: BotError, *, landed: bool | None = None
    ) -> None:
        """End without a success. Where an earlier request may have landed after all, nobody may say "unchanged"."""
        landed = submission.possibly_written if landed is None else landed
        await self._end(submission, State.UNCERTAIN if landed else ending, _changes(error, possibly_written=landed))

    async def _confirm(self, submission: Submission) -> None:
        """Ask whether the slot shows the credential. It cannot turn a success into a failure any more."""
        now, pause = self._clock(), _CONFIRM_PAUSE
        patience = (submission.confirm_until or now) - now
        is_last = patience <= timedelta(0)
        try:
            catalog = await self._cloudflare.get_catalog(submission.key.bucket)
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

    async def _end(self, submission: Submission, ending: State, changes: Changes) -> None:
        ended = await self._records.end(submission, ending, self._clock(), changes)
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
        snapshot = await self._records.snapshot(submission.key.account_id)
        catalogs = snapshot.catalogs if snapshot else ()
        found = (catalog.credential_status for catalog in catalogs if catalog.bucket == submission.key.bucket)
        return submission.credential_before or next(found, CredentialStatus.UNKNOWN)


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
