"""Compares what Cloudflare lists under our mark with what is recorded, and hands what nobody holds to its bucket.

Deletes nothing: there is one way by which a token is taken back (`bot.rotation.take_back`).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.cloudflare.answers import TokenStatus
from bot.cloudflare.errors import CloudflareError
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.minting_answers import ListedToken
from bot.cloudflare.minting_errors import TokenNotOurs
from bot.metrics import CHANGED_BY_HAND, Metrics
from bot.model.errors import BotError
from bot.model.minted import OVER, REPLACEABLE, SETTLE_AFTER, MintedState, MintedToken, MintingLease
from bot.model.token_name import TRIAL, Scope, TokenName
from bot.rotation.quota import Quota
from bot.rotation.take_back import as_found
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens

LOOK_EVERY: Final = timedelta(hours=1)
SIGN_EVERY: Final = timedelta(minutes=1)
"""How often a minter says that it is there."""

_FIX: Final = "look at the catalog's credential with `/r2-credential status`, and rotate or store it"
_FIX_OF_SECOND: Final = "let only one of them rotate a bucket: each takes back only its own tokens"
_DISABLED_BY_HAND: Final = "token_disabled_by_hand"
_IN_USE: Final = frozenset({MintedState.PROVEN, MintedState.IN_SLOT})

_log = structlog.get_logger()


class Housekeeping:
    """One process at a time does it: the lease of bucket "" is for it."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        cloudflare: MintingClient,
        tokens: MintedTokens,
        installations: Installations,
        quota: Quota,
        scope: Scope,
        clock: Callable[[], datetime],
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._cloudflare = cloudflare
        self._tokens = tokens
        self._installations = installations
        self._quota = quota
        self._scope = scope
        self._clock = clock
        self._looked_at: datetime | None = None
        self._is_done = False
        self._signed_at = clock()
        self._trouble: str | None = None
        self._has_groups: bool | None = None
        self._others = set[str]()

    async def look_if_due(self) -> None:
        """Do all of it at the first call and then once an hour, and say once a minute that a minter is there.

        What could not be done is tried again in a minute.
        """
        now = self._clock()
        pause = LOOK_EVERY if self._is_done else SIGN_EVERY
        if self._looked_at is None or not timedelta(0) <= now - self._looked_at < pause:
            self._looked_at = self._signed_at = now
            self._is_done = await self.look()
        elif not timedelta(0) <= now - self._signed_at < SIGN_EVERY:
            self._signed_at = now
            await self._note(self._trouble)

    def look_again(self) -> None:
        """Look within a minute: Cloudflare has refused the minting token, and other processes have to know."""
        self._is_done = False

    async def look(self) -> bool:
        """Do all of it once, unless another process does. Never fails: what went wrong is noted, and told."""
        trouble: str | None = None
        try:
            lease = await self._tokens.take_house()
            if lease is None:
                return False
            await self._compare(lease)
            await self._quota.count()
            groups = await self._cloudflare.permission_groups()
            self._has_groups = not groups.refused(self._scope)
        except CloudflareError as error:
            trouble = error.code
            _log.error("tokens_not_listed", error=str(error))
        except BotError as error:
            _log.warning("tokens_not_compared", error=str(error))
            return False
        self._trouble = trouble
        await self._note(trouble)
        return trouble is None

    async def _note(self, trouble: str | None) -> None:
        try:
            await self._installations.note_seen(trouble, has_groups=self._has_groups)
        except BotError as error:
            _log.warning("minter_not_noted", error=str(error))

    async def _compare(self, lease: MintingLease) -> None:
        """Compare as of before the list was asked for: what was made since may not be in it yet."""
        asked_at = self._clock()
        found = await self._cloudflare.list_bots()
        mark = self._cloudflare.installation
        others = (each.name for each in found if each.name.installation not in (mark, TRIAL))
        self._tell_of_others({name.installation: name.bucket for name in others})
        listed = {str(each.name): each for each in found if each.name.is_ours(mark)}
        known = {token.name: token for token in await self._tokens.all_left()}
        unknown = {token.name: token for token in await self._tokens.named(listed.keys() - known.keys())}
        for token in known.values():
            await self._settle(lease, token, listed.get(token.name), asked_at)
        for name in listed.keys() - known.keys():
            await self._take_up(lease, listed[name], unknown.get(name))

    def _tell_of_others(self, others: Mapping[str, str]) -> None:
        """Tell once of each other installation: where both rotate a bucket, each replaces the other's credential."""
        for mark in others.keys() - self._others:
            _log.warning("second_installation", installation=mark, bucket=others[mark], fix=_FIX_OF_SECOND)
        self._others |= others.keys()

    async def _settle(
        self, lease: MintingLease, token: MintedToken, seen: ListedToken | None, asked_at: datetime
    ) -> None:
        """Bring a row to what Cloudflare says, if it had the time to know."""
        if seen is None and self._is_expired(token, asked_at):
            await self._tokens.change(token, replace(token, state=MintedState.DEAD), lease=lease)
        elif token.state in REPLACEABLE and asked_at - token.changed_at > SETTLE_AFTER:
            with suppress(TokenNotOurs):  # somebody renamed it, and it works
                await self._require_alive(lease, token, seen or await self._look_up(token))

    async def _look_up(self, token: MintedToken) -> ListedToken | None:
        """Ask for one that is not listed: pages shift while tokens are created and deleted."""
        name = TokenName.parse(token.name)
        return None if name is None or token.token_id is None else await self._cloudflare.get(token.token_id, name)

    async def _require_alive(self, lease: MintingLease, token: MintedToken, seen: ListedToken | None) -> None:
        """Tell people of a token that is in use and that somebody else has deleted or disabled."""
        if seen is None:
            if token.state in _IN_USE:
                _log.critical("token_revoked_by_hand", bucket=token.key.bucket, name=token.name, fix=_FIX)
                self._metrics.count(CHANGED_BY_HAND, "deleted")
            await self._tokens.change(token, replace(token, state=MintedState.DEAD), lease=lease)
        elif seen.status is TokenStatus.DISABLED and token.trouble is None and token.state in _IN_USE:
            _log.critical("token_disabled_by_hand", bucket=token.key.bucket, name=token.name, fix=_FIX)
            self._metrics.count(CHANGED_BY_HAND, "disabled")
            await self._tokens.change(token, replace(token, trouble=_DISABLED_BY_HAND), lease=lease)

    async def _take_up(self, lease: MintingLease, seen: ListedToken, known: MintedToken | None) -> None:
        """Take up a token that is at Cloudflare although no row, or one that is over, speaks of it."""
        now = self._clock()
        if seen.status is TokenStatus.EXPIRED:
            return
        if known is not None and known.state in OVER:
            if known.token_id is not None and await self._look_up(known) is None:
                return  # it is listed a while longer than it is there
            await self._tokens.change(known, as_found(known, seen, now), lease=lease)
        elif known is None:
            _log.warning("token_adopted", bucket=seen.name.bucket, name=str(seen.name))
            await self._tokens.adopt(self._as_row(seen, now))

    def _as_row(self, seen: ListedToken, now: datetime) -> MintedToken:
        return MintedToken(
            name=str(seen.name),
            key=seen.name.key(self._cloudflare.account_id),
            submission_id=None,
            state=MintedState.KEPT,
            token_id=seen.id,
            scope=self._scope.value,
            epoch=0,
            intended_at=now,
            due_at=now,
            changed_at=now,
            expires_at=seen.expires_at,
            was_sent=True,
        )

    @staticmethod
    def _is_expired(token: MintedToken, now: datetime) -> bool:
        return token.expires_at is not None and token.expires_at + SETTLE_AFTER < now
