"""How a submission ended, in the log: an error with the fix if only the operator can help."""

import io
import json

import pytest
from structlog.testing import capture_logs

from bot.cloudflare.errors import CallerRejected, CloudflareError, CloudflareUnreachable, TokenInvalid
from bot.model.errors import BotError, NotAllowed, SealedValueUnreadable, WhoActs, leaves
from bot.model.move import Change
from bot.model.submission import State
from bot.operations.changes import log_change
from tests.make import make_ended_submission, make_submission

DEFINITE = [kind for kind in leaves(CloudflareError) if not kind.retryable]
ENDINGS: dict[str, tuple[type[BotError], str, set[str]]] = {
    "the bot's own credentials": (CallerRejected, "error", {"setting", "fix"}),
    "the person's token": (TokenInvalid, "info", set()),
    "a person who may not": (NotAllowed, "info", set()),
    "Cloudflare's trouble": (CloudflareUnreachable, "info", set()),
    "the sealing key": (SealedValueUnreadable, "info", set()),
}


@pytest.mark.parametrize(("cause", "level", "more"), ENDINGS.values(), ids=ENDINGS)
def test_the_level_of_an_ending_depends_on_who_can_fix_it(
    log: io.StringIO, cause: type[BotError], level: str, more: set[str]
) -> None:
    """An operator who watches for errors is not woken by a mistyped token."""
    submission = make_ended_submission(State.FAILED, error_code=cause.code)
    log_change(Change(submission=submission, is_new_state=True))

    line = json.loads(log.getvalue())
    assert (line["event"], line["level"], line["error"]) == ("submission_ended", level, cause.code)
    assert line.keys() & {"setting", "fix"} == more


def test_an_open_submission_is_not_logged(log: io.StringIO) -> None:
    """Only endings are logged."""
    log_change(Change(submission=make_submission(), is_new_state=True))
    assert log.getvalue() == ""


@pytest.mark.parametrize("kind", DEFINITE, ids=lambda kind: kind.code)
def test_what_the_operator_has_to_fix_is_an_error_that_says_how(kind: type[CloudflareError]) -> None:
    """With the fix, which the channel does not show; every other ending has level info."""
    ended = make_ended_submission(State.FAILED, error_code=kind.code)
    with capture_logs() as lines:
        log_change(Change(submission=ended, is_new_state=True))
    [line] = lines
    is_operators = kind.who_acts is WhoActs.OPERATOR
    assert line["log_level"] == ("error" if is_operators else "info")
    assert line.get("fix") == (kind.operator_fix if is_operators else None)
    assert not is_operators or kind.operator_fix
