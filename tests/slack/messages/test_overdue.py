"""The message that a rotation is overdue: since when, why, what to do, and both buttons."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.model.errors import BotError, WhoActs, error_of_code, leaves
from bot.model.timetable import RotationFailure
from bot.policy.scheduled import Overdue
from bot.sandbox.block_rules import message_problems
from bot.slack.button_values import bucket_value
from bot.slack.messages.overdue import overdue_notice
from bot.slack.messages.render import ROTATE, TRY_AGAIN
from tests.make import NOW, make_key, make_stored_credential
from tests.slack.messages.test_outcome import find_faults, without_times

DAY = timedelta(days=1)
LAKE = make_stored_credential(stored_at=NOW - 38 * DAY, expires_at=NOW + 7 * DAY)
UNTRIED = Overdue(credential=LAKE, since=NOW - DAY, failure=None)


def failing(code: str | None, failures: int = 2) -> Overdue:
    """Return one that was tried."""
    failure = RotationFailure(bucket="lake", since=NOW - 9 * DAY, failed_at=NOW, failures=failures, code=code)
    return replace(UNTRIED, failure=failure)


def test_it_says_since_when_and_what_to_do() -> None:
    """Where nothing was tried, only the operator can find out why."""
    message = overdue_notice(UNTRIED, NOW, contact="")
    assert without_times(message["text"]) == (
        "The rotation of the catalog of `lake` is overdue since then. Its token, rotated last for <@U0ADA0001> on "
        "then, expires (then, in 7 days). No attempt has failed, so something keeps the schedule waiting: the bot's "
        "log says what. What to do: Rotate it now; if that fails as well, paste a token instead. Please ask the "
        "operator of this bot."
    )
    assert message_problems(message["blocks"]) == []
    rotate, paste = message["blocks"][-1]["elements"]
    assert (rotate["action_id"], rotate["value"], rotate["text"]["text"]) == (ROTATE, bucket_value(LAKE.key), "Rotate")
    assert (paste["action_id"], paste["value"]) == (TRY_AGAIN, bucket_value(LAKE.key))


def test_it_says_that_the_token_has_expired() -> None:
    """And why it is in a direct message, if it is."""
    gone = replace(UNTRIED, credential=replace(LAKE, expires_at=NOW - DAY))
    message = overdue_notice(gone, NOW, contact="", placement="You get this as a direct message.")
    assert "has expired (then, 1 day ago)" in without_times(message["text"])
    assert message["text"].endswith("You get this as a direct message.")
    assert "You get this as a direct message." in str(message["blocks"])


@pytest.mark.parametrize("code", [None, *sorted(leaf.code for leaf in leaves(BotError))])
def test_each_cause_has_its_sentence(code: str | None) -> None:
    """In plain words, and with whom to ask where the operator has to act."""
    message = overdue_notice(failing(code), NOW, contact="S0SUPPORT")
    assert message_problems(message["blocks"]) == []
    assert find_faults(message["text"]) == []
    assert "It failed 2 times since" in message["text"]
    is_operators = code is not None and error_of_code(code).who_acts is WhoActs.OPERATOR
    assert ("Please ask" in message["text"]) >= is_operators


def test_a_hostile_name_is_only_text() -> None:
    """The bucket of a damaged row could be anything."""
    credential = replace(LAKE, key=make_key("<!channel>"))
    message = overdue_notice(replace(failing("throttled", 1), credential=credential), NOW, contact="<!here>")
    assert message_problems(message["blocks"]) == []
    assert "<!channel" not in str(message["blocks"][0]) + message["text"]
    assert "It failed once since" in message["text"]
