"""Logs every change of a submission, wherever it was made."""

import structlog

from bot.model.move import Change

_log = structlog.get_logger()


def log_change(change: Change) -> None:
    """Log each ending, with its cause."""
    submission = change.submission
    if change.is_new_state and submission.is_ended:
        _log.info(
            "submission_ended",
            submission=submission.id,
            bucket=submission.key.bucket,
            ending=submission.state.value,
            error=submission.error_code,
            cloudflare_code=submission.cloudflare_code,
            cf_ray=submission.cf_ray,
            superseded_by=submission.superseded_by,
        )
