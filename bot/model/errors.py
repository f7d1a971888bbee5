"""The one tree of errors that the bot raises on purpose. Only these leave an adapter, and none of them holds a secret.

BotError
├── CloudflareError            what Cloudflare answered, or that it did not
│   ├── Refusal                a definite no that the person who submitted can mend
│   │   ├── TokenRefusal       it is about the pasted token
│   │   │   ├── TokenInvalid
│   │   │   ├── TokenMalformed
│   │   │   ├── TokenExpired
│   │   │   ├── TokenDisabled
│   │   │   ├── TokenNotYetValid
│   │   │   ├── TokenLimitedToAddresses
│   │   │   ├── TokenOfAnotherAccount
│   │   │   ├── CatalogOutOfReach
│   │   │   ├── LacksCatalogRights
│   │   │   ├── LacksStorageRights
│   │   │   └── CredentialRefused
│   │   └── CatalogRefusal     it is about the bucket and its catalog
│   │       ├── CatalogNotEnabled
│   │       ├── CatalogInactive
│   │       └── NoSuchBucket
│   ├── OperatorError          the bot's own access to Cloudflare is not right: whoever runs the bot can mend it
│   │   ├── CallerRejected
│   │   ├── CallerNotAllowed
│   │   ├── RouteGone
│   │   ├── R2NotEnabled
│   │   ├── ChallengePage
│   │   └── RequestRejected
│   └── CloudflareTrouble      it passes: the bot tries again by itself
│       ├── Throttled
│       ├── EdgeRefused
│       ├── CloudflareUnavailable
│       ├── CloudflareUnreachable
│       └── AnswerNotUnderstood
├── NotStorable                what was pasted is no API token: said in the form, and never kept
│   ├── NothingPasted
│   ├── GlobalApiKey
│   ├── OAuthToken
│   ├── S3SecretAccessKey
│   ├── S3AccessKeyId
│   ├── SeveralTokens
│   └── NotAToken
├── SealedValueUnreadable      a sealed token or response URL does not open, whatever the reason
├── KeyFileUnusable            a file of the key ring is no key, or others can read it
├── DatabaseTrouble            the database did not take or give what it was asked for
│   ├── DatabaseUnavailable
│   └── CommitUnknown
├── LeaseLost                  somebody else works on this bucket now
├── AccessRefused              somebody may not do this
│   ├── Outsider
│   ├── NotAllowed
│   ├── BucketNotAllowed
│   ├── ChannelNotAllowed
│   ├── EnablingNotAllowed
│   └── MembershipUnknown
├── GivenUp                    the submission's time was over
│   ├── NeverSent
│   └── DeadlineReached
├── SlackRefused               Slack said a definite no to a call
└── SlackUnavailable           Slack did not answer, or asked to come back later
"""

# ruff: noqa: N818 - the leaves are named for what happened, in the words that the documents use

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final

_TOKENS_PAGE: Final = "https://dash.cloudflare.com/?to=/:account/r2/api-tokens"
_BOTS_TOKENS_PAGE: Final = "https://dash.cloudflare.com/?to=/:account/api-tokens"
_RIGHT_TOKEN: Final = (
    f'create an R2 API token at {_TOKENS_PAGE} with the permission "Admin Read & Write", which includes R2 Data '
    "Catalog (Basin Catalog)"
)
_CUSTOM_RIGHTS: Final = (
    '"Object Read & Write" is not enough; a custom token needs "Workers R2 Data Catalog Write" and "Workers R2 Storage '
    'Write"'
)
_ENABLE_CATALOG: Final = (
    "enable R2 Data Catalog (Basin Catalog) in the bucket's settings in the Cloudflare dashboard "
    '(https://dash.cloudflare.com/?to=/:account/r2/overview), or run "npx wrangler r2 bucket catalog enable" with the '
    "bucket's name, and submit the token again"
)


class WhoseMove(StrEnum):
    """Who can bring things forward after an error."""

    YOU = "you"
    OPERATOR = "operator"
    CLOUDFLARE = "cloudflare"
    NOBODY = "nobody"


class BotError(Exception):
    """The root. A leaf states its `code`, `user_message`, `retryable` and `whose_move`; they never change at run time.

    `code` is stable: logs, audit records and documents refer to it. `user_message` may be shown to anyone: it says what
    happened, whose move it is and what to do, and quotes nothing.
    """

    code: ClassVar[str]
    user_message: ClassVar[str]
    retryable: ClassVar[bool] = False
    whose_move: ClassVar[WhoseMove] = WhoseMove.NOBODY

    def __str__(self) -> str:
        return self.code


def error_of_code(code: str) -> type[BotError]:
    """Return the leaf of the tree that has this code; raises KeyError for a code that no leaf has."""
    return {leaf.code: leaf for leaf in _leaves(BotError)}[code]


def _leaves(error: type[BotError]) -> Iterator[type[BotError]]:
    if not error.__subclasses__():
        yield error
    for child in error.__subclasses__():
        yield from _leaves(child)


# Cloudflare. Raised by `bot.cloudflare` alone.


class CloudflareError(BotError):
    """An answer of Cloudflare that is no success, or the lack of one. Can be pickled; holds no request and no response.

    `cloudflare_message` is Cloudflare's own text, shortened, without control characters and token-shaped strings; it
    is not escaped. `possibly_landed`: this was a write, and nobody can tell from here whether it happened.
    """

    def __init__(  # noqa: PLR0913 - a record of what is known of one answer, by name and all optional
        self,
        *,
        status: int | None = None,
        cloudflare_code: int | None = None,
        cloudflare_message: str = "",
        cf_ray: str | None = None,
        retry_after: timedelta | None = None,
        possibly_landed: bool = False,
    ) -> None:
        super().__init__()
        self.status = status
        self.cloudflare_code = cloudflare_code
        self.cloudflare_message = cloudflare_message
        self.cf_ray = cf_ray
        self.retry_after = retry_after
        self.possibly_landed = possibly_landed

    def __str__(self) -> str:
        known = {"status": self.status, "cloudflare_code": self.cloudflare_code, "cf_ray": self.cf_ray}
        return " ".join([self.code, *(f"{name}={value}" for name, value in known.items() if value is not None)])


class Refusal(CloudflareError):
    """A definite no, and the person who submitted can mend it. Nothing was written."""

    whose_move = WhoseMove.YOU


class TokenRefusal(Refusal):
    """Cloudflare does not take this token, or the token does not lead to the catalog.

    `passes`: a token that was made a moment ago is answered like this as well, until all of Cloudflare knows it.
    """

    passes: ClassVar[bool] = False


class TokenInvalid(TokenRefusal):
    """Code 1000 of the endpoint that verifies tokens: there is no such token."""

    code = "token_invalid"
    passes = True
    user_message = (
        "Cloudflare does not know this token: it was cut off while copying, deleted, or rolled since. Your move: copy "
        f"the whole token again and submit it; or, since Cloudflare shows a token only once, {_RIGHT_TOKEN}."
    )


class TokenMalformed(TokenRefusal):
    """Code 6003, 6103 or 6111 about the pasted token: it cannot be one."""

    code = "token_malformed"
    user_message = (
        "Cloudflare says that this is no token at all: most likely a part of one, or another kind of secret. Your "
        f"move: copy the whole token again and submit it; or {_RIGHT_TOKEN}."
    )


class TokenExpired(TokenRefusal):
    """The token's `expires_on` has passed."""

    code = "token_expired"
    user_message = f"This token has expired. Your move: {_RIGHT_TOKEN}, with a later expiry date, and submit that one."


class TokenDisabled(TokenRefusal):
    """Somebody disabled the token."""

    code = "token_disabled"
    user_message = (
        "This token is disabled. Your move: ask whoever disabled it why; then enable it again in the Cloudflare "
        f"dashboard and submit it, or {_RIGHT_TOKEN}."
    )


class TokenNotYetValid(TokenRefusal):
    """The token's `not_before` is yet to come."""

    code = "token_not_yet_valid"
    user_message = (
        "This token is not valid yet: its start date is in the future, and the catalog would be locked out until "
        f"then. Your move: submit it again when that day has come, or {_RIGHT_TOKEN}, without a start date."
    )


class TokenLimitedToAddresses(TokenRefusal):
    """Code 9109 that speaks of a location: the token may be used from certain IP addresses only, and not from here."""

    code = "token_limited_to_addresses"
    user_message = (
        "This token may be used from certain IP addresses only, and the catalog would have to use it from others: "
        "Cloudflare did not even take it from the bot. Your move: remove the client IP address filter from the token "
        f"and submit it again, or {_RIGHT_TOKEN}, without such a filter."
    )


class TokenOfAnotherAccount(TokenRefusal):
    """Code 10000 of the account's own endpoint: an account token of some other account."""

    code = "token_of_another_account"
    passes = True
    user_message = (
        "This token belongs to another Cloudflare account than the one that the bot works for. Your move: switch to "
        f"the account that has the bucket, and there {_RIGHT_TOKEN}."
    )


class CatalogOutOfReach(TokenRefusal):
    """The token is active, but Cloudflare does not let it see this catalog: another account, or no right."""

    code = "catalog_out_of_reach"
    passes = True
    user_message = (
        "This token is active, but it does not reach this catalog: it belongs to another Cloudflare account, is "
        "limited to other buckets, or lacks the right to R2 Data Catalog (Basin Catalog). Your move: in the account "
        f"that has the bucket, {_RIGHT_TOKEN}, for this bucket or all buckets."
    )


class LacksCatalogRights(TokenRefusal):
    """The token is active and of this account, but cannot read this catalog."""

    code = "lacks_catalog_rights"
    passes = True
    user_message = (
        "This token is active, but may not use this catalog: it lacks the right to R2 Data Catalog (Basin Catalog), "
        f"or is limited to other buckets. Your move: {_RIGHT_TOKEN}, for this bucket or all buckets. {_CUSTOM_RIGHTS}."
    )


class LacksStorageRights(TokenRefusal):
    """Codes 30004 and 30005 about a token that was found active and able to read the catalog."""

    code = "lacks_storage_rights"
    user_message = (
        "This token is active and reaches the catalog, but Cloudflare did not store it: it lacks the right to read "
        "and write the bucket's data (R2 storage), or to write in R2 Data Catalog (Basin Catalog). Your move: if it "
        f"was created a moment ago, submit it once more in a minute; else {_RIGHT_TOKEN}, for this bucket or all "
        f"buckets. {_CUSTOM_RIGHTS}."
    )


class CredentialRefused(TokenRefusal):
    """Codes 30004 and 30005, or a refusal to show the catalog, about a token of which no more is known."""

    code = "credential_refused"
    passes = True
    user_message = (
        "Cloudflare refused this token: either it is not valid (cut off while copying, expired, disabled or deleted), "
        f"or it lacks a right that the catalog needs. Your move: {_RIGHT_TOKEN}, for this bucket or all buckets, and "
        f"submit that one. {_CUSTOM_RIGHTS}."
    )


class CatalogRefusal(Refusal):
    """The catalog is not there, or takes no credential."""


class CatalogNotEnabled(CatalogRefusal):
    """Code 40401: the bucket exists, its catalog was never enabled."""

    code = "catalog_not_enabled"
    user_message = (
        f"This bucket has no catalog, so there is nothing that could use a credential. Your move: {_ENABLE_CATALOG}."
    )


class CatalogInactive(CatalogRefusal):
    """Code 40402: the bucket's catalog was disabled."""

    code = "catalog_inactive"
    user_message = (
        f"The catalog of this bucket is switched off; what it held is still there. Your move: {_ENABLE_CATALOG}."
    )


class NoSuchBucket(CatalogRefusal):
    """Codes 40406 and 10006: the account has no such bucket (or has not had it for long enough)."""

    code = "no_such_bucket"
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
    user_message = (
        "Cloudflare did not accept the bot's own credentials; your token is not the reason. The operator of the bot "
        "has to act: check that CLOUDFLARE_API_TOKEN (or CLOUDFLARE_EMAIL with CLOUDFLARE_API_KEY) is valid and "
        "unexpired, belongs to the account CLOUDFLARE_ACCOUNT_ID, and has the permission "
        f'"Workers R2 Data Catalog Write" (the product is now also called Basin Catalog), at {_BOTS_TOKENS_PAGE}. '
        "Submit again after that."
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
    user_message = (
        "Cloudflare offers no catalogs at the address that the bot uses; your token is not the reason. The operator "
        "of the bot has to act: check CLOUDFLARE_ACCOUNT_ID (32 characters, from the dashboard's address), that the "
        "account has R2 Data Catalog (Basin Catalog), and that R2_CREDENTIAL_CATALOG_API is auto. Submit again after "
        "that."
    )


class R2NotEnabled(OperatorError):
    """Code 10042: the account never accepted R2."""

    code = "r2_not_enabled"
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


class RequestRejected(OperatorError):
    """A definite no that is in no table of ours."""

    code = "request_rejected"
    user_message = (
        "Cloudflare rejected the request for a reason that the bot does not know. The operator of the bot has to "
        "look: Cloudflare's code and Ray ID are below, and Cloudflare's support can tell what they mean. Submitting "
        "the same again will most likely end the same way."
    )


class CloudflareTrouble(CloudflareError):
    """It passes by itself: to be tried again until the submission's deadline."""

    retryable = True
    whose_move = WhoseMove.CLOUDFLARE


class Throttled(CloudflareTrouble):
    """Code 971, 1015 or HTTP 429: too many requests; `retry_after` says when to come back, where Cloudflare said it."""

    code = "throttled"
    whose_move = WhoseMove.NOBODY
    user_message = (
        "Cloudflare is limiting how many requests it takes from the bot's account. Nobody has to do anything: the "
        "bot waits as long as Cloudflare asks for and tries again by itself."
    )


class EdgeRefused(CloudflareTrouble):
    """Another 1xxx error of Cloudflare's edge: the request was turned away on its way to the API."""

    code = "edge_refused"
    user_message = (
        "Cloudflare turned the request away before it reached the API. The bot tries again by itself. If this "
        "lasts, the operator of the bot should look whether its network address is blocked: Cloudflare's code and "
        "Ray ID are below."
    )


class CloudflareUnavailable(CloudflareTrouble):
    """HTTP 5xx, 408, or a code that means the same."""

    code = "cloudflare_unavailable"
    user_message = (
        "Cloudflare has trouble answering at the moment. The bot tries again by itself. If this lasts, see "
        "https://www.cloudflarestatus.com."
    )


class CloudflareUnreachable(CloudflareTrouble):
    """No answer: no connection, a broken one, or one that took too long."""

    code = "cloudflare_unreachable"
    user_message = (
        "The bot got no answer from Cloudflare. The bot tries again by itself. If this lasts, the operator of the "
        "bot should check the network between the bot and api.cloudflare.com."
    )


class AnswerNotUnderstood(CloudflareTrouble):
    """An answer that is neither a clear yes nor a clear no."""

    code = "answer_not_understood"
    user_message = (
        "Cloudflare answered in a way that the bot does not understand, so it cannot tell whether the request was "
        "carried out. The bot tries again by itself. If this lasts, the operator of the bot should look for a newer "
        "version of it."
    )


# What was pasted.


class NotStorable(BotError):
    """What was pasted is of a kind that is told by its shape, and is not to be stored."""

    whose_move = WhoseMove.YOU


class NothingPasted(NotStorable):
    """The token field is empty."""

    code = "nothing_pasted"
    user_message = "Paste the Cloudflare API token."


class GlobalApiKey(NotStorable):
    """A Global API key."""

    code = "global_api_key"
    user_message = (
        "This is a Global API key: it opens the whole account. Roll it in Cloudflare, since it was pasted here; then "
        f"{_RIGHT_TOKEN}, and paste that."
    )


class OAuthToken(NotStorable):
    """The OAuth token of a command-line session."""

    code = "oauth_token"
    user_message = f"This is wrangler's OAuth token: it works for an hour only. Instead, {_RIGHT_TOKEN}."


class S3SecretAccessKey(NotStorable):
    """The secret half of an S3 key pair."""

    code = "s3_secret_access_key"
    user_message = (
        "This is the Secret Access Key of an S3 key pair. Paste the API token it came from: Cloudflare showed it on "
        'the same page, as "Token value". This key was pasted here: consider it disclosed.'
    )


class S3AccessKeyId(NotStorable):
    """The public half of an S3 key pair."""

    code = "s3_access_key_id"
    user_message = (
        "This is the Access Key ID of an S3 key pair. Paste the API token it came from: Cloudflare showed it on the "
        'same page, as "Token value".'
    )


class SeveralTokens(NotStorable):
    """More than one word, or more than one token."""

    code = "several_tokens"
    user_message = "This is more than one word. Paste one token, with nothing around it."


class NotAToken(NotStorable):
    """Nothing that could be a token of Cloudflare's."""

    code = "not_a_token"
    user_message = (
        "This is not a Cloudflare API token: one has 20 to 500 letters, digits and signs like _ or -. Copy it again."
    )


# Sealing.


class SealedValueUnreadable(BotError):
    """Raised without detail for every reason: tampered with, moved, cut off, or sealed by a key that is gone."""

    code = "sealed_value_unreadable"
    whose_move = WhoseMove.YOU
    user_message = (
        "The bot can no longer open the token that it kept encrypted, so it cannot send it to Cloudflare. Your move: "
        "submit the token again. If this happens twice, tell the operator of the bot: the sealing keys may have been "
        "removed or replaced."
    )


class KeyFileUnusable(BotError):
    """A file of the key ring cannot be used; `path` and `reason` are for the operator and quote no content."""

    code = "key_file_unusable"
    whose_move = WhoseMove.OPERATOR
    user_message = "The operator of the bot has to repair its sealing keys."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


# The database.


class DatabaseTrouble(BotError):
    """The database did not take or give what it was asked for."""

    retryable = True
    whose_move = WhoseMove.OPERATOR


class DatabaseUnavailable(DatabaseTrouble):
    """The database could not be opened, read or written; the transaction was not committed, for certain."""

    code = "database_unavailable"
    user_message = (
        "The bot could not record this, so nothing was sent to Cloudflare because of it. Your move: try again in a "
        "minute. If it happens again, tell the operator of the bot that its database cannot be written."
    )


class CommitUnknown(DatabaseTrouble):
    """The connection broke, or time ran out, while the database was committing: nobody can tell whether it did."""

    code = "commit_unknown"
    user_message = (
        "It is not known whether the bot recorded this: its database did not answer in time. Your move: press the "
        "button again in a moment; that is safe, nothing is done twice."
    )


class LeaseLost(BotError):
    """Another process has taken over this bucket: whoever gets this stops at once and sends nothing."""

    code = "lease_lost"
    user_message = "Another process of the bot has taken this over. Nobody has to do anything."


# Access.


class AccessRefused(BotError):
    """Somebody may not do this. The sentence names no list and no other person."""

    code = "access_refused"
    whose_move = WhoseMove.OPERATOR
    user_message = "You may not do this with this bot."


class Outsider(AccessRefused):
    """The person acts from another workspace (Slack Connect), whatever the id is."""

    code = "outsider"
    user_message = (
        "Only members of the workspace in which this bot is installed can use it, and you belong to another one."
    )


class NotAllowed(AccessRefused):
    """The person is on no list."""

    code = "not_allowed"
    user_message = "You are not on the list of people who may store credentials with this bot."


class BucketNotAllowed(AccessRefused):
    """The bucket is none of those that this bot serves."""

    code = "bucket_not_allowed"
    user_message = "This bot does not store credentials for that bucket."


class ChannelNotAllowed(AccessRefused):
    """The channel is none of those that this bot may be used in or post to."""

    code = "channel_not_allowed"
    user_message = "This bot is not used in that channel."


class EnablingNotAllowed(AccessRefused):
    """The bot does not enable catalogs (R2_CREDENTIAL_ALLOW_ENABLE is not set)."""

    code = "enabling_not_allowed"
    whose_move = WhoseMove.YOU
    user_message = f"This bot does not enable catalogs. Your move: {_ENABLE_CATALOG}."


class MembershipUnknown(AccessRefused):
    """Slack could not be asked who is in a user group: when in doubt, no."""

    code = "membership_unknown"
    retryable = True
    whose_move = WhoseMove.NOBODY
    user_message = (
        "Slack did not tell the bot who is in the user groups that may use it, so it refuses to be safe. Try again "
        "in a minute."
    )


# Time.


class GivenUp(BotError):
    """The submission's deadline has passed; the sealed token is erased."""

    code = "given_up"
    whose_move = WhoseMove.YOU
    user_message = "The bot did not manage it in the time it had."


class NeverSent(GivenUp):
    """The deadline passed before anything was done about it."""

    code = "expired"
    user_message = (
        "The time that a submission may wait ran out before it was this one's turn, so nothing was written and the "
        "token was erased. Your move: submit it again."
    )


class DeadlineReached(GivenUp):
    """The deadline passed while the bot was trying again."""

    code = "deadline_reached"
    user_message = (
        "The bot could not get it done in the time that a submission may wait, so it gave up and erased the token. "
        "Your move: submit it again later."
    )


# Slack.


class SlackRefused(BotError):
    """Slack said a definite no; `slack_error` is its word, such as `not_in_channel`."""

    code = "slack_refused"
    whose_move = WhoseMove.OPERATOR
    user_message = "Slack refused what the bot asked for."

    def __init__(self, slack_error: str) -> None:
        super().__init__(slack_error)
        self.slack_error = slack_error

    def __str__(self) -> str:
        return f"{self.code} slack_error={self.slack_error}"


class SlackUnavailable(BotError):
    """Slack did not answer in time, had trouble of its own, or asked to come back in `retry_after`."""

    code = "slack_unavailable"
    retryable = True
    whose_move = WhoseMove.NOBODY
    user_message = "Slack did not answer the bot in time. Try again in a minute."

    def __init__(self, retry_after: timedelta | None = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after
