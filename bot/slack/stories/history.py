"""`history`: the last submissions as a list, for whoever may see their buckets. Redacted by construction."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bot.model.errors import BotError
from bot.model.submission import Submission, Task
from bot.policy.rules import Verb
from bot.slack.blocks import Json, context, date, escape, section, verbatim
from bot.slack.inbound.payloads import Command
from bot.slack.inbound.routes import Routes
from bot.slack.messages.outcome import TASK_WORDS
from bot.slack.messages.redacted import RedactedProgress, RedactedResult
from bot.slack.progress_steps import steps_of
from bot.slack.stories.parts import Parts
from bot.slack.stories.refusal import refuse_lookup
from bot.slack.subcommands import HISTORY

MOST_SHOWN: Final = 20

_MOST_READ: Final = 500
"""Submissions that are looked through for those that somebody may see."""

_UNDER_WAY: Final = ":hourglass_flowing_sand:"


@dataclass(frozen=True, slots=True)
class History:
    """The list is read anew each time; nothing of it is asked of Cloudflare."""

    parts: Parts

    def register(self, routes: Routes) -> None:
        """Take the subcommand."""
        routes.on_command(HISTORY, self.answer)

    async def answer(self, command: Command) -> str | Json:
        """Return what the person reads."""
        parts, bucket = self.parts, command.bucket
        try:
            permit = await parts.gate.permit(command.actor)
            permit.require(Verb.HISTORY, parts.key(bucket) if bucket else None, command.channel_id)
            most = MOST_SHOWN if bucket else _MOST_READ
            submissions = await parts.submissions.history(parts.account_id, bucket or None, most)
        except BotError as error:
            return refuse_lookup(error, command.actor, parts.contact)
        return history_message([each for each in submissions if permit.sees(each.key)], bucket, parts.clock())


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
    mark, words = _outcome(submission, now)
    return f"{mark}{where} *{words}*: {who}{TASK_WORDS[submission.task].aside}{_token(submission)}{reason}"


def _outcome(submission: Submission, now: datetime) -> tuple[str, str]:
    if not submission.is_ended:
        steps = steps_of(submission.task)
        return _UNDER_WAY, RedactedProgress.of(submission, now, steps).waiting or "under way"
    result = RedactedResult.of(submission)
    words = result.outcome.words
    return result.outcome.mark, f"{words} ({result.error.code})" if result.error else words


def _token(submission: Submission) -> str:
    if submission.task is Task.ENABLE:
        return ""
    token = submission.findings.token if submission.findings else None
    known = f", token ID `{escape(token.id)}`" if token else ""
    return f", token ending in `{escape(submission.last_four)}`{known}"


def _say_newest(submission: Submission) -> str:
    words = RedactedResult.of(submission).outcome.words if submission.is_ended else "under way"
    return (
        f"<@{submission.user_id}>'s for `{escape(submission.key.bucket)}` on {date(submission.accepted_at)}: {words}."
    )
