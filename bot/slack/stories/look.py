"""The answer to "only look": what is ready for a rotation, and what is not. Pure."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Final

from bot.model.catalog import CatalogStatus
from bot.model.errors import error_of_code
from bot.model.minted import HEADROOM, Standing, is_minter_present
from bot.slack.ages import Freshness, ago, describe_age
from bot.slack.blocks import Json, actions, button, context, escape, modal, section
from bot.slack.prospect import Prospect
from bot.slack.rotate_form import say_busy, say_previous

ROTATE_NOW: Final = "rotate_what_was_looked_at"
"""The action id of the button that replaces the answer by the form; its value is a bucket and a place."""


class _Mark(StrEnum):
    GOOD = ":white_check_mark:"
    BAD = ":x:"
    UNSURE = ":grey_question:"
    NEWS = ":information_source:"


def look_view(prospect: Prospect, freshness: Freshness, value: str) -> Json:
    """Return the modal with one line for each thing that matters; `value` is that of its button."""
    lines = [f"{mark}  {words}" for mark, words in _lines(prospect)]
    return modal(
        "Looked, nothing changed",
        [
            section(f"What a rotation of `{escape(prospect.bucket)}` would find now:"),
            section("\n".join(lines)),
            context(describe_age(prospect.as_of, prospect.now, freshness)),
            actions(button("Rotate it", ROTATE_NOW, value, style="primary")),
        ],
    )


def _lines(prospect: Prospect) -> Iterator[tuple[_Mark, str]]:
    standing, now = prospect.standing, prospect.now
    yield _say_minter(standing, now)
    if standing is not None and standing.trouble is not None:
        yield _Mark.BAD, f"It has trouble: {escape(error_of_code(standing.trouble).cause)}"
    yield _GROUPS[standing.has_groups if standing is not None else None]
    yield _say_quota(prospect)
    yield _say_catalog(prospect)
    yield _TEST[prospect.offers_test]
    yield _Mark.NEWS, say_previous(prospect)
    if prospect.busy_until is not None:
        yield _Mark.BAD, say_busy(prospect.busy_until)


def _say_minter(standing: Standing | None, now: datetime) -> tuple[_Mark, str]:
    if standing is None:
        return _Mark.BAD, "No process that makes tokens was ever seen."
    seen = ago(now - standing.seen_at)
    if is_minter_present(standing, now):
        return _Mark.GOOD, f"The process that makes tokens is running (seen {seen})."
    return _Mark.BAD, f"The process that makes tokens was last seen {seen}."


def _say_quota(prospect: Prospect) -> tuple[_Mark, str]:
    standing, quota = prospect.standing, prospect.terms.quota
    if standing is None or standing.tokens is None or standing.checked_at is None:
        return _Mark.UNSURE, "It is not known yet how many API tokens the account has."
    has_room = standing.tokens < quota - HEADROOM
    kept = "" if has_room else f"; the bot leaves {HEADROOM} to others, so it makes none"
    counted = ago(prospect.now - standing.checked_at)
    words = f"The account has {standing.tokens} of {quota} API tokens (counted {counted}){kept}."
    return (_Mark.GOOD if has_room else _Mark.BAD), words


def _say_catalog(prospect: Prospect) -> tuple[_Mark, str]:
    if prospect.as_of is None:
        return _Mark.UNSURE, "The bot does not know yet which catalogs there are."
    if prospect.catalog is None:
        return _Mark.BAD, "Cloudflare lists no catalog on this bucket."
    return _CATALOG[prospect.catalog.status]


_GROUPS: Final = {
    True: (_Mark.GOOD, "Cloudflare lets it grant both permissions that the new token needs."),
    False: (_Mark.BAD, "Cloudflare does not let it grant a permission that the new token needs."),
    None: (_Mark.UNSURE, "It is not known yet whether it can grant the permissions that the new token needs."),
}
_CATALOG: Final = {
    CatalogStatus.ACTIVE: (_Mark.GOOD, "The catalog is active."),
    CatalogStatus.INACTIVE: (_Mark.BAD, "The catalog is switched off: enable it first."),
    CatalogStatus.UNKNOWN: (_Mark.UNSURE, "Cloudflare did not say whether the catalog is active."),
}
_TEST: Final = {
    True: (_Mark.GOOD, "Cloudflare offers a test of the stored credential, so a previous one can be revoked."),
    False: (
        _Mark.UNSURE,
        "Cloudflare has offered no test of a stored credential so far; without one, nothing is revoked.",
    ),
}
