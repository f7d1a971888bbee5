"""The notice that opens instead of the form where a token would be refused: no catalog, or one that is switched off.

The list may be older than the catalog, so the form can be opened anyway.
"""

from dataclasses import replace
from typing import Final

from bot.policy.permit import Permit
from bot.policy.rules import Verb
from bot.slack.blocks import Json, actions, button, confirmation, context, escape, modal, section
from bot.slack.button_values import place_value
from bot.slack.messages.render import ENABLE
from bot.slack.stories.slot import Slot, describe_slot

OPEN_ANYWAY: Final = "open_form_anyway"
"""The action id of the button that replaces the notice by the form; its value is a bucket and a place."""

USE_SIMILAR: Final = "use_similar_bucket"
"""The same for a bucket that may have been meant; a separate action id, so that the two are not confused."""

_SWITCHED_OFF: Final = "Enable the catalog first"
_NOT_LISTED: Final = "No catalog found"
_JUST_ENABLED: Final = "If it has been enabled since then, open the form anyway: the token is checked first."
_LOST: Final = " This form closes, so the token has to be pasted again."
_IN_THE_DASHBOARD: Final = (
    "Enable R2 Data Catalog (Basin Catalog) in the bucket's settings, in the "
    "<https://dash.cloudflare.com/{account_id}/r2/overview|Cloudflare dashboard>."
)


def no_catalog_view(slot: Slot, place: str, permit: Permit, action_ids: tuple[str, str]) -> Json:
    """Return the notice, with a button for those who may enable the catalog, or with where to enable it.

    `action_ids` are those of the buttons that replace the notice by the form that was asked for, as OPEN_ANYWAY and
    USE_SIMILAR do.
    """
    open_anyway, use_similar = action_ids
    described, *enable = offer_enabling(slot, place, permit)
    return modal(
        _NOT_LISTED if slot.catalog is None else _SWITCHED_OFF,
        [
            described,
            *_use_similar(slot, place, use_similar),  # first: a typing error must not enable a catalog
            *enable,
            context(_JUST_ENABLED),
            actions(button("Open the form anyway", open_anyway, place_value(slot.key, place))),
        ],
    )


def offer_enabling(slot: Slot, place: str, permit: Permit, *, in_form: bool = False) -> list[Json]:
    """Return what is wrong, and the button that enables the catalog if this person may use it.

    `in_form`: pressing it replaces a form, with everything that was typed.
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


def _use_similar(slot: Slot, place: str, action_id: str) -> list[Json]:
    """Return a row for each bucket that may be meant: a row cannot hold one action id twice."""
    meant = [replace(slot.key, bucket=bucket) for bucket in slot.similar]
    return [actions(button(f"Use {key.bucket}", action_id, place_value(key, place))) for key in meant]
