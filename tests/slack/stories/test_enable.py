"""The buttons of results and of the App Home: who may press them, and what they open."""

import io
from dataclasses import replace

import pytest

from bot.model.errors import CommitUnknown
from bot.model.submission import BucketKey, NewSubmission, State, Submission, Task
from bot.policy.rules import Allowlist
from bot.sandbox.workspace import Message
from bot.slack.messages import render as replies
from bot.slack.messages.redacted import RedactedResult
from bot.storage.submissions import Changes, Records
from tests.desk import ACCOUNT, ADA, ANALYTICS, BUCKET, EVERYBODY, GRACE, MALLORY, OUTSIDER, PLATFORM, Desk, only


async def post_result(desk: Desk, bucket: str = BUCKET) -> Message:
    """Post a result that was no success, with its button."""
    await desk.open_form(bucket)
    await desk.slack.submit(ADA)
    return await end_and_post(desk, State.FAILED, Changes(error_code="request_rejected"))


@pytest.mark.parametrize("user", [ADA, GRACE], ids=["whoever submitted", "somebody else who may"])
async def test_the_button_opens_a_fresh_form(desk: Desk, user: str) -> None:
    """For the same bucket, and with an opening of its own."""
    result = await post_result(desk)

    assert (await desk.slack.click(user, result, replies.TRY_AGAIN)).failure is None

    view = desk.slack.modal(user)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == BUCKET
    assert view.has_submit


BUTTONS_REFUSED: dict[str, tuple[str, Allowlist, str]] = {
    "not listed": (MALLORY, EVERYBODY, "not on the list"),
    "bucket not served any more": (ADA, only(buckets=("billing-*",)), "for that bucket"),
    "channel not allowed any more": (ADA, only(channels=frozenset({ANALYTICS})), "not used in that channel"),
}


@pytest.mark.parametrize(("user", "allowlist", "words"), BUTTONS_REFUSED.values(), ids=BUTTONS_REFUSED)
async def test_the_button_is_refused_to_who_may_not(desk: Desk, user: str, allowlist: Allowlist, words: str) -> None:
    """A notice opens in the place of the form."""
    result = await post_result(desk)
    desk.serve(allowlist)

    await desk.slack.click(user, result, replies.TRY_AGAIN)

    view = desk.slack.modal(user)
    assert view is not None
    assert words in view.text
    assert not view.has_submit


async def test_the_button_is_refused_to_an_outsider(desk: Desk) -> None:
    """A message in a shared channel can be reached from outside."""
    result = await post_result(desk)
    [actions] = [block for block in result.blocks if block["type"] == "actions"]
    action = {"action_id": replies.TRY_AGAIN, "block_id": actions["block_id"], "type": "button", "value": BUCKET}

    await desk.deliver(desk.slack.make_message_action(ADA, result, action, as_user=OUTSIDER))

    view = desk.slack.modal(ADA)
    assert view is not None
    assert "you belong to another one" in view.text
    assert not view.has_submit


@pytest.mark.parametrize("error", ["expired_trigger_id", "internal_error"])
async def test_a_button_that_came_too_late_is_told_by_direct_message(desk: Desk, log: io.StringIO, error: str) -> None:
    """No view can open any more, so the words come another way, and nothing breaks."""
    result = await post_result(desk)
    desk.slack.fail_next("views.open", error=error, times=2)

    outcome = await desk.slack.click(ADA, result, replies.TRY_AGAIN)

    assert outcome.failure is None
    [message] = desk.slack.messages("D0ADA0001")
    assert "again" in message.text
    assert "listener_broke" not in log.getvalue()


async def test_a_person_who_cannot_be_told_at_all_breaks_nothing(desk: Desk, log: io.StringIO) -> None:
    """When Slack takes neither a view nor a message, that is logged."""
    result = await post_result(desk)
    desk.slack.fail_next("views.open", error="expired_trigger_id", times=2)
    desk.slack.fail_next("chat.postMessage", status=503)

    await desk.slack.click(ADA, result, replies.TRY_AGAIN)

    assert "person_not_told" in log.getvalue()
    assert "listener_broke" not in log.getvalue()


@pytest.mark.parametrize("value", ["../secrets", "", None, 7], ids=["no bucket name", "empty", "none", "a number"])
async def test_a_forged_button_opens_no_broken_form(desk: Desk, log: io.StringIO, value: object) -> None:
    """What a client sends as the button's value is looked at like anything else."""
    result = await post_result(desk)
    action = {"action_id": replies.TRY_AGAIN, "block_id": "x", "type": "button", "value": value}

    await desk.deliver(desk.slack.make_message_action(ADA, result, action))

    assert "listener_broke" not in log.getvalue()


async def test_the_button_fills_in_everything_but_the_token(desk: Desk) -> None:
    """Bucket, channel and reason are those of the failed one; the token was erased and is asked for again."""
    await desk.open_form(reason="ticket 7", channel=ANALYTICS)
    await desk.slack.submit(ADA)
    result = await end_and_post(desk, State.FAILED, Changes(error_code="request_rejected"))

    await desk.slack.click(GRACE, result, replies.TRY_AGAIN)

    view = desk.slack.modal(GRACE)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == BUCKET
    assert view.values["channel"]["channel"]["selected_conversation"] == ANALYTICS
    assert view.values["reason"]["reason"]["value"] == "ticket 7"
    assert view.values["token"]["token"]["value"] is None


@pytest.mark.parametrize(
    ("ending", "changes", "is_ticked"),
    [
        pytest.param(State.REFUSED, Changes(error_code="token_invalid"), True, id="a check that was not passed"),
        pytest.param(State.CHECKED, Changes(), False, id="a check that was passed"),
    ],
)
async def test_a_check_is_repeated_as_a_check_until_it_is_passed(
    desk: Desk, ending: State, changes: Changes, *, is_ticked: bool
) -> None:
    """After a passed check the same button leads to storing."""
    await desk.open_form()
    await desk.slack.fill(ADA, "check", ["check"])
    await desk.slack.submit(ADA)
    result = await end_and_post(desk, ending, changes)

    await desk.slack.click(ADA, result, replies.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert bool(view.values["check"]["check"]["selected_options"]) is is_ticked


async def test_the_button_of_a_reminder_names_the_bucket_alone(desk: Desk) -> None:
    """A reminder belongs to no submission that somebody would repeat."""
    store = {"type": "button", "action_id": replies.TRY_AGAIN, "text": {"type": "plain_text", "text": "Store"}}
    blocks = [{"type": "actions", "elements": [store | {"value": "billing-exports"}]}]
    await desk.web.post(PLATFORM, {"text": "Soon.", "blocks": blocks}, "6f3cacfe-3614-5dad-9dfa-09675d6189de")

    await desk.slack.click(ADA, desk.slack.messages(PLATFORM)[-1], replies.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == "billing-exports"


async def test_a_database_that_is_down_is_told_to_who_presses(desk: Desk) -> None:
    """A notice opens in the place of the form."""
    result = await post_result(desk)
    desk.execute("ALTER TABLE submissions RENAME TO elsewhere")

    await desk.slack.click(ADA, result, replies.TRY_AGAIN)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert not view.has_submit
    assert "tell the operator" in view.text


# Enabling a catalog.

MAY_ENABLE = replace(EVERYBODY, may_enable=True)


@pytest.mark.parametrize("user", [ADA, GRACE], ids=["whoever submitted", "somebody else who may"])
async def test_enabling_is_recorded_dispatched_and_shown(desk: Desk, user: str) -> None:
    """It is a submission like any other, without a token, and its view shows how it goes."""
    refusal = await post_catalog_refusal(desk)

    await desk.slack.click(user, refusal, replies.ENABLE)

    view = desk.slack.modal(user)
    assert view is not None
    assert view.title == "Enabling..."
    recorded = await desk.records.find(view.id)
    assert recorded is not None
    assert (recorded.task, recorded.state, recorded.user_id) == (Task.ENABLE, State.ACCEPTED, user)
    assert (recorded.channel_id, recorded.sealed_token, recorded.last_four) == (PLATFORM, None, "")
    assert desk.dispatched == [BucketKey(account_id=ACCOUNT, bucket=BUCKET)]


ENABLING_REFUSED: dict[str, tuple[str, Allowlist, str]] = {
    "not listed": (MALLORY, MAY_ENABLE, "not on the list"),
    "switched off since": (ADA, EVERYBODY, "does not enable catalogs"),
    "bucket not served any more": (ADA, replace(MAY_ENABLE, buckets=("billing-*",)), "for that bucket"),
    "channel not allowed any more": (
        ADA,
        replace(MAY_ENABLE, channels=frozenset({ANALYTICS})),
        "not used in that channel",
    ),
}


@pytest.mark.parametrize(("user", "allowlist", "words"), ENABLING_REFUSED.values(), ids=ENABLING_REFUSED)
async def test_enabling_is_refused_to_who_may_not(desk: Desk, user: str, allowlist: Allowlist, words: str) -> None:
    """The button may be in front of anybody, for years."""
    refusal = await post_catalog_refusal(desk)
    desk.serve(allowlist)

    await desk.slack.click(user, refusal, replies.ENABLE)

    view = desk.slack.modal(user)
    assert view is not None
    assert words in view.text
    assert desk.dispatched == []


async def test_enabling_is_refused_to_an_outsider(desk: Desk) -> None:
    """A message in a shared channel can be reached from outside."""
    refusal = await post_catalog_refusal(desk)
    action = {"action_id": replies.ENABLE, "block_id": "x", "type": "button", "value": (await last(desk)).id}

    await desk.deliver(desk.slack.make_message_action(ADA, refusal, action, as_user=OUTSIDER))

    assert desk.dispatched == []


async def test_a_forged_submission_enables_nothing(desk: Desk) -> None:
    """Only the bucket of a recorded submission can be enabled."""
    refusal = await post_catalog_refusal(desk)
    action = {"action_id": replies.ENABLE, "block_id": "x", "type": "button", "value": "billing-exports"}

    await desk.deliver(desk.slack.make_message_action(ADA, refusal, action))

    view = desk.slack.modal(ADA)
    assert view is not None
    assert "does not know any more what this button belongs to" in view.text
    assert desk.dispatched == []


async def test_what_could_not_be_recorded_is_told_in_the_view_that_opened(desk: Desk, log: io.StringIO) -> None:
    """Nothing is dispatched that would be lost."""
    refusal = await post_catalog_refusal(desk)
    desk.execute("CREATE TRIGGER full BEFORE INSERT ON submissions BEGIN SELECT RAISE(ABORT, 'full'); END")

    await desk.slack.click(ADA, refusal, replies.ENABLE)

    view = await desk.slack.wait_for_view(ADA, lambda view: view.title == "Not enabled")
    assert "try again" in view.text
    assert desk.dispatched == []
    assert "listener_broke" not in log.getvalue()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"is_ext_shared": True}, "shared with another company", id="shared outside since"),
        pytest.param({"is_archived": True}, "archived", id="archived since"),
    ],
)
async def test_a_channel_that_will_not_do_any_more_gets_no_result(
    desk: Desk, change: dict[str, bool], words: str
) -> None:
    """The button stands where the result went; a form would not take that channel now."""
    refusal = await post_catalog_refusal(desk)
    desk.slack.change_channel(PLATFORM, **change)
    desk.web._good_channels._kept.clear()

    action = {"action_id": replies.ENABLE, "block_id": "x", "type": "button", "value": (await last(desk)).id}
    await desk.deliver(desk.slack.make_message_action(ADA, refusal, action))

    view = desk.slack.modal(ADA)
    assert view is not None
    assert words in view.text
    assert "To choose another channel" in view.text
    assert desk.dispatched == []


async def test_an_enabling_whose_recording_got_no_answer_is_seen_to(desk: Desk) -> None:
    """It may be recorded: somebody has to look, and nobody is told that it was not."""

    class Unanswered(Records):
        async def add(self, new: NewSubmission) -> bool:
            await super().add(new)
            raise CommitUnknown

    refusal = await post_catalog_refusal(desk)
    desk.records = Unanswered(desk.records._database)
    desk.serve(MAY_ENABLE)

    await desk.slack.click(ADA, refusal, replies.ENABLE)

    view = await desk.slack.wait_for_view(ADA, lambda view: view.title == "Not known if recorded")
    assert "twice does no harm" in view.text
    assert desk.dispatched == [BucketKey(account_id=ACCOUNT, bucket=BUCKET)]


async def last(desk: Desk) -> Submission:
    """Return what was submitted last."""
    [submission] = await desk.records.history(ACCOUNT, None, 1)
    return submission


@pytest.mark.parametrize("error", ["expired_trigger_id", "internal_error"])
async def test_enabling_that_came_too_late_is_told(desk: Desk, error: str) -> None:
    """Where no view opens there is no id to record it under, and the words come by direct message."""
    refusal = await post_catalog_refusal(desk)
    desk.slack.fail_next("views.open", error=error, times=2)

    await desk.slack.click(ADA, refusal, replies.ENABLE)

    assert len(desk.slack.messages("D0ADA0001")) == 1
    assert desk.dispatched == []


async def post_catalog_refusal(desk: Desk) -> Message:
    """Post the result of a submission that found no catalog, with the button that enables one."""
    desk.serve(MAY_ENABLE)
    await desk.open_form()
    await desk.slack.submit(ADA)
    desk.dispatched.clear()
    changes = Changes(error_code="catalog_not_enabled", cloudflare_code=40401)
    return await end_and_post(desk, State.REFUSED, changes, may_enable=True)


async def end_and_post(desk: Desk, ending: State, changes: Changes, *, may_enable: bool = False) -> Message:
    """End what Ada has submitted, and post its result."""
    recorded = await desk.find()
    assert recorded is not None
    ended = await desk.records.end(recorded, ending, desk.clock(), changes)
    assert ended is not None
    message = replies.result_message(RedactedResult.of(ended), contact="", may_enable=may_enable)
    await desk.web.post(PLATFORM, message, "6f3cacfe-3614-5dad-9dfa-09675d6189dd")
    await desk.slack.close(ADA)
    return desk.slack.messages(PLATFORM)[-1]
