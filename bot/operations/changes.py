"""Logs how submissions end, whichever process or module ended them."""

import logging

import structlog

from bot.model.errors import AccessRefused, WhoActs, error_of_code
from bot.model.move import Change
from bot.model.submission import Submission

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


def _for_the_operator(submission: Submission) -> tuple[int, dict[str, str]]:
    error = error_of_code(submission.error_code) if submission.error_code else None
    if error is None or issubclass(error, AccessRefused) or error.who_acts is not WhoActs.OPERATOR:
        return logging.INFO, {}
    known = {"setting": error.setting, "fix": error.operator_fix}
    return logging.ERROR, {name: value for name, value in known.items() if value}
