"""Examines what Cloudflare lets the bot's own credentials do. Sends only GETs, and never at a store's expense."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from bot.cloudflare.access_findings import (
    describe_account,
    describe_not_asked,
    describe_refusal,
    describe_refused_token,
    describe_throttling,
    describe_token,
    describe_trouble,
    describe_unverified,
    describe_write_right,
)
from bot.cloudflare.answers import TokenVerification
from bot.cloudflare.auth import ApiKey
from bot.cloudflare.budget import Urgency
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CloudflareError, CloudflareTrouble, CloudflareUnreachable, Throttled
from bot.cloudflare.exchange import Turn
from bot.cloudflare.silence import explain_silence
from bot.model.errors import DatabaseTrouble
from bot.model.finding import Check, Finding, Mark, Part
from bot.model.submission import TokenKind

ANSWER_WITHIN: Final = timedelta(seconds=8)
"""For all questions of one try. Two tries and the pause stay below the patience with a check."""
TRY_AGAIN_AFTER: Final = timedelta(seconds=1)
SILENT_FOR: Final = timedelta(seconds=90)
"""How long Cloudflare may be silent before the bot is not ready: a second examination in a row, a minute later."""
LIST_EVERY: Final = timedelta(minutes=6)
"""Unless the refresh of the catalogs, every five minutes, has just done the same."""

TURN_WITHIN: Final = timedelta(seconds=3)
"""For a place in the queue: a queue of stores shows that Cloudflare answers."""

_BOTH: Final = (TokenKind.USER, TokenKind.ACCOUNT)
_ENDPOINTS: Final[Mapping[TokenKind, tuple[TokenKind, ...]]] = {
    TokenKind.USER: (TokenKind.USER,),
    TokenKind.ACCOUNT: (TokenKind.ACCOUNT,),
}

_T = TypeVar("_T")


class CloudflareAccess:
    """Remembers what it found: an outage hides nothing that was known before, and a list counts for minutes."""

    def __init__(
        self,
        cloudflare: CloudflareClient,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._cloudflare = cloudflare
        self._clock = clock
        self._timer = timer
        self._sleep = sleep
        self._found: list[Finding] = []
        self._answered_at = self._listed_at = float("-inf")
        self._catalogs = 0
        self._owner: TokenKind | None = None
        self._is_policy_hidden = False

    def check(self) -> Check:
        """Return the check of Cloudflare."""
        return Check(part=Part.CLOUDFLARE, examine=self.examine)

    def note_list(self, catalogs: int | None) -> None:
        """Note that the account's catalogs were listed, or with None that this failed: then the check lists again."""
        self._listed_at = float("-inf") if catalogs is None else self._timer()
        if catalogs is not None:
            self._catalogs, self._answered_at = catalogs, self._timer()

    async def examine(self) -> Sequence[Finding]:
        """Ask Cloudflare about the token and the account; after a failure, once more."""
        outcome = await self._try()
        if isinstance(outcome, CloudflareTrouble):
            await self._sleep(TRY_AGAIN_AFTER.total_seconds())
            outcome = await self._try()
        if isinstance(outcome, list):
            self._found, self._answered_at = outcome, self._timer()
            return outcome
        if isinstance(outcome, CloudflareTrouble):
            lasts = self._timer() - self._answered_at > SILENT_FOR.total_seconds()
            trouble = describe_trouble(outcome, lasts=lasts)
            return [*(each for each in self._found if each.mark is not Mark.OK), trouble]
        return [*self._found, outcome]

    async def _try(self) -> list[Finding] | CloudflareTrouble | Finding:
        """Return what is found, the lack of an answer, or why nothing can be asked now."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
                return await self._ask()
        except TimeoutError as late:
            return CloudflareUnreachable(failure=type(late).__name__, why=explain_silence(late, has_proxy=False))
        except _NoRoom as full:
            return describe_throttling(full.until)
        except Throttled as error:
            return describe_throttling(self._clock() + error.retry_after if error.retry_after else None)
        except DatabaseTrouble:
            return describe_not_asked()
        except CloudflareTrouble as trouble:
            return trouble.with_traceback(None)

    async def _ask(self) -> list[Finding]:
        verified, refused = await self._verify()
        token = describe_token(verified, self._owner, self._clock()) if verified and self._owner else None
        if token is not None and token.blocks:
            return [token]
        refusal = await self._list(even_if_listed=refused is not None)
        if refusal is not None and refused is not None:
            return [refused]  # for one reason
        if refusal is not None:
            chosen = self._cloudflare.is_family_chosen
            account = describe_refusal(refusal, is_active=token is not None, is_family_chosen=chosen)
            return [account] if token is None else [token, account]
        return [
            token or describe_unverified(is_key=isinstance(self._cloudflare.credentials, ApiKey)),
            describe_account(self._catalogs, self._cloudflare.catalog_api),
            describe_write_right(may_write=await self._may_write(verified)),
        ]

    async def _verify(self) -> tuple[TokenVerification | None, Finding | None]:
        """Return what Cloudflare says about the token, or what is wrong with it, or neither."""
        credentials = self._cloudflare.credentials
        if isinstance(credentials, ApiKey):
            return None, None
        refused = None
        for owner in (self._owner,) if self._owner is not None else _ENDPOINTS.get(credentials.kind, _BOTH):
            answer = await self._settle(partial(self._cloudflare.verify_own_token, owner))
            if isinstance(answer, TokenVerification):
                self._owner = owner
                return answer, None
            refused = describe_refused_token(answer, owner, credentials.kind) or refused
        return None, refused

    async def _list(self, *, even_if_listed: bool) -> CloudflareError | None:
        """List the catalogs, unless that was done lately; return the refusal, if it is refused.

        `even_if_listed`: the token was refused, so a list of some minutes ago says nothing any more.
        """
        if not even_if_listed and self._timer() - self._listed_at < LIST_EVERY.total_seconds():
            return None
        answer = await self._settle(self._cloudflare.list_catalogs)
        self.note_list(None if isinstance(answer, CloudflareError) else len(answer))
        return answer if isinstance(answer, CloudflareError) else None

    async def _may_write(self, verified: TokenVerification | None) -> bool | None:
        """Return whether the token's policies let it write; None if unknown. After a refusal it asks no more."""
        if verified is None or self._owner is None or self._is_policy_hidden:
            return None
        try:
            answer = await self._settle(partial(self._cloudflare.may_own_token_write, self._owner, verified.id))
        except CloudflareTrouble:  # the other answers are there, and say more
            return None
        self._is_policy_hidden = isinstance(answer, CloudflareError)
        return answer if isinstance(answer, bool) else None

    async def _settle(self, question: Callable[[Turn], Awaitable[_T]]) -> _T | CloudflareError:
        """Ask in turn, after everything else; return a refusal, and raise CloudflareTrouble or _NoRoom."""
        try:
            async with asyncio.timeout(TURN_WITHIN.total_seconds()):
                turn = await self._cloudflare.turn(Urgency.BACKGROUND)
        except TimeoutError:
            raise _NoRoom(None) from None
        if isinstance(turn, datetime):
            raise _NoRoom(turn)
        try:
            return await question(turn)
        except CloudflareTrouble:
            raise
        except CloudflareError as refusal:
            return refusal.with_traceback(None)
        finally:
            turn.give_back()


class _NoRoom(Exception):  # noqa: N818 - not an error
    """No request of the lowest urgency may be sent, until then if that is known."""

    def __init__(self, until: datetime | None) -> None:
        super().__init__()
        self.until = until
