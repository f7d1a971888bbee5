"""What is said of a rotation: nobody pasted its token, so no sentence may speak as if somebody had."""

import re
from datetime import timedelta

import pytest

from bot.model.catalog import CredentialStatus
from bot.model.errors import BotError, Transient, leaves
from bot.model.origin import id_in_fleet, id_of_healing, id_of_scheduled
from bot.model.predecessor import Fate, Predecessor
from bot.model.submission import ENDINGS, State, Submission, Task
from bot.slack.blocks import date
from bot.slack.messages import render
from bot.slack.messages.explanation import EARLIER_REQUEST, NO_CLEAR_ANSWER, explain, find_cause, list_fixes
from bot.slack.messages.history import history_message
from bot.slack.messages.redacted import RedactedProgress, RedactedResult
from bot.slack.progress_steps import steps_of
from tests.make import FINDINGS, NOW, TOKEN, make_submission
from tests.slack.messages.test_outcome import ROTATED, ended, find_faults
from tests.slack.messages.test_sentences import MOST_WORDS, count_words

LEAVES = sorted(leaves(BotError), key=lambda kind: kind.__name__)
UNWRITTEN = sorted(ENDINGS - {State.STORED, State.CHECKED, State.ENABLED, State.SUPERSEDED})
_OF_A_PASTED_ONE = re.compile(
    r"\bpast(?:e|ed)\b|\bcopy\b|your token|\bsubmit|(?-i:Create (?:a|another|one))\b|"
    r"(?:this|same|another) token|erased",
    re.IGNORECASE,
)


def say(submission: Submission) -> str:
    """Return everything that the message and the modal say, but for the buttons."""
    result = RedactedResult.of(submission)
    message = render.result_message(result, contact="")
    blocks = [block for block in message["blocks"] if block["type"] != "actions"]
    return "\n".join([message["text"], str(blocks)])


@pytest.mark.parametrize("state", UNWRITTEN)
@pytest.mark.parametrize("kind", LEAVES)
def test_no_error_speaks_of_a_token_that_somebody_pasted(kind: type[BotError], state: State) -> None:
    """Whatever can end a rotation, now or later: of the whole tree."""
    said = say(ended(Task.ROTATE, state, kind.code))
    assert _OF_A_PASTED_ONE.findall(said.replace("replaced by a newer submission", "")) == []


@pytest.mark.parametrize("state", UNWRITTEN)
@pytest.mark.parametrize("kind", LEAVES)
def test_each_error_ends_a_rotation_in_whole_and_few_sentences(kind: type[BotError], state: State) -> None:
    """The sentences are other ones, and are held to the same rules."""
    result = RedactedResult.of(ended(Task.ROTATE, state, kind.code))
    assert find_faults(explain(result)) == []
    behind = find_cause(result).removeprefix(EARLIER_REQUEST).removeprefix(NO_CLEAR_ANSWER)
    assert sum(map(count_words, (behind, *list_fixes(result)))) <= MOST_WORDS


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if issubclass(kind, Transient)])
def test_a_wait_of_a_rotation_speaks_of_no_pasted_token(kind: type[BotError]) -> None:
    """The same holds for the modal while the bot retries."""
    waiting = make_submission(
        task=Task.ROTATE, state=State.MINTING, error_code=kind.code, next_attempt_at=NOW + timedelta(seconds=30)
    )
    progress = RedactedProgress.of(waiting, NOW, steps_of(Task.ROTATE))
    assert progress.waiting
    assert not _OF_A_PASTED_ONE.search(progress.waiting)


@pytest.mark.parametrize("submission", ROTATED)
def test_nothing_is_revoked_unless_the_new_one_is_proven(submission: Submission) -> None:
    """And the message says so."""
    said = find_cause(RedactedResult.of(submission))
    is_proven = submission.confirmation is CredentialStatus.VALID
    assert ("nothing is revoked" in said) is not is_proven
    assert ("It is stored and tested" in said) is is_proven


FATES = {
    "to be revoked": (
        Predecessor(fate=Fate.TO_BE_REVOKED, revoked_at=NOW),
        f"The previous one is revoked on {date(NOW)}.",
    ),
    "revoked meanwhile": (Predecessor(fate=Fate.REVOKED), "The previous one is revoked."),
    "not ours": (Predecessor(fate=Fate.FOREIGN), "The previous one was not made by the bot, and stays."),
    "not known": (Predecessor(fate=Fate.NOT_KNOWN), "The bot had no other token there to revoke."),
}


@pytest.mark.parametrize(("predecessor", "sentence"), FATES.values(), ids=FATES)
def test_the_message_says_what_becomes_of_the_previous_token(predecessor: Predecessor, sentence: str) -> None:
    """Behind the proof, in the message, its plain text and the modal; the time in the reader's time zone."""
    result = RedactedResult.of(ended(Task.ROTATE, State.STORED, None), predecessor)
    expected = f"It is stored and tested: Cloudflare confirms that it works. {sentence}"
    assert find_cause(result) == expected
    assert expected in render.result_message(result, contact="")["text"]
    assert expected in str(render.result_view(result, contact="")["blocks"])
    assert find_faults(find_cause(result)) == []
    assert count_words(find_cause(result)) <= MOST_WORDS


def test_a_slot_that_was_empty_had_nothing_to_revoke() -> None:
    """Also one whose credential no longer worked."""
    for before, words in ((CredentialStatus.ABSENT, "There was none before."), (CredentialStatus.INVALID, "no longer")):
        findings = FINDINGS.__class__(token=TOKEN, unchecked=frozenset(), credential=before)
        assert words in find_cause(RedactedResult.of(ended(Task.ROTATE, State.STORED, None, findings=findings)))


@pytest.mark.parametrize(
    ("submission_id", "by", "described"),
    [
        pytest.param(id_of_scheduled("lake", 7), "by the schedule.", "The schedule", id="schedule"),
        pytest.param(
            id_of_healing("r2-credential-bot 0a1b2c3d lake 0123456789", 1),
            "by the bot itself.",
            "The bot itself, since the slot needed a token that was to be revoked",
            id="healing",
        ),
        pytest.param(id_in_fleet("f1", "lake"), "by <@U0ADA0001>.", "<@U0ADA0001>", id="fleet"),
        pytest.param("V0MADEUP", "by <@U0ADA0001>.", "<@U0ADA0001>", id="a person"),
    ],
)
def test_the_message_says_who_asked(submission_id: str, by: str, described: str) -> None:
    """Nobody is named for what nobody pressed: that person is only who is told."""
    rotated = ended(Task.ROTATE, State.STORED, None, id=submission_id)
    message = render.result_message(RedactedResult.of(rotated), contact="")
    assert message["text"].startswith(f"The credential of the catalog of `lake` was rotated {by}")
    assert f"*By*\n{described}" in [field["text"] for block in message["blocks"] for field in block.get("fields", [])]
    listed = str(history_message([rotated], "", NOW, steps_of)["blocks"])
    assert by.removeprefix("by ").removesuffix(".") in listed


def test_a_minted_token_has_an_id_and_an_expiry_and_no_last_characters() -> None:
    """Nobody could compare them with anything."""
    said = say(ended(Task.ROTATE, State.STORED, None))
    assert "account API token, made by the bot" in said
    assert TOKEN.id in said
    assert "*Expires*" in said
    assert "ending in" not in said


@pytest.mark.parametrize("ending", [State.FAILED, State.DENIED, State.EXPIRED, State.SUPERSEDED])
def test_a_token_that_was_minted_in_vain_is_not_left_to_anybody(ending: State) -> None:
    """Its id and a far expiry alone would look like a token to be taken care of; one that may be in a slot stays."""
    assert "made by the bot, which deletes it" in say(ended(Task.ROTATE, ending, None))
    for kept in (State.STORED, State.UNCERTAIN):
        assert "which deletes it" not in say(ended(Task.ROTATE, kept, None))


@pytest.mark.parametrize(
    ("state", "decided_by", "label"),
    [
        pytest.param(State.ACCEPTED, None, "Make a token for this bucket", id="accepted"),
        pytest.param(State.MINTING, None, "Make a token for this bucket", id="minting"),
        pytest.param(State.MINTED, None, "Verify the token and the catalog", id="minted"),
        pytest.param(State.VERIFYING, None, "Verify the token and the catalog", id="verifying"),
        pytest.param(State.STORING, None, "Store it at Cloudflare", id="storing"),
        pytest.param(State.CONFIRMING, None, "Confirm that the stored credential works", id="confirming"),
        pytest.param(State.AWAITING_APPROVAL, None, "Wait for an approval", id="awaiting"),
        pytest.param(State.AWAITING_APPROVAL, "U0GRACE01", "Make a token for this bucket", id="approved"),
        pytest.param(State.VERIFYING, "U0GRACE01", "Verify the token and the catalog", id="verifying, approved"),
    ],
)
def test_the_progress_shows_the_step_that_runs(state: State, decided_by: str | None, label: str) -> None:
    """Making the token comes first, and an approval before it."""
    asked_in = "C0DATAPLT" if decided_by or state is State.AWAITING_APPROVAL else None
    running = make_submission(task=Task.ROTATE, state=state, decided_by=decided_by, approval_channel=asked_in)
    view = render.progress_view(RedactedProgress.of(running, NOW, steps_of(Task.ROTATE)))
    lines = view["blocks"][1]["text"]["text"].splitlines()
    assert [line.split("  ")[1] for line in lines if line.startswith(":hourglass_flowing_sand:")] == [label]


def test_a_token_that_cloudflare_does_not_know_yet_is_waited_for_in_words() -> None:
    """The reader sees that this is normal."""
    waiting = make_submission(
        task=Task.ROTATE,
        state=State.VERIFYING,
        error_code="catalog_out_of_reach",
        next_attempt_at=NOW + timedelta(seconds=5),
    )
    assert RedactedProgress.of(waiting, NOW, steps_of(Task.ROTATE)).waiting.startswith(
        "Waiting for Cloudflare to know this token: a new one can take up to a minute."
    )


def test_while_a_token_is_made_no_time_is_promised() -> None:
    """Another process tries it every few seconds; the delivery's own time is that of giving up, an hour away."""
    waiting = make_submission(
        task=Task.ROTATE,
        state=State.MINTING,
        error_code="cloudflare_unavailable",
        next_attempt_at=NOW + timedelta(hours=1),
    )
    said = RedactedProgress.of(waiting, NOW, steps_of(Task.ROTATE)).waiting
    assert said.startswith("Cloudflare is having problems. The bot goes on trying until <!date^")
    assert "tries again" not in said
