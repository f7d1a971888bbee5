"""The branch of the error tree that this package raises: a refusal by Cloudflare, or the lack of a usable answer.

CloudflareError
├── Refusal                a definite refusal that the person who submitted can fix
│   ├── TokenRefusal       of the pasted token
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
│   └── CatalogRefusal     of the bucket or its catalog
│       ├── CatalogNotEnabled
│       ├── CatalogInactive
│       └── NoSuchBucket
├── OperatorError          the bot's own access to Cloudflare is broken: the operator can fix it
│   ├── CallerRejected
│   ├── CallerLacksPermission
│   ├── CallerNotAllowed
│   ├── RouteGone
│   ├── R2NotEnabled
│   ├── ChallengePage
│   ├── BlockedOnTheWay
│   └── RequestRejected
├── UnexplainedRefusal     a refusal without a reason: of the token, the bot, or by something in between
└── CloudflareTrouble      transient: the bot retries
    ├── Throttled
    ├── EdgeRefused
    ├── CloudflareUnavailable
    ├── CloudflareUnreachable
    └── AnswerNotUnderstood
"""

# ruff: noqa: N818 - the leaves are named for what happened, as in the documents

import re
from datetime import timedelta
from http import HTTPStatus
from typing import ClassVar, Final, TypeVar

from bot.model.errors import (
    CREATE_ANOTHER,
    ENABLE_CATALOG,
    OF_THE_BOTS_TOKEN,
    PASTE_AGAIN,
    ROTATE_AGAIN,
    BotError,
    Told,
    Transient,
    WhoActs,
    Words,
)
from bot.model.no_answer import NoAnswer

DOCUMENTATION_URL: Final = re.compile(
    r"https://developers\.cloudflare\.com"
    r"(?:/[a-z0-9]{1,24}(?:[-.][a-z0-9]{1,24})*)*/?(?:#[a-z0-9]{1,24}(?:-[a-z0-9]{1,24})*)?"
)
"""What may become a link: https, this host only, no port, no query, nothing that could be a token or markup."""

_COPY_AGAIN: Final = "Copy the whole token again and submit it."
_CUSTOM_RIGHTS: Final = 'Custom tokens: "Workers R2 Data Catalog Write" and "Workers R2 Storage Write".'
_NOT_YOURS: Final = "; your token is not the reason."
_KEPT_REFUSING: Final = "Cloudflare, or something between it and the bot, kept refusing and gave no reason"
_ADDRESS: Final = "CLOUDFLARE_ACCOUNT_ID"
_TOKEN: Final = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - the name of a setting
_UNAUTHORIZED: Final = 9109
_FROM_ELSEWHERE: Final = re.compile(r"from location", re.IGNORECASE)
_BOTS_RIGHT: Final = (
    'give the bot\'s own token the permission "Workers R2 Data Catalog Write" for the account, in the dashboard under '
    "Manage Account, Account API Tokens"
)

_Kind = TypeVar("_Kind", bound="CloudflareError")


class CloudflareError(BotError):
    """An unsuccessful answer of Cloudflare, or the lack of one. Can be pickled; holds no request and no response.

    `cloudflare_message` is Cloudflare's own text, shortened, without control characters and token-shaped strings, and
    not escaped; the URL of a page of Cloudflare's documentation may follow it. `possibly_landed`: this was a write,
    and it is not known whether it happened. `failure` is the exception behind a missing answer, and `why` explains it.

    A leaf states the answers that mean it: `cloudflare_codes` at any HTTP status (some have no documented status, and
    others come with odd ones); `client_codes` in a 4xx, or in a 2xx with `success: false` (in a 5xx they are a problem
    of Cloudflare's); `statuses` without a known code.

    `passes`: before a write, Cloudflare may answer the same to a good but new token for a while. It becomes final
    after `R2_CREDENTIAL_FRESH_TOKEN_PATIENCE`; until then people read `waiting`.
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
        failure: str = "",
        why: NoAnswer | None = None,
    ) -> None:
        super().__init__()
        self.status = status
        self.cloudflare_code = cloudflare_code
        self.cloudflare_message = cloudflare_message
        self.cf_ray = cf_ray
        self.retry_after = retry_after
        self.possibly_landed = possibly_landed
        self.failure = failure
        self.why = why

    @property
    def is_about_addresses(self) -> bool:
        """Whether it says that the token works from certain IP addresses only, and not from this one."""
        return self.cloudflare_code == _UNAUTHORIZED and _FROM_ELSEWHERE.search(self.cloudflare_message) is not None

    def as_kind(self, kind: type[_Kind]) -> _Kind:
        """Return the same answer as another error: what it means about another token."""
        return kind(
            status=self.status,
            cloudflare_code=self.cloudflare_code,
            cloudflare_message=self.cloudflare_message,
            cf_ray=self.cf_ray,
            retry_after=self.retry_after,
            possibly_landed=self.possibly_landed,
            failure=self.failure,
            why=self.why,
        )

    def __str__(self) -> str:
        known = {"status": self.status, "cloudflare_code": self.cloudflare_code, "cf_ray": self.cf_ray}
        known |= {"cause": self.failure or None}
        return " ".join([self.code, *(f"{name}={value}" for name, value in known.items() if value is not None)])


class Refusal(CloudflareError):
    """A definite refusal that the person who submitted can fix. Nothing was written."""

    who_acts = WhoActs.YOU


class TokenRefusal(Refusal):
    """Cloudflare does not accept this token, or the token does not reach the catalog.

    Cloudflare also answers those with `passes` to a token that was just created, until all of its servers know it.
    """

    rotating = OF_THE_BOTS_TOKEN


class TokenInvalid(TokenRefusal):
    """Code 1000 of the token verification endpoint: there is no such token."""

    code = "token_invalid"
    passes = True
    cause = "Cloudflare does not know this token: it was cut off while copying, deleted, or rolled."
    fixes = (_COPY_AGAIN, CREATE_ANOTHER)


class TokenMalformed(TokenRefusal):
    """Code 6003, 6103 or 6111 about the pasted token: it cannot be a token."""

    code = "token_malformed"
    cause = "Cloudflare says this is not a token: it may be part of one, or another secret."
    fixes = (_COPY_AGAIN, CREATE_ANOTHER)


class TokenExpired(TokenRefusal):
    """The token's `expires_on` has passed."""

    code = "token_expired"
    cause = "This token has expired."
    fixes = (CREATE_ANOTHER,)


class TokenDisabled(TokenRefusal):
    """The token is disabled."""

    code = "token_disabled"
    cause = "This token is disabled."
    fixes = ("Find out who disabled it and why; once it is enabled, submit it again.", CREATE_ANOTHER)


class TokenExposed(TokenRefusal):
    """Status "revoked (exposed)": Cloudflare found the token in public and revoked it."""

    code = "token_exposed"
    cause = "Cloudflare found this token in public and revoked it: treat what it could reach as disclosed."
    fixes = ("Remove it from where it was published.", CREATE_ANOTHER)


class TokenNotYetValid(TokenRefusal):
    """The token's `not_before` is in the future."""

    code = "token_not_yet_valid"
    cause = "This token is not valid yet: the catalog would be locked out until its start date."
    fixes = ("Submit it again on that day.", CREATE_ANOTHER)


class TokenLimitedToAddresses(TokenRefusal):
    """Code 9109 with a text about a location: the token works from certain IP addresses only, and not from here."""

    code = "token_limited_to_addresses"
    cause = "This token works from certain IP addresses only, and the catalog uses it from others."
    fixes = ("Remove its IP address filter and submit it again.", CREATE_ANOTHER)


class TokenOfAnotherAccount(TokenRefusal):
    """Code 10000 of the account's own endpoint: an account token of another account."""

    code = "token_of_another_account"
    passes = True
    cause = "This token belongs to a different Cloudflare account from the bot's."
    fixes = ("In Cloudflare, switch to the account that has the bucket.", CREATE_ANOTHER)


class CatalogOutOfReach(TokenRefusal):
    """The token is active, but may not see this catalog: another account, or a missing permission."""

    code = "catalog_out_of_reach"
    passes = True
    cause = (
        "This token is active, but does not reach this catalog: another account, other buckets, or no permission for "
        "R2 Data Catalog (Basin Catalog)."
    )
    fixes = (CREATE_ANOTHER,)


class LacksCatalogRights(TokenRefusal):
    """The token is active and of this account, but cannot read this catalog."""

    code = "lacks_catalog_rights"
    passes = True
    cause = "This token may not use R2 Data Catalog (Basin Catalog) here."
    fixes = (CREATE_ANOTHER, _CUSTOM_RIGHTS)


class LacksStorageRights(TokenRefusal):
    """Codes 30004 and 30005 about a token that was found active and able to read the catalog."""

    code = "lacks_storage_rights"
    cause = "This token reaches the catalog, but may not write the bucket's data."
    fixes = (CREATE_ANOTHER, _CUSTOM_RIGHTS)


class CredentialRefused(TokenRefusal):
    """Codes 30004 and 30005, or a refusal to show the catalog, when nothing else is known about the token."""

    code = "credential_refused"
    cloudflare_codes = (30004, 30005)
    passes = True
    cause = "Cloudflare refused this token: it is not valid, or lacks a permission."
    fixes = (CREATE_ANOTHER, _CUSTOM_RIGHTS)


class CatalogRefusal(Refusal):
    """There is no catalog, or it accepts no credential."""


class CatalogNotEnabled(CatalogRefusal):
    """Code 40401: the bucket exists, its catalog was never enabled."""

    code = "catalog_not_enabled"
    cloudflare_codes = (40401,)
    cause = "This bucket has no catalog that could use a credential."
    fixes = (ENABLE_CATALOG, PASTE_AGAIN)
    rotating = Words(fixes=(ENABLE_CATALOG, ROTATE_AGAIN))


class CatalogInactive(CatalogRefusal):
    """Code 40402: the bucket's catalog was disabled."""

    code = "catalog_inactive"
    cloudflare_codes = (40402,)
    cause = "The bucket's catalog is switched off; its data is intact."
    fixes = (ENABLE_CATALOG, PASTE_AGAIN)
    rotating = Words(fixes=(ENABLE_CATALOG, ROTATE_AGAIN))


class NoSuchBucket(CatalogRefusal):
    """Codes 40406 and 10006: the account has no such bucket, or it is too new."""

    code = "no_such_bucket"
    cloudflare_codes = (10006, 40406)
    cause = "The bot's Cloudflare account has no bucket of this name."
    fixes = (
        "Check the name; a new bucket can take a minute.",
        "Catalogs exist only for buckets without a jurisdiction.",
    )


class OperatorError(CloudflareError):
    """The bot's own access to Cloudflare is broken. Submitting again changes nothing until the operator acts."""

    who_acts = WhoActs.OPERATOR

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if getattr(cls, "cause", "").endswith(_NOT_YOURS):  # for a rotation, nobody has a token
            cls.rotating = Words(cause=f"{cls.cause.removesuffix(_NOT_YOURS)}.")


class CallerRejected(OperatorError):
    """Code 10000, a related one, or a bare 401/403: about the bot's own credentials, never the pasted token."""

    code = "caller_rejected"
    client_codes = (1000, 6003, 6103, 6111, 9103, 9106, 9109, 10000)
    statuses = (HTTPStatus.UNAUTHORIZED,)
    cause = f"Cloudflare did not accept the bot's own credentials{_NOT_YOURS}"
    setting = _TOKEN
    operator_fix = f"check that it is valid, unexpired and of {_ADDRESS}; {_BOTS_RIGHT}"


class CallerLacksPermission(OperatorError):
    """Code 10000 "Forbidden": the bot's own credentials are known, but lack a permission."""

    code = "caller_lacks_permission"
    cause = f"The bot's own Cloudflare token lacks a permission{_NOT_YOURS}"
    setting = _TOKEN
    operator_fix = _BOTS_RIGHT


class CallerNotAllowed(OperatorError):
    """Code 10001 with a text about the token: Cloudflare knows the bot, but does not let it do this."""

    code = "caller_not_allowed"
    cause = f"Cloudflare knows the bot, but does not let it do this{_NOT_YOURS}"
    setting = _TOKEN
    operator_fix = _BOTS_RIGHT


class RouteGone(OperatorError):
    """Codes 7003 and 7000, or a 404, 405 or 410 that does not come from the catalog: no such path."""

    code = "route_gone"
    client_codes = (7000, 7003)
    statuses = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE)
    cause = f"Cloudflare's catalog API is not where the bot expects it{_NOT_YOURS}"
    setting = _ADDRESS
    operator_fix = (
        "check the account id, that the account has R2 Data Catalog (Basin Catalog), and that the catalog API is auto"
    )


class R2NotEnabled(OperatorError):
    """Code 10042: the account never accepted R2."""

    code = "r2_not_enabled"
    cloudflare_codes = (10042,)
    cause = "R2 is not enabled on the Cloudflare account that the bot works for."
    setting = _ADDRESS
    operator_fix = (
        "open R2 in the Cloudflare dashboard and enable it, then enable R2 Data Catalog (Basin Catalog) on the bucket"
    )


class ChallengePage(OperatorError):
    """A challenge page for browsers: the request never reached the API."""

    code = "challenge_page"
    cause = f"Cloudflare answered the bot with a challenge page for browsers{_NOT_YOURS}"
    operator_fix = (
        "let the bot reach api.cloudflare.com from another address, or ask Cloudflare's support about the Ray ID"
    )


class BlockedOnTheWay(OperatorError):
    """A refusal that is not the API's: a page of Cloudflare's firewall, a proxy (407) or a filter (403, 451)."""

    code = "blocked_on_the_way"
    statuses = (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS)
    cause = f"Something between the bot and Cloudflare's API blocked the request{_NOT_YOURS}"
    setting = "HTTPS_PROXY"
    operator_fix = "let the bot reach api.cloudflare.com through the proxy, filter or firewall that blocked it"


class RequestRejected(OperatorError):
    """A definite refusal that the bot has no entry for."""

    code = "request_rejected"
    cause = (
        "Cloudflare rejected the request for a reason that the bot does not know; trying again will probably not help."
    )
    operator_fix = "ask Cloudflare's support about the code and the Ray ID"


class UnexplainedRefusal(CloudflareError):
    """A 401 or 403 before the write, without a known code, that lasted: the cause is unknown."""

    code = "unexplained_refusal"
    passes = True
    waiting = "Cloudflare refused without a reason that the bot knows."
    who_acts = WhoActs.OPERATOR
    cause = f"{_KEPT_REFUSING}; another token may help."
    rotating = Words(cause=f"{_KEPT_REFUSING}.")
    operator_fix = "find out what refused it: with the Ray ID, or in the proxy's log"


class CloudflareTrouble(CloudflareError, Transient, told=None):
    """A transient error. `leaves_open`: it may leave unknown whether a write was carried out."""

    who_acts = WhoActs.CLOUDFLARE
    leaves_open: ClassVar[bool] = True


class Throttled(
    CloudflareTrouble,
    told=Told(
        waiting="Cloudflare limits how many requests it takes from the bot.",
        lasted="Cloudflare kept limiting how many requests it takes from the bot.",
    ),
):
    """Code 971, 1015 or HTTP 429: too many requests; `retry_after` is how long Cloudflare asked to wait, if it did."""

    code = "throttled"
    cloudflare_codes = (971, 1015)
    statuses = (HTTPStatus.TOO_MANY_REQUESTS,)
    who_acts = WhoActs.NOBODY
    leaves_open = False


class EdgeRefused(
    CloudflareTrouble,
    told=Told(
        waiting="Cloudflare's edge rejected the request.",
        lasted="Cloudflare's edge kept rejecting the request; the bot's IP address may be blocked.",
    ),
):
    """Another 1xxx error of Cloudflare's edge, which rejected the request on its way to the API."""

    code = "edge_refused"


class CloudflareUnavailable(
    CloudflareTrouble,
    told=Told(
        waiting="Cloudflare is having problems.",
        lasted="Cloudflare kept having problems.",
    ),
):
    """HTTP 5xx, 408, or a code that means the same."""

    code = "cloudflare_unavailable"
    statuses = (HTTPStatus.REQUEST_TIMEOUT,)


class CloudflareUnreachable(
    CloudflareTrouble,
    told=Told(
        waiting="The bot got no answer from Cloudflare.",
        lasted="The bot got no answer from Cloudflare; the network between them may be down.",
    ),
):
    """No answer: no connection, a broken one, or a timeout."""

    code = "cloudflare_unreachable"


class AnswerNotUnderstood(
    CloudflareTrouble,
    told=Told(
        waiting="Cloudflare answered in a way that the bot does not understand.",
        lasted="Cloudflare kept answering in a way that the bot does not understand; a newer version of the bot may.",
    ),
):
    """An answer that is neither a clear yes nor a clear no."""

    code = "answer_not_understood"
