"""Typed calls to the account's API tokens, with a token that may create them. Retries nothing and keeps no token.

Anyone who holds the minting token administers the account. So this client changes only tokens whose names say that this
installation created them, for the buckets that it serves; an id comes from a signed row of the caller's.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import httpx

from bot.cloudflare.answers import TokenStatus, TokenVerification, is_token_id, parse_verification
from bot.cloudflare.auth import ApiToken, Body, Fence
from bot.cloudflare.budget import Urgency
from bot.cloudflare.calls import account_path
from bot.cloudflare.diagnosis import not_understood
from bot.cloudflare.exchange import TOTAL_TIMEOUT, Exchange, Turn
from bot.cloudflare.minting_answers import (
    ListedToken,
    Minted,
    find_total,
    means_gone,
    parse_minted,
    parse_page,
    parse_token,
    parse_total,
    read_minting_result,
    require_active,
)
from bot.cloudflare.minting_errors import MintingRefused, PermissionNotGrantable, RevocationRefused, TokenNotOurs
from bot.cloudflare.minting_policies import Grantable, build_policies, parse_grantable
from bot.cloudflare.pace import Pace
from bot.metrics import Metrics
from bot.model.catalog import BucketKey
from bot.model.clock_comparison import ClockComparison
from bot.model.secret import Secret
from bot.model.token_name import APPLICATION, Scope, TokenName, is_installation
from bot.network import DIRECT, Network

MaySend = Callable[[], Awaitable[bool]]

_PER_PAGE: Final = 50
"""The most that Cloudflare takes; the fewest is 5."""
_MOST_PAGES: Final = 200
_SECRET_NAMES: Final = ("value",)


class NameFilter(StrEnum):
    """What `?name=` does to a list: no document says."""

    PART = "part"
    """It takes a part of a name."""
    WHOLE = "whole"
    """It takes whole names only."""
    IGNORED = "ignored"
    """All tokens are listed, whatever it says."""
    BROKEN = "broken"
    """It does not find a token that is there."""


class MintingClient:
    """A client for the tokens of one account. Close it with `aclose()`.

    Every call raises only `CloudflareError`s (those of `bot.cloudflare.minting_errors` among them), LeaseLost (those
    with `may_send`), DatabaseTrouble (where the pace is kept in a database), and TokenNotOurs: for a name that lacks
    the mark of this installation or a bucket that it does not serve, with nothing sent; and where Cloudflare has
    another name for the id. `may_send` is called as the headers are about to go out, and again before the body.

    Cloudflare gives no idempotency. After an error of `create` with `possibly_landed`, or a cancellation, there may be
    a token with that name whose value is lost: never send the name again. Without it, there is none.
    All other calls are safe to repeat.

    `pace` is that of the minting token, whose budget is its own.
    """

    def __init__(  # noqa: PLR0913 - the settings of a client, by name
        self,
        *,
        account_id: str,
        base_url: str,
        token: Secret,
        installation: str,
        serves: Callable[[BucketKey], bool],
        pace: Pace | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        transport: httpx.AsyncBaseTransport | None = None,
        total_timeout: timedelta = TOTAL_TIMEOUT,
        network: Network = DIRECT,
        comparison: ClockComparison | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        if not is_installation(installation):
            message = "the mark of an installation is 8 lower-case hexadecimal digits"
            raise ValueError(message)
        self.account_id = account_id
        self.installation = installation
        self._serves = serves
        self._clock = clock
        self._path = f"{account_path(account_id)}/tokens"
        self._filters_by_part: bool | None = None
        self._exchange = Exchange(
            base_url=base_url,
            auth=ApiToken(token=token),
            read=read_minting_result,
            secret_names=_SECRET_NAMES,
            pace=pace,
            transport=transport,
            total_timeout=total_timeout,
            network=network,
            comparison=comparison,
            metrics=metrics,
        )

    async def turn(self, urgency: Urgency) -> Turn | datetime:
        """Wait in the queue and return the right to send a request; see `CloudflareClient.turn`."""
        return await self._exchange.turn(urgency)

    async def create(
        self, name: TokenName, scope: Scope, expires_at: datetime, may_send: MaySend, turn: Turn | None = None
    ) -> Minted:
        """Create the token of that name, once. Cloudflare keeps whole seconds of `expires_at`."""
        self._require_served(name)
        body = Body(self._describe(name, scope, expires_at), may_send)
        return parse_minted(*await self._exchange.send("POST", self._path, turn=turn, cargo=body), name)

    async def find(self, name: TokenName, turn: Turn | None = None) -> ListedToken | None:
        """Return the token of exactly this name, expired or not, or None if the account has none.

        Usually one request, whether Cloudflare's filter wants whole names or parts of them, so that no page can shift.
        A token that was created within the last minute may be missing.
        """
        self._require_ours(name)
        found = [token async for token in self._list(str(name), turn) if token.name == name]
        return found[0] if found else None

    async def list_bots(self, turn: Turn | None = None) -> list[ListedToken]:
        """Return the tokens that installations of the bot created, expired ones too.

        A token that is listed is there. One that is not listed may have been missed, because others were created or
        deleted while the pages were read, or it is new: make sure with `find` or `get`.
        """
        if self._filters_by_part is not False:
            found = [token async for token in self._list(APPLICATION, turn)]
            self._filters_by_part = bool(found) or self._filters_by_part
            if self._filters_by_part:
                return found
        # No document says whether the filter takes a part of a name. Nothing found: no tokens, or it does not.
        found = [token async for token in self._list(None, turn)]
        if found:
            self._filters_by_part = False
        return found

    async def examine_filter(self, name: TokenName, turn: Turn | None = None) -> NameFilter:
        """Find out what the filter of lists does, with the name of a token that is listed."""
        self._require_ours(name)
        if await self._is_listed(str(TokenName.new(self.installation, name.bucket)), turn):
            return NameFilter.IGNORED
        if await self._is_listed(APPLICATION, turn):
            return NameFilter.PART
        return NameFilter.WHOLE if await self._is_listed(str(name), turn) else NameFilter.BROKEN

    async def count_all(self, turn: Turn | None = None) -> int:
        """Return how many tokens the account has, of anybody, without the expired ones: for the quota."""
        answer, _ = await self._exchange.send("GET", self._path, query={"page": "1", "per_page": "5"}, turn=turn)
        return parse_total(answer)

    async def get(self, token_id: str, name: TokenName, turn: Turn | None = None) -> ListedToken | None:
        """Return one token as Cloudflare has it now, or None if it is gone."""
        path = self._path_of(token_id, name)
        try:
            answer, result = await self._exchange.send("GET", path, turn=turn)
        except MintingRefused as refused:
            if means_gone(refused):
                return None
            raise
        return _require_name(parse_token(answer, result, token_id, is_write=False), name)

    async def set_status(  # noqa: PLR0913 - a change replaces the whole token
        self,
        token_id: str,
        name: TokenName,
        scope: Scope,
        expires_at: datetime | None,
        may_send: MaySend,
        *,
        is_active: bool,
        turn: Turn | None = None,
    ) -> bool:
        """Disable a token, or enable it again; False if it is gone. Its value stays the same; so does an expired one.

        The change replaces all of the token, so `scope` and `expires_at` are those with which it was created. It would
        also replace the name: so Cloudflare is asked first whose the id is (see `delete`).
        """
        path = self._path_of(token_id, name)
        seen = await self.get(token_id, name, turn)
        if seen is None:
            return False
        if seen.status is TokenStatus.EXPIRED:  # nothing makes it work again, and its old expiry may be refused
            return True
        status = TokenStatus.ACTIVE if is_active else TokenStatus.DISABLED
        body = Body({**self._describe(name, scope, expires_at), "status": status.value}, may_send)
        try:
            answer, result = await self._exchange.send("PUT", path, turn=turn, cargo=body)
        except (MintingRefused, PermissionNotGrantable) as refused:
            if means_gone(refused):
                return False
            raise refused.as_kind(RevocationRefused) from None
        changed = _require_name(parse_token(answer, result, token_id, is_write=True), name)
        if changed.status is not status:
            raise not_understood(answer, is_write=True)
        return True

    async def delete(
        self,
        token_id: str,
        name: TokenName,
        may_send: MaySend,
        turn: Turn | None = None,
        *,
        seen: ListedToken | None = None,
    ) -> bool:
        """Delete a token for good; False if it was gone already.

        A gateway that is taken over has the key that signs rows: one with a foreign token's id would be authentic. So
        what Cloudflare calls the id decides, and not the row; `seen` is what `get` has just said of it.
        """
        path = self._path_of(token_id, name)
        if seen is None and (seen := await self.get(token_id, name, turn)) is None:
            return False
        if (seen.id, seen.name) != (token_id, name):
            raise TokenNotOurs
        try:
            await self._exchange.send("DELETE", path, turn=turn, cargo=Fence(may_send))
        except MintingRefused as refused:
            if means_gone(refused):
                return False
            raise refused.as_kind(RevocationRefused) from None
        return True

    async def permission_groups(self, turn: Turn | None = None) -> Grantable:
        """Return which of the permissions that minted tokens need cannot be granted now."""
        return parse_grantable(*await self._exchange.send("GET", f"{self._path}/permission_groups", turn=turn))

    async def verify_own(self, turn: Turn | None = None) -> TokenVerification:
        """Return what Cloudflare says about the minting token; raises the MintingError if it cannot be used."""
        verified = parse_verification(*await self._exchange.send("GET", f"{self._path}/verify", turn=turn))
        return require_active(verified, self._clock())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    async def _list(self, name: str | None, turn: Turn | None) -> AsyncIterator[ListedToken]:
        """Yield the bots' tokens among those whose names match, page by page, each once.

        A page may have fewer tokens than were asked for. Raises AnswerNotUnderstood for a list that does not end: what
        is missing in it would count as gone.
        """
        seen, read = set[str](), 0
        for page in range(1, _MOST_PAGES + 1):
            query = {"page": str(page), "per_page": str(_PER_PAGE), "include_expired": "true"}
            answered = await self._exchange.send(
                "GET", self._path, query=query | ({"name": name} if name else {}), turn=turn
            )
            tokens, size = parse_page(*answered)
            for token in tokens:
                if token.id not in seen:
                    seen.add(token.id)
                    yield token
            read += size
            if size == 0 or (size < _PER_PAGE and read >= find_total(answered[0])):
                return
        raise not_understood(answered[0], is_write=False)

    async def _is_listed(self, name: str, turn: Turn | None) -> bool:
        """Return whether anything at all is listed under this name."""
        query = {"page": "1", "per_page": "5", "include_expired": "true", "name": name}
        _, size = parse_page(*await self._exchange.send("GET", self._path, query=query, turn=turn))
        return size > 0

    def _describe(self, name: TokenName, scope: Scope, expires_at: datetime | None) -> dict[str, object]:
        described: dict[str, object] = {"name": str(name), "policies": build_policies(self.account_id, name, scope)}
        if expires_at is None:
            return described
        return {**described, "expires_on": expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def _path_of(self, token_id: str, name: TokenName) -> str:
        self._require_ours(name)
        if not is_token_id(token_id):
            raise TokenNotOurs
        return f"{self._path}/{token_id}"

    def _require_ours(self, name: TokenName) -> None:
        if not name.is_ours(self.installation):
            raise TokenNotOurs

    def _require_served(self, name: TokenName) -> None:
        self._require_ours(name)
        if not self._serves(name.key(self.account_id)):
            raise TokenNotOurs


def _require_name(token: ListedToken | None, name: TokenName) -> ListedToken:
    """Return the token, unless it has another name at Cloudflare: then the row, or somebody, is wrong."""
    if token is None or token.name != name:
        raise TokenNotOurs
    return token
