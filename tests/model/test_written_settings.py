"""Quotes and blanks around a setting's value are removed once; those within it stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.written_settings import find_near_names, has_stray_quote, plain_value

PLAIN = {
    "": "",
    " \ufeff ": "",
    '""': "",
    '"': '"',
    "x": "x",
    ' "x" ': "x",
    '"" x ""': '"" x ""',
    "''x''": "''x''",
    '"a","b"': '"a","b"',
    '"it\'s"': "it's",
    "'\"x\"'": '"x"',
    "'x\"": "'x\"",
    "\u201dx\u201c": "\u201dx\u201c",
    '\ufeff\ufeff "\ufeff x\n" ': "x",
    "a b": "a b",
}


@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_one_pair_of_quotes_and_all_blanks_are_removed(text: str, value: str) -> None:
    """The inside of the value is never interpreted."""
    assert plain_value(text) == value


@given(st.text())
def test_only_the_ends_change(text: str) -> None:
    """The inside of any text stays."""
    assert plain_value(text) in text


@pytest.mark.parametrize(
    ("value", "is_stray"),
    [
        ('"x', True),
        ("x'", True),
        ("'x\"", True),
        ("\u201cx", True),
        ('"', True),
        ("it's", False),
        ("the 'ops'", False),
        ('"a","b"', False),
        ("", False),
    ],
)
def test_half_a_pair_at_an_end_is_stray(value: str, *, is_stray: bool) -> None:
    """An apostrophe within a text is not."""
    assert has_stray_quote(value) is is_stray


def test_a_name_similar_to_ours_is_found() -> None:
    """In any case, with its blanks and a shell's `export`; other names are not."""
    near = ["SLACK_BOT_TOKN", "export SLACK_BOT_TOKEN", "slack_bot_token", "\ufeffSLACK_BOT_TOKEN"]
    names = [*near, "SLACK_TOKEN", "PATH", ""]
    assert [*find_near_names(names, {"SLACK_BOT_TOKEN"})] == [(name, "SLACK_BOT_TOKEN") for name in near]
