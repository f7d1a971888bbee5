"""What came of a step: how long it took, the outcome, and what a submission waits for."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from bot.cloudflare.errors import Throttled, TokenExpired
from bot.delivery.enable import Enable
from bot.delivery.permit import Permit
from bot.delivery.plan import PLANS
from bot.delivery.step_log import follow_step, following
from bot.delivery.store import Store
from bot.delivery.verify import Verify
from bot.model.catalog import CredentialStatus
from bot.model.errors import LeaseLost
from bot.model.move import Changes, Move
from bot.model.submission import Check, Findings, Pending, Sealed, State
from tests.clock import Clock
from tests.make import make_submission

PENDING = Pending(submission=make_submission(id="V1"), sealed=Sealed())
TOOK = timedelta(seconds=1.25)
LATER = timedelta(seconds=30)
UNCHECKED = Findings(token=None, unchecked=frozenset({Check.REACH, Check.TOKEN}), credential=CredentialStatus.ABSENT)


def lines_of(log: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines without what every line has."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [{name: line[name] for name in line.keys() - {"timestamp", "logger"}} for line in lines]


def taking(clock: Clock, move: Move | None) -> Awaitable[Move | None]:
    """Return what a step does: it takes a while, then returns its move."""

    async def take() -> Move | None:
        clock.advance(TOOK)
        return move

    return take()


def make_step(kind: type[Any]) -> Any:  # noqa: ANN401 - any step
    """Return a step that is not taken: only its name is logged."""
    return kind(None)


OUTCOMES: dict[str, tuple[type[Any], Callable[[Clock], Move | None], dict[str, object]]] = {
    "done": (Verify, lambda clock: Move(to=State.VERIFYING, at=clock()), {"outcome": "done"}),
    "done, with gaps": (
        Verify,
        lambda clock: Move(to=State.VERIFYING, at=clock(), changes=Changes(findings=UNCHECKED)),
        {"outcome": "done", "unchecked": ["reach", "token"]},
    ),
    "the end": (Enable, lambda clock: Move(to=State.ENABLED, at=clock()), {"outcome": "enabled"}),
    "an end with a reason": (
        Verify,
        lambda clock: Move(to=State.REFUSED, at=clock(), because=TokenExpired(cf_ray="8f00-AMS")),
        {"outcome": "refused", "error": "token_expired cf_ray=8f00-AMS"},
    ),
}


@pytest.mark.parametrize(("kind", "make_move", "known"), OUTCOMES.values(), ids=OUTCOMES)
async def test_a_step_is_one_line(
    log: io.StringIO,
    clock: Clock,
    kind: type[Any],
    make_move: Callable[[Clock], Move | None],
    known: dict[str, object],
) -> None:
    """With its duration, its outcome, and what else there is to know."""
    clock.advance(TOOK)
    move = make_move(clock)
    clock.advance(-TOOK)
    assert await follow_step(make_step(kind), taking(clock, move), clock) == move
    step = {"level": "info", "event": "step_taken", "step": kind.name, "seconds": 1.25}
    assert lines_of(log) == [step | known]


async def test_a_condition_that_holds_is_no_news(log: io.StringIO, clock: Clock) -> None:
    """It is checked before each step."""
    assert await follow_step(make_step(Permit), taking(clock, None), clock) is None
    [line] = lines_of(log)
    assert (line["level"], line["step"], line["outcome"]) == ("debug", "permit", "done")


@pytest.mark.parametrize("because", [Throttled(status=429), None])
async def test_a_wait_says_why_and_until_when(log: io.StringIO, clock: Clock, because: Throttled | None) -> None:
    """One line: the step has not failed for good."""
    until = clock() + LATER
    await follow_step(make_step(Verify), taking(clock, Move(to=State.VERIFYING, at=until, because=because)), clock)
    assert lines_of(log) == [
        {
            "level": "info",
            "event": "submission_postponed",
            "step": "verify",
            "seconds": 1.25,
            "error": str(because) if because else None,
            "until": until.isoformat(),
        }
    ]


async def test_a_step_with_an_effect_is_one_line_when_that_has_ended(log: io.StringIO, clock: Clock) -> None:
    """Before the effect nothing is known; its time counts."""

    async def write(pending: Pending) -> Move:
        assert pending is PENDING
        clock.advance(TOOK)
        return Move(to=State.CONFIRMING, at=clock(), changes=Changes(cf_ray="8f00-AMS"))

    intended = Move(to=State.STORING, at=clock(), effect=write)
    move = await follow_step(make_step(Store), taking(clock, intended), clock)
    assert lines_of(log) == []
    assert move is not None
    assert move.effect is not None
    following_move = await move.effect(PENDING)

    assert following_move.to is State.CONFIRMING
    assert lines_of(log) == [
        {
            "level": "info",
            "event": "step_taken",
            "step": "store",
            "outcome": "done",
            "seconds": 2.5,
            "cf_ray": "8f00-AMS",
        }
    ]


@pytest.mark.parametrize(
    ("error", "name"),
    [(LeaseLost(), "lease_lost"), (asyncio.CancelledError(), "CancelledError"), (ValueError("a word"), "ValueError")],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_work_that_is_interrupted_is_logged(log: io.StringIO, clock: Clock, error: BaseException, name: str) -> None:
    """By the code or type of the error, never by its text; the error goes on."""

    def work() -> None:
        with following(PENDING.submission, clock):
            clock.advance(TOOK)
            raise error

    with pytest.raises(type(error)):
        work()
    assert lines_of(log) == [
        {
            "level": "info",
            "event": "submission_interrupted",
            "reference": "V1",
            "state": PENDING.submission.state.value,
            "error": name,
            "seconds": 1.25,
        }
    ]


def test_every_step_has_a_name_of_its_own() -> None:
    """The log tells them apart by it."""
    kinds = {kind for plan in PLANS.values() for kind in plan}
    assert len({kind.name for kind in kinds}) == len(kinds)
