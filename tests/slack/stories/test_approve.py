"""Approve and Deny: who may press, what is recorded, and what everyone else reads."""

import asyncio
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from sqlite3 import connect

import pytest
import pytest_asyncio

from bot.model.approval import Choice, Decision, Request, digest_of
from bot.model.catalog import CredentialStatus
from bot.model.move import Changes, Move
from bot.model.submission import Findings, Pending, State, Submission, TokenFacts, TokenKind
from bot.policy.rules import People, Rule, Verb
from bot.sandbox.workspace import Message
from bot.slack.button_values import read_request_value, request_value
from bot.slack.messages.approval import APPROVE, DENY, RedactedRequest, request_message
from tests.desk import ADA, BUCKET, GRACE, GROUP, MALLORY, OUTSIDER, PLATFORM, Desk, shown_in
from tests.make import AUTHENTICITY

APPROVER = "U0APPROVE"
RULE = Rule(
    name="four eyes",
    who=People(usergroups=frozenset({GROUP})),
    verbs=frozenset(Verb),
    approvals=1,
    approvers=People(users=frozenset({GRACE, ADA, "U0CLOUD42"})),
    approval_channel=PLATFORM,
)
DID = {Choice.APPROVE: "approved", Choice.DENY: "denied"}
FINDINGS = Findings(
    token=TokenFacts(id="0f" * 16, owner=TokenKind.ACCOUNT, expires_at=None),
    unchecked=frozenset(),
    credential=CredentialStatus.PRESENT,
)


@dataclass(slots=True)
class Asked:
    """A submission that waits, and the message that asks."""

    desk: Desk
    submission: Submission
    message: Message

    async def press(self, user: str, action: str = APPROVE) -> str:
        """Press a button; return what the person is shown, or nothing."""
        outcome = await self.desk.slack.click(user, self.message, action)
        assert outcome.failure is None
        view = self.desk.slack.modal(user)
        return "" if view is None or view.id == self.submission.id else shown_in({"blocks": [*view.blocks]})

    async def decision(self) -> Decision | None:
        """Return what is recorded."""
        return await self.desk.approvals.find_decision(self.submission.id)

    def read_message(self) -> Message:
        """Return the message as it stands now."""
        found = self.desk.slack.workspace.find_message(self.message.ts)
        assert found is not None
        return found

    def execute(self, statement: str) -> None:
        """Change a row."""
        with closing(connect(self.desk.database_path)) as connection, connection:
            connection.execute(statement)


@pytest_asyncio.fixture
async def asked(desk: Desk) -> Asked:
    """Submit as Ada, and do what a worker does until an approver is asked."""
    desk.serve(RULE)
    await desk.open_form(reason="ticket 42")
    await desk.slack.submit(ADA)
    submission = await desk.find()
    assert submission is not None
    sealed = await desk.find_sealed()
    for move in (
        Move(to=State.VERIFYING, at=desk.clock(), changes=Changes(checked_at=desk.clock(), findings=FINDINGS)),
        Move(to=State.AWAITING_APPROVAL, at=desk.clock(), changes=Changes(approval_channel=PLATFORM)),
    ):
        [submission] = await desk.submissions.apply(submission, move)
    pending = Pending(submission=submission, sealed=sealed)
    value = request_value(submission.id, digest_of(pending))
    content = request_message(RedactedRequest.of(submission, desk.clock()), value)
    ts = await desk.web.post(PLATFORM, content, "6f3cacfe-3614-5dad-9dfa-09675d6189dd")
    assert ts is not None
    request = Request(submission_id=submission.id, channel_id=PLATFORM, message_ts=ts, asked_at=desk.clock())
    await desk.approvals.note_request(request.signed_by(AUTHENTICITY))
    desk.dispatched.clear()
    return Asked(desk=desk, submission=submission, message=desk.slack.messages(PLATFORM)[-1])


def test_a_value_is_parsed_back() -> None:
    """And nothing else is."""
    value = request_value("V0123ABCDEF", "0f" * 16)
    assert read_request_value(value) == ("V0123ABCDEF", "0f" * 16)
    for forged in ("", "V0123ABCDEF", f"U0123 {'0f' * 16}", "V0123ABCDEF 0f", f"{value} x", "V0123ABCDEF " + "G" * 32):
        assert read_request_value(forged) is None


async def test_the_message_shows_what_is_decided(asked: Asked) -> None:
    """Bucket, reason, requester, what the slot holds, the token's id, kind and expiry; both buttons ask again."""
    shown = asked.message.shown_text
    for part in (f"`{BUCKET}`", f"<@{ADA}>", "ticket 42", "present", "0f" * 16, "account API token", "never"):
        assert part in shown, part
    buttons = asked.message.blocks[-1]["elements"]
    assert [each["action_id"] for each in buttons] == [APPROVE, DENY]
    assert all(each["confirm"] for each in buttons)
    assert asked.message.text.startswith("Approval needed: ")


@pytest.mark.parametrize(("action", "choice"), [(APPROVE, Choice.APPROVE), (DENY, Choice.DENY)])
async def test_an_approver_decides(asked: Asked, action: str, choice: Choice) -> None:
    """Signed, once; the bucket is woken, and the message loses its buttons and names who it was."""
    assert await asked.press(GRACE, action) == ""
    decision = await asked.decision()
    assert decision is not None
    assert (decision.choice, decision.user_id) == (choice, GRACE)
    assert decision.is_authentic(AUTHENTICITY)
    assert asked.desk.dispatched == [asked.submission.key]
    message = asked.read_message()
    assert f"by <@{GRACE}>" in message.shown_text
    assert [block["type"] for block in message.blocks].count("actions") == 0


async def test_of_two_presses_at_the_same_instant_one_counts(asked: Asked) -> None:
    """The other person reads whose."""
    asked.desk.serve(replace(RULE, approvers=People(users=frozenset({GRACE, MALLORY}))))
    answers = await asyncio.gather(asked.press(GRACE, APPROVE), asked.press(MALLORY, DENY))
    decision = await asked.decision()
    assert decision is not None
    told, answer = sorted(answers)
    assert told == ""
    assert f"<@{decision.user_id}> {DID[decision.choice]} it" in answer


@pytest.mark.parametrize(
    ("user", "words"),
    [
        pytest.param(ADA, "You cannot decide on your own request", id="the requester"),
        pytest.param(MALLORY, "not on the list", id="on no list"),
    ],
)
async def test_who_may_not_decide_is_told(asked: Asked, user: str, words: str) -> None:
    """And nothing is recorded."""
    assert words in await asked.press(user)
    assert await asked.decision() is None
    assert asked.desk.dispatched == []


async def test_a_person_who_may_store_but_not_approve_decides_nothing(asked: Asked) -> None:
    """The rule names others."""
    asked.desk.serve(replace(RULE, approvers=People(users=frozenset({"U0CLOUD42"}))))
    assert "You may not approve or deny this request" in await asked.press(GRACE)
    assert await asked.decision() is None


async def test_a_person_of_another_company_decides_nothing(asked: Asked) -> None:
    """Whatever the id."""
    action = {"action_id": APPROVE, "type": "button", "value": asked.message.blocks[-1]["elements"][0]["value"]}
    payload = asked.desk.slack.make_message_action(GRACE, asked.message, action)
    payload["team"] = {"id": "T0PARTNER", "domain": "acme"}
    payload["user"]["team_id"] = OUTSIDER.team_id
    await asked.desk.deliver(payload)
    assert await asked.decision() is None


FORGED = {
    "nothing": "",
    "another submission": f"V0MADEUPX {'0f' * 16}",
    "another token": None,
    "a bucket": "5a4db0c0000000000000000000000001/lake",
}


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED)
async def test_a_forged_button_decides_nothing(asked: Asked, value: str | None) -> None:
    """Its value comes from a client."""
    forged = f"{asked.submission.id} {'0' * 32}" if value is None else value
    action = {"action_id": APPROVE, "block_id": "b", "type": "button", "value": forged}
    await asked.desk.deliver(asked.desk.slack.make_message_action(GRACE, asked.message, action))
    assert await asked.decision() is None
    view = asked.desk.slack.modal(GRACE)
    assert view is not None


async def test_one_that_has_ended_is_not_decided(asked: Asked) -> None:
    """The person reads how it ended."""
    await asked.desk.submissions.apply(asked.submission, Move(to=State.FAILED, at=asked.desk.clock()))
    assert "was not stored" in await asked.press(GRACE)
    assert await asked.decision() is None


async def test_one_whose_time_is_over_is_not_decided(asked: Asked) -> None:
    """Even if no delivery has ended it yet."""
    asked.desk.clock.advance(timedelta(hours=2))
    assert "no longer waits" in await asked.press(GRACE)
    assert await asked.decision() is None


async def test_a_removed_requester_has_nothing_approved(asked: Asked) -> None:
    """The approver reads it."""
    asked.desk.serve(replace(RULE, who=People(users=frozenset({GRACE}))))
    assert "may no longer do that" in await asked.press(GRACE)
    assert await asked.decision() is None
    assert asked.desk.attempts == []  # it was not the requester who tried something


async def test_a_forged_decision_is_not_told_in_anyones_name(asked: Asked) -> None:
    """A row that someone changed."""
    assert await asked.press(GRACE) == ""
    asked.execute("UPDATE decisions SET user_id = 'U0CLOUD42'")
    shown = await asked.press(GRACE)
    assert "was not made by the bot" in shown
    assert "U0CLOUD42" not in shown


async def test_a_message_that_cannot_be_changed_changes_no_decision(asked: Asked) -> None:
    """It counts all the same."""
    asked.desk.slack.fail_next("chat.update", error="message_not_found")
    assert await asked.press(GRACE) == ""
    assert await asked.decision() is not None


async def test_a_database_in_trouble_is_told(asked: Asked) -> None:
    """Nothing was recorded, and the person can press again."""
    asked.execute("ALTER TABLE decisions RENAME TO away")
    assert "Try again in a minute" in await asked.press(GRACE)
    await asked.desk.slack.close(GRACE)
    asked.execute("ALTER TABLE away RENAME TO decisions")
    assert await asked.press(GRACE) == ""


async def test_a_result_for_one_person_needs_a_channel_for_approvers(desk: Desk) -> None:
    """A direct message is read by the requester alone."""
    desk.serve(replace(RULE, approval_channel=None))
    await desk.open_form()
    await desk.slack.fill(ADA, "direct", ["direct"])
    outcome = await desk.slack.submit(ADA)
    assert "approved by someone else" in str(outcome.errors)
    desk.serve(RULE)
    await desk.slack.submit(ADA)
    recorded = await desk.find()
    assert recorded is not None
