"""Requests are logged at level debug only."""

import io
import json
import logging

from bot.model.request_log import start_request


def test_a_finished_request_is_one_line(log: io.StringIO) -> None:
    """It has what is known of the request, the status and the duration."""
    end = start_request("made_up_request", method="GET", path="made/up")
    assert log.getvalue() == ""
    end(200)
    line = json.loads(log.getvalue())
    assert line["level"] == "debug"
    assert (line["event"], line["method"], line["path"], line["status"]) == ("made_up_request", "GET", "made/up", 200)
    assert line["seconds"] >= 0


def test_nothing_is_computed_for_it_at_info(log: io.StringIO) -> None:
    """Thousands of requests a second cost nothing if the level is off."""
    logging.getLogger("bot").setLevel(logging.INFO)
    start_request("made_up_request")(200)
    assert log.getvalue() == ""
