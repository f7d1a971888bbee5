"""Judges what became of a bucket's rotation: done, failed for a reason of its own, or an alarm for the others. Pure.

What is not known to concern one bucket alone is an alarm: the next bucket could be the next one with a broken slot.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from bot.cloudflare.errors import CatalogRefusal
from bot.cloudflare.minting_errors import CatalogSwitchedOff
from bot.model.catalog import CredentialStatus
from bot.model.errors import AccessRefused, NotApproved, NotApprovedInTime, leaves
from bot.model.fleet import MOST_FAILED, SUPERSEDED, Alarm, Outcome, Result
from bot.model.submission import State, Submission

_ITS_OWN: Final = frozenset(
    leaf.code
    for kind in (AccessRefused, CatalogRefusal, CatalogSwitchedOff, NotApproved, NotApprovedInTime)
    for leaf in leaves(kind)
)
"""The errors of one bucket: somebody's right to it, its approval, or its catalog."""


def judge(submission: Submission) -> Result | None:
    """Return how a bucket's rotation ended, or None while it has not."""
    if submission.ended_at is None or not submission.is_ended:
        return None
    outcome, why = _judge(submission)
    return Result(bucket=submission.key.bucket, outcome=outcome, why=why, ended_at=submission.ended_at)


def _judge(submission: Submission) -> tuple[Outcome, str]:
    state, code = submission.state, submission.error_code or ""
    if state is State.STORED:
        return _judge_stored(submission.confirmation)
    if state is State.SUPERSEDED:
        return Outcome.FAILED, SUPERSEDED
    if code in _ITS_OWN and not submission.possibly_written:
        return Outcome.FAILED, code
    return Outcome.ALARM, code or state.value


def _judge_stored(confirmation: CredentialStatus | None) -> tuple[Outcome, str]:
    if confirmation is CredentialStatus.VALID:
        return Outcome.DONE, ""
    is_alarm = confirmation is not None and confirmation.is_alarm
    return Outcome.ALARM, Alarm.NOT_WORKING if is_alarm else Alarm.NOT_TESTED


def find_alarm(ended: Sequence[Result]) -> tuple[str, str | None] | None:
    """Return why no further bucket may be begun, and which one it is about, if one; `ended` is in that order."""
    first = next((result for result in ended if result.outcome is Outcome.ALARM), None)
    if first is not None:
        return first.why, first.bucket
    failed = [*takewhile(lambda result: result.outcome is Outcome.FAILED, reversed(ended))]
    return (Alarm.MANY_FAILED, failed[0].bucket) if len(failed) >= MOST_FAILED else None
