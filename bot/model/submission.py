"""The domain's values and states: openings, submissions, what was pasted, how it ended. No input or output."""

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
    """What a pasted string is, told by its shape alone (Cloudflare, "API token formats", 2026-03)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PastedToken:
    """What the ingress tells of a pasted token; `sealed` is None when its kind is not one to be stored."""

    kind: TokenKind
    last_four: str
    sealed: SealedToken | None
    sealed_response_url: SealedResponseUrl | None = None


class Task(StrEnum):
    """What a submission asks for."""

    STORE = "store"
    CHECK = "check"
    ENABLE = "enable"


class Check(StrEnum):
    """One of the questions that are asked of a pasted token before it is stored."""

    TOKEN = "token"  # noqa: S105 - the name of a check, not a password
    REACH = "reach"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What Cloudflare told of a pasted token. The id is no secret; `expires_at` is None for one that never expires."""

    id: str
    owner: TokenKind
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the checks before a write have found; `token` is None where Cloudflare offered no answer about it.

    `unchecked` are those that Cloudflare does not offer to this token.
    """

    token: TokenFacts | None
    unchecked: frozenset[Check]
    credential: CredentialStatus


class State(StrEnum):
    """Where a submission stands; those of `ENDINGS` are final."""

    ACCEPTED = "accepted"
    VERIFYING = "verifying"
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

_WITHOUT_A_TRACE: Final = frozenset({State.REFUSED, State.DENIED, State.FAILED, State.SUPERSEDED, State.EXPIRED})

STEPS: Final[Mapping[State, frozenset[State]]] = {
    State.ACCEPTED: _WITHOUT_A_TRACE | {State.VERIFYING, State.CHECKED, State.ENABLED},
    State.VERIFYING: _WITHOUT_A_TRACE | {State.STORING, State.CHECKED},
    State.STORING: frozenset(
        {State.CONFIRMING, State.REFUSED, State.DENIED, State.FAILED, State.UNCERTAIN, State.SUPERSEDED}
    ),
    State.CONFIRMING: frozenset({State.STORED}),
}
"""Every step that a submission may take. An ending takes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on a bucket, until somebody takes it anew: that one's epoch is higher."""

    key: BucketKey
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One opened modal: who may submit it, until when."""

    nonce: str
    team_id: str
    user_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a submission keeps encrypted as long as it needs it. One that enables a catalog has no token."""

    token: SealedToken | None = None
    response_url: SealedResponseUrl | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSubmission:
    """A checked Submit, ready to be recorded. `id` is Slack's `view.id` and the idempotency key.

    `sent_at` is its place among those of its bucket: when Slack sent it (by Slack's own clock, to the second, where
    that is signed), whatever held it up on its way here. Of one second, the earlier `accepted_at` is the older one.
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
    sealed: Sealed
    sent_at: datetime
    accepted_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A recorded submission, without what it keeps sealed: `revision` counts its changes."""

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

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will be sent to Cloudflare for it."""
        return self.state in ENDINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A submission that has something left to do, with what it keeps sealed for that."""

    submission: Submission
    sealed: Sealed


class Way(StrEnum):
    """How a result reached people."""

    CHANNEL = "channel"
    RESPONSE_URL = "response_url"
    DIRECT_MESSAGE = "direct_message"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """Where a result was posted: a channel, or the user of a direct message; nowhere, where every place refused."""

    place: str | None
    way: Way
