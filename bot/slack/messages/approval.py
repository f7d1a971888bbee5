"""The message that asks an approver, and what becomes of it. Pure, and redacted by construction.

This module cannot import `secret` or `sealing` (a lint contract): it never sees a token, sealed or not.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from bot.model.approval import Choice, Decision
from bot.model.catalog import CredentialStatus
from bot.model.submission import Findings, Submission, Task, TokenKind
from bot.slack.blocks import Json, actions, button, confirmation, context, date, escape, fields, section
from bot.slack.messages.explanation import UNCHECKED
from bot.slack.messages.facts import CREDENTIAL_WORDS, token_facts
from bot.slack.messages.redacted import RedactedResult

APPROVE: Final = "approve_request"
DENY: Final = "deny_request"
"""The action ids of the buttons; the value of both is a submission's id and a digest of what was asked for."""

CHOICES: Final = {APPROVE: Choice.APPROVE, DENY: Choice.DENY}

_DID: Final = {Choice.APPROVE: "Approved", Choice.DENY: "Denied"}
_MARKS: Final = {Choice.APPROVE: ":white_check_mark:", Choice.DENY: ":no_entry:"}
_AFTERWARDS: Final = {
    Choice.APPROVE: "The result follows when it is done.",
    Choice.DENY: "Nothing is changed; the result follows.",
}
_ASKED: Final = {
    Task.STORE: "store a credential for the catalog of",
    Task.ENABLE: "enable the catalog of",
    Task.ROTATE: "rotate the credential of the catalog of",
}
_KEPT: Final = {
    Task.STORE: " \u00b7 the token was checked, and is kept encrypted",
    Task.ENABLE: "",
    Task.ROTATE: " \u00b7 no token is made before",
}
_NONE_THERE: Final = "There was no credential when the token was checked."
_REPLACED: Final = "A catalog has one credential: the present one is replaced, and nobody can bring it back."
_FINAL: Final = "An approval cannot be taken back."


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedRequest:
    """All that an approver is shown of a submission that waits."""

    submission_id: str
    task: Task
    user_id: str
    bucket: str
    reason: str
    token_kind: TokenKind
    last_four: str
    findings: Findings | None
    expires_at: datetime
    now: datetime

    @classmethod
    def of(cls, submission: Submission, now: datetime) -> Self:
        """Take what may be shown."""
        return cls(
            submission_id=submission.id,
            task=submission.task,
            user_id=submission.user_id,
            bucket=submission.key.bucket,
            reason=submission.reason,
            token_kind=submission.token_kind,
            last_four=submission.last_four,
            findings=submission.findings,
            expires_at=submission.expires_at,
            now=now,
        )

    @property
    def headline(self) -> str:
        """Who asks for what, in one sentence."""
        return f"<@{self.user_id}> asks to {_ASKED[self.task]} `{escape(self.bucket)}`."

    @property
    def has_token(self) -> bool:
        """Whether a token waits with it: a catalog needs none, and one of the bot's own is made afterwards."""
        return self.task not in (Task.ENABLE, Task.ROTATE)


def request_message(request: RedactedRequest, value: str) -> Json:
    """Return the message with its two buttons, each of which asks for a confirmation; `value` is that of both."""
    how = f"Another person who may approve it has to decide by {date(request.expires_at)}."
    remarks = [f":warning: {remark}" for remark in _list_unchecked(request.findings)]
    blocks = [
        section(f":raised_hand: *Approval needed*\n{request.headline} {how}"),
        fields(*_facts(request)),
        *([section("\n".join(remarks))] if remarks else []),
        context(f"Reference {escape(request.submission_id)}{_KEPT[request.task]}"),
        actions(
            button("Approve", APPROVE, value, style="primary", confirm=_confirm_approval(request)),
            button("Deny", DENY, value, style="danger", confirm=_confirm_denial(request)),
        ),
    ]
    return {"text": f"Approval needed: {request.headline} {how}", "blocks": blocks}


def decided_message(request: RedactedRequest, decision: Decision) -> Json:
    """Return the message after a decision: it stays true whatever happens next."""
    did, by = _DID[decision.choice], f"<@{decision.user_id}>"
    decided = f"{did} by {by} ({date(decision.decided_at)}). {_AFTERWARDS[decision.choice]}"
    return _without_buttons(request, f"{_MARKS[decision.choice]} *{did}*", f"{request.headline} {decided}")


def closed_message(request: RedactedRequest, result: RedactedResult) -> Json:
    """Return the message of a submission that has ended."""
    by = f" {result.decided_as} <@{result.decided_by}>." if result.decided_by else ""
    return _without_buttons(request, f"{result.outcome.mark} *{result.outcome.title}*", f"{result.headline}{by}")


def _without_buttons(request: RedactedRequest, title: str, what: str) -> Json:
    blocks = [
        section(f"{title}\n{what}"),
        fields(*_facts(request)),
        context(f"Reference {escape(request.submission_id)} \u00b7 an approver was asked here"),
    ]
    return {"text": what, "blocks": blocks}


def _facts(request: RedactedRequest) -> list[tuple[str, str]]:
    holds = request.findings.credential if request.findings else CredentialStatus.UNKNOWN
    facts = [
        ("Bucket", f"`{escape(request.bucket)}`"),
        ("Requested by", f"<@{request.user_id}>"),
    ]
    if request.has_token:
        facts += token_facts(request.findings, request.token_kind, request.last_four, request.now)
        facts.append(("Credential when asked", CREDENTIAL_WORDS[holds]))
    return [*facts, ("Reason", escape(request.reason))] if request.reason else facts


def _list_unchecked(findings: Findings | None) -> list[str]:
    return [words for check, words in UNCHECKED.items() if findings is not None and check in findings.unchecked]


def _confirm_approval(request: RedactedRequest) -> Json:
    return confirmation(
        "Approve this?",
        f"{_what_follows(request)} {_FINAL}",
        confirm="Approve",
        deny="Cancel",
    )


def _what_follows(request: RedactedRequest) -> str:
    bucket = f"`{escape(request.bucket)}`"
    if request.task is Task.ROTATE:
        return f"The bot then makes a token for {bucket}, stores and tests it, and revokes the one that it made before."
    if request.task is Task.ENABLE:
        return f"The bot then enables R2 Data Catalog (Basin Catalog) on {bucket}, which the bot cannot undo."
    is_absent = request.findings is not None and request.findings.credential is CredentialStatus.ABSENT
    return f"The bot then stores this token for {bucket}. {_NONE_THERE if is_absent else _REPLACED}"


def _confirm_denial(request: RedactedRequest) -> Json:
    erased = ", and the token is erased" if request.has_token else ""
    return confirmation(
        "Deny this?",
        f"Nothing is changed for `{escape(request.bucket)}`{erased}.",
        confirm="Deny",
        deny="Cancel",
    )
