"""What is said of a submission that has ended, or that waits: sentences. Pure, and redacted by construction.

This module cannot import `secret` or `sealing` (a lint contract): it never meets a token, sealed or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from bot.cloudflare.errors import TokenRefusal
from bot.model.catalog import CredentialStatus
from bot.model.errors import BotError, DeadlineReached, GivenUp, WhoseMove, error_of_code
from bot.model.submission import Check, Findings, State, Submission, Task, TokenKind
from bot.slack.blocks import date, escape, moment
from bot.slack.form import COMMAND

EXPIRES_SOON: Final = timedelta(days=30)


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
    ended_at: datetime
    took: timedelta

    @classmethod
    def of(cls, submission: Submission) -> Self:
        """Take what may be shown from a submission that has ended."""
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
            ended_at=ended_at,
            took=max(ended_at - submission.accepted_at, timedelta(0)),
        )

    @property
    def is_alarm(self) -> bool:
        """Whether the credential was stored, but Cloudflare says that it does not work or is not there."""
        return self.ending is State.STORED and self.confirmation in _ALARMS

    @property
    def asks_operator(self) -> bool:
        """Whether it is the operator's move."""
        is_lost = self.is_alarm and self.confirmation is CredentialStatus.ABSENT
        return is_lost or (self.error is not None and self.error.whose_move is WhoseMove.OPERATOR)

    @property
    def outcome(self) -> State:
        """What people are told: the ending, but for a try to enable a catalog whose answer may have been lost."""
        is_unclear = self.task is Task.ENABLE and self.error is not None and self.error.retryable
        return State.UNCERTAIN if is_unclear else self.ending

    @property
    def headline(self) -> str:
        """Who, which bucket, and what came of it, in one sentence."""
        return _HEADLINES[self.task][_outline(self.outcome)].format(
            user=f"<@{self.user_id}>", bucket=f"`{escape(self.bucket)}`"
        )

    @property
    def explanation(self) -> str:
        """What happened behind the headline, whose move it is and what to do."""
        return _explain(self)

    @property
    def warnings(self) -> list[str]:
        """What did not stop the token, and should be known about it."""
        return _warn(self) if self.ending in (State.STORED, State.CHECKED) else []

    @property
    def unchecked(self) -> list[str]:
        """Which questions about the token have no answer, and what that means."""
        if self.findings is None or self.ending not in (State.STORED, State.CHECKED):
            return []
        words = _UNCHECKED_BUT_STORED if self.ending is State.STORED else _UNCHECKED
        return [words[check] for check in Check if check in self.findings.unchecked]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedProgress:
    """All that is shown of a submission under way; `waits_until` is set while it waits for the reason in `error`."""

    task: Task
    bucket: str
    state: State
    error: type[BotError] | None = None
    waits_until: datetime | None = None

    @classmethod
    def of(cls, submission: Submission, now: datetime) -> Self:
        """Take what may be shown from a submission under way."""
        is_written = submission.state is State.CONFIRMING  # what was in the way of that is over
        waits = submission.error_code is not None and submission.next_attempt_at > now and not is_written
        return cls(
            task=submission.task,
            bucket=submission.key.bucket,
            state=submission.state,
            error=error_of_code(submission.error_code) if submission.error_code and waits else None,
            waits_until=submission.next_attempt_at if waits else None,
        )

    @property
    def waiting(self) -> str:
        """What it waits for and until when, or nothing."""
        if self.error is None or self.waits_until is None:
            return ""
        is_fresh = issubclass(self.error, TokenRefusal)
        reason = _UNTIL_KNOWN if is_fresh else _PASSING_TROUBLE[self.error.code]
        return f"{reason} The bot tries again by itself at {moment(self.waits_until)}."


_ALARMS: Final = (CredentialStatus.INVALID, CredentialStatus.ABSENT)
_OUTLINES: Final = (State.STORED, State.CHECKED, State.ENABLED, State.REFUSED, State.UNCERTAIN, State.SUPERSEDED)
_HEADLINES: Final[Mapping[Task, Mapping[State, str]]] = {
    Task.STORE: {
        State.STORED: "{user} stored a new credential for the catalog of {bucket}.",
        State.UNCERTAIN: "It is not known whether the credential that {user} submitted for {bucket} was stored.",
        State.SUPERSEDED: "The credential that {user} submitted for {bucket} gave way to a newer one.",
        State.REFUSED: "The credential that {user} submitted for {bucket} was not stored; nothing was changed.",
        State.FAILED: "The credential that {user} submitted for {bucket} was not stored; nothing was changed.",
    },
    Task.CHECK: {
        State.CHECKED: "The token that {user} had checked for {bucket} passed every check; nothing was changed.",
        State.REFUSED: "The token that {user} had checked for {bucket} did not pass every check; nothing was changed.",
        State.FAILED: "The token that {user} submitted for {bucket} could not be checked; nothing was changed.",
    },
    Task.ENABLE: {
        State.ENABLED: "{user} enabled the catalog of {bucket}.",
        State.REFUSED: "The catalog of {bucket}, which {user} wanted to enable, was not enabled.",
        State.FAILED: "The catalog of {bucket}, which {user} wanted to enable, was not enabled.",
        State.UNCERTAIN: "It is not known whether the catalog of {bucket}, which {user} wanted to enable, was enabled.",
    },
}
_CONFIRMATIONS: Final = {
    CredentialStatus.VALID: "Cloudflare confirms that the stored credential works.",
    CredentialStatus.PRESENT: "Cloudflare confirms that one is stored; it offers no test on this path.",
    CredentialStatus.INVALID: (
        "Cloudflare accepted it, but says that the stored credential does not work. Your move: look whether the token "
        "was disabled or changed meanwhile, and store another one. If this one is good, the operator of the bot should "
        "look at the catalog in the Cloudflare dashboard."
    ),
    CredentialStatus.ABSENT: (
        "Cloudflare accepted it, but still says that the slot is empty. The operator of the bot should look at the "
        "catalog in the Cloudflare dashboard; submitting the token again does no harm."
    ),
    CredentialStatus.UNKNOWN: (
        "Cloudflare accepted it, but the bot could not find out afterwards whether it works. Your move: look with "
        f"`{COMMAND} status` in a few minutes."
    ),
}
_REPLACED: Final = {
    CredentialStatus.VALID: "It replaced a credential that still worked.",
    CredentialStatus.INVALID: "It replaced one that did not work any more.",
    CredentialStatus.ABSENT: "There was none before.",
}
_CHECKED: Final = (
    "Not looked at: whether the token may read and write the data of the bucket (R2 storage), which Cloudflare does "
    "only when it stores. The token was erased. Your move: paste it again to have it stored."
)
_ENABLED: Final = "It can take a credential now. Your move: paste the token again, since it was erased."
_ENABLE_AGAIN: Final = "Your move: press the button again; enabling a catalog twice does no harm."
_NOT_ENABLED_IN_TIME: Final = f"The bot did not get to it in the time it had. {_ENABLE_AGAIN}"
_UNCHECKED: Final = {
    Check.TOKEN: (
        "Not checked: whether the token is active and when it expires. Cloudflare does not tell that about this token, "
        "so nobody will be reminded before it expires."
    ),
    Check.REACH: (
        "Not checked: whether the token reaches this catalog. Cloudflare does not let this token ask; if it does not "
        "reach it, Cloudflare refuses it when it is stored, and leaves the slot as it is."
    ),
}
_UNCHECKED_BUT_STORED: Final = _UNCHECKED | {
    Check.REACH: (
        "Not checked: whether the token reaches this catalog. Cloudflare does not let this token ask, but took it all "
        "the same."
    ),
}
_UNTIL_KNOWN: Final = "Waiting for Cloudflare to know this token: a new one can take up to a minute."
_PASSING_TROUBLE: Final = {
    "throttled": "Cloudflare limits how many requests it takes from the bot.",
    "edge_refused": "Cloudflare's edge turned the request away.",
    "cloudflare_unavailable": "Cloudflare has trouble answering.",
    "cloudflare_unreachable": "The bot got no answer from Cloudflare.",
    "answer_not_understood": "Cloudflare answered in a way that the bot does not understand.",
    "database_unavailable": "The bot's own database has trouble.",
    "commit_unknown": "The bot's own database has trouble.",
    "membership_unknown": "Slack does not tell the bot who may use it.",
}
_LASTING_TROUBLE: Final = {
    "throttled": "Cloudflare kept limiting how many requests it takes from the bot.",
    "edge_refused": (
        "Cloudflare's edge kept turning the request away; if that goes on, the operator of the bot should look whether "
        "its network address is blocked."
    ),
    "cloudflare_unavailable": "Cloudflare kept having trouble (https://www.cloudflarestatus.com).",
    "cloudflare_unreachable": (
        "The bot got no answer from Cloudflare; if that goes on, the operator of the bot should check the network "
        "between the bot and api.cloudflare.com."
    ),
    "answer_not_understood": (
        "Cloudflare kept answering in a way that the bot does not understand; if that goes on, the operator of the bot "
        "should look for a newer version of it."
    ),
    "database_unavailable": "The bot's own database kept having trouble.",
    "commit_unknown": "The bot's own database kept having trouble.",
    "membership_unknown": "Slack did not tell the bot who may use it.",
}
"""Why the bot kept trying until the deadline: the errors' own sentences promise another try."""


def _outline(ending: State) -> State:
    return ending if ending in _OUTLINES else State.FAILED


def _explain(result: RedactedResult) -> str:
    if result.ending is State.STORED:
        before = result.findings.credential if result.findings else CredentialStatus.UNKNOWN
        confirmation = _CONFIRMATIONS[result.confirmation or CredentialStatus.UNKNOWN]
        return " ".join(filter(None, [confirmation, _REPLACED.get(before, "")]))
    if result.ending in (State.CHECKED, State.ENABLED):
        return _CHECKED if result.ending is State.CHECKED else _ENABLED
    if result.ending is State.SUPERSEDED:
        return _explain_superseded(result)
    return _explain_uncertain(result) if result.ending is State.UNCERTAIN else _explain_cause(result)


def _explain_superseded(result: RedactedResult) -> str:
    fate = (
        "An earlier request with this token got no clear answer; the newer one was sent after it."
        if result.possibly_written
        else "This token was never stored."
    )
    return (
        f"<@{result.superseded_by}> submitted a newer one for the same catalog, and that one was sent to Cloudflare "
        f"({date(result.ended_at)}). {fate} Nobody has to do anything."
    )


def _explain_uncertain(result: RedactedResult) -> str:
    cause = _explain_cause(result)
    if result.error is not None and not result.error.retryable:  # its sentence says whose move it is
        return f"An earlier request with the token got no clear answer, so the slot may hold it. What ended it: {cause}"
    return (
        "A request with the token went out, and no clear answer came back. "
        f"{cause} Your move: submit the same token again; storing it twice does no harm."
    )


def _explain_cause(result: RedactedResult) -> str:
    if result.error is None:
        return "The bot was stopped before it had an answer."
    if result.task is Task.ENABLE and issubclass(result.error, GivenUp):
        return _NOT_ENABLED_IN_TIME
    if not result.error.retryable:
        return escape(result.error.user_message)
    trouble = _LASTING_TROUBLE[result.error.code]
    if result.ending is State.UNCERTAIN:
        return trouble
    return f"{trouble} {_ENABLE_AGAIN if result.task is Task.ENABLE else DeadlineReached.user_message}"


def _warn(result: RedactedResult) -> list[str]:
    token = result.findings.token if result.findings else None
    is_of_user = token.owner is TokenKind.USER if token else result.token_kind is TokenKind.USER
    warnings = []
    if token is not None and token.expires_at is None:
        warnings.append("This token never expires: one with an expiry date does less harm in wrong hands.")
    if token is not None and token.expires_at is not None and token.expires_at - result.ended_at < EXPIRES_SOON:
        warnings.append(f"This token expires soon ({expiry(token.expires_at, result.ended_at)}): plan its successor.")
    if is_of_user:
        warnings.append(
            "This token belongs to a user: it stops working when that user leaves the Cloudflare account. An account "
            "API token does not."
        )
    return warnings


def expiry(expires_at: datetime | None, now: datetime) -> str:
    """Return an expiry date with the days that are left."""
    if expires_at is None:
        return "never"
    left = expires_at - now
    if left < timedelta(0):
        return f"{date(expires_at)}, {_days(-left)} ago"
    return f"{date(expires_at)}, in {_days(left)}"


def _days(time: timedelta) -> str:
    if time < timedelta(days=1):
        return "less than a day"
    return "1 day" if time.days == 1 else f"{time.days} days"
