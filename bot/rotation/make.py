"""Makes a token for a submission that waits for one.

The name is on disk before the request leaves: what Cloudflare made although its answer was lost is found by it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from bot.cloudflare.errors import CloudflareError
from bot.cloudflare.exchange import Turn
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.minting_errors import CreateUnanswered, MintingError, TokenNotOurs
from bot.delivery.endings import end_unwritten
from bot.delivery.retry import wait
from bot.delivery.schedule import urgency_of
from bot.model.errors import BotError, DatabaseTrouble
from bot.model.memory import Memory
from bot.model.minted import MOST_UNSETTLED, SETTLE_AFTER, UNSETTLED, MintedState, MintedToken, MintingWork
from bot.model.move import Changes
from bot.model.submission import Pending, SealedToken, State
from bot.model.token_name import Scope, TokenName
from bot.rotation.lifetime import Lifetime
from bot.rotation.quota import Quota
from bot.sealing.hpke import TOKEN, SealingContext, SealingKey
from bot.storage.minted_tokens import MintedTokens

_LONGEST_PAUSE: Final = timedelta(seconds=60)
_MOST_DOUBLINGS: Final = 6
_REMEMBERED: Final = timedelta(hours=1)
_MOST_RECORDINGS: Final = 5
_BETWEEN_RECORDINGS: Final = timedelta(seconds=1)

_log = structlog.get_logger()


class Making:
    """Makes one token at a time for a bucket, and gives it, sealed, to the submission."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        cloudflare: MintingClient,
        tokens: MintedTokens,
        scope: Scope,
        sealing_key: Callable[[], SealingKey],
        lifetime: Lifetime,
        quota: Quota,
        clock: Callable[[], datetime],
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        """Take `on_refusal`, called when Cloudflare refuses what is asked with the minting token."""
        self._on_refusal = on_refusal
        self._cloudflare = cloudflare
        self._tokens = tokens
        self._scope = scope
        self._sealing_key = sealing_key
        self._lifetime = lifetime
        self._quota = quota
        self._clock = clock
        self._tried = Memory[str, tuple[int, datetime]](clock)

    def due_at(self, work: MintingWork, now: datetime) -> datetime | None:
        """Return when a token may be made for the one that waits, at the earliest `now`; None if nobody does."""
        if work.waiting is None:
            return None
        _, not_before = self._tried.get(work.waiting.submission.id) or (0, now)
        return max(not_before, now)

    async def make(self, work: MintingWork, waiting: Pending) -> None:
        """Make one, or note when to try again, or end the submission if Cloudflare refuses for good.

        Raises LeaseLost, DatabaseTrouble.
        """
        if sum(token.state in UNSETTLED for token in work.tokens) >= MOST_UNSETTLED:  # each may have made a token
            await self._after(waiting, CreateUnanswered())
            return
        try:
            await self._quota.require_room()
            turn = await self._cloudflare.turn(urgency_of(waiting.submission))
        except CloudflareError as error:
            await self._after(waiting, error)
            return
        if isinstance(turn, datetime):
            self._note_tried(waiting, turn)
            return
        try:
            token = self._intend(work, waiting)
            await self._tokens.intend(work.lease, token, waiting)
            await self._create(work, waiting, token, turn)
        finally:
            turn.give_back()

    def _intend(self, work: MintingWork, waiting: Pending) -> MintedToken:
        now, key = self._clock(), waiting.submission.key
        name = TokenName.new(self._cloudflare.installation, key.bucket)
        return MintedToken(
            name=str(name),
            key=key,
            submission_id=waiting.submission.id,
            state=MintedState.INTENDED,
            token_id=None,
            scope=self._scope.value,
            epoch=work.lease.epoch,
            intended_at=now,
            due_at=now,
            changed_at=now,
            expires_at=self._lifetime.expires_at(key, now),
        )

    async def _create(self, work: MintingWork, waiting: Pending, token: MintedToken, turn: Turn) -> None:
        """Ask for the token, and hand it on; no other function holds its value."""
        name, expires_at = TokenName.parse(token.name), token.expires_at
        assert name is not None and expires_at is not None  # noqa: PT018, S101 - built a moment ago
        try:
            minted = await self._cloudflare.create(
                name, self._scope, expires_at, partial(self._tokens.holds, work.lease), turn
            )
        except (CloudflareError, TokenNotOurs) as error:
            await self._note_failure(work, token, error)
            await self._after(waiting, error)
            return
        context = SealingContext.of(waiting.submission, TOKEN)
        sealed = SealedToken(self._sealing_key().seal_secret(minted.value, context))
        await self._record(work, waiting, replace(token, token_id=minted.id), sealed)

    async def _record(self, work: MintingWork, waiting: Pending, token: MintedToken, sealed: SealedToken) -> None:
        """Record it, insistently: Cloudflare shows a value once. What cannot be recorded is found by its name."""
        for attempt in range(_MOST_RECORDINGS):
            try:
                given = await self._tokens.give(work.lease, token, waiting, sealed)
            except DatabaseTrouble:
                if attempt == _MOST_RECORDINGS - 1:
                    raise
                await asyncio.sleep(_BETWEEN_RECORDINGS.total_seconds())
            else:
                _log.info("token_minted", bucket=token.key.bucket, name=token.name, token_id=given.token_id)
                return

    async def _note_failure(self, work: MintingWork, token: MintedToken, error: BotError) -> None:
        """Note what is known of the token: that none was made, or that Cloudflare has to be asked later."""
        is_unknown = isinstance(error, CloudflareError) and error.possibly_landed
        state = MintedState.LOST if is_unknown else MintedState.GONE
        due_at = self._clock() + (SETTLE_AFTER if is_unknown else timedelta(0))
        failed = replace(token, state=state, due_at=due_at, trouble=error.code)
        await self._tokens.change(token, failed, lease=work.lease)
        _log.warning("token_not_minted", bucket=token.key.bucket, name=token.name, state=state.value, error=str(error))

    async def _after(self, waiting: Pending, error: BotError) -> None:
        """Say why it takes longer, or end the submission: its delivery reports that."""
        submission, now = waiting.submission, self._clock()
        if error.retryable:
            tries, _ = self._tried.get(submission.id) or (0, now)
            asked = error.retry_after if isinstance(error, CloudflareError) else None
            pause = asked or min(timedelta(seconds=2 ** min(tries, _MOST_DOUBLINGS)), _LONGEST_PAUSE)
            self._note_tried(waiting, now + pause)
            await self._tokens.note_waiting(waiting, wait(submission, submission.expires_at, error, Changes()))
            return
        if isinstance(error, MintingError):
            self._on_refusal()
        await self._tokens.note_waiting(waiting, end_unwritten(submission, State.FAILED, error, now))

    def _note_tried(self, waiting: Pending, not_before: datetime) -> None:
        tries, _ = self._tried.get(waiting.submission.id) or (0, not_before)
        self._tried.keep(waiting.submission.id, (tries + 1, not_before), _REMEMBERED)
