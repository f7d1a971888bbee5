"""The message that the schedule has not replaced a token in time: since when, why, and what to do. Pure."""

from datetime import datetime
from typing import Final

from bot.model.catalog import StoredCredential
from bot.model.errors import WhoActs, error_of_code
from bot.model.timetable import RotationFailure
from bot.policy.scheduled import Overdue
from bot.slack.blocks import Json, actions, button, context, date, escape, mention_user, section
from bot.slack.button_values import bucket_value
from bot.slack.messages.explanation import cause_of_failed_rotation, expiry
from bot.slack.messages.render import PASTE_INSTEAD, ROTATE, TRY_AGAIN, ask_whom

_NOT_TRIED: Final = "No attempt has failed, so something keeps the schedule waiting: the bot's log says what."
_ROTATE: Final = "Rotate it now; if that fails as well, paste a token instead."


def overdue_notice(overdue: Overdue, now: datetime, *, contact: str, placement: str = "") -> Json:
    """Return the message; `placement` says why it is not in the channel of the last result, if it is not."""
    credential = overdue.credential
    text = (
        f"The rotation of the catalog of `{escape(credential.bucket)}` is overdue since {date(overdue.since)}. Its "
        f"token, rotated last for {mention_user(credential.stored_by)} on {date(credential.stored_at)}, "
        f"{_end(credential, now)}. {describe_failure(overdue.failure)}"
    )
    asks = f" {ask_whom(contact)}" if _needs_operator(overdue.failure) else ""
    fix = f"What to do: {_ROTATE}{asks}"
    value = bucket_value(credential.key)
    buttons = actions(button("Rotate", ROTATE, value, style="primary"), button(PASTE_INSTEAD, TRY_AGAIN, value))
    why = [context(placement)] if placement else []
    return {
        "text": f"{text} {fix} {placement}".rstrip(),
        "blocks": [section(f":rotating_light: {text} {fix}"), *why, buttons],
    }


def describe_failure(failure: RotationFailure | None) -> str:
    """Return how often it was tried and why that failed."""
    if failure is None:
        return _NOT_TRIED
    times = "once" if failure.failures == 1 else f"{failure.failures} times"
    return f"It failed {times} since {date(failure.since)}. {cause_of_failed_rotation(failure.code)}".rstrip()


def _end(credential: StoredCredential, now: datetime) -> str:
    is_over = credential.expires_at is not None and credential.expires_at <= now
    return f"{'has expired' if is_over else 'expires'} ({expiry(credential.expires_at, now)})"


def _needs_operator(failure: RotationFailure | None) -> bool:
    """Whether a person who presses the button can do nothing about it."""
    return failure is None or (failure.code is not None and error_of_code(failure.code).who_acts is WhoActs.OPERATOR)
