"""Findings in the log."""

from dataclasses import replace

from structlog.testing import capture_logs

from bot.model.finding import Finding, Part, log_each_once


def test_a_finding_that_is_told_again_and_again_is_logged_once() -> None:
    """Until there is another one: a command that waits for a database asks every second."""
    away, full = (Finding(part=Part.DATABASE, event=event, text="made up") for event in ("away", "full"))
    with capture_logs() as logged:
        log = log_each_once()
        for each in (away, replace(away), full, full, away):
            log(each)

    assert [line["event"] for line in logged] == ["away", "full", "away"]
