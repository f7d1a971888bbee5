"""The last submissions as a list, for whoever may see their buckets. Pure, and redacted by construction."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from bot.model.submission import State, Submission, Task
from bot.slack.blocks import Json, context, date, escape, section, verbatim
from bot.slack.messages.outcome import RedactedProgress, RedactedResult

MOST_SHOWN: Final = 20

_MARKS: Final = {
    State.STORED: ":white_check_mark:",
    State.CHECKED: ":mag:",
    State.ENABLED: ":white_check_mark:",
    State.REFUSED: ":no_entry:",
    State.DENIED: ":no_entry:",
    State.FAILED: ":x:",
    State.UNCERTAIN: ":warning:",
    State.SUPERSEDED: ":arrows_counterclockwise:",
    State.EXPIRED: ":hourglass:",
}
_UNDER_WAY: Final = ":hourglass_flowing_sand:"
_WORDS: Final = {
    State.STORED: "stored",
    State.CHECKED: "checked, nothing changed",
    State.ENABLED: "catalog enabled",
    State.REFUSED: "refused",
    State.DENIED: "not allowed",
    State.FAILED: "failed",
    State.UNCERTAIN: "not known whether it was stored",
    State.SUPERSEDED: "gave way to a newer one",
    State.EXPIRED: "too late",
}
_TASKS: Final = {Task.STORE: "", Task.CHECK: ", check only", Task.ENABLE: ", to enable the catalog"}


def history_message(submissions: Iterable[Submission], bucket: str, now: datetime) -> Json:
    """Return the answer to `history`: the newest first."""
    shown = list(submissions)[:MOST_SHOWN]
    whose = f"for `{escape(bucket)}`" if bucket else "for all buckets that you may see"
    if not shown:
        text = f"Nothing was submitted through this bot {whose} yet."
        return {"text": text, "blocks": [section(text)]}
    title = f"The last submissions {whose}, the newest first"
    lines = [_line(submission, now, with_bucket=not bucket) for submission in shown]
    return {
        "text": f"{title}: {_say_newest(shown[0])}",
        "blocks": [section(f"*{title}*"), *(verbatim(line) for line in lines), context("Times are of your time zone.")],
    }


def _line(submission: Submission, now: datetime, *, with_bucket: bool) -> str:
    where = f" `{escape(submission.key.bucket)}`" if with_bucket else ""
    who = f"<@{submission.user_id}> on {date(submission.accepted_at)}"
    reason = f"\n>{escape(submission.reason)}" if submission.reason else ""
    mark = _MARKS.get(submission.state, _UNDER_WAY)
    return f"{mark}{where} *{_outcome(submission, now)}*: {who}{_TASKS[submission.task]}{_token(submission)}{reason}"


def _outcome(submission: Submission, now: datetime) -> str:
    if not submission.is_ended:
        return RedactedProgress.of(submission, now).waiting or "under way"
    result = RedactedResult.of(submission)
    words = f"{_WORDS[submission.state]}{', but look at it' if result.is_alarm else ''}"
    return f"{words} ({result.error.code})" if result.error else words


def _token(submission: Submission) -> str:
    if submission.task is Task.ENABLE:
        return ""
    token = submission.findings.token if submission.findings else None
    known = f", token ID `{escape(token.id)}`" if token else ""
    return f", token ending in `{escape(submission.last_four)}`{known}"


def _say_newest(submission: Submission) -> str:
    words = _WORDS.get(submission.state, "under way")
    return (
        f"<@{submission.user_id}>'s for `{escape(submission.key.bucket)}` on {date(submission.accepted_at)}: {words}."
    )
