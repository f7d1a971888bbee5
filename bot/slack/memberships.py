"""Who is in which user group, as Slack says it: asked once for all who wait, and remembered for a minute."""

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
"""How long "Slack did not tell" is an answer too: otherwise everybody who types a command would wait for Slack."""

_SETTING: Final = "R2_CREDENTIAL_ALLOWED_USERGROUPS"
_GONE: Final = "no_such_subteam"
_FIX_OF_SCOPE: Final = (
    "give the app the scope usergroups:read and install it again, or list people in R2_CREDENTIAL_ALLOWED_USERS"
)
_FIX_OF_PLAN: Final = "this Slack plan has no user groups: list people in R2_CREDENTIAL_ALLOWED_USERS"
_FIXES: Final = {
    _GONE: "there is no such group: take its id off the list, or write that of another one",
    **dict.fromkeys(("missing_scope", "no_permission", "permission_denied", "not_allowed_token_type"), _FIX_OF_SCOPE),
    **dict.fromkeys(("plan_upgrade_required", "paid_teams_only", "paid_only", "feature_not_enabled"), _FIX_OF_PLAN),
}
"""What the operator does after a definite no (https://docs.slack.dev/reference/methods/usergroups.users.list)."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What Slack said of a user group, or why it did not say."""

    members: frozenset[str] = frozenset()
    refusal: type[AccessRefused] | None = None


class Memberships:
    """Who is in which user group, as Slack said at most a minute ago; however many ask, Slack is asked once."""

    def __init__(self, web: SlackWeb, clock: Callable[[], datetime]) -> None:
        self._web = web
        self._answers = Memory[str, _Answer](clock)
        self._reported: dict[str, str] = {}
        self._questions = Background("usergroup_question_broke")

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Return the members of a group; raises MembershipUnknown, or UsergroupUnreadable for a definite no."""
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
        """Tell a group that is gone, which has no members, from one that Slack keeps to itself, and from silence."""
        if isinstance(error, SlackTrouble):
            _log.warning("usergroup_not_asked", usergroup=usergroup, error=str(error))
            wait = max(error.retry_after or timedelta(0), SILENCE_LIFETIME)
            return _Answer(refusal=MembershipUnknown), wait
        fix = _FIXES.get(error.slack_error)
        self._report(usergroup, error.slack_error, fix)
        if fix is None:  # such as a bot token that is being replaced
            return _Answer(refusal=MembershipUnknown), SILENCE_LIFETIME
        is_gone = error.slack_error == _GONE
        return _Answer(refusal=None if is_gone else UsergroupUnreadable), MEMBERSHIP_LIFETIME

    def _report(self, usergroup: str, slack_error: str, fix: str | None) -> None:
        """Let the operator know, and not once a minute: nobody but them can change it."""
        if self._reported.get(usergroup) != slack_error:
            event = "usergroup_gone" if slack_error == _GONE else "usergroup_unreadable"
            setting = _SETTING if fix else "SLACK_BOT_TOKEN"
            fix = fix or "check that the app is installed and that its token is good"
            _log.error(event, usergroup=usergroup, slack_error=slack_error, setting=setting, fix=fix)
        self._reported[usergroup] = slack_error
