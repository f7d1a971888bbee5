"""What a bot token is, and where it is installed, as Slack tells it (auth.test)."""

from collections.abc import Mapping
from dataclasses import dataclass

from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.model.errors import SlackUnavailable
from bot.model.no_answer import explain_stranger
from bot.model.slack_ids import SlackId
from bot.policy.gate import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The installation that a token belongs to, and its user. `is_bot` is False for a token of another kind."""

    home: Home
    user_id: str
    is_bot: bool


def read_identity(response: AsyncSlackResponse) -> Identity:
    """Read the answer of auth.test; raises SlackUnavailable for one that is not Slack's."""
    user_id = response.get("user_id")
    known_id = user_id if isinstance(user_id, str) and SlackId.USER.fits(user_id) else ""
    return Identity(home=_read_home(response), user_id=known_id, is_bot=bool(response.get("bot_id")))


def read_id(kind: SlackId, value: object) -> str:
    """Return a valid id; raises SlackUnavailable for anything else, as for any answer that is not Slack's."""
    if not isinstance(value, str) or not kind.fits(value):
        raise _strange()
    return value


def read_object(value: object) -> Mapping[str, object]:
    """Return an object that says something; raises SlackUnavailable for anything else.

    Read as an empty one, the answer about a channel would say that it is neither archived nor shared.
    """
    if not isinstance(value, dict) or not value:
        raise _strange()
    return value


def _strange() -> SlackUnavailable:
    return SlackUnavailable(why=explain_stranger("not Slack's format", "Slack", "SLACK_API_URL"))


def _read_home(response: AsyncSlackResponse) -> Home:
    team_id, enterprise_id = response.get("team_id"), response.get("enterprise_id")
    organization = read_id(SlackId.TEAM, enterprise_id) if enterprise_id else None
    is_org_wide = response.get("is_enterprise_install") is True or team_id == organization
    if organization is not None and (is_org_wide or not team_id):
        return Home(team_id="", enterprise_id=organization, is_org_wide=True)
    return Home(team_id=read_id(SlackId.TEAM, team_id), enterprise_id=organization, is_org_wide=is_org_wide)
