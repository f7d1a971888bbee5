"""Who is in which user group, as Slack says it: asked once for all who wait, and remembered for a minute."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.background import Background
from bot.model.errors import MembershipUnknown, SlackRefused, SlackTrouble
from bot.model.memory import Memory
from bot.slack.api import SlackWeb

MEMBERSHIP_LIFETIME: Final = timedelta(seconds=60)
SILENCE_LIFETIME: Final = timedelta(seconds=2)
"""How long "Slack did not tell" is an answer too: otherwise everybody who types a command would wait for Slack."""

_NOBODY_IN_IT: Final = frozenset({"no_such_subteam", "plan_upgrade_required"})
"""Slack's definite answers that there is no such group (https://docs.slack.dev/reference/methods/usergroups.users.list)."""

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
        self._gone: set[str] = set()
        self._questions = Background("usergroup_question_broke")

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Return the members of a group; raises MembershipUnknown when Slack does not tell."""
        answer = self._answers.get(usergroup)
        if answer is None:
            answer = await self._questions.shield(lambda: self._ask(usergroup), name=usergroup)
        if answer.members is None:
            raise MembershipUnknown
        return answer.members

    async def _ask(self, usergroup: str) -> _Answer:
        try:
            answer, lifetime = _Answer(members=await self._web.usergroup_members(usergroup)), MEMBERSHIP_LIFETIME
            self._gone.discard(usergroup)
        except (SlackRefused, SlackTrouble) as error:
            answer, lifetime = self._read_failure(usergroup, error)
        self._answers.keep(usergroup, answer, lifetime)
        return answer

    def _read_failure(self, usergroup: str, error: SlackRefused | SlackTrouble) -> tuple[_Answer, timedelta]:
        """Tell a group that is gone, which has no members, from silence."""
        if isinstance(error, SlackRefused) and error.slack_error in _NOBODY_IN_IT:
            if usergroup not in self._gone:  # the operator has to hear it, and not once a minute
                _log.error("usergroup_gone", usergroup=usergroup, slack_error=error.slack_error)
            self._gone.add(usergroup)
            return _Answer(members=frozenset()), MEMBERSHIP_LIFETIME
        _log.warning("usergroup_not_asked", usergroup=usergroup, error=str(error))
        retry_after = error.retry_after if isinstance(error, SlackTrouble) else None
        return _Answer(members=None), max(retry_after or timedelta(0), SILENCE_LIFETIME)
