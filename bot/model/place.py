"""Where a result may go: a Slack channel, or the direct message between the bot and the person who submits."""

from typing import Final

from bot.model.slack_ids import SlackId

DIRECT: Final = "direct"
"""Stands for a channel's id where the result goes only to the person who submitted it.

No Slack id is written like this, and it names nobody, so a submission cannot have its result sent to another user.
"""


def is_channel_id(text: str) -> bool:
    """Whether this can be the id of a channel. Group DMs have the same shape: only Slack can tell them apart.

    A direct message (D...) is none: it may be one with another company.
    """
    return SlackId.CHANNEL.fits(text)
