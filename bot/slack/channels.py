"""Decides whether a message may be posted in a channel. Nothing else decides that.

Asked at Submit, and again before each message: hours or weeks later the channel may be shared, archived or off the
list.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.errors import SlackRefused, SlackTrouble
from bot.model.memory import Memory
from bot.model.place import is_channel_id
from bot.slack.api import Channel, SlackWeb

GROUP_MESSAGE_LIFETIME: Final = timedelta(hours=1)
"""How long a group message in which a form was opened is remembered: as long as a form is valid."""

_NOT_ANSWERED: Final = "Slack did not answer about this channel. Please try again in a moment."

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why nothing is posted in a place: `in_form` is the field's error, `because` explains a direct message."""

    in_form: str
    because: str = ""


NO_CHANNEL: Final = Unfit("This is not a channel. Choose one.")
NOT_LISTED: Final = Unfit(
    "The bot may not post in this channel. Choose another one.", "the bot may not be used in that channel"
)
GROUP_MESSAGE: Final = Unfit(
    "This is a group message, and the bot cannot see who reads it. Choose a channel, or the direct message.",
    "it is a group message",
)
ARCHIVED: Final = Unfit("This channel is archived. Choose another one.", "it is archived")
SHARED: Final = Unfit(
    "This channel is shared with another company. Choose one that is not.", "it is shared with another company"
)


class Channels:
    """Knows whether each channel may read a result; a good answer of Slack's is valid for a minute."""

    def __init__(self, web: SlackWeb, allows: Callable[[str], bool], clock: Callable[[], datetime]) -> None:
        """Take `allows`, the operator's list of channels."""
        self._web = web
        self._allows = allows
        self._group_messages = Memory[str, bool](clock)

    def note_group_message(self, channel_id: str) -> None:
        """Remember a group message: only a command or a pressed button shows that it is not a channel."""
        self._group_messages.keep(channel_id, True, GROUP_MESSAGE_LIFETIME)  # noqa: FBT003 - a set whose entries expire

    async def is_group_message(self, channel_id: str) -> bool:
        """Return whether it is known to be one. Raises nothing: the form opens anyway, and Submit asks again."""
        if not is_channel_id(channel_id):
            return False
        if not self._group_messages.get(channel_id):
            with suppress(SlackRefused, SlackTrouble):
                if (await self._web.channel(channel_id)).is_group_message:
                    self.note_group_message(channel_id)
        return bool(self._group_messages.get(channel_id))

    async def find_problem(self, channel_id: str) -> Unfit | None:
        """Return what is wrong with a channel, or None. Raises SlackTrouble when Slack does not answer.

        A channel that the bot cannot see is accepted. The bot cannot post there itself: only the response URL reaches
        it, which Slack made when a person chose the channel, and which is valid for half an hour.
        """
        if not is_channel_id(channel_id):
            return NO_CHANNEL
        if not self._allows(channel_id):
            return NOT_LISTED
        if self._group_messages.get(channel_id):
            return GROUP_MESSAGE
        try:
            return _judge(await self._web.channel(channel_id))
        except SlackRefused as refusal:
            _log.error("channel_not_examined", slack_error=refusal.slack_error)
            return _not_examined(refusal.slack_error)

    async def explain_problem(self, channel_id: str) -> str | None:
        """Return the same as a form error."""
        try:
            unfit = await self.find_problem(channel_id)
        except SlackTrouble:
            return _NOT_ANSWERED
        return unfit.in_form if unfit else None


def _judge(channel: Channel) -> Unfit | None:
    if channel.is_group_message:
        return GROUP_MESSAGE
    if channel.is_archived:
        return ARCHIVED
    return SHARED if channel.is_shared_outside else None


def _not_examined(slack_error: str) -> Unfit:
    return Unfit(
        f"Slack does not let the bot look up this channel ({slack_error}). Report it to the bot's operator.",
        "Slack does not let the bot look it up",
    )
