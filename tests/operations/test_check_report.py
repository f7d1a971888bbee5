"""What `check` prints: a line for each finding with its fix, on a terminal, in a pipe and as JSON."""

import io
import json

import pytest

from bot.model.finding import Finding, Mark, Part
from bot.operations.check_report import CheckReport, to_json

GOOD = Finding(part=Part.DATABASE, event="database_answers", text="PostgreSQL 18, can be written")
DOUBTFUL = Finding(
    part=Part.CLOCK, event="clock_differs", text="70 s behind Slack", mark=Mark.WARNING, fix="set it", known={"s": 70}
)
BAD = Finding(
    part=Part.SLACK,
    event="slack_refused",
    text="Slack refused the bot token (invalid_auth)",
    mark=Mark.FAILED,
    setting="SLACK_BOT_TOKEN",
    fix="copy it again",
)


class Terminal(io.TextIOWrapper):
    """Collects what is printed, as a terminal or a pipe with an encoding."""

    def __init__(self, *, encoding: str = "utf-8", is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """Return what it is."""
        return self._is_terminal

    @property
    def text(self) -> str:
        """What was printed."""
        self.flush()
        return bytes(self.buffer.raw.getvalue() if hasattr(self.buffer, "raw") else self.buffer.getvalue()).decode(  # type: ignore[attr-defined]
            self.encoding
        )


def test_a_pipe_gets_a_line_for_each_finding() -> None:
    """With the fix behind it, and nothing that only a terminal understands."""
    out = Terminal()
    report = CheckReport(out)
    report.begin([Part.DATABASE])
    report.tell([GOOD, DOUBTFUL])
    report.tell([BAD])
    report.end([GOOD, DOUBTFUL, BAD])

    assert out.text.splitlines() == [
        "\N{CHECK MARK} database:     PostgreSQL 18, can be written",
        "! clock:        70 s behind Slack. Fix: set it",
        "\N{BALLOT X} slack:        Slack refused the bot token (invalid_auth). Fix: SLACK_BOT_TOKEN: copy it again",
        "3 findings: 1 failed, 1 warning.",
    ]


def test_where_ticks_cannot_be_printed_words_take_their_place() -> None:
    """A log collector may read ASCII; the report must not end in an error."""
    out = Terminal(encoding="ascii")
    CheckReport(out).tell([GOOD, BAD])

    first, second = out.text.splitlines()
    assert first.startswith("ok database:")
    assert second.startswith("FAILED slack:")


def test_a_terminal_shows_what_is_being_examined_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line about the progress is replaced by what was found."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal(is_terminal=True)
    report = CheckReport(out)
    report.begin([Part.SLACK, Part.CLOUDFLARE])
    report.tell([GOOD])

    assert out.text == (
        "\r\x1b[K  examining: slack, cloudflare ..."
        "\r\x1b[K\x1b[32m\N{CHECK MARK}\x1b[0m database:     PostgreSQL 18, can be written\n"
    )


def test_a_terminal_without_colour_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """As https://no-color.org asks."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal(is_terminal=True)
    CheckReport(out).tell([GOOD])

    assert out.text == "\r\x1b[K\N{CHECK MARK} database:     PostgreSQL 18, can be written\n"


def test_json_has_every_finding() -> None:
    """For a program, which reads `ok` or the findings."""
    report = json.loads(to_json([GOOD, DOUBTFUL, BAD]))

    assert report["ok"] is False
    assert [(each["part"], each["mark"], each["setting"], each["fix"]) for each in report["findings"]] == [
        ("database", "ok", None, None),
        ("clock", "warning", None, "set it"),
        ("slack", "failed", "SLACK_BOT_TOKEN", "copy it again"),
    ]
    assert report["findings"][1]["known"] == {"s": 70}
    assert json.loads(to_json([GOOD]))["ok"] is True
