"""Where a result may go: a Slack channel, or the direct message between the bot and the person who submits."""

from typing import Final

from bot.model.slack_ids import SlackId

DIRECT: Final = "direct"
"""Used instead of a channel id if the result goes only to the person who submitted.

No Slack id has this form, and it names no user, so a submission cannot have its result sent to another user.
"""


def is_channel_id(text: str) -> bool:
    """Return whether this can be the id of a channel. Group DMs have the same shape: only Slack can distinguish them.

    A direct message (D...) does not count: it may be one with another company.
    """
    return SlackId.CHANNEL.fits(text)
