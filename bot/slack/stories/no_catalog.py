"""What opens in the place of the form where a token would be refused: the bucket has no catalog, or one switched off.

The list may be older than the catalog, so the form can be opened all the same.
"""

from dataclasses import replace
from typing import Final

from bot.policy.gate import Permit
from bot.policy.rules import Verb
from bot.slack.blocks import Json, actions, button, confirmation, context, escape, modal, section
from bot.slack.button_values import place_value
from bot.slack.messages.render import ENABLE
from bot.slack.stories.slot import Slot, describe_slot

OPEN_ANYWAY: Final = "open_form_anyway"
"""The action id of the button that opens the form in the notice's place; its value is a bucket and a place."""

USE_SIMILAR: Final = "use_similar_bucket"
"""The same for a bucket that may have been meant; an action id of its own, so that one is not taken for the other."""

_SWITCHED_OFF: Final = "Enable the catalog first"
_NOT_LISTED: Final = "No catalog found"
_JUST_ENABLED: Final = "If it was enabled since then, open the form anyway: the token is checked all the same."
_LOST: Final = " This form closes, so the token has to be pasted again."
_IN_THE_DASHBOARD: Final = (
    "Enable R2 Data Catalog (Basin Catalog) in the bucket's settings, in the "
    "<https://dash.cloudflare.com/{account_id}/r2/overview|Cloudflare dashboard>."
)


def no_catalog_view(slot: Slot, place: str, permit: Permit) -> Json:
    """Return the notice; it has a button for those who may enable the catalog, else says where that is done."""
    described, *enable = offer_enabling(slot, place, permit)
    return modal(
        _NOT_LISTED if slot.catalog is None else _SWITCHED_OFF,
        [
            described,
            *_use_similar(slot, place),  # first: nothing has to be enabled for a slip of the keyboard
            *enable,
            context(_JUST_ENABLED),
            actions(button("Open the form anyway", OPEN_ANYWAY, place_value(slot.key, place))),
        ],
    )


def offer_enabling(slot: Slot, place: str, permit: Permit, *, in_form: bool = False) -> list[Json]:
    """Return what is wrong and, where this person may have the bot do it, the button that enables the catalog.

    `in_form`: its press takes the place of a form, with all that was typed.
    """
    if permit.refusal(Verb.ENABLE, slot.key, place) is not None:
        where = _IN_THE_DASHBOARD.format(account_id=slot.key.account_id)
        return [section(f"{describe_slot(slot)}\n{where}")]
    confirm = confirmation(
        "Enable the catalog?",
        f"This enables R2 Data Catalog (Basin Catalog) on the bucket `{escape(slot.key.bucket)}`. The data in it stays "
        f"as it is.{_LOST if in_form else ''}",
        confirm="Enable",
        deny="Cancel",
    )
    value = place_value(slot.key, place)
    return [section(describe_slot(slot)), actions(button("Enable the catalog", ENABLE, value, confirm=confirm))]


def _use_similar(slot: Slot, place: str) -> list[Json]:
    """Return a row for each bucket that may be meant, since a row takes one button of a kind."""
    meant = [replace(slot.key, bucket=bucket) for bucket in slot.similar]
    return [actions(button(f"Use {key.bucket}", USE_SIMILAR, place_value(key, place))) for key in meant]
