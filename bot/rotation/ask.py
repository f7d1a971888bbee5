"""A rotation that nobody filled in a form for: by the schedule, in a fleet, or since a slot needs one. Pure."""

from datetime import datetime, timedelta

from bot.model.catalog import BucketKey
from bot.model.submission import NewSubmission, Sealed, Task, TokenKind


def new_rotation(  # noqa: PLR0913 - all by name
    *,
    submission_id: str,
    key: BucketKey,
    team_id: str,
    channel_id: str,
    now: datetime,
    ttl: timedelta,
    user_id: str,
    reason: str = "",
    asked_at: datetime | None = None,
) -> NewSubmission:
    """Return a submission that asks for a new token in this bucket's slot.

    What somebody else has sent for it since `asked_at` is newer, and wins.
    """
    return NewSubmission(
        id=submission_id,
        task=Task.ROTATE,
        team_id=team_id,
        user_id=user_id,
        key=key,
        channel_id=channel_id,
        reason=reason,
        token_kind=TokenKind.ACCOUNT,
        last_four="",
        sealed=Sealed(),
        sent_at=asked_at or now,
        accepted_at=now,
        expires_at=now + ttl,
    )
