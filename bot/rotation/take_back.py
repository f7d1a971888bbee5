"""Takes a token back: disable, wait, have the slot tested, delete. The only way by which a token is ever revoked.

The slot cannot be read: that it works while a token is disabled is the only proof that it does not hold that token.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from bot.cloudflare.answers import TokenStatus
from bot.cloudflare.budget import Urgency
from bot.cloudflare.errors import CloudflareError
from bot.cloudflare.exchange import Turn
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.minting_answers import ListedToken
from bot.cloudflare.minting_errors import TokenNotOurs
from bot.model.audit import Event
from bot.model.errors import BotError, RecordDamaged
from bot.model.minted import (
    LOOK_AGAIN_AFTER,
    PROBE_AFTER,
    TEST_LIFETIME,
    MintedState,
    MintedToken,
    MintingLease,
)
from bot.model.token_name import Scope, TokenName
from bot.storage.minted_tokens import MintedTokens

MOST_UNDONE: Final = 3
"""After so many times, a token that the slot seems to need is kept, and people are told."""

_FIX: Final = "look at the catalog's credential with `/r2-credential status`, and rotate or store it"
_TABLE: Final = "minted_tokens"

AFTER_TROUBLE: Final = timedelta(seconds=30)
AFTER_REFUSAL: Final = timedelta(minutes=10)
"""How long a token is left alone after Cloudflare has refused a step for good: somebody has to change something."""

_log = structlog.get_logger()

Heal = Callable[[MintedToken], Awaitable[bool]]
"""Has the bucket's credential made anew, and returns whether that is under way."""


class TakingBack:
    """Takes one step of one token. Each is recorded before its request leaves, and safe to repeat."""

    def __init__(
        self,
        *,
        cloudflare: MintingClient,
        tokens: MintedTokens,
        heal: Heal,
        clock: Callable[[], datetime],
    ) -> None:
        self._cloudflare = cloudflare
        self._tokens = tokens
        self._heal = heal
        self._clock = clock
        self._steps: dict[MintedState, Callable[[_Held, MintedToken], Awaitable[None]]] = {
            MintedState.RETIRED: self._begin,
            MintedState.DISABLING: self._disable,
            MintedState.TESTED: self._look,
            MintedState.DELETING: self._delete,
            MintedState.UNDOING: self._enable,
            MintedState.UNDONE: self._look_again,
            MintedState.LOST: self._find_out,
        }

    def takes(self, token: MintedToken) -> bool:
        """Return whether a step of this token is the minter's; the slot's test is the worker's."""
        return token.state in self._steps

    async def act(self, lease: MintingLease, token: MintedToken) -> None:
        """Take its next step. A failure is noted at the token. Raises LeaseLost, DatabaseTrouble."""
        turn = await self._cloudflare.turn(Urgency.BACKGROUND)
        if isinstance(turn, datetime):
            await self._tokens.change(token, replace(token, due_at=turn), lease=lease)
            return
        try:
            await self._steps[token.state](_Held(lease, turn), token)
        except (CloudflareError, TokenNotOurs, RecordDamaged) as error:
            await self._postpone(lease, token, error)
        finally:
            turn.give_back()

    async def _postpone(self, lease: MintingLease, token: MintedToken, error: BotError) -> None:
        asked = error.retry_after if isinstance(error, CloudflareError) else None
        pause = asked or (AFTER_TROUBLE if error.retryable else AFTER_REFUSAL)
        level = logging.INFO if error.retryable else logging.ERROR
        known = {"bucket": token.key.bucket, "name": token.name, "step": token.state.value}
        _log.log(level, "token_not_taken_back", error=str(error), **known)
        current = next((each for each in (await self._tokens.work(lease)).tokens if each.name == token.name), None)
        if current is not None:
            state = MintedState.TESTED if _is_undeleted(current, error) else current.state
            later = replace(current, state=state, due_at=self._clock() + pause, trouble=error.code)
            await self._tokens.change(current, later, lease=lease)

    async def _find_out(self, held: "_Held", token: MintedToken) -> None:
        """Ask whether the create whose answer was lost has made a token: by now it is listed, or never was made."""
        found = await self._cloudflare.find(_name_of(token), held.turn)
        known = replace(token, was_sent=True) if await self._tokens.was_given(token) else token
        settled = replace(token, state=MintedState.GONE) if found is None else as_found(known, found, self._clock())
        await self._tokens.change(token, settled, lease=held.lease)

    async def _begin(self, held: "_Held", token: MintedToken) -> None:
        current = await self._change(held, token, MintedState.DISABLING)
        if current is not None:
            await self._disable(held, current)

    async def _disable(self, held: "_Held", token: MintedToken) -> None:
        if not await self._set_status(held, token, is_active=False):
            await self._bury(held, token)
            return
        now = self._clock()
        disabled = replace(token, state=MintedState.DISABLED, disabled_at=now, due_at=now + PROBE_AFTER, trouble=None)
        await self._tokens.change(token, disabled, lease=held.lease, wakes=True)
        _log.info("token_disabled", bucket=token.key.bucket, name=token.name)

    async def _look(self, held: "_Held", token: MintedToken) -> None:
        """Begin to delete it, if the test of the slot still counts."""
        now = self._clock()
        if token.tested_at is None or now - token.tested_at > TEST_LIFETIME:
            again = replace(token, state=MintedState.DISABLED, due_at=now)
            await self._tokens.change(token, again, lease=held.lease, wakes=True)
            return
        begun = replace(token, state=MintedState.DELETING, due_at=now, epoch=held.lease.epoch)
        current = await self._tokens.change(token, begun, lease=held.lease)
        if current is not None:
            await self._delete(held, current)

    async def _delete(self, held: "_Held", token: MintedToken) -> None:
        """Delete it unless Cloudflare says that it is active: what the database says may be old."""
        if token.epoch != held.lease.epoch:  # begun by another process, perhaps long ago
            await self._change(held, token, MintedState.RETIRED)
            return
        token_id, name, may_send = _id_of(token), _name_of(token), partial(self._tokens.holds, held.lease)
        seen = await self._cloudflare.get(token_id, name, held.turn)
        if seen is None:
            await self._bury(held, token)
        elif seen.status is TokenStatus.ACTIVE:
            await self._change(held, token, MintedState.RETIRED)
        else:
            was_there = await self._cloudflare.delete(token_id, name, may_send, held.turn, seen=seen)
            await self._bury(held, token, event=Event.REVOKED)
            _log.info("token_revoked", bucket=token.key.bucket, name=token.name, was_there=was_there)

    async def _enable(self, held: "_Held", token: MintedToken) -> None:
        if not await self._set_status(held, token, is_active=True):
            await self._give_up(held, token)
            return
        look_at, times = self._clock() + LOOK_AGAIN_AFTER, token.undone + 1
        undone = replace(token, state=MintedState.UNDONE, due_at=look_at, undone=times, trouble=None)
        await self._tokens.change(token, undone, lease=held.lease)
        _log.error("token_enabled_again", bucket=token.key.bucket, name=token.name, fix=_FIX)

    async def _look_again(self, held: "_Held", token: MintedToken) -> None:
        """See that it is still on: a "disable" that was sent before can arrive after it. Then have it replaced."""
        seen = await self._cloudflare.get(_id_of(token), _name_of(token), held.turn)
        if seen is None:
            await self._give_up(held, token)
        elif seen.status is TokenStatus.DISABLED:
            await self._change(held, token, MintedState.UNDOING)
        else:
            is_over = _is_needed(token) and token.undone > MOST_UNDONE
            if is_over or (_is_needed(token) and not await self._heal(token)):
                _log.critical("token_kept", bucket=token.key.bucket, name=token.name, fix=_FIX)
            await self._change(held, token, MintedState.KEPT)

    async def _give_up(self, held: "_Held", token: MintedToken) -> None:
        """Have a token replaced that somebody has deleted, although the slot needs it."""
        if _is_needed(token):
            _log.critical("token_gone_but_needed", bucket=token.key.bucket, name=token.name, fix=_FIX)
            await self._heal(token)
        await self._bury(held, token)

    async def _set_status(self, held: "_Held", token: MintedToken, *, is_active: bool) -> bool:
        """Return False if the token is gone. The change replaces all of it, so it says again what was granted."""
        may_send = partial(self._tokens.holds, held.lease)
        token_id, name, scope = _id_of(token), _name_of(token), Scope(token.scope)
        return await self._cloudflare.set_status(
            token_id, name, scope, token.expires_at, may_send, is_active=is_active, turn=held.turn
        )

    async def _bury(self, held: "_Held", token: MintedToken, event: Event | None = None) -> None:
        await self._change(held, token, MintedState.DEAD, event)

    async def _change(
        self, held: "_Held", token: MintedToken, state: MintedState, event: Event | None = None
    ) -> MintedToken | None:
        """Bring it to a state in which the next step is due at once, if there is one."""
        changed = replace(token, state=state, due_at=self._clock(), trouble=None)
        return await self._tokens.change(token, changed, lease=held.lease, event=event)


@dataclass(frozen=True, slots=True)
class _Held:
    """The right to act, and to send one request."""

    lease: MintingLease
    turn: Turn


def as_found(token: MintedToken, seen: ListedToken, now: datetime) -> MintedToken:
    """Return the row of a token that is there although nobody holds it: it is taken back.

    One that was sent may be in a slot, and stays until a newer one is proven.
    """
    state = MintedState.KEPT if token.was_sent else MintedState.RETIRED
    return replace(token, state=state, token_id=seen.id, due_at=now, trouble=None)


def _is_undeleted(token: MintedToken, error: BotError) -> bool:
    """Return whether a deletion was begun and surely not carried out: then the test of the slot still counts."""
    landed = isinstance(error, CloudflareError) and error.possibly_landed
    return token.state is MintedState.DELETING and not landed


def _is_needed(token: MintedToken) -> bool:
    """Return whether a test has said that the slot does not work without it, and not that there is no test."""
    return token.tested_at is not None


def _id_of(token: MintedToken) -> str:
    if token.token_id is None:
        raise RecordDamaged(_TABLE, token.name, "token_id")
    return token.token_id


def _name_of(token: MintedToken) -> TokenName:
    name = TokenName.parse(token.name)
    if name is None or name.bucket != token.key.bucket:
        raise RecordDamaged(_TABLE, token.name, "name")
    return name
