"""The texts of each ending: the sentence, what could be proven, remarks, and who has to act."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.cloudflare.errors import (
    CatalogRefusal,
    CloudflareTrouble,
    OperatorError,
    Refusal,
    Throttled,
    TokenRefusal,
    UnexplainedRefusal,
)
from bot.cloudflare.minting_errors import RotationError
from bot.delivery.plan import PLANS
from bot.model.catalog import CredentialStatus
from bot.model.errors import (
    AccessRefused,
    ApprovalNotAsked,
    BotError,
    DatabaseRestored,
    DatabaseTrouble,
    DatabaseUnavailable,
    DeadlineReached,
    MembershipUnknown,
    NeverSent,
    NotAllowed,
    NotApproved,
    NotApprovedInTime,
    NotMintedInTime,
    PersonUnknown,
    SealedValueUnreadable,
    SlackTrouble,
    Transient,
    WhoActs,
    error_of_code,
    leaves,
)
from bot.model.submission import ENDINGS, Check, Findings, State, Submission, Task, TokenFacts, TokenKind
from bot.slack.messages.explanation import EXPIRES_SOON, expiry, explain, list_unchecked, list_warnings
from bot.slack.messages.outcome import OUTCOMES, TASK_WORDS
from bot.slack.messages.redacted import RedactedProgress, RedactedResult
from bot.slack.progress_steps import steps_of
from tests.make import FINDINGS, NOW, TOKEN, make_ended_submission

DAY = timedelta(days=1)
SUBMISSION = make_ended_submission(
    reason="ticket 42", confirm_until=NOW, ended_at=NOW + timedelta(seconds=2.34), cf_ray="madeupray-BOX"
)


def _codes(*errors: type[BotError]) -> list[str]:
    return sorted(leaf.code for error in errors for leaf in leaves(error))


_DENIALS = [code for code in _codes(AccessRefused) if code not in {MembershipUnknown.code, PersonUnknown.code}]
_FAILURES = _codes(
    OperatorError,
    UnexplainedRefusal,
    CloudflareTrouble,
    DatabaseTrouble,
    MembershipUnknown,
    PersonUnknown,
    DeadlineReached,
)
_UNREADABLE = _codes(SealedValueUnreadable)
_UNASKED, _UNAPPROVED = _codes(ApprovalNotAsked), _codes(NotApproved)
_LATE: dict[State, Sequence[str | None]] = {
    State.DENIED: _DENIALS,
    State.EXPIRED: [NeverSent.code, DatabaseRestored.code],
}
_NOT_APPROVED: dict[State, Sequence[str | None]] = {
    State.DENIED: [*_DENIALS, *_UNAPPROVED],
    State.EXPIRED: [*_LATE[State.EXPIRED], NotApprovedInTime.code],
}
ENDED_BY: dict[Task, dict[State, Sequence[str | None]]] = {
    Task.STORE: _NOT_APPROVED
    | {
        State.STORED: [None],
        State.REFUSED: _codes(Refusal),
        State.FAILED: [*_FAILURES, *_UNREADABLE, *_UNASKED],
        State.UNCERTAIN: [None, *_codes(Refusal, DatabaseRestored), *_DENIALS, *_UNAPPROVED, *_FAILURES, *_UNREADABLE],
        State.SUPERSEDED: [None],
    },
    Task.CHECK: _LATE
    | {State.CHECKED: [None], State.REFUSED: _codes(Refusal), State.FAILED: [*_FAILURES, *_UNREADABLE]},
    Task.ROTATE: _NOT_APPROVED
    | {
        State.STORED: [None],
        State.REFUSED: _codes(Refusal),
        State.FAILED: [*_FAILURES, *_UNREADABLE, *_UNASKED],
        State.UNCERTAIN: [None, *_codes(Refusal, DatabaseRestored), *_DENIALS, *_UNAPPROVED, *_FAILURES, *_UNREADABLE],
        State.SUPERSEDED: [None],
        State.EXPIRED: [*_LATE[State.EXPIRED], NotApprovedInTime.code, NotMintedInTime.code],
    },
    Task.ENABLE: _NOT_APPROVED
    | {State.ENABLED: [None], State.REFUSED: _codes(Refusal), State.FAILED: [*_FAILURES, *_UNASKED]},
}
"""Every ending of every task, with every error that `delivery` can record with it."""

_OF_TASK: dict[Task, dict[str, Any]] = {
    Task.STORE: {},
    Task.ROTATE: {"last_four": ""},
    Task.CHECK: {"possibly_written": False, "confirm_until": None},
    Task.ENABLE: {
        "possibly_written": False,
        "confirm_until": None,
        "findings": None,
        "token_kind": TokenKind.EMPTY,
        "last_four": "",
        "reason": "",
    },
}


def ended(task: Task, state: State, code: str | None, **changes: Any) -> Submission:  # noqa: ANN401 - its fields
    """Return a submission with this ending."""
    fields: dict[str, Any] = {
        "task": task,
        "state": state,
        "error_code": code,
        "confirmation": CredentialStatus.VALID if state is State.STORED else None,
        "superseded_by": "U0GRACE01" if state is State.SUPERSEDED else None,
        "possibly_written": state in {State.STORED, State.UNCERTAIN},
    }
    return replace(SUBMISSION, **(_OF_TASK[task] | fields | changes))


ENDED = [
    pytest.param(ended(task, state, code, cloudflare_code=12345 if code else None), id=f"{task}-{state}-{code}")
    for task, states in ENDED_BY.items()
    for state, codes in states.items()
    for code in codes
] + [pytest.param(ended(Task.STORE, State.SUPERSEDED, None, possibly_written=True), id="superseded, sent before")]
STORED = [
    pytest.param(
        replace(SUBMISSION, confirmation=confirmation, findings=replace(FINDINGS, credential=before)),
        id=f"confirmed {confirmation}, before {before}",
    )
    for confirmation in (*CredentialStatus, None)
    for before in CredentialStatus
]
ROTATED = [
    pytest.param(
        ended(Task.ROTATE, State.STORED, None, confirmation=confirmation), id=f"rotated, confirmed {confirmation}"
    )
    for confirmation in (*CredentialStatus, None)
]


def result_of(**changes: Any) -> RedactedResult:  # noqa: ANN401 - fields of a submission
    """Return the redacted form of a stored submission with some other fields."""
    return RedactedResult.of(replace(SUBMISSION, **changes))


def without_times(text: str) -> str:
    """Remove Slack's time markup: characters of ours that are no sentence."""
    return re.sub(r"<!date\^[0-9]+\^\{[^<>]+\|[0-9: -]+ UTC>", "then", text)


def find_faults(text: str) -> list[str]:
    """Return the parts of a text that are no whole sentence."""
    text = without_times(text)
    faults = re.findall(r"  |\.\.|None|[{}]|\. [a-z]|Optional|State\.|Task\.|^[^<A-Z]|[^.]$", text)
    return faults + [part for part in text.split(". ") if not re.match(r'<@|[A-Z"]', part)]


def test_the_table_of_endings_is_complete() -> None:
    """A new task, ending or error class has its row."""
    assert set(ENDED_BY) == set(Task)
    assert {state for states in ENDED_BY.values() for state in states} == ENDINGS
    recordable = (
        Refusal,
        OperatorError,
        UnexplainedRefusal,
        CloudflareTrouble,
        DatabaseTrouble,
        AccessRefused,
        SealedValueUnreadable,
        NotApproved,
        ApprovalNotAsked,
    )
    listed = {code for states in ENDED_BY.values() for codes in states.values() for code in codes if code}
    given_up = (NeverSent, NotApprovedInTime, NotMintedInTime, DeadlineReached)
    assert listed == set(_codes(*recordable, *given_up, DatabaseRestored))


_NOT_STORED = "The credential that <@U0ADA0001> submitted for `lake` was not stored; nothing was changed."
_NOT_CHECKED = "The token that <@U0ADA0001> submitted for `lake` could not be checked; nothing was changed."
_NOT_ENABLED = "The catalog of `lake`, which <@U0ADA0001> wanted to enable, was not enabled."
_NOT_ROTATED = "The rotation of `lake` that <@U0ADA0001> asked for did not succeed; nothing was changed."
HEADLINES: dict[tuple[Task, State], str] = {
    (Task.STORE, State.STORED): "<@U0ADA0001> stored a new credential for the catalog of `lake`.",
    (Task.STORE, State.REFUSED): _NOT_STORED,
    (Task.STORE, State.DENIED): _NOT_STORED,
    (Task.STORE, State.FAILED): _NOT_STORED,
    (Task.STORE, State.EXPIRED): _NOT_STORED,
    (Task.STORE, State.UNCERTAIN): (
        "It is not known whether the credential that <@U0ADA0001> submitted for `lake` was stored."
    ),
    (Task.STORE, State.SUPERSEDED): (
        "The credential that <@U0ADA0001> submitted for `lake` was replaced by a newer submission."
    ),
    (Task.ROTATE, State.STORED): "The credential of the catalog of `lake` was rotated by <@U0ADA0001>.",
    (Task.ROTATE, State.REFUSED): _NOT_ROTATED,
    (Task.ROTATE, State.DENIED): _NOT_ROTATED,
    (Task.ROTATE, State.FAILED): _NOT_ROTATED,
    (Task.ROTATE, State.EXPIRED): _NOT_ROTATED,
    (Task.ROTATE, State.UNCERTAIN): (
        "It is not known whether the new token was stored by the rotation of `lake` that <@U0ADA0001> asked for."
    ),
    (Task.ROTATE, State.SUPERSEDED): (
        "The rotation of `lake` that <@U0ADA0001> asked for was replaced by a newer submission."
    ),
    (Task.CHECK, State.CHECKED): (
        "The token that <@U0ADA0001> had checked for `lake` passed every check before the write; nothing was changed."
    ),
    (Task.CHECK, State.REFUSED): (
        "The token that <@U0ADA0001> had checked for `lake` did not pass every check; nothing was changed."
    ),
    (Task.CHECK, State.DENIED): _NOT_CHECKED,
    (Task.CHECK, State.FAILED): _NOT_CHECKED,
    (Task.CHECK, State.EXPIRED): _NOT_CHECKED,
    (Task.ENABLE, State.ENABLED): "<@U0ADA0001> enabled the catalog of `lake`.",
    (Task.ENABLE, State.REFUSED): _NOT_ENABLED,
    (Task.ENABLE, State.DENIED): _NOT_ENABLED,
    (Task.ENABLE, State.FAILED): _NOT_ENABLED,
    (Task.ENABLE, State.EXPIRED): _NOT_ENABLED,
}


@pytest.mark.parametrize(("task", "state"), HEADLINES, ids=[f"{task}-{state}" for task, state in HEADLINES])
def test_each_ending_of_each_task_has_its_sentence(task: Task, state: State) -> None:
    """Who, which bucket, the outcome, and whether anything was changed."""
    code = {State.FAILED: "caller_rejected"}.get(state, ENDED_BY[task][state][0])
    assert RedactedResult.of(ended(task, state, code)).headline == HEADLINES[task, state]


def _come_to_an_end() -> list[Submission]:
    return [
        submission
        for param in ENDED + STORED + ROTATED
        for submission in param.values
        if isinstance(submission, Submission)
    ]


def test_each_ending_has_a_sentence() -> None:
    """The table above has all endings."""
    reached = {(submission.task, RedactedResult.of(submission)._shown_as) for submission in _come_to_an_end()}
    assert reached == {(task, ending) for task, outcomes in OUTCOMES.items() for ending in outcomes}
    assert set(HEADLINES) == {(task, state) for task, states in ENDED_BY.items() for state in states}


def test_each_row_of_the_table_fits_its_place() -> None:
    """Slack does not cut the modal's title, and the headline is a whole sentence."""
    for outcome in (outcome for outcomes in OUTCOMES.values() for outcome in outcomes.values()):
        assert len(outcome.view_title) <= 24
        assert re.fullmatch(":[a-z_]+:", outcome.mark)
        assert find_faults(outcome.headline.format(user="<@U0ADA0001>", bucket="`lake`")) == []
    assert all(len(words.title) <= 24 for words in TASK_WORDS.values())
    assert set(TASK_WORDS) == set(PLANS) == set(OUTCOMES) == set(Task)


@pytest.mark.parametrize("submission", ENDED + STORED + ROTATED)
def test_each_ending_is_explained_in_whole_sentences(submission: Submission) -> None:
    """Whatever ended it, including the remarks."""
    result = RedactedResult.of(submission)
    for text in (result.headline, explain(result), *list_warnings(result), *list_unchecked(result)):
        assert find_faults(text) == []


@pytest.mark.parametrize("submission", ENDED)
def test_there_is_one_thing_to_do_and_it_is_clear_who_does_it(submission: Submission) -> None:
    """The person reads one thing to do, or whom to ask; not two that contradict each other."""
    result = RedactedResult.of(submission)
    text = explain(result)
    assert text.count("What to do:") <= 1
    assert "tries again" not in text
    assert "Try again" not in text
    if submission.state not in {State.STORED, State.DENIED, State.SUPERSEDED}:
        assert "What to do:" in text or result.asks_operator


@pytest.mark.parametrize("code", _codes(CloudflareTrouble, DatabaseTrouble, MembershipUnknown, PersonUnknown))
@pytest.mark.parametrize("task", Task)
def test_lasting_trouble_is_reported_as_over(task: Task, code: str) -> None:
    """The text during the wait promises another try, which a final message must not."""
    explanation = explain(RedactedResult.of(ended(task, State.FAILED, code)))
    error = error_of_code(code)
    assert issubclass(error, Transient)
    assert explanation.startswith(error.told.lasted)
    assert error.told.waiting not in explanation
    assert not error.told.at_once or error.told.at_once not in explanation
    if not RedactedResult.of(ended(task, State.FAILED, code)).asks_operator or task is Task.ENABLE:
        assert explanation.endswith(f"What to do: {_AFTER_TROUBLE.get(task, 'Submit it again later.')}")


_AFTER_TROUBLE = {
    Task.ENABLE: "Press the button again; enabling a catalog twice does no harm.",
    Task.ROTATE: "Rotate again later.",
}


@pytest.mark.parametrize("code", _codes(CloudflareTrouble, DatabaseTrouble, MembershipUnknown, PersonUnknown))
def test_not_enabled_is_not_said_if_an_answer_may_be_lost(code: str) -> None:
    """The request may have taken effect without an answer."""
    result = RedactedResult.of(ended(Task.ENABLE, State.FAILED, code))
    assert result.headline == (
        "It is not known whether the catalog of `lake`, which <@U0ADA0001> wanted to enable, was enabled."
    )


@pytest.mark.parametrize("code", [NeverSent.code, DeadlineReached.code])
def test_enabling_speaks_of_no_token(code: str) -> None:
    """It needs none: the fix is the button."""
    state = State.EXPIRED if code == NeverSent.code else State.FAILED
    explanation = explain(RedactedResult.of(ended(Task.ENABLE, state, code)))
    assert "token" not in explanation
    assert "What to do: Press the button again" in explanation


def test_a_stop_without_an_answer_is_reported_as_such() -> None:
    """A bot killed during a request knows no error to report."""
    explanation = explain(RedactedResult.of(ended(Task.STORE, State.UNCERTAIN, None)))
    assert "stopped before it had an answer" in explanation
    assert explanation.endswith("Submit the same token again; storing it twice does no harm.")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(NotAllowed, "You are not on the list", id="no longer allowed"),
        pytest.param(error_of_code("credential_refused"), "Create a token", id="refused later"),
        pytest.param(SealedValueUnreadable, "can no longer open", id="can no longer be opened"),
    ],
)
def test_an_uncertain_ending_does_not_contradict_itself(error: type[BotError], expected: str) -> None:
    """A person advised to use another token must not also be advised to submit the same one again."""
    explanation = explain(RedactedResult.of(ended(Task.STORE, State.UNCERTAIN, error.code)))
    assert expected in explanation
    assert "got no clear answer, so the slot may hold it" in explanation
    assert "the same token again" not in explanation


@pytest.mark.parametrize(
    ("confirmation", "expected", "is_alarm"),
    [
        pytest.param(
            CredentialStatus.VALID, "Cloudflare confirms that the stored credential works.", False, id="tested"
        ),
        pytest.param(
            CredentialStatus.PRESENT,
            "Cloudflare confirms that one is stored; it offers no test on this path.",
            False,
            id="no test is offered",
        ),
        pytest.param(
            CredentialStatus.INVALID,
            "Cloudflare accepted it, but says that the stored credential does not work. What to do:",
            True,
            id="an alarm: it does not work",
        ),
        pytest.param(
            CredentialStatus.ABSENT,
            "Cloudflare accepted it, but still says that the slot is empty. What to do:",
            True,
            id="an alarm: the slot is empty",
        ),
        pytest.param(
            CredentialStatus.UNKNOWN,
            "Cloudflare accepted it, but the bot could not find out afterwards whether it works. What to do: Check "
            "with `/r2-credential status` in a few minutes.",
            False,
            id="the test failed",
        ),
        pytest.param(None, "the bot could not find out afterwards", False, id="not tested"),
    ],
)
def test_a_success_says_what_could_be_proven(
    confirmation: CredentialStatus | None, expected: str, *, is_alarm: bool
) -> None:
    """It claims no more than Cloudflare confirmed."""
    result = result_of(confirmation=confirmation)
    assert expected in explain(result)
    assert result.is_alarm is is_alarm
    assert result.asks_operator is (confirmation is CredentialStatus.ABSENT)


@pytest.mark.parametrize("state", sorted(ENDINGS - {State.STORED}))
def test_only_what_is_stored_is_an_alarm(state: State) -> None:
    """The title of a failure is different anyway."""
    assert not result_of(state=state, confirmation=CredentialStatus.ABSENT, superseded_by="U0GRACE01").is_alarm


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param(CredentialStatus.VALID, "It replaced a credential that still worked.", id="it worked"),
        pytest.param(CredentialStatus.INVALID, "It replaced one that no longer worked.", id="it did not"),
        pytest.param(CredentialStatus.ABSENT, "There was none before.", id="none"),
        pytest.param(CredentialStatus.PRESENT, "", id="one that was not tested"),
        pytest.param(CredentialStatus.UNKNOWN, "", id="not known"),
    ],
)
def test_the_replaced_credential_is_described_as_far_as_known(before: CredentialStatus, expected: str) -> None:
    """The sentence follows what could be proven of the new one."""
    explanation = explain(result_of(findings=replace(FINDINGS, credential=before)))
    assert explanation == f"Cloudflare confirms that the stored credential works. {expected}".rstrip()


_NEVER = "This token never expires: one with an expiry date does less harm in the wrong hands."
_OF_USER = (
    "This token belongs to a user: it stops working when that user leaves the Cloudflare account. An account API token "
    "does not."
)


def _soon(when: str) -> str:
    return f"This token expires soon (then, {when}): plan its replacement."


WARNINGS: dict[str, tuple[TokenFacts | None, TokenKind, list[str]]] = {
    "nothing": (TOKEN, TokenKind.ACCOUNT, []),
    "never expires": (replace(TOKEN, expires_at=None), TokenKind.ACCOUNT, [_NEVER]),
    "of a user": (replace(TOKEN, owner=TokenKind.USER), TokenKind.UNPREFIXED, [_OF_USER]),
    "of a user, without expiry": (
        TokenFacts(id="5a4d0001", owner=TokenKind.USER, expires_at=None),
        TokenKind.USER,
        [_NEVER, _OF_USER],
    ),
    "in just 30 days": (replace(TOKEN, expires_at=NOW + EXPIRES_SOON), TokenKind.ACCOUNT, []),
    "in less than 30 days": (
        replace(TOKEN, expires_at=NOW + EXPIRES_SOON - timedelta(seconds=1)),
        TokenKind.ACCOUNT,
        [_soon("in 29 days")],
    ),
    "tomorrow": (replace(TOKEN, expires_at=NOW + DAY), TokenKind.ACCOUNT, [_soon("in 1 day")]),
    "in an hour": (replace(TOKEN, expires_at=NOW + DAY / 24), TokenKind.ACCOUNT, [_soon("in less than a day")]),
    "not described, a user's by its format": (None, TokenKind.USER, [_OF_USER]),
    "not described, the account's by its format": (None, TokenKind.ACCOUNT, []),
    "not described, older kind": (None, TokenKind.UNPREFIXED, []),
}


@pytest.mark.parametrize("state", [State.STORED, State.CHECKED])
@pytest.mark.parametrize(("token", "kind", "expected"), WARNINGS.values(), ids=WARNINGS)
def test_problems_that_do_not_stop_a_token_are_mentioned(
    token: TokenFacts | None, kind: TokenKind, expected: list[str], state: State
) -> None:
    """Of a stored token and of a checked one."""
    result = result_of(state=state, token_kind=kind, findings=replace(FINDINGS, token=token), ended_at=NOW)
    assert [without_times(warning) for warning in list_warnings(result)] == expected


UNCHECKED = {
    "nothing": (frozenset(), []),
    "the token": (frozenset({Check.TOKEN}), ["there will be no reminder before it expires"]),
    "its reach": (frozenset({Check.REACH}), ["whether the token reaches this catalog"]),
    "both": (frozenset(Check), ["there will be no reminder", "whether the token reaches"]),
}


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        pytest.param(State.STORED, "Cloudflare does not let this token ask that, but accepted it.", id="stored"),
        pytest.param(State.CHECKED, "if it does not reach the catalog, Cloudflare refuses it", id="checked"),
    ],
)
@pytest.mark.parametrize(("unchecked", "expected"), UNCHECKED.values(), ids=UNCHECKED)
def test_unchecked_rights_are_mentioned_with_their_consequence(
    unchecked: frozenset[Check], expected: list[str], state: State, meaning: str
) -> None:
    """In the order of the checks."""
    remarks = list_unchecked(result_of(state=state, findings=replace(FINDINGS, unchecked=unchecked)))
    assert len(remarks) == len(expected)
    assert all(remark.startswith("Not checked: ") for remark in remarks)
    assert [part for part, remark in zip(expected, remarks, strict=True) if part not in remark] == []
    assert any(meaning in remark for remark in remarks) is (Check.REACH in unchecked)


@pytest.mark.parametrize("state", sorted(ENDINGS - {State.STORED, State.CHECKED}))
def test_a_failure_is_not_followed_by_remarks(state: State) -> None:
    """A person who has to get another token need not read that this one belongs to a user."""
    findings = Findings(token=None, unchecked=frozenset(Check), credential=CredentialStatus.UNKNOWN)
    result = result_of(state=state, findings=findings, token_kind=TokenKind.USER, superseded_by="U0GRACE01")
    assert list_warnings(result) == list_unchecked(result) == []


def test_without_findings_there_are_no_remarks() -> None:
    """Nothing is known, so nothing is said."""
    assert list_unchecked(result_of(findings=None)) == []
    assert explain(result_of(findings=None)) == "Cloudflare confirms that the stored credential works."


def test_a_dry_run_says_what_it_cannot_see() -> None:
    """Whether the token may write data shows only when it is stored."""
    explanation = explain(RedactedResult.of(ended(Task.CHECK, State.CHECKED, None)))
    assert explanation.startswith("Only the write shows whether the token may read and write the bucket's data (R2")
    assert explanation.endswith("The token was erased. What to do: Paste the token again to have it stored.")


@pytest.mark.parametrize(
    ("landed", "fate"),
    [
        pytest.param(False, "This token was never stored.", id="never sent"),
        pytest.param(True, "An earlier request with this token got no clear answer", id="sent before"),
    ],
)
def test_a_superseded_submission_says_by_whom_and_when(fate: str, *, landed: bool) -> None:
    """The time in the reader's zone, with UTC as the fallback; and whether the token was sent."""
    at = datetime(2026, 11, 20, 12, 34, 56, 999999, tzinfo=UTC)
    result = RedactedResult.of(ended(Task.STORE, State.SUPERSEDED, None, possibly_written=landed, ended_at=at))
    assert explain(result).startswith("<@U0GRACE01> submitted a newer one for the same catalog")
    assert "(<!date^1795178096^{date_short_pretty} at {time}|2026-11-20 12:34 UTC>)" in explain(result)
    assert fate in explain(result)
    assert explain(result).endswith("No action is needed.")


@pytest.mark.parametrize("submission", ENDED)
def test_the_operator_is_named_if_the_operator_has_to_act(submission: Submission) -> None:
    """Otherwise no one is sent to the operator."""
    result = RedactedResult.of(submission)
    assert result.asks_operator is (result.error is not None and result.error.who_acts is WhoActs.OPERATOR)


def test_a_submission_that_ends_before_it_began_took_no_time() -> None:
    """The clock was set back; and a submission that has not ended raises no error."""
    assert result_of(ended_at=NOW - DAY).took == timedelta(0)
    assert result_of(ended_at=None).took == timedelta(0)


def _waiting(error: str | None, state: State, wait: timedelta, task: Task = Task.STORE) -> RedactedProgress:
    submission = replace(SUBMISSION, task=task, state=state, error_code=error, next_attempt_at=NOW + wait)
    return RedactedProgress.of(submission, NOW, steps_of(task))


@pytest.mark.parametrize(
    "code", _codes(CloudflareTrouble, DatabaseTrouble, MembershipUnknown, PersonUnknown, TokenRefusal)
)
def test_each_wait_is_explained(code: str) -> None:
    """With the second at which the bot tries again; a token that is not known yet is not called bad."""
    waiting = _waiting(code, State.VERIFYING, timedelta(seconds=30)).waiting
    assert find_faults(waiting) == []
    assert waiting.endswith("The bot tries again by itself at <!date^1795176030^{time_secs}|12:00:30 UTC>.")
    is_about_the_token = issubclass(error_of_code(code), TokenRefusal)
    assert ("Waiting for Cloudflare to know this token" in waiting) is is_about_the_token


@pytest.mark.parametrize(
    ("error", "state", "wait"),
    [
        pytest.param(None, State.VERIFYING, timedelta(seconds=30), id="queued behind a newer one"),
        pytest.param(Throttled.code, State.STORING, timedelta(0), id="the wait is over"),
        pytest.param(Throttled.code, State.CONFIRMING, timedelta(seconds=1), id="it is stored: that is past"),
    ],
)
def test_nothing_is_said_of_a_wait_that_is_over(error: str | None, state: State, wait: timedelta) -> None:
    """Not even the reason of an earlier wait."""
    progress = _waiting(error, state, wait)
    assert (progress.waiting, progress.error, progress.waits_until) == ("", None, None)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param(None, "never", id="never"),
        pytest.param(90 * DAY, "then, in 90 days", id="in three months"),
        pytest.param(2 * DAY - timedelta(seconds=1), "then, in 1 day", id="in nearly two days"),
        pytest.param(timedelta(seconds=1), "then, in less than a day", id="in a second"),
        pytest.param(timedelta(0), "then, in less than a day", id="now"),
        pytest.param(-timedelta(seconds=1), "then, less than a day ago", id="a second ago"),
        pytest.param(-3 * DAY, "then, 3 days ago", id="three days ago"),
    ],
)
def test_an_expiry_is_shown_with_the_days_left(left: timedelta | None, expected: str) -> None:
    """Or the days since."""
    shown = expiry(None if left is None else NOW + left, NOW)
    assert without_times(shown) == expected


def test_each_lasting_error_is_recorded_with_failures() -> None:
    """So that the tables above test each of them."""
    others = (SlackTrouble, RotationError)
    lasting = {leaf.code for leaf in leaves(BotError) if leaf.retryable and not issubclass(leaf, others)}
    assert lasting <= set(ENDED_BY[Task.STORE][State.FAILED])
    assert DatabaseUnavailable.code in lasting
    assert not any(leaf.retryable for leaf in leaves(CatalogRefusal))
