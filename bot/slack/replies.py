"""Results, progress and refusals as Block Kit and as one plain sentence. Pure, and redacted by construction.

This module cannot import `secret` or `sealing` (a lint contract): it never meets a token, sealed or not.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from bot.catalog import CredentialStatus
from bot.errors import AccessRefused, BotError, DeadlineReached, NeverSent, WhoseMove, error_of_code
from bot.slack.blocks import Json, context, escape, fields, plain, section
from bot.slack.modal import COMMAND
from bot.submission import Confirmation, State, Submission, TokenKind

TRY_AGAIN: Final = "try_again"
"""The action id of the button on a result that was no success; its value is the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedResult:
    """All that is shown of an ended submission."""

    submission_id: str
    user_id: str
    bucket: str
    ending: State
    token_kind: TokenKind
    last_four: str
    reason: str
    credential_before: CredentialStatus | None
    confirmation: Confirmation | None
    error: type[BotError] | None
    cloudflare_code: int | None
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
            user_id=submission.user_id,
            bucket=submission.key.bucket,
            ending=submission.state,
            token_kind=submission.token_kind,
            last_four=submission.last_four,
            reason=submission.reason,
            credential_before=submission.credential_before,
            confirmation=submission.confirmation,
            error=error_of_code(submission.error_code) if submission.error_code else None,
            cloudflare_code=submission.cloudflare_code,
            cf_ray=submission.cf_ray,
            possibly_written=submission.possibly_written,
            superseded_by=submission.superseded_by,
            ended_at=ended_at,
            took=max(ended_at - submission.accepted_at, timedelta(0)),
        )

    @property
    def explanation(self) -> str:
        """What happened behind the headline, whose move it is and what to do."""
        return _explain(self)


def result_message(result: RedactedResult, *, contact: str, placement: str = "") -> Json:
    """Return `text` and `blocks` of the one message that tells the outcome.

    `placement` says why the message is where it is, when that is not the chosen channel.
    """
    blocks = [*_body(result, contact), *([context(placement)] if placement else [])]
    if result.ending not in (State.STORED, State.SUPERSEDED):
        blocks.append(_try_again(result.bucket))
    text = " ".join(filter(None, [_headline(result), result.explanation, _ask(result, contact), placement]))
    return {"text": text, "blocks": blocks}


def result_view(result: RedactedResult, *, contact: str) -> Json:
    """Return the modal as it stays when all is done."""
    return _view(_VIEW_TITLES[result.ending], [*_body(result, contact), context("You can close this.")])


def progress_view(bucket: str, state: State) -> Json:
    """Return the modal while a submission is under way; it has no input any more."""
    steps = [f"{_mark(state, step)}  {words}" for step, words in _STEP_WORDS.items()]
    return _view(
        "Storing...",
        [
            section(f"The token for the catalog of *{escape(bucket)}* is encrypted and on its way."),
            section("\n".join(steps)),
            context("You can close this: it changes nothing, and the result is posted anyway."),
        ],
    )


def notice_view(title: str, text: str) -> Json:
    """Return a modal that only says something; `title` has 24 characters at most."""
    return _view(title, [section(text)])


def refusal(error: BotError, *, contact: str) -> str:
    """Return what a refused person reads: friendly, and with somebody to ask."""
    asks = isinstance(error, AccessRefused) and error.whose_move is WhoseMove.OPERATOR
    text = escape(error.user_message)
    return f"{text} {_ask_whom(contact)}" if asks else text


def help_text() -> str:
    """Return the answer to `/r2-credential help`."""
    return (
        f"*{COMMAND}* opens a form that stores the credential of an R2 Data Catalog (Basin Catalog); "
        f"*{COMMAND} BUCKET* opens it filled in. Paste the token into the form only, never behind the command: Slack "
        "keeps what is typed there."
    )


_VIEW_TITLES: Final = {
    State.STORED: "Credential stored",
    State.REFUSED: "Token refused",
    State.DENIED: "Not allowed",
    State.FAILED: "Not stored",
    State.UNCERTAIN: "Not known if stored",
    State.SUPERSEDED: "Gave way to a newer one",
    State.EXPIRED: "Too late",
}
_TITLES: Final = {
    State.STORED: ":white_check_mark: *Credential stored*",
    State.REFUSED: ":no_entry: *Token refused, nothing changed*",
    State.DENIED: ":no_entry: *Not allowed, nothing changed*",
    State.FAILED: ":x: *Not stored, nothing changed*",
    State.UNCERTAIN: ":warning: *Not known whether it was stored*",
    State.SUPERSEDED: ":arrows_counterclockwise: *Gave way to a newer credential*",
    State.EXPIRED: ":hourglass: *Too late, nothing changed*",
}
_ALARM_TITLE: Final = ":warning: *Credential stored, but look at it*"

_CONFIRMATIONS: Final = {
    Confirmation.PRESENT: "Cloudflare confirms that one is stored; it offers no test on this path.",
    Confirmation.ABSENT: (
        "Cloudflare accepted it, but still says that the slot is empty. The operator of the bot should look at the "
        "catalog in the Cloudflare dashboard; submitting the token again does no harm."
    ),
    Confirmation.UNKNOWN: "Cloudflare accepted it; the bot could not find out afterwards whether the slot shows it.",
}
_CREDENTIAL_WORDS: Final = {
    CredentialStatus.PRESENT: "present",
    CredentialStatus.ABSENT: "none",
    CredentialStatus.UNKNOWN: "not known",
}
_TOKEN_WORDS: Final = {
    TokenKind.USER: "user API token",
    TokenKind.ACCOUNT: "account API token",
    TokenKind.UNPREFIXED: "API token",
}
_STEP_WORDS: Final = {
    State.STORING: "Store it at Cloudflare",
    State.CONFIRMING: "Confirm that the slot holds a credential",
}
_ORDER: Final = (State.ACCEPTED, State.STORING, State.CONFIRMING, State.STORED)

_SLACK_ID: Final = re.compile(r"[UWSC](?=[A-Z]*[0-9])[A-Z0-9]{7,}")  # a digit: "SECURITY" is no id but a team
_LASTING_TROUBLE: Final = {
    "throttled": "Cloudflare kept limiting how many requests it takes from the bot.",
    "edge_refused": "Cloudflare's edge kept turning the request away.",
    "cloudflare_unavailable": "Cloudflare kept having trouble (https://www.cloudflarestatus.com).",
    "cloudflare_unreachable": "The bot got no answer from Cloudflare.",
    "answer_not_understood": "Cloudflare answered in a way that the bot does not understand.",
    "database_unavailable": "The bot's own database kept having trouble.",
    "commit_unknown": "The bot's own database kept having trouble.",
    "membership_unknown": "Slack did not tell the bot who may use it.",
}
"""Why the bot kept trying until the deadline: the errors' own sentences promise another try."""


def _headline(result: RedactedResult) -> str:
    bucket, user = f"`{escape(result.bucket)}`", f"<@{result.user_id}>"
    if result.ending is State.STORED:
        return f"{user} stored a new credential for the catalog of {bucket}."
    if result.ending is State.UNCERTAIN:
        return f"It is not known whether the credential that {user} submitted for {bucket} was stored."
    if result.ending is State.SUPERSEDED:
        return f"The credential that {user} submitted for {bucket} gave way to a newer one."
    return f"The credential that {user} submitted for {bucket} was not stored; nothing was changed."


def _explain(result: RedactedResult) -> str:
    if result.ending is State.STORED:
        return _CONFIRMATIONS[result.confirmation or Confirmation.UNKNOWN]
    if result.ending is State.SUPERSEDED:
        return _explain_superseded(result)
    cause = _explain_cause(result)
    if result.ending is not State.UNCERTAIN:
        return cause
    if result.error is not None and not result.error.retryable:  # its sentence says whose move it is
        return f"An earlier request with the token got no clear answer, so the slot may hold it. What ended it: {cause}"
    return (
        "A request with the token went out, and no clear answer came back. "
        f"{cause} Your move: submit the same token again; storing it twice does no harm."
    )


def _explain_superseded(result: RedactedResult) -> str:
    """Say by whom and when; Slack shows the time in the reader's own zone."""
    seconds, iso = int(result.ended_at.timestamp()), f"{result.ended_at:%Y-%m-%d %H:%M} UTC"
    when = f"<!date^{seconds}^{{date_short_pretty}} at {{time}}|{iso}>"
    fate = (
        "An earlier request with this token got no clear answer; the newer one was sent after it."
        if result.possibly_written
        else "This token was never stored."
    )
    return (
        f"<@{result.superseded_by}> submitted a newer one for the same catalog, and that one was sent to Cloudflare "
        f"({when}). {fate} Nobody has to do anything."
    )


def _explain_cause(result: RedactedResult) -> str:
    if result.ending is State.EXPIRED:
        return escape(NeverSent.user_message)
    if result.error is None:
        return "The bot was stopped before it had an answer."
    if not result.error.retryable:
        return escape(result.error.user_message)
    trouble = _LASTING_TROUBLE[result.error.code]
    return trouble if result.ending is State.UNCERTAIN else f"{DeadlineReached.user_message} {trouble}"


def _body(result: RedactedResult, contact: str) -> list[Json]:
    is_alarm = result.confirmation is Confirmation.ABSENT
    title = _ALARM_TITLE if is_alarm else _TITLES[result.ending]
    explanation = " ".join(filter(None, [result.explanation, _ask(result, contact)]))
    return [section(f"{title}\n{explanation}"), fields(*_facts(result)), context(_small_print(result))]


def _facts(result: RedactedResult) -> list[tuple[str, str]]:
    token = _TOKEN_WORDS.get(result.token_kind, "token")
    facts = [
        ("Bucket", f"`{escape(result.bucket)}`"),
        ("By", f"<@{result.user_id}>"),
        ("Token", f"{token} ending in `{escape(result.last_four)}`"),
    ]
    if result.ending is State.STORED:
        facts.append(("Slot as last listed, and now", _before_and_after(result)))
    if result.reason:
        facts.append(("Reason", escape(result.reason)))
    return facts


def _before_and_after(result: RedactedResult) -> str:
    before = _CREDENTIAL_WORDS[result.credential_before or CredentialStatus.UNKNOWN]
    after = _CREDENTIAL_WORDS[CredentialStatus(result.confirmation or Confirmation.UNKNOWN)]
    return f"{before} \u2192 {after}"


def _small_print(result: RedactedResult) -> str:
    parts = [f"Reference {escape(result.submission_id)}", f"took {_duration(result.took)}"]
    if result.ending is not State.STORED and result.error:
        parts.append(f"error {result.error.code}")
        parts += [f"Cloudflare code {result.cloudflare_code}"] if result.cloudflare_code is not None else []
        parts += [f"Ray ID {escape(result.cf_ray)}"] if result.cf_ray else []
    return " \u00b7 ".join(parts)


def _ask(result: RedactedResult, contact: str) -> str:
    return _ask_whom(contact) if result.error and result.error.whose_move is WhoseMove.OPERATOR else ""


def _ask_whom(contact: str) -> str:
    return f"Please ask {mention(contact)}." if contact else "Please ask whoever runs this bot."


def mention(contact: str) -> str:
    """Return a user, user group or channel id as a mention, and anything else as text."""
    if _SLACK_ID.fullmatch(contact):
        forms = {"U": "<@{}>", "W": "<@{}>", "S": "<!subteam^{}>", "C": "<#{}>"}
        return forms[contact[0]].format(contact)
    return escape(contact)


def _duration(took: timedelta) -> str:
    seconds = took.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _mark(state: State, step: State) -> str:
    reached = _ORDER.index(state)
    if reached > _ORDER.index(step):
        return ":white_check_mark:"
    return ":hourglass_flowing_sand:" if reached == _ORDER.index(step) else ":white_circle:"


def _try_again(bucket: str) -> Json:
    button = {"type": "button", "action_id": TRY_AGAIN, "text": plain("Try again"), "value": bucket}
    return {"type": "actions", "elements": [button]}


def _view(title: str, blocks: list[Json]) -> Json:
    return {"type": "modal", "title": plain(title), "close": plain("Close"), "blocks": blocks}
