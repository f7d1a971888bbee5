"""The few pieces of Block Kit that the bot's messages and modals are made of (https://docs.slack.dev/block-kit).

Slack's library builds the blocks: what is too long or too many for Slack is an error here, and shows in a test. It does
not know the limits of a field (2,000 characters) and of small print (3,000).
"""

from datetime import datetime
from typing import Any, TypeAlias

from slack_sdk.models.blocks import (
    ActionsBlock,
    ButtonElement,
    ConfirmObject,
    ContextBlock,
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

Json: TypeAlias = dict[str, Any]
"""A JSON object as Slack takes or sends it."""


def escape(foreign: str) -> str:
    """Escape what Slack would read as a link or a mention."""
    return foreign.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def date(at: datetime) -> str:
    """Return a time of day as Slack shows it in the reader's own zone."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} at {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def moment(at: datetime) -> str:
    """Return a time of today, to the second."""
    return f"<!date^{int(at.timestamp())}^{{time_secs}}|{at:%H:%M:%S} UTC>"


def plain(text: str) -> Json:
    """Return text that is shown as it is."""
    return PlainTextObject(text=text).to_dict()


def section(text: str) -> Json:
    """Return a paragraph in Slack's markup; foreign parts of it must be escaped."""
    return SectionBlock(text=MarkdownTextObject(text=text)).to_dict()


def verbatim(text: str) -> Json:
    """Return a paragraph with foreign words in it: no `@here` and no address in it comes to life."""
    return SectionBlock(text=MarkdownTextObject(text=text, verbatim=True)).to_dict()


def fields(*pairs: tuple[str, str]) -> Json:
    """Return a table of names and values; Slack takes ten. No `@here` in a value comes to life."""
    texts = [MarkdownTextObject(text=f"*{name}*\n{value}", verbatim=True) for name, value in pairs]
    return SectionBlock(fields=texts).to_dict()


def context(text: str) -> Json:
    """Return small print. No `@here` in it comes to life."""
    return ContextBlock(elements=[MarkdownTextObject(text=text, verbatim=True)]).to_dict()


def header(text: str) -> Json:
    """Return a headline."""
    return HeaderBlock(text=PlainTextObject(text=text)).to_dict()


def actions(*buttons: Json) -> Json:
    """Return a row of buttons."""
    return ActionsBlock(elements=buttons).to_dict()


def button(text: str, action_id: str, value: str, *, style: str | None = None, confirm: Json | None = None) -> Json:
    """Return a button; with `confirm` it asks back."""
    return ButtonElement(
        text=PlainTextObject(text=text), action_id=action_id, value=value, style=style, confirm=confirm
    ).to_dict()


def confirmation(title: str, text: str, *, confirm: str, deny: str) -> Json:
    """Return what a button asks before it acts; `text` is markup."""
    return ConfirmObject(
        title=PlainTextObject(text=title),
        text=MarkdownTextObject(text=text),
        confirm=PlainTextObject(text=confirm),
        deny=PlainTextObject(text=deny),
    ).to_dict()


def modal(title: str, blocks: list[Json]) -> Json:
    """Return a view that can only be closed; `title` has 24 characters at most."""
    # No `View`: it reads every block again, which took 0.6 of the 1.1 ms of a result's modal, and each acknowledgement
    # of a Submit has one.
    return {"type": "modal", "title": plain(title), "close": plain("Close"), "blocks": blocks}
