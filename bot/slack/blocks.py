"""The few pieces of Block Kit that the bot's messages and modals are made of (https://docs.slack.dev/block-kit)."""

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
"""A JSON object as Slack takes or sends it."""


def escape(foreign: str) -> str:
    """Escape what Slack would read as a link or a mention."""
    return foreign.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


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
    """Return small print."""
    return {"type": "context", "elements": [mrkdwn(text)]}
