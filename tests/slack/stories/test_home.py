"""The App Home: who sees what there, and the button that opens the form."""

import io
from datetime import timedelta

import pytest

from bot.sandbox.homes import Home
from bot.slack.stories.table import NEXT_PAGE, STORE
from tests.desk import (
    ADA,
    BUCKET,
    MALLORY,
    PLATFORM,
    STRANGERS,
    Desk,
    Forge,
    add_many,
    only,
    refresh,
)
from tests.make import ACCOUNT

BEING_ASKED = "Cloudflare is being asked again"


async def open_home(desk: Desk, user: str = ADA) -> Home:
    """Open the App Home, and return its view."""
    await desk.slack.open_home(user)
    return await desk.slack.wait_for_home(user)


async def test_the_app_home_shows_the_status_and_opens_the_form(desk: Desk) -> None:
    """The button opens an empty form without a channel."""
    desk.clock.advance(timedelta(minutes=4))

    home = await open_home(desk)

    assert "3 catalogs: 1 has no credential, 1 is switched off." in home.text
    assert desk.looks == ["tested"]
    await desk.slack.click(ADA, home, STORE)
    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.has_submit
    assert view.values["bucket"]["bucket"]["selected_option"] is None
    assert view.values["channel"]["channel"]["selected_conversation"] is None
    assert desk.slack.problems == []


async def test_the_app_home_is_fresh_when_it_is_opened(desk: Desk) -> None:
    """An earlier view is replaced at once, and again after Cloudflare was asked."""
    desk.clock.advance(timedelta(minutes=4))
    await open_home(desk)
    await refresh(desk)

    home = await desk.slack.wait_for_home(ADA, lambda home: "less than a minute ago" in home.text)

    assert "the credential works" in home.text
    assert BEING_ASKED not in home.text


async def test_a_row_of_the_app_home_opens_the_form_for_its_bucket(desk: Desk) -> None:
    """Even if channels are listed: the App Home has none."""
    desk.serve(only(channels=frozenset({PLATFORM})))
    home = await open_home(desk)

    await desk.slack.click(ADA, home, "try_again", f"{ACCOUNT}/{BUCKET}")

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.has_submit, view.text
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == BUCKET


async def test_the_pages_of_the_app_home_are_turned(desk: Desk) -> None:
    """As in a message."""
    await add_many(desk.catalogs, 45)
    await refresh(desk)
    home = await open_home(desk)

    await desk.slack.click(ADA, home, NEXT_PAGE)

    second = await desk.slack.wait_for_home(ADA, lambda home: "Page 2 of 3" in home.text)
    assert "`lake-020`" in second.text


async def test_the_app_home_of_a_stranger_says_why_it_is_empty(desk: Desk) -> None:
    """It is friendly, names a contact, and names no bucket."""
    home = await open_home(desk, MALLORY)

    assert "You are not on the list" in home.text
    assert "Please ask #data-platform." in home.text
    assert BUCKET not in home.text
    assert desk.looks == []


@pytest.mark.parametrize(("forge", "words"), STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_cannot_turn_a_page_of_the_app_home(desk: Desk, forge: Forge, words: str) -> None:
    """A forged press publishes a refusal to the user in the payload."""
    await add_many(desk.catalogs, 45)
    home = await open_home(desk)
    action = {"action_id": NEXT_PAGE, "block_id": "x", "type": "button", "value": "1 5a4d0001"}
    payload = forge(desk.slack.make_home_action(ADA, home, action))

    await desk.deliver(payload)

    refused = await desk.slack.wait_for_home(payload["user"]["id"], lambda home: words in home.text)
    assert "lake" not in refused.text
    assert home.text != refused.text


async def test_an_app_home_without_a_database_says_so(desk: Desk) -> None:
    """Opening it again tries again."""
    desk.execute("ALTER TABLE snapshots RENAME TO elsewhere")

    assert "The bot's database did not answer" in (await open_home(desk)).text


async def test_an_app_home_that_slack_refuses_is_logged(desk: Desk, log: io.StringIO) -> None:
    """No one could be informed."""
    desk.slack.fail_next("views.publish", error="internal_error")

    await desk.slack.open_home(ADA)

    assert "home_not_published" in log.getvalue()
    assert "listener_broke" not in log.getvalue()


async def test_the_other_tab_of_the_app_is_left_alone(desk: Desk) -> None:
    """Opening the messages publishes nothing."""
    event = {"type": "app_home_opened", "user": ADA, "channel": "D0ADA0001", "tab": "messages"}
    payload = {"type": "event_callback", "team_id": "T0SANDBOX", "api_app_id": "A0SANDBOX", "event": event}

    await desk.deliver(payload)

    assert desk.slack.calls_of("views.publish") == []
