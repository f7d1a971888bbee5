"""The one question before anything is told in a channel: may it be read there? Nothing else decides that.

Asked at Submit, and again whenever a message leaves: hours or weeks later the channel may be shared, archived or taken
off the list.
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
"""How long it is remembered that a form was opened in a group message: as long as a form is good for."""

_NOT_TOLD: Final = "Slack did not tell the bot about this channel. Please try again in a moment."

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why nothing is told in a place: `in_form` is said at the field, `because` ends the reason of a direct message."""

    in_form: str
    because: str = ""


NO_CHANNEL: Final = Unfit("This is not a channel. Choose one.")
NOT_LISTED: Final = Unfit(
    "The bot may not post in this channel. Choose another one.", "the bot is not used in that channel"
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
    """Knows of each channel whether it may read a result, as Slack said at most a minute ago."""

    def __init__(self, web: SlackWeb, allows: Callable[[str], bool], clock: Callable[[], datetime]) -> None:
        """Take `allows` of the operator's lists."""
        self._web = web
        self._allows = allows
        self._group_messages = Memory[str, bool](clock)

    def note_group_message(self, channel_id: str) -> None:
        """Remember what a command or a pressed button tells: this is no channel but a group message."""
        self._group_messages.keep(channel_id, True, GROUP_MESSAGE_LIFETIME)  # noqa: FBT003 - a set that fades

    async def is_group_message(self, channel_id: str) -> bool:
        """Whether it surely is one. Raises nothing: a form opens all the same, and Submit asks again."""
        if not is_channel_id(channel_id):
            return False
        if not self._group_messages.get(channel_id):
            with suppress(SlackRefused, SlackTrouble):
                if (await self._web.channel(channel_id)).is_group_message:
                    self.note_group_message(channel_id)
        return bool(self._group_messages.get(channel_id))

    async def find_problem(self, channel_id: str) -> Unfit | None:
        """Say what is wrong with it, or None. Raises SlackTrouble when Slack does not tell.

        One that the bot cannot see will do. The bot cannot post there either: what reaches it is the response URL that
        Slack made for it when a person chose it, for half an hour and never later.
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
        """Return the same for a person who waits for the answer."""
        try:
            unfit = await self.find_problem(channel_id)
        except SlackTrouble:
            return _NOT_TOLD
        return unfit.in_form if unfit else None


def _judge(channel: Channel) -> Unfit | None:
    if channel.is_group_message:
        return GROUP_MESSAGE
    if channel.is_archived:
        return ARCHIVED
    return SHARED if channel.is_shared_outside else None


def _not_examined(slack_error: str) -> Unfit:
    return Unfit(
        f"Slack does not let the bot look at this channel ({slack_error}). Tell the bot's operator.",
        "Slack does not let the bot look at it",
    )
