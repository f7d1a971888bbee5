"""The answer to `history`: the last submissions as a list."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from bot.model.catalog import BucketKey
from bot.model.submission import State, Submission, Task
from bot.slack.blocks import Json, actions, context, date, escape, section, verbatim
from bot.slack.messages.outcome import TASK_WORDS, ProgressStep
from bot.slack.messages.redacted import RedactedProgress, RedactedResult
from bot.slack.messages.render import rotate_button
from bot.slack.messages.requester import name_requester

MOST_SHOWN: Final = 20

_BROKEN: Final = (":rotating_light:", "stored, but no longer works")
_SAY_IT: Final = (State.CHECKED, State.ENABLED)
"""Endings whose words say what was requested."""
_UNDER_WAY: Final = ":hourglass_flowing_sand:"

_Steps = Callable[[Task], tuple[ProgressStep, ...]]


def history_message(  # noqa: PLR0913 - the last two by name
    submissions: Iterable[Submission],
    bucket: str,
    now: datetime,
    steps_of: _Steps,
    *,
    broken: frozenset[str] = frozenset(),
    rotatable: BucketKey | None = None,
) -> Json:
    """Return the answer, newest first; `steps_of` returns the lines of a task's progress.

    `broken`: ids of submissions whose credential is in the slot and no longer works. `rotatable`: the one bucket of
    the list, if the reader can rotate it.
    """
    shown = list(submissions)[:MOST_SHOWN]
    rotate = [actions(rotate_button(rotatable))] if rotatable else []
    if not shown:
        text = f"Nothing was submitted yet for {f'`{escape(bucket)}`' if bucket else 'any bucket that you may see'}."
        return {"text": text, "blocks": [section(text), *rotate]}
    whose = f"for `{escape(bucket)}`" if bucket else "for all buckets that you may see"
    title = f"The last submissions {whose}, newest first"
    lines = [
        _line(submission, _outcome(submission, now, steps_of, broken), with_bucket=not bucket) for submission in shown
    ]
    return {
        "text": f"{title}: {_say_newest(shown[0], broken)}",
        "blocks": [
            section(f"*{title}*"),
            *(verbatim(line) for line in lines),
            context("Times are in your time zone."),
            *rotate,
        ],
    }


def _line(submission: Submission, outcome: tuple[str, str], *, with_bucket: bool) -> str:
    where = f" `{escape(submission.key.bucket)}`" if with_bucket else ""
    who = f"{name_requester(submission.id, submission.user_id)} on {date(submission.accepted_at)}"
    reason = f"\n>{escape(submission.reason)}" if submission.reason else ""
    mark, words = outcome
    aside = "" if submission.state in _SAY_IT else TASK_WORDS[submission.task].aside
    return f"{mark}{where} *{words}*: {who}{aside}{_token(submission)}{reason}"


def _outcome(submission: Submission, now: datetime, steps_of: _Steps, broken: frozenset[str]) -> tuple[str, str]:
    if not submission.is_ended:
        steps = steps_of(submission.task)
        return _UNDER_WAY, RedactedProgress.of(submission, now, steps).waiting.removesuffix(".") or "under way"
    if submission.id in broken:
        return _BROKEN
    result = RedactedResult.of(submission)
    words = result.outcome.words
    return result.outcome.mark, f"{words} ({result.error.code})" if result.error else words


def _token(submission: Submission) -> str:
    if submission.task is Task.ENABLE:
        return ""
    token = submission.findings.token if submission.findings else None
    known = f", token ID `{escape(token.id)}`" if token else ""
    if submission.task is Task.ROTATE:
        return known
    return f", token ending in `{escape(submission.last_four)}`{known}"


def _say_newest(submission: Submission, broken: frozenset[str]) -> str:
    words = RedactedResult.of(submission).outcome.words if submission.is_ended else "under way"
    words = _BROKEN[1] if submission.id in broken else words
    who, bucket = name_requester(submission.id, submission.user_id), f"`{escape(submission.key.bucket)}`"
    return f"{who}'s for {bucket} on {date(submission.accepted_at)}: {words}."
