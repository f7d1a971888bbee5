"""Four eyes: what is asked of an approver, and what one decided. Values only."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol, Self

from bot.model.submission import Findings, Pending, Submission, Task

_KIND: Final = "decision"
_REQUEST_KIND: Final = "request"
_DIGITS: Final = 32
"""Half of a SHA-256: nobody finds a second token with the same digest."""


class Choice(StrEnum):
    """What an approver can decide."""

    APPROVE = "approve"
    DENY = "deny"


class Authenticity(Protocol):
    """Signs records, and verifies that the bot has signed them: see `bot.sealing.authenticity`."""

    def sign(self, kind: str, fields: Mapping[str, str | int | None]) -> str:
        """Return the signature."""

    def verifies(self, kind: str, fields: Mapping[str, str | int | None], signature: object) -> bool:
        """Return whether this very text was signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one person decided on what was asked, signed by the process that Slack told it."""

    submission_id: str
    choice: Choice
    user_id: str
    decided_at: datetime
    digest: str
    signature: str = ""

    def signed_by(self, authenticity: Authenticity) -> Self:
        """Return it with its signature."""
        return replace(self, signature=authenticity.sign(_KIND, self._fields()))

    def is_authentic(self, authenticity: Authenticity) -> bool:
        """Return whether the bot signed it. Anyone who can write rows cannot decide by that."""
        return authenticity.verifies(_KIND, self._fields(), self.signature)

    def _fields(self) -> dict[str, str]:
        return {
            "submission_id": self.submission_id,
            "choice": self.choice.value,
            "user_id": self.user_id,
            "decided_at": self.decided_at.astimezone(UTC).isoformat(),
            "digest": self.digest,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The posted message that asks for an approval; without a `message_ts` it cannot be changed any more."""

    submission_id: str
    channel_id: str
    message_ts: str | None
    asked_at: datetime
    signature: str | None = None

    def signed_by(self, authenticity: Authenticity) -> Self:
        """Return it with its signature."""
        return replace(self, signature=authenticity.sign(_REQUEST_KIND, self._fields()))

    def is_authentic(self, authenticity: Authenticity) -> bool:
        """Return whether the bot signed it. Anyone who can write rows cannot have another message changed."""
        return authenticity.verifies(_REQUEST_KIND, self._fields(), self.signature)

    def _fields(self) -> dict[str, str | None]:
        return {
            "submission_id": self.submission_id,
            "channel_id": self.channel_id,
            "message_ts": self.message_ts,
            "asked_at": self.asked_at.astimezone(UTC).isoformat(),
        }


class Answer(StrEnum):
    """What became of a press of Approve or Deny."""

    RECORDED = "recorded"
    DECIDED_BEFORE = "decided_before"
    NOT_WAITING = "not_waiting"
    ANOTHER_TOKEN = "another_token"  # noqa: S105 - the name of an answer, not a password


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The answer, the submission as it is then, and the decision that counts, if there is one."""

    answer: Answer
    submission: Submission | None = None
    decision: Decision | None = None


def digest_of(pending: Pending) -> str:
    """Return what a decision is bound to: the sealed token, and what Cloudflare said of it when it was asked for.

    Bucket, person, task and channel need not be in it: a sealed token opens for no other ones. A rotation is approved
    before there is a token.
    """
    if pending.submission.task is Task.ROTATE:
        return hashlib.sha256(b"a token of the bot's own").hexdigest()[:_DIGITS]
    parts = [pending.sealed.token or "", *_facts_of(pending.submission.findings)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]


def _facts_of(findings: Findings | None) -> list[str]:
    token = findings.token if findings else None
    return [token.id, token.owner.value] if token else []
