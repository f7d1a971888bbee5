"""`help`: for everyone, and generated from the table."""

import pytest

from tests.desk import MALLORY, Desk


@pytest.mark.parametrize("text", ["help", "HELP", " help "])
async def test_help_is_for_everyone_and_opens_nothing(desk: Desk, text: str) -> None:
    """Even a person on no list may ask what this is."""
    assert "never after the command" in await desk.command(text, user=MALLORY)
    assert desk.slack.modal(MALLORY) is None
