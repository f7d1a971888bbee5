"""An ending in the log: an error with the fix where only the operator can help."""

import io
import json

import pytest

from bot.cloudflare.errors import CallerRejected, CloudflareUnreachable, TokenInvalid
from bot.model.errors import BotError, NotAllowed, SealedValueUnreadable
from bot.model.move import Change
from bot.model.submission import State
from bot.operations.changes import log_change
from tests.make import make_ended_submission, make_submission

ENDINGS: dict[str, tuple[type[BotError], str, set[str]]] = {
    "the bot's own credentials": (CallerRejected, "error", {"setting", "fix"}),
    "the person's token": (TokenInvalid, "info", set()),
    "somebody who may not": (NotAllowed, "info", set()),
    "Cloudflare's trouble": (CloudflareUnreachable, "info", set()),
    "the sealing key": (SealedValueUnreadable, "info", set()),
}


@pytest.mark.parametrize(("cause", "level", "more"), ENDINGS.values(), ids=ENDINGS)
def test_an_ending_is_logged_by_whose_concern_it_is(
    log: io.StringIO, cause: type[BotError], level: str, more: set[str]
) -> None:
    """Who watches for errors is not woken by a mistyped token."""
    submission = make_ended_submission(State.FAILED, error_code=cause.code)
    log_change(Change(submission=submission, is_new_state=True))

    line = json.loads(log.getvalue())
    assert (line["event"], line["level"], line["error"]) == ("submission_ended", level, cause.code)
    assert line.keys() & {"setting", "fix"} == more


def test_what_goes_on_is_no_ending(log: io.StringIO) -> None:
    """Nothing is logged of it."""
    log_change(Change(submission=make_submission(), is_new_state=True))
    assert log.getvalue() == ""
