"""The open submissions of a bucket are processed in an order, each at its time."""

from datetime import datetime, timedelta

import pytest

from bot.cloudflare.budget import Urgency
from bot.delivery.schedule import URGENCIES, schedule, urgency_of
from bot.model.origin import id_in_fleet
from bot.model.submission import Pending, Sealed, State, Task
from tests.make import NOW, make_ended_submission, make_submission

LATER = NOW + timedelta(minutes=5)


def _pending(name: str, task: Task, state: State = State.ACCEPTED) -> Pending:
    return Pending(submission=make_submission(id=name, task=task, state=state), sealed=Sealed())


WORK = [
    _pending("check", Task.CHECK),
    Pending(submission=make_ended_submission(id="ended", next_attempt_at=NOW), sealed=Sealed()),
    _pending("held", Task.STORE),
    _pending("newest", Task.STORE),
    _pending("confirming", Task.STORE, State.CONFIRMING),
    _pending("enabling", Task.ENABLE),
]
EXPIRY = WORK[0].submission.expires_at


def test_checks_come_last() -> None:
    """Neither a write nor its message waits for a check, which may wait long itself."""
    agenda = schedule(WORK, {})
    assert [pending.submission.id for pending, _ in agenda] == [
        "enabling",
        "newest",
        "confirming",
        "held",
        "ended",
        "check",
    ]


@pytest.mark.parametrize(
    ("open_from", "late"),
    [
        pytest.param({}, set[str](), id="all is open"),
        pytest.param({Urgency.CHECK: LATER}, {"check"}, id="checks are stopped"),
        pytest.param(
            {Urgency.WRITE: LATER, Urgency.CHECK: LATER},
            {"check", "newest", "confirming", "enabling"},
            id="everything is stopped",
        ),
    ],
)
def test_only_stopped_submissions_wait(open_from: dict[Urgency, datetime], late: set[str]) -> None:
    """A stop of the checks does not stop writes; messages and expiries do not wait for Cloudflare."""
    due = {pending.submission.id: at for pending, at in schedule(WORK, open_from)}
    assert {name for name, at in due.items() if at == LATER} == late
    assert due["held"] == EXPIRY
    assert due["ended"] == NOW


def test_nothing_waits_beyond_its_expiry() -> None:
    """Then it ends, and its person gets the result."""
    stopped = dict.fromkeys(Urgency, EXPIRY + timedelta(hours=1))
    due = {pending.submission.id: at for pending, at in schedule(WORK, stopped)}
    assert [due[name] for name in ("check", "newest", "enabling")] == [EXPIRY] * 3


def test_every_task_has_its_urgency() -> None:
    """Only a check changes nothing."""
    assert set(URGENCIES) == set(Task)
    assert {task for task, urgency in URGENCIES.items() if urgency is not Urgency.WRITE} == {Task.CHECK}


@pytest.mark.parametrize(
    ("submission_id", "urgency"),
    [("V0MADEUP", Urgency.WRITE), ("schedule.lake.7", Urgency.BULK), (id_in_fleet("f7", "lake"), Urgency.BULK)],
)
def test_one_of_many_lets_others_go_first(submission_id: str, urgency: Urgency) -> None:
    """Of 500 rotations none may delay what one person stores."""
    assert urgency_of(make_submission(id=submission_id, task=Task.ROTATE)) is urgency


def test_a_fleet_waits_where_only_many_are_stopped() -> None:
    """A single change goes on."""
    work = [_pending(id_in_fleet("f7", "lake"), Task.ROTATE)]
    assert [at for _, at in schedule(work, {Urgency.BULK: LATER})] == [LATER]
    assert [at for _, at in schedule([WORK[3]], {Urgency.BULK: LATER})] == [NOW]
