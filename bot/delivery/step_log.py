"""Logs what came of each step: how long it took, and what the submission waits for, if it does."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

import structlog

from bot.delivery.step import Step
from bot.model.errors import BotError
from bot.model.move import Move
from bot.model.reference import about
from bot.model.submission import ENDINGS, Pending, Submission

_log = structlog.get_logger()


@contextmanager
def following(submission: Submission, clock: Callable[[], datetime]) -> Iterator[None]:
    """Put the submission's reference on all lines meanwhile; log it if an error or a stop interrupts the work."""
    began = clock()
    with about(submission.id):
        try:
            yield
        except BaseException as error:
            cause = error.code if isinstance(error, BotError) else type(error).__name__
            _log.info("submission_interrupted", state=submission.state.value, error=cause, seconds=_since(began, clock))
            raise


async def follow_step(step: Step, taking: Awaitable[Move | None], clock: Callable[[], datetime]) -> Move | None:
    """Return the move of a step, and log it. A step with an effect is logged when that has ended, as one step."""
    began = clock()
    move = await taking
    if move is None or move.effect is None:
        _log_step(step, move, _since(began, clock), clock())
        return move
    return replace(move, effect=partial(_follow_effect, step, move.effect, began, clock))


async def _follow_effect(
    step: Step,
    effect: Callable[[Pending], Awaitable[Move]],
    began: datetime,
    clock: Callable[[], datetime],
    pending: Pending,
) -> Move:
    move = await effect(pending)
    _log_step(step, move, _since(began, clock), clock())
    return move


def log_wait(until: datetime, *, error: str | None, step: str | None = None, seconds: float | None = None) -> None:
    """Log that a submission waits: for what, and until when. `seconds` is how long the step before took."""
    _log.info("submission_postponed", step=step, seconds=seconds, error=error, until=until.isoformat())


def _log_step(step: Step, move: Move | None, seconds: float, now: datetime) -> None:
    if move is None:  # a condition that is checked again before each step: news only if it does not hold
        _log.debug("step_taken", step=step.name, outcome="done", seconds=seconds)
        return
    error = str(move.because) if move.because else None
    if move.to in ENDINGS or (move.because is None and move.at <= now):
        outcome = move.to.value if move.to in ENDINGS else "done"
        known = {"error": error, "cf_ray": move.changes.cf_ray, "unchecked": _unchecked(move)}
        more = {name: value for name, value in known.items() if value}
        _log.info("step_taken", step=step.name, outcome=outcome, seconds=seconds, **more)
    else:
        log_wait(move.at, error=error, step=step.name, seconds=seconds)


def _unchecked(move: Move) -> list[str]:
    return sorted(move.changes.findings.unchecked) if move.changes.findings else []


def _since(began: datetime, clock: Callable[[], datetime]) -> float:
    return round((clock() - began).total_seconds(), 3)
