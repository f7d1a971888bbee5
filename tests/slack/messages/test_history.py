"""The answer to `history`: outcomes in words, no active foreign markup, Slack's limits."""

from dataclasses import fields, replace
from datetime import timedelta

import pytest

from bot.model.catalog import CredentialStatus
from bot.model.submission import (
    ENDINGS,
    State,
    Submission,
    Task,
)
from bot.sandbox.block_rules import message_problems
from bot.sandbox.blocks import texts_of
from bot.slack.messages.history import MOST_SHOWN, history_message
from bot.slack.progress_steps import steps_of
from tests.make import NOW, TOKEN, make_ended_submission

STORED = make_ended_submission(
    id="V1", team_id="T1", channel_id="C1", accepted_at=NOW - timedelta(minutes=5), ended_at=NOW, reported_at=NOW
)


def shown(submission: Submission, bucket: str = "") -> str:
    """Return everything that the list shows of one submission."""
    message = history_message([submission], bucket, NOW, steps_of)
    assert message_problems(message["blocks"]) == []
    return "\n".join(texts_of(message["blocks"]))


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("state", State)
def test_every_state_of_every_task_has_words(state: State, task: Task) -> None:
    """States that are not final have words too, and so do states that a task cannot reach."""
    submission = replace(STORED, state=state, task=task, ended_at=NOW if state in ENDINGS else None)

    text = shown(submission)

    assert "<@U0ADA0001>" in text
    words = "Waiting for approval" if state is State.AWAITING_APPROVAL else "under way"
    assert (words in text) is (state not in ENDINGS)


def test_a_credential_that_no_longer_works_has_no_tick() -> None:
    """It was stored, and someone has to act: the list and the text for a screen reader both say so."""
    message = history_message([STORED], "", NOW, steps_of, broken=frozenset({STORED.id}))
    assert ":white_check_mark:" not in str(message)
    assert ":rotating_light: `lake` *stored, but no longer works*" in "\n".join(texts_of(message["blocks"]))
    assert message["text"].endswith("stored, but no longer works.")


LINES = {
    "stored": (STORED, "*stored*: <@U0ADA0001>"),
    "stored, with an alarm": (
        replace(STORED, confirmation=CredentialStatus.INVALID),
        ":rotating_light: `lake` *stored, but check it*",
    ),
    "superseded": (
        replace(STORED, state=State.SUPERSEDED, superseded_by="U0GRACE01"),
        "*replaced by a newer submission*",
    ),
    "enabling whose answer was lost": (
        replace(STORED, task=Task.ENABLE, state=State.FAILED, error_code="cloudflare_unreachable"),
        "*not known whether it was enabled (cloudflare_unreachable)*",
    ),
    "refused": (
        replace(STORED, state=State.REFUSED, error_code="token_expired"),
        "*refused (token_expired)*",
    ),
    "a dry run": (replace(STORED, task=Task.CHECK, state=State.CHECKED), "*checked, nothing changed*: <@U0ADA0001>"),
    "a dry run, refused": (
        replace(STORED, task=Task.CHECK, state=State.REFUSED, error_code="token_expired"),
        ", check only",
    ),
    "enabled": (
        replace(STORED, task=Task.ENABLE, state=State.ENABLED, findings=None),
        "*catalog enabled*: <@U0ADA0001>",
    ),
    "not enabled": (
        replace(STORED, task=Task.ENABLE, state=State.REFUSED, error_code="no_such_bucket", findings=None),
        ", to enable the catalog",
    ),
    "waiting": (
        replace(
            STORED,
            state=State.VERIFYING,
            ended_at=None,
            error_code="throttled",
            next_attempt_at=NOW + timedelta(minutes=1),
        ),
        "Cloudflare limits how many requests it takes from the bot.",
    ),
    "token": (STORED, f"token ending in `Zq9x`, token ID `{TOKEN.id}`"),
    "reason": (replace(STORED, reason="ticket 7"), "\n>ticket 7"),
    "markup": (replace(STORED, reason="<!channel> & <http://x|y>"), "&lt;!channel&gt; &amp; &lt;http://x|y&gt;"),
}


@pytest.mark.parametrize(("submission", "words"), LINES.values(), ids=LINES)
def test_each_line_reports_the_outcome(submission: Submission, words: str) -> None:
    """Who, for which bucket, with which token, and the outcome."""
    assert words in shown(submission)
    assert ".*:" not in shown(submission)


@pytest.mark.parametrize(("task", "state"), [(Task.CHECK, State.CHECKED), (Task.ENABLE, State.ENABLED)])
def test_the_outcome_is_said_once(task: Task, state: State) -> None:
    """As in: catalog enabled by Ada, to enable the catalog."""
    text = shown(replace(STORED, task=task, state=state))
    assert "check only" not in text
    assert "to enable" not in text


def test_enabling_names_no_token() -> None:
    """Enabling a catalog needs no token."""
    assert "token" not in shown(replace(STORED, task=Task.ENABLE, state=State.ENABLED, last_four=""))


def test_foreign_markup_has_no_effect() -> None:
    """@here or an address in a reason is plain text."""
    message = history_message([replace(STORED, reason="@here http://example.com")], "", NOW, steps_of)

    [line] = [block for block in message["blocks"] if block["type"] == "section" and "@here" in block["text"]["text"]]
    assert line["text"]["verbatim"] is True


@pytest.mark.parametrize(("bucket", "is_named"), [("", True), ("lake", False)])
def test_the_bucket_is_named_in_a_list_of_several(bucket: str, *, is_named: bool) -> None:
    """The history of a single bucket names it in the title."""
    [title, line, *_] = texts_of(history_message([STORED], bucket, NOW, steps_of)["blocks"])

    assert ("`lake`" in line) is is_named
    assert ("`lake`" in title) is not is_named


@pytest.mark.parametrize(("bucket", "whose"), [("", "any bucket that you may see"), ("lake", "`lake`")])
def test_an_empty_history_says_so(bucket: str, whose: str) -> None:
    """The answer is a whole sentence."""
    assert history_message([], bucket, NOW, steps_of)["text"] == f"Nothing was submitted yet for {whose}."


def test_the_summary_reports_the_newest() -> None:
    """A person who uses a screen reader hears what happened last."""
    text = history_message([STORED], "lake", NOW, steps_of)["text"]

    assert text.startswith("The last submissions for `lake`, newest first: <@U0ADA0001>'s for `lake` on ")
    assert text.endswith(": stored.")


def test_a_long_history_fits_into_a_message() -> None:
    """Slack accepts fifty blocks of three thousand characters."""
    longest = replace(STORED, reason="<" * 300, key=replace(STORED.key, bucket="x" * 63))

    message = history_message([longest] * 100, "", NOW, steps_of)

    assert message_problems(message["blocks"]) == []
    assert len([text for text in texts_of(message["blocks"]) if ">" in text]) == MOST_SHOWN


def test_an_unknown_cause_is_reported_as_such() -> None:
    """They exist after a downgrade: the list is still shown, and claims nothing."""
    failed = replace(STORED, state=State.FAILED, error_code="of_tomorrow")
    assert "(unknown_cause)" in shown(failed)
    waits = replace(STORED, state=State.VERIFYING, ended_at=None, error_code="of_tomorrow")
    waits = replace(waits, next_attempt_at=NOW + timedelta(minutes=1))
    assert "The bot does not know what this waits for. The bot tries again by itself at" in shown(waits)


def test_no_sealed_token_is_shown() -> None:
    """A submission in progress still has one, and no displayed value can contain it."""
    waiting = replace(STORED, state=State.VERIFYING, ended_at=None)

    assert not {field.name for field in fields(Submission)} & {"sealed", "sealed_token", "sealed_response_url"}
    assert "sealed" not in shown(waiting)


# Who sees it.
