"""Examines the listed channels, a few at a time: Slack allows about 50 lookups a minute, which people need as well."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

from bot.model.errors import SlackRefused, SlackTrouble
from bot.model.finding import Check, Finding, Mark, Part
from bot.slack.api import Channel, SlackWeb
from bot.slack.checks.turns import Turns
from bot.slack.checks.words import BOT_TOKEN

LOOKUPS: Final = 10
"""At each examination of a running bot, once a minute."""

LOOKUPS_AT_ONCE: Final = 40
"""In the one examination of the command."""

_SETTING: Final = "R2_CREDENTIAL_ALLOWED_CHANNELS"
_TAKE_OFF: Final = "take it off the list"
_INVITE: Final = "invite the bot there (/invite @r2-credential)"


class ListedChannels:
    """Remembers what was found about each channel."""

    def __init__(self, web: SlackWeb, turns: Turns) -> None:
        self._web = web
        self._turns = turns
        self._bad: dict[str, Finding] = {}

    async def examine(self) -> Sequence[Finding]:
        """Look up those whose turn it is, and return what is known of all."""
        if not self._turns.names:
            text = "results may go to any channel of the workspace"
            return [Finding(part=Part.CHANNELS, event="channels_any", text=text)]
        trouble = await self._ask()
        bad = [self._bad[channel_id] for channel_id in self._turns.names if channel_id in self._bad]
        return [*bad, *trouble, *self._sum_up(bad)]

    async def _ask(self) -> list[Finding]:
        for channel_id in self._turns.due():
            try:
                found = _judge(channel_id, await self._web.channel(channel_id))
            except SlackRefused as refusal:
                return [_not_examined(refusal.slack_error)]
            except SlackTrouble as trouble:
                return [_not_answered(trouble)]
            self._turns.note(channel_id, is_good=found is None)
            self._bad.pop(channel_id, None)
            if found is not None:
                self._bad[channel_id] = found
        return []

    def _sum_up(self, bad: Sequence[Finding]) -> Iterator[Finding]:
        listed, examined = len(self._turns.names), self._turns.asked
        if not examined:
            return
        useless = sum(found.event != "channel_without_bot" for found in bad)
        if examined == listed == useless:
            yield Finding(
                part=Part.CHANNELS,
                event="no_channel_usable",
                text="no listed channel can be used for results",
                mark=Mark.FAILED,
                setting=_SETTING,
                fix="list a channel that people use, and invite the bot there, or list none, which allows any",
            )
            return
        so_far = "" if examined == listed else f" of the {examined} looked up so far"
        text = f"{listed} {'channel' if listed == 1 else 'channels'} listed, {examined - len(bad)} usable{so_far}"
        kinds = Counter(found.event for found in bad)
        known = {"listed": listed, "looked_up": examined, "usable": examined - len(bad), **kinds}
        yield Finding(part=Part.CHANNELS, event="channels_listed", text=text, known=known)


def channels_check(
    web: SlackWeb, channels: Sequence[str], clock: Callable[[], datetime], *, most: int = LOOKUPS
) -> Check:
    """Return the check of the listed channels, of which `most` are looked up at each examination."""
    return Check(part=Part.CHANNELS, examine=ListedChannels(web, Turns(channels, clock, most)).examine)


def _judge(channel_id: str, channel: Channel) -> Finding | None:
    if channel.is_group_message:
        return _bad_channel("channel_is_group_message", channel_id, "is a group message, not a channel", _TAKE_OFF)
    if not channel.is_visible:
        fix = f"{_INVITE} if it is private, or {_TAKE_OFF}"
        return _bad_channel("channel_not_found", channel_id, "does not exist, or is private and without the bot", fix)
    if channel.is_archived:
        return _bad_channel("channel_archived", channel_id, "is archived", f"{_TAKE_OFF}, or unarchive it in Slack")
    if channel.is_shared_outside:
        return _bad_channel(
            "channel_shared", channel_id, "is shared with another company, so no result goes there", _TAKE_OFF
        )
    if not channel.is_member:
        text = "is without the bot, so a result that takes half an hour goes to the person instead"
        return _bad_channel("channel_without_bot", channel_id, text, _INVITE)
    return None


def _bad_channel(event: str, channel_id: str, text: str, fix: str) -> Finding:
    return Finding(
        part=Part.CHANNELS,
        event=event,
        text=f"the channel {channel_id} {text}",
        mark=Mark.WARNING,
        setting=_SETTING,
        fix=fix,
        known={"channel": channel_id},
        about=channel_id,
    )


def _not_examined(slack_error: str) -> Finding:
    return Finding(
        part=Part.CHANNELS,
        event="channels_not_examined",
        text=f"Slack does not let the bot look up channels ({slack_error})",
        mark=Mark.WARNING,  # the token or its scopes have failed
        setting=BOT_TOKEN,
        fix="see what was found about the bot token and its scopes",
        known={"slack_error": slack_error},
    )


def _not_answered(trouble: SlackTrouble) -> Finding:
    text = f"Slack gave no usable answer about channels: {trouble.why.because}"
    return Finding(part=Part.CHANNELS, event="channels_not_answered", text=text, mark=Mark.WARNING)
