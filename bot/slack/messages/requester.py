"""Who asked for a submission, in the words of a message: a person, the schedule, or the bot itself. Pure."""

from typing import Final

from bot.model.origin import Origin, origin_of
from bot.slack.blocks import mention_user

_THE_BOTS: Final = {Origin.SCHEDULE: "the schedule", Origin.HEALING: "the bot itself"}
_BECAUSE: Final = {Origin.HEALING: ", since the slot needed a token that was to be revoked"}


def name_requester(submission_id: str, user_id: str) -> str:
    """Return who asked, for the middle of a sentence. `user_id` is who is told if nobody asked."""
    return _THE_BOTS.get(origin_of(submission_id)) or mention_user(user_id)


def describe_requester(submission_id: str, user_id: str) -> str:
    """Return who asked, and why if nobody did, as a value of a table."""
    name, why = name_requester(submission_id, user_id), _BECAUSE.get(origin_of(submission_id), "")
    return f"{name[0].upper()}{name[1:]}{why}"
