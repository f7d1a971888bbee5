"""What is said behind the headline of a submission that has ended: why, whose move it is, and what to know besides.

This module cannot import `secret` or `sealing` (a lint contract): it never meets a token, sealed or not.
"""

from datetime import datetime, timedelta
from typing import Final

from bot.model.catalog import CredentialStatus
from bot.model.errors import DeadlineReached, GivenUp, Transient
from bot.model.submission import Check, State, Task, TokenKind
from bot.slack.blocks import date, escape
from bot.slack.messages.redacted import RedactedResult
from bot.slack.subcommands import COMMAND

EXPIRES_SOON: Final = timedelta(days=30)

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
_ENABLED: Final = "It can take a credential now. Your move: paste a token for it; no earlier one was kept."
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


def explain(result: RedactedResult) -> str:
    """Return what happened behind the headline, whose move it is and what to do."""
    if result.ending is State.STORED:
        before = result.findings.credential if result.findings else CredentialStatus.UNKNOWN
        confirmation = _CONFIRMATIONS[result.confirmation or CredentialStatus.UNKNOWN]
        return " ".join(filter(None, [confirmation, _REPLACED.get(before, "")]))
    if result.ending in (State.CHECKED, State.ENABLED):
        return _CHECKED if result.ending is State.CHECKED else _ENABLED
    if result.ending is State.SUPERSEDED:
        return _explain_superseded(result)
    return _explain_uncertain(result) if result.ending is State.UNCERTAIN else _explain_cause(result)


def list_unchecked(result: RedactedResult) -> list[str]:
    """Return which questions about the token have no answer, and what that means."""
    if result.findings is None or result.ending not in (State.STORED, State.CHECKED):
        return []
    words = _UNCHECKED_BUT_STORED if result.ending is State.STORED else _UNCHECKED
    return [words[check] for check in Check if check in result.findings.unchecked]


def list_warnings(result: RedactedResult) -> list[str]:
    """Return what did not stop the token, and should be known about it."""
    if result.ending not in (State.STORED, State.CHECKED):
        return []
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
    if not issubclass(result.error, Transient):
        return escape(result.error.user_message)
    lasted = result.error.told.lasted
    if result.ending is State.UNCERTAIN:
        return lasted
    return f"{lasted} {_ENABLE_AGAIN if result.task is Task.ENABLE else DeadlineReached.user_message}"


def _days(time: timedelta) -> str:
    if time < timedelta(days=1):
        return "less than a day"
    return "1 day" if time.days == 1 else f"{time.days} days"
