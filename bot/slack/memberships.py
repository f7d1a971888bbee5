"""The members of user groups, from Slack: asked once for all waiting callers, and cached for a minute."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.background import Background
from bot.model.errors import AccessRefused, MembershipUnknown, SlackRefused, SlackTrouble, UsergroupUnreadable
from bot.model.memory import Memory
from bot.slack.api import SlackWeb

MEMBERSHIP_LIFETIME: Final = timedelta(seconds=60)
SILENCE_LIFETIME: Final = timedelta(seconds=2)
"""How long a missing answer is cached too: else everyone who types a command would wait for Slack."""

_SETTING: Final = "R2_CREDENTIAL_ALLOWED_USERGROUPS"
_GONE: Final = "no_such_subteam"
_FIX_OF_SCOPE: Final = (
    "give the app the scope usergroups:read and install it again, or list people in R2_CREDENTIAL_ALLOWED_USERS"
)
_FIX_OF_PLAN: Final = "this Slack plan has no user groups: list people in R2_CREDENTIAL_ALLOWED_USERS"
_FIXES: Final = {
    _GONE: "there is no such group: remove its id from the list, or replace it",
    **dict.fromkeys(("missing_scope", "no_permission", "permission_denied", "not_allowed_token_type"), _FIX_OF_SCOPE),
    **dict.fromkeys(("plan_upgrade_required", "paid_teams_only", "paid_only", "feature_not_enabled"), _FIX_OF_PLAN),
}
"""What the operator does after a refusal (https://docs.slack.dev/reference/methods/usergroups.users.list)."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Slack's answer about a user group, or why there is none."""

    members: frozenset[str] = frozenset()
    refusal: type[AccessRefused] | None = None


class Memberships:
    """The members of user groups, at most a minute old; concurrent callers share one question to Slack."""

    def __init__(self, web: SlackWeb, clock: Callable[[], datetime]) -> None:
        self._web = web
        self._answers = Memory[str, _Answer](clock)
        self._reported: dict[str, str] = {}
        self._questions = Background("usergroup_question_broke")

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Return the members of a group; raises MembershipUnknown, or UsergroupUnreadable for a refusal."""
        answer = self._answers.get(usergroup)
        if answer is None:
            answer = await self._questions.shield(lambda: self._ask(usergroup), name=usergroup)
        if answer.refusal is not None:
            raise answer.refusal
        return answer.members

    async def _ask(self, usergroup: str) -> _Answer:
        try:
            answer, lifetime = _Answer(members=await self._web.usergroup_members(usergroup)), MEMBERSHIP_LIFETIME
            self._reported.pop(usergroup, None)
        except (SlackRefused, SlackTrouble) as error:
            answer, lifetime = self._read_failure(usergroup, error)
        self._answers.keep(usergroup, answer, lifetime)
        return answer

    def _read_failure(self, usergroup: str, error: SlackRefused | SlackTrouble) -> tuple[_Answer, timedelta]:
        """Distinguish a deleted group, which has no members, from one that Slack does not show, and from no answer."""
        if isinstance(error, SlackTrouble):
            _log.warning("usergroup_not_asked", usergroup=usergroup, error=str(error))
            wait = max(error.retry_after or timedelta(0), SILENCE_LIFETIME)
            return _Answer(refusal=MembershipUnknown), wait
        fix = _FIXES.get(error.slack_error)
        self._report(usergroup, error.slack_error, fix)
        if fix is None:  # such as during the rotation of the bot token
            return _Answer(refusal=MembershipUnknown), SILENCE_LIFETIME
        is_gone = error.slack_error == _GONE
        return _Answer(refusal=None if is_gone else UsergroupUnreadable), MEMBERSHIP_LIFETIME

    def _report(self, usergroup: str, slack_error: str, fix: str | None) -> None:
        """Log an error for the operator, once and not every minute."""
        if self._reported.get(usergroup) != slack_error:
            event = "usergroup_gone" if slack_error == _GONE else "usergroup_unreadable"
            setting = _SETTING if fix else "SLACK_BOT_TOKEN"
            fix = fix or "check that the app is installed and that its token is valid"
            _log.error(event, usergroup=usergroup, slack_error=slack_error, setting=setting, fix=fix)
        self._reported[usergroup] = slack_error
