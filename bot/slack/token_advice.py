"""What the form says about the token before one is pasted: where to create it, with what rights, who sees it. Pure."""

from datetime import timedelta
from typing import Final

from bot.slack.blocks import Json, context

_WHERE: Final = (
    "<https://dash.cloudflare.com/{account_id}/r2/api-tokens/create?type=account|Create an account API token> with "
    "*Admin Read &amp; Write*. It is for all buckets of the account, and only a Super Administrator can create one. A "
    "token for one bucket exists through the API only: `docs/token-for-one-bucket.md` of this bot has the command."
)
_WHO_SEES: Final = "Slack sees what you paste and cannot hide it: use a token with few permissions that expires soon."
_LIMIT: Final = "This bot refuses a token that never expires or lives longer than *{limit}* from now."

_APPROVED: Final = "Another person has to approve it before it is stored."


def advise(account_id: str, max_lifetime: timedelta | None, *, is_approved: bool = False) -> list[Json]:
    """Return the small print below the token field; `max_lifetime` is the operator's limit, or None.

    `is_approved`: whether it is certain that somebody else has to approve the token.
    """
    limit = [context(_LIMIT.format(limit=describe_lifetime(max_lifetime)))] if max_lifetime else []
    return [
        context(_WHERE.format(account_id=account_id)),
        context(_WHO_SEES),
        *limit,
        *([context(_APPROVED)] if is_approved else []),
    ]


def describe_lifetime(lifetime: timedelta) -> str:
    """Return the lifetime in the largest unit that divides it."""
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        count, rest = divmod(lifetime, unit)
        if not rest:
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{int(lifetime.total_seconds())} seconds"
