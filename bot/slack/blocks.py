"""The few pieces of Block Kit that the bot's messages and modals are made of (https://docs.slack.dev/block-kit)."""

from datetime import datetime
from typing import Any, TypeAlias

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
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str) -> Json:
    """Return text in Slack's markup; foreign parts of it must be escaped."""
    return {"type": "mrkdwn", "text": text}


def section(text: str) -> Json:
    """Return a paragraph."""
    return {"type": "section", "text": mrkdwn(text)}


def fields(*pairs: tuple[str, str]) -> Json:
    """Return a table of names and values; Slack takes ten. No `@here` in a value comes to life."""
    return {"type": "section", "fields": [{**mrkdwn(f"*{name}*\n{value}"), "verbatim": True} for name, value in pairs]}


def context(text: str) -> Json:
    """Return small print. No `@here` in it comes to life."""
    return {"type": "context", "elements": [{**mrkdwn(text), "verbatim": True}]}


def actions(*buttons: Json) -> Json:
    """Return a row of buttons."""
    return {"type": "actions", "elements": list(buttons)}


def button(text: str, action_id: str, value: str, **more: Any) -> Json:  # noqa: ANN401 - parts of Block Kit
    """Return a button; `more` are `style` and `confirm`."""
    return {"type": "button", "action_id": action_id, "text": plain(text), "value": value, **more}


def header(text: str) -> Json:
    """Return a headline."""
    return {"type": "header", "text": plain(text)}


def verbatim(text: str) -> Json:
    """Return a paragraph with foreign words in it: no `@here` and no address in it comes to life."""
    return {"type": "section", "text": {**mrkdwn(text), "verbatim": True}}
