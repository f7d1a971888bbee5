"""Whether a result may go to a channel, by what only Slack knows of it."""

import structlog

from bot.model.errors import SlackRefused, SlackUnavailable
from bot.slack.api import SlackWeb

_log = structlog.get_logger()


async def examine_channel(web: SlackWeb, channel_id: str) -> str | None:
    """Say what is wrong with it, or None; one that the bot cannot see will do, as its response URL reaches it."""
    if channel_id.startswith("D"):
        return None  # a direct message: Slack shows it to nobody but its two members, so there is nothing to learn
    try:
        channel = await web.channel(channel_id)
    except SlackUnavailable:
        return "Slack did not tell the bot about this channel. Please try again in a moment."
    except SlackRefused as refusal:
        _log.error("channel_not_examined", slack_error=refusal.slack_error)
        return f"Slack does not let the bot look at this channel ({refusal.slack_error}). Tell the bot's operator."
    if channel.is_archived:
        return "This channel is archived. Choose another one."
    if channel.is_shared_outside:
        return "This channel is shared with another company. Choose one that is not."
    return None
