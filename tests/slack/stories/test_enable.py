"""The button that enables a catalog: who may press it, what is recorded, and what is reported."""

import io
import json
from dataclasses import replace

import pytest

from bot.cloudflare.errors import CatalogNotEnabled
from bot.model.catalog import BucketKey
from bot.model.errors import CommitUnknown
from bot.model.place import DIRECT
from bot.model.submission import NewSubmission, State, Submission, Task
from bot.policy.rules import Allowlist
from bot.sandbox.workspace import Message
from bot.slack.api import CHANNEL_LIFETIME
from bot.slack.messages import render
from bot.storage.accepting import Acceptance
from bot.storage.submissions import Submissions
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
)
from tests.make import ACCOUNT, CHAIN

MAY_ENABLE = replace(EVERYBODY, may_enable=True)


@pytest.mark.parametrize("user", [ADA, GRACE], ids=["the submitter", "another permitted person"])
async def test_enabling_is_recorded_dispatched_and_shown(desk: Desk, user: str) -> None:
    """It is a submission like any other, without a token, and its view shows the progress."""
    refusal = await post_catalog_refusal(desk)

    await desk.slack.click(user, refusal, render.ENABLE)

    view = desk.slack.modal(user)
    assert view is not None
    assert view.title == "Enabling..."
    recorded = await desk.submissions.find(view.id)
    assert recorded is not None
    assert (recorded.task, recorded.state, recorded.user_id) == (Task.ENABLE, State.ACCEPTED, user)
    assert (recorded.channel_id, recorded.last_four) == (PLATFORM, "")
    assert desk.dispatched == [BucketKey(account_id=ACCOUNT, bucket=BUCKET)]


ENABLING_REFUSED: dict[str, tuple[str, Allowlist, str]] = {
    "not listed": (MALLORY, MAY_ENABLE, "not on the list"),
    "switched off since": (ADA, EVERYBODY, "does not enable catalogs"),
    "bucket no longer served": (ADA, replace(MAY_ENABLE, buckets=("billing-*",)), "for that bucket"),
    "channel no longer allowed": (
        ADA,
        replace(MAY_ENABLE, channels=frozenset({ANALYTICS})),
        "may not be used in that channel",
    ),
}


@pytest.mark.parametrize(("user", "allowlist", "words"), ENABLING_REFUSED.values(), ids=ENABLING_REFUSED)
async def test_enabling_is_refused_without_the_right(desk: Desk, user: str, allowlist: Allowlist, words: str) -> None:
    """The button may be seen by anyone, for years."""
    refusal = await post_catalog_refusal(desk)
    desk.serve(allowlist)

    await desk.slack.click(user, refusal, render.ENABLE)

    view = desk.slack.modal(user)
    assert view is not None
    assert words in view.text
    assert desk.dispatched == []


async def test_enabling_is_refused_to_an_outsider(desk: Desk) -> None:
    """A message in a shared channel can be reached from outside."""
    refusal = await post_catalog_refusal(desk)
    action = {"action_id": render.ENABLE, "block_id": "x", "type": "button", "value": (await last(desk)).id}

    await desk.deliver(desk.slack.make_message_action(ADA, refusal, action, as_user=OUTSIDER))

    assert desk.dispatched == []


async def test_a_forged_submission_enables_nothing(desk: Desk) -> None:
    """Only the bucket of a recorded submission can be enabled."""
    refusal = await post_catalog_refusal(desk)
    action = {"action_id": render.ENABLE, "block_id": "x", "type": "button", "value": "billing-exports"}

    await desk.deliver(desk.slack.make_message_action(ADA, refusal, action))

    view = desk.slack.modal(ADA)
    assert view is not None
    assert "no longer knows what this button refers to" in view.text
    assert desk.dispatched == []


async def test_a_submission_of_another_account_enables_nothing(desk: Desk) -> None:
    """The operator may have moved the bot to another account, where a bucket of this name is a different one."""
    refusal = await post_catalog_refusal(desk)
    desk.execute("UPDATE submissions SET account_id = 'ffffffffffffffffffffffffffffffff'")

    await desk.slack.click(ADA, refusal, render.ENABLE)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert "no longer knows what this button refers to" in view.text
    assert desk.dispatched == []


async def test_an_enabling_that_could_not_be_recorded_is_reported_in_its_view(desk: Desk, log: io.StringIO) -> None:
    """Nothing is dispatched that would be lost."""
    refusal = await post_catalog_refusal(desk)
    desk.execute("CREATE TRIGGER full BEFORE INSERT ON submissions BEGIN SELECT RAISE(ABORT, 'full'); END")

    await desk.slack.click(ADA, refusal, render.ENABLE)

    view = await desk.slack.wait_for_view(ADA, lambda view: view.title == "Not enabled")
    assert "Try again" in view.text
    assert desk.dispatched == []
    assert "listener_broke" not in log.getvalue()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"is_ext_shared": True}, "shared with another company", id="shared outside since"),
        pytest.param({"is_archived": True}, "archived", id="archived since"),
    ],
)
async def test_an_unfit_channel_gets_no_result(desk: Desk, change: dict[str, bool], words: str) -> None:
    """The button is where the result went; a form would not accept that channel now."""
    refusal = await post_catalog_refusal(desk)
    desk.slack.change_channel(PLATFORM, **change)
    desk.clock.advance(CHANNEL_LIFETIME)

    action = {"action_id": render.ENABLE, "block_id": "x", "type": "button", "value": (await last(desk)).id}
    await desk.deliver(desk.slack.make_message_action(ADA, refusal, action))

    view = desk.slack.modal(ADA)
    assert view is not None
    assert words in view.text
    assert "To choose another channel" in view.text
    assert desk.dispatched == []


@pytest.mark.parametrize("recorded", [DIRECT, "D0PARTNER"], ids=["chosen", "an older direct message"])
async def test_enabling_from_a_direct_message_is_reported_to_the_person_who_presses(desk: Desk, recorded: str) -> None:
    """A direct result names no channel: the next one goes to the person who presses the button."""
    refusal = await post_catalog_refusal(desk)
    desk.execute(f"UPDATE submissions SET channel_id = '{recorded}'")  # noqa: S608 - a value of this test's own

    await desk.slack.click(GRACE, refusal, render.ENABLE)

    enabling = await last(desk)
    assert (enabling.task, enabling.channel_id, enabling.user_id) == (Task.ENABLE, DIRECT, GRACE)


async def test_an_enabling_whose_recording_got_no_answer_is_dispatched(desk: Desk, log: io.StringIO) -> None:
    """It may be recorded: a delivery finds out, and no one reads that it was not."""

    class Unanswered(Submissions):
        async def add(self, new: NewSubmission) -> Acceptance:
            await super().add(new)
            raise CommitUnknown

    refusal = await post_catalog_refusal(desk)
    desk.submissions = Unanswered(desk.submissions._database, CHAIN)
    desk.submissions.wake_by(desk.dispatched.append)
    desk.serve(MAY_ENABLE)

    await desk.slack.click(ADA, refusal, render.ENABLE)

    view = await desk.slack.wait_for_view(ADA, lambda view: view.title == "Not known if recorded")
    assert "twice does no harm" in view.text
    assert desk.dispatched == [BucketKey(account_id=ACCOUNT, bucket=BUCKET)]
    [failed] = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "recording_failed"]
    assert (failed["reference"], failed["user"], failed["error"]) == (view.id, ADA, "commit_unknown")


async def test_an_enabling_is_logged_like_any_submission(desk: Desk, log: io.StringIO) -> None:
    """Under the reference that its view shows."""
    refusal = await post_catalog_refusal(desk)
    await desk.slack.click(ADA, refusal, render.ENABLE)

    enabling = await last(desk)
    [line] = [line for line in map(json.loads, log.getvalue().splitlines()) if line.get("task") == "enable"]
    known = {"event": "submission_received", "reference": enabling.id, "bucket": BUCKET, "user": ADA}
    assert line | known == line


async def last(desk: Desk) -> Submission:
    """Return the latest submission."""
    [submission] = await desk.submissions.history(ACCOUNT, None, 1)
    return submission


@pytest.mark.parametrize("error", ["expired_trigger_id", "internal_error"])
async def test_enabling_too_late_is_reported(desk: Desk, error: str) -> None:
    """If no view opens there is no id to record it under, and the text goes by direct message."""
    refusal = await post_catalog_refusal(desk)
    desk.slack.fail_next("views.open", error=error, times=2)

    await desk.slack.click(ADA, refusal, render.ENABLE)

    assert len(desk.slack.messages("D0ADA0001")) == 1
    assert desk.dispatched == []


async def test_enabling_whose_view_has_no_known_id_is_not_recorded(desk: Desk) -> None:
    """The view opened and its id was lost with the answer: the person is asked to press again."""
    refusal = await post_catalog_refusal(desk)
    desk.slack.fail_next("views.open", drop_connection=True, after_effect=True)

    await desk.slack.click(ADA, refusal, render.ENABLE)

    [message] = desk.slack.messages("D0ADA0001")
    assert message.text == "The bot's connection to Slack broke. Try again."
    assert desk.dispatched == []


async def post_catalog_refusal(desk: Desk) -> Message:
    """Post the result of a submission that found no catalog, with the button that enables one."""
    desk.serve(MAY_ENABLE)
    await desk.open_form()
    await desk.slack.submit(ADA)
    return await end_and_post(desk, State.REFUSED, CatalogNotEnabled(cloudflare_code=40401), may_enable=True)
