"""How a bucket is rotated, in the words of a row of the table. Pure."""

from datetime import datetime

from bot.slack.blocks import date
from bot.slack.messages.overdue import describe_failure
from bot.slack.stories.need import Row


def describe_rotation(row: Row, now: datetime) -> str:
    """Return how it is rotated: since when that fails or is overdue and why, or when it is next; "" if not at all."""
    failure, overdue_at, next_at = row.rotation.failure, row.overdue_at, row.next_rotation(now)
    is_overdue = overdue_at is not None and overdue_at <= now
    words = [
        *([f"*Its rotation is overdue since {date(overdue_at)}.*"] if overdue_at and is_overdue else []),
        *([f"*The last rotation failed.* {describe_failure(failure)}"] if failure else []),
        *([f"Rotated next {_about(next_at, now)}."] if next_at else []),
    ]
    if not words and row.rotation.is_ours:
        return "It is not rotated by itself."
    return " ".join(words)


def _about(next_at: datetime, now: datetime) -> str:
    return "now" if next_at <= now else f"about {date(next_at)}"
