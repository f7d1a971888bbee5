"""The members of user groups, from Slack: asked once for all waiting callers, and cached for a minute."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bot.model.background import Background
from bot.model.errors import AccessRefused, MembershipUnknown, SlackRefused, SlackTrouble, UsergroupUnreadable
from bot.model.finding import Finding, Mark, Part
from bot.model.memory import Memory
from bot.slack.api import SlackWeb

MEMBERSHIP_LIFETIME: Final = timedelta(seconds=60)
SILENCE_LIFETIME: Final = timedelta(seconds=2)
"""How long a missing answer is cached too: else everyone who types a command would wait for Slack."""

USERGROUPS: Final = "R2_CREDENTIAL_ALLOWED_USERGROUPS"
_GONE: Final = "no_such_subteam"
_FIX_OF_SCOPE: Final = (
    "give the app the scope usergroups:read and install it again, or list people in R2_CREDENTIAL_ALLOWED_USERS"
)
_FIX_OF_PLAN: Final = "this Slack plan has no user groups: list people in R2_CREDENTIAL_ALLOWED_USERS"
_FIXES: Final = {
    **dict.fromkeys(("missing_scope", "no_permission", "permission_denied", "not_allowed_token_type"), _FIX_OF_SCOPE),
    **dict.fromkeys(("plan_upgrade_required", "paid_teams_only", "paid_only", "feature_not_enabled"), _FIX_OF_PLAN),
}
"""What the operator does after a refusal (https://docs.slack.dev/reference/methods/usergroups.users.list)."""


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
        self._trouble: dict[str, Finding] = {}
        self._questions = Background("usergroup_question_broke")

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Return the members of a group; raises MembershipUnknown, or UsergroupUnreadable for a refusal."""
        answer = self._answers.get(usergroup)
        if answer is None:
            answer = await self._questions.shield(lambda: self._ask(usergroup), name=usergroup)
        if answer.refusal is not None:
            raise answer.refusal
        return answer.members

    def trouble_with(self, usergroup: str) -> Finding | None:
        """Return what is wrong with a group, as of the last time that Slack was asked about it."""
        return self._trouble.get(usergroup)

    async def _ask(self, usergroup: str) -> _Answer:
        try:
            answer, lifetime = _Answer(members=await self._web.usergroup_members(usergroup)), MEMBERSHIP_LIFETIME
            self._trouble.pop(usergroup, None)
        except (SlackRefused, SlackTrouble) as error:
            answer, lifetime = self._read_failure(usergroup, error)
        self._answers.keep(usergroup, answer, lifetime)
        return answer

    def _read_failure(self, usergroup: str, error: SlackRefused | SlackTrouble) -> tuple[_Answer, timedelta]:
        """Distinguish a refusal, which stays until an operator acts, from no answer.

        A group that is disabled, or was never there, counts as one that Slack does not show: if it counted as empty, a
        misspelt id, or who may disable a group, would leave the decision to a later rule without its approval.
        """
        self._trouble[usergroup] = _describe(usergroup, error)
        if isinstance(error, SlackTrouble):
            return _Answer(refusal=MembershipUnknown), max(error.retry_after or timedelta(0), SILENCE_LIFETIME)
        if error.slack_error == _GONE or error.slack_error in _FIXES:
            return _Answer(refusal=UsergroupUnreadable), MEMBERSHIP_LIFETIME
        return _Answer(refusal=MembershipUnknown), SILENCE_LIFETIME  # such as during the rotation of the bot token


def _describe(usergroup: str, error: SlackRefused | SlackTrouble) -> Finding:
    """Say what is wrong; a token that is refused has a finding of its own."""
    slack_error = error.slack_error if isinstance(error, SlackRefused) else ""
    if slack_error == _GONE:
        text = f"the user group {usergroup} does not exist, or is disabled"
        return _bad_usergroup("usergroup_gone", usergroup, slack_error, text, "remove its id from the list")
    if slack_error in _FIXES:
        text = f"Slack does not show the bot who is in the user group {usergroup}"
        return _bad_usergroup("usergroup_unreadable", usergroup, slack_error, text, _FIXES[slack_error])
    text = f"Slack did not say who is in the user group {usergroup}"
    return _bad_usergroup("usergroup_not_asked", usergroup, slack_error, text, "")


def _bad_usergroup(event: str, usergroup: str, slack_error: str, text: str, fix: str) -> Finding:
    return Finding(
        part=Part.PEOPLE,
        event=event,
        text=f"{text} ({slack_error})" if slack_error else text,
        mark=Mark.FAILED if fix else Mark.WARNING,
        setting=USERGROUPS if fix else "",
        fix=fix,
        known={"usergroup": usergroup, "slack_error": slack_error or None},
        about=usergroup,
    )
