"""Payloads about other apps are ignored, whoever signed them."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from bot.model.errors import SlackRefused
from bot.sandbox.blocks import JsonObject
from tests.desk import ADA, PLATFORM, shown_in

if TYPE_CHECKING:
    import io

    from tests.desk import Desk

OTHER_APP, OTHER_BOT = "A0OTHERAP", "B0OTHERBT"

Forge = Callable[[JsonObject], JsonObject]


def of_another_app(payload: JsonObject) -> JsonObject:
    """Name another app as that of the payload."""
    return payload | {"api_app_id": OTHER_APP}


def with_a_view_of_another_app(payload: JsonObject) -> JsonObject:
    """Name another app as that of the view."""
    return payload | {"view": payload["view"] | {"app_id": OTHER_APP}}


def with_a_view_of_another_bot(payload: JsonObject) -> JsonObject:
    """Name another bot as that of the view."""
    return payload | {"view": payload["view"] | {"bot_id": OTHER_BOT}}


def all_of_another_app(payload: JsonObject) -> JsonObject:
    """Name another app and its bot everywhere."""
    view = payload["view"] | {"app_id": OTHER_APP, "bot_id": OTHER_BOT}
    return payload | {"api_app_id": OTHER_APP, "view": view}


def with_an_app_that_is_no_id(payload: JsonObject) -> JsonObject:
    """Put something else in the place of the app's id."""
    return payload | {"api_app_id": [OTHER_APP]}


FORGES = (
    of_another_app,
    with_a_view_of_another_app,
    with_a_view_of_another_bot,
    all_of_another_app,
    with_an_app_that_is_no_id,
)


@pytest.mark.parametrize("forge", FORGES, ids=lambda forge: forge.__name__)
async def test_a_form_of_another_app_is_not_taken(desk: "Desk", log: "io.StringIO", forge: Forge) -> None:
    """Nothing is recorded, and the answer says so."""
    await desk.open_form()
    answer = await desk.deliver(forge(desk.slack.make_submission(ADA)))

    assert answer["response_action"] == "errors"
    assert "belongs to another app" in shown_in(answer)
    assert await desk.find() is None
    assert "payload_of_another_app" in [json.loads(line)["event"] for line in log.getvalue().splitlines()]


async def test_a_button_of_another_app_does_nothing(desk: "Desk") -> None:
    """Neither in a message nor in a view."""
    await desk.open_form()  # from then on the bot knows its app
    outcome = await desk.slack.type_command(ADA, PLATFORM, "/r2-credential status analytics-events")
    assert outcome.message is not None
    [action] = [each for block in outcome.message.blocks for each in block.get("elements", []) if "action_id" in each]
    press = desk.slack.make_message_action(ADA, outcome.message, {**action, "block_id": "B"})
    desk.slack.calls.clear()

    for forged in (press | {"api_app_id": OTHER_APP}, press | {"message": {"app_id": OTHER_APP}}):
        await desk.deliver(forged)
    assert [call.method for call in desk.slack.calls] == []
    await desk.deliver(press)
    assert "views.open" in [call.method for call in desk.slack.calls]


async def test_a_command_and_an_event_of_another_app_do_nothing(desk: "Desk") -> None:
    """The bot knows its app from the first view that it opened."""
    await desk.open_form()
    desk.slack.calls.clear()
    command = desk.slack.make_command(ADA, PLATFORM, "/r2-credential status") | {"api_app_id": OTHER_APP}
    event = desk.slack.make_home_opened(ADA) | {"api_app_id": OTHER_APP}

    answers = [await desk.slack.deliver("slash_commands", command), await desk.slack.deliver("events_api", event)]
    assert [answer.body or answer.text for answer in answers] == [None, None]
    assert desk.slack.calls == []


async def test_before_its_first_view_the_bot_compares_a_payload_with_itself(desk: "Desk") -> None:
    """As after a restart, with a form that was open."""
    await desk.open_form()
    desk.web.app_id = desk.web.bot_id = ""
    refused = await desk.deliver(with_a_view_of_another_app(desk.slack.make_submission(ADA)))
    taken = await desk.deliver(desk.slack.make_submission(ADA))
    assert (refused["response_action"], taken["response_action"]) == ("errors", "update")


async def test_an_answer_about_a_view_that_names_no_bot_changes_nothing(desk: "Desk") -> None:
    """Slack's answers are read as carefully as its payloads."""
    await desk.open_form()
    known = (desk.web.app_id, desk.web.bot_id)
    desk.web._read_view({"view": {"app_id": "<x>", "bot_id": 7}})  # type: ignore[arg-type]  # read as one
    with pytest.raises(SlackRefused):
        await desk.web.open_view("1.2.3", {"type": "modal"})
    assert (desk.web.app_id, desk.web.bot_id) == known == ("A0R2CREDS", "B0R2BOT01")
