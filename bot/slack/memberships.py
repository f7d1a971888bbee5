"""Who is in which user group, as Slack says it: asked once for all who wait, and remembered for a minute."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.background import Background
from bot.model.errors import MembershipUnknown, SlackRefused, SlackUnavailable
from bot.model.memory import Memory
from bot.slack.api import SlackWeb

MEMBERSHIP_LIFETIME: Final = timedelta(seconds=60)
SILENCE_LIFETIME: Final = timedelta(seconds=2)
"""How long "Slack did not tell" is an answer too: otherwise everybody who types a command would wait for Slack."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What Slack said of a user group, or (`members` is None) that it did not say."""

    members: frozenset[str] | None


class Memberships:
    """Who is in which user group, as Slack said at most a minute ago; however many ask, Slack is asked once."""

    def __init__(self, web: SlackWeb, clock: Callable[[], datetime]) -> None:
        self._web = web
        self._answers = Memory[str, _Answer](clock)
        self._questions = Background("usergroup_question_broke")

    async def members_of(self, usergroups: frozenset[str]) -> frozenset[str]:
        """Return the members of all these groups; raises MembershipUnknown when Slack does not tell."""
        answers = [answer for usergroup in usergroups if (answer := self._answers.get(usergroup)) is not None]
        if len(answers) < len(usergroups):
            answers = await asyncio.gather(*(self._answer_for(usergroup) for usergroup in usergroups))
        known = [answer.members for answer in answers if answer.members is not None]
        if len(known) < len(answers):
            raise MembershipUnknown
        return frozenset().union(*known)

    async def _answer_for(self, usergroup: str) -> _Answer:
        known = self._answers.get(usergroup)
        if known is not None:
            return known
        return await self._questions.shield(lambda: self._ask(usergroup), name=usergroup)

    async def _ask(self, usergroup: str) -> _Answer:
        try:
            answer, lifetime = _Answer(members=await self._web.usergroup_members(usergroup)), MEMBERSHIP_LIFETIME
        except (SlackRefused, SlackUnavailable) as error:
            _log.warning("usergroup_not_asked", usergroup=usergroup, error=str(error))
            retry_after = error.retry_after if isinstance(error, SlackUnavailable) else None
            answer, lifetime = _Answer(members=None), max(retry_after or timedelta(0), SILENCE_LIFETIME)
        self._answers.keep(usergroup, answer, lifetime)
        return answer
