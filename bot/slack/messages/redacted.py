"""What may be shown of a submission, ended or in progress. Pure, and redacted by construction.

This module cannot import `secret` or `sealing` (a lint contract): it never sees a token, sealed or not.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from bot.cloudflare.errors import CatalogRefusal, CloudflareError
from bot.model.catalog import CredentialStatus
from bot.model.errors import (
    ApprovalDenied,
    BotError,
    DatabaseRestored,
    NotApproved,
    Transient,
    WhoActs,
    error_of_code,
)
from bot.model.predecessor import Predecessor
from bot.model.submission import FOR_THE_SLOT, Findings, State, Submission, Task, TokenKind
from bot.slack.blocks import escape, moment
from bot.slack.messages.outcome import OUTCOMES, UNFORESEEN, Outcome, ProgressStep, Special
from bot.slack.messages.requester import describe_requester, name_requester

_SHOWN_AS: Final = {State.MINTED: State.VERIFYING}
"""A state in which no step runs, and the one that is about to."""
_UNKNOWN: Final = "The bot does not know what this waits for."


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedResult:
    """All that is shown of an ended submission."""

    submission_id: str
    task: Task
    user_id: str
    bucket: str
    ending: State
    token_kind: TokenKind
    last_four: str
    reason: str
    findings: Findings | None
    confirmation: CredentialStatus | None
    error: type[BotError] | None
    cloudflare_code: int | None
    cloudflare_message: str
    cf_ray: str | None
    possibly_written: bool
    superseded_by: str | None
    decided_by: str | None = None
    ended_at: datetime
    took: timedelta
    predecessor: Predecessor | None = None

    @classmethod
    def of(cls, submission: Submission, predecessor: Predecessor | None = None) -> Self:
        """Take what may be shown from a submission that has ended; `predecessor`: what a rotation has replaced."""
        ended_at = submission.ended_at or submission.accepted_at
        return cls(
            submission_id=submission.id,
            task=submission.task,
            user_id=submission.user_id,
            bucket=submission.key.bucket,
            ending=submission.state,
            token_kind=submission.token_kind,
            last_four=submission.last_four,
            reason=submission.reason,
            findings=submission.findings,
            confirmation=submission.confirmation,
            error=error_of_code(submission.error_code) if submission.error_code else None,
            cloudflare_code=submission.cloudflare_code,
            cloudflare_message=submission.cloudflare_message,
            cf_ray=submission.cf_ray,
            possibly_written=submission.possibly_written,
            superseded_by=submission.superseded_by,
            decided_by=submission.decided_by,
            ended_at=ended_at,
            took=max(ended_at - submission.accepted_at, timedelta(0)),
            predecessor=predecessor,
        )

    @property
    def requester(self) -> str:
        """Who asked for it, and why if nobody did."""
        return describe_requester(self.submission_id, self.user_id)

    @property
    def is_alarm(self) -> bool:
        """Whether the credential was stored, but Cloudflare says that it does not work or is not there."""
        return self.ending is State.STORED and self.confirmation is not None and self.confirmation.is_alarm

    @property
    def asks_operator(self) -> bool:
        """Whether the operator has to act."""
        is_lost = self.is_alarm and self.confirmation is CredentialStatus.ABSENT
        return is_lost or (self.error is not None and self.error.who_acts is WhoActs.OPERATOR)

    @property
    def decided_as(self) -> str:
        """What the person in `decided_by` did."""
        return "Denied by" if self.error is not None and issubclass(self.error, ApprovalDenied) else "Approved by"

    @property
    def outcome(self) -> Outcome:
        """How the ending is shown."""
        return OUTCOMES[self.task].get(self._shown_as, UNFORESEEN)

    @property
    def headline(self) -> str:
        """Who, which bucket and the outcome, in one sentence."""
        user = name_requester(self.submission_id, self.user_id)
        return self.outcome.headline.format(user=user, bucket=f"`{escape(self.bucket)}`")

    @property
    def _shown_as(self) -> State | Special:
        error = self.error or BotError
        if self.is_alarm:
            return Special.ALARM
        if self.task in FOR_THE_SLOT and self.ending is State.REFUSED and issubclass(error, CatalogRefusal):
            return Special.NOWHERE
        if self.task is not Task.CHECK and self.ending is State.DENIED and issubclass(error, NotApproved):
            return Special.NOT_APPROVED
        if self.ending is State.EXPIRED and issubclass(error, DatabaseRestored):
            return Special.RESTORED
        is_lost = self.task is Task.ENABLE and issubclass(error, Transient)
        return State.UNCERTAIN if is_lost else self.ending  # it may have been enabled without an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedProgress:
    """All that is shown of a submission in progress; while it waits because of `error`, `waits_until` is set."""

    task: Task
    bucket: str
    state: State
    steps: tuple[ProgressStep, ...]
    error: type[BotError] | None = None
    waits_until: datetime | None = None
    approval_channel: str | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, submission: Submission, now: datetime, steps: tuple[ProgressStep, ...]) -> Self:
        """Take what may be shown from a submission in progress, which goes through these steps."""
        is_written = submission.state is State.CONFIRMING  # the error before the write is over
        waits = submission.error_code is not None and submission.next_attempt_at > now and not is_written
        return cls(
            task=submission.task,
            bucket=submission.key.bucket,
            state=_reached(submission),
            steps=steps,
            approval_channel=submission.approval_channel,
            expires_at=submission.expires_at,
            error=error_of_code(submission.error_code) if submission.error_code and waits else None,
            waits_until=submission.next_attempt_at if waits else None,
        )

    @property
    def shown_steps(self) -> tuple[ProgressStep, ...]:
        """The steps that this submission takes: most need no approval."""
        is_asked = self.approval_channel is not None
        return tuple(step for step in self.steps if is_asked or step.state is not State.AWAITING_APPROVAL)

    @property
    def is_awaiting_approval(self) -> bool:
        """Whether someone else has to decide now."""
        return self.state is State.AWAITING_APPROVAL

    def _say_who_approves(self) -> str:
        until = f" until {moment(self.expires_at)}" if self.expires_at else ""
        return f"Waiting for approval: an approver in <#{self.approval_channel}> can decide{until}."

    @property
    def waiting(self) -> str:
        """What it waits for and until when, or ""."""
        if self.error is None or self.waits_until is None:
            return self._say_who_approves() if self.is_awaiting_approval else ""
        # While a token is made, another process tries, and says no time; what is known is when it gives up.
        again = "goes on trying until" if self.state is State.MINTING else "tries again by itself at"
        return f"{_reason_to_wait(self.error)} The bot {again} {moment(self.waits_until)}."


def _reached(submission: Submission) -> State:
    """Return the state that is shown: once approved, what is left is the step behind the approval."""
    if submission.task is Task.ROTATE:
        is_approved = submission.state is State.AWAITING_APPROVAL and submission.decided_by
        return State.MINTING if is_approved else _SHOWN_AS.get(submission.state, submission.state)
    after = {State.VERIFYING: State.STORING, State.AWAITING_APPROVAL: State.VERIFYING}
    return after.get(submission.state, submission.state) if submission.decided_by else submission.state


def _reason_to_wait(error: type[BotError]) -> str:
    """Return why it waits: a transient error, or what Cloudflare may answer to a new token."""
    if issubclass(error, Transient):
        return error.told.waiting
    return error.waiting if issubclass(error, CloudflareError) else _UNKNOWN
