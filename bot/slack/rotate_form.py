"""Builds the form of a rotation: what will happen, and no field for a token. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bot.model.catalog import Catalog
from bot.model.errors import what_to_do
from bot.slack.ages import ago
from bot.slack.blocks import Json, context, date, escape, mention_user, plain, section
from bot.slack.form import Filling, bucket_input, check_input, result_inputs
from bot.slack.prospect import Obstacle, Present, Prospect
from bot.slack.subcommands import COMMAND
from bot.slack.token_advice import describe_lifetime

CALLBACK_ID: Final = "rotate_credential"
BUCKET_ACTION: Final = "rotated_bucket"
"""Another one than the form that stores has: the options are those of another verb."""

SUBMIT: Final = "Look or rotate"
"""The button's text names both: an update of the form on each tick could come too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateRemarks:
    """Small print in the form. `prospect` is None as long as no bucket is chosen. `known`: its catalog's state.

    `problem` says why a rotation has to wait.
    """

    prospect: Prospect | None = None
    problem: str = ""
    known: Sequence[Json] = ()
    needs_reason: bool = False
    is_approved: bool = False


def build_rotate_form(
    *,
    nonce: str,
    filling: Filling,
    catalogs: Iterable[Catalog] | None,
    offers_direct: bool,
    remarks: RotateRemarks,
) -> Json:
    """Return the form as a view, with the same fields as the one that stores, but for the token."""
    return {
        "type": "modal",
        "callback_id": CALLBACK_ID,
        "private_metadata": nonce,
        "title": plain("Rotate a credential"),
        "submit": plain(SUBMIT),
        "close": plain("Cancel"),
        "blocks": [
            section("\n".join(f"\u2022 {line}" for line in say_what_happens(remarks.prospect))),
            bucket_input(BUCKET_ACTION, filling, catalogs),
            *([section(f":hourglass: {remarks.problem}")] if remarks.problem else []),
            *remarks.known,
            *([context(_APPROVED)] if remarks.is_approved else []),
            *result_inputs(filling, offers_direct=offers_direct, needs_reason=remarks.needs_reason),
            check_input(_LOOK_WORDS, is_ticked=filling.check_only),
        ],
    }


def say_what_happens(prospect: Prospect | None) -> list[str]:
    """Return the three lines of what a rotation does."""
    if prospect is None:
        return [_MADE_FOR_ANY, _STORED, _PREVIOUS_OF_ANY]
    until = f"valid until {date(prospect.expires_at)}"
    reach = _FOR_ACCOUNT if prospect.terms.is_for_account else f"A token for `{escape(prospect.bucket)}` alone is made"
    return [f"{reach}, {until}.", _STORED, say_previous(prospect)]


def say_previous(prospect: Prospect) -> str:
    """Return what becomes of the token that the slot holds at present."""
    grace = describe_lifetime(prospect.terms.grace)
    by = mention_user(prospect.stored.stored_by) if prospect.stored else "somebody"
    return _PREVIOUS[prospect.present].format(grace=grace, by=by)


def say_busy(until: datetime) -> str:
    """Return why another rotation has to wait, until the next full minute in the reader's time zone."""
    at = date(until + _ROUNDED_UP)
    return f"The token before the present one is being revoked until {at}. Rotate this bucket after that."


def say_obstacle(obstacle: Obstacle, now: datetime, ask_whom: str) -> str:
    """Return why nobody can rotate anything now, and what to do; `ask_whom` names who can change that."""
    if not obstacle.is_granted:
        cause, fix = _NO_RULE, _TURN_ON
    elif obstacle.standing is None:
        cause, fix = _NEVER_SEEN, _TURN_ON
    else:
        cause, fix = _LAST_SEEN.format(ago=ago(now - obstacle.standing.seen_at)), _START_IT
    return what_to_do(cause, fix, _STORE_INSTEAD, ask_whom)


_ROUNDED_UP: Final = timedelta(seconds=59)  # a time is shown without its seconds
_NO_RULE: Final = "The bot makes no tokens: no rule grants the verb `rotate`."
_NEVER_SEEN: Final = "The bot makes no tokens: no process of it has the token for that."
_LAST_SEEN: Final = "No token would be made: the process that makes them was last seen {ago}."
_TURN_ON: Final = "The operator can turn rotation on (`docs/rotation.md`)."
_START_IT: Final = "The operator has to start it again (`run --role minter`)."
_STORE_INSTEAD: Final = f"Until then, store a token with `{COMMAND}`."
_MADE_FOR_ANY: Final = "A token for the chosen bucket alone is made, valid for a limited time."
_FOR_ACCOUNT: Final = "A token that reaches the data of all buckets of the account is made"
_STORED: Final = "It is stored as the catalog's credential and tested. Nobody sees it."
_PREVIOUS_OF_ANY: Final = "The one before it is revoked some time later if the bot made it; no other one is."
_PREVIOUS: Final = {
    Present.NONE: "There is no credential at present, so nothing is replaced.",
    Present.OURS: "The present one, which the bot made, is revoked {grace} after the new one was tested and works.",
    Present.PASTED: "The present one was pasted by {by}: it is replaced, and the bot does not revoke it.",
    Present.FOREIGN: "The present one was written by somebody else: it is replaced, and the bot does not revoke it.",
}
_APPROVED: Final = "Another person has to approve it before a token is made."
_LOOK_WORDS: Final = ("Only look, change nothing", "Says what is ready for a rotation, records and posts nothing")
