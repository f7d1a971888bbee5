"""Tests a bucket's slot while a token of ours is disabled: that it works proves that it does not hold that token.

The worker's part of taking back: the minter has no credentials with which it could ask.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CatalogRefusal, CloudflareError, NoSuchBucket, RouteGone
from bot.cloudflare.exchange import Turn
from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.minted import MintedState, MintedToken
from bot.storage.minted_tokens import MintedTokens

_AFTER_TROUBLE: Final = timedelta(seconds=10)
_LONGEST_PAUSE: Final = timedelta(minutes=10)

_log = structlog.get_logger()


class SlotTests:
    """Asks for the buckets in which a token is disabled. Reading needs no lease; recording compares the revision."""

    def __init__(
        self,
        cloudflare: CloudflareClient,
        tokens: MintedTokens,
        clock: Callable[[], datetime],
    ) -> None:
        self._cloudflare = cloudflare
        self._tokens = tokens
        self._clock = clock

    async def deliver(self, key: BucketKey) -> datetime | None:
        """Take every test that is due; return when the next one is. Raises DatabaseTrouble."""
        disabled = [token for token in await self._tokens.of_bucket(key) if token.state is MintedState.DISABLED]
        for token in disabled:
            if token.due_at <= self._clock():
                return await self._test(token)
        return min((token.due_at for token in disabled), default=None)

    async def _test(self, token: MintedToken) -> datetime | None:
        """Test the slot, note the result, and return when to come back."""
        turn = await self._cloudflare.turn(Urgency.BULK)  # after a fleet, many are due at once
        if isinstance(turn, datetime):
            return turn
        asked_at = self._clock()
        status: CredentialStatus | None = None
        try:
            status = await self._ask(token.key, turn)
            state = _judge(status, token)
        except CloudflareError as error:
            if not token.was_sent and isinstance(error, CatalogRefusal):
                state = MintedState.TESTED  # it never was in a slot
            else:
                _log.info("slot_not_tested", bucket=token.key.bucket, error=str(error))
                return asked_at + (error.retry_after or _pause(token, asked_at))
        finally:
            turn.give_back()
        is_unknown = status is None and state is MintedState.UNDOING
        tested_at = None if is_unknown else asked_at
        await self._tokens.change(token, replace(token, state=state, tested_at=tested_at, due_at=asked_at))
        if state is MintedState.UNDOING:
            _log.error("slot_needs_disabled_token", bucket=token.key.bucket, name=token.name)
        self._tokens.wake_minter(token.key)
        return asked_at  # there may be another one

    async def _ask(self, key: BucketKey, turn: Turn) -> CredentialStatus | None:
        """Return what the test says, or None where none is offered. A bucket that is gone has no slot."""
        try:
            return await self._cloudflare.test_credential(key, turn)
        except RouteGone:
            return None
        except NoSuchBucket:
            return CredentialStatus.ABSENT


def _pause(token: MintedToken, now: datetime) -> timedelta:
    """Return a pause that grows.

    A catalog that is switched off is tested once it is on: until then, the token stays disabled, which harms nobody.
    """
    return min(max(now - token.due_at, _AFTER_TROUBLE), _LONGEST_PAUSE)


def _judge(status: CredentialStatus | None, token: MintedToken) -> MintedState:
    """Return what follows: one that was never sent is surely not in the slot, whatever the slot holds."""
    is_proven = status is not None and status is not CredentialStatus.INVALID
    return MintedState.TESTED if is_proven or not token.was_sent else MintedState.UNDOING
