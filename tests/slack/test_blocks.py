"""A block beyond Slack's limits is an error where it is made, and every block made is valid."""

from collections.abc import Callable

import pytest
from slack_sdk.models.blocks import Block

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
    "buttons": lambda: actions(*[BUTTON] * 26),
    "title of a confirmation": lambda: confirmation("x" * 101, "?", confirm="Yes", deny="No"),
    "text of a confirmation": lambda: confirmation("Sure?", "x" * 301, confirm="Yes", deny="No"),
    "button of a confirmation": lambda: confirmation("Sure?", "?", confirm="x" * 31, deny="No"),
    "a field": lambda: fields(("Name", "x" * 2000)),
    "small print": lambda: context("x" * 3001),
    "action id of a button": lambda: button("Press", "x" * 256, ""),
    "title of a modal": lambda: modal("x" * 25, []),
    "blocks of a modal": lambda: modal("Title", [section("Text")] * 101),
}


@pytest.mark.parametrize("make", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_block_beyond_slacks_limits_cannot_be_made(make: Callable[[], Json]) -> None:
    """Each limit of Block Kit has a case."""
    with pytest.raises(ValueError, match="Slack's limit"):
        make()


def test_each_block_made_is_valid() -> None:
    """In a message and in a modal."""
    assert message_problems(BLOCKS) == []
    assert view_problems(modal("Title", BLOCKS)) == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["type"])
def test_slacks_own_library_makes_the_same_of_each_block(block: Json) -> None:
    """It knows every field, loses none and adds none."""
    parsed = Block.parse(block)
    assert parsed is not None
    assert parsed.to_dict() == block


def test_foreign_text_stays_text() -> None:
    """`@here` notifies no one in a paragraph, a table or small print."""
    for part in (verbatim("@here")["text"], *fields(("Name", "@here"))["fields"], *context("@here")["elements"]):
        assert part["verbatim"] is True
