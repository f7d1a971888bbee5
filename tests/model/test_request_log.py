"""Requests are lines at debug, and nothing at any other level."""

import io
import json
import logging

from bot.model.request_log import start_request


def test_a_request_is_a_line_once_it_is_over(log: io.StringIO) -> None:
    """With what is known of it, the status and the duration."""
    end = start_request("made_up_request", method="GET", path="made/up")
    assert log.getvalue() == ""
    end(200)
    line = json.loads(log.getvalue())
    assert line["level"] == "debug"
    assert (line["event"], line["method"], line["path"], line["status"]) == ("made_up_request", "GET", "made/up", 200)
    assert line["seconds"] >= 0


def test_nothing_is_made_of_it_at_info(log: io.StringIO) -> None:
    """Thousands a second cost nothing where nobody reads them."""
    logging.getLogger().setLevel(logging.INFO)
    start_request("made_up_request")(200)
    assert log.getvalue() == ""
