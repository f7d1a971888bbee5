"""The buttons that open the form: who may press them, and how they fill it in."""

import io

import pytest

from bot.cloudflare.errors import CatalogNotEnabled, RequestRejected, TokenInvalid
from bot.model.errors import BotError
from bot.model.place import DIRECT
from bot.model.submission import State
from bot.policy.rules import Allowlist
from bot.sandbox.workspace import Message, dm_id
from bot.slack.messages import render
from bot.slack.messages.redacted import RedactedResult
from tests.desk import (
    ADA,
    ANALYTICS,
    BUCKET,
    EVERYBODY,
    GRACE,
    MALLORY,
    OUTSIDER,
    PLATFORM,
    Desk,
    end_and_post,
    only,
)
from tests.make import ACCOUNT


async def post_result(desk: Desk, bucket: str = BUCKET) -> Message:
    """Post a result that was no success, with its button."""
    await desk.open_form(bucket)
    await desk.slack.submit(ADA)
    return await end_and_post(desk, State.FAILED, RequestRejected())


@pytest.mark.parametrize("user", [ADA, GRACE], ids=["the submitter", "another permitted person"])
async def test_the_button_opens_a_fresh_form(desk: Desk, user: str) -> None:
    """For the same bucket, and with a new opening."""
    result = await post_result(desk)

    assert (await desk.slack.click(user, result, render.TRY_AGAIN)).failure is None

    view = desk.slack.modal(user)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == BUCKET
    assert view.has_submit


@pytest.mark.parametrize(("error", "opens"), [(TokenInvalid(), True), (CatalogNotEnabled(), False)], ids=str)
async def test_a_catalog_that_is_not_listed_yet_is_believed(desk: Desk, error: BotError, *, opens: bool) -> None:
    """A result that failed for its token has found a catalog; one that found none gets the notice again."""
    await desk.open_form("not-listed-yet")
    await desk.slack.submit(ADA)
    result = await end_and_post(desk, State.REFUSED, error)

    await desk.slack.click(ADA, result, render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.has_submit is opens


async def test_the_button_of_the_modal_puts_the_form_on_top_of_the_result(desk: Desk) -> None:
    """A person reading the result need not go to the channel; closing the form returns to it."""
    await post_result(desk)
    await desk.open_form(BUCKET)
    result = desk.slack.modal(ADA)
    assert result is not None
    [submission] = await desk.submissions.history(ACCOUNT, None, 1)
    await desk.web.update_view(result.id, render.result_view(RedactedResult.of(submission), contact=""))
    result = desk.slack.modal(ADA)
    assert result is not None

    assert (await desk.slack.click(ADA, result, render.TRY_AGAIN)).failure is None

    form = desk.slack.modal(ADA)
    assert form is not None
    assert form.has_submit
    assert form.id != result.id
    assert desk.slack.modals.find(result.id) is not None
    assert form.values["bucket"]["bucket"]["selected_option"]["value"] == BUCKET


BUTTONS_REFUSED: dict[str, tuple[str, Allowlist, str]] = {
    "not listed": (MALLORY, EVERYBODY, "not on the list"),
    "bucket no longer served": (ADA, only(buckets=("billing-*",)), "for that bucket"),
    "channel no longer allowed": (ADA, only(channels=frozenset({ANALYTICS})), "may not be used in that channel"),
}


@pytest.mark.parametrize(("user", "allowlist", "words"), BUTTONS_REFUSED.values(), ids=BUTTONS_REFUSED)
async def test_the_button_is_refused_without_the_right(desk: Desk, user: str, allowlist: Allowlist, words: str) -> None:
    """A notice opens instead of the form."""
    result = await post_result(desk)
    desk.serve(allowlist)

    await desk.slack.click(user, result, render.TRY_AGAIN)

    view = desk.slack.modal(user)
    assert view is not None
    assert words in view.text
    assert not view.has_submit


async def test_the_button_is_refused_to_an_outsider(desk: Desk) -> None:
    """A message in a shared channel can be reached from outside."""
    result = await post_result(desk)
    [actions] = [block for block in result.blocks if block["type"] == "actions"]
    action = {"action_id": render.TRY_AGAIN, "block_id": actions["block_id"], "type": "button", "value": BUCKET}

    await desk.deliver(desk.slack.make_message_action(ADA, result, action, as_user=OUTSIDER))

    view = desk.slack.modal(ADA)
    assert view is not None
    assert "you belong to another one" in view.text
    assert not view.has_submit


@pytest.mark.parametrize("error", ["expired_trigger_id", "internal_error"])
async def test_a_late_button_is_answered_by_direct_message(desk: Desk, log: io.StringIO, error: str) -> None:
    """A view can no longer open, so the text goes another way, and no error is raised."""
    result = await post_result(desk)
    desk.slack.fail_next("views.open", error=error, times=2)

    outcome = await desk.slack.click(ADA, result, render.TRY_AGAIN)

    assert outcome.failure is None
    [message] = desk.slack.messages("D0ADA0001")
    assert "again" in message.text
    assert "listener_broke" not in log.getvalue()


async def test_a_person_who_cannot_be_reached_breaks_nothing(desk: Desk, log: io.StringIO) -> None:
    """If Slack accepts neither a view nor a message, that is logged."""
    result = await post_result(desk)
    desk.slack.fail_next("views.open", error="expired_trigger_id", times=2)
    desk.slack.fail_next("chat.postMessage", status=503)

    await desk.slack.click(ADA, result, render.TRY_AGAIN)

    assert "person_not_told" in log.getvalue()
    assert "listener_broke" not in log.getvalue()


@pytest.mark.parametrize("value", ["../secrets", "", None, 7], ids=["no bucket name", "empty", "none", "a number"])
async def test_a_forged_button_opens_no_broken_form(desk: Desk, log: io.StringIO, value: object) -> None:
    """A button's value from a client is checked like any other input."""
    result = await post_result(desk)
    action = {"action_id": render.TRY_AGAIN, "block_id": "x", "type": "button", "value": value}

    await desk.deliver(desk.slack.make_message_action(ADA, result, action))

    assert "listener_broke" not in log.getvalue()


async def test_the_button_fills_in_everything_but_the_token(desk: Desk) -> None:
    """Bucket, channel and reason are those of the failed one; the token was erased and must be pasted again."""
    await desk.open_form(reason="ticket 7", channel=ANALYTICS)
    await desk.slack.submit(ADA)
    result = await end_and_post(desk, State.FAILED, RequestRejected())

    await desk.slack.click(GRACE, result, render.TRY_AGAIN)

    view = desk.slack.modal(GRACE)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == BUCKET
    assert view.values["channel"]["channel"]["selected_conversation"] == ANALYTICS
    assert view.values["reason"]["reason"]["value"] == "ticket 7"
    assert view.values["token"]["token"]["value"] is None


@pytest.mark.parametrize(
    ("ending", "because", "is_ticked"),
    [
        pytest.param(State.REFUSED, TokenInvalid(), True, id="a check that was not passed"),
        pytest.param(State.CHECKED, None, False, id="a check that was passed"),
    ],
)
async def test_a_check_is_repeated_as_a_check_until_it_passes(
    desk: Desk, ending: State, because: BotError | None, *, is_ticked: bool
) -> None:
    """After a passed check the same button leads to storing."""
    await desk.open_form()
    await desk.slack.fill(ADA, "check", ["check"])
    await desk.slack.submit(ADA)
    result = await end_and_post(desk, ending, because)

    await desk.slack.click(ADA, result, render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert bool(view.values["check"]["check"]["selected_options"]) is is_ticked


@pytest.mark.parametrize(
    ("value", "bucket"),
    [
        pytest.param("billing-exports", "billing-exports", id="the bucket alone, as in older messages"),
        pytest.param(f"{ACCOUNT}/billing-exports", "billing-exports", id="of the account"),
        pytest.param(f"{'f' * 32}/billing-exports", None, id="of another account"),
    ],
)
async def test_the_button_of_a_reminder_names_the_bucket(desk: Desk, value: str, bucket: str | None) -> None:
    """A reminder belongs to no submission that could be repeated."""
    store = {"type": "button", "action_id": render.TRY_AGAIN, "text": {"type": "plain_text", "text": "Store"}}
    blocks = [{"type": "actions", "elements": [store | {"value": value}]}]
    await desk.web.post(PLATFORM, {"text": "Soon.", "blocks": blocks}, "6f3cacfe-3614-5dad-9dfa-09675d6189de")

    await desk.slack.click(ADA, desk.slack.messages(PLATFORM)[-1], render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    chosen = view.values["bucket"]["bucket"]["selected_option"]
    assert (chosen["value"] if chosen else None) == bucket


async def test_the_button_uses_the_channel_of_the_result(desk: Desk) -> None:
    """The message may be elsewhere, because the bot could not post to that channel."""
    await desk.open_form(channel=ANALYTICS)
    await desk.slack.submit(ADA)
    result = await end_and_post(desk, State.FAILED, RequestRejected())
    desk.serve(only(channels=frozenset({ANALYTICS})))

    await desk.slack.click(ADA, result, render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.has_submit, view.text


async def test_a_buckets_button_uses_the_channel_it_is_in(desk: Desk) -> None:
    """A reminder has no other channel."""
    store = {"type": "button", "action_id": render.TRY_AGAIN, "text": {"type": "plain_text", "text": "Store"}}
    blocks = [{"type": "actions", "elements": [store | {"value": f"{ACCOUNT}/{BUCKET}"}]}]
    await desk.web.post(PLATFORM, {"text": "Soon.", "blocks": blocks}, "6f3cacfe-3614-5dad-9dfa-09675d6189de")
    desk.serve(only(channels=frozenset({ANALYTICS})))

    await desk.slack.click(ADA, desk.slack.messages(PLATFORM)[-1], render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert "may not be used in that channel" in view.text


@pytest.mark.parametrize("recorded", [DIRECT, "D0PARTNER"], ids=["chosen", "an older direct message"])
async def test_after_a_direct_result_the_form_is_direct_again(desk: Desk, recorded: str) -> None:
    """The form starts with what was chosen, and with no conversation of other people."""
    result = await post_result(desk)
    desk.execute(f"UPDATE submissions SET channel_id = '{recorded}'")  # noqa: S608 - a value of this test's own

    await desk.slack.click(ADA, result, render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["channel"]["channel"]["selected_conversation"] is None
    assert view.values["direct"]["direct"]["selected_options"] != []


@pytest.mark.parametrize("channels", [frozenset(), frozenset({ANALYTICS})], ids=["any channel", "listed channels"])
async def test_a_button_in_a_direct_message_with_the_bot_has_no_channel(desk: Desk, channels: frozenset[str]) -> None:
    """A reminder comes there if its channel may no longer read it: the form opens, and asks for a channel if needed."""
    store = {"type": "button", "action_id": render.TRY_AGAIN, "text": {"type": "plain_text", "text": "Store"}}
    blocks = [{"type": "actions", "elements": [store | {"value": f"{ACCOUNT}/{BUCKET}"}]}]
    await desk.web.post(ADA, {"text": "Soon.", "blocks": blocks}, "6f3cacfe-3614-5dad-9dfa-09675d6189de")
    desk.serve(only(channels=channels))

    await desk.slack.click(ADA, desk.slack.messages(dm_id(ADA))[-1], render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.has_submit, view.text
    assert view.values["channel"]["channel"]["selected_conversation"] is None
    assert ("direct" in view.block_ids) is not bool(channels)


async def test_a_damaged_record_is_reported_to_the_person_who_presses(desk: Desk) -> None:
    """Nothing can be filled in from it."""
    result = await post_result(desk)
    desk.execute("UPDATE submissions SET state = 'walking'")

    await desk.slack.click(ADA, result, render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert not view.has_submit
    assert "The bot's own record of this is damaged" in view.text


async def test_an_unavailable_database_is_reported_to_the_person_who_presses(desk: Desk) -> None:
    """A notice opens instead of the form."""
    result = await post_result(desk)
    desk.execute("ALTER TABLE submissions RENAME TO elsewhere")

    await desk.slack.click(ADA, result, render.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert not view.has_submit
    assert "report it to the operator" in view.text
