"""Who is in which user group, as Slack says it: asked once for all who wait, and remembered for a minute."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.errors import MembershipUnknown, SlackRefused, SlackUnavailable
from bot.slack.api import SlackWeb

MEMBERSHIP_LIFETIME: Final = timedelta(seconds=60)
SILENCE_LIFETIME: Final = timedelta(seconds=2)
"""How long "Slack did not tell" is an answer too: otherwise everybody who types a command would wait for Slack."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What Slack said of a user group, or (`members` is None) that it did not say; good for a while."""

    members: frozenset[str] | None
    given_at: datetime
    lifetime: timedelta

    def is_good(self, now: datetime) -> bool:
        return timedelta(0) <= now - self.given_at < self.lifetime


class Memberships:
    """Who is in which user group, as Slack said at most a minute ago; however many ask, Slack is asked once."""

    def __init__(self, web: SlackWeb, clock: Callable[[], datetime]) -> None:
        self._web = web
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._questions: dict[str, asyncio.Task[_Answer]] = {}

    async def members_of(self, usergroups: frozenset[str]) -> frozenset[str]:
        """Return the members of all these groups; raises MembershipUnknown when Slack does not tell."""
        answers = [answer for usergroup in usergroups if (answer := self._good_answer(usergroup)) is not None]
        if len(answers) < len(usergroups):
            answers = await asyncio.gather(*(self._answer_for(usergroup) for usergroup in usergroups))
        known = [answer.members for answer in answers if answer.members is not None]
        if len(known) < len(answers):
            raise MembershipUnknown
        return frozenset().union(*known)

    def _good_answer(self, usergroup: str) -> _Answer | None:
        answer = self._answers.get(usergroup)
        return answer if answer is not None and answer.is_good(self._clock()) else None

    async def _answer_for(self, usergroup: str) -> _Answer:
        answer = self._good_answer(usergroup)
        if answer is not None:
            return answer
        question = self._questions.get(usergroup)
        if question is None:
            question = self._questions[usergroup] = asyncio.create_task(self._ask(usergroup))
        return await asyncio.shield(question)  # one who gives up must not take the answer from the others

    async def _ask(self, usergroup: str) -> _Answer:
        try:
            members: frozenset[str] | None = await self._web.usergroup_members(usergroup)
            lifetime = MEMBERSHIP_LIFETIME
        except (SlackRefused, SlackUnavailable) as error:
            _log.warning("usergroup_not_asked", usergroup=usergroup, error=str(error))
            retry_after = error.retry_after if isinstance(error, SlackUnavailable) else None
            members, lifetime = None, max(retry_after or timedelta(0), SILENCE_LIFETIME)
        finally:
            del self._questions[usergroup]
        answer = self._answers[usergroup] = _Answer(members=members, given_at=self._clock(), lifetime=lifetime)
        return answer
