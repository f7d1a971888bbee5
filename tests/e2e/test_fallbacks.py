"""If the bot may not post to a channel, the result takes another way, says why, and is never lost."""

import asyncio

import pytest

from bot.sandbox.tokens import Behaviour, make_token
from tests.e2e.conftest import ONE_WAY
from tests.scene import ADA, CROWD, GRACE, PLATFORM, Scene

pytestmark = [pytest.mark.asyncio(loop_scope="module"), ONE_WAY]

GOOD = make_token(Behaviour.GOOD, number=21)
PUBLIC = "C0ANALYTX"
PRIVATE = "G0INCID42"
DIRECT = "D0ADA0001"
NOT_A_MEMBER = "Posted this way because the bot itself may not post in this channel."


@pytest.mark.parametrize(
    ("channel", "bucket"),
    [
        pytest.param(PRIVATE, "private-way", id="private channel that the bot cannot see"),
        pytest.param(PUBLIC, "public-way", id="public channel that the bot is not in"),
    ],
)
async def test_a_channel_without_the_bot_is_reached_by_its_response_url(
    scene: Scene, channel: str, bucket: str
) -> None:
    """The whole channel reads the result, with the reason why it looks different."""
    scene.cloudflare.add_bucket(bucket)

    await scene.submit(bucket, GOOD, channel=channel)
    message = await scene.wait_for_result(bucket, channel)

    assert message.ephemeral_to is None
    assert NOT_A_MEMBER in message.text
    assert NOT_A_MEMBER in message.shown_text
    assert len(scene.results(bucket)) == 1


@pytest.mark.parametrize(
    ("bucket", "status"), [pytest.param("used-up", 404, id="gone"), pytest.param("broken-url", 500, id="broken")]
)
async def test_a_broken_response_url_leads_to_a_direct_message(scene: Scene, bucket: str, status: int) -> None:
    """The submitter gets the result and reads which channel it was meant for."""
    scene.cloudflare.add_bucket(bucket)
    scene.slack.fail_next("response_url", status=status)

    await scene.submit(bucket, GOOD, channel=PRIVATE)
    message = await scene.wait_for_result(bucket, DIRECT)

    assert f"You get this as a direct message because the bot could not post in <#{PRIVATE}>." in message.text
    assert len(scene.results(bucket)) == 1


async def test_a_channel_archived_meanwhile_leads_to_a_direct_message(scene: Scene) -> None:
    """A channel that was open at Submit and is archived when the result comes accepts neither way of posting."""
    bucket = "archived-meanwhile"
    scene.cloudflare.add_bucket(bucket)

    await scene.submit(bucket, make_token(Behaviour.SLOW, number=22), user=GRACE, channel=PUBLIC)
    scene.slack.change_channel(PUBLIC, is_archived=True)
    try:
        message = await scene.wait_for_result(bucket, "D0GRACE01")
    finally:
        scene.slack.change_channel(PUBLIC, is_archived=False)

    assert f"could not post in <#{PUBLIC}>" in message.text


@pytest.mark.parametrize(
    ("bucket", "channel"),
    [
        pytest.param("typed-direct", DIRECT, id="typed in the direct message with the bot"),
        pytest.param("chosen-direct", PLATFORM, id="chosen in a channel"),
    ],
)
async def test_a_direct_message_can_be_chosen(scene: Scene, bucket: str, channel: str) -> None:
    """It is an ordinary choice without an explanation; it is the default if the command was typed there."""
    scene.cloudflare.add_bucket(bucket)

    await scene.open_form(bucket, channel=channel)
    await scene.slack.fill(ADA, "token", GOOD)
    if channel == PLATFORM:
        await scene.slack.fill(ADA, "direct", ["direct"])
    await scene.slack.submit(ADA)
    message = await scene.wait_for_result(bucket, DIRECT)

    assert "because" not in message.text
    assert scene.results(bucket) == [message]


async def test_another_channel_than_the_commands_can_be_chosen(scene: Scene) -> None:
    """The result goes to the chosen channel and nowhere else."""
    bucket = "elsewhere"
    scene.cloudflare.add_bucket(bucket)

    await scene.submit(bucket, GOOD, channel=PRIVATE, to=PLATFORM)
    message = await scene.wait_for_result(bucket, PLATFORM)

    assert scene.results(bucket) == [message]


async def test_slacks_outages_delay_results_and_lose_none(scene: Scene) -> None:
    """Slack limits, fails, cuts the connection and refuses the bot token: each message arrives later, once."""
    buckets = [f"trouble-{number}" for number in range(4)]
    for bucket in buckets:
        scene.cloudflare.add_bucket(bucket)
    scene.slack.fail_next("chat.postMessage", retry_after=1)
    scene.slack.fail_next("chat.postMessage", status=503)
    scene.slack.fail_next("chat.postMessage", drop_connection=True)
    scene.slack.fail_next("chat.postMessage", error="token_revoked")

    await asyncio.gather(*(scene.submit(bucket, GOOD, user=CROWD[at]) for at, bucket in enumerate(buckets)))
    messages = [await scene.wait_for_result(bucket) for bucket in buckets]

    assert [message.text for message in messages if "because" in message.text] == []
    assert [scene.results(bucket) for bucket in buckets] == [[message] for message in messages]


async def test_failing_modal_updates_do_not_affect_the_message(scene: Scene) -> None:
    """The channel message is posted although every update of the modal fails."""
    bucket = "no-updates"
    scene.cloudflare.add_bucket(bucket)
    await scene.open_form(bucket)
    scene.slack.fail_next("views.update", error="internal_error", times=1)

    await scene.slack.fill(ADA, "token", GOOD)
    await scene.slack.submit(ADA)
    message = await scene.wait_for_result(bucket)

    assert "stored a new credential" in message.text
    await scene.slack.wait_for_view(ADA)
