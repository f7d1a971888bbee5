"""What Slack says of people: asked once for all who wait, and cached for a minute.

Slack's user groups hold no guests and no bots, but a list of ids can, and a person can leave while a submission waits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from bot.model.background import Background
from bot.model.errors import PersonUnknown, SlackRefused, SlackTrouble
from bot.model.finding import Finding, Mark, Part
from bot.model.memory import Memory
from bot.policy.profile import Flaw, Profile
from bot.slack.api import SlackWeb

PROFILE_LIFETIME: Final = timedelta(seconds=60)
OLDEST_PROFILE: Final = timedelta(minutes=10)
"""How old an answer may be that counts while Slack gives no other."""

SILENCE_LIFETIME: Final = timedelta(seconds=2)
MOST_PEOPLE: Final = 4096

_NOBODY: Final = frozenset({"user_not_found", "user_not_visible"})
_NEVER: Final = frozenset(
    {
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "unknown_method",
        "method_deprecated",
        "deprecated_endpoint",
    }
)
"""Refusals that waiting does not end (https://docs.slack.dev/reference/methods/users.info)."""

_FIX: Final = "give the app the scope users:read, as in manifest.yml, and install it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Slack's answer about a person; without a profile, Slack does not let the bot know."""

    profile: Profile | None


class Profiles:
    """Profiles, at most a minute old while Slack answers; concurrent callers share one question about a person."""

    def __init__(self, web: SlackWeb, clock: Callable[[], datetime]) -> None:
        self._web = web
        self._answers = Memory[str, _Answer](clock, MOST_PEOPLE)
        self._asked = Memory[str, bool](clock, MOST_PEOPLE)
        self._questions = Background("person_question_broke")
        self.trouble: Finding | None = None
        """What is wrong with such questions, as of the last one."""

    async def profile_of(self, user_id: str) -> Profile | None:
        """Return what Slack says of a person, or None if it does not let the bot know.

        Raises PersonUnknown if Slack does not answer now, and has not in the last ten minutes.
        """
        if self._asked.get(user_id) is None:
            await self._questions.shield(lambda: self._ask(user_id), name=user_id)
        answer = self._answers.get(user_id)
        if answer is None:
            raise PersonUnknown
        return answer.profile

    async def _ask(self, user_id: str) -> None:
        try:
            answer = await self._read(user_id)
        except (SlackRefused, SlackTrouble) as error:
            self.trouble = _not_asked(error)
            pause = error.retry_after if isinstance(error, SlackTrouble) else None
            self._asked.keep(user_id, True, max(pause or timedelta(0), SILENCE_LIFETIME))  # noqa: FBT003 - a set
        else:
            self._answers.keep(user_id, answer, OLDEST_PROFILE)
            self._asked.keep(user_id, True, PROFILE_LIFETIME)  # noqa: FBT003 - as above

    async def _read(self, user_id: str) -> _Answer:
        """Ask Slack. An app without the scope, as installed before the bot asked for it, must go on working."""
        because = "it describes nobody"
        try:
            profile = await self._web.person(user_id)
        except SlackRefused as refusal:
            if refusal.slack_error in _NOBODY:
                return _Answer(profile=Profile(flaws=frozenset({Flaw.NOT_FOUND})))
            if refusal.slack_error not in _NEVER:
                raise
            profile, because = None, refusal.slack_error
        except SlackTrouble as trouble:
            if trouble.status != HTTPStatus.NOT_FOUND:
                raise
            profile, because = None, f"HTTP {trouble.status}"
        self.trouble = _not_looked_up(because) if profile is None else None
        return _Answer(profile=profile)


def _not_looked_up(because: str) -> Finding:
    return Finding(
        part=Part.PEOPLE,
        event="people_not_looked_up",
        text=f"Slack does not tell the bot who is a guest or deactivated, so the allowlist alone decides ({because})",
        mark=Mark.WARNING,
        setting="SLACK_BOT_TOKEN",
        fix=_FIX,
        known={"because": because},
    )


def _not_asked(error: SlackRefused | SlackTrouble) -> Finding:
    because = error.slack_error if isinstance(error, SlackRefused) else error.why.because
    text = f"Slack did not say who is a guest or deactivated: {because}"
    return Finding(part=Part.PEOPLE, event="people_not_asked", text=text, mark=Mark.WARNING)
