"""Results, progress, notices and refusals as Block Kit and as one plain sentence. Pure, and redacted by construction.

This module cannot import `secret` or `sealing` (a lint contract): it never sees a token, sealed or not.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from bot.cloudflare.errors import DOCUMENTATION_URL, CatalogInactive, CatalogNotEnabled
from bot.cloudflare.minting_errors import CatalogSwitchedOff
from bot.model.catalog import BucketKey, CredentialStatus, StoredCredential
from bot.model.errors import CREATE_ANOTHER, ENABLE_CATALOG, AccessRefused, BotError, WhoActs, what_to_do
from bot.model.predecessor import Predecessor
from bot.model.submission import Check, State, Submission, Task
from bot.slack.blocks import (
    Json,
    actions,
    button,
    confirmation,
    context,
    date,
    escape,
    fields,
    mention_user,
    modal,
    section,
)
from bot.slack.button_values import bucket_value
from bot.slack.messages.explanation import expiry, find_cause, list_fixes, list_unchecked, list_warnings
from bot.slack.messages.facts import CREDENTIAL_WORDS, token_facts
from bot.slack.messages.outcome import AWAITING_WORDS, TASK_WORDS, ProgressStep
from bot.slack.messages.redacted import RedactedProgress, RedactedResult

TRY_AGAIN: Final = "try_again"
"""The action id of the button that opens the filled-in form; its value is a submission id or a bucket."""

ROTATE: Final = "rotate_credential"
"""The same for the form of a rotation."""

ENABLE: Final = "enable_catalog"
"""The action id of the button that enables a catalog; its value is the id of the submission that found none."""


def result_message(result: RedactedResult, *, contact: str, may_enable: bool = False, placement: str = "") -> Json:
    """Return `text` and `blocks` of the one message that reports the outcome.

    `placement` says why the message is not in the chosen channel, if it is not. `may_enable` adds a button that enables
    a catalog which is not enabled.
    """
    buttons = _buttons(result, may_enable=may_enable)
    blocks = [
        *_body(result, contact, may_enable=may_enable),
        *([context(placement)] if placement else []),
        *([actions(*buttons)] if buttons else []),
    ]
    parts = [result.headline, *_explanation(result, contact, may_enable=may_enable), placement]
    return {"text": " ".join(filter(None, parts)), "blocks": blocks}


def result_view(result: RedactedResult, *, contact: str, may_enable: bool = False) -> Json:
    """Return the final modal, with the same buttons as the message."""
    buttons = _buttons(result, may_enable=may_enable)
    blocks = [*_body(result, contact, may_enable=may_enable), *([actions(*buttons)] if buttons else [])]
    return modal(result.outcome.view_title, [*blocks, context("You can close this.")])


def submission_view(  # noqa: PLR0913 - all by name
    submission: Submission,
    *,
    now: datetime,
    steps: tuple[ProgressStep, ...],
    contact: str,
    may_enable: bool = False,
    predecessor: Predecessor | None = None,
) -> Json:
    """Return the modal of a submission: its progress, or its outcome; `predecessor` as for a RedactedResult."""
    if submission.is_ended:
        return result_view(RedactedResult.of(submission, predecessor), contact=contact, may_enable=may_enable)
    return progress_view(RedactedProgress.of(submission, now, steps))


def progress_view(progress: RedactedProgress) -> Json:
    """Return the modal of a submission in progress; it has no input field."""
    table = AWAITING_WORDS if progress.is_awaiting_approval else TASK_WORDS
    words = table.get(progress.task, TASK_WORDS[progress.task])
    waiting = [context(f":hourglass: {progress.waiting}")] if progress.waiting else []
    return modal(
        words.title,
        [
            section(words.sentence.format(bucket=escape(progress.bucket))),
            section("\n".join(_tick_off(progress))),
            *waiting,
            context("You can close this: it changes nothing, and the result is posted anyway."),
        ],
    )


def expiry_reminder(
    credential: StoredCredential, now: datetime, placement: str = "", *, may_rotate: bool = False
) -> Json:
    """Return the reminder of a token's expiry; `placement` as for a result. `may_rotate` adds the button for that."""
    bucket, by = f"`{escape(credential.bucket)}`", f"<@{credential.stored_by}>"
    is_over = credential.expires_at is not None and credential.expires_at <= now
    what = "has expired" if is_over else "expires soon"
    text = (
        f"The credential of the catalog of {bucket}, which {by} stored on {date(credential.stored_at)}, {what} "
        f"({expiry(credential.expires_at, now)}). What to do: {_ROTATE_OR if may_rotate else ''}Create a token with "
        f'"Admin Read &amp; Write" and store it{"" if is_over else " before that"}.'
    )
    return _notice(":hourglass:", text, credential, placement, may_rotate=may_rotate)


def broken_notice(credential: StoredCredential, placement: str = "", *, may_rotate: bool = False) -> Json:
    """Return the message that a credential stopped working; the other parts are those of a reminder."""
    since = f" (found {date(credential.broken_at)})" if credential.broken_at else ""
    text = (
        f"Cloudflare says that the credential of the catalog of `{escape(credential.bucket)}` no longer works"
        f"{since}. <@{credential.stored_by}> stored it on {date(credential.stored_at)}. What to do: Find out whether "
        f"that token was disabled, changed or deleted, and {'rotate' if may_rotate else 'store a new one'}."
    )
    return _notice(":rotating_light:", text, credential, placement, may_rotate=may_rotate)


def notice_view(title: str, text: str) -> Json:
    """Return a modal with text only; `title` has 24 characters at most."""
    return modal(title, [section(text)])


def refusal(error: BotError, *, contact: str) -> str:
    """Return what a refused person reads, and whom to ask."""
    asks = isinstance(error, AccessRefused) and error.who_acts is WhoActs.OPERATOR
    text = escape(error.user_message)
    return f"{text} {ask_whom(contact)}" if asks else text


_CHECKS_PASSED: Final = {
    Check.TOKEN: "Cloudflare knows the token, and it is active.",
    Check.REACH: "The token reaches this catalog.",
}
_ROTATE_OR: Final = 'Press "Rotate". Or: '
PASTE_INSTEAD: Final = "Paste a token instead"
_TO_BE_ENABLED: Final = (CatalogNotEnabled, CatalogInactive, CatalogSwitchedOff)
_ENABLE_BELOW: Final = 'Press "Enable the catalog" below.'
_LINKS: Final = {
    escape(CREATE_ANOTHER): ("Create a token", "https://dash.cloudflare.com/?to=/:account/r2/api-tokens"),
    escape(ENABLE_CATALOG): ("the bucket's settings", "https://dash.cloudflare.com/?to=/:account/r2/overview"),
}
"""The words of a fix that link to a page of Cloudflare's; no sentence contains a URL."""

_SLACK_ID: Final = re.compile(r"[UWSC](?=[A-Z]*[0-9])[A-Z0-9]{7,}")  # with a digit: "SECURITY" is a team, not an id


def _body(result: RedactedResult, contact: str, *, may_enable: bool = False) -> list[Json]:
    fixes = _list_fixes(result, may_enable=may_enable)
    remarks = [*list_unchecked(result), *list_warnings(result)]
    checks = [section("\n".join(_checks(result)))] if result.ending is State.CHECKED else []
    return [
        section(f"{result.outcome.mark} *{result.outcome.title}*\n{_cause(result, contact)}"),
        *([section("\n".join(["*What to do*", *(f"\u2022 {_link(fix)}" for fix in fixes)]))] if fixes else []),
        *checks,
        *([section("\n".join(f":warning: {remark}" for remark in remarks))] if remarks else []),
        fields(*_facts(result)),
        context(_small_print(result)),
    ]


def _explanation(result: RedactedResult, contact: str, *, may_enable: bool) -> list[str]:
    """Return the explanation that follows the headline, then what else should be known."""
    explanation = what_to_do(_cause(result, contact), *_list_fixes(result, may_enable=may_enable))
    decided = [f"{result.decided_as} {mention_user(result.decided_by)}."] if result.decided_by else []
    return [explanation, *decided, *list_unchecked(result), *list_warnings(result)]


def _cause(result: RedactedResult, contact: str) -> str:
    asks = [ask_whom(contact)] if result.asks_operator else []
    return " ".join([find_cause(result), *asks])


def _list_fixes(result: RedactedResult, *, may_enable: bool) -> list[str]:
    """Return what to do; where a button enables the catalog, it replaces the manual way."""
    is_by_button = may_enable and _lacks_catalog(result)
    return [_ENABLE_BELOW if is_by_button and fix == escape(ENABLE_CATALOG) else fix for fix in list_fixes(result)]


def _link(fix: str) -> str:
    """Turn the words that have a link into one."""
    words, url = _LINKS.get(fix, ("", ""))
    return fix.replace(words, f"<{url}|{words}>", 1) if url else fix


def _lacks_catalog(result: RedactedResult) -> bool:
    return result.task is not Task.ENABLE and result.error in _TO_BE_ENABLED


def _checks(result: RedactedResult) -> Iterable[str]:
    yield ":white_check_mark: The catalog is there, and active."
    unchecked = result.findings.unchecked if result.findings else frozenset(Check)
    for check, words in _CHECKS_PASSED.items():
        if check not in unchecked:
            yield f":white_check_mark: {words}"


def _facts(result: RedactedResult) -> list[tuple[str, str]]:
    facts = [("Bucket", f"`{escape(result.bucket)}`"), ("By", result.requester)]
    if result.task is not Task.ENABLE:
        facts += token_facts(
            result.findings,
            result.token_kind,
            result.last_four,
            result.ended_at,
            is_in_vain=result.ending not in (State.STORED, State.UNCERTAIN),
        )
    if result.ending is State.STORED:
        facts.append(("Credential before, and now", _before_and_after(result)))
    if result.ending is State.CHECKED and result.findings:
        facts.append(("Credential now", CREDENTIAL_WORDS[result.findings.credential]))
    if result.decided_by:
        facts.append((result.decided_as, mention_user(result.decided_by)))
    if result.reason:
        facts.append(("Reason", escape(result.reason)))
    return facts


def _before_and_after(result: RedactedResult) -> str:
    before = result.findings.credential if result.findings else CredentialStatus.UNKNOWN
    after = result.confirmation or CredentialStatus.UNKNOWN
    return f"{CREDENTIAL_WORDS[before]} \u2192 {CREDENTIAL_WORDS[after]}"


def _small_print(result: RedactedResult) -> str:
    parts = [f"Reference {escape(result.submission_id)}", f"took {_duration(result.took)}"]
    if result.error and result.ending is not State.STORED:
        parts.append(f"error {result.error.code}")
        parts += [f"Cloudflare code {result.cloudflare_code}"] if result.cloudflare_code is not None else []
        parts += [_quote_cloudflare(result.cloudflare_message)] if result.cloudflare_message else []
    if result.cf_ray and (result.error or result.is_alarm):
        parts.append(f"Ray ID {escape(result.cf_ray)}")
    return " \u00b7 ".join(parts)


def _quote_cloudflare(message: str) -> str:
    """Return Cloudflare's own text; the URL of its documentation at the end becomes a link, no other URL does."""
    before, _, last = message.rpartition(" ")
    is_page = DOCUMENTATION_URL.fullmatch(last) is not None
    quoted = escape(before if is_page else message)
    words = [f"Cloudflare's words: {quoted}"] if quoted else []
    return " \u00b7 ".join([*words, *([f"<{last}|Cloudflare's documentation>"] if is_page else [])])


def _buttons(result: RedactedResult, *, may_enable: bool) -> list[Json]:
    value = result.submission_id
    if result.ending in (State.CHECKED, State.ENABLED):
        return [button("Store a credential", TRY_AGAIN, value, style="primary")]
    if result.ending in (State.STORED, State.SUPERSEDED) and not result.is_alarm:
        return []
    is_enabling, is_rotating = result.task is Task.ENABLE, result.task is Task.ROTATE
    can_help = may_enable and (is_enabling or _lacks_catalog(result))
    confirm = _confirm_enabling(result.bucket, is_rotating=is_rotating)
    return [
        *([button("Rotate again", ROTATE, value)] if is_rotating else []),
        *([] if is_enabling else [button(PASTE_INSTEAD if is_rotating else "Try again", TRY_AGAIN, value)]),
        *([button("Enable the catalog", ENABLE, value, confirm=confirm)] if can_help else []),
    ]


def _confirm_enabling(bucket: str, *, is_rotating: bool = False) -> Json:
    afterwards = "Then rotate it again." if is_rotating else "The token has to be pasted again afterwards."
    return confirmation(
        "Enable the catalog?",
        f"This enables R2 Data Catalog (Basin Catalog) on the bucket `{escape(bucket)}`. The data in it stays as it "
        f"is. {afterwards}",
        confirm="Enable",
        deny="Cancel",
    )


def _notice(emoji: str, text: str, credential: StoredCredential, placement: str, *, may_rotate: bool) -> Json:
    rotate = [rotate_button(credential.key, is_first=True)] if may_rotate else []
    store = button("Store a new one", TRY_AGAIN, bucket_value(credential.key), style=None if may_rotate else "primary")
    why = [context(placement)] if placement else []
    return {
        "text": f"{text} {placement}".rstrip(),
        "blocks": [section(f"{emoji} {text}"), *why, actions(*rotate, store)],
    }


def rotate_button(key: BucketKey, *, is_first: bool = False) -> Json:
    """Return the button that opens the form of a rotation, filled in for a bucket."""
    return button("Rotate", ROTATE, bucket_value(key), style="primary" if is_first else None)


def ask_whom(contact: str) -> str:
    """Return the sentence that names who can change what a person cannot."""
    return f"Please ask {mention(contact)}." if contact else "Please ask the operator of this bot."


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


def _tick_off(progress: RedactedProgress) -> Iterable[str]:
    states = [step.state for step in progress.shown_steps]
    reached = states.index(progress.state) if progress.state in states else 0  # a queued one looks started
    for place, step in enumerate(progress.shown_steps):
        mark = ":white_check_mark:" if place < reached else ":white_circle:"
        yield f"{':hourglass_flowing_sand:' if place == reached else mark}  {step.label}"
