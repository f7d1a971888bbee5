"""Typed calls to Cloudflare's API about catalogs and pasted tokens. Retries nothing and keeps no token."""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from http import HTTPStatus

import httpx

from bot.cloudflare.answers import (
    TokenVerification,
    parse_catalog,
    parse_list,
    parse_test,
    parse_verification,
    parse_write_right,
)
from bot.cloudflare.auth import ApiKey, ApiToken, Bearer, CredentialBody, Fence
from bot.cloudflare.budget import Urgency
from bot.cloudflare.calls import account_path
from bot.cloudflare.diagnosis import Answer
from bot.cloudflare.errors import CatalogInactive, CatalogRefusal, NoSuchBucket, RequestRejected, RouteGone
from bot.cloudflare.exchange import TOTAL_TIMEOUT, Exchange, Turn
from bot.cloudflare.pace import Pace
from bot.metrics import Metrics
from bot.model.catalog import BucketKey, Catalog, CatalogApi, CatalogStatus, CredentialStatus, is_bucket_name
from bot.model.clock_comparison import ClockComparison
from bot.model.right_of_way import RightOfWay
from bot.model.secret import Secret
from bot.model.submission import TokenKind
from bot.network import DIRECT, Network

NOT_OFFERED_FOR = timedelta(hours=1)
"""How long the test of stored credentials counts as not offered before it is tried again."""


class CloudflareClient:
    """A client for one account. Close it with `aclose()`.

    For a bucket of another account, nothing is sent and NoSuchBucket is raised.
    Every call raises only `CloudflareError`s, LeaseLost (those with `may_send`) and DatabaseTrouble (where the
    pace is kept in a database), follows no redirect and is safe to repeat; a request takes 30 s at most. On `auto` a
    call can be two requests.
    `may_send` is called when a request is about to go out, and False raises LeaseLost: a process that was frozen before
    that point sends nothing when it wakes up. Errors that it raises pass through.
    Requests with a pasted token take turns like all others; `Exchange` says what holds for each request.
    """

    def __init__(  # noqa: PLR0913 - the settings of a client, by name
        self,
        *,
        account_id: str,
        base_url: str,
        auth: ApiToken | ApiKey,
        catalog_api: CatalogApi = CatalogApi.AUTO,
        pace: Pace | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        total_timeout: timedelta = TOTAL_TIMEOUT,
        timer: Callable[[], float] = time.monotonic,
        network: Network = DIRECT,
        comparison: ClockComparison | None = None,
        metrics: Metrics | None = None,
        right_of_way: RightOfWay | None = None,
    ) -> None:
        self.account_id = account_id
        self.credentials = auth
        self._account_path = account_path(account_id)
        self._catalog_api = catalog_api
        self._preferred = CatalogApi.R2_CATALOG
        self._timer = timer
        self._not_offered_until = float("-inf")
        self._exchange = Exchange(
            base_url=base_url,
            auth=auth,
            pace=pace,
            transport=transport,
            total_timeout=total_timeout,
            network=network,
            comparison=comparison,
            metrics=metrics,
            right_of_way=right_of_way,
        )

    @property
    def catalog_api(self) -> CatalogApi:
        """The path family that the settings name, or on `auto` the one that answered last."""
        return self._list_families()[0]

    @property
    def is_family_chosen(self) -> bool:
        """Whether the settings name the only path family to use."""
        return self._catalog_api is not CatalogApi.AUTO

    async def turn(self, urgency: Urgency) -> Turn | datetime:
        """Wait in the queue and return the right to send a request; or return at once when to ask again.

        A call whose turn was already used waits for another one of the same urgency, and raises Throttled if nothing
        of that urgency may be sent for a while. A call without a turn has the lowest urgency. Raises DatabaseTrouble.
        """
        return await self._exchange.turn(urgency)

    async def list_catalogs(self, turn: Turn | None = None) -> list[Catalog]:
        """Return all catalogs of the account, in Cloudflare's order; entries without a bucket name are left out."""
        return parse_list(*await self._call("GET", turn=turn), self.account_id)

    async def verify_own_token(self, owner: TokenKind, turn: Turn | None = None) -> TokenVerification:
        """Verify the bot's own token; see `verify_token`. A Global API key cannot be verified."""
        return parse_verification(*await self._exchange.send("GET", f"{self._place(owner)}/tokens/verify", turn=turn))

    async def may_own_token_write(self, owner: TokenKind, token_id: str, turn: Turn | None = None) -> bool:
        """Return whether the policies of the bot's own token, whose id is `token_id`, let it write catalogs.

        Few tokens may read policies: the others get a CallerRejected or CallerLacksPermission.
        """
        answered = await self._exchange.send("GET", f"{self._place(owner)}/tokens/{token_id}", turn=turn)
        return parse_write_right(*answered, self.account_id)

    async def get_catalog(self, key: BucketKey, turn: Turn | None = None) -> Catalog:
        """Return the catalog of one bucket; raises AnswerNotUnderstood for an answer about another bucket."""
        return await self._get_catalog(key, turn)

    async def verify_token(
        self,
        token: Secret,
        owner: TokenKind,
        may_send: Callable[[], Awaitable[bool]],
        turn: Turn | None = None,
    ) -> TokenVerification:
        """Verify a pasted token, with that token: at the user's endpoint if `owner` is USER, else at the account's.

        This says nothing about the token's permissions. A refusal is raised as CallerRejected, as for the bot's own
        credentials; `bot.delivery.judge` decides what it means for a pasted token.
        """
        url = f"{self._place(owner)}/tokens/verify"
        return parse_verification(*await self._exchange.send("GET", url, turn=turn, cargo=Bearer(token, may_send)))

    async def get_catalog_as(
        self, key: BucketKey, token: Secret, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> Catalog:
        """Return the catalog of one bucket, requested with a pasted token, which proves that this token can read it.

        A refusal is raised as for the bot's own credentials; see `verify_token`.
        """
        return await self._get_catalog(key, turn, Bearer(token, may_send))

    async def test_credential(self, key: BucketKey, turn: Turn | None = None) -> CredentialStatus:
        """Have Cloudflare test the slot's credential: VALID, INVALID or ABSENT; raises RouteGone if not offered.

        Only the newer path family has this route. If it was missing within the last hour, nothing is sent.
        """
        bucket = self._require_possible(key)
        if self._catalog_api is CatalogApi.R2_CATALOG or self._timer() < self._not_offered_until:
            raise RouteGone
        try:
            answered = await self._exchange.send(
                "GET", self._path(CatalogApi.BASIN_CATALOG, bucket, "credential", "status"), turn=turn
            )
        except RouteGone:
            self._not_offered_until = self._timer() + NOT_OFFERED_FOR.total_seconds()
            raise
        return parse_test(*answered)

    async def enable_catalog(
        self, key: BucketKey, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> None:
        """Give a bucket a catalog, or switch its catalog on again; an active catalog stays as it is.

        A 409 ("Catalog already enabled", OpenAPI) says that it exists; a second request finds out whether it is on.
        """
        bucket = self._require_possible(key)
        try:
            await self._call("POST", bucket, "enable", turn=turn, cargo=Fence(may_send))
        except RequestRejected as answer:
            if answer.status != HTTPStatus.CONFLICT:
                raise
        else:
            return
        catalog = await self._get_catalog(key, turn)
        if catalog.status is not CatalogStatus.ACTIVE:
            raise CatalogInactive(status=HTTPStatus.CONFLICT, cf_ray=catalog.cf_ray)

    async def store_credential(
        self, key: BucketKey, token: Secret, may_send: Callable[[], Awaitable[bool]], turn: Turn | None = None
    ) -> str | None:
        """Write `token` into the bucket's slot; return the `cf-ray`, but only after an unambiguous success.

        `may_send` is called twice: before the headers and before the body go out.
        After an error with `possibly_landed`, the slot may or may not hold `token`.
        """
        bucket = self._require_possible(key)
        answer, _ = await self._call("POST", bucket, "credential", turn=turn, cargo=CredentialBody(token, may_send))
        return answer.cf_ray

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    async def _get_catalog(self, key: BucketKey, turn: Turn | None = None, cargo: Fence | None = None) -> Catalog:
        bucket = self._require_possible(key)
        return parse_catalog(*await self._call("GET", bucket, turn=turn, cargo=cargo), key)

    async def _call(
        self, method: str, *path: str, turn: Turn | None = None, cargo: Fence | None = None
    ) -> tuple[Answer, object]:
        """Call the family that answered last and, on `auto`, its twin when that route is gone."""
        gone: RouteGone | None = None
        for family in self._list_families():
            try:
                answered = await self._exchange.send(method, self._path(family, *path), turn=turn, cargo=cargo)
            except RouteGone as error:
                gone = gone or error
            except CatalogRefusal:
                self._preferred = family
                raise
            else:
                self._preferred = family
                return answered
        raise gone or RouteGone()

    def _require_possible(self, key: BucketKey) -> str:
        """Return the bucket's name; raises NoSuchBucket for another account and for an impossible name."""
        if key.account_id != self.account_id or not is_bucket_name(key.bucket):
            raise NoSuchBucket
        return key.bucket

    def _place(self, owner: TokenKind) -> str:
        """Return the path below which Cloudflare keeps the tokens of that owner."""
        return "user" if owner is TokenKind.USER else self._account_path

    def _path(self, family: CatalogApi, *path: str) -> str:
        return "/".join([self._account_path, family.value, *path])

    def _list_families(self) -> list[CatalogApi]:
        if self._catalog_api is not CatalogApi.AUTO:
            return [self._catalog_api]
        families = [CatalogApi.R2_CATALOG, CatalogApi.BASIN_CATALOG]
        return sorted(families, key=lambda family: family is not self._preferred)
