"""The tree of errors that the bot raises on purpose. Adapters raise only these, and none of them holds a secret.

BotError
├── CloudflareError            what Cloudflare answered, or that it did not: see `bot.cloudflare.errors`
├── NotStorable                what was pasted is not an API token: shown in the form, never kept
│   ├── NothingPasted
│   ├── GlobalApiKey
│   ├── OAuthToken
│   ├── S3SecretAccessKey
│   ├── S3AccessKeyId
│   ├── SeveralTokens
│   ├── NotAToken
│   ├── OtherSecret
│   ├── IdOfSomething
│   └── NamedValue
├── TokenLivesTooLong          Cloudflare accepts the token, but it exceeds the operator's limit
├── SealedValueUnreadable      a sealed token or response URL cannot be opened, for any reason
├── KeyFileUnusable            a file of the key ring holds no key, or others can read it
├── RecordDamaged              a database row holds what the bot never writes
│   └── RecordForged           a database row that the bot did not write
├── DatabaseTrouble            the database could not be read or written
│   ├── DatabaseUnavailable
│   └── CommitUnknown
├── LeaseLost                  another process works on this bucket now
├── AccessRefused              this person may not do this
│   ├── Outsider
│   ├── OtherWorkspace
│   ├── NotAllowed
│   ├── VerbNotAllowed
│   ├── BucketNotAllowed
│   ├── ChannelNotAllowed
│   ├── BucketNotInChannel
│   ├── EnablingNotAllowed
│   ├── NotAnApprover
│   ├── OwnRequest
│   ├── UsergroupUnreadable
│   ├── MembershipUnknown
│   ├── NotAMember
│   └── PersonUnknown
├── NotApproved                an approval is needed, and there is none that counts
│   ├── ApprovalDenied
│   ├── ApprovalMissing
│   ├── ApprovalOutdated
│   ├── ApproverRemoved
│   └── DecisionForged
├── ApprovalNotAsked           the approver's message could not be posted
│   ├── ApprovalUnposted
│   └── ApprovalChannelUnfit
├── GivenUp                    the submission's deadline passed
│   ├── NeverSent
│   ├── NotApprovedInTime
│   ├── NotMintedInTime
│   └── DeadlineReached
├── DatabaseRestored           a backup of the database was put back, in which the submission was open
├── UnknownCause               a code of another version of the bot, or a damaged record
├── SlackRefused               Slack refused a call
└── SlackTrouble               Slack gave no usable answer to a call
    ├── SlackUnavailable
    ├── SlackTimedOut
    └── SlackConnectionBroke

Errors that pass are also `Transient`: ApprovalNotAsked, CloudflareTrouble, DatabaseTrouble, MembershipUnknown,
PersonUnknown, SlackTrouble.
"""

# ruff: noqa: N818 - the leaves are named for what happened, as in the documents

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from bot.model.no_answer import NoAnswer

CREATE_ANOTHER: Final = 'Create a token with "Admin Read & Write".'
"""The only advice on which token to create; in a result, its first words link to the page."""

ENABLE_CATALOG: Final = (
    'Enable R2 Data Catalog (Basin Catalog) in the bucket\'s settings, or run "npx wrangler r2 bucket catalog enable".'
)
PASTE_AGAIN: Final = "Submit the token again."
ROTATE_AGAIN: Final = "Rotate again."


_Kind = TypeVar("_Kind", bound="BotError")


class WhoActs(StrEnum):
    """Who can resolve an error."""

    YOU = "you"
    OPERATOR = "operator"
    CLOUDFLARE = "cloudflare"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The sentences of an error where the bot itself made the token; None stands for those of the leaf."""

    cause: str | None = None
    fixes: tuple[str, ...] | None = None


class BotError(Exception):
    """The root. A leaf states its `code`, its sentences and `who_acts`, all constant.

    `code` is stable: logs, audit records and documents refer to it. The sentences may be shown to anyone and quote
    nothing: `cause` says what happened, in one line; each of `fixes` is one thing that the reader can do.
    `user_message` is both, as one text; a leaf without a cause states only that. Where the operator acts,
    `operator_fix` and `setting` say what to do, in the log. `rotating` replaces what would not be true of a rotation,
    for which nobody pasted a token.
    """

    code: ClassVar[str]
    cause: ClassVar[str]
    fixes: ClassVar[tuple[str, ...]] = ()
    user_message: ClassVar[str]
    operator_fix: ClassVar[str] = ""
    setting: ClassVar[str] = ""
    rotating: ClassVar[Words] = Words()
    retryable: ClassVar[bool] = False
    who_acts: ClassVar[WhoActs] = WhoActs.NOBODY

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "cause" in vars(cls):
            cls.user_message = what_to_do(cls.cause, *cls.fixes)
        elif "user_message" in vars(cls):
            cls.cause, cls.fixes = cls.user_message, ()

    def __str__(self) -> str:
        return self.code


def what_to_do(cause: str, *fixes: str) -> str:
    """Return a cause and what to do about it as one text."""
    return " ".join([cause, "What to do:", *fixes]) if fixes else cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What people read about a transient error, by the moment at which they read it. Quotes nothing.

    `waiting`: while the bot waits, followed by when it tries again. `lasted`: when the error lasted until the
    submission's deadline, followed by what to do. `at_once`: where a person waits for the answer and the bot does not
    retry.
    """

    waiting: str
    lasted: str
    at_once: str = ""


class Transient(BotError):
    """An error that passes without action; the bot retries until the submission's deadline.

    mypy and the import both require `told`, so no leaf lacks its sentences. A branch passes `told=None`.
    """

    retryable = True
    told: ClassVar[Told]

    def __init_subclass__(cls, *, told: Told | None) -> None:
        super().__init_subclass__()
        if told is not None:
            cls.told = told
            cls.user_message = cls.cause = told.at_once or told.lasted


def error_of_code(code: str) -> type[BotError]:
    """Return the leaf with this code, or UnknownCause: a newer version may have recorded it."""
    return {leaf.code: leaf for leaf in leaves(BotError)}.get(code, UnknownCause)


def leaves(error: type[_Kind]) -> Iterable[type[_Kind]]:
    """Return the leaves below an error, each once and in the order of the tree, or the error if it is one."""
    below = error.__subclasses__()
    return dict.fromkeys(leaf for child in below for leaf in leaves(child)) if below else (error,)


OF_THE_BOTS_TOKEN: Final = Words(
    cause="The token that the bot made for this bucket does not serve.", fixes=(ROTATE_AGAIN,)
)
"""What is left of anything that is wrong with a token, where nobody can look at it, copy it or replace it."""


# What was pasted.


class NotStorable(BotError):
    """What was pasted is, by its shape, of a kind that must not be stored."""

    who_acts = WhoActs.YOU
    rotating = OF_THE_BOTS_TOKEN


class NothingPasted(NotStorable):
    """The token field is empty."""

    code = "nothing_pasted"
    user_message = "Paste the Cloudflare API token."


class GlobalApiKey(NotStorable):
    """A Global API key."""

    code = "global_api_key"
    cause = "This is a Global API key: it opens the whole account."
    fixes = ("Roll it in Cloudflare, since it was pasted here.", CREATE_ANOTHER)


class OAuthToken(NotStorable):
    """The OAuth token of a command-line session."""

    code = "oauth_token"
    cause = "This is wrangler's OAuth token: it works for an hour only."
    fixes = (CREATE_ANOTHER,)


class S3SecretAccessKey(NotStorable):
    """The secret half of an S3 key pair: the SHA-256 of the API token, which thereby is as good as disclosed."""

    code = "s3_secret_access_key"
    cause = "This is the Secret Access Key of an S3 key pair. With it, the API token is disclosed too."
    fixes = ("Delete that token in Cloudflare.", CREATE_ANOTHER)


class S3AccessKeyId(NotStorable):
    """The public half of an S3 key pair: the token's ID, which is not a secret."""

    code = "s3_access_key_id"
    cause = "This is the Access Key ID of an S3 key pair, not a secret."
    fixes = ('Paste the API token it came from: Cloudflare showed it on the same page, as "Token value".',)


class SeveralTokens(NotStorable):
    """More than one word, or more than one token."""

    code = "several_tokens"
    user_message = "This is more than one word. Paste one token, with nothing around it."


class NotAToken(NotStorable):
    """A value that cannot be a Cloudflare token."""

    code = "not_a_token"
    user_message = (
        "This is not a Cloudflare API token: one has 20 to 500 letters, digits and signs like _ or -. Copy it again."
    )


class OtherSecret(NotStorable):
    """The secret of another service: neither sent to Cloudflare nor stored."""

    code = "other_secret"
    user_message = (
        "It is not a Cloudflare API token, and was neither sent nor kept. Slack has seen it, so revoke it where it was "
        "created; then paste the Cloudflare API token."
    )


class IdOfSomething(NotStorable):
    """A UUID, the usual form of an id."""

    code = "id_of_something"
    user_message = (
        "This is an ID (a UUID), not a token. Cloudflare shows an API token once, when it is created: paste that value."
    )


class NamedValue(NotStorable):
    """A line such as `CLOUDFLARE_API_TOKEN=...`."""

    code = "named_value"
    user_message = (
        "This is a name with its value. Paste the value alone, without the name and the = (or the colon) behind it."
    )


# The operator's limit on tokens.


class TokenLivesTooLong(BotError):
    """It lives, or may live, longer than the rule allows that applies: the operator's limit, not Cloudflare's."""

    code = "token_lives_too_long"
    who_acts = WhoActs.YOU
    cause = "This token never expires, expires later than this bot allows, or Cloudflare does not say when."
    fixes = ("Create one that expires within the time that the form names.",)
    rotating = Words(
        cause="The token that the bot made lives longer than the rule that applies allows.",
        fixes=(ROTATE_AGAIN,),
    )


# Sealing.


_ASK_ABOUT_KEYS: Final = "If this happens twice, ask the operator to check the bot's sealing keys."


class SealedValueUnreadable(BotError):
    """Raised without detail for any cause: tampered with, moved, truncated, or sealed by a key that is gone."""

    code = "sealed_value_unreadable"
    who_acts = WhoActs.YOU
    cause = "The bot can no longer open the token that it kept encrypted."
    fixes = (PASTE_AGAIN, _ASK_ABOUT_KEYS)
    rotating = Words(fixes=(ROTATE_AGAIN, _ASK_ABOUT_KEYS))


class KeyFileUnusable(BotError):
    """A file of the key ring cannot be used; `path` and `reason` are for the operator and quote no content."""

    code = "key_file_unusable"
    who_acts = WhoActs.OPERATOR
    user_message = "The operator of the bot has to fix its sealing keys."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


# The database.


class DatabaseTrouble(Transient, told=None):
    """The database could not be read or written."""

    who_acts = WhoActs.OPERATOR


_DATABASE_WAITING: Final = "The bot's own database is having problems."
_DATABASE_LASTED: Final = "The bot's own database kept having problems."


class DatabaseUnavailable(
    DatabaseTrouble,
    told=Told(
        waiting=_DATABASE_WAITING,
        lasted=_DATABASE_LASTED,
        at_once=(
            "The bot could not record this, so it sent nothing to Cloudflare. What to do: Try again in a minute; if it "
            "fails again, report it to the operator."
        ),
    ),
):
    """The database could not be opened, read or written; the transaction was definitely not committed."""

    code = "database_unavailable"


class CommitUnknown(
    DatabaseTrouble,
    told=Told(
        waiting=_DATABASE_WAITING,
        lasted=_DATABASE_LASTED,
        at_once=(
            "It is not known whether the bot recorded this: its database did not answer in time. What to do: Press the "
            "button again in a moment; nothing is done twice."
        ),
    ),
):
    """The connection broke or timed out during the commit, so it is unknown whether it succeeded."""

    code = "commit_unknown"


class RecordDamaged(BotError):
    """A row holds what no version of the bot writes there. It is left unchanged, and none of its values is shown."""

    code = "record_damaged"
    who_acts = WhoActs.OPERATOR
    user_message = (
        "The bot's own record of this is damaged, and was left unchanged. The operator finds the record's name, and "
        "what to do, in the log."
    )

    def __init__(self, table: str, row: str, column: str) -> None:
        super().__init__(table, row, column)
        self.table = table
        self.row = row
        self.column = column


class RecordForged(RecordDamaged):
    """A row was written, changed or put back by someone else than the bot. Nothing is done with it."""

    code = "record_forged"
    user_message = (
        "The bot's record of this was not made by the bot, so it does nothing with it. The operator finds the record's "
        "name, and what to do, in the log."
    )


class LeaseLost(BotError):
    """Another process has taken over this bucket: the one that gets this stops at once and sends nothing."""

    code = "lease_lost"
    user_message = "Another process of the bot has taken this over. No action is needed."


# Access.


class AccessRefused(BotError):
    """A person may not do this. The sentence names no list and no other person."""

    who_acts = WhoActs.OPERATOR


class Outsider(AccessRefused):
    """The person acts from another workspace (Slack Connect), whatever their user id is."""

    code = "outsider"
    user_message = (
        "Only members of the workspace in which this bot is installed can use it, and you belong to another one."
    )


class OtherWorkspace(AccessRefused):
    """The person acts from another workspace of the same organization, and did not start with a command here."""

    code = "other_workspace"
    who_acts = WhoActs.YOU
    cause = "Slack says that you come from another workspace of this organization."
    fixes = ("Type `/r2-credential` in the workspace of this bot, and continue there.",)


class NotAllowed(AccessRefused):
    """The person is on no list."""

    code = "not_allowed"
    user_message = "You are not on the list of people who may store credentials with this bot."


class VerbNotAllowed(AccessRefused):
    """A rule names the person, but none lets this person do that."""

    code = "verb_not_allowed"
    user_message = "You may use this bot, but not for that."


class BucketNotAllowed(AccessRefused):
    """This bot does not serve the bucket, or not for this person."""

    code = "bucket_not_allowed"
    user_message = "This bot does not store credentials for that bucket on your behalf."


class ChannelNotAllowed(AccessRefused):
    """This bot may not be used in the channel, nor post to it, or not for what this person wants."""

    code = "channel_not_allowed"
    user_message = "This bot may not be used in that channel for what you asked."


class BucketNotInChannel(AccessRefused):
    """The person may use the bucket, and the channel, but no rule allows both together."""

    code = "bucket_not_in_channel"
    who_acts = WhoActs.YOU
    cause = "This bot may not be used for that bucket in that channel."
    fixes = ("Choose another channel for this bucket.",)


class EnablingNotAllowed(AccessRefused):
    """The bot does not enable catalogs, or not for this person (R2_CREDENTIAL_ALLOW_ENABLE, or the verb of a rule)."""

    code = "enabling_not_allowed"
    who_acts = WhoActs.YOU
    cause = "This bot does not enable catalogs for you."
    fixes = (ENABLE_CATALOG,)


class NotAnApprover(AccessRefused):
    """No rule lets this person approve that."""

    code = "not_an_approver"
    user_message = "You may not approve or deny this request."


class OwnRequest(AccessRefused):
    """The person who asks may not decide."""

    code = "own_request"
    who_acts = WhoActs.YOU
    cause = "You cannot decide on your own request."
    fixes = ("Ask someone else who may approve it.",)


class UsergroupUnreadable(AccessRefused):
    """Slack does not return the members of a user group: the app lacks the scope, or the workspace the plan."""

    code = "usergroup_unreadable"
    user_message = (
        "Slack does not let the bot see who is in the user groups that may use it, so it refuses their members."
    )


class MembershipUnknown(
    AccessRefused,
    Transient,
    told=Told(
        waiting="Slack does not say who is in the user groups that may use the bot.",
        lasted="Slack did not say who is in the user groups that may use the bot.",
        at_once=(
            "Slack did not say who is in the user groups that may use the bot, so the bot refuses. Try again in a "
            "minute."
        ),
    ),
):
    """Slack did not answer who is in a user group; when in doubt, the bot refuses."""

    code = "membership_unknown"
    who_acts = WhoActs.NOBODY


class NotAMember(AccessRefused):
    """Slack calls the person a guest, a bot, a stranger, deactivated, or not joined yet: refused even if listed."""

    code = "not_a_member"
    user_message = (
        "Slack says that you are a guest, or no active member of this workspace. Only its full members can use this "
        "bot."
    )


class PersonUnknown(
    AccessRefused,
    Transient,
    told=Told(
        waiting="Slack does not say whether the person is an active member of the workspace.",
        lasted="Slack did not say whether the person is an active member of the workspace.",
        at_once=(
            "Slack did not say whether you are an active member of this workspace, so the bot refuses. Try again in a "
            "minute."
        ),
    ),
):
    """Slack did not answer what it knows of the person, nor lately; when in doubt, the bot refuses."""

    code = "person_unknown"
    who_acts = WhoActs.NOBODY


# Four eyes.


class NotApproved(BotError):
    """An approval is needed by the rule that applies, and there is none that counts."""

    who_acts = WhoActs.YOU


class ApprovalDenied(NotApproved):
    """An approver said no."""

    code = "approval_denied"
    cause = "An approver denied it."
    fixes = ("Ask the approver why.",)


class ApprovalMissing(NotApproved):
    """A rule that needs an approval came to apply only when the token was about to be sent."""

    code = "approval_missing"
    cause = "By now, a rule says that this needs an approval, and nobody was asked for it."
    fixes = (PASTE_AGAIN,)
    rotating = Words(fixes=(ROTATE_AGAIN,))


class ApprovalOutdated(NotApproved):
    """What would be stored is no longer what the approver saw."""

    code = "approval_outdated"
    cause = "What Cloudflare says of this token has changed since it was approved, so the approval does not count."
    fixes = (PASTE_AGAIN,)
    rotating = Words(
        cause="What was approved is not what would be stored by now, so the approval does not count.",
        fixes=(ROTATE_AGAIN,),
    )


class ApproverRemoved(NotApproved):
    """The person who approved it was removed from the approvers since."""

    code = "approver_removed"
    cause = "The person who approved it may no longer do that, so the approval does not count."
    fixes = ("Submit it again, and ask another approver.",)
    rotating = Words(fixes=("Rotate again, and ask another approver.",))


class DecisionForged(NotApproved):
    """The record of the decision was not signed by the bot: someone else wrote or changed it."""

    code = "decision_forged"
    who_acts = WhoActs.OPERATOR
    user_message = "The bot's record of the decision was not made by the bot, so it does not count."
    operator_fix = "find out who writes to this database besides the bot"


class ApprovalNotAsked(Transient, told=None):
    """The message that asks for an approval could not be posted; `retry_after` is how long Slack asked to wait."""

    def __init__(self, retry_after: timedelta | None = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class ApprovalUnposted(
    ApprovalNotAsked,
    told=Told(
        waiting="Slack does not take the message that asks for the approval.",
        lasted="Slack did not take the message that asks for the approval.",
        at_once="Slack did not take the message that asks for the approval. Try again in a minute.",
    ),
):
    """Slack gave no usable answer."""

    code = "approval_unposted"


class ApprovalChannelUnfit(
    ApprovalNotAsked,
    told=Told(
        waiting="The bot cannot post in the channel where this has to be approved: someone there has to invite it.",
        lasted="The bot could not post in the channel where this had to be approved.",
        at_once="The bot cannot post in the channel where this has to be approved. Try again when it was invited.",
    ),
):
    """The channel is not allowed, archived, shared with another company, or the bot is not in it."""

    code = "approval_channel_unfit"
    who_acts = WhoActs.OPERATOR
    operator_fix = "invite the bot to the channel, or name another one as approval_channel of the rule"
    setting = "R2_CREDENTIAL_POLICY"


# Time.


class GivenUp(BotError):
    """The submission's deadline has passed; the sealed token is erased."""

    who_acts = WhoActs.YOU


class NeverSent(GivenUp):
    """The deadline passed before the bot started on it."""

    code = "expired"
    cause = "The deadline passed before its turn came: nothing was written, and the token was erased."
    fixes = (PASTE_AGAIN,)
    rotating = Words(
        cause="The deadline passed before its turn came: no token was made, and nothing was written.",
        fixes=(ROTATE_AGAIN,),
    )


class NotApprovedInTime(GivenUp):
    """The deadline passed while the submission waited for an approval."""

    code = "not_approved_in_time"
    cause = "No approval came in time: nothing was written, and the token was erased."
    fixes = ("Submit the token again, and tell an approver.",)
    rotating = Words(
        cause="No approval came in time: no token was made, and nothing was written.",
        fixes=("Rotate again, and tell an approver.",),
    )


class NotMintedInTime(GivenUp):
    """The deadline passed while the submission waited for a token to be made."""

    code = "not_minted_in_time"
    who_acts = WhoActs.OPERATOR
    cause = "No token was made in time, so nothing was written: the process that makes tokens may not be running."
    fixes = ("Start the process that holds CLOUDFLARE_MINTING_TOKEN (`run --role minter`), and rotate again.",)


class DeadlineReached(GivenUp):
    """The deadline passed while the bot was retrying."""

    code = "deadline_reached"
    cause = "The deadline passed, and the token was erased."
    fixes = ("Submit it again later.",)
    rotating = Words(cause="The deadline passed, so this was given up.", fixes=("Rotate again later.",))


# What was recorded.


class DatabaseRestored(BotError):
    """The operator put back a backup of the bot's database, in which this submission had not ended."""

    code = "database_restored"
    who_acts = WhoActs.YOU
    cause = "The bot's database was restored from a backup in which this was open: the bot gave it up."
    fixes = ("Check `/r2-credential status`; if this token is still the right one, submit it again.",)
    rotating = Words(fixes=("Check `/r2-credential status`; if the credential does not work, rotate again.",))


class UnknownCause(BotError):
    """The record has a code that this version of the bot does not know."""

    code = "unknown_cause"
    who_acts = WhoActs.OPERATOR
    user_message = (
        "The bot recorded a cause that this version does not know. The operator should find it in the log, and run "
        "the newest version."
    )


# Slack.


class SlackRefused(BotError):
    """Slack refused a call; `slack_error` is its error code, such as `not_in_channel`.

    `lacking_scopes` are the scopes that the app needs and does not have, where that is the cause.
    """

    code = "slack_refused"
    who_acts = WhoActs.OPERATOR
    user_message = "Slack refused the bot's request."

    def __init__(self, slack_error: str, lacking_scopes: frozenset[str] = frozenset()) -> None:
        super().__init__(slack_error)
        self.slack_error = slack_error
        self.lacking_scopes = lacking_scopes

    def __str__(self) -> str:
        return f"{self.code} slack_error={self.slack_error}"


class SlackTrouble(Transient, told=None):
    """Slack gave no usable answer; `retry_after` is how long it asked to wait, if it did.

    `why` is for the operator; `status` is that of an HTTP answer in another format than Slack's.
    """

    who_acts = WhoActs.NOBODY

    def __init__(
        self, retry_after: timedelta | None = None, why: NoAnswer | None = None, *, status: int | None = None
    ) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after
        self.why = why or NoAnswer(because="it gave no usable answer")
        self.status = status


class SlackUnavailable(
    SlackTrouble,
    told=Told(
        waiting="Slack cannot process the bot's request.",
        lasted="Slack could not process the bot's request.",
        at_once="Slack could not process the bot's request just now. Try again in a minute.",
    ),
):
    """Slack had a problem, asked to retry later, or something else answered in its place."""

    code = "slack_unavailable"


class SlackTimedOut(
    SlackTrouble,
    told=Told(
        waiting="Slack does not answer the bot in time.",
        lasted="Slack did not answer the bot in time.",
        at_once="Slack did not answer the bot in time. Try again in a minute.",
    ),
):
    """No answer came within the call's timeout."""

    code = "slack_timed_out"


class SlackConnectionBroke(
    SlackTrouble,
    told=Told(
        waiting="The bot's connection to Slack keeps breaking.",
        lasted="The bot's connection to Slack broke.",
        at_once="The bot's connection to Slack broke. Try again.",
    ),
):
    """The connection could not be made, or was closed before the answer was complete."""

    code = "slack_connection_broke"


# Outside the tree: it ends the process, and nothing of it reaches Slack.


class StartRefused(Exception):
    """The bot cannot start; the message says why and how to fix it."""
