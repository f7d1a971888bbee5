"""The table of subcommands: help, usage hint and manifest are generated from it, and a story answers each."""

import pytest
import yaml

from bot.slack.manifest import build_manifest
from bot.slack.subcommands import (
    COMMAND,
    HELP,
    HISTORY,
    STATUS,
    STORE,
    SUBCOMMANDS,
    Subcommand,
    ask_back,
    guess_subcommand,
    help_text,
    read_text,
    usage_hint,
)
from tests.desk import Desk

LONGEST_HINT = 1000
"""As Slack's schema of the manifest says."""


def test_help_has_a_line_for_each_subcommand() -> None:
    """With its arguments."""
    lines = help_text().splitlines()

    for subcommand in SUBCOMMANDS:
        usage = f"\u2022 `{COMMAND} {subcommand.name} {subcommand.argument}".rstrip() + "` "
        [line] = [line for line in lines if line.startswith(usage)]
        assert line == f"{usage}{subcommand.help}"
    assert [line.count(COMMAND) for line in lines] == [0, *[1] * (len(SUBCOMMANDS) + 2), 0]


def test_help_says_what_the_command_is_for_and_warns_of_the_wrong_place() -> None:
    """Slack keeps what is typed after a command."""
    for words in (
        f"`{COMMAND} BUCKET` opens the form, filled in",
        f"`{COMMAND} store BUCKET`",
        "also for a bucket that has the name of a command",
        "R2 Data Catalog (Basin Catalog)",
        "never after the command",
    ):
        assert words in help_text()


def test_the_usage_hint_names_each_subcommand() -> None:
    """In a line that Slack accepts, and that needs no quoting in YAML."""
    hint = usage_hint()

    assert hint.startswith("[bucket | ")
    assert [part.split()[0] for part in hint.strip("[]").split(" | ")] == [
        "bucket",
        *(each.name for each in SUBCOMMANDS),
    ]
    assert len(hint) <= LONGEST_HINT
    assert not set('"\\\n') & set(hint)


def test_the_manifest_has_the_hint_of_the_table() -> None:
    """So that Slack shows what the bot accepts."""
    for url in (None, "https://bot.example.com"):
        [command] = yaml.safe_load(build_manifest(url))["features"]["slash_commands"]
        assert (command["command"], command["usage_hint"]) == (COMMAND, usage_hint())


def test_each_subcommand_is_recognised() -> None:
    """In any spelling of case and blanks."""
    for subcommand in SUBCOMMANDS:
        assert read_text(subcommand.name) == (subcommand, "")
        assert read_text(f"  {subcommand.name.upper()}  lake ") == (subcommand, "lake")
        assert read_text(f"\u201c{subcommand.name}\u201d \u200b\u2018lake\u2019\ufeff") == (subcommand, "lake")


@pytest.mark.parametrize(
    ("typed", "guess"),
    [
        ("staus", STATUS),
        ("stats", STATUS),
        ("STATSU", STATUS),
        ("staus lake", STATUS),
        ("histroy", HISTORY),
        ("histroy my lake", HISTORY),
        ("hlep", HELP),
        ("/help", HELP),
        ("\u201cstor\u201d", STORE),
        ("status", None),
        ("store staus", None),
        ("lake", None),
        ("statistics", None),
        ("analytics-events", None),
        ("", None),
    ],
)
def test_a_misspelt_subcommand_is_guessed(typed: str, guess: Subcommand | None) -> None:
    """One slip in four letters is tolerated; a correct word is no guess."""
    assert guess_subcommand(typed) is guess


@pytest.mark.parametrize("typed", ["?", "-h", "--help", "--HELP", "-help"])
def test_the_usual_signs_for_help_are_read_as_help(typed: str) -> None:
    """No bucket can be called like that, so there is nothing to ask back about."""
    assert read_text(typed) == (HELP, "")


def test_a_name_that_no_bucket_has_is_not_offered_as_one() -> None:
    """`store /help` would only be refused for its name."""
    assert ask_back("/help", HELP) == (
        "`/help` is no command, and no catalog of that name is known. Did you mean `/r2-credential help`?"
    )
    assert "`/r2-credential store staus`" in ask_back("staus", STATUS)


def test_invisible_characters_and_quotes_are_no_part_of_a_bucket() -> None:
    """Curly quotes of a chat, and invisible characters."""
    assert read_text("\u200b\u201clake\u201d") == (STORE, "lake")
    assert read_text("`lake`") == (STORE, "lake")
    assert read_text("\u201c\u200b\u201d") == (STORE, "")


async def test_a_story_answers_each_subcommand(desk: Desk) -> None:
    """An entry of the table without a story would be a fault that a person meets."""
    for subcommand in SUBCOMMANDS:
        assert "Something unexpected happened" not in await desk.command(subcommand.name)
