"""What Slack says of a person, and whether that rules the person out. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Flaw(StrEnum):
    """Why a person is no full, active member of a workspace, for the operator."""

    DEACTIVATED = "deactivated"
    BOT = "a bot"
    GUEST = "a guest"
    STRANGER = "a stranger from another workspace"
    INVITED = "invited, and has not joined"
    NOT_FOUND = "not known to Slack, or hidden from the bot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A user as Slack describes it.

    `team_id` is the user's workspace, or the organization on Enterprise Grid; `workspaces` are all of the user's in the
    organization, where Slack lists them.
    """

    team_id: str = ""
    workspaces: frozenset[str] = frozenset()
    flaws: frozenset[Flaw] = frozenset()

    def is_member_of(self, team_id: str, enterprise_id: str | None) -> bool:
        """Return whether this is a full, active member of a workspace, which may belong to an organization.

        A user of the same organization who is in other workspaces of it only is not.
        """
        is_in_it = team_id == self.team_id or team_id in self.workspaces
        is_listed_nowhere = not self.workspaces and enterprise_id is not None and self.team_id == enterprise_id
        return not self.flaws and (is_in_it or is_listed_nowhere)
