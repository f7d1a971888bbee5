"""How old it is what people are shown, and whether something newer follows. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class Freshness(StrEnum):
    """How current it is, and whether a newer one follows."""

    FRESH = "fresh"
    BEING_ASKED = "being_asked"
    NOT_ANSWERED = "not_answered"


_FOLLOW: Final = {
    Freshness.FRESH: "",
    Freshness.BEING_ASKED: "Cloudflare is being asked again; this updates when it has answered.",
    Freshness.NOT_ANSWERED: "Not everything could be refreshed from Cloudflare just now.",
}


def describe_age(as_of: datetime | None, now: datetime, freshness: Freshness) -> str:
    """Return when Cloudflare reported it (None: never), and what follows."""
    age = f"As reported by Cloudflare {ago(now - as_of)}." if as_of else ""
    return " ".join(filter(None, [age, _FOLLOW[freshness]])) or "Ask again in a minute."


def ago(age: timedelta) -> str:
    """Return an age in its largest unit."""
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if age >= unit:
            count = age // unit
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "less than a minute ago"
