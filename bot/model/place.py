"""Where a result may go: a channel of Slack's, or the direct message between the bot and whoever submits."""

from typing import Final

from bot.model.slack_ids import SlackId

DIRECT: Final = "direct"
"""Stands for a channel's id where the result goes to its submitter alone.

No id of Slack's is written like this, and it names nobody: so a submission cannot have its result sent to another user.
"""


def is_channel_id(text: str) -> bool:
    """Whether this can be the id of a channel. Group messages have the same shape: only Slack can tell those apart.

    D begins a direct message, which may be one with another company.
    """
    return SlackId.CHANNEL.fits(text)
