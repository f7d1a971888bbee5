"""A block beyond Slack's limits is an error where it is made, and every block made is valid."""

from collections.abc import Callable

import pytest
from slack_sdk.errors import SlackObjectFormationError

from bot.sandbox.block_rules import message_problems, view_problems
from bot.slack.blocks import (
    Json,
    actions,
    button,
    confirmation,
    context,
    fields,
    header,
    modal,
    section,
    verbatim,
)

CONFIRM = confirmation("Sure?", "It *stays* so.", confirm="Yes", deny="No")
BUTTON = button("Press", "press", "lake", style="primary", confirm=CONFIRM)
BLOCKS = [
    header("Head"),
    section("Text"),
    verbatim("@here"),
    fields(("Name", "@here")),
    context("@here"),
    actions(BUTTON),
]

TOO_MUCH: dict[str, Callable[[], Json]] = {
    "text of a section": lambda: section("x" * 3001),
    "foreign text": lambda: verbatim("x" * 3001),
    "fields": lambda: fields(*[("Name", "value")] * 11),
    "a headline": lambda: header("x" * 151),
    "text of a button": lambda: button("x" * 76, "press", ""),
    "value of a button": lambda: button("Press", "press", "x" * 2001),
    "style of a button": lambda: button("Press", "press", "", style="blue"),
    "buttons": lambda: actions(*[BUTTON] * 26),
    "title of a confirmation": lambda: confirmation("x" * 101, "?", confirm="Yes", deny="No"),
    "text of a confirmation": lambda: confirmation("Sure?", "x" * 301, confirm="Yes", deny="No"),
}


@pytest.mark.parametrize("make", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_block_beyond_slacks_limits_cannot_be_made(make: Callable[[], Json]) -> None:
    """Each limit of Block Kit has a case."""
    with pytest.raises(SlackObjectFormationError):
        make()


def test_each_block_made_is_valid() -> None:
    """In a message and in a modal."""
    assert message_problems(BLOCKS) == []
    assert view_problems(modal("Title", BLOCKS)) == []


def test_a_row_of_buttons_keeps_them_unchanged() -> None:
    """Slack's library parses them again, and must lose nothing, such as a button's confirmation."""
    [pressed] = actions(BUTTON)["elements"]
    assert pressed == {
        "type": "button",
        "action_id": "press",
        "text": {"type": "plain_text", "text": "Press"},
        "value": "lake",
        "style": "primary",
        "confirm": {
            "title": {"type": "plain_text", "text": "Sure?"},
            "text": {"type": "mrkdwn", "text": "It *stays* so."},
            "confirm": {"type": "plain_text", "text": "Yes"},
            "deny": {"type": "plain_text", "text": "No"},
        },
    }


def test_foreign_text_stays_text() -> None:
    """`@here` notifies no one in a paragraph, a table or small print."""
    for part in (verbatim("@here")["text"], *fields(("Name", "@here"))["fields"], *context("@here")["elements"]):
        assert part["verbatim"] is True
