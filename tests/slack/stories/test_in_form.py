"""Enterprise Grid: the same person in another workspace of the organization, and people who only look like that."""

from collections.abc import Mapping
from typing import Any

import pytest

from bot.sandbox.blocks import JsonObject
from bot.sealing.hpke import TOKEN, SealingContext
from bot.slack import form as modal
from tests.desk import ADA, BUCKET, EVERYBODY, GRACE, MALLORY, PLATFORM, TOKEN_TEXT, Desk, shown_in
from tests.make import ACCOUNT

HOME = "T0SANDBOX"
SISTER = "T0SISTER1"
ORGANIZATION = "E0NORTHWD"
ELSEWHERE = "E0ANOTHER"
OURS = {"id": ORGANIZATION, "name": "Northwood"}


def change(payload: JsonObject, **parts: Any) -> JsonObject:  # noqa: ANN401 - JSON
    """Merge other parts into a payload."""
    return payload | {
        name: payload[name] | part if isinstance(part, dict) and isinstance(payload.get(name), dict) else part
        for name, part in parts.items()
    }


SAME_PERSON: dict[str, dict[str, Any]] = {
    "at home": {"enterprise": OURS},
    "at home, without the organization": {},
    "the user is of a sister workspace": {"enterprise": OURS, "user": {"team_id": SISTER}},
    "the user is of the organization": {"enterprise": OURS, "user": {"team_id": ORGANIZATION}},
    "no team": {"enterprise": OURS, "team": None},
    "no team, and the user is of a sister workspace": {"enterprise": OURS, "team": None, "user": {"team_id": SISTER}},
    "the team is a sister workspace": {"enterprise": OURS, "team": {"id": SISTER, "enterprise_id": ORGANIZATION}},
    "only the team names the organization": {"team": {"id": SISTER, "enterprise_id": ORGANIZATION}},
    "the view is of a sister workspace": {"enterprise": OURS, "view": {"team_id": SISTER}},
    "installed in a sister workspace": {"enterprise": OURS, "view": {"app_installed_team_id": SISTER}},
    "installed in the organization": {"enterprise": OURS, "view": {"app_installed_team_id": ORGANIZATION}},
    "all of them": {
        "enterprise": OURS,
        "team": None,
        "user": {"team_id": SISTER},
        "view": {"team_id": SISTER, "app_installed_team_id": "T0SISTER2"},
    },
}


@pytest.mark.parametrize("parts", SAME_PERSON.values(), ids=SAME_PERSON)
async def test_the_opener_may_submit_from_anywhere_in_the_organization(desk: Desk, parts: Mapping[str, Any]) -> None:
    """It is recorded for the workspace that the token is sealed for, so that it opens; a second press does nothing."""
    desk.serve(EVERYBODY, enterprise_id=ORGANIZATION)
    await desk.open_form()
    payload = change(desk.slack.make_submission(ADA), **parts)

    for _ in range(2):
        answer = await desk.deliver(change(payload))
        assert answer["view"]["title"]["text"] == "Storing...", answer

    recorded = await desk.find()
    assert recorded is not None
    assert recorded.team_id == payload["view"]["app_installed_team_id"]
    assert (recorded.user_id, recorded.channel_id, recorded.key.account_id) == (ADA, PLATFORM, ACCOUNT)
    sealed = (await desk.find_sealed()).token
    assert sealed is not None
    assert desk.key_ring.open(sealed, SealingContext.of(recorded, TOKEN)).reveal() == TOKEN_TEXT


OUT = "you belong to another one"
IN_PASSING = "another workspace of this organization"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another company's workspace": ({"user": {"team_id": SISTER}}, OUT),
    "another organization": ({"enterprise": {"id": ELSEWHERE}, "user": {"team_id": SISTER}}, OUT),
    "another organization, no team": (
        {"enterprise": {"id": ELSEWHERE}, "team": None, "user": {"team_id": SISTER}},
        OUT,
    ),
    "an organization without an id": ({"enterprise": {}, "user": {"team_id": SISTER}}, OUT),
    "an organization of a wrong type": ({"enterprise": [ORGANIZATION], "user": {"team_id": SISTER}}, OUT),
    "an organization with the same prefix": ({"enterprise": {"id": f"{ORGANIZATION}1"}, "team": {"id": SISTER}}, OUT),
    "an organization in lower case": ({"enterprise": {"id": ORGANIZATION.lower()}, "team": {"id": SISTER}}, OUT),
    "two organizations, one at the team": (
        {"enterprise": OURS, "team": {"id": SISTER, "enterprise_id": ELSEWHERE}},
        OUT,
    ),
    "two organizations, one at the user": (
        {"enterprise": OURS, "user": {"team_id": SISTER, "enterprise_id": ELSEWHERE}},
        OUT,
    ),
    "the user is of another organization": ({"enterprise": OURS, "user": {"team_id": ELSEWHERE}}, OUT),
    "the view is of another organization": ({"enterprise": OURS, "view": {"app_installed_team_id": ELSEWHERE}}, OUT),
    "a malformed team": ({"enterprise": OURS, "user": {"team_id": "sister"}}, OUT),
    "no team at all": (
        {
            "enterprise": OURS,
            "team": None,
            "user": {"team_id": None},
            "view": {"team_id": None, "app_installed_team_id": None},
        },
        OUT,
    ),
    "another listed person of the organization": (
        {"enterprise": OURS, "user": {"id": GRACE, "team_id": SISTER}},
        IN_PASSING,
    ),
    "another person of the organization": (
        {"enterprise": OURS, "user": {"id": MALLORY, "team_id": SISTER}},
        IN_PASSING,
    ),
    "a form never opened": (
        {"enterprise": OURS, "user": {"team_id": SISTER}, "view": {"private_metadata": "made-up"}},
        IN_PASSING,
    ),
    "a form without a name": (
        {"enterprise": OURS, "user": {"team_id": SISTER}, "view": {"private_metadata": ""}},
        IN_PASSING,
    ),
}


@pytest.mark.parametrize(("parts", "words"), REFUSED.values(), ids=REFUSED)
async def test_no_one_else_may_submit(desk: Desk, parts: Mapping[str, Any], words: str) -> None:
    """Slack's word on the organization admits no one by itself, and any other organization in the payload excludes."""
    desk.serve(EVERYBODY, enterprise_id=ORGANIZATION)
    await desk.open_form()

    answer = await desk.deliver(change(desk.slack.make_submission(ADA), **parts))

    assert words in shown_in(answer)
    assert (await desk.find(), desk.dispatched) == (None, [])


async def test_the_opener_must_still_be_listed(desk: Desk) -> None:
    """Having opened the form is no permission."""
    desk.serve(EVERYBODY, enterprise_id=ORGANIZATION)
    await desk.open_form()
    desk.change_group(GRACE)

    payload = change(desk.slack.make_submission(ADA), enterprise=OURS, user={"team_id": SISTER})

    assert "not on the list" in shown_in(await desk.deliver(payload))
    assert await desk.find() is None


async def test_a_workspace_without_an_organization_ignores_one(desk: Desk) -> None:
    """It does not matter what a payload names if auth.test named none."""
    await desk.open_form()

    payload = change(desk.slack.make_submission(ADA), enterprise=OURS, user={"team_id": SISTER})

    assert OUT in shown_in(await desk.deliver(payload))
    assert await desk.find() is None


async def test_the_form_stays_if_the_database_cannot_name_its_opener(desk: Desk) -> None:
    """In doubt the answer is no, and the person can try again."""
    desk.serve(EVERYBODY, enterprise_id=ORGANIZATION)
    await desk.open_form()
    payload = change(desk.slack.make_submission(ADA), enterprise=OURS, user={"team_id": SISTER})
    desk.execute("ALTER TABLE openings RENAME TO elsewhere")

    answer = await desk.deliver(payload)

    assert list(answer["errors"]) == [modal.TOKEN_BLOCK]


@pytest.mark.parametrize(
    ("parts", "is_offered"),
    [
        pytest.param({"enterprise": OURS}, True, id="the opener"),
        pytest.param({"enterprise": {"id": ELSEWHERE}}, False, id="another organization"),
        pytest.param({}, False, id="no organization"),
        pytest.param({"enterprise": OURS, "view": {"private_metadata": "made-up"}}, False, id="another form"),
    ],
)
async def test_the_form_offers_catalogs_to_the_person_who_may_submit_it(
    desk: Desk, parts: Mapping[str, Any], *, is_offered: bool
) -> None:
    """Otherwise the form would open with an empty list."""
    desk.serve(EVERYBODY, enterprise_id=ORGANIZATION)
    await desk.open_form()
    view = desk.slack.modals.top(ADA)
    assert view is not None
    payload = desk.slack.payloads.options(view, modal.BUCKET_BLOCK, modal.BUCKET_ACTION, BUCKET)

    answer = await desk.deliver(change(change(payload, user={"team_id": SISTER}), **parts))

    assert (BUCKET in shown_in(answer)) is is_offered
