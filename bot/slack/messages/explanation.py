"""What follows the headline of a submission that has ended: why, what to do, and what else to know.

This module cannot import `secret` or `sealing` (a lint contract): it never sees a token, sealed or not.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from bot.model.catalog import CredentialStatus
from bot.model.errors import (
    ROTATE_AGAIN,
    BotError,
    DatabaseRestored,
    DeadlineReached,
    GivenUp,
    NotApprovedInTime,
    TokenLivesTooLong,
    Transient,
    error_of_code,
    what_to_do,
)
from bot.model.predecessor import Fate
from bot.model.submission import Check, Findings, State, Task, TokenKind
from bot.slack.blocks import date, escape, mention_user
from bot.slack.messages.redacted import RedactedResult
from bot.slack.subcommands import COMMAND

EXPIRES_SOON: Final = timedelta(days=30)

_CONFIRMATIONS: Final = {
    CredentialStatus.VALID: "Cloudflare confirms that the stored credential works.",
    CredentialStatus.PRESENT: "Cloudflare confirms that one is stored; it offers no test on this path.",
    CredentialStatus.INVALID: "Cloudflare accepted it, but says that the stored credential does not work.",
    CredentialStatus.ABSENT: "Cloudflare accepted it, but still says that the slot is empty.",
    CredentialStatus.UNKNOWN: "Cloudflare accepted it, but the bot could not find out afterwards whether it works.",
}
_CHECK_LATER: Final = f"Check with `{COMMAND} status` in a few minutes."
_AFTERWARDS: Final[Mapping[CredentialStatus, tuple[str, ...]]] = {
    CredentialStatus.INVALID: (
        "Find out whether the token has been disabled or changed since, and store another one.",
    ),
    CredentialStatus.ABSENT: ("Submit the token again; storing it twice does no harm.",),
    CredentialStatus.UNKNOWN: (_CHECK_LATER,),
}
_REPLACED: Final = {
    CredentialStatus.VALID: "It replaced a credential that still worked.",
    CredentialStatus.INVALID: "It replaced one that no longer worked.",
    CredentialStatus.ABSENT: "There was none before.",
}
_CHECKED: Final = (
    "Only the write shows whether the token may read and write the bucket's data (R2 storage). The token was erased."
)
_ENABLED: Final = "It can take a credential now."
_PASTE_TO_STORE: Final = {
    State.CHECKED: "Paste the token again to have it stored.",
    State.ENABLED: "Paste a token for it; the earlier one was not kept.",
}
_PRESS_AGAIN: Final = "Press the button again; enabling a catalog twice does no harm."
_NOT_ENABLED_IN_TIME: Final = "The bot did not get to it before the deadline."
_NOT_APPROVED_IN_TIME: Final = "No approval came in time."
_ROTATED: Final = {
    CredentialStatus.VALID: "It is stored and tested: Cloudflare confirms that it works.",
    CredentialStatus.PRESENT: "It is stored; Cloudflare offers no test, so nothing is revoked.",
    CredentialStatus.INVALID: "Cloudflare accepted the new token, but says that it does not work; nothing is revoked.",
    CredentialStatus.ABSENT: "Cloudflare accepted the new token, but still calls the slot empty; nothing is revoked.",
    CredentialStatus.UNKNOWN: "Cloudflare accepted the new token, but does not say if it works; nothing is revoked.",
}
_AFTER_ROTATION: Final[Mapping[CredentialStatus, tuple[str, ...]]] = {
    CredentialStatus.INVALID: (ROTATE_AGAIN, "If the same happens, have the operator look at it."),
    CredentialStatus.ABSENT: (ROTATE_AGAIN,),
    CredentialStatus.UNKNOWN: (_CHECK_LATER,),
}
_PREDECESSORS: Final = {
    Fate.TO_BE_REVOKED: "The previous one is revoked on {at}.",
    Fate.REVOKED: "The previous one is revoked.",
    Fate.FOREIGN: "The previous one was not made by the bot, and stays.",
    Fate.NOT_KNOWN: "The bot had no other token there to revoke.",
}
_ROTATE_TO_SETTLE: Final = "Rotate again: that settles which token the slot holds."
_SAME_AGAIN: Final = "Submit the same token again; storing it twice does no harm."
EARLIER_REQUEST: Final = "An earlier request with the token got no clear answer, so the slot may hold it. Why it ended:"
NO_CLEAR_ANSWER: Final = "A request with the token went out, and no clear answer came back."
_NEVER_STORED: Final = {Task.ROTATE: "No token of this rotation was stored."}
UNCHECKED: Final = {
    Check.TOKEN: (
        "Not checked: whether the token is active and when it expires. Cloudflare does not say, so there will be no "
        "reminder before it expires."
    ),
    Check.REACH: (
        "Not checked: whether the token reaches this catalog. Cloudflare does not let this token ask that; if it does "
        "not reach the catalog, Cloudflare refuses it when it is stored."
    ),
}
_UNCHECKED_BUT_STORED: Final = UNCHECKED | {
    Check.REACH: (
        "Not checked: whether the token reaches this catalog. Cloudflare does not let this token ask that, but "
        "accepted it."
    ),
}


def explain(result: RedactedResult) -> str:
    """Return the cause and what to do, as one text."""
    return what_to_do(find_cause(result), *list_fixes(result))


def find_cause(result: RedactedResult) -> str:
    """Return what happened, as it follows the headline."""
    if result.ending is State.STORED and result.task is Task.ROTATE:
        return _explain_rotated(result)
    if result.ending is State.STORED:
        before = result.findings.credential if result.findings else CredentialStatus.UNKNOWN
        return " ".join(filter(None, [_CONFIRMATIONS[_confirmation(result)], _REPLACED.get(before, "")]))
    if result.ending in (State.CHECKED, State.ENABLED):
        return _CHECKED if result.ending is State.CHECKED else _ENABLED
    if result.ending is State.SUPERSEDED:
        return _explain_superseded(result)
    return _explain_uncertain(result) if result.ending is State.UNCERTAIN else _explain_cause(result)


def list_fixes(result: RedactedResult) -> tuple[str, ...]:
    """Return each thing that the person can do; nothing where only the operator can act."""
    if result.ending is State.STORED:
        afterwards = _AFTER_ROTATION if result.task is Task.ROTATE else _AFTERWARDS
        return afterwards.get(_confirmation(result), ())
    if result.ending in (State.CHECKED, State.ENABLED):
        return (_PASTE_TO_STORE[result.ending],)
    if result.ending is State.SUPERSEDED:
        return ()
    return tuple(map(escape, _list_fixes_of_cause(result)))


def list_unchecked(result: RedactedResult) -> list[str]:
    """Return which checks of the token were not possible, and what that means."""
    if result.findings is None or result.ending not in (State.STORED, State.CHECKED):
        return []
    words = _UNCHECKED_BUT_STORED if result.ending is State.STORED else UNCHECKED
    return [words[check] for check in Check if check in result.findings.unchecked]


def list_warnings(result: RedactedResult) -> list[str]:
    """Return what did not stop the token, but should be known."""
    if result.ending not in (State.STORED, State.CHECKED):
        return []
    token = result.findings.token if result.findings else None
    is_of_user = token.owner is TokenKind.USER if token else result.token_kind is TokenKind.USER
    warnings = []
    if token is not None and token.expires_at is None:
        warnings.append("This token never expires: one with an expiry date does less harm in the wrong hands.")
    is_pasted = result.task is not Task.ROTATE  # else the bot itself chose the expiry
    is_soon = token is not None and token.expires_at is not None and token.expires_at - result.ended_at < EXPIRES_SOON
    if token is not None and token.expires_at is not None and is_soon and is_pasted:
        warnings.append(f"This token expires soon ({expiry(token.expires_at, result.ended_at)}): plan its replacement.")
    if is_of_user:
        warnings.append(
            "This token belongs to a user: it stops working when that user leaves the Cloudflare account. An account "
            "API token does not."
        )
    return warnings


def expiry(expires_at: datetime | None, now: datetime) -> str:
    """Return an expiry date and the days until it."""
    if expires_at is None:
        return "never"
    left = expires_at - now
    if left < timedelta(0):
        return f"{date(expires_at)}, {_days(-left)} ago"
    return f"{date(expires_at)}, in {_days(left)}"


def _explain_rotated(result: RedactedResult) -> str:
    """Return what is proven of the new token, and what becomes of the one before it."""
    before = result.findings.credential if result.findings else CredentialStatus.UNKNOWN
    words = [_ROTATED[_confirmation(result)]]
    if result.predecessor is not None:
        at = result.predecessor.revoked_at
        words.append(_PREDECESSORS[result.predecessor.fate].format(at=date(at) if at else ""))
    elif before.is_alarm:
        words.append(_REPLACED[before])
    return " ".join(words)


def _explain_superseded(result: RedactedResult) -> str:
    fate = (
        "An earlier request with this token got no clear answer, but came first."
        if result.possibly_written
        else _NEVER_STORED.get(result.task, "This token was never stored.")
    )
    who = mention_user(result.superseded_by or "")
    return (
        f"{who} submitted a newer one for the same catalog, and that one was sent to Cloudflare "
        f"({date(result.ended_at)}). {fate} No action is needed."
    )


def _explain_uncertain(result: RedactedResult) -> str:
    cause = _explain_cause(result)
    if result.error is not None and not result.error.retryable:
        return f"{EARLIER_REQUEST} {cause}"
    return f"{NO_CLEAR_ANSWER} {cause}"


def _explain_cause(result: RedactedResult) -> str:
    if result.error is None:
        return "The bot was stopped before it had an answer."
    if result.task is Task.ENABLE and issubclass(result.error, GivenUp):
        return _NOT_APPROVED_IN_TIME if issubclass(result.error, NotApprovedInTime) else _NOT_ENABLED_IN_TIME
    is_pasted = result.task is not Task.ROTATE
    if issubclass(result.error, TokenLivesTooLong) and result.findings is not None and is_pasted:
        return _explain_lifetime(result.findings)
    if not issubclass(result.error, Transient):
        return escape(_cause_of(result.error, result.task))
    lasted = result.error.told.lasted
    is_given_up = result.ending is not State.UNCERTAIN and result.task is not Task.ENABLE
    return f"{lasted} {_cause_of(DeadlineReached, result.task)}" if is_given_up else lasted


def _cause_of(error: type[BotError], task: Task) -> str:
    return (error.rotating.cause if task is Task.ROTATE else None) or error.cause


def cause_of_failed_rotation(code: str | None) -> str:
    """Return in one sentence why a rotation failed, if that is known."""
    if code is None:
        return ""
    error = error_of_code(code)
    return error.told.lasted if issubclass(error, Transient) else escape(_cause_of(error, Task.ROTATE))


def _fixes_of(error: type[BotError], task: Task) -> tuple[str, ...]:
    fixes = error.rotating.fixes if task is Task.ROTATE else None
    return error.fixes if fixes is None else fixes


def _explain_lifetime(findings: Findings) -> str:
    """Return which of the three reasons it is; the form names the limit."""
    if findings.token is None:
        return "This bot limits how long a token may live, and Cloudflare does not say when this one expires."
    if findings.token.expires_at is None:
        return "This token never expires, and this bot does not allow that."
    return "This token expires later than this bot allows."


def _list_fixes_of_cause(result: RedactedResult) -> tuple[str, ...]:
    """Return the fixes; where the slot may hold the token, submitting the same one settles it, if it is good."""
    is_passing = result.error is None or issubclass(result.error, Transient)
    if result.task is Task.ENABLE and (is_passing or issubclass(result.error or BotError, GivenUp | DatabaseRestored)):
        return (_PRESS_AGAIN,)
    if result.error is None or (is_passing and result.ending is State.UNCERTAIN):
        return (_ROTATE_TO_SETTLE if result.task is Task.ROTATE else _SAME_AGAIN,)
    return _fixes_of(DeadlineReached if is_passing else result.error, result.task)


def _confirmation(result: RedactedResult) -> CredentialStatus:
    return result.confirmation or CredentialStatus.UNKNOWN


def _days(time: timedelta) -> str:
    if time < timedelta(days=1):
        return "less than a day"
    return "1 day" if time.days == 1 else f"{time.days} days"
