"""What Slack says of a person decides who is a full, active member of the workspace."""

import pytest

from bot.policy.profile import Flaw, Profile

HOME, ORGANIZATION = "T0SANDBOX", "E0NORTHWD"

MEMBERS: dict[str, tuple[Profile, str | None, bool]] = {
    "at home": (Profile(team_id=HOME), None, True),
    "at home, in an organization": (Profile(team_id=HOME), ORGANIZATION, True),
    "of the organization, as Slack names some": (Profile(team_id=ORGANIZATION), ORGANIZATION, True),
    "of another workspace first, and of this one": (
        Profile(team_id="T0OTHER", workspaces=frozenset({"T0OTHER", HOME})),
        ORGANIZATION,
        True,
    ),
    "of another workspace": (Profile(team_id="T0PARTNER"), None, False),
    "of another workspace of the organization": (
        Profile(team_id="T0OTHER", workspaces=frozenset({"T0OTHER"})),
        ORGANIZATION,
        False,
    ),
    "of the organization, in other workspaces": (
        Profile(team_id=ORGANIZATION, workspaces=frozenset({"T0OTHER"})),
        ORGANIZATION,
        False,
    ),
    "of another organization": (Profile(team_id="E0ANOTHER"), ORGANIZATION, False),
    "of an organization, here there is none": (Profile(team_id=ORGANIZATION), None, False),
    "of nowhere": (Profile(), None, False),
}


@pytest.mark.parametrize(("profile", "organization", "is_member"), MEMBERS.values(), ids=MEMBERS)
def test_a_member_is_one_of_this_workspace(profile: Profile, organization: str | None, *, is_member: bool) -> None:
    """A workspace or organization of the same name part is not enough: ids are compared."""
    assert profile.is_member_of(HOME, organization) is is_member


@pytest.mark.parametrize("flaw", Flaw)
def test_no_flaw_is_outweighed_by_a_workspace(flaw: Flaw) -> None:
    """A guest of this workspace is in it too."""
    profile = Profile(team_id=HOME, workspaces=frozenset({HOME}), flaws=frozenset({flaw}))
    assert not profile.is_member_of(HOME, ORGANIZATION)
