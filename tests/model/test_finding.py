"""Findings quote words of others: none of them can forge a line of a terminal, or show a token."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
from structlog.testing import capture_logs

from bot.model.finding import Finding, Mark, Part, log_each_once

TOKEN: Final = "cfat_" + "A1b2C3d4" * 5
FORGED: Final = f"\x1b[2J\x1b]0;owned\x07\n\u2713 keys: all fine\r{TOKEN}\u202e\x9b31m"
PLAIN: Final = Finding(part=Part.KEYS, event="keys_missing", text="x", mark=Mark.FAILED)

Say = Callable[[str], Finding]
FIELDS: Final[dict[str, Say]] = {
    "text": lambda said: replace(PLAIN, text=said),
    "fix": lambda said: replace(PLAIN, fix=said),
    "setting": lambda said: replace(PLAIN, setting=said),
    "about": lambda said: replace(PLAIN, about=said),
    "known": lambda said: replace(PLAIN, known={"said": said}),
    "the name of a known value": lambda said: replace(PLAIN, known={said: 1}),
    "a known list": lambda said: replace(PLAIN, known={"missing": [said, (said,), {said}]}),
    "a known mapping": lambda said: replace(PLAIN, known={"of": {"each": said}}),
    "a known object": lambda said: replace(PLAIN, known={"error": ValueError(said)}),
}


def texts_in(value: object) -> list[str]:
    """Return every text of a value."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts_in(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts_in(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("say", FIELDS.values(), ids=FIELDS)
def test_no_field_forges_a_line_or_shows_a_token(say: Say) -> None:
    """They are words of a database, of Slack, of Cloudflare or of a setting."""
    found = say(FORGED)
    texts = [
        *(found.text, found.fix, found.setting, found.about),
        *texts_in(found.known),
    ]
    assert any("all fine" in text for text in texts)
    for text in texts:
        assert text.isprintable()
        assert TOKEN not in text


def test_what_is_no_text_stays_as_it_is() -> None:
    """Counts are counts, also in the log and in JSON."""
    found = replace(PLAIN, known={"keys": 2, "share": 0.5, "key_id": None, "ready": True})
    assert found.known == {"keys": 2, "share": 0.5, "key_id": None, "ready": True}


def test_a_name_in_any_script_is_shown_as_it_is_written() -> None:
    """A channel's name and a person's name are foreign, and no attack."""
    assert replace(PLAIN, text="the channel \u0434\u0430\u043d\u043d\u044b\u0435 \U0001f469\u200d\U0001f52c").text == (
        "the channel \u0434\u0430\u043d\u043d\u044b\u0435 \U0001f469\u200d\U0001f52c"
    )


def test_a_finding_that_is_told_again_and_again_is_logged_once() -> None:
    """Until there is another one: a command that waits for a database asks every second."""
    away, full = (Finding(part=Part.DATABASE, event=event, text="made up") for event in ("away", "full"))
    with capture_logs() as logged:
        log = log_each_once()
        for each in (away, replace(away), full, full, away):
            log(each)

    assert [line["event"] for line in logged] == ["away", "full", "away"]
