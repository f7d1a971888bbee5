"""What Cloudflare answered, or that it did not: the branch of the tree of errors that this package raises.

CloudflareError
├── Refusal                a definite no that the person who submitted can mend
│   ├── TokenRefusal       it is about the pasted token
│   │   ├── TokenInvalid
│   │   ├── TokenMalformed
│   │   ├── TokenExpired
│   │   ├── TokenDisabled
│   │   ├── TokenExposed
│   │   ├── TokenNotYetValid
│   │   ├── TokenLimitedToAddresses
│   │   ├── TokenOfAnotherAccount
│   │   ├── CatalogOutOfReach
│   │   ├── LacksCatalogRights
│   │   ├── LacksStorageRights
│   │   └── CredentialRefused
│   └── CatalogRefusal     it is about the bucket and its catalog
│       ├── CatalogNotEnabled
│       ├── CatalogInactive
│       └── NoSuchBucket
├── OperatorError          the bot's own access to Cloudflare is not right: whoever runs the bot can mend it
│   ├── CallerRejected
│   ├── CallerLacksPermission
│   ├── CallerNotAllowed
│   ├── RouteGone
│   ├── R2NotEnabled
│   ├── ChallengePage
│   ├── BlockedOnTheWay
│   └── RequestRejected
├── UnexplainedRefusal     a no without a reason: about the token, the bot or the way between, nobody knows
└── CloudflareTrouble      it passes: the bot tries again by itself
    ├── Throttled
    ├── EdgeRefused
    ├── CloudflareUnavailable
    ├── CloudflareUnreachable
    └── AnswerNotUnderstood
"""

# ruff: noqa: N818 - the leaves are named for what happened, in the words that the documents use

import re
from datetime import timedelta
from http import HTTPStatus
from typing import ClassVar, Final

from bot.model.errors import ENABLE_CATALOG, RIGHT_TOKEN, BotError, Told, Transient, WhoseMove

DOCUMENTATION_URL: Final = re.compile(
    r"https://developers\.cloudflare\.com"
    r"(?:/[a-z0-9]{1,24}(?:[-.][a-z0-9]{1,24})*)*/?(?:#[a-z0-9]{1,24}(?:-[a-z0-9]{1,24})*)?"
)
"""What may become a link: https, this very host, no port, no query, no word that could be a token or markup."""

_BOTS_TOKENS_PAGE: Final = "https://dash.cloudflare.com/?to=/:account/api-tokens"
_CUSTOM_RIGHTS: Final = (
    '"Object Read & Write" is not enough; a custom token needs "Workers R2 Data Catalog Write" and "Workers R2 Storage '
    'Write"'
)


class CloudflareError(BotError):
    """An answer of Cloudflare that is no success, or the lack of one. Can be pickled; holds no request and no response.

    `cloudflare_message` is Cloudflare's own text, shortened, without control characters and token-shaped strings; it
    is not escaped; the address of a page of Cloudflare's documentation may follow it. `possibly_landed`: this was a
    write, and whether it happened is not known. `cause` says why there is no answer.

    A leaf states the answers that mean it: `cloudflare_codes` whatever the HTTP status (none is documented for some,
    and others come with odd ones); `client_codes` inside a 4xx, or a 2xx with `success: false` (inside a 5xx they are
    Cloudflare's own trouble); `statuses` without a code that we know.

    `passes`: the same may be answered for a while, before a write, to a token that is good; it is final after
    `R2_CREDENTIAL_FRESH_TOKEN_PATIENCE`, and `waiting` is told meanwhile.
    """

    cloudflare_codes: ClassVar[tuple[int, ...]] = ()
    client_codes: ClassVar[tuple[int, ...]] = ()
    statuses: ClassVar[tuple[HTTPStatus, ...]] = ()
    passes: ClassVar[bool] = False
    waiting: ClassVar[str] = "Waiting for Cloudflare to know this token: a new one can take up to a minute."

    def __init__(  # noqa: PLR0913 - a record of what is known of one answer, by name and all optional
        self,
        *,
        status: int | None = None,
        cloudflare_code: int | None = None,
        cloudflare_message: str = "",
        cf_ray: str | None = None,
        retry_after: timedelta | None = None,
        possibly_landed: bool = False,
        cause: str = "",
    ) -> None:
        super().__init__()
        self.status = status
        self.cloudflare_code = cloudflare_code
        self.cloudflare_message = cloudflare_message
        self.cf_ray = cf_ray
        self.retry_after = retry_after
        self.possibly_landed = possibly_landed
        self.cause = cause

    def __str__(self) -> str:
        known = {"status": self.status, "cloudflare_code": self.cloudflare_code, "cf_ray": self.cf_ray}
        known |= {"cause": self.cause or None}
        return " ".join([self.code, *(f"{name}={value}" for name, value in known.items() if value is not None)])


class Refusal(CloudflareError):
    """A definite no, and the person who submitted can mend it. Nothing was written."""

    whose_move = WhoseMove.YOU


class TokenRefusal(Refusal):
    """Cloudflare does not take this token, or the token does not lead to the catalog.

    Those that pass are answered to a token that was made a moment ago as well, until all of Cloudflare knows it.
    """


class TokenInvalid(TokenRefusal):
    """Code 1000 of the endpoint that verifies tokens: there is no such token."""

    code = "token_invalid"
    passes = True
    user_message = (
        "Cloudflare does not know this token: it was cut off while copying, deleted, or rolled since. Your move: copy "
        f"the whole token again and submit it; or, since Cloudflare shows a token only once, {RIGHT_TOKEN}."
    )


class TokenMalformed(TokenRefusal):
    """Code 6003, 6103 or 6111 about the pasted token: it cannot be one."""

    code = "token_malformed"
    user_message = (
        "Cloudflare says that this is no token at all: most likely a part of one, or another kind of secret. Your "
        f"move: copy the whole token again and submit it; or {RIGHT_TOKEN}."
    )


class TokenExpired(TokenRefusal):
    """The token's `expires_on` has passed."""

    code = "token_expired"
    user_message = f"This token has expired. Your move: {RIGHT_TOKEN}, with a later expiry date, and submit that one."


class TokenDisabled(TokenRefusal):
    """Somebody disabled the token."""

    code = "token_disabled"
    user_message = (
        "This token is disabled. Your move: ask whoever disabled it why; then enable it again in the Cloudflare "
        f"dashboard and submit it, or {RIGHT_TOKEN}."
    )


class TokenExposed(TokenRefusal):
    """Status "revoked (exposed)": Cloudflare found the token in public and revoked it."""

    code = "token_exposed"
    user_message = (
        "Cloudflare found this token in public and revoked it: treat what it could reach as disclosed. Your move: "
        f"find out where it was published and remove it there; then {RIGHT_TOKEN}, and submit that one."
    )


class TokenNotYetValid(TokenRefusal):
    """The token's `not_before` is yet to come."""

    code = "token_not_yet_valid"
    user_message = (
        "This token is not valid yet: its start date is in the future, and the catalog would be locked out until "
        f"then. Your move: submit it again when that day has come, or {RIGHT_TOKEN}, without a start date."
    )


class TokenLimitedToAddresses(TokenRefusal):
    """Code 9109 that speaks of a location: the token may be used from certain IP addresses only, and not from here."""

    code = "token_limited_to_addresses"
    user_message = (
        "This token may be used from certain IP addresses only, and the catalog would have to use it from others: "
        "Cloudflare did not even take it from the bot. Your move: remove the client IP address filter from the token "
        f"and submit it again, or {RIGHT_TOKEN}, without such a filter."
    )


class TokenOfAnotherAccount(TokenRefusal):
    """Code 10000 of the account's own endpoint: an account token of some other account."""

    code = "token_of_another_account"
    passes = True
    user_message = (
        "This token belongs to another Cloudflare account than the one that the bot works for. Your move: switch to "
        f"the account that has the bucket, and there {RIGHT_TOKEN}."
    )


class CatalogOutOfReach(TokenRefusal):
    """The token is active, but Cloudflare does not let it see this catalog: another account, or no right."""

    code = "catalog_out_of_reach"
    passes = True
    user_message = (
        "This token is active, but it does not reach this catalog: it belongs to another Cloudflare account, is "
        "limited to other buckets, or lacks the right to R2 Data Catalog (Basin Catalog). Your move: in the account "
        f"that has the bucket, {RIGHT_TOKEN}, for this bucket or all buckets."
    )


class LacksCatalogRights(TokenRefusal):
    """The token is active and of this account, but cannot read this catalog."""

    code = "lacks_catalog_rights"
    passes = True
    user_message = (
        "This token is active, but may not use this catalog: it lacks the right to R2 Data Catalog (Basin Catalog), "
        f"or is limited to other buckets. Your move: {RIGHT_TOKEN}, for this bucket or all buckets. {_CUSTOM_RIGHTS}."
    )


class LacksStorageRights(TokenRefusal):
    """Codes 30004 and 30005 about a token that was found active and able to read the catalog."""

    code = "lacks_storage_rights"
    user_message = (
        "This token is active and reaches the catalog, but Cloudflare did not store it: it lacks the right to read "
        "and write the bucket's data (R2 storage), or to write in R2 Data Catalog (Basin Catalog). Your move: if it "
        f"was created a moment ago, submit it once more in a minute; else {RIGHT_TOKEN}, for this bucket or all "
        f"buckets. {_CUSTOM_RIGHTS}."
    )


class CredentialRefused(TokenRefusal):
    """Codes 30004 and 30005, or a refusal to show the catalog, about a token of which no more is known."""

    code = "credential_refused"
    cloudflare_codes = (30004, 30005)
    passes = True
    user_message = (
        "Cloudflare refused this token: either it is not valid (cut off while copying, expired, disabled or deleted), "
        f"or it lacks a right that the catalog needs. Your move: {RIGHT_TOKEN}, for this bucket or all buckets, and "
        f"submit that one. {_CUSTOM_RIGHTS}."
    )


class CatalogRefusal(Refusal):
    """The catalog is not there, or takes no credential."""


class CatalogNotEnabled(CatalogRefusal):
    """Code 40401: the bucket exists, its catalog was never enabled."""

    code = "catalog_not_enabled"
    cloudflare_codes = (40401,)
    user_message = (
        f"This bucket has no catalog, so there is nothing that could use a credential. Your move: {ENABLE_CATALOG}."
    )


class CatalogInactive(CatalogRefusal):
    """Code 40402: the bucket's catalog was disabled."""

    code = "catalog_inactive"
    cloudflare_codes = (40402,)
    user_message = (
        f"The catalog of this bucket is switched off; what it held is still there. Your move: {ENABLE_CATALOG}."
    )


class NoSuchBucket(CatalogRefusal):
    """Codes 40406 and 10006: the account has no such bucket (or has not had it for long enough)."""

    code = "no_such_bucket"
    cloudflare_codes = (10006, 40406)
    user_message = (
        "Cloudflare knows no bucket of this name in the account that the bot works for. Your move: check the name. "
        "A bucket that was created a moment ago can take a minute to be known. Catalogs exist only for buckets "
        "without a jurisdiction (no EU, no FedRAMP)."
    )


class OperatorError(CloudflareError):
    """The bot's own access to Cloudflare is not right. Submitting again changes nothing until its operator acts."""

    whose_move = WhoseMove.OPERATOR


class CallerRejected(OperatorError):
    """Code 10000, its kin, or a bare 401/403: the bot's own credentials, never the pasted token."""

    code = "caller_rejected"
    client_codes = (1000, 6003, 6103, 6111, 9103, 9106, 9109, 10000)
    statuses = (HTTPStatus.UNAUTHORIZED,)
    user_message = (
        "Cloudflare did not accept the bot's own credentials; your token is not the reason. The operator of the bot "
        "has to act: check that CLOUDFLARE_API_TOKEN (or CLOUDFLARE_EMAIL with CLOUDFLARE_API_KEY) is valid and "
        "unexpired, belongs to the account CLOUDFLARE_ACCOUNT_ID, and has the permission "
        f'"Workers R2 Data Catalog Write" (the product is now also called Basin Catalog), at {_BOTS_TOKENS_PAGE}. '
        "Submit again after that."
    )


class CallerLacksPermission(OperatorError):
    """Code 10000 "Forbidden": the bot's own credentials are known, and lack a permission."""

    code = "caller_lacks_permission"
    user_message = (
        "The bot's own Cloudflare token lacks a permission; your token is not the reason. The operator of the bot has "
        'to act: give it "Workers R2 Data Catalog Write" (the product is now also called Basin Catalog) for the '
        f"account, at {_BOTS_TOKENS_PAGE}. Submit again after that."
    )


class CallerNotAllowed(OperatorError):
    """Code 10001 with a text that speaks of the token: the bot is known to Cloudflare, but may not do this."""

    code = "caller_not_allowed"
    user_message = (
        "Cloudflare knows the bot but does not let it do this; your token is not the reason. The operator of the bot "
        'has to act: give the bot\'s own API token the permission "Workers R2 Data Catalog Write" for the account, at '
        f"{_BOTS_TOKENS_PAGE} (R2 Data Catalog is now also called Basin Catalog). Submit again after that."
    )


class RouteGone(OperatorError):
    """Codes 7003 and 7000, or a 404, 405 or 410 that does not come from the catalog: no such path."""

    code = "route_gone"
    client_codes = (7000, 7003)
    statuses = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE)
    user_message = (
        "Cloudflare offers no catalogs at the address that the bot uses; your token is not the reason. The operator "
        "of the bot has to act: check CLOUDFLARE_ACCOUNT_ID (32 characters, from the dashboard's address), that the "
        "account has R2 Data Catalog (Basin Catalog), and that R2_CREDENTIAL_CATALOG_API is auto. Submit again after "
        "that."
    )


class R2NotEnabled(OperatorError):
    """Code 10042: the account never accepted R2."""

    code = "r2_not_enabled"
    cloudflare_codes = (10042,)
    user_message = (
        "R2 is not enabled on the Cloudflare account that the bot works for. Someone who administers that account has "
        "to act: open R2 in the Cloudflare dashboard and enable it, then enable R2 Data Catalog (Basin Catalog) on "
        "the bucket. Submit again after that."
    )


class ChallengePage(OperatorError):
    """A page that wants a browser solved it: the request never reached the API."""

    code = "challenge_page"
    user_message = (
        "Cloudflare answered the bot with a page that asks for a human, so the request did not get through; your "
        "token is not the reason. The operator of the bot has to act: requests from this network address are being "
        "challenged, so let the bot reach api.cloudflare.com from another address, or ask Cloudflare's support and "
        "name the Ray ID. Submit again after that."
    )


class BlockedOnTheWay(OperatorError):
    """A no that is not the API's: a page of Cloudflare's firewall, a proxy (407) or a filter (403, 451)."""

    code = "blocked_on_the_way"
    statuses = (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS)
    user_message = (
        "Something between the bot and Cloudflare's API turned the request away; your token is not the reason. The "
        "operator of the bot has to act: let the bot reach api.cloudflare.com past the proxy, filter or firewall that "
        "said no. Submit again after that."
    )


class RequestRejected(OperatorError):
    """A definite no that is in no table of ours."""

    code = "request_rejected"
    user_message = (
        "Cloudflare rejected the request for a reason that the bot does not know. The operator of the bot has to "
        "look: Cloudflare's code and Ray ID are below, and Cloudflare's support can tell what they mean. Submitting "
        "the same again will most likely end the same way."
    )


class UnexplainedRefusal(CloudflareError):
    """A 401 or 403 before the write, without a code that we know, that lasted: nobody knows what it is about."""

    code = "unexplained_refusal"
    passes = True
    waiting = "Cloudflare refused, and gave no reason that the bot knows."
    whose_move = WhoseMove.OPERATOR
    user_message = (
        "Cloudflare, or something between it and the bot, kept refusing and gave no reason. The operator of the bot "
        "has to act: find out with the Ray ID, or in the proxy's log, who said no. Another token may help too."
    )


class CloudflareTrouble(CloudflareError, Transient, told=None):
    """It passes by itself. `leaves_open` whether a write was carried out, unless the leaf knows better."""

    whose_move = WhoseMove.CLOUDFLARE
    leaves_open: ClassVar[bool] = True


class Throttled(
    CloudflareTrouble,
    told=Told(
        waiting="Cloudflare limits how many requests it takes from the bot.",
        lasted="Cloudflare kept limiting how many requests it takes from the bot.",
    ),
):
    """Code 971, 1015 or HTTP 429: too many requests; `retry_after` says when to come back, where Cloudflare said it."""

    code = "throttled"
    cloudflare_codes = (971, 1015)
    statuses = (HTTPStatus.TOO_MANY_REQUESTS,)
    whose_move = WhoseMove.NOBODY
    leaves_open = False


class EdgeRefused(
    CloudflareTrouble,
    told=Told(
        waiting="Cloudflare's edge turned the request away.",
        lasted=(
            "Cloudflare's edge kept turning the request away; if that goes on, the operator of the bot should look "
            "whether its network address is blocked."
        ),
    ),
):
    """Another 1xxx error of Cloudflare's edge: the request was turned away on its way to the API."""

    code = "edge_refused"


class CloudflareUnavailable(
    CloudflareTrouble,
    told=Told(
        waiting="Cloudflare has trouble answering.",
        lasted="Cloudflare kept having trouble (https://www.cloudflarestatus.com).",
    ),
):
    """HTTP 5xx, 408, or a code that means the same."""

    code = "cloudflare_unavailable"
    statuses = (HTTPStatus.REQUEST_TIMEOUT,)


class CloudflareUnreachable(
    CloudflareTrouble,
    told=Told(
        waiting="The bot got no answer from Cloudflare.",
        lasted=(
            "The bot got no answer from Cloudflare; if that goes on, the operator of the bot should check the network "
            "between the bot and api.cloudflare.com."
        ),
    ),
):
    """No answer: no connection, a broken one, or one that took too long."""

    code = "cloudflare_unreachable"


class AnswerNotUnderstood(
    CloudflareTrouble,
    told=Told(
        waiting="Cloudflare answered in a way that the bot does not understand.",
        lasted=(
            "Cloudflare kept answering in a way that the bot does not understand; if that goes on, the operator of the "
            "bot should look for a newer version of it."
        ),
    ),
):
    """An answer that is neither a clear yes nor a clear no."""

    code = "answer_not_understood"
