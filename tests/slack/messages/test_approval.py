"""The approvers' message: whatever people typed into it, it fits Slack and nothing in it becomes active."""

import json
from dataclasses import replace

import pytest

from bot.model.approval import Choice, Decision
from bot.model.catalog import CredentialStatus
from bot.model.submission import Check, Findings, State, Submission, Task
from bot.sandbox.block_rules import message_problems
from bot.sandbox.blocks import texts_of
from bot.slack.blocks import Json
from bot.slack.messages.approval import RedactedRequest, closed_message, decided_message, request_message
from bot.slack.messages.redacted import RedactedResult
from tests.make import FINDINGS, NOW, make_key, make_submission

WAITING = replace(
    make_submission(id="V0123ABCDEF", findings=FINDINGS, reason="x" * 400),
    state=State.AWAITING_APPROVAL,
    approval_channel="C0DATAPLT",
    key=make_key("b" * 63),
)


def build(submission: Submission) -> list[Json]:
    """Return the message at each stage."""
    request = RedactedRequest.of(submission, NOW)
    decisions = (
        Decision(submission_id=submission.id, choice=choice, user_id="U2", decided_at=NOW, digest="")
        for choice in Choice
    )
    ended = replace(submission, state=State.EXPIRED, error_code="not_approved_in_time", ended_at=NOW)
    return [
        request_message(request, "V0123ABCDEF " + "0f" * 16),
        *(decided_message(request, decision) for decision in decisions),
        closed_message(request, RedactedResult.of(ended)),
    ]


@pytest.mark.parametrize("task", [Task.STORE, Task.ENABLE, Task.ROTATE])
@pytest.mark.parametrize("findings", [FINDINGS, replace(FINDINGS, token=None, unchecked=frozenset(Check)), None])
def test_each_stage_fits_slack(task: Task, findings: Findings | None) -> None:
    """With the longest bucket and reason, and with nothing known of the token."""
    for message in build(replace(WAITING, task=task, findings=findings)):
        assert message_problems(message["blocks"]) == []
        assert message["text"]


def test_only_the_question_has_buttons() -> None:
    """None is left once it is decided, or over."""
    kinds = [[block["type"] for block in message["blocks"]] for message in build(WAITING)]
    assert [each.count("actions") for each in kinds] == [1, 0, 0, 0]


def test_what_people_typed_is_not_active() -> None:
    """It mentions nobody, and links nowhere."""
    for message in build(replace(WAITING, reason="<!channel> <https://x.example|y>")):
        shown = "\n".join([message["text"], *texts_of(message["blocks"])])
        assert "<!channel>" not in shown
        assert "<https:" not in shown


def test_an_approver_reads_what_could_not_be_checked() -> None:
    """Before deciding."""
    findings = replace(FINDINGS, unchecked=frozenset({Check.REACH}))
    text = "\n".join(texts_of(build(replace(WAITING, findings=findings))[0]["blocks"]))
    assert "Not checked: whether the token reaches this catalog." in text


def test_enabling_speaks_of_no_token() -> None:
    """There is none."""
    text = "\n".join(texts_of(build(replace(WAITING, task=Task.ENABLE, findings=None))[0]["blocks"]))
    assert "enable the catalog of" in text
    assert "token" not in text


def test_a_rotation_is_approved_before_there_is_a_token() -> None:
    """The question says what will be made, and shows nothing of a token that nobody has."""
    message = build(replace(WAITING, task=Task.ROTATE, findings=None, last_four=""))[0]
    text = "\n".join(texts_of(message["blocks"]))
    assert "asks to rotate the credential of the catalog of `bbb" in message["text"]
    assert "no token is made before" in text
    assert "ending in" not in text
    assert "The bot then makes a token for `bbb" in json.dumps(message)
    assert "erased" not in json.dumps(message)


@pytest.mark.parametrize("credential", CredentialStatus)
def test_the_question_says_what_is_replaced(credential: CredentialStatus) -> None:
    """Where there was no credential, nothing is; an approver reads that before it counts."""
    findings = replace(FINDINGS, credential=credential)
    request = RedactedRequest.of(replace(WAITING, findings=findings), NOW)
    text = str(request_message(request, "V0123ABCDEF " + "0f" * 16)["blocks"][-1])
    assert ("is replaced" in text) is (credential is not CredentialStatus.ABSENT)
    assert ("There was no credential" in text) is (credential is CredentialStatus.ABSENT)
