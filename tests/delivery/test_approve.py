"""Four eyes: nothing is stored before another person has approved it, whatever happens on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from sqlite3 import connect

import pytest
import pytest_asyncio

from bot.delivery.approve import ASK_AGAIN_AFTER
from bot.delivery.verify import CHECK_LIFETIME
from bot.model.approval import Answer, Choice, Decided, Decision, Request, digest_of
from bot.model.errors import (
    ApprovalChannelUnfit,
    ApprovalDenied,
    ApprovalMissing,
    ApprovalNotAsked,
    ApprovalOutdated,
    ApprovalUnposted,
    ApproverRemoved,
    BotError,
    DecisionForged,
    MembershipUnknown,
    NotAllowed,
    NotApprovedInTime,
    RecordForged,
    SlackUnavailable,
)
from bot.model.submission import Pending, Sealed, State, Submission, Task
from bot.policy.gate import Gate, Home
from bot.policy.rules import People, Rule, Verb
from bot.sandbox.tokens import Behaviour, make_token
from bot.storage.accepting import Verdict
from bot.storage.approvals import Approvals
from tests.delivery.test_deliver import GOOD, LAKE, OLD, TTL, Death, House
from tests.delivery.test_deliver import database as database  # noqa: PLC0414 - a fixture
from tests.delivery.test_deliver import house as plain_house  # noqa: F401 - a fixture
from tests.everybody import EVERYBODY
from tests.make import AUTHENTICITY, sign_again

APPROVER = "U2"
ASKED_IN = "C0APPROVE"
SECOND = make_token(Behaviour.GOOD, 2)


@dataclass(slots=True)
class Approvers:
    """The channel in which approvers are asked; the given failures come first."""

    death: Death
    asked: list[Pending] = field(default_factory=list)
    closed: list[tuple[Submission, Request]] = field(default_factory=list)
    failures: list[ApprovalNotAsked | SlackUnavailable] = field(default_factory=list)

    async def post_request(self, pending: Pending) -> str | None:
        """Record it, with a chance to die before and after, or fail as ordered."""
        if self.failures:
            raise self.failures.pop(0)
        await self.death.step()
        self.asked.append(pending)
        await self.death.step()
        return "1764000000.000100"

    async def close_request(self, submission: Submission, request: Request) -> None:
        """Record it, or fail as ordered."""
        if self.failures:
            raise self.failures.pop(0)
        await self.death.step()
        self.closed.append((submission, request))
        await self.death.step()

    @property
    def endings(self) -> list[tuple[str, State]]:
        """What the messages say in the end."""
        return [(submission.id, submission.state) for submission, _ in self.closed]


class Groups:
    """The members of user groups; a failure as ordered."""

    def __init__(self) -> None:
        self.approvers: frozenset[str] = frozenset({APPROVER, "U3"})
        self.failure: MembershipUnknown | None = None

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Return the approvers, who are the only group."""
        assert usergroup == "S0APPROVE"
        if self.failure is not None:
            raise self.failure
        return self.approvers


RULE = Rule(
    name="four eyes",
    who=People(users=frozenset({"U1", "U9"})),
    verbs=frozenset(Verb),
    approvals=1,
    approvers=People(usergroups=frozenset({"S0APPROVE"})),
    approval_channel=ASKED_IN,
)


@dataclass(slots=True, kw_only=True)
class Office:
    """A delivery whose rule needs an approval, and those who can give it."""

    house: House
    asker: Approvers
    groups: Groups
    gate: Gate
    approvals: Approvals

    async def wait_for_approval(self, token: str = GOOD, view_id: str = "V1", bucket: str = "lake") -> timedelta | None:
        """Submit, and deliver until an approver is asked."""
        await self.house.submit(token, view_id, bucket)
        return await self.house.deliver(replace(LAKE, bucket=bucket))

    async def read_pending(self, view_id: str = "V1") -> Pending:
        """Return a submission with its sealed token."""
        sealed = self.house.read_sealed(view_id)
        return Pending(submission=await self.house.read(view_id), sealed=sealed)

    async def make_decision(
        self, choice: Choice = Choice.APPROVE, user_id: str = APPROVER, view_id: str = "V1"
    ) -> Decision:
        """Return what a gateway records when someone presses."""
        decision = Decision(
            submission_id=view_id,
            choice=choice,
            user_id=user_id,
            decided_at=self.house.clock.now,
            digest=digest_of(await self.read_pending(view_id)),
        )
        return decision.signed_by(AUTHENTICITY)

    async def decide(self, choice: Choice = Choice.APPROVE, user_id: str = APPROVER, view_id: str = "V1") -> Decided:
        """Press a button."""
        return await self.house.submissions.decide(await self.make_decision(choice, user_id, view_id))

    def follow(self, rule: Rule) -> None:
        """Replace the rules, as a reload does."""
        self.gate.follow([rule])

    def execute(self, statement: str, *values: object) -> None:
        """Change a row without the bot's knowledge."""
        with closing(connect(self.house.database_path)) as connection, connection:
            assert connection.execute(statement, values).rowcount == 1

    async def require_ended(self, ending: State, error: type[BotError] | None, *, is_asked: bool = True) -> Submission:
        """Require that it ended so, that nothing is left of the token, and that every message says the same."""
        ended = await self.house.read()
        assert (ended.state, ended.error_code) == (ending, error.code if error else None)
        assert self.house.read_sealed() == Sealed()
        assert self.house.reported[-1] == ("V1", ending)
        assert self.asker.endings == ([("V1", ending)] if is_asked else [])
        assert self.house.sent == ([GOOD] if ending is State.STORED else [])
        return ended


@pytest_asyncio.fixture
async def office(plain_house: House) -> AsyncIterator[Office]:  # noqa: F811 - the fixture
    """Let a rule need the approval of a member of a user group."""
    house, groups = plain_house, Groups()
    house.asker = asker = Approvers(house.death)
    house.real_gate = gate = Gate([RULE], Home(team_id="T1", enterprise_id=None), groups, EVERYBODY)
    yield Office(house=house, asker=asker, groups=groups, gate=gate, approvals=Approvals(house.database))


async def test_it_waits_sealed_and_is_stored_after_the_approval(office: Office) -> None:
    """Verified before anyone is asked, not opened while it waits, stored once approved; the message says who."""
    house = office.house
    assert await office.wait_for_approval() == ASK_AGAIN_AFTER
    waiting = await house.read()
    assert (waiting.state, waiting.approval_channel) == (State.AWAITING_APPROVAL, ASKED_IN)
    [asked] = office.asker.asked
    assert asked.submission.findings == waiting.findings is not None
    assert (house.posts, house.reported) == ([], [])
    requests = len(house.asked)
    house.clock.now += ASK_AGAIN_AFTER
    assert await house.deliver() == ASK_AGAIN_AFTER
    assert (len(house.asked), len(office.asker.asked)) == (requests, 1)
    assert (await office.decide()).answer is Answer.RECORDED
    assert await house.deliver() is None
    ended = await office.require_ended(State.STORED, None)
    assert ended.decided_by == APPROVER
    assert house.shown[-4:] == [State.VERIFYING, State.STORING, State.CONFIRMING, State.STORED]


@pytest.mark.parametrize(("seconds", "checks"), [(59, 1), (60, 2)])
async def test_the_checks_are_repeated_if_the_wait_was_long(office: Office, seconds: int, checks: int) -> None:
    """An approval of an hour ago says nothing about a token that was disabled since."""
    await office.wait_for_approval()
    office.house.clock.now += timedelta(seconds=seconds)
    assert timedelta(seconds=60) == CHECK_LIFETIME
    await office.decide()
    await office.house.deliver_all()
    assert office.house.asked.count("GET tokens/verify") == checks
    await office.require_ended(State.STORED, None)


async def test_without_an_approver_channel_the_results_is_asked(office: Office) -> None:
    """The rule names none."""
    office.follow(replace(RULE, approval_channel=None))
    await office.wait_for_approval()
    assert (await office.house.read()).approval_channel == "C1"


async def test_a_denied_one_ends_untouched(office: Office) -> None:
    """The result names who denied it."""
    await office.wait_for_approval()
    await office.decide(Choice.DENY)
    assert await office.house.deliver() is None
    assert (await office.require_ended(State.DENIED, ApprovalDenied)).decided_by == APPROVER


async def test_it_expires_with_the_submission(office: Office) -> None:
    """Nobody decided, and nothing was written."""
    await office.wait_for_approval()
    await office.house.deliver_all()
    assert office.house.clock.now - (await office.house.read()).accepted_at == TTL
    await office.require_ended(State.EXPIRED, NotApprovedInTime)


async def test_no_decision_counts_after_the_end(office: Office) -> None:
    """Neither at the deadline, before the delivery has ended it, nor after that."""
    await office.wait_for_approval()
    office.house.clock.now += TTL
    decision = await office.make_decision()
    assert (await office.house.submissions.decide(decision)).answer is Answer.NOT_WAITING
    await office.house.deliver_all()
    assert (await office.house.submissions.decide(decision)).answer is Answer.NOT_WAITING
    assert await office.approvals.find_decision("V1") is None


async def test_a_newer_one_supersedes_it_once_stored(office: Office) -> None:
    """Both wait for an approval; that of the newer one ends the older one."""
    await office.wait_for_approval()
    await office.wait_for_approval(SECOND, "V2")
    assert [pending.submission.id for pending in office.asker.asked] == ["V1", "V2"]
    await office.decide(view_id="V1")
    await office.house.deliver()
    assert await office.house.states() == [State.AWAITING_APPROVAL, State.AWAITING_APPROVAL]  # V1 is held back
    await office.decide(view_id="V2")
    await office.house.deliver_all()
    assert await office.house.states() == [State.SUPERSEDED, State.STORED]
    assert sorted(office.asker.endings) == [("V1", State.SUPERSEDED), ("V2", State.STORED)]
    assert office.house.sent == [SECOND]


async def test_an_older_one_goes_on_if_the_newest_is_denied(office: Office) -> None:
    """A decision on the older one that came meanwhile counts then."""
    await office.wait_for_approval()
    await office.wait_for_approval(SECOND, "V2")
    await office.decide(view_id="V1")
    await office.decide(Choice.DENY, view_id="V2")
    await office.house.deliver_all()
    assert await office.house.states() == [State.STORED, State.DENIED]
    assert office.house.sent == [GOOD]


async def test_a_check_is_not_held_up(office: Office) -> None:
    """A dry run needs no approval, and waits for none."""
    await office.wait_for_approval()
    await office.house.submit(SECOND, "V2", task=Task.CHECK)
    await office.house.deliver()
    assert await office.house.states() == [State.AWAITING_APPROVAL, State.CHECKED]


@pytest.mark.parametrize("when", ["while it waits", "after the approval"])
async def test_a_repeated_submit_replaces_nothing_that_was_asked_about(office: Office, when: str) -> None:
    """The approver saw the first token."""
    await office.wait_for_approval()
    if when == "after the approval":
        await office.decide()
        office.execute("UPDATE submissions SET state = 'verifying'")  # as between two moves of the delivery
        await sign_again(office.house.database)
    again = office.house.make_submission(SECOND)
    assert (await office.house.submissions.accept(again, "nonce of V1")).verdict is Verdict.ALREADY_UNDER_WAY
    if when == "while it waits":
        await office.decide()
    await office.house.deliver_all()
    assert office.house.sent == [GOOD]


@pytest.mark.parametrize("choices", [(Choice.APPROVE, Choice.DENY), (Choice.DENY, Choice.APPROVE)])
async def test_the_first_decision_counts(office: Office, choices: tuple[Choice, Choice]) -> None:
    """The second one is answered with the first."""
    await office.wait_for_approval()
    first = await office.decide(choices[0])
    second = await office.decide(choices[1], "U3")
    assert (first.answer, second.answer) == (Answer.RECORDED, Answer.DECIDED_BEFORE)
    assert second.decision == first.decision
    await office.house.deliver_all()
    assert (await office.house.read()).state is (State.STORED if choices[0] is Choice.APPROVE else State.DENIED)


async def test_a_removed_approver_does_not_count(office: Office) -> None:
    """The right is checked again when the work runs."""
    await office.wait_for_approval()
    await office.decide()
    office.groups.approvers = frozenset({"U3"})
    await office.house.deliver_all()
    assert (await office.require_ended(State.DENIED, ApproverRemoved)).decided_by == APPROVER


async def test_nobody_approves_their_own_request(office: Office) -> None:
    """Not even an approver whose press slipped past the gateway."""
    office.groups.approvers = frozenset({"U1"})
    await office.wait_for_approval()
    await office.decide(user_id="U1")
    await office.house.deliver_all()
    await office.require_ended(State.DENIED, ApproverRemoved)


async def test_it_waits_when_slack_does_not_say_who_approves(office: Office) -> None:
    """Neither a yes nor a no."""
    await office.wait_for_approval()
    await office.decide()
    office.groups.failure = MembershipUnknown()
    assert await office.house.deliver() is not None
    waiting = await office.house.read()
    assert (waiting.state, waiting.error_code) == (State.AWAITING_APPROVAL, MembershipUnknown.code)
    office.groups.failure = None
    await office.house.deliver_all()
    await office.require_ended(State.STORED, None)


async def test_a_removed_requester_ends_it_within_the_minute(office: Office) -> None:
    """Without any decision."""
    await office.wait_for_approval()
    office.follow(replace(RULE, who=People(users=frozenset({"U9"}))))
    office.house.clock.now += ASK_AGAIN_AFTER
    await office.house.deliver_all()
    await office.require_ended(State.DENIED, NotAllowed)


async def test_a_rule_that_no_longer_needs_an_approval_lets_it_go_on(office: Office) -> None:
    """After a reload, within the minute; the message says that it was stored."""
    await office.wait_for_approval()
    office.follow(replace(RULE, approvals=0))
    office.house.clock.now += ASK_AGAIN_AFTER
    await office.house.deliver_all()
    assert (await office.require_ended(State.STORED, None)).decided_by is None


@pytest.mark.parametrize("error", [ApprovalUnposted(), ApprovalChannelUnfit()])
async def test_it_waits_until_an_approver_can_be_asked(office: Office, error: ApprovalNotAsked) -> None:
    """And then for the decision, of which alone the modal speaks."""
    office.asker.failures = [error, error]
    await office.wait_for_approval()
    waiting = await office.house.read()
    assert (waiting.state, waiting.error_code) == (State.AWAITING_APPROVAL, error.code)
    for _ in range(2):
        office.house.clock.now += timedelta(seconds=10)
        await office.house.deliver()
    assert len(office.asker.asked) == 1
    assert (await office.house.read()).error_code is None


async def test_slacks_retry_after_is_honoured(office: Office) -> None:
    """Before the request is posted."""
    office.asker.failures = [ApprovalUnposted(timedelta(seconds=33))]
    assert await office.wait_for_approval() == timedelta(seconds=33)


@pytest.mark.parametrize("error", [ApprovalUnposted, ApprovalChannelUnfit])
async def test_one_that_nobody_could_be_asked_about_says_so(office: Office, error: type[ApprovalNotAsked]) -> None:
    """At its deadline."""
    office.asker.failures = [error() for _ in range(100)]
    await office.wait_for_approval()
    while (await office.house.read()).state is State.AWAITING_APPROVAL:
        office.house.clock.now += timedelta(seconds=60)
        await office.house.deliver()
    await office.require_ended(State.FAILED, error, is_asked=False)


async def test_the_message_is_changed_when_slack_is_back(office: Office) -> None:
    """Before the result is posted: both say the same."""
    await office.wait_for_approval()
    await office.decide()
    office.asker.failures = [SlackUnavailable()]
    waits = await office.house.deliver_all()
    assert len(waits) == 1
    await office.require_ended(State.STORED, None)


FORGERIES = {
    "approved by hand": ("UPDATE decisions SET choice = 'approve'", DecisionForged),
    "in another's name": ("UPDATE decisions SET user_id = 'U3'", DecisionForged),
    "at another time": ("UPDATE decisions SET decided_at = '2026-11-20 12:00:01.000000'", DecisionForged),
    "not a choice": ("UPDATE decisions SET choice = 'perhaps'", DecisionForged),
    "without a signature": ("UPDATE decisions SET signature = ''", DecisionForged),
    "of another type": ("UPDATE decisions SET user_id = x'00'", DecisionForged),
}


@pytest.mark.parametrize(("statement", "error"), FORGERIES.values(), ids=FORGERIES)
async def test_a_decision_that_was_changed_does_not_count(
    office: Office, statement: str, error: type[BotError]
) -> None:
    """Whoever can write rows cannot decide by that."""
    await office.wait_for_approval()
    await office.decide(Choice.DENY)
    office.execute(statement)
    await office.house.deliver_all()
    await office.require_ended(State.DENIED, error)


async def test_a_decision_that_was_deleted_is_not_made_again(office: Office) -> None:
    """Whoever deletes a denial cannot have another approver asked, who does not know of it."""
    await office.wait_for_approval()
    await office.decide(Choice.DENY)
    office.execute("DELETE FROM decisions")
    with pytest.raises(RecordForged):
        await office.decide(user_id="U3")
    await office.house.deliver_all()
    await office.require_ended(State.DENIED, DecisionForged)


@pytest.mark.parametrize("change", ["channel_id = 'C0ELSEWHERE'", "message_ts = '1764000000.000200'"])
async def test_no_other_message_is_changed_than_the_one_that_asked(office: Office, change: str) -> None:
    """Whoever can write rows could have the bot overwrite what it said elsewhere."""
    await office.wait_for_approval()
    office.execute(f"UPDATE approval_requests SET {change}")  # noqa: S608 - our own words
    await office.decide(Choice.DENY)
    await office.house.deliver_all()
    await office.require_ended(State.DENIED, ApprovalDenied, is_asked=False)


async def test_a_decision_that_was_inserted_does_not_count(office: Office) -> None:
    """Not with a signature of another submission's decision either."""
    await office.wait_for_approval()
    real = await office.make_decision()
    office.execute(
        "INSERT INTO decisions VALUES ('V1', 'approve', 'U2', '2026-11-20 12:00:00.000000', ?, ?)",
        real.digest,
        replace(real, submission_id="V7").signed_by(AUTHENTICITY).signature,
    )
    office.house.clock.now += ASK_AGAIN_AFTER
    await office.house.deliver_all()
    await office.require_ended(State.DENIED, DecisionForged)


@pytest.mark.parametrize("state", ["verifying", "storing"])
async def test_a_state_that_was_changed_skips_no_approval(office: Office, state: str) -> None:
    """Such a row is set aside; and even if the bot has brought it there, only a decision that counts leads on."""
    await office.wait_for_approval()
    office.execute("UPDATE submissions SET state = ?, next_attempt_at = accepted_at", state)
    assert await office.house.deliver() is None
    assert office.house.posts == []
    await sign_again(office.house.database)
    await office.house.deliver()
    assert office.house.posts == []
    if state == "storing":
        await office.require_ended(State.DENIED, ApprovalMissing)
    else:
        assert (await office.house.read()).state is State.AWAITING_APPROVAL


async def test_a_changed_token_is_not_the_one_that_was_approved(office: Office) -> None:
    """A sealed token that was put in its place after the decision: such a row is set aside altogether."""
    await office.wait_for_approval()
    await office.decide()
    other = office.house.make_submission(SECOND).sealed.token
    office.execute("UPDATE submissions SET sealed_token = ?", other)
    await office.house.deliver_all()
    assert office.house.sent == []
    with pytest.raises(RecordForged):
        await office.house.read()


async def test_findings_that_changed_are_not_what_was_approved(office: Office) -> None:
    """The approver saw the id of another token. Whoever changes the row has it set aside."""
    await office.wait_for_approval()
    await office.decide()
    office.execute("UPDATE submissions SET token_id = ?", "0f" * 16)
    assert await office.house.deliver() is None
    assert office.house.sent == []
    await sign_again(office.house.database)
    await office.house.deliver_all()
    await office.require_ended(State.DENIED, ApprovalOutdated)


async def test_a_button_for_another_token_decides_nothing(office: Office) -> None:
    """A forged digest."""
    await office.wait_for_approval()
    decision = replace(await office.make_decision(), digest="0" * 32).signed_by(AUTHENTICITY)
    assert (await office.house.submissions.decide(decision)).answer is Answer.ANOTHER_TOKEN
    assert await office.approvals.find_decision("V1") is None


async def test_an_unknown_submission_decides_nothing(office: Office) -> None:
    """A forged id."""
    await office.wait_for_approval()
    decision = replace(await office.make_decision(), submission_id="V7").signed_by(AUTHENTICITY)
    assert await office.house.submissions.decide(decision) == Decided(answer=Answer.NOT_WAITING)


async def test_a_damaged_request_stops_neither_the_bucket_nor_the_result(office: Office) -> None:
    """Its message stays as it is; the log names the row."""
    await office.wait_for_approval()
    office.execute("UPDATE approval_requests SET channel_id = x'00'")
    await office.decide(Choice.DENY)
    await office.house.deliver_all()
    await office.require_ended(State.DENIED, ApprovalDenied, is_asked=False)


async def test_a_decision_while_the_delivery_runs_is_not_slept_over(office: Office) -> None:
    """It comes between the question whether there is one and the move that waits."""
    house = office.house
    await house.submit()

    class Slow(Approvers):
        async def post_request(self, pending: Pending) -> str | None:
            ts = await super().post_request(pending)
            assert (await office.decide()).answer is Answer.RECORDED
            return ts

    house.asker = office.asker = Slow(house.death)
    assert await house.deliver() is None
    await office.require_ended(State.STORED, None)


async def test_a_posted_request_that_could_not_be_recorded_is_not_posted_again(office: Office) -> None:
    """Only the recording is repeated."""
    house = office.house
    await house.submit()

    class Broken(Approvers):
        async def post_request(self, pending: Pending) -> str | None:
            ts = await super().post_request(pending)
            with closing(connect(house.database_path)) as other:
                other.execute("ALTER TABLE approval_requests RENAME TO away")
            return ts

    house.asker = asker = Broken(house.death)
    delivery = house.delivery
    due = await delivery.deliver(LAKE)
    assert due is not None
    with closing(connect(house.database_path)) as other:
        other.execute("ALTER TABLE away RENAME TO approval_requests")
    house.clock.now = due
    await delivery.deliver(LAKE)
    assert len(asker.asked) == 1
    assert await office.approvals.find_request("V1") is not None


@pytest.mark.parametrize("choice", Choice)
async def test_a_kill_at_any_point_decides_as_was_decided(office: Office, choice: Choice) -> None:
    """Killed before or after each call, and restarted: stored if approved, and only then."""
    house = office.house
    for step in count(1):
        name = f"lake-{step}"
        house.cloudflare.add_bucket(name, token=OLD)
        await house.submit(GOOD, name, name)
        key = replace(LAKE, bucket=name)
        office.asker.asked.clear()
        has_died = await _die_at(office, step, name, choice)
        if (await house.read(name)).state is not State.AWAITING_APPROVAL or not office.asker.asked:
            await house.deliver(key)
        if not (await house.read(name)).is_ended and await office.approvals.find_decision(name) is None:
            assert (await office.decide(choice, view_id=name)).answer is Answer.RECORDED
        await house.deliver_all(key)
        ended, slot = await house.read(name), house.cloudflare.stored_token(name)
        assert ended.state is (State.STORED if choice is Choice.APPROVE else State.DENIED), step
        assert slot == (GOOD if choice is Choice.APPROVE else OLD), step
        assert house.read_sealed(name) == Sealed(), step
        assert office.asker.closed[-1][0].state is ended.state, step
        assert house.reported[-1] == (name, ended.state), step
        if not has_died:
            assert step > 20
            return


async def _die_at(office: Office, step: int, name: str, choice: Choice) -> bool:
    """Submit, ask, decide and deliver in one process, which dies at that step; return whether it came so far."""
    house = office.house
    key = replace(LAKE, bucket=name)

    async def live() -> None:
        delivery = house.delivery
        await delivery.deliver(key)
        await house.submissions.decide(await office.make_decision(choice, view_id=name))
        await delivery.deliver(key)

    house.death.steps, house.death.at_step = 0, step
    task = asyncio.create_task(live())
    await asyncio.wait([task])
    house.death.at_step = None
    if not task.cancelled():
        task.result()
    return task.cancelled()


@pytest.mark.parametrize(
    ("choice", "ending"), [(Choice.APPROVE, State.ENABLED), (Choice.DENY, State.DENIED), (None, State.EXPIRED)]
)
async def test_enabling_waits_as_well(office: Office, choice: Choice | None, ending: State) -> None:
    """It costs money, and the bot cannot undo it."""
    new = office.house.make_submission(bucket="pond", task=Task.ENABLE, sealed=Sealed())
    await office.house.submissions.add(new)
    assert await office.house.deliver(new.key) == ASK_AGAIN_AFTER
    assert (await office.house.read()).state is State.AWAITING_APPROVAL
    assert office.house.posts == []
    if choice is not None:
        await office.decide(choice)
    await office.house.deliver_all(new.key)
    ended = await office.house.read()
    assert (ended.state, ended.decided_by) == (ending, APPROVER if choice else None)
    assert len(office.house.posts) == (1 if choice is Choice.APPROVE else 0)
    assert office.asker.endings == [("V1", ending)]


async def test_enabling_goes_on_if_no_approval_is_needed_any_more(office: Office) -> None:
    """Even if it was approved before, and Cloudflare did not answer since."""
    new = office.house.make_submission(bucket="pond", task=Task.ENABLE, sealed=Sealed())
    await office.house.submissions.add(new)
    await office.house.deliver(new.key)
    await office.decide()
    office.house.cloudflare.fail_next("enable", status=500)
    assert await office.house.deliver(new.key) is not None
    assert (await office.house.read()).decided_by == APPROVER
    office.follow(replace(RULE, approvals=0))
    await office.house.deliver_all(new.key)
    assert (await office.house.read()).state is State.ENABLED
