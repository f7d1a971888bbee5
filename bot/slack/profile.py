"""Reads what Slack says of a person (https://docs.slack.dev/reference/objects/user-object)."""

from collections.abc import Mapping
from typing import Any, Final

from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.model.errors import SlackUnavailable
from bot.model.no_answer import explain_stranger
from bot.model.slack_ids import SlackId
from bot.policy.profile import Flaw, Profile

_SLACKBOT: Final = "USLACKBOT"
"""Slack says of it that it is no bot."""

_FLAGS: Final = {
    "deleted": Flaw.DEACTIVATED,
    "is_bot": Flaw.BOT,
    "is_workflow_bot": Flaw.BOT,
    "is_restricted": Flaw.GUEST,
    "is_ultra_restricted": Flaw.GUEST,
    "is_stranger": Flaw.STRANGER,
    "is_invited_user": Flaw.INVITED,
}
"""Slack leaves out those that do not apply, such as `is_restricted` for a deactivated person."""


def read_profile(response: AsyncSlackResponse, user_id: str) -> Profile | None:
    """Read the answer of users.info; None if it describes nobody. Raises SlackUnavailable for another person's."""
    user = response.get("user")
    if not isinstance(user, dict):
        return None
    if user.get("id", user_id) != user_id:
        raise SlackUnavailable(why=explain_stranger("the profile of another person", "Slack", "SLACK_API_URL"))
    flaws = frozenset(flaw for flag, flaw in _FLAGS.items() if user.get(flag))
    team_id, workspaces = _id(user.get("team_id")), _workspaces(user.get("enterprise_user"))
    if user_id == _SLACKBOT:
        return Profile(flaws=flaws | {Flaw.BOT})
    return Profile(team_id=team_id, workspaces=workspaces, flaws=flaws) if team_id or workspaces or flaws else None


def _workspaces(enterprise_user: object) -> frozenset[str]:
    listed: Mapping[str, Any] = enterprise_user if isinstance(enterprise_user, dict) else {}
    teams = listed.get("teams")
    return frozenset(map(_id, teams)) - {""} if isinstance(teams, list) else frozenset()


def _id(value: object) -> str:
    return value if isinstance(value, str) and SlackId.TEAM.fits(value) else ""
