"""What people read: whole sentences, valid blocks, nothing foreign unescaped, and no more than four characters."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.catalog import CredentialStatus
from bot.errors import (
    AccessRefused,
    BotError,
    CatalogRefusal,
    CloudflareTrouble,
    DatabaseUnavailable,
    MembershipUnknown,
    NeverSent,
    NotAllowed,
    OperatorError,
    Outsider,
    SealedValueUnreadable,
    SlackUnavailable,
    WhoseMove,
    error_of_code,
)
from bot.sandbox.block_rules import message_problems, view_problems
from bot.sandbox.blocks import texts_of
from bot.slack import replies
from bot.slack.replies import RedactedResult
from bot.submission import (
    ENDINGS,
    BucketKey,
    Confirmation,
    SealedResponseUrl,
    SealedToken,
    State,
    Submission,
    TokenKind,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SUBMISSION = Submission(
    id="V0MADEUP",
    state=State.STORED,
    team_id="T0SANDBOX",
    user_id="U0ADA0001",
    key=BucketKey(account_id="madeupaccount", bucket="lake"),
    channel_id="C0DATAPLT",
    reason="ticket 42",
    token_kind=TokenKind.ACCOUNT,
    last_four="Zq9x",
    sealed_token=SealedToken("sealed.v1.madeupkey.MADEUPTOKEN"),
    sealed_response_url=SealedResponseUrl("sealed.v1.madeupkey.MADEUPURL"),
    accepted_at=NOW,
    expires_at=NOW + timedelta(hours=1),
    next_attempt_at=NOW,
    attempts=1,
    possibly_written=True,
    confirm_until=NOW,
    ended_at=NOW + timedelta(seconds=2.34),
    error_code=None,
    cloudflare_code=None,
    cf_ray="madeupray-BOX",
    credential_before=CredentialStatus.PRESENT,
    confirmation=Confirmation.PRESENT,
    reported_at=None,
    superseded_by=None,
    epoch=0,
)


def _leaves(error: type[BotError]) -> set[type[BotError]]:
    return {error} if not error.__subclasses__() else set().union(*map(_leaves, error.__subclasses__()))


def _codes(*errors: type[BotError]) -> list[str]:
    return sorted(leaf.code for error in errors for leaf in _leaves(error))


DENIALS = sorted({leaf.code for leaf in _leaves(AccessRefused)} - {MembershipUnknown.code})
ENDED_BY: dict[State, list[str | None]] = {
    State.STORED: [None, *_codes(CloudflareTrouble)],
    State.REFUSED: [*_codes(CatalogRefusal)],
    State.DENIED: [*DENIALS],
    State.FAILED: [*_codes(OperatorError, CloudflareTrouble, SealedValueUnreadable, MembershipUnknown)],
    State.UNCERTAIN: [
        None,
        *_codes(CatalogRefusal, OperatorError, CloudflareTrouble, SealedValueUnreadable, AccessRefused),
    ],
    State.SUPERSEDED: [None],
    State.EXPIRED: [NeverSent.code],
}
"""Every ending with every error that `delivery` can record with it."""

ENDED = [
    pytest.param(
        replace(SUBMISSION, state=state, error_code=code, confirmation=None, cloudflare_code=12345 if code else None),
        id=f"{state}-{code}",
    )
    for state, codes in ENDED_BY.items()
    for code in codes
    if state is not State.SUPERSEDED
] + [
    pytest.param(
        replace(
            SUBMISSION, state=State.SUPERSEDED, confirmation=None, superseded_by="U0GRACE01", possibly_written=landed
        ),
        id=f"superseded, {fate}",
    )
    for landed, fate in ((False, "never sent"), (True, "sent before"))
]
STORED = [
    pytest.param(
        replace(SUBMISSION, confirmation=confirmation, credential_before=before),
        id=f"confirmed {confirmation}, before {before}",
    )
    for confirmation in (*Confirmation, None)
    for before in (*CredentialStatus, None)
]


def _read(blocks: list[dict[str, Any]]) -> str:
    return "\n".join(texts_of(blocks))


def _without_times(text: str) -> str:
    """Leave out what Slack shows as a time: signs of ours that are no sentence."""
    return re.sub(r"<!date\^[0-9]+\^{date_short_pretty} at {time}\|[0-9: -]+ UTC>", "then", text)


def _result(**changes: Any) -> RedactedResult:  # noqa: ANN401 - fields of a submission
    return RedactedResult.of(replace(SUBMISSION, **changes))


def _failed(error: type[BotError], **changes: Any) -> RedactedResult:  # noqa: ANN401 - fields of a submission
    return _result(state=State.FAILED, error_code=error.code, **changes)


def test_the_table_of_endings_is_complete() -> None:
    """A new ending, or an error of a new kind, has its row."""
    assert set(ENDED_BY) == ENDINGS
    recordable = (CatalogRefusal, OperatorError, CloudflareTrouble, SealedValueUnreadable, AccessRefused, NeverSent)
    assert {code for codes in ENDED_BY.values() for code in codes if code} == set(_codes(*recordable))


@pytest.mark.parametrize("contact", ["", "S0PLATFORM", "the & team " * 20])
@pytest.mark.parametrize("submission", ENDED + STORED)
def test_every_ending_is_told_in_whole_sentences_and_valid_blocks(submission: Submission, contact: str) -> None:
    """In the channel and in the modal, with whatever contact."""
    result = RedactedResult.of(submission)
    message = replies.result_message(result, contact=contact, placement="Posted this way for a test.")
    view = replies.result_view(result, contact=contact)
    assert message_problems(message["blocks"]) == []
    assert view_problems(view) == []
    assert set(message) == {"text", "blocks"}
    for text in map(_without_times, (message["text"], result.explanation)):
        assert re.match(r"<@|[A-Z]", text)
        assert text.endswith(".")
        assert not re.search(r"  |\.\.|None|[{}]|\. [a-z]|Optional|State\.", text), text
    for part in result.explanation.split(". "):
        assert re.match(r"<@|[A-Z]", part)
    assert result.explanation in message["text"]
    assert result.explanation in _read(message["blocks"])
    assert result.explanation in _read(view["blocks"])
    assert message["text"].endswith("Posted this way for a test.")


@pytest.mark.parametrize("submission", ENDED + STORED)
def test_unchanged_is_said_where_it_is_true_and_nowhere_else(submission: Submission) -> None:
    """A result after which the slot may hold the token never speaks of nothing changed."""
    message = replies.result_message(RedactedResult.of(submission), contact="")
    is_unchanged = submission.state not in {State.STORED, State.UNCERTAIN, State.SUPERSEDED}
    assert ("nothing was changed" in message["text"]) is is_unchanged
    assert ("nothing changed" in _read(message["blocks"])) is is_unchanged
    if submission.state is State.UNCERTAIN:
        assert not re.search(r"nothing was|not sent|unchanged", message["text"])


@pytest.mark.parametrize("submission", ENDED)
def test_there_is_one_move_and_it_is_clear_whose(submission: Submission) -> None:
    """The person is told to do one thing, or whom to ask; not two things that contradict each other."""
    result = RedactedResult.of(submission)
    text = replies.result_message(result, contact="S0PLATFORM")["text"]
    asks = result.error is not None and result.error.whose_move is WhoseMove.OPERATOR
    assert ("Please ask <!subteam^S0PLATFORM>." in text) is asks
    assert text.count("Your move:") <= 1
    if submission.state not in {State.STORED, State.DENIED}:
        assert "Your move:" in text or "has to" in text or asks


@pytest.mark.parametrize("submission", ENDED + STORED)
def test_nothing_is_shown_of_the_token_but_its_kind_and_last_four(submission: Submission) -> None:
    """Not sealed either, and neither is the response URL; the account stays inside as well."""
    result = RedactedResult.of(submission)
    shown = json.dumps([replies.result_message(result, contact=""), replies.result_view(result, contact="")])
    assert "ending in `Zq9x`" in shown
    for hidden in ("sealed.v1", "MADEUP" + "TOKEN", "MADEUP" + "URL", "madeupkey", "madeupaccount", "T0SANDBOX"):
        assert hidden not in shown
        assert hidden not in repr(result)


@pytest.mark.parametrize("submission", ENDED + STORED)
def test_foreign_text_is_escaped_everywhere(submission: Submission) -> None:
    """What a person typed or Cloudflare answered cannot call a channel or pose as a link."""
    foreign = "<!channel> & <https://example.com|x>"
    key = BucketKey(account_id="made-up", bucket=foreign)
    hostile = replace(submission, id=foreign, key=key, reason=foreign, last_four="<&>`", cf_ray=foreign)
    result = RedactedResult.of(hostile)
    message = replies.result_message(result, contact=foreign, placement="")
    view = replies.result_view(result, contact=foreign)
    for text in map(_without_times, (message["text"], _read(message["blocks"][:3]), _read(view["blocks"]))):
        assert "<!" not in text
        assert "<http" not in text
        assert not re.search(r"&(?!amp;|lt;|gt;)", text.replace("Read & Write", ""))
        assert re.findall(r"<[^@]", text) == []
    assert message_problems(message["blocks"]) == []


def test_the_longest_input_fits_into_slacks_limits() -> None:
    """Escaping makes a text up to five times longer."""
    for code in ENDED_BY[State.UNCERTAIN]:
        result = _result(state=State.UNCERTAIN, error_code=code, reason="&" * 300, cf_ray="r" * 31)
        message = replies.result_message(result, contact="&" * 200, placement="&" * 200)
        assert message_problems(message["blocks"]) == []
        assert len(message["text"]) < 4000


@pytest.mark.parametrize("state", sorted(ENDINGS))
def test_a_button_to_try_again_stands_on_what_was_no_success(state: State) -> None:
    """It carries the bucket, and nothing else; a success has none, nor has what gave way to a newer one."""
    code = ENDED_BY[state][0]
    blocks = replies.result_message(_result(state=state, error_code=code), contact="")["blocks"]
    buttons = [element for block in blocks if block["type"] == "actions" for element in block["elements"]]
    assert [(button["action_id"], button["value"]) for button in buttons] == (
        [] if state in {State.STORED, State.SUPERSEDED} else [(replies.TRY_AGAIN, "lake")]
    )


def test_every_error_that_is_tried_again_has_a_sentence_for_the_end_of_trying() -> None:
    """Its own sentence promises another try, which would be untrue in a final message."""
    for error in _leaves(CloudflareTrouble) | {MembershipUnknown}:
        for state in (State.FAILED, State.UNCERTAIN):
            explanation = _result(state=state, error_code=error.code).explanation
            assert error.user_message not in explanation
            assert "tries again" not in explanation
            assert "Try again" not in explanation


def test_a_stop_without_an_answer_is_told_as_such() -> None:
    """Killed with a request out, the bot knows no error to tell."""
    assert "stopped before it had an answer" in _result(state=State.UNCERTAIN, error_code=None).explanation


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(NotAllowed, "You are not on the list", id="no longer allowed"),
        pytest.param(error_of_code("credential_refused"), "submit that one", id="refused later"),
        pytest.param(SealedValueUnreadable, "can no longer open", id="no longer to be opened"),
    ],
)
def test_an_uncertain_ending_does_not_contradict_itself(error: type[BotError], expected: str) -> None:
    """Who is told to use another token is not told in one breath to submit the same one again."""
    explanation = _result(state=State.UNCERTAIN, error_code=error.code).explanation
    assert expected in explanation
    assert "got no clear answer, so the slot may hold it" in explanation
    assert "the same token again" not in explanation


@pytest.mark.parametrize(
    ("confirmation", "before", "expected"),
    [
        pytest.param(Confirmation.PRESENT, CredentialStatus.PRESENT, "present \u2192 present", id="replaced"),
        pytest.param(Confirmation.PRESENT, CredentialStatus.ABSENT, "none \u2192 present", id="the first one"),
        pytest.param(Confirmation.ABSENT, CredentialStatus.UNKNOWN, "not known \u2192 none", id="an alarm"),
        pytest.param(None, None, "not known \u2192 not known", id="nothing known"),
    ],
)
def test_the_slot_before_and_after_is_told(
    confirmation: Confirmation | None, before: CredentialStatus | None, expected: str
) -> None:
    """In three words, for a success only."""
    result = _result(confirmation=confirmation, credential_before=before)
    assert expected in _read(replies.result_message(result, contact="")["blocks"])
    failed = _failed(error_of_code("throttled"), credential_before=before)
    assert "as last listed" not in _read(replies.result_message(failed, contact="")["blocks"])


@pytest.mark.parametrize(
    ("landed", "fate"),
    [
        pytest.param(False, "This token was never stored.", id="never sent"),
        pytest.param(True, "An earlier request with this token got no clear answer", id="sent before"),
    ],
)
def test_who_was_superseded_reads_by_whom_and_when(fate: str, *, landed: bool) -> None:
    """The time in the reader's own zone, with UTC for what cannot show that; and whether the token went out."""
    result = _result(
        state=State.SUPERSEDED,
        confirmation=None,
        superseded_by="U0GRACE01",
        possibly_written=landed,
        ended_at=datetime(2026, 11, 20, 12, 34, 56, 999999, tzinfo=UTC),
    )
    message = replies.result_message(result, contact="S0PLATFORM")
    assert message["text"].startswith(
        "The credential that <@U0ADA0001> submitted for `lake` gave way to a newer one. "
        "<@U0GRACE01> submitted a newer one for the same catalog"
    )
    assert "(<!date^1795178096^{date_short_pretty} at {time}|2026-11-20 12:34 UTC>)" in message["text"]
    assert fate in message["text"]
    assert message["text"].endswith("Nobody has to do anything.")
    assert ":arrows_counterclockwise: *Gave way to a newer credential*" in _read(message["blocks"])
    assert replies.result_view(result, contact="")["title"]["text"] == "Gave way to a newer one"


def test_an_empty_slot_after_a_success_is_an_alarm() -> None:
    """The title is not that of a plain success, and the operator is to look."""
    message = replies.result_message(_result(confirmation=Confirmation.ABSENT), contact="")
    assert ":warning: *Credential stored, but look at it*" in _read(message["blocks"])
    assert "still says that the slot is empty" in message["text"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, "error caller_rejected \u00b7 Ray ID madeupray-BOX", id="a Ray ID"),
        pytest.param({"cloudflare_code": 10000}, "Cloudflare code 10000 \u00b7 Ray ID", id="a code"),
        pytest.param({"cloudflare_code": 0}, "Cloudflare code 0", id="the code 0"),
        pytest.param({"cf_ray": None}, "error caller_rejected", id="neither"),
    ],
)
def test_a_failure_names_what_support_asks_for(changes: dict[str, Any], expected: str) -> None:
    """The reference of the log, the code of the error, Cloudflare's code and Ray ID where there are any."""
    small_print = replies.result_message(_failed(error_of_code("caller_rejected"), **changes), contact="")["blocks"][2]
    assert _read([small_print]).startswith("Reference V0MADEUP")
    assert expected in _read([small_print])
    assert "None" not in _read([small_print])


def test_a_success_names_no_error() -> None:
    """Not even one that was overcome on the way."""
    blocks = replies.result_message(_result(error_code="throttled", cloudflare_code=971), contact="")["blocks"]
    assert _read([blocks[2]]) == "Reference V0MADEUP \u00b7 took 2.3 s"


@pytest.mark.parametrize(
    ("took", "expected"),
    [
        pytest.param(timedelta(0), "took 0 ms", id="no time"),
        pytest.param(timedelta(milliseconds=420), "took 420 ms", id="a moment"),
        pytest.param(timedelta(seconds=1), "took 1.0 s", id="a second"),
        pytest.param(timedelta(seconds=59.94), "took 59.9 s", id="under a minute"),
        pytest.param(timedelta(seconds=60), "took 1 min 0 s", id="a minute"),
        pytest.param(timedelta(minutes=59, seconds=59.9), "took 59 min 59 s", id="nearly an hour"),
        pytest.param(timedelta(seconds=-5), "took 0 ms", id="a clock that was set back"),
    ],
)
def test_the_time_taken_is_told(took: timedelta, expected: str) -> None:
    """In milliseconds, seconds, or minutes and seconds."""
    blocks = replies.result_message(_result(ended_at=NOW + took), contact="")["blocks"]
    assert expected in _read([blocks[2]])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        pytest.param(TokenKind.USER, "user API token ending in", id="user"),
        pytest.param(TokenKind.ACCOUNT, "account API token ending in", id="account"),
        pytest.param(TokenKind.UNPREFIXED, "API token ending in", id="unprefixed"),
        pytest.param(TokenKind.UNKNOWN, "token ending in", id="of a kind that is new"),
    ],
)
def test_the_kind_of_the_token_is_told(kind: TokenKind, words: str) -> None:
    """By its shape, in words."""
    assert f"*Token*\n{words}" in _read(replies.result_message(_result(token_kind=kind), contact="")["blocks"])


def test_a_reason_is_shown_when_there_is_one() -> None:
    """An empty field is left out."""
    assert "*Reason*\nticket 42" in _read(replies.result_message(_result(), contact="")["blocks"])
    assert "*Reason*" not in _read(replies.result_message(_result(reason=""), contact="")["blocks"])


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        pytest.param("U0ADA0001", "<@U0ADA0001>", id="a user"),
        pytest.param("W0ADA0001", "<@W0ADA0001>", id="a user of an organization"),
        pytest.param("S0DATAENG", "<!subteam^S0DATAENG>", id="a user group"),
        pytest.param("C0DATAPLT", "<#C0DATAPLT>", id="a channel"),
        pytest.param("the platform team", "the platform team", id="words"),
        pytest.param("SECURITY", "SECURITY", id="a team in capitals"),
        pytest.param("SRE", "SRE", id="a short team"),
        pytest.param("PLATFORM1", "PLATFORM1", id="a word with a number"),
        pytest.param("u0ada0001", "u0ada0001", id="small letters"),
        pytest.param("ops@example.com", "ops@example.com", id="an address"),
        pytest.param("<!channel>", "&lt;!channel&gt;", id="a mention of everybody"),
        pytest.param("U0ADA0001>", "U0ADA0001&gt;", id="an id with a tail"),
    ],
)
def test_the_contact_is_a_mention_or_a_text(contact: str, expected: str) -> None:
    """Ids become what Slack makes a name of; everything else is shown as it is."""
    assert replies.mention(contact) == expected
    assert f"Please ask {expected}." in replies.refusal(NotAllowed(), contact=contact)


@pytest.mark.parametrize(
    ("error", "asks"),
    [
        *(
            pytest.param(leaf(), leaf is not MembershipUnknown, id=leaf.code)
            for leaf in sorted(_leaves(AccessRefused), key=lambda leaf: leaf.code)
        ),
        pytest.param(SlackUnavailable(), False, id="slack_unavailable"),
        pytest.param(DatabaseUnavailable(), False, id="database_unavailable"),
    ],
)
def test_a_refusal_says_why_and_whom_to_ask(error: BotError, *, asks: bool) -> None:
    """Somebody to ask where somebody can change it; names no list and no other person."""
    told = replies.refusal(error, contact="")
    assert told.startswith(error.user_message)
    assert told.endswith("Please ask whoever runs this bot." if asks else error.user_message)


def test_an_outsider_is_refused_in_plain_words() -> None:
    """Friendly, and with the reason."""
    assert "another one" in replies.refusal(Outsider(), contact="")


@pytest.mark.parametrize(
    ("state", "marks"),
    [
        pytest.param(State.ACCEPTED, [":white_circle:", ":white_circle:"], id="accepted"),
        pytest.param(State.STORING, [":hourglass_flowing_sand:", ":white_circle:"], id="storing"),
        pytest.param(State.CONFIRMING, [":white_check_mark:", ":hourglass_flowing_sand:"], id="confirming"),
        pytest.param(State.STORED, [":white_check_mark:", ":white_check_mark:"], id="stored"),
    ],
)
def test_progress_ticks_one_step_after_the_other(state: State, marks: list[str]) -> None:
    """Each with a mark of its own, in a view without any input."""
    view = replies.progress_view("<lake>", state)
    assert view_problems(view) == []
    assert re.findall(r":[a-z_]+:", _read([view["blocks"][1]])) == marks
    assert "*&lt;lake&gt;*" in _read(view["blocks"])
    assert all(block["type"] != "input" for block in view["blocks"])
    assert "submit" not in view


def test_a_notice_is_a_valid_view() -> None:
    """It has a title, a text and a way out."""
    view = replies.notice_view("Nothing was sent", "Made up for a test.")
    assert view_problems(view) == []
    assert _read(view["blocks"]) == "Made up for a test."


def test_help_names_the_command_and_warns_of_the_wrong_place() -> None:
    """Slack keeps what is typed behind a command."""
    assert "/r2-credential BUCKET" in replies.help_text()
    assert "never behind the command" in replies.help_text()


def test_an_unended_submission_took_no_time_yet() -> None:
    """Whatever asks too early gets no error."""
    assert _result(ended_at=None).took == timedelta(0)
