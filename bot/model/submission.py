"""The domain's values and states: openings, submissions, pasted tokens, endings. No input or output."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NewType

from bot.model.catalog import BucketKey, CredentialStatus

SealedToken = NewType("SealedToken", str)
"""Ciphertext bound to its submission, `sealed.v1.<key id>.<base64url>`: safe to store, useless elsewhere."""

SealedResponseUrl = NewType("SealedResponseUrl", str)
"""A sealed Slack `response_url`; it lets its holder post into a channel for 30 minutes."""

RESPONSE_URL_LIFETIME: Final = timedelta(minutes=30)


class TokenKind(StrEnum):
    """What a pasted string is, judged by its shape alone (Cloudflare, "API token formats", 2026-03)."""

    USER = "user"
    ACCOUNT = "account"
    UNPREFIXED = "unprefixed"
    UNKNOWN = "unknown"
    EMPTY = "empty"
    GLOBAL_KEY = "global_key"
    OAUTH = "oauth"
    S3_SECRET = "s3_secret"  # noqa: S105 - the name of a kind, not a password
    S3_KEY_ID = "s3_key_id"
    SEVERAL = "several"
    NOT_A_TOKEN = "not_a_token"  # noqa: S105 - the name of a kind, not a password
    OTHER_SECRET = "other_secret"  # noqa: S105 - the name of a kind, not a password
    UUID = "uuid"
    NAMED_VALUE = "named_value"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastedToken:
    """What the ingress passes on of a pasted token; `sealed` is None if its kind cannot be stored.

    `fingerprint` is keyed (`Authenticity.fingerprint`): it tells the audit whether two tokens are the same.
    `looks_like` names the secret of another service that it is, such as "a Slack token".
    """

    kind: TokenKind
    last_four: str
    sealed: SealedToken | None
    fingerprint: str = ""
    sealed_response_url: SealedResponseUrl | None = None
    looks_like: str = ""


class Task(StrEnum):
    """What a submission asks for."""

    STORE = "store"
    CHECK = "check"
    ENABLE = "enable"
    ROTATE = "rotate"
    """Stores a token that the bot has made itself: nobody pastes one."""


FOR_THE_SLOT: Final = (Task.STORE, Task.ROTATE)
"""The tasks that write a token: the newest of a bucket wins."""


class Check(StrEnum):
    """One of the checks of a pasted token before it is stored."""

    TOKEN = "token"  # noqa: S105 - the name of a check, not a password
    REACH = "reach"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What Cloudflare says about a pasted token. The id is not secret; `expires_at` is None if it never expires."""

    id: str
    owner: TokenKind
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The results of the checks before a write; `token` is None if Cloudflare does not say.

    `unchecked` are the checks that Cloudflare does not offer for this token.
    """

    token: TokenFacts | None
    unchecked: frozenset[Check]
    credential: CredentialStatus


class State(StrEnum):
    """The state of a submission; those in `ENDINGS` are final."""

    ACCEPTED = "accepted"
    MINTING = "minting"
    """A token is being made for it, by a process that holds CLOUDFLARE_MINTING_TOKEN."""
    MINTED = "minted"
    VERIFYING = "verifying"
    AWAITING_APPROVAL = "awaiting_approval"
    STORING = "storing"
    CONFIRMING = "confirming"
    STORED = "stored"
    CHECKED = "checked"
    ENABLED = "enabled"
    REFUSED = "refused"
    DENIED = "denied"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


ENDINGS: Final = frozenset(
    {
        State.STORED,
        State.CHECKED,
        State.ENABLED,
        State.REFUSED,
        State.DENIED,
        State.FAILED,
        State.UNCERTAIN,
        State.SUPERSEDED,
        State.EXPIRED,
    }
)

_SLOT_UNTOUCHED: Final = frozenset({State.REFUSED, State.DENIED, State.FAILED, State.SUPERSEDED, State.EXPIRED})

STEPS: Final[Mapping[State, frozenset[State]]] = {
    State.ACCEPTED: _SLOT_UNTOUCHED
    | {State.VERIFYING, State.AWAITING_APPROVAL, State.MINTING, State.CHECKED, State.ENABLED},
    State.MINTING: _SLOT_UNTOUCHED | {State.MINTED},
    State.MINTED: _SLOT_UNTOUCHED | {State.VERIFYING},
    State.VERIFYING: _SLOT_UNTOUCHED | {State.AWAITING_APPROVAL, State.STORING, State.CHECKED},
    State.AWAITING_APPROVAL: _SLOT_UNTOUCHED | {State.VERIFYING, State.MINTING, State.ENABLED},
    # A write may be in flight: EXPIRED would claim that nothing was sent.
    State.STORING: frozenset(
        {State.CONFIRMING, State.REFUSED, State.DENIED, State.FAILED, State.UNCERTAIN, State.SUPERSEDED}
    ),
    # Cloudflare has the token. No later error may turn that into a failure, after which people would try again.
    State.CONFIRMING: frozenset({State.STORED}),
}
"""Every step that a submission may take. An ending takes none: it may have been posted already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to process a bucket, until another process takes it with a higher epoch."""

    key: BucketKey
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One opened modal: who may submit it, and until when."""

    nonce: str
    team_id: str
    user_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """The values that a submission keeps encrypted while it needs them. Enabling a catalog needs no token."""

    token: SealedToken | None = None
    response_url: SealedResponseUrl | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSubmission:
    """A checked Submit, ready to be recorded. `id` is Slack's `view.id` and the idempotency key.

    `sent_at` orders the submissions of a bucket: when Slack sent it (by Slack's clock, to the second, if that is
    signed), however late it arrives. Within one second, the earlier `accepted_at` is older.
    """

    id: str
    task: Task = Task.STORE
    team_id: str
    user_id: str
    key: BucketKey
    channel_id: str
    reason: str
    token_kind: TokenKind
    last_four: str
    fingerprint: str = ""
    sealed: Sealed
    sent_at: datetime
    accepted_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A recorded submission, without its sealed values; `revision` counts its changes."""

    id: str
    task: Task
    state: State
    team_id: str
    user_id: str
    key: BucketKey
    channel_id: str
    reason: str
    token_kind: TokenKind
    last_four: str
    accepted_at: datetime
    expires_at: datetime
    next_attempt_at: datetime
    attempts: int
    possibly_written: bool
    checked_at: datetime | None
    patience_until: datetime | None
    findings: Findings | None
    confirm_until: datetime | None
    ended_at: datetime | None
    error_code: str | None
    cloudflare_code: int | None
    cloudflare_message: str
    cf_ray: str | None
    confirmation: CredentialStatus | None
    reported_at: datetime | None
    superseded_by: str | None
    revision: int
    approval_channel: str | None = None
    """Where an approver is asked; None as long as none is needed."""
    decided_by: str | None = None
    """Who approved or denied it."""

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will be sent to Cloudflare for it."""
        return self.state in ENDINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A submission with work left, and the sealed values that it needs for that."""

    submission: Submission
    sealed: Sealed


class Way(StrEnum):
    """How a result was posted."""

    CHANNEL = "channel"
    RESPONSE_URL = "response_url"
    DIRECT_MESSAGE = "direct_message"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """Where a result was posted: a channel, or the user of a direct message; None where every place refused it."""

    place: str | None
    way: Way
