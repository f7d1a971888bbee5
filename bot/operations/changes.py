"""Logs and counts how submissions end, whichever process or module ended them."""

import logging
from collections.abc import Callable
from itertools import product

import structlog

from bot.metrics import ENDED, NONE, ROTATIONS, Metrics
from bot.model.errors import AccessRefused, BotError, WhoActs, error_of_code, leaves
from bot.model.move import Change
from bot.model.submission import State, Submission, Task

_log = structlog.get_logger()


def log_change(change: Change) -> None:
    """Log a submission's end and its cause; if only the operator can help, at level error and with the fix."""
    submission = change.submission
    if change.is_new_state and submission.is_ended:
        level, what_to_do = _for_the_operator(submission)
        _log.log(
            level,
            "submission_ended",
            reference=submission.id,
            task=submission.task.value,
            bucket=submission.key.bucket,
            ending=submission.state.value,
            error=submission.error_code,
            seconds=_duration(submission),
            cloudflare_code=submission.cloudflare_code,
            cf_ray=submission.cf_ray,
            superseded_by=submission.superseded_by,
            **what_to_do,
        )


def _duration(submission: Submission) -> float | None:
    """Return the seconds from Submit to the end."""
    ended_at = submission.ended_at
    return None if ended_at is None else round((ended_at - submission.accepted_at).total_seconds(), 3)


def count_endings(metrics: Metrics) -> Callable[[Change], None]:
    """Return a watcher that counts endings.

    The failures that the operator has to resolve begin at zero: without that, Prometheus would see no increase at the
    first one, and raise no alert.
    """
    operators = [leaf for leaf in leaves(BotError) if _is_operators(leaf)]
    for task, ending, leaf in product(Task, (State.FAILED, State.UNCERTAIN), operators):
        metrics.count(ENDED, task, ending, leaf.code, leaf.who_acts, by=0)

    def count(change: Change) -> None:
        submission = change.submission
        if change.is_new_state and submission.is_ended:
            error = error_of_code(submission.error_code) if submission.error_code else None
            code, who_acts = (error.code, error.who_acts) if error else (NONE, NONE)
            metrics.count(ENDED, submission.task, submission.state, code, who_acts)
            if submission.task is Task.ROTATE:
                metrics.count(ROTATIONS, submission.state)

    return count


def _is_operators(error: type[BotError]) -> bool:
    """Whether only the operator can resolve it. A refused person asks the operator too, who may well say no."""
    return error.who_acts is WhoActs.OPERATOR and not issubclass(error, AccessRefused)


def _for_the_operator(submission: Submission) -> tuple[int, dict[str, str]]:
    error = error_of_code(submission.error_code) if submission.error_code else None
    if error is None or not _is_operators(error):
        return logging.INFO, {}
    known = {"setting": error.setting, "fix": error.operator_fix}
    return logging.ERROR, {name: value for name, value in known.items() if value}
